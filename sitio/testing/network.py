"""
Connections in memory, in place of the network.

A test uses a L{Peer}, which is a client or the upstream.  sitio uses the L{MemoryTransport}
at the other end, and connects to the upstream through a L{MemoryEndpoint}.  All of them use
one L{Clock}: each event is delivered in a later turn of the clock, as a reactor does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    ISSLTransport,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import FailTest
from zope.interface import alsoProvides, implementer

from sitio.http.message import Request, Response
from sitio.http.peer import PeerCertificate
from sitio.testing.messages import readRequests, readResponses

#: The default address of clients; RFC 5737 reserves it for examples.
CLIENT_ADDRESS = "192.0.2.1"

#: Bytes that a transport buffers before it pauses its producer, and the most that it delivers
#: at a time: those of Twisted's TCP transports.
TRANSPORT_BUFFER_BYTES = 64 * 1024

# States of a connection, as its peer sees it.
OPEN = "open"
HALF_CLOSED = "half-closed"  # sitio has ended its direction
CLOSED = "closed"
RESET = "reset"  # sitio aborted it, or closed it with bytes unread


@implementer(ITCPTransport)
class MemoryTransport(StringTransport):
    """
    sitio's end of a connection to a L{Peer}.

    It behaves like Twisted's TCP transports: events are delivered in a later turn, writes are
    buffered while the peer does not read, and nothing is delivered while sitio has paused.
    It is stricter than they are: it raises C{AssertionError} for a write after the end, for
    a second producer, and for C{loseConnection} with a registered producer.  Over TLS the
    last would wait for ever.
    """

    protocol: IProtocol

    def __init__(
        self,
        clock: Clock,
        peer: Peer,
        address: str,
        secure: bool,
        certificate: PeerCertificate | None,
    ) -> None:
        StringTransport.__init__(
            self, IPv4Address("TCP", "192.0.2.80", 8080), IPv4Address("TCP", address, 40000)
        )
        if secure:
            alsoProvides(self, ISSLTransport)
        self._clock = clock
        self._peer = peer
        self._secure = secure
        self._certificate = certificate
        self._producerPaused = False
        self._writeEnding = False
        self._writeEnded = False
        self._aborted = False
        self._writeFailed: Callable[[], None] | None = None
        self._sendsNothing = False
        self.outgoing: list[bytes] = []
        # Pieces of data, then b"" for their end or a Failure for a reset.
        self.incoming: deque[bytes | Failure] = deque()

    def getPeerCertificate(self) -> PeerCertificate | None:
        """What the client's certificate says, in place of the certificate."""
        return self._certificate

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: object) -> None:
        """Has no effect."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: object) -> None:
        """Has no effect."""

    # Called by sitio

    def write(self, data: bytes) -> None:
        if self.disconnecting or self._writeEnding:
            raise AssertionError(f"write after the end of the connection: {data!r}")
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if data:
            self.outgoing.append(data)
            waiting = sum(map(len, self.outgoing))
            if self.producer is not None and waiting > self._peer.room:
                self._producerPaused = True
                self.producer.pauseProducing()
            self.callSoon(self.flush)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.producer is not None:
            raise AssertionError("loseConnection with a producer registered may wait for ever")
        if self.disconnecting:
            return
        if self._writeEnded:
            # TCP transports do this at once.
            self._lost(Failure(ConnectionDone()))
            return
        self.disconnecting = True
        self.callSoon(self.flush)

    def loseWriteConnection(self) -> None:
        if self._secure:
            raise AssertionError("TLS has no half-close")
        self._writeEnding = True
        self.callSoon(self.flush)

    def abortConnection(self) -> None:
        if self.connected and not self._aborted:
            self._aborted = self.disconnecting = True
            if self._peer.room:
                # What was written has left, and the peer may act on it.
                self._peer.pieces += self.outgoing
            self.outgoing.clear()
            self.callSoon(self._lost, Failure(ConnectionAborted()))

    def unregisterProducer(self) -> None:
        # A lost connection has already dropped its producer.
        if self.connected:
            StringTransport.unregisterProducer(self)

    def pauseProducing(self) -> None:
        # As with TCP transports, this does nothing after the end.
        if self.connected:
            StringTransport.pauseProducing(self)

    def resumeProducing(self) -> None:
        StringTransport.resumeProducing(self)
        self.callSoon(self.deliver)

    def readAfterFailedWrite(self, failed: Callable[[], None]) -> None:
        """Read to the end after a write has failed, and call this function then."""
        self._writeFailed = failed

    # Called by the network

    def callSoon(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function in the next turn of the clock."""
        self._clock.callLater(0, function, *arguments)

    def deliver(self) -> None:
        """Give the protocol what its peer sent, unless the protocol has paused."""
        while self.incoming and not self.disconnecting and self.producerState == "producing":
            what = self.incoming.popleft()
            if isinstance(what, Failure):
                self._lost(what)
            elif what:
                self.protocol.dataReceived(what)
            elif self._secure:
                self._lost(Failure(ConnectionDone()))
            else:
                self.protocol.readConnectionLost()  # type: ignore[attr-defined]

    def flush(self) -> None:
        """Give the peer what sitio wrote, if the peer reads; then resume the producer or close."""
        if not self.connected or self._aborted:
            return
        if self.outgoing and self._peer.gone and not self._readsOn():
            self._lost(Failure(ConnectionLost()))
            return
        if not self._peer.room:
            if self.outgoing:
                return
        self._peer.pieces += self.outgoing
        self.outgoing.clear()
        if self._producerPaused and self.producer is not None:
            self._producerPaused = False
            self.producer.resumeProducing()
        elif self.disconnecting:
            self._lost(Failure(ConnectionDone()))
        elif self._writeEnding and not self._writeEnded:
            self._writeEnded = True
            self._peer.state = HALF_CLOSED
            self.protocol.writeConnectionLost()  # type: ignore[attr-defined]

    def _readsOn(self) -> bool:
        failed, self._writeFailed = self._writeFailed, None
        if failed is not None:
            self._sendsNothing = True
            failed()
            self.callSoon(self.deliver)
        self.outgoing.clear()
        return self._sendsNothing

    def _lost(self, reason: Failure) -> None:
        if not self.connected:
            return
        self.connected = False
        self.disconnecting = True
        # A close with bytes unread is a reset (RFC 1122, section 4.2.2.13).
        unread = any(isinstance(each, bytes) and each for each in self.incoming)
        broken = reason.check(ConnectionAborted) is not None or unread
        self._peer.state = RESET if broken else CLOSED
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(reason)


