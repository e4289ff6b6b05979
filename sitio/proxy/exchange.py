"""
One request's whole life: L{Exchange}.

The only room that knows both halves, and the one that reads downwards as a
request travels (docs/request.md has the numbers):

  3. L{Exchange.begin}: the request policies; one of them may answer.
  4. a connection to the upstream.
  5. the request goes out, its body streams.
  6. the response comes, or a failure that stands for one.
  7. the response policies that are interested; perhaps another attempt.
  8. the response goes to the client.
  9. L{Exchange._end}, whatever came of it.

It knows messages, not bytes: how they are framed is each half's own affair.
"""

from __future__ import annotations

import os
from typing import Any, Protocol as Typing

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.errors import (
    ClientGone,
    Reached,
    RequestTimeout,
    SitioError,
    Stalled,
    Stopped,
    UpstreamTimeout,
)
from sitio.http.failures import asResponse
from sitio.http.grammar import IDEMPOTENT_METHODS
from sitio.http.message import BodyFilter, Request, Response, Retry
from sitio.interfaces import IExchange
from sitio.net.deadlines import NEVER
from sitio.net.splice import MIN_SPLICE_BYTES
from sitio.proxy.context import Sidecar

DECIDING = "deciding whether to let the request in"  # step 3
CONNECTING = "waiting for a connection"  # step 4
ASKED = "waiting for the response"  # steps 5 and 6
JUDGING = "showing the response to policies"  # step 7
RESTING = "waiting before another attempt"  # step 7, a Retry
RELAYING = "relaying the response"  # step 8
TUNNELLING = "relaying another protocol"
ENDED = "ended"  # step 9

_NONE: list[tuple[bytes, bytes]] = []  # Never changed.

#: Methods with which Max-Forwards counts hops (RFC 9110, section 7.6.2).
_HOPPING = frozenset(("OPTIONS", "TRACE"))

#: What a longer Max-Forwards is cut to; Python refuses to read thousands of digits.
MAX_FORWARDS = 999_999_999

#: Fields that a TRACE must not echo (RFC 9110, section 9.3.8).
_SECRET = ("authorization", "cookie", "proxy-authorization")

#: Attempts to have one request answered: a policy that wishes for another each
#: time would hold its client, and an ailing upstream, for ever.
MAX_ATTEMPTS = 10


