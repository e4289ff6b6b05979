"""
One request, from its head to the last byte of its response: L{Exchange}.

The module is in the order of a request's steps (docs/request.md has the numbers):

  3. The request policies run; one of them may answer.
  4. The exchange gets a connection to the upstream.
  5. The request goes out, and its body streams.
  6. The response arrives, or a failure is made into one.
  7. The interested response policies run; one of them may ask for another attempt.
  8. The response goes to the client.
  9. The exchange ends.

An exchange runs these steps in order.  Parts that only some exchanges need are
separate objects: L{Upload}, L{HeldResponse}, L{Download}, L{Tunnel}.  An exchange
handles messages, not bytes: each half frames its own messages.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.errors import (
    BadMessage,
    ClientGone,
    Reached,
    SitioError,
)
from sitio.http.failures import asResponse
from sitio.http.framing import NO_TRAILERS
from sitio.http.message import Request, Response
from sitio.interfaces import ExchangeState, IExchange
from sitio.net.deadlines import NEVER
from sitio.net.statemachine import Transitions
from sitio.proxy.bufferedrequest import Collected, wholeRequest
from sitio.proxy.connecting import Connecting
from sitio.proxy.context import ProxyContext
from sitio.proxy.download import Download
from sitio.proxy.downstream import Downstream
from sitio.proxy.filters import beginFiltering, passRequest
from sitio.proxy.forwarding import COUNTS_HOPS, addVia, answerOfLastHop, rewriteRequest
from sitio.proxy.generation import Route
from sitio.proxy.heldresponse import HeldResponse, arrivedWhole
from sitio.proxy.retries import repeatsByItself, rewind
from sitio.proxy.timeouts import timeOut, timeoutOf
from sitio.proxy.tunnel import Tunnel
from sitio.proxy.upload import Upload
from sitio.proxy.upstream import Connection

DECIDING = ExchangeState.DECIDING
CONNECTING = ExchangeState.CONNECTING
WAITING = ExchangeState.WAITING
JUDGING = ExchangeState.JUDGING
RESTING = ExchangeState.RESTING
SENDING = ExchangeState.SENDING
TUNNELLING = ExchangeState.TUNNELLING
ENDED = ExchangeState.ENDED

TRANSITIONS = Transitions(
    "Exchange",
    {
        **{(each, "connect"): CONNECTING for each in (DECIDING, WAITING, RESTING)},
        (CONNECTING, "requestSent"): WAITING,
        # From JUDGING, as a held response may break off; from CONNECTING, as a failure
        # to connect is judged like a response.
        **{(each, "judge"): JUDGING for each in (CONNECTING, WAITING, JUDGING)},
        # From others than JUDGING without a policy, if the upstream is configured so.
        **{(each, "retry"): RESTING for each in (CONNECTING, WAITING, JUDGING)},
        **{
            (each, "respond"): SENDING for each in (DECIDING, CONNECTING, WAITING, JUDGING, RESTING)
        },
        (WAITING, "switch"): TUNNELLING,
        **{
            (each, "end"): ENDED
            for each in (DECIDING, CONNECTING, WAITING, JUDGING, RESTING, SENDING, TUNNELLING)
        },
    },
)
_CONNECT = TRANSITIONS.on("connect")
_REQUEST_SENT = TRANSITIONS.on("requestSent")
_JUDGE = TRANSITIONS.on("judge")
_RETRY = TRANSITIONS.on("retry")
_RESPOND = TRANSITIONS.on("respond")
_SWITCH = TRANSITIONS.on("switch")
_END = TRANSITIONS.on("end")

# As globals, as Python looks up the members of an enum slowly.
_NOTHING, _SENT, _ANSWERED = Reached


@implementer(IExchange)
class Exchange(Connecting):
    """
    One request, the attempts to send it upstream, and its response.

    @ivar deadline: the time at which L{deadlinePassed} is called.
    @ivar route: where it goes; L{chain} are the policies of it.  They stay the same, whatever
        is configured meanwhile.
    @ivar pool: the connections to the endpoint of the current attempt.
    @ivar endpoint: that endpoint, if the upstream has several.
    """

    state = DECIDING
    deadline = NEVER
    held: HeldResponse | None = None
    download: Download | None = None

    def __init__(
        self, downstream: Downstream, request: Request, route: Route, context: ProxyContext
    ) -> None:
        self.request = request
        self.began = context.seconds()
        self.context, self.route, self.chain = context, route, route.chain
        self._downstream = downstream
        # Each exchange reads these: Python finds a default of the class more slowly.
        self._responseTimeout = route.settings.responseTimeout
        self.connection: Connection | None = None
        self.upload: Upload | None = None
        self.failure, self._waiting, self.bytesOut, self.upstreamTime = None, None, 0, 0.0

    # --- Step 3: the request policies

    def begin(self, extra: bytes, first: bytes = b"", whole: bool = True) -> None:
        """
        Start with a request whose head has arrived.

        @param extra: lines to add to the head.
        @param first: the part of a body that has arrived.
        @param whole: whether that is all of the request.
        """
        self.context.exchanges.add(self)
        self._extra = extra
        self.bytesIn = len(first)
        if not whole:
            self.upload = Upload(self, self._downstream, first)
        if self.chain.hasRequestPolicies:
            self.wait(self.chain.requestReceived(self), self._policiesDecided)
        else:
            self._decided(None)

    def wholeRequest(self) -> Collected:
        """For L{Chain}: put the whole body into the request; see L{BufferedRequest}."""
        return wholeRequest(self, self._downstream)

    def _policiesDecided(self, answer: Response | None) -> None:
        self._decided(answer or passRequest(self))

    def _decided(self, answer: Response | None) -> None:
        if answer is None and self.request.line.method in COUNTS_HOPS:
            answer = answerOfLastHop(self.request)
        if answer is not None:
            if isinstance(answer.failure, SitioError):
                # The request policy itself has failed.
                self.failure = answer.failure
            self.respond(answer, answer.body or b"", True)
            return
        if self.route.changes:
            rewriteRequest(self)
        budget = self.route.budget
        if self.began >= budget.until:
            budget.turn(self.began)
        budget.requests += 1
        self._connect()

    def refuse(self, error: SitioError) -> None:
        """Answer with this error, or break off a response that is already being sent."""
        if self.state is SENDING:
            self.abort(error)
            return
        self.failure = error
        self.answeredBy = None
        response = asResponse(error)
        self.respond(response, response.body or b"", True)

    def waitBroke(self, failure: Failure) -> None:
        """End the exchange after a bug in sitio: its client must not wait for ever."""
        self.context.log.failure("An exchange broke: {exchange!r}", failure, exchange=self)
        error = SitioError(cause=failure.value)
        if self.state is TUNNELLING:
            self.abort(error)
        elif self.state is not ENDED:
            self.refuse(error)

    # --- Step 4: a connection

    def _connect(self, fresh: bool = False) -> None:
        self.state = _CONNECT[self.state]
        self.attempts += 1
        self._reached = _NOTHING
        pool = self.route.pool
        if pool is not None:
            self._acquire(pool, fresh)
        else:
            self._connectToOne(fresh)

    # --- Step 5: the request goes out

    def _sendRequest(self, connection: Connection) -> None:
        self.state = _REQUEST_SENT[self.state]
        self.connection = connection
        self._reached = _SENT
        self._since = self.context.seconds()
        if self.upload is not None:
            self.progress()
            self.upload.sendBy(connection, self._extra)
        else:
            self.deadline = self._since + self._responseTimeout
            request = self.request
            body = request.content
            if body is None:
                body = request.arrived
            connection.sendRequest(self, request, body, True, self._extra)

    # --- Step 6: the response arrives, or a failure is made into one

    def interimReceived(self, response: Response) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        if response.status != 100 or self.upload is None or not self.upload.continued:
            self._downstream.sendInterim(response)
        self.lateAt = NEVER  # The upstream works on it: the time begins anew.
        self.progress()

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        self.upstreamTime += self.context.seconds() - self._since
        self.upstreamStatus = status = response.status
        self._reached = _ANSWERED
        if ended:
            self.connection = None
        if self.endpoint is not None:
            self.endpoint.answered(status, self.context.seconds() - self._since)
            if status >= 500 and self.repeats(response):
                return
        chain = self.chain
        if chain.interested[status]:
            if ended:
                arrivedWhole(response, body, self.request.line.method, self.route.settings)
            first = chain.firstInterested(self, response)
            if first is not None:
                self._judge(response, first, body, NO_TRAILERS if ended else None)
                return
        self.respond(response, body, ended)

    def switched(self, response: Response, data: bytes) -> Tunnel:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        self.state = _SWITCH[self.state]
        self.upstreamTime += self.context.seconds() - self._since
        self.upstreamStatus = self.status = response.status
        self.response = response
        assert self.connection is not None
        tunnel = Tunnel(self, self._downstream, self.connection)
        if self.endpoint is not None:
            self.endpoint.answered(response.status, self.context.seconds() - self._since)
        self._downstream.switch(response, tunnel, data)
        return tunnel

    def upstreamFailed(self, error: SitioError) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        connection, self.connection = self.connection, None
        if self.state is WAITING:
            self.addWaitedTime()
            if repeatsByItself(error.reached, connection, self.request, self.upload):
                self.route.budget.note(self.context.seconds())
                rewind(self, self.upload, self._reached, error)
                self._connect(fresh=True)
            else:
                self.fail(error)
        elif self.state is SENDING:
            self.context.exchangeFailed(error, self)
            self.abort(error)
        elif self.held is not None:
            self.held.failed(error)

    def fail(self, error: SitioError) -> None:
        """Make a response of a failed attempt, so that policies handle both alike."""
        self.failure = error
        self.endAttempt(error)
        self.context.exchangeFailed(error, self)
        response = asResponse(error)
        self.upstreamStatus = response.status
        if self.endpoint is not None and self.repeats(response):
            return
        first = self.chain.firstInterested(self, response)
        if first is not None:
            self._judge(response, first, b"", NO_TRAILERS)
        else:
            self.respond(response, response.body or b"", True)

    # --- Step 7: the response policies

    def _judge(self, response: Response, first: Any, body: bytes, trailers: Any) -> None:
        self.state = _JUDGE[self.state]
        self.held = HeldResponse(self, response, body, trailers)
        if self.connection is not None:
            self.connection.deliverTo(self.held)
        self.held.judge(first)

    def wholeBody(self, response: Response) -> bool | Deferred[bool]:
        """For L{Chain}: put the whole body into this response; see L{HeldResponse}."""
        assert self.held is not None
        return self.held.wholeBody()

    def rest(self, seconds: float) -> None:
        """Wait, then make another attempt."""
        self.state = _RETRY[self.state]
        self.deadline = NEVER
        self._since = self.context.seconds()
        rewind(self, self.upload, self._reached)
        self.wait(deferLater(self.context.clock, seconds), self._rested)

    # --- Step 8: the response goes to the client

    def respond(self, response: Response, body: bytes, ended: bool) -> None:
        """Send the head of this response, and all or the first part of its body."""
        self.state = _RESPOND[self.state]
        filters = None
        if response.filters is not None:
            response, body, ended, filters = beginFiltering(self, response, body, ended)
        self.status = response.status
        if self.route.via is not None:
            addVia(response, self.route.via)
        if self.chain.hasSendPolicies:
            self.chain.responseSending(self, response)
        self.response = response  # Not before: send policies get no more than the head.
        if ended:
            self.bytesOut += self._downstream.sendResponse(response, body, None)
            self.end()
            return
        self.progress()
        self.download = download = Download(self, self._downstream, filters)
        if self.connection is not None:
            self.connection.deliverTo(download)
            # Before the write, which may pause it again.
            self.connection.resume()
        self.bytesOut += self._downstream.sendResponse(response, body, download)

    # --- Step 9: the end

    def progress(self) -> None:
        """Bytes have moved: restart the timeout of this state."""
        timeout = timeoutOf(self)
        if timeout is not None:
            self.deadline = self.context.seconds() + timeout

    def deadlinePassed(self) -> None:
        """The exchange was idle for too long."""
        timeOut(self)

    def clientGone(self) -> None:
        """The client's connection has closed: end the exchange."""
        if self.state is not ENDED and self.state is not TUNNELLING:
            self.addWaitedTime()
            self.failure = ClientGone("the client closed before its response was whole")
            self.status = 499
        self.end()

    def abort(self, error: SitioError | None) -> None:
        """Break the exchange off, so that the client sees an incomplete response."""
        if error is not None:
            self.failure = error
            if self.state is SENDING:
                self.brokeOff = True
                self.context.brokenOff += 1
        if isinstance(error, BadMessage):
            self._downstream.abortExchange()
        else:
            self._downstream.breakOff()
        self.end()

    def end(self) -> None:
        """End the exchange and tell the observers.  Further calls do nothing."""
        state = self.state
        if state is ENDED:
            return
        self.state = _END[state]
        self.duration = self.context.seconds() - self.began
        if self._waiting is not None:
            self.stopWaiting()
        if self.connection is not None:
            # A tunnel's bytes are still flushed.  A request whose client has gone is reset.
            self.connection.close(orderly=state is TUNNELLING)
            self.connection = None
        if self.upload is not None:
            self.upload.close()
        self.upload = self.download = None  # They refer to each other.
        self.context.exchangeFinished(self)
        self._downstream.exchangeEnded()
