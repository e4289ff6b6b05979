"""
What the processes of a sidecar use, as the kernel says it: L{read}.

The process that reads is the sidecar itself, or the parent of its workers.  The CPU time of
workers that have ended stays in the sum: the kernel adds it to that of their parent.

Contract: reads files of Linux; no other I/O.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from attrs import frozen

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@frozen
class Used:
    """
    What some processes use together.

    @ivar cpuSeconds: CPU time, that of ended children of this process included.
    @ivar started: when the first of them was started, in seconds since 1970.
    @ivar resident: bytes of resident memory; pages that they share count for each.
    @ivar virtual: bytes of virtual memory.
    @ivar openFiles: how many file descriptors are open.
    @ivar maxFiles: how many may be open.
    """

    cpuSeconds: float
    started: float
    resident: int
    virtual: int
    openFiles: int
    maxFiles: int


def read(workers: Iterable[int] = (), root: Path = Path("/proc")) -> Used | None:
    """
    What this process and its workers use; L{None} on a system other than Linux.

    @param workers: process ids; those that have ended are left out.
    """
    seen = []
    try:
        booted = float(re.findall(r"(?m)^btime (\d+)", (root / "stat").read_text())[0])
        for pid in dict.fromkeys((os.getpid(), *workers)):
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                seen.append(_readOne(root / str(pid), booted))
    except (OSError, LookupError, ValueError):
        return None
    if not seen:
        return None
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Used(
        cpuSeconds=sum(each.cpuSeconds for each in seen) + ended.ru_utime + ended.ru_stime,
        started=min(each.started for each in seen),
        resident=sum(each.resident for each in seen),
        virtual=sum(each.virtual for each in seen),
        openFiles=sum(each.openFiles for each in seen),
        maxFiles=sum(each.maxFiles for each in seen),
    )


def _readOne(folder: Path, booted: float) -> Used:
    # The name of the program, in round brackets, may contain anything.
    facts = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    # From field 3 on, as proc(5) counts them.
    user, system, started, virtual, pages = (int(facts[n - 3]) for n in (14, 15, 22, 23, 24))
    limit = re.findall(r"(?m)^Max open files +(\d+|unlimited)", (folder / "limits").read_text())[0]
    return Used(
        cpuSeconds=(user + system) / _TICKS,
        started=booted + started / _TICKS,
        resident=pages * _PAGE_BYTES,
        virtual=virtual,
        openFiles=_countFiles(folder / "fd"),
        maxFiles=0 if limit == "unlimited" else int(limit),
    )


def _countFiles(folder: Path) -> int:
    # Newer kernels tell the number as the size: thousands of names need not be read.
    return folder.stat().st_size or sum(1 for _ in os.scandir(folder))
