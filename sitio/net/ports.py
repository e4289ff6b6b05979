"""
Listening ports of L{sitio.net.reactor}: Twisted opens the socket, uvloop watches it and gets
the connections.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Coroutine
from typing import Any

from twisted.internet import tcp, unix
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure

from sitio.net.accepting import AcceptingPort, CountedUNIXServer
from sitio.net.socketoptions import addressOf
from sitio.net.transport import Connection

_log = Logger()


def resultOf(coroutine: Coroutine[Any, Any, Any], awaited: Any = None) -> Any:
    """
    The result of one of uvloop's coroutines that does not wait for anything.

    @param awaited: what it has waited for before, and is there now.

    @raise RuntimeError: it does wait.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("uvloop waits although it has nothing to wait for")


class Server(Connection):
    """A connection that a port has accepted, or that was adopted for a factory."""

    def __init__(
        self,
        reactor: Any,
        isUNIX: bool,
        factory: Any,
        port: Any = None,
        skt: socket.socket | None = None,
        address: Any = None,
    ) -> None:
        """
        @param skt: the socket, if a port has accepted it.
        @param address: of its peer.
        """
        Connection.__init__(self, reactor, isUNIX)
        self._factory = factory
        self._port = port
        self._given = skt
        self._address = address

    def __repr__(self) -> str:
        return f"<{self.logPrefix()} on {self._port}, from {self._peer}>"

    def _buildProtocol(self) -> Any:
        if self._port is not None and (self._port.disconnecting or not self._port.connected):
            return None
        name = self._address or self._uv.get_extra_info("peername")
        if name is None and not self._isUNIX:
            return None  # The peer has reset the connection already.
        self._peer = addressOf(name)
        return self._factory.buildProtocol(self._peer)

    def _passDescriptors(self, skt: socket.socket, protocol: Any) -> None:
        own = CountedUNIXServer(skt, protocol, self._peer.name, self._port, 0, self.reactor)
        protocol.makeConnection(own)

    def _ended(self, protocol: Any, reason: Failure) -> None:
        try:
            protocol.connectionLost(reason)
        finally:
            if self._port is not None:
                self._port.room.leave()


class _UVPort(AcceptingPort):
    """
    A port that uvloop watches.

    uvloop has listening servers of its own.  They can't pause, and when there are no
    descriptors left they close all connections that wait.
    """

    _isUNIX = False

    def watch(self) -> None:
        self.reactor.opened(self)
        self.reactor.loop.add_reader(self.socket.fileno(), self.doRead)

    def unwatch(self) -> None:
        self.reactor.closed(self)
        self.reactor.loop.remove_reader(self.socket.fileno())

    def accepted(self, skt: socket.socket, address: Any) -> None:
        try:
            reactor = self.reactor
            reactor.adopt(Server(reactor, self._isUNIX, self.factory, self, skt, address), skt)
        except OSError as error:
            skt.close()
            self.room.leave()
            _log.warn("A connection is closed: {why}", why=error)

    def isWriting(self) -> bool:
        """A port writes nothing."""
        return False


class TCPPort(_UVPort, tcp.Port):
    """Twisted's TCP port."""


class UNIXPort(_UVPort, unix.Port):
    """Twisted's UNIX port."""

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
