"""
Reads on after a write has failed: L{readAfterFailedWrite}.

A peer that answers early and closes with bytes unread resets the connection.  Then the
next write fails, while the answer is still in the kernel's receive buffer.  Both
Twisted's transports and uvloop's close at a failed write, and lose the answer.  A
transport that reads on drops what is written from then on, and reads what the peer had
sent, with flow control as before.

How the bytes end depends on what the peer had sent.  After its FIN, they end in good
order.  After a reset alone, the connection is lost: more may have been on its way.  The
error of the failed write tells which: EPIPE after a FIN, ECONNRESET without one.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

#: Bytes of one read, as Twisted's transports read.
READ_BYTES = 64 * 1024


def readAfterFailedWrite(transport: Any, failed: Callable[[], None]) -> None:
    """
    Let a connection read to its end after a write has failed.

    With TLS, the connection is the one below.  Transports of other kinds stay as they
    are.  A second call for the same connection does nothing.

    @param failed: is called once a write has failed.  What is written from then on is
        dropped.
    """
    while transport is not None:
        own = getattr(type(transport), "readAfterFailedWrite", None)
        if own is not None:
            own(transport, failed)
            return
        if isinstance(transport, tcp.Connection):
            if "writeSomeData" not in vars(transport):
                _Sending(transport, failed)
            return
        # Of the instance: wrappers pass on other attributes of their transports.
        transport = vars(transport).get("transport")


class _Sending:
    """The sending half of one of Twisted's own transports, which it replaces."""

    def __init__(self, transport: Any, failed: Callable[[], None]) -> None:
        self._transport = transport
        self._failed = failed
        self._error: OSError | None = None
        self._lost = transport.connectionLost
        self._readLost = transport.readConnectionLost
        transport.writeSomeData = self.writeSomeData
        transport.readConnectionLost = self.readConnectionLost
        transport.connectionLost = self.connectionLost

    def writeSomeData(self, data: bytes) -> int:
        """Send some bytes.  After a failure, all count as sent."""
        if self._error is None:
            limited = memoryview(data)[: self._transport.SEND_LIMIT]
            try:
                return int(self._transport.socket.send(limited))
            except (BlockingIOError, InterruptedError):
                return 0
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return 0
                self._fail(error)
        return len(data)

    def _fail(self, error: OSError) -> None:
        self._error = error
        self._failed()

    def readConnectionLost(self, reason: Failure) -> None:
        """The bytes have ended, in good order only if a FIN ended them."""
        if self._error is None or isinstance(self._error, BrokenPipeError):
            self._readLost(reason)
        else:
            self.connectionLost(Failure(ConnectionLost()))

    def connectionLost(self, reason: Failure) -> None:
        """The connection is lost, unless there is something left to read."""
        transport = self._transport
        if self._error is None and reason.check(ConnectionLost) and self._holdsBytes():
            # A reset while reading is paused.  Read on when it is resumed.
            number = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._fail(OSError(number or errno.ECONNRESET, os.strerror(number)))
            # What waits to be sent is in two buffers at most.
            transport.doWrite()
            transport.doWrite()
            return
        for each in ("writeSomeData", "readConnectionLost", "connectionLost"):
            vars(transport).pop(each, None)
        self._lost(reason)

    def _holdsBytes(self) -> bool:
        transport = self._transport
        if transport.disconnecting or transport._aborting:
            return False
        try:
            return bool(transport.socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False


@implementer(IReadDescriptor)
class LastRead:
    """
    Takes the place of uvloop's transport in a L{Connection<sitio.net.transport.Connection>}
    when a write has failed.

    The names with an underscore inside are those of asyncio's transports.
    """

    def __init__(self, connection: Any, skt: socket.socket, error: OSError) -> None:
        """
        @param skt: a socket of its own, which it closes.
        @param error: why the write has failed.
        """
        skt.setblocking(False)
        self._connection = connection
        self._socket = skt
        self._error = error
        self._isEnding = False

    # IReadDescriptor.

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """The first word of log lines about it."""
        return "last read"

    def doRead(self) -> None:
        """Pass some bytes on, or their end."""
        connection = self._connection
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._lose(self._error)
            return
        if data:
            connection._call(lambda: connection.data_received(data))
        elif isinstance(self._error, BrokenPipeError):
            self.pause_reading()
            connection._call(connection.eof_received)
        else:
            self._lose(self._error)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removes all its descriptors."""
        self._lose(self._error)

    def _lose(self, error: OSError | None) -> None:
        self.pause_reading()
        self._isEnding = True
        self._connection.connection_lost(error)
        self._socket.close()

    # What Connection calls.

    def pause_reading(self) -> None:
        """Read no more, until C{resume_reading}."""
        self._connection.reactor.removeReader(self)

    def resume_reading(self) -> None:
        """Read on."""
        if not self._isEnding:
            self._connection.reactor.addReader(self)

    def close(self) -> None:
        """End the connection in the next turn of the reactor."""
        if not self._isEnding:
            self._isEnding = True
            self.pause_reading()
            self._connection.reactor.callSoon(lambda: self._lose(None))

    abort = close

    def write(self, data: object) -> None:
        """Nothing can be sent any more."""

    writelines = write

    def write_eof(self) -> None:
        """Nothing can be sent any more."""

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        """There is no buffer."""

    def get_write_buffer_size(self) -> int:
        """There is no buffer."""
        return 0

    def set_protocol(self, protocol: object) -> None:
        """It asks the connection for each read."""

    def get_extra_info(self, name: str) -> Any:
        """The socket, or the address of one of its ends."""
        if name == "socket":
            return self._socket
        return self._socket.getsockname() if name == "sockname" else self._socket.getpeername()
