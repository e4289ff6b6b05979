"""
The client half: L{ProxyClient}, one connection to the upstream.

It does steps 5 and 6 of a request's life (docs/request.md): it sends a request, reads
the response, and passes the response to the L{ResponseReceiver}.  One request is in
flight at a time.  It tells its pool when it is free or closed.  It knows nothing of
clients or policies.  L{sitio.upstream.receivers} defines the interfaces that it calls.

L{TRANSITIONS} defines the states and the allowed transitions.  Any other transition is
a bug in sitio and raises.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from sitio.errors import BadResponse, Reached, SitioError, UpstreamLost
from sitio.http import framing
from sitio.http.codec import ResponseReader
from sitio.http.head import Fields
from sitio.http.limits import Limits
from sitio.http.message import Request, Response
from sitio.http.writer import MakeWriter, RequestWriter
from sitio.net.deadlines import NEVER
from sitio.net.flow import LONG_READ_BYTES
from sitio.net.lastread import readAfterFailedWrite
from sitio.net.statemachine import Transitions
from sitio.upstream.receivers import (
    BodyReceiver,
    BodySender,
    ConnectionOwner,
    ResponseReceiver,
    TunnelEnd,
)
from sitio.upstream.splicing import SplicingClient

IDLE = "idle"  # in the pool, nothing in flight
WAITING = "waiting"  # sending a request, or waiting for the head of its response
RECEIVING = "receiving"  # reading the body of the response
DISCARDING = "discarding"  # reading and dropping the rest of an unwanted response
TUNNEL = "tunnel"  # bytes of another protocol, both ways
CLOSED = "closed"  # closing, or closed

TRANSITIONS = Transitions(
    "ProxyClient",
    {
        (IDLE, "request"): WAITING,
        (WAITING, "head"): RECEIVING,
        (WAITING, "switch"): TUNNEL,
        (RECEIVING, "whole"): IDLE,
        (RECEIVING, "discard"): DISCARDING,
        (DISCARDING, "whole"): IDLE,
        **{(each, "close"): CLOSED for each in (IDLE, WAITING, RECEIVING, DISCARDING, TUNNEL)},
    },
)
_REQUEST = TRANSITIONS.on("request")
_HEAD = TRANSITIONS.on("head")
_SWITCH = TRANSITIONS.on("switch")
_WHOLE = TRANSITIONS.on("whole")
_DISCARD = TRANSITIONS.on("discard")
_CLOSE = TRANSITIONS.on("close")

#: Largest rest of an unwanted response, in bytes, that is read to keep the connection.
#: Reading more costs more than a new connection.
MAX_DISCARD = 64 * 1024

#: Interim responses that are passed on before the connection yields its turn.
MAX_INTERIM_IN_TURN = 16


class ProxyClient(SplicingClient):
    """
    One connection to the upstream.

    @ivar carried: how many requests it has carried.  Above one it is a reused
        connection: the upstream may close it while a request is being sent.
    @ivar deadline: the time at which L{deadlinePassed} is called.
    """

    def __init__(
        self, owner: ConnectionOwner, limits: Limits, makeWriter: MakeWriter = RequestWriter
    ) -> None:
        SplicingClient.__init__(self, owner.clock, ResponseReader(limits))
        self.state = IDLE
        self.carried = 0
        self.deadline = NEVER
        self._owner = owner
        self._writer = makeWriter()
        self._receiver: ResponseReceiver | None = None
        self._sender: BodySender | None = None
        self._bodyReceiver: BodyReceiver | None = None
        self._tunnel: TunnelEnd | None = None
        self._upgrading = False
        self._discardLeft = 0
        # Why the connection was lost while some of what it had received was still unread.
        self._lostBy: Failure | None = None

    # --- Step 5: the request

    def sendRequest(
        self,
        receiver: ResponseReceiver,
        request: Request,
        body: bytes,
        ended: bool,
        extra: bytes = b"",
        sender: BodySender | None = None,
    ) -> None:
        """
        Send a request: its head, and the part of its body that has arrived.

        @param receiver: takes the response.
        @param ended: whether C{body} is the whole body.  If not, L{sendBody} and
            L{endRequest} follow.
        @param sender: sends the rest of the body; paused while the write buffer is full.
        """
        self.state = _REQUEST[self.state]
        self.carried += 1
        self.deadline = NEVER
        self._receiver, self._sender = receiver, sender
        self._upgrading = request.upgrade is not None
        self._reader.expect(request.line.method)
        data = self._writer.begin(request, body, ended, extra)
        if sender is None and type(data) is bytes:
            self.transport.write(data)
            return
        # It may answer before it has read all, and close (RFC 9112, section 9.5).
        readAfterFailedWrite(self.transport, self._writer.abandon)
        self.transport.writeSequence((data,) if type(data) is bytes else data)

    def sendBody(self, data: bytes) -> None:
        """Send more of the body; dropped if the upstream has already responded."""
        if self.state is WAITING or self.state is RECEIVING:
            self.transport.write(self._writer.body(data))

    def endRequest(self, trailers: Fields) -> None:
        """The request's body has ended."""
        if not self._writer.hasEnded:
            tail = self._writer.end(trailers)
            if tail and (self.state is WAITING or self.state is RECEIVING):
                self.transport.write(tail)

    # --- Step 6: the response

    def dataReceived(self, data: bytes) -> None:
        state = self.state
        if state is WAITING or state is RECEIVING or state is DISCARDING:
            reader = self._reader
            if reader.received:
                reader.receive(data)
                if self.isYielding:
                    return
            else:
                reader.received = data
            try:
                if state is WAITING:
                    self._readHead()
                else:
                    self._readBody()
            except SitioError as error:
                self._fail(error)
        elif self._tunnel is not None:
            self._tunnel.fromUpstream(data)
            if len(data) >= LONG_READ_BYTES:
                self.yieldTurn()
        elif state is IDLE:
            # Nothing was requested: these bytes would look like the next response.
            self.close()

    def _readHead(self) -> None:
        reader = self._reader
        receiver = self._receiver
        response = reader.nextHead()
        passed = 0
        while response is not None and reader.state is framing.HEAD:
            if receiver is not None:
                receiver.interimReceived(response)
            if self.state is not WAITING:
                return
            passed += 1
            if passed == MAX_INTERIM_IN_TURN:
                self.yieldTurn()
                return
            response = reader.nextHead()
        if response is None or receiver is None:
            return
        if reader.state is framing.TUNNEL:
            self._switch(response, receiver)
            return
        self.state = _HEAD[self.state]
        body = reader.nextBody()
        if reader.state is framing.ENDED and not reader.trailers:
            self._free()
            receiver.responseReceived(response, body, True)
            return
        receiver.responseReceived(response, body, False)
        if reader.state is framing.ENDED:
            self.responseEnded()
        elif reader.isCut or len(body) >= LONG_READ_BYTES:
            self.yieldTurn()

    def deliverTo(self, bodyReceiver: BodyReceiver) -> None:
        """Pass the rest of the response's body to this receiver."""
        self._bodyReceiver = bodyReceiver

    def _readBody(self) -> None:
        reader = self._reader
        data = reader.nextBody()
        if self.state is DISCARDING:
            self._discardLeft -= len(data)
            if self._discardLeft < 0 and reader.state is not framing.ENDED:
                self.close()
        elif data and self._bodyReceiver is not None:
            self._bodyReceiver.responseBody(data)
        if reader.state is framing.ENDED:
            self.responseEnded()
        elif reader.isCut or len(data) >= LONG_READ_BYTES:
            self.yieldTurn()

    def turnCame(self) -> None:
        rest = self._reader.takeRest()
        if rest:
            self.dataReceived(rest)
        if self._lostBy is not None and not self.isYielding:
            self.connectionLost(self._lostBy)

    def _switch(self, response: Response, receiver: ResponseReceiver) -> None:
        # RFC 9110, section 15.2.2: a 101 is valid only if the request asked for it.
        if not (self._upgrading and self._writer.hasEnded and response.upgrade):
            raise BadResponse("the upstream switched protocols unasked", Reached.ANSWERED)
        self.state = _SWITCH[self.state]
        self._tunnel = receiver.switched(response, self._reader.takeRest())
        self._sender = self._tunnel.clientSide

    def responseEnded(self) -> None:
        """The response is complete, by its framing or by the connection's end."""
        bodyReceiver = self._bodyReceiver
        if self.state is RECEIVING or self.state is DISCARDING:
            trailers = self._reader.trailers
            self._free()
            if bodyReceiver is not None:
                bodyReceiver.responseEnded(trailers)

    def _free(self) -> None:
        """Become free for the next request if request and response are complete."""
        self._receiver = self._sender = self._bodyReceiver = None
        if not self._writer.hasEnded:
            # The upstream would read the rest of this request as the next one.
            self.close(orderly=True)
        elif not self._reader.keepAlive or self._reader.received or self.isBacklogged:
            # With a full write buffer the next request's sender would not be paused:
            # some transports ask for a pause only once.
            self.close(orderly=True)
        else:
            self.state = _WHOLE[self.state]
            if not self.isReading:
                # A slow client had paused it.
                self.resume()
            self._owner.released(self)

    def _forget(self) -> None:
        """Make no more calls for this request."""
        self._receiver = self._sender = self._bodyReceiver = self._tunnel = None

    # --- Flow control

    def writingPaused(self) -> None:
        if self._sender is not None:
            self._sender.pause()

    def writingResumed(self) -> None:
        if self._sender is not None:
            self._sender.resume()

    # --- The end

    def isOpen(self) -> bool:
        return self.state is not CLOSED

    def leave(self) -> None:
        """
        Give up the rest of this response.  A short rest is read and dropped, so that the
        connection can be reused.  Otherwise the connection is closed.
        """
        self._forget()
        left = self._reader.left
        if (
            self.state is RECEIVING
            and self._writer.hasEnded
            and self._spliced is None
            and (left is None or left <= MAX_DISCARD)
        ):
            self._discardLeft = MAX_DISCARD
            self.state = _DISCARD[self.state]
            self._owner.discarding(self)
            self.resume()
        else:
            self.close()

    def close(self, orderly: bool = False) -> None:
        """
        Close the connection.  Of the callbacks, only the pool's are called.

        @param orderly: whether to send what was written first; if not, reset at once.
        """
        if self.state is CLOSED:
            return
        self._forget()
        self.state = _CLOSE[self.state]
        if self._spliced is not None:
            self._spliced.stop()
            self._spliced = None
        self.transport.unregisterProducer()
        if orderly:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()
        self._owner.lost(self)

    def deadlinePassed(self) -> None:
        """The connection was idle, discarding or closing for too long."""
        if self.state is CLOSED:
            self.transport.abortConnection()
        else:
            self.close(orderly=self.state is IDLE)

    def _fail(self, error: SitioError) -> None:
        receiver = self._receiver
        self.close()
        if receiver is not None:
            receiver.upstreamFailed(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        tunnel = self._tunnel
        if self.isYielding and self._reader.received:
            # The response may be complete in what was received before.
            self._lostBy = reason
            return
        if tunnel is not None:
            self.close()
            tunnel.upstreamLost()
        elif self.state is not CLOSED:
            self._upstreamClosed(None if reason.check(ConnectionDone) else reason.value)
        self._owner.closed(self)

    def _upstreamClosed(self, cause: BaseException | None) -> None:
        """The upstream sends no more: the response is complete or broken."""
        reader = self._reader
        if self.state is WAITING or self.state is RECEIVING:
            try:
                if cause is not None and reader.state is framing.UNTIL_CLOSE:
                    # Incomplete (RFC 9112, section 9.8): a reset, or TLS without close_notify.
                    raise UpstreamLost("the upstream broke off its response", Reached.ANSWERED)
                reader.connectionLost()
            except UpstreamLost as error:
                error.cause = cause
                self._fail(error)
                return
            self.responseEnded()
        self.close()

    # IHalfCloseableProtocol: a tunnel ends one direction at a time.

    def readConnectionLost(self) -> None:
        if self._tunnel is not None:
            self._tunnel.upstreamEnded()
        else:
            self._upstreamClosed(None)


class ProxyClientFactory(Factory):
    """
    Makes the L{ProxyClient} of one connection.

    @ivar wanted: whether the connection is still wanted.  If not, it is closed as soon
        as it is open.
    """

    noisy = False

    def __init__(
        self, owner: ConnectionOwner, limits: Limits, makeWriter: MakeWriter = RequestWriter
    ) -> None:
        self.wanted = True
        self._owner = owner
        self._limits = limits
        self._makeWriter = makeWriter

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if not self.wanted:
            return None
        return ProxyClient(self._owner, self._limits, self._makeWriter)
