"""
Where lines go that are written beside the loop: L{LogFile}, a file or standard
output, and what goes with one.

L{aside} runs what may take its time in a thread; L{onUserSignal} is how files that
were renamed are opened anew.

Contract: reactor and signals are passed in.
"""

from __future__ import annotations

import os
import select
import signal
import stat
from collections.abc import Callable
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

#: Bytes of a line at most, and of what is written at a time to anything but a file:
#: what Linux puts into a pipe in one piece (C{PIPE_BUF}), so that lines of several
#: processes don't mix.
ATOMIC = 4096

#: The same for a file, where what is appended stays in one piece in any case.
PIECE = 64 * 1024

_LINE_END = ord("\n")


class LogFile:
    """
    Where lines go: a file, or a descriptor that is open already.

    Used by one thread at a time, but for L{reopen}.
    """

    def __init__(self, path: str | None, descriptor: int = 1) -> None:
        """
        @param path: the file's, made if there is none; L{None} for the descriptor.
        """
        self.path = path
        self._descriptor: int | None = descriptor if path is None else None
        self._piece = ATOMIC
        self._stale = False
        # What ended within a line, as the disk was full, is ended before the next.
        self._before = b""
        # What is being written, and how much of it is.
        self._data = b""
        self._written = 0

    def open(self) -> None:
        """
        Have the file open, if it is one: that which has this name now, whatever
        became of the one before.

        @raise OSError: it can't be opened.
        """
        if self.path is None:
            return
        if self._descriptor is not None and not self._stale and self._isThere():
            return
        self.close()
        self._stale = False
        # Not waiting for a reader, should it be a pipe.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._descriptor = os.open(self.path, flags, 0o640)
        os.set_blocking(self._descriptor, True)
        self._piece = ATOMIC if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode) else PIECE

    def _isThere(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path or ""), os.fstat(self._descriptor or 0))
        except OSError:
            return False

    def reopen(self) -> None:
        """Open the file anew before the next line."""
        self._stale = True

    def close(self) -> None:
        """Close the file, if it is one."""
        if self.path is not None and self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def write(self, data: bytes) -> tuple[int, OSError | None]:
        """
        Write lines, for as long as that takes.

        @return: how many were lost, and why.
        """
        self._data, self._written = data, 0
        try:
            self.open()
            while self._written < len(data):
                start = self._written
                self._written += self._put(data[start : self._endOf(data, start)])
        except OSError as error:
            if self._written:
                self._before = b"" if data[self._written - 1] == _LINE_END else b"\n"
            return self.left, error
        return 0, None

    @property
    def left(self) -> int:
        """How many lines are being written and have not got there yet; any thread may ask."""
        return self._data.count(b"\n", self._written)

    def _endOf(self, data: bytes, start: int) -> int:
        """The end of the last line that fits into one piece."""
        return data.rfind(b"\n", start, start + self._piece) + 1

    def _put(self, piece: bytes) -> int:
        """Write a piece, or what of it there is room for; how much that was."""
        before, descriptor = self._before, self._descriptor or 0
        try:
            wrote = os.write(descriptor, before + piece) - len(before)
        except BlockingIOError:
            # Somebody else who has it open does not want to be kept waiting by it.
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()
            return 0
        self._before = b""
        return wrote


def aside(reactor: IReactorFromThreads, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    """
    Call it in a thread that doesn't keep the process from ending, however long it
    takes: those of the reactor's pool do.

    @return: what it gives, or the failure.
    """
    done: Deferred[Any] = Deferred()

    def run() -> None:
        try:
            result = call(*arguments)
        except Exception:
            result = Failure()
        reactor.callFromThread(done.callback, result)

    Thread(target=run, name="access log", daemon=True).start()
    return done


def onUserSignal(
    reactor: IReactorFromThreads,
    call: Callable[[], Any],
    onSignal: Callable[[int, Any], Any] = signal.signal,
) -> None:
    """On SIGUSR1 call this, and what would have been called before, as twistd's own."""

    def signalled(number: int, frame: Any) -> None:
        reactor.callFromThread(call)
        if callable(before):
            before(number, frame)

    before = onSignal(signal.SIGUSR1, signalled)


class Reopening(Service):
    """Has files opened anew that another process writes, when this one is told to."""

    def __init__(
        self,
        reactor: IReactorFromThreads,
        reopen: Callable[[], Any],
        onSignal: Callable[[int, Any], Any] = signal.signal,
    ) -> None:
        """
        @param reopen: tells that process.
        """
        self._reactor = reactor
        self._reopen = reopen
        self._onSignal = onSignal

    def startService(self) -> None:
        """From now on."""
        Service.startService(self)
        onUserSignal(self._reactor, self._reopen, self._onSignal)
