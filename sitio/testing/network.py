"""
Connections in memory: what L{sitio.testing} puts in the place of the network.

L{Peer} is what a test holds, L{MemoryTransport} what sitio is given, and
L{MemoryEndpoint} where its pool connects to.  Time is the L{Clock} that they
are made with; each event is told in a later turn of it, as a reactor would.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
from zope.interface import alsoProvides, implementer

from sitio.http import codec, framing
from sitio.http.message import Request, Response

#: Where clients come from unless a test says otherwise (RFC 5737 keeps it for this).
CLIENT_ADDRESS = "192.0.2.1"

#: Bytes that wait in a transport before it asks its producer to pause, and the
#: most that it delivers at a time: those of Twisted's TCP transports.
TRANSPORT_BUFFER = 64 * 1024

# How a connection of sitio's looks to its peer.
OPEN = "open"
HALF_CLOSED = "half-closed"  # sitio sends no more
CLOSED = "closed"
RESET = "reset"  # sitio broke it, or closed it with bytes unread


@implementer(ITCPTransport)
class MemoryTransport(StringTransport):
    """
    sitio's end of a connection to a L{Peer}.

    It behaves as Twisted's TCP transports do: what happens to the connection is
    told in a later turn, writes pile up while the peer does not read, nothing
    is delivered while paused.  It is stricter where they are silent: a write
    after the end, a second producer, or C{loseConnection} with a producer
    registered (which, over TLS, never comes to an end) raises.
    """

    protocol: IProtocol

    def __init__(self, clock: Clock, peer: Peer, address: str, secure: bool) -> None:
        StringTransport.__init__(
            self, IPv4Address("TCP", "192.0.2.80", 8080), IPv4Address("TCP", address, 40000)
        )
        if secure:
            alsoProvides(self, ISSLTransport)
        self._clock = clock
        self._peer = peer
        self._secure = secure
        self._producerPaused = False
        self._writeEnding = False
        self._writeEnded = False
        self._aborted = False
        self.outgoing: list[bytes] = []
        # Pieces of data, b"" for their end, a Failure for a reset.
        self.incoming: deque[bytes | Failure] = deque()

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: object) -> None:
        """Of no meaning here."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: object) -> None:
        """Of no meaning here."""

    # What sitio does

    def write(self, data: bytes) -> None:
        if self.disconnecting or self._writeEnding:
            raise AssertionError(f"written after the connection was ended: {data!r}")
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if data:
            self.outgoing.append(data)
            waiting = sum(map(len, self.outgoing))
            if self.producer is not None and waiting > self._peer.room:
                self._producerPaused = True
                self.producer.pauseProducing()
            self.soon(self.flush)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.producer is not None:
            raise AssertionError("loseConnection with a producer registered: it may never end")
        if self.disconnecting:
            return
        if self._writeEnded:
            # As TCP transports have it, at once.
            self._lost(Failure(ConnectionDone()))
            return
        self.disconnecting = True
        self.soon(self.flush)

    def loseWriteConnection(self) -> None:
        if self._secure:
            raise AssertionError("TLS has no half-close")
        self._writeEnding = True
        self.soon(self.flush)

    def abortConnection(self) -> None:
        if self.connected and not self._aborted:
            self._aborted = self.disconnecting = True
            self.outgoing.clear()
            self.soon(self._lost, Failure(ConnectionAborted()))

    def unregisterProducer(self) -> None:
        # A lost connection has let go of it already.
        if self.connected:
            StringTransport.unregisterProducer(self)

    def resumeProducing(self) -> None:
        StringTransport.resumeProducing(self)
        self.soon(self.deliver)

    # What the network does

    def soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        """In the next turn, as a reactor would have it."""
        self._clock.callLater(0, function, *arguments)

    def deliver(self) -> None:
        """Give the protocol what its peer has sent, unless it has paused."""
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
        """Give the peer what was written, if it reads, and then what is to follow."""
        if not self.connected or self._aborted:
            return
        if self.outgoing and self._peer.gone:
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
    The other end of a connection of sitio's: a client, or the upstream.

    @ivar state: how the connection looks from here: L{OPEN}, L{HALF_CLOSED},
        L{CLOSED} or L{RESET}.
    @ivar pieces: what sitio has written, write by write, since the last L{got}.
    @ivar room: bytes that sitio's transport takes before it asks for a pause.
    @ivar gone: whether this end is closed altogether.
    """

    def __init__(self, clock: Clock, address: str = CLIENT_ADDRESS, secure: bool = False) -> None:
        self.state = OPEN
        self.pieces: list[bytes] = []
        self.room = TRANSPORT_BUFFER
        self.gone = False
        self.transport = MemoryTransport(clock, self, address, secure)
        self._clock = clock
        self._ended = False

    def __repr__(self) -> str:
        return f"<Peer {self.state}, {sum(map(len, self.pieces))} bytes not looked at>"

    def connect(self, protocol: IProtocol) -> None:
        """Make the connection to a protocol of sitio's."""
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)

    @property
    def closed(self) -> bool:
        """Whether sitio has closed the connection in good order."""
        return self.state is CLOSED

    @property
    def reset(self) -> bool:
        """Whether sitio has broken the connection."""
        return self.state is RESET

    @property
    def paused(self) -> bool:
        """Whether sitio reads nothing from here for now."""
        return self.transport.producerState == "paused"

    @property
    def backlog(self) -> int:
        """Bytes that sitio has written and this end has not read."""
        return sum(map(len, self.transport.outgoing))

    def got(self) -> bytes:
        """What has come from sitio since the last call."""
        self._settle()
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)

    def gotResponse(self, method: str = "GET") -> Response:
        """
        The one response that has come since the last L{got}, its body complete.

        @param method: of the request: a response to HEAD has no body.

        @raise AssertionError: there is none, more than one, or an incomplete one.
        """
        found = list(readResponses(self.got(), method, closed=self.state is CLOSED))
        if len(found) != 1:
            raise AssertionError(f"one response was wanted, these have come: {found}")
        return found[0]

    def gotRequest(self) -> Request:
        """The one request that has come since the last L{got}; raises as L{gotResponse}."""
        found = list(readRequests(self.got()))
        if len(found) != 1:
            raise AssertionError(f"one request was wanted, these have come: {found}")
        return found[0]

    def sends(self, *pieces: bytes) -> None:
        """Send these bytes, each piece arriving on its own."""
        if self._ended:
            raise AssertionError("this end has said that it sends no more")
        for piece in pieces:
            if not self.transport.connected:
                self.state = RESET
                return
            for start in range(0, len(piece), TRANSPORT_BUFFER):
                self.transport.incoming.append(piece[start : start + TRANSPORT_BUFFER])
            self._arrived()

    def halfCloses(self) -> None:
        """Send no more, and still read."""
        if not self._ended:
            self._ended = True
            self.transport.incoming.append(b"")
            self._arrived()

    def closes(self) -> None:
        """
        Close.  To sitio that looks like L{halfCloses}, until it writes: what it
        writes then is answered by a reset.
        """
        self.gone = True
        self.halfCloses()
        self.readsOn()

    def resets(self) -> None:
        """Break the connection: what was sent and not yet read is lost as well."""
        self.gone = self._ended = True
        self.transport.incoming.clear()
        self.transport.incoming.append(Failure(ConnectionLost()))
        self._arrived()

    def stopsReading(self) -> None:
        """Read nothing: what sitio writes piles up, and its transport asks for a pause."""
        self.room = 0

    def readsOn(self) -> None:
        """Read what has piled up, and all that comes."""
        self.room = TRANSPORT_BUFFER
        self.transport.soon(self.transport.flush)
        self._settle()

    def _arrived(self) -> None:
        self.transport.soon(self.transport.deliver)
        self._settle()

    def _settle(self) -> None:
        self._clock.advance(0)


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """
    Where the pool connects to.  Each connection is made in a later turn.

    @ivar peers: the upstream's ends, in the order in which they were accepted.
    @ivar verdict: what becomes of a new connection: C{accept}, C{refuse}, or
        L{None} to leave it pending.
    """

    def __init__(self, clock: Clock) -> None:
        self.peers: list[Peer] = []
        self.verdict: Callable[[], None] | None = self.accept
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
        """Accept or refuse what is pending, as C{verdict} says."""
        while self._pending and self.verdict is not None:
            self.verdict()

    def accept(self) -> None:
        """Accept the connection that has waited longest."""
        factory, connected = self._pending.popleft()
        peer = Peer(self._clock, "192.0.2.87")
        address: IAddress = peer.transport.getPeer()
        protocol = factory.buildProtocol(address)
        assert protocol is not None
        self.peers.append(peer)
        peer.connect(protocol)
        connected.callback(protocol)

    def refuse(self) -> None:
        """Refuse the connection that has waited longest."""
        _, connected = self._pending.popleft()
        connected.errback(Failure(ConnectionRefusedError()))


