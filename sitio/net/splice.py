"""
A long body that nobody looks at: the kernel moves it from socket to socket.

It goes through a pipe (Linux's splice) and never comes into this process, which
takes a third of the CPU time of reading and writing it.  Both connections keep
their transports, which do nothing meanwhile; the L{Splice} works on descriptors of
its own, which it closes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

#: Bytes of a body that are worth it: a pipe and two descriptors cost as much as
#: some copies.
WORTHWHILE = 1024 * 1024

#: Bytes of the pipe, which is what is moved at a time.  Where the kernel gives less
#: (it bounds what all pipes of a user take), it's done in smaller steps.
PIPE = 1024 * 1024

#: Linux's number for what sets the size of a pipe, in Pythons that don't know it.
_SET_SIZE = 1031

_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


def descriptorOf(transport: Any, written: bool = False) -> int | None:
    """
    A descriptor of a connection's socket to move bytes past its transport, to be
    closed by the caller; L{None} where that can't be.

    Only a transport itself says so, as uvloop's do: one that is wrapped, in TLS for
    one, has other bytes on the wire.

    @param written: only if nothing that was written waits to leave.
    """
    if not hasattr(os, "splice") or not hasattr(type(transport), "duplicate"):
        return None
    if written and transport.isWriting():
        return None
    return cast("int | None", transport.duplicate())


class Splice:
    """
    Moves so many bytes from one socket to another, while both are connected.

    It reads no more than fits into the pipe, and nothing while that waits for the
    sink: a sink that is slow slows the source.
    """

    def __init__(
        self,
        reactor: Any,
        source: int,
        sink: int,
        size: int,
        moved: Callable[[int], None],
        ended: Callable[[int, bool], None],
    ) -> None:
        """
        @param reactor: an C{IReactorFDSet}.
        @param source: the descriptor to read; closed in the end, as C{sink} is.
        @param sink: the one to write.
        @param size: how many bytes.
        @param moved: called with how many bytes have reached the sink, each time.
        @param ended: called once, unless L{stop} came first: with how many bytes
            are still in the source, and whether the sink has failed.  Where none are
            left and it hasn't, all have moved; otherwise the source has ended or failed.

        @raise OSError: there are no descriptors left; nothing is closed then.
        """
        self._reactor = reactor
        self._moved = moved
        self._ended = ended
        self._left = size
        self._piped = 0
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            import fcntl

            fcntl.fcntl(self._in, _SET_SIZE, PIPE)
        self._source: _Source | None = _Source(source, self)
        self._sink = _Sink(sink, self)
        reactor.addReader(self._source)

    def fill(self) -> None:
        """The source has something: into the pipe with it, and on."""
        assert self._source is not None
        try:
            size = os.splice(self._source.fileno(), self._in, min(self._left, PIPE), flags=_FLAGS)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._finish(sinkFailed=False)
            return
        self._left -= size
        self._piped = size
        self.drain()

    def drain(self) -> None:
        """What is in the pipe goes to the sink, as far as it takes it."""
        source = self._source
        assert source is not None
        moved = 0
        try:
            while moved < self._piped:
                moved += os.splice(
                    self._out, self._sink.fileno(), self._piped - moved, flags=_FLAGS
                )
        except BlockingIOError:
            pass
        except OSError:
            self._finish(sinkFailed=True)
            return
        self._piped -= moved
        if moved:
            self._moved(moved)
        if self._source is None:
            return  # Whoever was told wants no more.
        if self._piped:
            self._reactor.removeReader(source)
            self._reactor.addWriter(self._sink)
        elif not self._left:
            self._finish(sinkFailed=False)
        else:
            self._reactor.removeWriter(self._sink)
            self._reactor.addReader(source)

    def _finish(self, sinkFailed: bool) -> None:
        self.stop()
        self._ended(self._left, sinkFailed)

    def stop(self) -> None:
        """Move no more; what is in the pipe is lost."""
        source, self._source = self._source, None
        if source is not None:
            self._reactor.removeReader(source)
            self._reactor.removeWriter(self._sink)
            for each in (source.fileno(), self._sink.fileno(), self._in, self._out):
                os.close(each)


class _End:
    """One of the two sockets, for the reactor."""

    def __init__(self, descriptor: int, splice: Splice) -> None:
        self._descriptor = descriptor
        self._splice = splice

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        """What log lines about it begin with."""
        return "splice"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is being emptied, or found the descriptor bad."""
        self._splice.stop()


@implementer(IReadDescriptor)
class _Source(_End):
    def doRead(self) -> None:
        self._splice.fill()


@implementer(IWriteDescriptor)
class _Sink(_End):
    def doWrite(self) -> None:
        self._splice.drain()
