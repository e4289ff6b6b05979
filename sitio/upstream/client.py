"""
The client half: L{ProxyClient}, one connection to the upstream.

It owns steps 5 and 6 of a request's life (docs/request.md): it sends a request,
reads the response, and buffers the response to its end for an exchange that asks for
it whole.  One request is in flight at a time.  It knows its pool, which it
tells when it is free or gone, and the exchange it works for, which it tells
what came; it knows nothing of clients or policies.

States, and what moves one to another, stand in L{_MOVES}; anything else is a
mistake in sitio and raises, naming both.
"""

from __future__ import annotations

import os
from typing import Any, Protocol as Typing

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.errors import BadResponse, Reached, SitioError, UpstreamLost
from sitio.http import codec, framing
from sitio.http.head import Fields
from sitio.http.message import Request, Response
from sitio.net.deadlines import NEVER
from sitio.net.splice import Splice, descriptorOf
from sitio.net.statemachine import StateMachine

IDLE = "idle"  # in the pool, nothing in flight
ASKED = "asked"  # a request goes out or has gone, no head of a response yet
RESPONDING = "responding"  # the head of the response has come, its body comes
DISCARDING = "discarding"  # the rest of a response that nobody wants comes in
TUNNEL = "tunnel"  # bytes of another protocol, both ways
CLOSED = "closed"  # let go of

_MOVES: dict[tuple[str, str], str] = {
    (IDLE, "ask"): ASKED,
    (ASKED, "head"): RESPONDING,
    (ASKED, "switch"): TUNNEL,
    (RESPONDING, "whole"): IDLE,
    (RESPONDING, "discard"): DISCARDING,
    (DISCARDING, "whole"): IDLE,
    **{(each, "close"): CLOSED for each in (IDLE, ASKED, RESPONDING, DISCARDING, TUNNEL)},
}

#: Interim responses to one request; a handful is used, an unbounded number would
#: hold a request for ever.
MAX_INTERIM = 32

#: Bytes of an unwanted response that are read so as to keep its connection; reading
#: more costs more than a new one.
MAX_DISCARD = 64 * 1024


class ResponseReceiver(Typing):
    """What a client tells the exchange that it works for."""

    def informed(self, response: Response) -> None:
        """An interim response has come (RFC 9110, section 15.2)."""

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None:
        """The head of the response has come, and this much of its body with it."""

    def responseBody(self, data: bytes) -> None:
        """More of the body has come."""

    def responseEnded(self, trailers: Fields) -> None:
        """The body has come to its end."""

    def bufferGrew(self) -> None:
        """More of a body that is being buffered has come."""

    def spliced(self, size: int) -> None:
        """The kernel has moved so many bytes of the body."""

    def sinkLost(self) -> None:
        """The kernel found that it can't send any more of the body."""

    def bufferEnded(self, body: bytes | None) -> None:
        """The buffered body is whole; or L{None}: it is longer than the limit."""

    def switched(self, response: Response, data: bytes) -> None:
        """The upstream has switched protocols; from here on C{tunnelReceived}."""

    def tunnelReceived(self, data: bytes) -> None:
        """Bytes have come from the upstream."""

    def tunnelEnded(self) -> None:
        """No more bytes come from the upstream; it may still read."""

    def tunnelLost(self) -> None:
        """The connection to the upstream has gone altogether."""

    def upstreamFailed(self, error: SitioError) -> None:
        """No response, or no more of it, will come."""

    def pauseUpload(self) -> None:
        """The upstream does not keep up with what it is sent."""

    def resumeUpload(self) -> None:
        """The upstream has caught up."""