def readResponses(data: bytes, *methods: str, closed: bool = False) -> Iterator[Response]:
    """
    The responses that these bytes hold, interim ones included, bodies complete.

    @param methods: of the requests that they answer, the last one for all that follow.
    @param closed: whether the connection was closed after them.

    @raise AssertionError: the last one is not whole.
    @raise SitioError: they are malformed.
    """
    reader = codec.ResponseReader(framing.Limits())
    waiting = list(methods) or ["GET"]
    reader.receive(data)
    while reader.held:
        reader.expect(waiting[0])
        response = reader.nextHead()
        while response is not None and reader.state is framing.HEAD:
            response.body = b""
            yield response
            response = reader.nextHead()
        if response is None:
            raise AssertionError(f"no whole response: {data!r}")
        response.body = reader.takeRest() if reader.state is framing.TUNNEL else reader.nextBody()
        if closed and reader.state is framing.UNTIL_CLOSE:
            reader.connectionLost()
        if reader.state not in (framing.ENDED, framing.TUNNEL):
            raise AssertionError(f"a response that is not whole: {data!r}")
        yield response
        waiting = waiting[1:] or waiting


def readRequests(data: bytes) -> Iterator[Request]:
    """The requests that these bytes hold, bodies complete; raises as L{readResponses}."""
    reader = codec.RequestReader(framing.Limits())
    reader.receive(data)
    while reader.held:
        request = reader.nextHead()
        if request is None:
            raise AssertionError(f"no whole request: {data!r}")
        request.body = reader.nextBody()
        if reader.state is not framing.ENDED:
            raise AssertionError(f"a request that is not whole: {data!r}")
        yield request
