"""
Outgoing connections of L{sitio.net.reactor}: Twisted's connectors, uvloop's connections.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.error import getConnectError
from twisted.python.failure import Failure

from sitio.net.socketoptions import addressOf
from sitio.net.transport import Connection, StayPaused


class Client(Connection):
    """
    A connection that this process has opened.
    """

    _tlsClientDefault = True

    def __init__(self, attempt: Any, isUNIX: bool) -> None:
        """
        @param attempt: the transport that the connector knows while it connects.
        """
        Connection.__init__(self, attempt.reactor, isUNIX)
        self._attempt = attempt
        self.addr = attempt.addr
        self.connector = attempt.connector

    def __repr__(self) -> str:
        return f"<{type(self)} to {self.addr} at {id(self):x}>"

    def connection_made(self, uv: Any) -> None:
        if not hasattr(self._attempt, "connector"):
            # The attempt was given up on the turn since the socket was connected.
            uv.abort()
            return
        Connection.connection_made(self, uv)
        # Calls that connectionMade puts off to the next turn come before the first
        # byte.  ClientCreator reports a connection with such a call.
        self.reactor.callSoon(self._begin)
        raise StayPaused

    def _begin(self) -> None:
        if self.isReading():
            self._uv.resume_reading()

    def _buildProtocol(self) -> Any:
        self.connector.transport = self
        name = None if self._isUNIX else self._uv.get_extra_info("peername")
        self._peer = self._attempt.getPeer() if name is None else addressOf(name)
        return self.connector.buildProtocol(self._peer)

    def _passDescriptors(self, skt: socket.socket, protocol: Any) -> None:
        own = self.connector.transport = self._attempt
        own.socket, own.fileno = skt, skt.fileno
        own.protocol, own.connected = protocol, 1
        own.startReading()
        protocol.makeConnection(own)

    def _ended(self, protocol: Any, reason: Failure) -> None:
        try:
            protocol.connectionLost(reason)
        finally:
            self.connector.connectionLost(reason)
            # Break the cycle, which would wait for the garbage collector; unless the
            # connector has connected again.
            if self.connector.transport is self:
                self.connector.transport = None


class Attempt:
    """
    A TCP connection that uvloop is making.  It is the connector's transport meanwhile.

    It has the attribute C{connector} until it has succeeded or failed.
    """

    def __init__(self, connector: Any, reactor: Any) -> None:
        self.connector = connector
        self.reactor = reactor
        self.addr = self._found = (connector.host, connector.port)
        self._connecting: Any = None
        if isIPAddress(connector.host) or isIPv6Address(connector.host):
            self._connect(connector.host)
        else:
            reactor.resolve(connector.host).addCallbacks(self._connect, self._failSoon)

    def _connect(self, host: str) -> None:
        if hasattr(self, "connector"):
            self._found = (host, self.addr[1])
            self._connecting = self.reactor.loop.create_connection(
                lambda: Client(self, isUNIX=False), *self._found
            )
            self._step()

    def _step(self, waited: Any = None) -> None:
        """Run uvloop's coroutine up to the next future, and again when that is done."""
        if self._connecting is None:
            waited.exception()  # Given up: without this, asyncio logs the exception.
            return
        try:
            self._connecting.send(None).add_done_callback(self._step)
        except StopIteration:
            self._connecting = None
        except Exception as error:
            self._connecting = None
            self._failSoon(getConnectError(error))

    def _failSoon(self, error: Any) -> None:
        # Not at once: the factory may not yet know that it is connecting.
        self.reactor.callSoon(lambda: self.failIfNotConnected(error))

    def getPeer(self) -> Any:
        """The address, as Twisted writes it."""
        return self.connector._addressType("TCP", *self._found)

    def failIfNotConnected(self, error: Any) -> None:
        """Give up, and report the error to the connector."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.close()
        if hasattr(self, "connector"):
            connector = self.connector
            del self.connector
            connector.connectionFailed(Failure(error))


class BoundTCPAttempt(tcp.Client):
    """A TCP connection from a given local address: Twisted makes it, uvloop gets it."""

    reactor: Any

    def _connectDone(self) -> None:
        self.reactor.adopt(Client(self, isUNIX=False), self.socket)


class UNIXAttempt(unix.Client):
    """A UNIX connection: Twisted makes it, as uvloop takes no abstract names."""

    reactor: Any

    def _connectDone(self) -> None:
        self.reactor.adopt(Client(self, isUNIX=True), self.socket)


class TCPConnector(tcp.Connector):
    """Twisted's TCP connector, for uvloop's connections."""

    def _makeTransport(self) -> Any:
        # uvloop takes a number beyond 65535 and connects to another port.
        if self.bindAddress is None and self.port in range(65536):
            return Attempt(self, self.reactor)
        return BoundTCPAttempt(self.host, self.port, self.bindAddress, self, self.reactor)


class UNIXConnector(unix.Connector):
    """Twisted's UNIX connector, for uvloop's connections."""

    def _makeTransport(self) -> Any:
        return UNIXAttempt(self.address, self, self.reactor, self.checkPID)