class Downstream(Typing):
    """What an exchange needs of the server half."""

    deadline: float
    secure: bool
    clientAddress: str

    def forwarded(self, request: Request, shown: bool) -> bytes:
        """The lines to add to this request, or (C{shown}) to its fields instead."""

    def inform(self, response: Response) -> None:
        """Send an interim response."""

    def response(self, response: Response, body: bytes, ended: bool) -> int:
        """Send the head of the response, and all or the first of its body; how much of that."""

    def responseBody(self, data: bytes) -> None:
        """Send more of the body."""

    def sink(self) -> int | None:
        """A descriptor for the rest of the body, or L{None} where it has to come here."""

    def endResponse(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The body was all."""

    def switch(self, response: Response, data: bytes) -> None:
        """Send the head of a 101 and the first bytes of the tunnel."""

    def tunnel(self, data: bytes) -> None:
        """Send bytes of the other protocol."""

    def endTunnel(self) -> None:
        """The upstream sends no more; the client still may."""

    def leave(self) -> None:
        """Close, once what was written has left."""

    def pauseUpload(self) -> None:
        """Read no more of the request."""

    def resumeUpload(self) -> None:
        """Read on."""

    def abort(self) -> None:
        """Break the connection: the client must not take for whole what isn't."""

    def exchangeEnded(self) -> None:
        """The exchange is over, told once."""


@implementer(IExchange)
class Exchange:
    """One request, the attempts to have it answered, and the answer."""

    # What most exchanges never change is not set for each.

    response: Response | None = None
    state = DECIDING
    upstreamStatus: int | None = None
    status: int | None = None
    failure: SitioError | None = None
    #: Whether that has broken the response off, of which the head was on its way.
    brokeOff = False
    attempts = 0
    duration: float | None = None
    upstreamTime = 0.0
    connectTime = 0.0
    policyTime = 0.0
    bytesIn = 0
    bytesOut = 0
    acted: tuple[str, ...] = ()
    answeredBy: str | None = None
    _notes: dict[Any, Any] | None = None
    _client: Any = None
    #: What is waited for, to be cancelled should the client go away.
    _waiting: Deferred[Any] | None = None
    _askedAt = 0.0
    _wantedAt = 0.0
    #: Lines that sitio adds to the head of the request.
    _extra = b""
    _trailers: list[tuple[bytes, bytes]] = _NONE
    _uploadPaused = False
    #: How far this attempt has got.
    _reached = Reached.NOTHING
    #: The response's body as far as it has come before it could be sent.
    _held: list[bytes]
    _heldEnd: list[tuple[bytes, bytes]] | None = None
    _heldFailure: SitioError | None = None
    _whole: Deferred[Any] | None = None
    _tooLong: Response | None = None
    _filters: list[tuple[BodyFilter, bool]] | None = None
    #: Whether one side of a tunnel sends no more.
    _halfEnded = False

    def __init__(self, front: Downstream, request: Request, sidecar: Sidecar) -> None:
        self.request = request
        self.began = sidecar.seconds()
        self._front = front
        self._sidecar = sidecar
        self._chain = sidecar.chain
        # The request's body as far as it has come before it could be sent, whether
        # that is all, and what may be needed to send it again.
        body = request.body
        self._bodyEnded = body is not None
        self._body = body or b""
        self._replay: bytes | None = self._body

    def __repr__(self) -> str:
        return f"<Exchange {self.request!r} {self.state}>"

    @property
    def notes(self) -> dict[Any, Any]:
        """What policies remember about this exchange; made when first asked for."""
        if self._notes is None:
            self._notes = {}
        return self._notes

    @property
    def clientAddress(self) -> str:
        """See L{IExchange}."""
        return self._front.clientAddress

    @property
    def secure(self) -> bool:
        """See L{IExchange}."""
        return self._front.secure

    # --- Step 3: may it come in?

    def begin(self, first: bytes = b"") -> None:
        """The head of the request has come, and this much of a body that streams."""
        request = self.request
        if not self._bodyEnded:
            self._body = first
            # What can't be sent twice is not kept for it.
            self._replay = first if request.line.method in IDEMPOTENT_METHODS else None
        self.bytesIn = len(self._body)
        asks = self._chain.hasRequestPolicies
        self._extra = self._front.forwarded(request, asks)
        if self._sidecar.via is not None:
            version = request.version.encode()
            self._extra += b"Via: %b %b\r\n" % (version, self._sidecar.via)
        if asks:
            self._wait(self._chain.requestReceived(self), self._admitted)
        else:
            self._admitted(None)

    def refuse(self, error: SitioError) -> None:
        """The client is told what keeps its request from an answer; nobody is asked."""
        self.failure = error
        self.answeredBy = None
        response = asResponse(error)
        self._send(response, response.body or b"", True)

    def requestBroke(self, error: SitioError) -> None:
        """What follows the head is no body, or too long a one."""
        if self.state is RELAYING:
            self._abort(error)
        else:
            self.refuse(error)

    def _cancel(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def _wait(self, result: Any, go: Any) -> None:
        """Go on with a result, now or when its Deferred has it."""
        if not isinstance(result, Deferred):
            go(result)
            return
        self._front.deadline = NEVER
        self._waiting = result

        def settled(value: Any) -> None:
            # Else it was cancelled: nobody waits for it any more.
            if self._waiting is result:
                self._waiting = None
                go(value)

        result.addBoth(settled)
        result.addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        # A mistake of sitio's own must not leave a client hanging.
        self._sidecar.log.failure("An exchange broke: {exchange!r}", failure, exchange=self)
        error = SitioError(cause=failure.value)
        if self.state in (RELAYING, TUNNELLING):
            self._abort(error)
        elif self.state is not ENDED:
            self.refuse(error)

    def _admitted(self, answer: Response | None) -> None:
        request = self.request
        if answer is None and request.line.method in _HOPPING:
            answer = self._lastForward()
        if answer is not None:
            if isinstance(answer.failure, SitioError):
                # The policy that was to decide has failed.
                self.failure = answer.failure
            self._send(answer, answer.body or b"", True)
            return
        body = request.body
        if body is not None and (body is not self._body or not self._bodyEnded):
            # A policy has put another in its place; what still comes is dropped.
            self._body = body
            self._replay = body if self._replay is not None else None
            self._trailers = _NONE
            if not self._bodyEnded:
                self._bodyEnded = True
                self._front.resumeUpload()
        self._connect()

    def _lastForward(self) -> Response | None:
        """Max-Forwards (RFC 9110, section 7.6.2): one hop less, or an answer of ours."""
        said = self.request.headers.get("Max-Forwards")
        if said is None or not said.isdecimal():
            return None
        digits = said.lstrip("0")
        if digits:
            left = int(digits) - 1 if len(digits) < 10 else MAX_FORWARDS
            self.request.headers["Max-Forwards"] = str(left)
            return None
        if self.request.method == "OPTIONS":
            return Response(204, headers={"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"})
        lines = [f"TRACE {self.request.target} HTTP/{self.request.version}"]
        lines += [f"{n}: {v}" for n, v in self.request.headers if n.lower() not in _SECRET]
        text = "\r\n".join([*lines, "", ""])
        return Response(body=text.encode("latin-1"), headers={"Content-Type": "message/http"})

    # --- Step 4: a connection

    def _connect(self, fresh: bool = False) -> None:
        self.state = CONNECTING
        self.attempts += 1
        self._reached = Reached.NOTHING
        pool = self._sidecar.pool
        client = None if fresh else pool.take()
        if client is None:
            self._wantedAt = self._sidecar.seconds()
            self._wait(pool.acquire(fresh), self._connected)
        else:
            self._ask(client)

    def _connected(self, result: Any) -> None:
        self.connectTime += self._sidecar.seconds() - self._wantedAt
        if not isinstance(result, Failure):
            self._ask(result)
        elif isinstance(result.value, SitioError):
            self._fail(result.value)
        else:
            self._fail(SitioError("no connection to the upstream", cause=result.value))

    # --- Step 5: the request goes out

    def _ask(self, client: Any) -> None:
        self.state = ASKED
        self._client = client
        self._reached = Reached.SENT
        body, self._body = self._body, b""
        ended = self._bodyEnded
        settings = self._sidecar.settings
        self._askedAt = now = self._sidecar.seconds()
        self._front.deadline = now + (settings.responseTimeout if ended else settings.stallTimeout)
        if not ended:
            # Before it is written, which may pause it again.
            self._front.resumeUpload()
        elif self._trailers:
            ended = False
        client.ask(self, self.request, body, ended, self._extra)
        if self._bodyEnded and not ended:
            client.endRequest(self._trailers)

    def _expect(self) -> None:
        """Set the time in which the next thing has to happen."""
        settings = self._sidecar.settings
        timeout = settings.responseTimeout if self._bodyEnded else settings.stallTimeout
        self._front.deadline = self._sidecar.seconds() + timeout

    def requestBody(self, data: bytes) -> None:
        """More of the request's body has come."""
        self.bytesIn += len(data)
        if self._bodyEnded:
            return
        if self._replay is not None:
            kept = len(self._replay) + len(data) <= self._sidecar.settings.replayLimit
            self._replay = self._replay + data if kept else None
        if self._client is not None:
            self._client.sendBody(data)
            self._uploadMoved()
        elif self.state in (DECIDING, CONNECTING, RESTING):
            self._body += data
            # Not at once: of a client that is not read from, nobody knows that it left.
            if len(self._body) > self._sidecar.settings.replayLimit:
                self._front.pauseUpload()

    def _uploadMoved(self) -> None:
        if self.state is ASKED:
            self._expect()
        elif self.state in (RELAYING, TUNNELLING) or self._whole is not None:
            self._moved()

    def requestEnded(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The request's body has come to its end."""
        if self._bodyEnded:
            return
        self._bodyEnded = True
        self._trailers = trailers
        # A pause was for the sake of the body; what is behind it has its own bound.
        self._uploadPaused = False
        self._front.resumeUpload()
        if self._client is not None:
            self._client.endRequest(trailers)
            if self.state is ASKED:
                self._expect()

    def pauseUpload(self) -> None:
        """The upstream does not keep up with the request's body, or the tunnel."""
        if not self._bodyEnded or self.state is TUNNELLING:
            self._uploadPaused = True
            self._front.pauseUpload()

    def resumeUpload(self) -> None:
        """It has caught up."""
        if not self._bodyEnded or self.state is TUNNELLING:
            self._uploadPaused = False
            self._front.resumeUpload()
            # Bytes have moved; and the client's time to send on begins now.
            self._uploadMoved()

    # --- Step 6: the response comes, or a failure that stands for one

    def informed(self, response: Response) -> None:
        """An interim response: passed on."""
        self._front.inform(response)
        self._expect()

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None:
        """The head of the response has come, and this much of its body with it."""
        self.upstreamTime += self._sidecar.seconds() - self._askedAt
        self.upstreamStatus = status = response.status
        self._reached = Reached.ANSWERED
        if ended:
            self._client = None
        if self._chain.interested[status]:
            if ended and len(body) <= self._sidecar.settings.bufferLimit:
                response.body = body
            first = self._chain.firstInterested(self, response)
            if first is not None:
                self._judge(response, body, ended, first)
                return
        self._send(response, body, ended)

    def upstreamFailed(self, error: SitioError) -> None:
        """No response, or no more of it, will come from this connection."""
        client, self._client = self._client, None
        if self.state is ASKED:
            self._waitedInVain()
            if error.reached <= Reached.SENT and client.asked > 1 and self._repeatable():
                # The upstream closed an idle connection just as it was used.
                self._prepare()
                self._connect(fresh=True)
            else:
                self._fail(error)
        elif self.state is RELAYING:
            self._note(error)
            self._abort(error)
        elif self.state is JUDGING:
            if self._whole is not None:
                whole, self._whole = self._whole, None
                whole.errback(error)
            else:
                self._heldFailure = error

    def _note(self, error: SitioError) -> None:
        self.failure = error
        self._sidecar.failed(error)

    def _fail(self, error: SitioError) -> None:
        """An attempt failed: that is a response too, so policies see one thing."""
        self._note(error)
        response = asResponse(error)
        self.upstreamStatus = response.status
        body = response.body or b""
        first = self._chain.firstInterested(self, response)
        if first is not None:
            self._judge(response, body, True, first)
        else:
            self._send(response, body, True)

    # --- Step 7: what policies make of it

    def _judge(self, response: Response, body: bytes, ended: bool, first: Any) -> None:
        self.state = JUDGING
        self._held = [body]
        self._heldEnd = _NONE if ended else None
        self._heldFailure = None
        result = self._chain.responseReceived(self, response, first)
        if result is response:
            self._passed(response)
        elif isinstance(result, Deferred):
            if self._client is not None and self._whole is None:
                self._client.pause()
            self._wait(result, lambda judged: self._judged(judged, response))
            if self._whole is not None:
                self._moved()
        else:
            self._judged(result, response)

    def wholeBody(self, response: Response) -> Deferred[bool]:
        """
        For L{Chain}: hold the response to its end and put its body into C{response}.

        @return: fires with whether it was within the buffer limit; fails with
            L{UpstreamLost} and the like when it breaks off.
        """
        whole: Deferred[Any] = Deferred()
        limit = self._sidecar.settings.bufferLimit
        if self._heldFailure is not None:
            whole.errback(self._heldFailure)
        elif response is self._tooLong:
            whole.callback(False)
        elif max(response.length or 0, sum(map(len, self._held))) > limit:
            self._tooLongFor(response)
            whole.callback(False)
        elif self._heldEnd is not None:
            response.body = b"".join(self._held)
            whole.callback(True)
        else:
            held, self._held = b"".join(self._held), []
            self._whole = whole
            self._client.resume()
            self._client.buffer(held, limit)
            self._moved()

            def filled(body: bytes | None) -> bool:
                response.body = body
                if body is None:
                    self._tooLongFor(response)
                return body is not None

            whole.addCallback(filled)
        return whole

    def _tooLongFor(self, response: Response) -> None:
        """This response is longer than the buffer: no policy gets it whole."""
        self._tooLong = response
        self._sidecar.tooLong += 1

    def bufferGrew(self) -> None:
        """More of the body that was asked for has come."""
        self._moved()

    def bufferEnded(self, body: bytes | None) -> None:
        """The body that was asked for is whole, or (L{None}) too long to be held."""
        # From here on policies have their own timeout.
        self._front.deadline = NEVER
        whole, self._whole = self._whole, None
        if body is not None:
            self._client = None
            self._held = [body]
            self._heldEnd = []
        if whole is not None:
            whole.callback(body)

    def _judged(self, judged: Any, original: Response) -> None:
        if judged is original:
            self._passed(original)
        elif isinstance(judged, Failure):
            error = judged.value
            if not isinstance(error, SitioError):
                judged.raiseException()
            # The response broke off while it was being buffered: a failed attempt.
            self._leaveUpstream()
            self._fail(error)
        elif isinstance(judged, Retry):
            self._leaveUpstream()
            self._rest(judged.after)
        else:
            self._leaveUpstream()
            self._send(judged, judged.body or b"", True)

    def _passed(self, response: Response) -> None:
        """No policy has put another response in this one's place."""
        if self._heldFailure is not None:
            # The head has not gone out: this can still be said.
            self._fail(self._heldFailure)
        elif response.body is not None:
            # Whole; a policy may have changed it in place, or not waited for it.
            if self._client is not None:
                self._leaveUpstream()
            self._send(response, response.body, True)
        else:
            held, trailers = b"".join(self._held), self._heldEnd
            self._held = []
            self._send(response, held, trailers == [])
            if trailers:
                self.responseEnded(trailers)

    def _leaveUpstream(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.leave()

    def mayRetry(self) -> bool:
        """
        Whether the request can be sent again: this attempt never reached the
        upstream, or the request is idempotent and still held whole; and there
        were not too many already.
        """
        if self.attempts >= MAX_ATTEMPTS:
            return False
        return self._reached is Reached.NOTHING or self._repeatable()

    def _repeatable(self) -> bool:
        return (
            self._bodyEnded
            and self._replay is not None
            # Again, as a policy may have made it another.
            and self.request.method in IDEMPOTENT_METHODS
        )

    def _prepare(self) -> None:
        """Put the request's body back in place, if any of it was sent."""
        if self._reached is not Reached.NOTHING and self._replay is not None:
            self._body = self._replay

    def _rest(self, seconds: float) -> None:
        self.state = RESTING
        self._wantedAt = self._sidecar.seconds()
        self._prepare()
        rest: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._sidecar.clock.callLater(seconds, rest.callback, None)
        self._wait(rest, self._rested)

    def _rested(self, result: None) -> None:
        self.policyTime += self._sidecar.seconds() - self._wantedAt
        self._connect()

    # --- Step 8: the response goes to the client

    def _send(self, response: Response, body: bytes, ended: bool) -> None:
        self.state = RELAYING
        self.response = response
        self.status = response.status
        if self._sidecar.via is not None:
            response.headers.add("Via", f"{response.version} {self._sidecar.via.decode()}")
        if response.filters is not None:
            self._filters = response.filters
            if body:
                body = self._filter(body)
            if ended and self.state is RELAYING:
                body += self._filter(b"")
            if self.state is not RELAYING:
                return
        if not ended:
            self._moved()
            if self._client is not None:
                # Before it is written, which may pause it again.
                self._client.resume()
        self.bytesOut += self._front.response(response, body, ended)
        if ended:
            self._end()

    def _filter(self, data: bytes) -> bytes:
        filters = self._filters or []
        for each in list(filters):
            bodyFilter, keepsLength = each
            try:
                filtered = bodyFilter(data)
                if not isinstance(filtered, bytes):
                    raise TypeError(f"it gave no bytes: {type(filtered).__name__}")
                if keepsLength and len(filtered) != len(data):
                    raise ValueError("it did not keep the length as it promised")
            except Exception as cause:
                error = SitioError("a body filter failed", cause=cause)
                self._sidecar.failed(error)
                if not keepsLength:
                    self._abort(error)
                    return b""
                filters.remove(each)
            else:
                data = filtered
        return data

    def _moved(self) -> None:
        settings = self._sidecar.settings
        timeout = settings.tunnelTimeout if self.state is TUNNELLING else settings.stallTimeout
        self._front.deadline = self._sidecar.seconds() + timeout

    def responseBody(self, data: bytes) -> None:
        """More of the response's body has come."""
        if self.state is JUDGING:
            self._held.append(data)
            if self._client is not None:
                self._client.pause()
        elif self.state is RELAYING:
            if self._filters:
                data = self._filter(data)
                if self.state is not RELAYING:
                    return
            if data:
                self.bytesOut += len(data)
                self._front.responseBody(data)
            self._moved()
            client = self._client
            if client is not None and not self._filters and client.left >= MIN_SPLICE_BYTES:
                self._splice(client)

    def _splice(self, client: Any) -> None:
        """Nobody looks at what is still to come: it needn't come by here."""
        sink = self._front.sink()
        if sink is not None and not client.splice(sink):
            os.close(sink)

    def spliced(self, size: int) -> None:
        """So much of the body has gone to the client."""
        self.bytesOut += size
        self._moved()

    def sinkLost(self) -> None:
        """The client's connection has failed, as the kernel noticed first."""
        self._front.abort()
        self.clientGone()

    def responseEnded(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The response's body has come to its end, and its connection is let go of."""
        self._client = None
        if self.state is JUDGING:
            self._heldEnd = trailers
        elif self.state is RELAYING:
            if self._filters:
                last = self._filter(b"")
                if self.state is not RELAYING:
                    return
                if last:
                    self.bytesOut += len(last)
                    self._front.responseBody(last)
            self._front.endResponse(trailers)
            self._end()

    def pauseResponse(self) -> None:
        """The client does not keep up with the response, or the tunnel."""
        if self._client is not None and self.state in (RELAYING, TUNNELLING):
            self._client.pause()

    def resumeResponse(self) -> None:
        """It has caught up."""
        if self._client is not None and self.state in (RELAYING, TUNNELLING):
            self._client.resume()
            self._moved()

    # --- A tunnel instead of a response (RFC 9110, section 7.8)

    def switched(self, response: Response, data: bytes) -> None:
        """The upstream has switched protocols; so does the client."""
        self.upstreamTime += self._sidecar.seconds() - self._askedAt
        self.upstreamStatus = self.status = response.status
        self.response = response
        self.state = TUNNELLING
        self._moved()
        self.bytesOut += len(data)
        self._front.switch(response, data)

    def tunnelSent(self, data: bytes) -> None:
        """Bytes have come from the client."""
        if self._client is not None:
            self.bytesIn += len(data)
            self._moved()
            self._client.tunnel(data)

    def tunnelReceived(self, data: bytes) -> None:
        """Bytes have come from the upstream."""
        self.bytesOut += len(data)
        self._moved()
        self._front.tunnel(data)

    def clientEndedTunnel(self) -> None:
        """The client sends no more; the upstream still may."""
        if self._client is not None:
            self._client.endTunnel()
            self._tunnelHalfEnded()

    def tunnelEnded(self) -> None:
        """The upstream sends no more; the client still may."""
        self._front.endTunnel()
        self._tunnelHalfEnded()

    def _tunnelHalfEnded(self) -> None:
        # Transports whose halves have both ended close only when they are told to.
        if self._halfEnded:
            self._front.leave()
            self._end()
        self._halfEnded = True

    def tunnelLost(self) -> None:
        """The connection to the upstream has gone altogether."""
        self._client = None
        self._front.leave()
        self._end()

    # --- Step 9: the end

    def clientGone(self) -> None:
        """The client has closed: nobody waits for this any more."""
        if self.state is TUNNELLING:
            self._end()
        elif self.state is not ENDED:
            self._waitedInVain()
            self.failure = ClientGone("the client closed before its response was whole")
            self.status = 499
            self._end()

    def _waitedInVain(self) -> None:
        """What is waited for will not come; how long that was is known all the same."""
        now = self._sidecar.seconds()
        if self.state is ASKED:
            self.upstreamTime += now - self._askedAt
        elif self.state is CONNECTING:
            self.connectTime += now - self._wantedAt
        elif self.state is RESTING:
            self.policyTime += now - self._wantedAt

    def stopped(self) -> None:
        """sitio does not wait for this any longer: not the client's doing."""
        self._waitedInVain()
        self._abort(Stopped("sitio stopped before this exchange had ended"))

    def timedOut(self) -> None:
        """What had to happen in time has not."""
        settings = self._sidecar.settings
        if self.state is ASKED and not self._bodyEnded and not self._uploadPaused:
            late = f"no byte of the request's body in {settings.stallTimeout:g} seconds"
            self.refuse(RequestTimeout(late))
        elif self.state is ASKED:
            self._leaveUpstream()
            self._waitedInVain()
            timeout = settings.responseTimeout if self._bodyEnded else settings.stallTimeout
            self._fail(UpstreamTimeout(f"no response in {timeout:g} seconds", Reached.SENT))
        elif self.state is JUDGING and self._whole is not None:
            self._leaveUpstream()
            self.upstreamFailed(
                UpstreamTimeout(
                    f"no byte of the response's body in {settings.stallTimeout:g} seconds",
                    Reached.ANSWERED,
                )
            )
        elif self.state is TUNNELLING:
            self._abort(None)
        elif self.state is not ENDED:
            self._abort(Stalled(f"no byte moved in {settings.stallTimeout:g} seconds"))

    def _abort(self, error: SitioError | None) -> None:
        if error is not None:
            self.failure = error
            if self.state is RELAYING:
                self.brokeOff = True
                self._sidecar.brokenOff += 1
        self._front.abort()
        self._end()

    def _end(self) -> None:
        if self.state is ENDED:
            return
        self.state = ENDED
        self.duration = self._sidecar.seconds() - self.began
        if self._waiting is not None:
            self._cancel()
        client = self._client
        if client is not None:
            self._client = None
            # What a tunnel was sent still leaves; a request nobody waits for ends.
            client.close(orderly=self.status == 101)
        self._chain.exchangeFinished(self)
        self._front.exchangeEnded()
