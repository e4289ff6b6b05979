"""
Listening ports of L{sitio.net.reactor}: Twisted opens the socket, uvloop accepts.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Coroutine
from typing import Any

from twisted.internet import tcp, unix
from twisted.python import log
from twisted.python.failure import Failure

from sitio.net.socketoptions import addressOf
from sitio.net.transport import Connection

#: Connections that a port accepts on one turn of the reactor, as many as Twisted's own.
#: A burst is served at once, and other connections wait a few milliseconds for it.
MAX_ACCEPTS = 100


def resultOf(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """
    The result of one of uvloop's coroutines that does not wait for anything.

    @raise RuntimeError: it does wait.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("uvloop waits although it has nothing to wait for")


class Server(Connection):
    """A connection that a port has accepted, or that was adopted for a factory."""

    def __init__(self, reactor: Any, isUNIX: bool, factory: Any, port: Any = None) -> None:
        Connection.__init__(self, reactor, isUNIX)
        self._factory = factory
        self._port = port

    def __repr__(self) -> str:
        return f"<{self.logPrefix()} on {self._port}, from {self._peer}>"

    def _buildProtocol(self) -> Any:
        if self._port is not None and (self._port.disconnecting or not self._port.connected):
            return None
        name = self._uv.get_extra_info("peername")
        if name is None and not self._isUNIX:
            return None  # The peer has reset the connection already.
        self._peer = addressOf(name)
        return self._factory.buildProtocol(self._peer)

    def _passDescriptors(self, skt: socket.socket, protocol: Any) -> None:
        own = unix.Server(skt, protocol, self._peer.name, self._port, 0, self.reactor)
        protocol.makeConnection(own)


class AcceptingPort:
    """
    What replaces the reading of one of Twisted's ports: uvloop accepts.

    uvloop accepts on a descriptor of its own for the same socket and closes it at the
    end.  The descriptor is not made with C{socket.dup}, which would make both block.
    uvloop accepts one connection a turn; those that wait behind it are accepted here.
    """

    reactor: Any
    factory: Any
    socket: socket.socket
    backlog: Any
    _isUNIX = False
    _server: Any = None

    def startReading(self) -> None:
        """Accept connections."""
        if self._server is None:
            self._server = resultOf(
                self.reactor.loop.create_server(
                    self._accepted,
                    sock=socket.fromfd(self.socket.fileno(), self.socket.family, self.socket.type),
                    # An adopted port has no backlog: take as many as the kernel allows.
                    backlog=self.backlog or socket.SOMAXCONN,
                )
            )
            self.reactor.opened(self)

    def _accepted(self) -> Server:
        self.reactor.callSoon(self._acceptMore)
        return self._connection()

    def _acceptMore(self) -> None:
        # An error means that no connection waits, or that there are no descriptors left.
        # uvloop handles the latter.
        with contextlib.suppress(OSError):
            for _ in range(MAX_ACCEPTS if self._server is not None else 0):
                skt, _ = self.socket.accept()
                self.reactor.adopt(self._connection(), skt)

    def _connection(self) -> Server:
        return Server(self.reactor, self._isUNIX, self.factory, self)

    def stopReading(self) -> None:
        """Accept no more connections."""
        server, self._server = self._server, None
        if server is not None:
            self.reactor.closed(self)
            server.close()

    def isReading(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    def isWriting(self) -> bool:
        """A port writes nothing."""
        return False


class TCPPort(AcceptingPort, tcp.Port):
    """Twisted's TCP port; uvloop accepts."""


class UNIXPort(AcceptingPort, unix.Port):
    """Twisted's UNIX port; uvloop accepts."""

    _isUNIX = True


class AdoptedUNIXPort(UNIXPort):
    """
    A UNIX port whose socket file belongs to another process.

    Twisted would set the file's mode, and at the end shut the socket down and remove
    the file.  This port does neither.
    """

    _shouldShutdown = False

    def __init__(self, skt: socket.socket, factory: Any, reactor: Any) -> None:
        UNIXPort.__init__(self, skt.getsockname(), factory, backlog=0, reactor=reactor)
        self.socket = skt
        self.fileno = skt.fileno  # type: ignore[method-assign]

    def startListening(self) -> None:
        """Accept connections on the socket, which listens already."""
        name = os.fsdecode(self.socket.getsockname())
        log.msg(f"{self._getLogPrefix(self.factory)} starting on {name!r}")
        self.factory.doStart()
        self.connected = True
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket and leave the file."""
        tcp.Port.connectionLost(self, reason)
