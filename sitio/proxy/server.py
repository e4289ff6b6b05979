"""
The server half: L{ProxyServer}, one connection of a client.

It does steps 1, 2 and 8 of a request's life (docs/request.md): it reads requests,
makes an L{Exchange} of each, one at a time, and writes the responses.  It knows
nothing of upstreams or policies.

If a client does not read its responses, sitio stops reading its requests: otherwise a
client that only sends would fill the memory.  The next request waits until the write
buffer has room.  Pipelined bytes are buffered up to the size limit of one head; then
the transport is paused.

L{Leaving<sitio.proxy.leaving.Leaving>} is the part of it that ends the connection; it has the
table of the states.  L{Securing} is the part that waits for the handshake of TLS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from sitio.errors import (
    AmbiguousPath,
    BadMessage,
    BodyTooLong,
    LoopDetected,
    RequestTimeout,
    SitioError,
)
from sitio.http import framing
from sitio.http.codec import RequestReader
from sitio.http.message import Headers, Request
from sitio.net.deadlines import NEVER
from sitio.net.flow import LONG_READ_BYTES, FlowControlled
from sitio.proxy.exchange import Exchange
from sitio.proxy.generation import Route
from sitio.proxy.http1 import HTTP1Downstream
from sitio.proxy.leaving import (
    EXCHANGE,
    HANDSHAKE,
    HEAD,
    IDLE,
    TRANSITIONS,
    TUNNEL,
)
from sitio.proxy.securing import Securing
from sitio.proxy.tunnel import Tunnel
from sitio.settings import DRAIN_IDLE_SECONDS

if TYPE_CHECKING:
    from sitio.proxy.factory import ProxyServerFactory

_DATA = TRANSITIONS.on("data")
_REQUEST = TRANSITIONS.on("request")
_NEXT = TRANSITIONS.on("next")
_SWITCH = TRANSITIONS.on("switch")
_CLOSE = TRANSITIONS.on("close")
_LOST = TRANSITIONS.on("lost")

#: Requests that sitio answers itself before the connection yields its turn.  The heaviest take
#: a millisecond each.
MAX_ANSWERS = 4

#: Stands for the method and the target of a request whose head can't be parsed.
_UNREADABLE = "-"


class ProxyServer(Securing):
    """
    One connection of a client.

    @ivar state: one of the states above.
    @ivar reader: reads the requests.
    @ivar deadline: when L{deadlinePassed} is called; an exchange has a deadline of its own.
    """

    def __init__(self, factory: ProxyServerFactory) -> None:
        Securing.__init__(self, factory.context)
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        # Whether _begin must do nothing: it is running further up the stack, or has yielded.
        self._beginning = False
        self._answers = 0  # Requests that sitio itself has answered in this turn.
        self.state = IDLE
        self.deadline = NEVER
        # For a client that has closed its sending half: until when it waits for responses.
        self._patience = NEVER
        self.factory = factory
        self._settings = factory.context.settings
        self.reader = RequestReader(factory.limits)

    def forgetForwarding(self) -> None:
        """The next request gets forwarded fields by the settings that there are then."""
        self._downstream.forwarding = None

    # --- Steps 1 and 2: bytes become a request, a request becomes an exchange

    def connectionMade(self) -> None:
        # A client that sends nothing is treated as a slow client.
        self._within(self._settings.headTimeout)
        self._downstream = HTTP1Downstream(self)
        if self.factory.opened(self):
            FlowControlled.connectionMade(self)
            if self._records is not None:
                self._secure()
        else:
            self.state = _CLOSE[self.state]
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        state = self.state
        if state is IDLE or state is HEAD:
            reader = self.reader
            if reader.received:
                reader.receive(data)
            else:
                reader.received = data
            self._begin()
            if reader.received:
                self._boundHeld()
        elif state is EXCHANGE:
            self.reader.receive(data)
            if not self.isYielding:
                self._readBody()
        elif self._tunnel is not None:
            self._tunnel.fromClient(data)
            if len(data) >= LONG_READ_BYTES:
                self.yieldTurn()
        elif self._lingering is not None:
            self._lingering.receive(data)

    def _begin(self) -> None:
        """Begin the buffered requests, one after another; some of them in a later turn."""
        if self._beginning or self.isBacklogged:
            return
        self._beginning = True
        try:
            while self._beginNext() and self.state is IDLE and not self.isBacklogged:
                self._answers = (self._answers + 1) % MAX_ANSWERS
                if not self._answers:
                    self.yieldTurn()
                    break
        finally:
            self._beginning = self.isYielding

    def _goOn(self) -> None:
        """Begin buffered requests, or resume reading if there are none."""
        if not self.reader.held:
            self.resume()
        elif self.state is IDLE or self.state is HEAD:
            self._begin()
        if self._patience is not NEVER and not self._beginning and not self.isBacklogged:
            self._leaveIfIdle()

    def turnCame(self) -> None:
        self._beginning = False
        if self.state is EXCHANGE:
            self._readBody()
        elif self.state is IDLE or self.state is HEAD:
            self._goOn()
        elif self._lingering is not None:
            self._lingering.receive(b"")

    def _beginNext(self) -> bool:
        reader = self.reader
        try:
            request = reader.nextHead()
        except BadMessage as error:
            self._refuse(error)
            return False
        if request is None:
            if self.state is IDLE and reader.held:
                self.state = _DATA[self.state]
                self._within(self._settings.headTimeout)
            self.resume()
            return False
        forwarding = self._downstream.forwarding or self._downstream.identifyClient()
        generation = self.context.generation
        try:
            route = generation.only or generation.routeOf(request)
            amend = reader.forwarded or route.chain.hasRequestPolicies
            lines = forwarding.linesFor(request, reader.host, amend, route.via)
        except LoopDetected as error:
            self.context.cameBack(request.method, request.target, forwarding.peerAddress)
            return self._refuseWhole(request, error)
        except AmbiguousPath as error:
            return self._refuseWhole(request, error)
        if request.content is None:
            return self._beginWithBody(request, lines, route)
        if not self.isReading:
            # Before the exchange begins, as that may pause it again.
            self.readOn()
        self._open(request, not reader.keepAlive, route).begin(lines)
        return True

    def _refuseWhole(self, request: Request, error: SitioError) -> bool:
        """Answer a request that goes nowhere; whether the connection can go on to the next."""
        hasEnded = request.content is not None
        self.readOn()
        self._open(request, not (hasEnded and self.reader.keepAlive)).refuse(error)
        return hasEnded

    def _beginWithBody(self, request: Request, lines: bytes, route: Route) -> bool:
        reader = self.reader
        try:
            first = reader.nextBody()
        except BadMessage as error:
            self._open(request, True).refuse(error)
            return False
        whole = reader.state is framing.ENDED and not reader.trailers
        if whole:
            request.arrived = first
        self.readOn()
        most = route.maxBody
        if most is not None and max(request.length or 0, len(first)) > most:
            tooLong = BodyTooLong(f"a body of more than {most} bytes")
            self._open(request, True, route).refuse(tooLong)
            return False
        exchange = self._open(request, not reader.keepAlive, route)
        exchange.begin(lines, first, whole)
        if reader.isCut:
            self.yieldTurn()
        elif exchange.upload and reader.state is framing.ENDED and exchange is self._exchange:
            exchange.upload.finish(reader.trailers)
        return True

    def _open(self, request: Request, isLast: bool, route: Route | None = None) -> Exchange:
        """
        Begin an exchange.

        @param route: L{None} for a request that is refused.
        """
        self.state = _REQUEST[self.state]
        self.deadline = self._patience
        downstream = self._downstream
        downstream.expect(request, isLast)
        route = route or self.context.generation.fallback
        self._exchange = exchange = Exchange(downstream, request, route, self.context)
        return exchange

    def _refuse(self, error: SitioError) -> None:
        """
        Answer a head that can't be parsed, or announces too long a body, without request
        policies, and close after that.
        """
        # The end of this request is unknown, so no other can follow.
        self.reader.state = framing.HEAD
        self._downstream.identifyClient()
        request = self.reader.refused or Request(_UNREADABLE, _UNREADABLE, Headers())
        self._open(request, True).refuse(error)

    def _readBody(self) -> None:
        """Handle bytes that arrive during an exchange."""
        reader = self.reader
        exchange = self._exchange
        if reader.state is framing.ENDED or exchange is None:
            self._boundHeld()
            return
        try:
            data = reader.nextBody()
        except BadMessage as error:
            # The bytes after it can't be parsed either.
            self._downstream.isLast = True
            exchange.refuse(error)
            return
        upload = exchange.upload
        if data and upload is not None:
            upload.receive(data)
        if reader.state is framing.ENDED and exchange is self._exchange:
            if upload is not None:
                upload.finish(reader.trailers)
            self._boundHeld()
        elif reader.isCut or len(data) >= LONG_READ_BYTES:
            self.yieldTurn()

    def _boundHeld(self) -> None:
        """Pause reading if the buffered requests are larger than the limit of one head."""
        if self.reader.held > self._settings.maxHead and self.state in (IDLE, HEAD, EXCHANGE):
            self.pause()

    def readOn(self) -> None:
        """Resume reading, unless the buffer of pipelined requests is full."""
        if self.reader.held <= self._settings.maxHead:
            self.resume()

    # --- Step 8: the response, which L{HTTP1Downstream} writes

    def switched(self, tunnel: Tunnel) -> None:
        """Pass the client's bytes to this tunnel from now on."""
        self.state = _SWITCH[self.state]
        self._tunnel = tunnel
        self.resume()
        self.deadline = NEVER
        rest = self.reader.takeRest()
        if rest:
            tunnel.fromClient(rest)
        if self._patience is not NEVER:
            tunnel.clientEnded()

    def exchangeEnded(self) -> None:
        """The exchange is over: begin the next, or close the connection."""
        self._exchange = None
        downstream = self._downstream
        downstream.source = None
        state = self.state
        if state is not EXCHANGE:
            if state is TUNNEL:
                self._tunnel = None
                self.leave()
        elif not downstream.isLast:
            self.state = _NEXT[state]
            draining = self.factory.draining
            idle = DRAIN_IDLE_SECONDS if draining else self._settings.idleTimeout
            self.deadline = self.context.seconds() + idle
            if self.reader.received or not self.isReading:
                self._goOn()
        elif self._endsHere():
            self.leave()
        else:
            self._linger()

    def _endsHere(self) -> bool:
        """
        Whether the client sends no other request: it has said so and kept to it, or it
        reads the response to the connection's end.
        """
        reader = self.reader
        if reader.state is not framing.ENDED or reader.held:
            return False
        return not reader.keepAlive or self._downstream.endsByClose

    def writingPaused(self) -> None:
        if self._downstream.source is not None:
            self._downstream.source.pause()

    def writingResumed(self) -> None:
        self.sent()
        if self._downstream.source is not None:
            self._downstream.source.resume()
        elif self._exchange is None:
            self._goOn()

    # --- The end, which L{Leaving} has the rest of

    def deadlinePassed(self) -> None:
        """The connection was idle, reading a head, half-closed or closing for too long."""
        if not self.isOpen():
            self.transport.abortConnection()
        elif self.state is HANDSHAKE:
            self._handshakeIsSlow()
        elif self.state is HEAD:
            seconds = self._settings.headTimeout
            self._refuse(RequestTimeout(f"no whole head in {seconds:g} seconds"))
        elif self.state is EXCHANGE:
            self._patienceEnded()
        else:
            self.leave()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.state = _LOST[self.state]
        self.deadline = NEVER
        self.sent()
        if self._exchange is not None:
            self._exchange.clientGone()
        self.factory.closed(self)
        # They refer to each other: what is freed at once is no work for the collector.
        del self._downstream
