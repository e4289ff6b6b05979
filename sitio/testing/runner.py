"""
Runs policies in memory: L{runPolicy} and L{Runner}.
"""

from __future__ import annotations

import json as _json
from collections import deque
from enum import Enum
from typing import Any

from attrs import frozen
from twisted.application.service import IService
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger
from twisted.trial.unittest import FailTest

from sitio.errors import Side
from sitio.http import codec, framing
from sitio.http.headers import FieldsLike
from sitio.http.limits import Limits
from sitio.http.message import Headers, Request, Response
from sitio.http.peer import PeerCertificate
from sitio.policy.services import PolicyServices
from sitio.settings import Settings
from sitio.testing.harness import Harness, nextCall
from sitio.testing.messages import readRequests
from sitio.testing.network import (
    CLIENT_ADDRESS,
    MemoryEndpoint,
    Peer,
)
from sitio.testing.outcomes import Outcome

#: Seconds on the clock after which L{Runner.run} raises: longer than any wait of sitio.
MAX_WAIT_SECONDS = 3600.0

#: Pieces of a body, where a test doesn't say how it arrives.
PIECES = 3


def request(
    target: str = "/",
    method: str = "GET",
    headers: FieldsLike = (),
    *,
    body: bytes | None = None,
    json: Any = None,
    version: str = "1.1",
) -> Request:
    """
    A request of a client, with C{Host: localhost} unless C{headers} has a Host.

    @param target: path and query, percent-encoded.
    @param headers: a mapping, or pairs, of names and values.
    @param json: a value to send as JSON, with its Content-Type.
    @param version: C{"1.1"} or C{"1.0"}.

    @raise ValueError: a method, a target, a field or a version that can't be sent, or both
        C{body} and C{json}.
    """
    if body is not None and json is not None:
        raise ValueError("give a request only one of body and json")
    if version not in ("1.0", "1.1"):
        raise ValueError(f"a client of the kit speaks HTTP/1.1 or HTTP/1.0, not HTTP/{version}")
    fields = Headers(headers)
    if "host" not in fields and version == "1.1":
        fields = Headers([("Host", "localhost"), *fields.allItems()])
    if json is not None:
        body = _json.dumps(json).encode()
        if "content-type" not in fields:
            fields.add("Content-Type", "application/json")
    made = Request(method, target, fields, version, body or b"")
    # The setters validate.
    made.method, made.target = method, target
    if body is not None:
        made.length = len(body)
    return made


class Failing(Enum):
    """How an attempt fails."""

    REFUSED = "the connection is refused"
    RESET = "the connection is reset"
    SILENT = "there is no response"


@frozen
class UpstreamFailure:
    """
    A failure of the upstream, in place of a response.

    @ivar response: a response whose head and half of whose body are sent first, or L{None}.
    """

    how: Failing
    response: Response | None = None


#: What the upstream does in one attempt.
UpstreamAnswer = Response | UpstreamFailure


def response(
    status: int = 200,
    *,
    body: bytes | None = None,
    text: str | None = None,
    html: str | None = None,
    json: Any = None,
    headers: Headers | FieldsLike = (),
    reason: str | None = None,
) -> Response:
    """A response of the upstream; the parameters are those of L{Response}."""
    return Response(
        status, body=body, text=text, html=html, json=json, headers=headers, reason=reason
    )


def connectionRefused() -> UpstreamFailure:
    """The upstream refuses the connection."""
    return UpstreamFailure(Failing.REFUSED)


def connectionReset() -> UpstreamFailure:
    """The upstream reads the request, and resets the connection."""
    return UpstreamFailure(Failing.RESET)


def noResponse() -> UpstreamFailure:
    """The upstream reads the request, and does not answer."""
    return UpstreamFailure(Failing.SILENT)


def incompleteResponse(response: Response) -> UpstreamFailure:
    """
    The upstream sends half of the response's body, and resets the connection.

    @raise ValueError: the response has no body.
    """
    if not response.body:
        raise ValueError("an incomplete response needs a body")
    return UpstreamFailure(Failing.RESET, response)


