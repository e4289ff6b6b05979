"""
The server half: L{ProxyServer}, one connection of a client.

It owns steps 1, 2 and 8 of a request's life (docs/request.md): it reads
requests, makes an L{Exchange} of each, one at a time, and frames the responses
for this client.  It knows nothing of upstreams and policies.

A client that does not read its responses is not read from either: the next
request is not begun while the last response piles up, and what is pipelined
meanwhile is held up to one head before the transport is paused.  Otherwise a
client that only sends would fill the memory.

States, and what moves one to another, stand in L{_MOVES}; anything else is a
mistake in sitio and raises, naming both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocolNegotiationFactory,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.errors import BadMessage, RequestTimeout, SitioError
from sitio.http import codec, framing
from sitio.http.message import Headers, Request, Response
from sitio.net.deadlines import NEVER, Deadlines
from sitio.net.splice import descriptorOf
from sitio.net.statemachine import StateMachine
from sitio.proxy.context import Sidecar
from sitio.proxy.exchange import Exchange
from sitio.settings import DRAIN_IDLE, LINGER

IDLE = "idle"  # nothing has come of a next request
HEAD = "head"  # some of its head has come
EXCHANGE = "exchange"  # an exchange is under way; requests behind it wait
TUNNEL = "tunnel"  # bytes of another protocol, both ways
LINGERING = "lingering"  # the last response is out, the rest of its request is dropped
CLOSING = "closing"  # what was written leaves, then the connection closes
CLOSED = "closed"  # it has

_MOVES: dict[tuple[str, str], str] = {
    (IDLE, "data"): HEAD,
    (IDLE, "request"): EXCHANGE,
    (HEAD, "request"): EXCHANGE,
    (EXCHANGE, "next"): IDLE,
    (EXCHANGE, "switch"): TUNNEL,
    (EXCHANGE, "linger"): LINGERING,
    **{(each, "close"): CLOSING for each in (IDLE, HEAD, EXCHANGE, TUNNEL, LINGERING)},
    **{(each, "lost"): CLOSED for each in (IDLE, HEAD, EXCHANGE, TUNNEL, LINGERING, CLOSING)},
}

#: What a request that can't be read is counted as.
_UNREADABLE = "-"


@implementer(IHalfCloseableProtocol, IPushProducer)
class ProxyServer(StateMachine, Protocol):
    """
    One connection of a client.

    @ivar deadline: until when the next thing must have happened; the sweep's.
    @ivar clientAddress: the client's address without its port.
    @ivar secure: whether it came by TLS.
    """

    moves = _MOVES

    #: Reads skip a Python frame on uvloop: see L{sitio.net.transport}.
    receivesDirectly = True

    # An ITCPTransport that can be paused, or what TLS makes of one.
    transport: Any

    def __init__(self, factory: ProxyServerFactory) -> None:
        self.state = IDLE
        self.deadline = NEVER
        self.clientAddress = ""
        self.secure = False
        self._factory = factory
        self._sidecar = factory.sidecar
        self._settings = factory.sidecar.settings
        self._reader = codec.RequestReader(self._settings.limits())
        self._exchange: Exchange | None = None
        self._ownLines = b""
        # The same with the Host that was asked for last.
        self._told = b""
        self._toldHost: bytes | None = None
        # What the client has asked by, and whether in HTTP/1.1.
        self._method = ""
        self._modern = True
        # How the response at hand is framed, and whether it is the last one.
        self._chunked = False
        self._bodiless = False
        self._last = False
        # Whether the transport has asked for a pause in writing.
        self._backlogged = False
        self._reading = True
        # Whether requests are being begun, further down the stack.
        self._beginning = False

    def _within(self, seconds: float) -> None:
        self.deadline = self._sidecar.seconds() + seconds

    # --- Steps 1 and 2: bytes become a request, a request becomes an exchange

    def connectionMade(self) -> None:
        # A client that connects and says nothing is as one slow to begin.
        self._within(self._settings.headTimeout)
        if not self._factory.opened(self):
            self._move("close")
            self.transport.abortConnection()
            return
        self.transport.registerProducer(self, True)
        setNoDelay = getattr(self.transport, "setTcpNoDelay", None)
        if setNoDelay is not None:
            setNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        state = self.state
        if state is IDLE or state is HEAD:
            reader = self._reader
            if reader.data:
                reader.receive(data)
            else:
                reader.data = data
            self._begin()
            if reader.data:
                self._boundHeld()
        elif state is EXCHANGE:
            self._reader.receive(data)
            self._body()
        elif state is TUNNEL and self._exchange is not None:
            self._exchange.tunnelSent(data)

    def _begin(self) -> None:
        """Begin what has come whole, one request after the other."""
        if self._beginning:
            return
        self._beginning = True
        try:
            while not self._backlogged and (self.state is IDLE or self.state is HEAD):
                if not self._beginNext():
                    break
        finally:
            self._beginning = False

    def _goOn(self) -> None:
        """Begin what is held, or read on: not both, or what is held would grow."""
        if self._reader.held:
            self._begin()
        elif not self._reading:
            self._resume()

    def _beginNext(self) -> bool:
        reader = self._reader
        try:
            request = reader.nextHead()
        except BadMessage as error:
            self._refuse(error)
            return False
        if request is None:
            if self.state is IDLE and reader.held:
                self._move("data")
                self._within(self._settings.headTimeout)
            self._resume()
            return False
        # From IDLE or HEAD, as the table has it; written out, as all that follows is
        # done for each request.
        self.state = EXCHANGE
        self.deadline = NEVER
        if not self._ownLines:
            self._lookAtPeer()
        self._last = not reader.keepAlive
        if request.body is None:
            return self._beginWithBody(request)
        if not self._reading and reader.held <= self._settings.maxHead:
            # Before the exchange begins, which may pause it again.
            self._resume()
        self._open(request).begin()
        return True

    def _beginWithBody(self, request: Request) -> bool:
        reader = self._reader
        try:
            body = reader.nextBody()
        except BadMessage as error:
            self._open(request).refuse(error)
            return False
        ended = reader.state is framing.ENDED
        if ended and not reader.trailers:
            request.body = body
        if reader.held <= self._settings.maxHead:
            self._resume()
        exchange = self._open(request)
        exchange.begin(body)
        if ended and request.body is None and exchange is self._exchange:
            exchange.requestEnded(reader.trailers)
        return True

    def _open(self, request: Request) -> Exchange:
        # Kept here, as a policy may make it another request for the upstream.
        self._method = request.line.method
        self._modern = request.version == "1.1"
        self._exchange = exchange = Exchange(self, request, self._sidecar)
        return exchange

    def _refuse(self, error: SitioError) -> None:
        """A head that can't be read: answered, reaching nobody, and the last."""
        self._move("request")
        if not self._ownLines:
            self._lookAtPeer()
        self._last = True
        # Whatever was read of it: nobody can tell where it ends.
        self._reader.state = framing.HEAD
        self._open(Request(_UNREADABLE, _UNREADABLE, Headers())).refuse(error)

    def _lookAtPeer(self) -> None:
        # Not before the first request: behind a haproxy: endpoint the address
        # is known only then.
        host = getattr(self.transport.getPeer(), "host", None)
        self.clientAddress = host or "unknown"
        self.secure = ISSLTransport.providedBy(self.transport)
        self._ownLines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (
            self.clientAddress.encode("ascii", "replace"),
            b"https" if self.secure else b"http",
        )

    def forwarded(self, request: Request, shown: bool) -> bytes:
        """
        Who asked, and for which Host, for the upstream: lines to add to the head.

        Where the client claims something itself, its fields are amended instead:
        what it claims is kept, in front.

        @param shown: amend in any case, so that request policies see the fields
            as they will be, and have the last word.
        """
        # An empty Host is one as well: with another beside it, there would be two.
        host = self._reader.host
        if not shown and not self._reader.forwarded:
            if host is None:
                return self._ownLines + b"Host: %b\r\n" % self._sidecar.host
            if host is not self._toldHost:
                self._toldHost = host
                self._told = self._ownLines + b"X-Forwarded-Host: %b\r\n" % host
            return self._told if host else self._ownLines
        headers = request.headers
        if host is None:
            host = b""
            headers["Host"] = self._sidecar.host.decode("ascii")
        for name, value in (
            ("X-Forwarded-For", self.clientAddress),
            ("X-Forwarded-Proto", "https" if self.secure else "http"),
            ("X-Forwarded-Host", host.decode("ascii")),
        ):
            claimed = headers.get(name)
            if value:
                headers[name] = f"{claimed}, {value}" if claimed else value
        return b""

    def _body(self) -> None:
        """More has come while an exchange is under way."""
        reader = self._reader
        exchange = self._exchange
        if reader.state is framing.ENDED or exchange is None:
            self._boundHeld()
            return
        try:
            data = reader.nextBody()
        except BadMessage as error:
            # Nothing that follows can be read either.
            self._last = True
            exchange.requestBroke(error)
            return
        if data:
            exchange.requestBody(data)
        if reader.state is framing.ENDED and exchange is self._exchange:
            exchange.requestEnded(reader.trailers)
            self._boundHeld()

    def _boundHeld(self) -> None:
        """Requests behind the one under way wait here, as many as fit into one head."""
        if self._reader.held > self._settings.maxHead and self.state in (IDLE, HEAD, EXCHANGE):
            self._pause()

    # --- Step 8: the response

    def inform(self, response: Response) -> None:
        """Send an interim response, which HTTP/1.0 does not know (RFC 9110, section 15.2)."""
        if self._modern:
            self.transport.write(codec.responseHead(response, None))

    def response(self, response: Response, body: bytes, ended: bool) -> int:
        """
        Send the head of the response, framed for this client, and all or the first
        of its body.

        @return: how many bytes of the body that was.
        """
        if self._reader.state is not framing.ENDED or self._factory.draining:
            self._last = True
        status = response.status
        filters = response.filters
        length = response.length
        filtered = False
        if filters is not None and not all(keepsLength for _, keepsLength in filters):
            filtered = True
            length = None
        self._chunked = False
        self._bodiless = self._method == "HEAD" or status == 304 or status == 204
        if self._bodiless:
            # Section 8.6 of RFC 9110: the length is that of the body left out.
            if status == 204:
                length = None
            elif body and ended and not filtered:
                length = len(body)
            body = b""
        elif ended:
            length = len(body)
        elif length is None:
            self._chunked = self._modern
            self._last = self._last or not self._modern
        if self._last:
            extra = b"Connection: close\r\n"
        else:
            extra = b"" if self._modern else b"Connection: keep-alive\r\n"
        head = codec.responseHead(response, length, chunked=self._chunked, extra=extra)
        size = len(body)
        if self._chunked and body:
            body = codec.chunk(body)
        if size < codec.LONG_BODY_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writeSequence((head, body))
        if not ended:
            self._holdUp()
        return size

    def _holdUp(self) -> None:
        """Pause what begins behind a backlog: some transports ask for it only once."""
        if self._backlogged and self._exchange is not None:
            self._exchange.pauseResponse()

    def responseBody(self, data: bytes) -> None:
        """Send more of the body."""
        if not self._bodiless:
            self.transport.write(codec.chunk(data) if self._chunked else data)

    def sink(self) -> int | None:
        """
        A descriptor for the rest of a body of known length, to be closed by whoever
        asked; L{None} where it has to come by L{responseBody}.
        """
        if self._chunked or self._bodiless or self._backlogged:
            return None
        return descriptorOf(self.transport, written=True)

    def endResponse(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        """The body was all."""
        if self._chunked and not self._bodiless:
            self.transport.write(codec.lastChunk(trailers))

    def exchangeEnded(self) -> None:
        """The exchange is over: on to the next, or to the end."""
        self._exchange = None
        if self.state is not EXCHANGE:
            if self.state is TUNNEL:
                self.leave()
        elif not self._last:
            self.state = IDLE
            idle = DRAIN_IDLE if self._factory.draining else self._settings.idleTimeout
            self.deadline = self._sidecar.seconds() + idle
            if self._reader.data or not self._reading:
                self._goOn()
        elif self._reader.state is framing.ENDED and not self._reader.held:
            self.leave()
        else:
            # RFC 9112, section 9.6: closing while the client still sends would
            # reset the connection, and the response might be lost.
            self._move("linger")
            self._within(LINGER)
            self._resume()
            # First, or a transport that has paused us never comes to its half-close.
            self.transport.unregisterProducer()
            if not self.secure:
                self.transport.loseWriteConnection()

    # --- A tunnel

    def switch(self, response: Response, data: bytes) -> None:
        """Send the head of a 101 and the first bytes of the tunnel, both ways."""
        self._move("switch")
        self.transport.write(codec.responseHead(response, None) + data)
        self._holdUp()
        self._resume()
        rest = self._reader.takeRest()
        if rest and self._exchange is not None:
            self._exchange.tunnelSent(rest)

    def tunnel(self, data: bytes) -> None:
        """Send bytes of the other protocol."""
        self.transport.write(data)

    def endTunnel(self) -> None:
        """The upstream sends no more; the client still may, where its transport can."""
        if self.secure:
            self.leave()
        else:
            self.transport.loseWriteConnection()

    # --- Flow control

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self.transport.pauseProducing()

    def _resume(self) -> None:
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()

    def pauseUpload(self) -> None:
        """Read no more of the request: nobody can take it."""
        self._pause()

    def resumeUpload(self) -> None:
        """Read on, unless too much is held for the requests that follow."""
        if self._reader.held <= self._settings.maxHead:
            self._resume()

    # IPushProducer: the transport tells us when what we write piles up.

    def pauseProducing(self) -> None:
        self._backlogged = True
        if self._exchange is not None:
            self._exchange.pauseResponse()

    def resumeProducing(self) -> None:
        self._backlogged = False
        if self._exchange is not None:
            self._exchange.resumeResponse()
        else:
            self._goOn()

    def stopProducing(self) -> None:
        """The connection is lost, which C{connectionLost} deals with."""

    # --- The end

    def deadlinePassed(self) -> None:
        """What had to happen in time has not."""
        if self.state is CLOSING or self.state is CLOSED:
            self.transport.abortConnection()
        elif self.state is HEAD:
            timeout = self._settings.headTimeout
            self._refuse(RequestTimeout(f"no whole head in {timeout:g} seconds"))
        elif self._exchange is not None:
            self._exchange.timedOut()
        else:
            self.leave()

    def leave(self) -> None:
        """Close, once what was written has left, which must not take for ever."""
        if self.state in (CLOSING, CLOSED):
            return
        if self.state is not LINGERING:
            self.transport.unregisterProducer()
        self._move("close")
        self._within(self._settings.stallTimeout)
        self.transport.loseConnection()

    def abort(self) -> None:
        """Break the connection: the client must not take for whole what isn't."""
        if self.state is CLOSED:
            return
        if self.state not in (LINGERING, CLOSING):
            self.transport.unregisterProducer()
        if self.state is not CLOSING:
            self._move("close")
        self.transport.abortConnection()

    def stop(self) -> None:
        """End now."""
        if self._exchange is not None:
            self._exchange.stopped()
        self.abort()

    def drain(self) -> None:
        """End soon: after the exchange under way, or a moment for one on its way."""
        if self.state is IDLE:
            self._within(DRAIN_IDLE)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._move("lost")
        self.deadline = NEVER
        if self._exchange is not None:
            self._exchange.clientGone()
        self._factory.closed(self)

    # IHalfCloseableProtocol: a tunnel ends one direction at a time; elsewhere a
    # client that sends no more cannot be told from one that has gone.

    def readConnectionLost(self) -> None:
        if self.state is TUNNEL:
            if self._exchange is not None:
                self._exchange.clientEndedTunnel()
        elif self.state is EXCHANGE:
            self.abort()
            # At once: what else comes in this turn must not be written any more.
            if self._exchange is not None:
                self._exchange.clientGone()
        else:
            self.leave()

    def writeConnectionLost(self) -> None:
        """Our own half has been closed: nothing is left to do."""


@implementer(IProtocolNegotiationFactory)
class ProxyServerFactory(Factory):
    """
    The client connections of one sidecar.

    @ivar draining: whether sitio has been told to stop.
    """

    noisy = False

    def __init__(self, sidecar: Sidecar, sweep: Deadlines) -> None:
        self.sidecar = sidecar
        self.draining = False
        self._sweep = sweep
        self._open: set[ProxyServer] = set()
        self._drained: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> ProxyServer:
        return ProxyServer(self)

    def logPrefix(self) -> str:
        """What Twisted calls the port in its own lines."""
        return "sitio"

    def acceptableProtocols(self) -> list[bytes]:
        """What is spoken here, for clients that offer a choice with TLS (RFC 7301)."""
        return [b"http/1.1"]

    @property
    def exchanges(self) -> list[Exchange]:
        """Those under way."""
        return [each._exchange for each in self._open if each._exchange is not None]

    @property
    def connections(self) -> int:
        """How many client connections are open."""
        return len(self._open)

    def opened(self, server: ProxyServer) -> bool:
        """A client has come; whether there is room for it."""
        if len(self._open) >= self.sidecar.settings.maxClients:
            self.sidecar.failed(
                SitioError(f"{len(self._open)} clients are connected already; one more is let go")
            )
            return False
        self._open.add(server)
        self._sweep.watch(server)
        if self.draining:
            server.drain()
        return True

    def closed(self, server: ProxyServer) -> None:
        """It has gone."""
        self._open.discard(server)
        self._sweep.forget(server)
        self._checkDrained()

    def drain(self) -> Deferred[None]:
        """
        Finish what is in flight; fires once every client has gone.

        Whoever calls this has stopped to accept, and bounds the wait by L{abort}.
        """
        self.draining = True
        for server in list(self._open):
            server.drain()
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        self._checkDrained()
        return drained

    def abort(self) -> None:
        """Break what is left: the grace is over."""
        for server in list(self._open):
            server.stop()

    def _checkDrained(self) -> None:
        if not self._open:
            drained, self._drained = self._drained, []
            for each in drained:
                each.callback(None)
