"""
Moves a long body from socket to socket in the kernel.

The body goes through a pipe with Linux's C{splice} and never enters this process.  That
takes a third of the CPU time of reading and writing it.  Both connections keep their
transports, which neither read nor write meanwhile.  A L{Splice} works on descriptors of
its own and closes them.

Use it only for a body that no policy reads or changes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.net.descriptors import isScarce

#: The shortest body, in bytes, that is worth a splice.  Setting up a pipe and two
#: descriptors costs as much time as copying some hundred KiB.
MIN_SPLICE_BYTES = 1024 * 1024

#: Size of the pipe in bytes, which is how much is moved at a time.  The kernel may give
#: less, as it limits the pipes of a user; then the steps are smaller.
PIPE_BYTES = 1024 * 1024

_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


def descriptorOf(transport: Any, written: bool = False) -> int | None:
    """
    A second descriptor of a connection's socket, for moving bytes past its transport.

    Only transports with a method C{duplicate} have one, as those of
    L{sitio.net.transport} do.  A wrapper does not count: with TLS, for example, other
    bytes are on the wire.

    @param written: whether the descriptor is for writing.  Then there is none while
        bytes that were written still wait to leave.

    @return: the descriptor, which the caller closes; L{None} if there is none.
    """
    if not hasattr(os, "splice") or not hasattr(type(transport), "duplicate"):
        return None
    if written and transport.isWriting():
        return None
    return cast("int | None", transport.duplicate())


class Splice:
    """
    Moves a given number of bytes from one socket to another.

    It reads what fits into the pipe, and no more until the sink has taken that.  So a
    slow sink slows the source.
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
        @param source: the descriptor to read.  It is closed at the end.
        @param sink: the descriptor to write.  It is closed at the end.
        @param size: the number of bytes to move.
        @param moved: is called after each step with the number of bytes that have
            reached the sink in it.
        @param ended: is called once at the end, unless L{stop} came first.  Its
            arguments are the number of bytes that were not read, and whether the sink
            has failed.  C{(0, False)} means that all bytes were moved; C{(n, False)}
            means that the source has ended or failed.

        @raise OSError: the process has few descriptors left, or none.  C{source} and C{sink}
            stay open then.
        """
        self._reactor = reactor
        self._moved = moved
        self._ended = ended
        self._left = size
        self._piped = 0
        self._pipeOut, self._pipeIn = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        if isScarce(self._pipeIn):
            os.close(self._pipeIn)
            os.close(self._pipeOut)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with contextlib.suppress(OSError):
            import fcntl

            fcntl.fcntl(self._pipeIn, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._source: _Source | None = _Source(source, self)
        self._sink = _Sink(sink, self)
        reactor.addReader(self._source)

    def fill(self) -> None:
        """Read from the source into the pipe, and write what comes to the sink."""
        assert self._source is not None
        try:
            size = os.splice(
                self._source.fileno(), self._pipeIn, min(self._left, PIPE_BYTES), flags=_FLAGS
            )
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
        """Write from the pipe to the sink, as much as it takes."""
        source = self._source
        assert source is not None
        moved = 0
        try:
            while moved < self._piped:
                moved += os.splice(
                    self._pipeOut, self._sink.fileno(), self._piped - moved, flags=_FLAGS
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
            return  # The callback has called stop().
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
        """Move no more.  Bytes in the pipe are lost.  A second call does nothing."""
        source, self._source = self._source, None
        if source is not None:
            self._reactor.removeReader(source)
            self._reactor.removeWriter(self._sink)
            for each in (source.fileno(), self._sink.fileno(), self._pipeIn, self._pipeOut):
                os.close(each)


def spliceBody(
    transport: Any,
    sink: int,
    size: int,
    moved: Callable[[int], None],
    ended: Callable[[int, bool], None],
) -> Splice | None:
    """
    A L{Splice} from the socket of a transport, whose reading the caller pauses.

    The other arguments are those of L{Splice}.

    @return: L{None} if the transport or the system can't do that; C{sink} stays open
        then.
    """
    source = descriptorOf(transport)
    if source is None:
        return None
    try:
        return Splice(transport.reactor, source, sink, size, moved, ended)
    except OSError:
        os.close(source)
        return None


class _Descriptor:
    """One of the two sockets, as the reactor wants it."""

    def __init__(self, descriptor: int, splice: Splice) -> None:
        self._descriptor = descriptor
        self._splice = splice

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        """The first word of log lines about it."""
        return "splice"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removes all its descriptors, or has found this one to be bad."""
        self._splice.stop()


@implementer(IReadDescriptor)
class _Source(_Descriptor):
    def doRead(self) -> None:
        self._splice.fill()


@implementer(IWriteDescriptor)
class _Sink(_Descriptor):
    def doWrite(self) -> None:
        self._splice.drain()