class Peer:
    """
    A client or the upstream: the other end of a connection of sitio.

    @ivar state: L{OPEN}, L{HALF_CLOSED}, L{CLOSED} or L{RESET}.
    @ivar pieces: what sitio wrote since the last L{got}, one item for each write.
    @ivar room: bytes that sitio's transport buffers before it pauses its producer.
    @ivar gone: whether this end is closed in both directions.
    @ivar transport: sitio's end.
    """

    def __init__(
        self,
        clock: Clock,
        address: str = CLIENT_ADDRESS,
        secure: bool = False,
        certificate: PeerCertificate | None = None,
    ) -> None:
        self.state = OPEN
        self.pieces: list[bytes] = []
        self.room = TRANSPORT_BUFFER_BYTES
        self.gone = False
        self.transport = MemoryTransport(clock, self, address, secure, certificate)
        self._clock = clock
        self._ended = False

    def __repr__(self) -> str:
        return f"<Peer {self.state}, {sum(map(len, self.pieces))} bytes unread>"

    def connect(self, protocol: IProtocol) -> None:
        """Connect to a protocol of sitio."""
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)

    @property
    def closed(self) -> bool:
        """Whether sitio closed the connection, and did not reset it."""
        return self.state is CLOSED

    @property
    def reset(self) -> bool:
        """Whether sitio reset the connection."""
        return self.state is RESET

    @property
    def paused(self) -> bool:
        """Whether sitio has paused reading from this end."""
        return self.transport.producerState == "paused"

    @property
    def backlog(self) -> int:
        """How many bytes sitio has written that this end has not read."""
        return sum(map(len, self.transport.outgoing))

    def got(self) -> bytes:
        """The bytes that sitio sent since the last call."""
        self._settle()
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)

    def gotResponse(self, method: str = "GET") -> Response:
        """
        The response that sitio sent since the last L{got}, with its body.

        @param method: that of the request, as a response to HEAD has no body.

        @raise AssertionError: there is not exactly one response, or it is incomplete.
        """
        found = list(readResponses(self.got(), method, closed=self.state is CLOSED))
        if len(found) != 1:
            raise FailTest(f"expected one response, got {found}")
        return found[0]

    def gotRequest(self) -> Request:
        """The request that sitio sent since the last L{got}; raises like L{gotResponse}."""
        found = list(readRequests(self.got()))
        if len(found) != 1:
            raise FailTest(f"expected one request, got {found}")
        return found[0]

    def sends(self, *pieces: bytes) -> None:
        """Send bytes; each piece arrives by itself."""
        if self._ended:
            raise FailTest("this end has ended its direction")
        for piece in pieces:
            if not self.transport.connected:
                self.state = RESET
                return
            for start in range(0, len(piece), TRANSPORT_BUFFER_BYTES):
                self.transport.incoming.append(piece[start : start + TRANSPORT_BUFFER_BYTES])
            self._arrived()

    def halfCloses(self) -> None:
        """End this direction: send nothing more, but still read."""
        if not self._ended:
            self._ended = True
            self.transport.incoming.append(b"")
            self._arrived()

    def closes(self) -> None:
        """
        Close both directions.  sitio sees the same as after L{halfCloses} until it writes;
        then the connection is reset.
        """
        self.gone = True
        self.halfCloses()
        self.resumesReading()

    def answersAndResets(self, data: bytes) -> None:
        """
        Send these bytes, and close with bytes unread, which resets the connection.

        sitio can read them, but learns of neither before its next write, which fails.
        """
        self.gone = self._ended = True
        for start in range(0, len(data), TRANSPORT_BUFFER_BYTES):
            self.transport.incoming.append(data[start : start + TRANSPORT_BUFFER_BYTES])
        self.transport.incoming.append(Failure(ConnectionLost()))

    def resets(self) -> None:
        """Reset the connection; bytes that sitio has not read yet are lost."""
        self.gone = self._ended = True
        self.transport.incoming.clear()
        self.transport.incoming.append(Failure(ConnectionLost()))
        self._arrived()

    def stopsReading(self) -> None:
        """Read nothing, so that sitio's transport buffers, and pauses its producer."""
        self.room = 0

    def resumesReading(self) -> None:
        """Read what was buffered, and everything from now on."""
        self.room = TRANSPORT_BUFFER_BYTES
        self.transport.callSoon(self.transport.flush)
        self._settle()

    def _arrived(self) -> None:
        self.transport.callSoon(self.transport.deliver)
        self._settle()

    def _settle(self) -> None:
        self._clock.advance(0)


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """
    The endpoint of the upstream.  Each connection is made in a later turn of the clock.

    @ivar peers: the upstream's ends of the connections, in the order they were accepted.
    @ivar decision: what to do with a new connection: C{accept}, C{refuse}, or L{None} to
        leave it pending.
    """

    def __init__(self, clock: Clock) -> None:
        self.peers: list[Peer] = []
        self.decision: Callable[[], None] | None = self.accept
        self._clock = clock
        self._pending: deque[tuple[IProtocolFactory, Deferred[IProtocol]]] = deque()

    @property
    def pending(self) -> int:
        """How many connections are neither accepted nor refused."""
        return len(self._pending)

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        attempt: tuple[IProtocolFactory, Deferred[IProtocol]]
        attempt = factory, Deferred(lambda _: self._pending.remove(attempt))
        self._pending.append(attempt)
        self._clock.callLater(0, self.decide)
        return attempt[1]

    def decide(self) -> None:
        """Accept or refuse the pending connections, as C{decision} says."""
        while self._pending and self.decision is not None:
            self.decision()

    def accept(self) -> None:
        """Accept the oldest pending connection."""
        factory, connected = self._pending.popleft()
        peer = Peer(self._clock, "192.0.2.87")
        address: IAddress = peer.transport.getPeer()
        protocol = factory.buildProtocol(address)
        assert protocol is not None
        self.peers.append(peer)
        peer.connect(protocol)
        connected.callback(protocol)

    def refuse(self) -> None:
        """Refuse the oldest pending connection."""
        _, connected = self._pending.popleft()
        connected.errback(Failure(ConnectionRefusedError()))
