"""
A port and a client of sitio's own TLS, connected in memory: L{SecurePair}.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolNegotiationFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from zope.interface import implementer

from sitio.net.handshake import HandshakeEndpoint
from sitio.net.tls import PortFactory
from sitio.net.tlsclient import TLSClientEndpoint

#: The address of all clients.
CLIENT = IPv4Address("TCP", "192.0.2.1", 40000)


class Recorder(Protocol):
    """
    One end of a connection.

    @ivar data: what it has received.
    @ivar reason: why the connection has ended; L{None} before that.
    """

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.reason: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason.value


@implementer(IProtocolNegotiationFactory)
class _Recorders(Factory):
    noisy = False

    def __init__(self) -> None:
        self.made: list[Recorder] = []

    def acceptableProtocols(self) -> list[bytes]:
        """For ALPN."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: Any) -> Recorder:
        self.made.append(Recorder())
        return self.made[-1]


@implementer(IStreamClientEndpoint)
class SecurePair:
    """
    A port by TLS, and the endpoint that connects to it.

    @ivar served: the port's ends of the connections.
    """

    def __init__(self, clock: Any, port: Any) -> None:
        """@param port: the L{PortTLS<sitio.net.tlsfiles.PortTLS>}."""
        self._clock = clock
        factory = _Recorders()
        self.port = PortFactory(clock, port, factory)
        self.served = factory.made
        self.pumps: list[IOPump] = []

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See L{IStreamClientEndpoint}: connect below TLS."""
        client = protocolFactory.buildProtocol(CLIENT)
        server = self.port.buildProtocol(CLIENT)
        above = FakeTransport(client, False)
        below = FakeTransport(server, True, peerAddress=CLIENT)
        client.makeConnection(above)
        server.makeConnection(below)
        self.pumps.append(IOPump(client, server, above, below, False, self._clock))
        done: Deferred[Any] = Deferred()
        done.callback(client)
        return done

    def dial(self, endpoint: TLSClientEndpoint) -> tuple[Recorder | None, Any]:
        """
        Connect a client.

        @return: it, after its handshake, and L{None}; or L{None} and the error.
        """
        found: list[Any] = []
        HandshakeEndpoint(endpoint).connect(_Recorders()).addBoth(found.append)
        self.flush()
        [result] = found
        return (None, result.value) if isinstance(result, Failure) else (result, None)

    def flush(self) -> None:
        """Deliver all that both sides have sent."""
        for each in self.pumps:
            each.flush()
        self._clock.advance(0)
        for each in self.pumps:
            each.flush()


def connectionOf(end: Recorder) -> SSL.Connection:
    """OpenSSL's side of a connection."""
    return end.transport.getHandle()


def isResumed(end: Recorder) -> bool:
    """Whether the handshake of a connection has resumed a session."""
    openssl: Any = SSL._lib  # type: ignore[attr-defined]
    return bool(openssl.SSL_session_reused(connectionOf(end)._ssl))