class Keeper(Typing):
    """What a client tells its pool."""

    def released(self, client: ProxyClient) -> None:
        """It is idle and may be used again."""

    def discarding(self, client: ProxyClient) -> None:
        """It reads a rest that nobody wants, and will be released or lost."""

    def lost(self, client: ProxyClient) -> None:
        """It will not be used again; told once."""

    def gone(self, client: ProxyClient) -> None:
        """Its transport is closed; told once, after C{lost}."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class ProxyClient(StateMachine, Protocol):
    """
    One connection to the upstream.

    @ivar asked: how many requests it has carried; above one it is a reused
        connection, which may have been closed while the request went out.
    @ivar deadline: until when it may be idle; the sweep's.
    """

    moves = _MOVES

    #: Reads skip a Python frame on uvloop: see L{sitio.net.transport}.
    receivesDirectly = True

    # An ITCPTransport that can be paused, or what TLS makes of one.
    transport: Any

    def __init__(self, keeper: Keeper, limits: framing.Limits) -> None:
        self.state = IDLE
        self.asked = 0
        self.deadline = NEVER
        self._keeper = keeper
        self._reader = codec.ResponseReader(limits)
        self._asker: ResponseReceiver | None = None
        self._chunked = False
        self._requestEnded = True
        self._upgrading = False
        self._paused = False
        self._backlogged = False
        self._interim = 0
        # The response being buffered, piece by piece; None while it streams.
        self._buffer: list[bytes] | None = None
        self._bufferLeft = 0
        self._discardLeft = 0
        # What moves the rest of the response's body past us.
        self._splice: Splice | None = None

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        setNoDelay = getattr(self.transport, "setTcpNoDelay", None)
        if setNoDelay is not None:
            setNoDelay(True)

    # --- The request, step 5

    def ask(
        self,
        asker: ResponseReceiver,
        request: Request,
        body: bytes,
        ended: bool,
        extra: bytes = b"",
    ) -> None:
        """
        Send a request, or its head and what has come of its body.

        @param ended: whether C{body} is all of it; else C{sendBody} and
            C{endRequest} follow.
        @param extra: lines to be added to the head.
        """
        if self.state is not IDLE:
            self._move("ask")
        self.state = ASKED
        self.asked += 1
        self.deadline = NEVER
        self._asker = asker
        self._interim = 0
        self._requestEnded = ended
        self._upgrading = request.upgrade is not None
        self._reader.expect(request.line.method)
        length = request.length
        if ended and (body or length is not None):
            length = len(body)
        self._chunked = not ended and length is None
        head = codec.requestHead(request, length, chunked=self._chunked, extra=extra)
        if body and self._chunked:
            body = codec.chunk(body)
        if len(body) < codec.LONG_BODY_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writeSequence((head, body))

    def sendBody(self, data: bytes) -> None:
        """Send more of the body; dropped where the upstream has responded already."""
        if self.state in (ASKED, RESPONDING):
            self.transport.write(codec.chunk(data) if self._chunked else data)

    def endRequest(self, trailers: Fields) -> None:
        """The body was all."""
        if self._requestEnded:
            return
        self._requestEnded = True
        if self._chunked and self.state in (ASKED, RESPONDING):
            self.transport.write(codec.lastChunk(trailers))

    # --- The response, step 6

    def dataReceived(self, data: bytes) -> None:
        state = self.state
        if state is ASKED or state is RESPONDING or state is DISCARDING:
            reader = self._reader
            if reader.data:
                reader.receive(data)
            else:
                reader.data = data
            try:
                if state is ASKED:
                    self._readHead()
                else:
                    self._readBody()
            except SitioError as error:
                self._fail(error)
        elif state is TUNNEL:
            if self._asker is not None:
                self._asker.tunnelReceived(data)
        elif state is IDLE:
            # Nobody asked; it would be taken for the response to the next request.
            self.close()

    def _readHead(self) -> None:
        reader = self._reader
        asker = self._asker
        response = reader.nextHead()
        while response is not None and reader.state is framing.HEAD:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BadResponse(f"more than {MAX_INTERIM} interim responses", Reached.ANSWERED)
            if asker is not None:
                asker.informed(response)
            if self.state is not ASKED:
                return
            response = reader.nextHead()
        if response is None or asker is None:
            return
        if reader.state is framing.TUNNEL:
            self._switch(response, asker)
            return
        # From ASKED, as was seen above.
        self.state = RESPONDING
        body = reader.nextBody()
        if reader.state is not framing.ENDED:
            asker.responseReceived(response, body, False)
        elif not reader.trailers:
            self._whole()
            asker.responseReceived(response, body, True)
        else:
            asker.responseReceived(response, body, False)
            self._ended(asker)

    def _readBody(self) -> None:
        reader = self._reader
        data = reader.nextBody()
        ended = reader.state is framing.ENDED
        if self.state is DISCARDING:
            self._discard(len(data), ended)
            return
        asker = self._asker
        if asker is None:
            return
        if data:
            self._deliver(asker, data)
        if ended:
            self._ended(asker)

    def _switch(self, response: Response, asker: ResponseReceiver) -> None:
        # RFC 9110, section 15.2.2: only a client that asked for it can follow.
        if not (self._upgrading and self._requestEnded and response.upgrade):
            raise BadResponse("the upstream switched protocols unasked", Reached.ANSWERED)
        self._move("switch")
        asker.switched(response, self._reader.takeRest())

    def _deliver(self, asker: ResponseReceiver, data: bytes) -> None:
        if self._buffer is None:
            asker.responseBody(data)
            return
        self._buffer.append(data)
        self._bufferLeft -= len(data)
        if self._bufferLeft >= 0:
            asker.bufferGrew()
        else:
            held, self._buffer = self._buffer, None
            asker.bufferEnded(None)
            for piece in held:
                asker.responseBody(piece)

    def _ended(self, asker: ResponseReceiver) -> None:
        """The response is whole, by its framing or by the connection's end."""
        if self.state is DISCARDING:
            # The exchange left as it was told of the last piece.
            self._whole()
        if self.state is not RESPONDING:
            return
        trailers = self._reader.trailers
        held, self._buffer = self._buffer, None
        self._whole()
        if held is not None:
            asker.bufferEnded(b"".join(held))
        else:
            asker.responseEnded(trailers)

    def _whole(self) -> None:
        """Free for the next request, if both messages of this one are whole."""
        self._asker = None
        if not self._requestEnded:
            # What is left of the request would be read as the next one.
            self.close()
        elif not self._reader.keepAlive or self._reader.data or self._backlogged:
            # Behind a backlog the next request would pile up, and nobody be paused:
            # some transports ask for it only once.
            self.close(orderly=True)
        else:
            if self.state is not RESPONDING:
                self._move("whole")
            self.state = IDLE
            if self._paused:
                # A client was slow.
                self.resume()
            self._keeper.released(self)

    def buffer(self, body: bytes, limit: int) -> None:
        """
        Hold the rest of the response instead of passing it on; C{bufferEnded} follows.

        @param body: what has been handed out already and is to be held as well.
        @param limit: bytes; beyond them what was held passes on, and the rest.
        """
        self._buffer = [body]
        self._bufferLeft = limit - len(body)

    @property
    def left(self) -> int:
        """Bytes of the response's body that have not come yet, where it is known; else 0."""
        return self._reader.left or 0

    def splice(self, sink: int) -> bool:
        """
        Let the kernel move the rest of the response's body, of known length, to this
        descriptor; C{spliced} follows, and C{responseEnded} as always.

        @return: whether that is so; then C{sink} will be closed.
        """
        source = None if self._reader.data else descriptorOf(self.transport)
        if source is None:
            return False
        try:
            self._splice = Splice(
                self.transport.reactor, source, sink, self.left, self._spliced, self._spliceEnded
            )
        except OSError:
            os.close(source)
            return False
        self._paused = True
        self.transport.pauseProducing()
        return True

    def _spliced(self, size: int) -> None:
        if self._asker is not None:
            self._asker.spliced(size)

    def _spliceEnded(self, left: int, sinkFailed: bool) -> None:
        self._splice = None
        self._reader.skip(self.left - left)
        asker = self._asker
        if asker is None:
            return
        if sinkFailed:
            asker.sinkLost()
        elif left:
            # The transport will find out what has become of the upstream.
            self.resume()
        else:
            self._ended(asker)

    def pause(self) -> None:
        """Read no more, until C{resume}: the client does not keep up."""
        self._paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self._paused and self._splice is None:
            self._paused = False
            self.transport.resumeProducing()

    def _discard(self, size: int, ended: bool) -> None:
        self._discardLeft -= size
        if ended:
            self._whole()
        elif self._discardLeft < 0:
            self.close()

    # --- The end

    def leave(self) -> None:
        """
        The exchange wants no more of this response.

        A short rest is read and dropped, so that the connection can be used
        again; otherwise it is closed.
        """
        self._asker = None
        self._buffer = None
        left = self._reader.left
        if (
            self.state is RESPONDING
            and self._requestEnded
            and self._splice is None
            and (left is None or left <= MAX_DISCARD)
        ):
            self._discardLeft = MAX_DISCARD
            self._move("discard")
            self._keeper.discarding(self)
            self.resume()
        else:
            self.close()

    def close(self, orderly: bool = False) -> None:
        """
        Let go of the connection; nothing more is told to anybody but the pool.

        @param orderly: what was written still leaves; else the upstream sees a
            reset at once, and stops working for nobody.
        """
        if self.state is CLOSED:
            return
        self._asker = None
        self._move("close")
        if self._splice is not None:
            self._splice.stop()
            self._splice = None
        self.transport.unregisterProducer()
        if orderly:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()
        self._keeper.lost(self)

    def tunnel(self, data: bytes) -> None:
        """Send bytes of the other protocol."""
        if self.state is TUNNEL:
            self.transport.write(data)

    def endTunnel(self) -> None:
        """The client sends no more; the upstream may, where its transport can."""
        asker = self._asker
        if self.state is not TUNNEL or asker is None:
            return
        if ISSLTransport.providedBy(self.transport):
            self.close(orderly=True)
            asker.tunnelLost()
        else:
            self.transport.loseWriteConnection()

    def deadlinePassed(self) -> None:
        """Idle, discarding or closing for too long."""
        if self.state is CLOSED:
            self.transport.abortConnection()
        else:
            self.close(orderly=self.state is IDLE)

    def _fail(self, error: SitioError) -> None:
        asker = self._asker
        self.close()
        if asker is not None:
            asker.upstreamFailed(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.state is TUNNEL:
            asker = self._asker
            self.close()
            if asker is not None:
                asker.tunnelLost()
        elif self.state is not CLOSED:
            self._upstreamClosed(None if reason.check(ConnectionDone) else reason.value)
        self._keeper.gone(self)

    def _upstreamClosed(self, cause: BaseException | None) -> None:
        """No more bytes will come: that ends the response, or breaks it."""
        asker = self._asker
        reader = self._reader
        if self.state in (ASKED, RESPONDING):
            try:
                if cause is not None and reader.state is framing.UNTIL_CLOSE:
                    # A reset, or TLS without its farewell, is no end (RFC 9112, section 9.8).
                    raise UpstreamLost("the upstream broke off its response", Reached.ANSWERED)
                reader.connectionLost()
            except UpstreamLost as error:
                error.cause = cause
                self._fail(error)
                return
            if asker is not None and self.state is RESPONDING:
                self._ended(asker)
        self.close()

    # IHalfCloseableProtocol: a tunnel ends one direction at a time.

    def readConnectionLost(self) -> None:
        if self.state is TUNNEL and self._asker is not None:
            self._asker.tunnelEnded()
        else:
            self._upstreamClosed(None)

    def writeConnectionLost(self) -> None:
        """Our own half has been closed: nothing is left to do."""

    # IPushProducer: the transport tells us when what we write piles up.

    def pauseProducing(self) -> None:
        self._backlogged = True
        if self._asker is not None:
            self._asker.pauseUpload()

    def resumeProducing(self) -> None:
        self._backlogged = False
        if self._asker is not None:
            self._asker.resumeUpload()

    def stopProducing(self) -> None:
        """The connection is lost, which C{connectionLost} deals with."""


class ProxyClientFactory(Factory):
    """
    Makes the client of one connection.

    @ivar wanted: whether there is still somebody to have it; else it is closed
        as it is made.
    """

    noisy = False

    def __init__(self, keeper: Keeper, limits: framing.Limits) -> None:
        self.wanted = True
        self._keeper = keeper
        self._limits = limits

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return ProxyClient(self._keeper, self._limits) if self.wanted else None