class Runner:
    """
    A proxy that is kept for many requests.

    As a context manager it starts the policies that are services, and stops them at the end.

    @ivar harness: the L{Harness} that it uses.
    @ivar clock: the L{Clock<twisted.internet.task.Clock>} of the proxy.
    @ivar policies: the policies, in order.
    """

    def __init__(
        self, policy: Any, *, settings: Settings | None = None, clock: Clock | None = None
    ) -> None:
        """
        @param policy: a policy, a description such as C{error-page:404}, a pair of a name
            and a policy, or a list of these.
        @param settings: limits and timeouts, by default those of C{twistd sitio}.
        @param clock: the clock to use, for policies that were made with one.

        @raise ValueError: something is not a policy, or a description is wrong.
        """
        self.harness = Harness(policy, settings=settings, clock=clock)
        self.clock = self.harness.clock
        self.policies = self.harness.context.chain.policies
        self._broken: list[BaseException] = []
        # Errors are raised or listed by run, so they are not logged.
        logged: Any = self._logged
        self.harness.context.log = Logger(observer=logged)
        self._services = PolicyServices(self.clock, Logger(observer=logged))
        self.harness.context.chain.log = Logger(observer=lambda event: None)  # type: ignore[arg-type]
        for each in self.policies:
            if callable(getattr(each, "seconds", None)):
                each.seconds = self.clock.seconds

    def __enter__(self) -> Runner:
        self._services.services = [
            IService(each) for each in self.policies if IService.providedBy(each)
        ]
        with self.harness.loop.running():
            self._services.privilegedStartService()
            self._services.startService()
        self.harness.settle()
        self._raiseBroken()
        return self

    def __exit__(self, *details: object) -> None:
        with self.harness.loop.running():
            stopped = self._services.stopService()
        self.harness.settle()
        # Each service has a few seconds.
        while not stopped.called and (due := nextCall(self.clock)) is not None:
            self.clock.advance(max(0.0, due - self.clock.seconds()))
        self._raiseBroken()

    def _raiseBroken(self) -> None:
        """Raise the first error of a service."""
        broken, self._broken = self._broken, []
        for each in broken:
            raise each

    def _logged(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self._broken.append(event["log_failure"].value)

    def advance(self, seconds: float) -> None:
        """Move the clock, and run what is due."""
        self.harness.advance(seconds)

    def run(
        self,
        request: Request,
        *responses: UpstreamAnswer,
        clientAddress: str = CLIENT_ADDRESS,
        secure: bool = False,
        certificate: PeerCertificate | None = None,
        pieces: int | None = None,
        raiseErrors: bool = True,
        leavesAfter: float | None = None,
    ) -> Outcome:
        """
        Send a request through the proxy, and let the upstream answer.

        @param responses: the responses or failures of the upstream: one for each attempt,
            the last one for all later attempts.  Without any it is an empty 200.
        @param clientAddress: the IP address of the client.
        @param secure: whether the client uses TLS.
        @param certificate: what a client with TLS says of itself: C{exchange.peer}.
        @param pieces: bodies arrive in pieces of so many bytes, after their head; C{0} for a
            body that arrives together with its head.  By default a body comes in up to three
            pieces, as it may from a network.
        @param raiseErrors: whether to raise the first error of a policy.  Otherwise errors
            are contained, as by C{twistd sitio}, and listed in C{Outcome.errors}.
        @param leavesAfter: seconds after which the client resets its connection, unless the
            exchange has ended before.  By default it stays.

        @raise AssertionError: the exchange did not end within an hour on the clock.
        @raise TypeError: an argument is no request, or no response or failure.
        @raise ValueError: C{pieces} is negative.
        """
        _check(request, responses, pieces)
        harness = self.harness
        for each in (harness.errors, harness.failures, harness.exchanges):
            del each[:]
        upstream = _Upstream(harness.endpoint, responses or (response(),), pieces)
        client = harness.connect(clientAddress, secure or certificate is not None, certificate)
        client.sends(*_cut(*_wireRequest(request), pieces))
        leaving = None if leavesAfter is None else self.clock.callLater(leavesAfter, client.resets)
        self._untilEnded(upstream)
        if leaving is not None and leaving.active():
            leaving.cancel()
        harness.settle()
        got, whole = _readResponse(client, request.method)
        outcome = Outcome(
            status=got.status if got else None,
            reason=got.reason if got else "",
            headers=got.headers if got else Headers(),
            body=(got and got.body) or b"",
            whole=whole,
            attempts=upstream.attempts,
            requests=upstream.requests,
            exchange=harness.exchanges[0],
            errors=self._errors(),
        )
        harness.closeAll()
        del harness.clients[:], harness.endpoint.peers[:]
        if outcome.errors and raiseErrors:
            raise outcome.errors[0]
        return outcome

    def _untilEnded(self, upstream: _Upstream) -> None:
        harness = self.harness
        givesUp = self.clock.seconds() + MAX_WAIT_SECONDS
        while True:
            harness.settle()
            if harness.exchanges:
                return
            if not upstream.answer():
                due = nextCall(self.clock)
                if due is None or due > givesUp:
                    raise FailTest("the exchange does not end: a policy waits for ever")
                self.clock.advance(max(0.0, due - self.clock.seconds()))

    def _errors(self) -> list[BaseException]:
        """The exceptions of policies and filters, and failures of sitio itself."""
        harness = self.harness
        filters = [
            each.cause
            for each in harness.failures
            if each.side is Side.SITIO and each.cause is not None
        ]
        broken, self._broken = self._broken, []
        errors = [*harness.errors, *filters, *broken]
        # The failure of a filter is the policy's and the exchange's.
        return list({id(each): each for each in errors}.values())


def _check(request: object, responses: tuple[object, ...], pieces: int | None) -> None:
    """Raise a sentence for arguments that L{Runner.run} does not take."""
    if not isinstance(request, Request):
        raise TypeError(f'write request("/x") before the responses, not {request!r}')
    for each in responses:
        if not isinstance(each, UpstreamAnswer):
            raise TypeError(
                "the upstream answers with response(...), or with a failure such as"
                f" connectionRefused(), not with {each!r}"
            )
    if pieces is not None and pieces < 0:
        raise ValueError(f"pieces={pieces}: write a number of bytes, or 0 for a body with its head")


class _Upstream:
    """
    The upstream: answers each attempt with the next response.

    @ivar attempts: connections accepted or refused.
    @ivar requests: complete requests.
    """

    def __init__(
        self,
        endpoint: MemoryEndpoint,
        responses: tuple[UpstreamAnswer, ...],
        pieces: int | None,
    ) -> None:
        self.attempts = 0
        self.requests: list[Request] = []
        self._endpoint = endpoint
        self._endpoint.decision = None
        self._responses = deque(responses)
        self._pieces = pieces
        self._open: list[tuple[Peer, UpstreamAnswer]] = []
        self._data: dict[Peer, bytes] = {}

    def answer(self) -> bool:
        """Accept or refuse a connection, or answer a request; return whether there was one."""
        if self._endpoint.pending:
            self._decide()
            return True
        for each in self._open:
            if self._read(each[0]):
                self._open.remove(each)
                self._respond(*each)
                return True
        return False

    def _decide(self) -> None:
        self.attempts += 1
        answer = self._responses.popleft() if len(self._responses) > 1 else self._responses[0]
        if isinstance(answer, UpstreamFailure) and answer.how is Failing.REFUSED:
            self._endpoint.refuse()
        else:
            self._endpoint.accept()
            self._open.append((self._endpoint.peers[-1], answer))

    def _read(self, peer: Peer) -> bool:
        """Whether the whole request has arrived."""
        data = self._data[peer] = self._data.get(peer, b"") + peer.got()
        try:
            self.requests += readRequests(data)
        except AssertionError:
            return False
        return bool(data)

    def _respond(self, peer: Peer, answer: UpstreamAnswer) -> None:
        if isinstance(answer, Response):
            peer.sends(*_cut(*_wireResponse(answer, self.requests[-1].method), self._pieces))
            peer.closes()
        elif answer.how is Failing.RESET:
            if answer.response is not None:
                head, body = _wireResponse(answer.response, self.requests[-1].method)
                peer.sends(*_cut(head, body[: len(body) // 2], self._pieces))
            peer.resets()


def _wireRequest(request: Request) -> tuple[bytes, bytes]:
    body = request.body or b""
    length = len(body) if body or request.length is not None else None
    head = codec.requestHead(request, length)
    return head.replace(b" HTTP/1.1\r\n", f" HTTP/{request.version}\r\n".encode(), 1), body


def _wireResponse(response: Response, method: str) -> tuple[bytes, bytes]:
    body = response.body or b""
    length = None if response.status in (204, 304) else len(body)
    head = codec.responseHead(response, length, extra=b"Connection: close\r\n")
    return head, b"" if method == "HEAD" or length is None else body


def _cut(head: bytes, body: bytes, size: int | None) -> list[bytes]:
    if size == 0:
        return [head + body]
    step = size or -(-len(body) // PIECES) or 1
    return [head, *(body[start : start + step] for start in range(0, len(body), step))]


def _readResponse(client: Peer, method: str) -> tuple[Response | None, bool]:
    """The last response that a client got, if any, and whether it is complete."""
    reader = codec.ResponseReader(Limits(head=1024 * 1024, fields=10_000))
    reader.expect(method)
    reader.receive(client.got())
    response = reader.nextHead()
    while response is not None and reader.state is framing.HEAD:
        response = reader.nextHead()
    if response is not None:
        response.body = reader.nextBody()
    untilClose = reader.state is framing.UNTIL_CLOSE and client.closed
    return response, untilClose or reader.state in (framing.ENDED, framing.TUNNEL)


def runPolicy(
    policy: Any,
    request: Request,
    *responses: UpstreamAnswer,
    settings: Settings | None = None,
    clock: Clock | None = None,
    clientAddress: str = CLIENT_ADDRESS,
    secure: bool = False,
    certificate: PeerCertificate | None = None,
    pieces: int | None = None,
    raiseErrors: bool = True,
    leavesAfter: float | None = None,
) -> Outcome:
    """
    Send one request through a policy, in a new proxy.

    The parameters, and what it raises, are those of L{Runner} and L{Runner.run}.
    """
    with Runner(policy, settings=settings, clock=clock) as runner:
        return runner.run(
            request,
            *responses,
            clientAddress=clientAddress,
            secure=secure,
            certificate=certificate,
            pieces=pieces,
            raiseErrors=raiseErrors,
            leavesAfter=leavesAfter,
        )
