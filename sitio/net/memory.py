"""
Gives free memory back to the system: L{trimming}.

The C library keeps what was freed for later: after a peak, a process would stay as large as
it was.  glibc's C{malloc_trim} gives back all free pages.  It takes about a tenth of a
millisecond for each MiB, so it is called only when there is much to give back.

Contract: the clock is passed in.  On a C library without these functions nothing happens;
musl, for example, gives memory back by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sitio.net.periodic import Periodic

#: Seconds between two looks; one takes some 30 microseconds.
INTERVAL_SECONDS = 2.0

#: Bytes that have become free since the last time, from which on they are given back: more
#: than ordinary traffic frees and takes again within that interval.
TRIM_BYTES = 32 * 1024 * 1024

_log = Logger(namespace="sitio.net.memory")


class _MallInfo(ctypes.Structure):
    """glibc's C{struct mallinfo2}: see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


class Trimmer:
    """Gives memory back when L{TRIM_BYTES} more are free than at the least since the last time."""

    def __init__(self, freeBytes: Callable[[], int], trim: Callable[[], object]) -> None:
        """
        @param freeBytes: returns how many bytes the C library keeps for later.
        @param trim: gives them back; they still count as free.
        """
        self._freeBytes = freeBytes
        self._trim = trim
        self._least = freeBytes()

    def look(self) -> None:
        """Give memory back, if there is much of it."""
        free = self._freeBytes()
        if free - self._least >= TRIM_BYTES:
            self._trim()
            self._least = self._freeBytes()
        else:
            self._least = min(self._least, free)


def trimming(clock: IReactorTime) -> Periodic | None:
    """A service that gives free memory back while it runs; L{None} without glibc 2.33."""
    try:
        libc = ctypes.CDLL(None)
        info, trim = libc.mallinfo2, libc.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    info.restype = _MallInfo
    trimmer = Trimmer(lambda: int(info().fordblks), lambda: trim(ctypes.c_size_t(0)))
    return Periodic(
        clock, INTERVAL_SECONDS, trimmer.look, log=_log, whenFails="Memory can't be given back"
    )
