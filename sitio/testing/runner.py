"""
Runs policies in memory: L{runPolicy} and L{Runner}.
"""

from __future__ import annotations

import json as _json
from collections import deque
from typing import Any

from attrs import frozen
from twisted.application.service import IService
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger
from twisted.python.failure import Failure

from sitio.errors import Side
from sitio.http import codec, framing
from sitio.http.message import Headers, Request, Response
from sitio.proxy.exchange import Exchange
from sitio.settings import Settings
from sitio.testing.harness import Harness, nextCall
from sitio.testing.network import (
    CLIENT_ADDRESS,
    MemoryEndpoint,
    Peer,
    readRequests,
)

#: Seconds of the clock after which L{Runner.run} gives up: longer than any wait
#: of sitio's own, so that it is only met when something hangs.
PATIENCE = 3600.0


def request(
    target: str = "/",
    method: str = "GET",
    headers: Any = (),
    *,
    body: bytes | None = None,
    json: Any = None,
    version: str = "1.1",
) -> Request:
    """
    A request as a client makes it, with C{Host: localhost} unless the headers have one.

    @param json: something to be sent as JSON, with its Content-Type.
    """
    fields = Headers(headers)
    if "host" not in fields and version == "1.1":
        fields.fields.insert(0, (b"Host", b"localhost"))
    if json is not None:
        body = _json.dumps(json).encode()
        if "content-type" not in fields:
            fields.add("Content-Type", "application/json")
    made = Request(method, target, fields, version, body or b"")
    # Checked as they are set.
    made.method, made.target = method, target
    if body is not None:
        made.length = len(body)
    return made


@frozen
class Mishap:
    """What happens to an attempt instead of a response; C{response} is begun and not ended."""

    name: str
    response: Response | None = None


def response(status: int = 200, **contents: Any) -> Response:
    """What the upstream answers; further arguments as L{Response} takes them."""
    return Response(status, **contents)


def refused() -> Mishap:
    """The upstream refuses the connection."""
    return Mishap("refused")


def reset() -> Mishap:
    """The upstream takes the request and breaks the connection."""
    return Mishap("reset")


def silence() -> Mishap:
    """The upstream takes the request and never answers."""
    return Mishap("silence")


def brokenOff(response: Response) -> Mishap:
    """The upstream breaks the connection in the middle of this response's body."""
    if not response.body:
        raise ValueError("a response that is to be broken off needs a body")
    return Mishap("brokenOff", response)


@frozen
class Outcome:
    """
    What came of a request.

    @ivar status: what the client got; L{None} if the connection broke before a response.
    @ivar whole: whether the response came to its end.
    @ivar attempts: how often the upstream was asked, refused connections included.
    @ivar requests: the requests that reached it, as it got them.
    @ivar exchange: the L{IExchange<sitio.interfaces.IExchange>}, ended.
    @ivar errors: what policies raised, see L{Runner.run}.
    """

    status: int | None
    reason: str
    headers: Headers
    body: bytes
    whole: bool
    attempts: int
    requests: list[Request]
    exchange: Exchange
    errors: list[BaseException]

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """What the body says in JSON."""
        return _json.loads(self.body)


class Runner:
    """
    A sidecar that is kept from one request to the next.

    As a context manager it starts those policies that are services, and stops
    them at the end.

    @ivar harness: the L{Harness} underneath.
    @ivar clock: its L{Clock}.
    """

    def __init__(
        self, policy: Any, *, settings: Settings | None = None, clock: Clock | None = None
    ) -> None:
        """
        @param policy: a policy, a description such as C{error-page:404}, a pair
            of a name and a policy, or a list of these.
        @param clock: for policies that were made with one.
        """
        self.harness = Harness(policy, settings=settings, clock=clock)
        self.clock = self.harness.clock
        self.policies = self.harness.context.chain.policies
        self._broken: list[BaseException] = []
        # What is raised is raised again or listed, and need not be logged as well.
        logged: Any = self._logged
        self.harness.context.log = Logger(observer=logged)
        self.harness.context.chain.log = Logger(observer=lambda event: None)  # type: ignore[arg-type]
        for each in self.policies:
            if callable(getattr(each, "seconds", None)):
                each.seconds = self.clock.seconds

    def __enter__(self) -> Runner:
        for each in self._services():
            each.privilegedStartService()
            each.startService()
        return self

    def __exit__(self, *details: object) -> None:
        failures: list[Failure] = []
        for each in self._services():
            maybeDeferred(each.stopService).addErrback(failures.append)
        self.harness.settle()
        for failure in failures:
            failure.raiseException()

    def _logged(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self._broken.append(event["log_failure"].value)

    def _services(self) -> list[IService]:
        return [IService(each) for each in self.policies if IService.providedBy(each)]

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.harness.advance(seconds)

    def run(
        self,
        request: Request,
        *responses: Response | Mishap,
        clientAddress: str = CLIENT_ADDRESS,
        secure: bool = False,
        pieces: int | None = None,
        contained: bool = False,
    ) -> Outcome:
        """
        Send a request, and let the upstream answer each attempt in turn.

        @param responses: one for each attempt, the last one for all that follow;
            a plain 200 if there is none.
        @param secure: whether the client comes by TLS.
        @param pieces: bytes in which bodies arrive, one after the other; L{None}
            for all at once, together with their heads.
        @param contained: contain what policies raise, as C{twistd sitio} does,
            and list it in L{Outcome.errors}.  Otherwise it is raised here.

        @raise AssertionError: the exchange has not ended after an hour of the clock.
        """
        harness = self.harness
        for each in (harness.errors, harness.failures, harness.exchanges):
            del each[:]
        upstream = _Upstream(harness.endpoint, responses or (response(),), pieces)
        client = harness.connect(clientAddress, secure)
        client.sends(*_cut(*_wireRequest(request), pieces))
        self._untilEnded(upstream)
        harness.settle()
        exchange = harness.exchanges[0]
        got, whole = _readResponse(client, request.method)
        outcome = Outcome(
            status=got.status if got else None,
            reason=got.reason if got else "",
            headers=got.headers if got else Headers(),
            body=(got and got.body) or b"",
            whole=whole,
            attempts=upstream.attempts,
            requests=upstream.requests,
            exchange=exchange,
            errors=self._errors(),
        )
        harness.closeAll()
        del harness.clients[:], harness.endpoint.peers[:]
        if outcome.errors and not contained:
            raise outcome.errors[0]
        return outcome

    def _untilEnded(self, upstream: _Upstream) -> None:
        harness = self.harness
        givesUp = self.clock.seconds() + PATIENCE
        while True:
            harness.settle()
            if harness.exchanges:
                return
            if not upstream.answer():
                due = nextCall(self.clock)
                if due is None or due > givesUp:
                    raise AssertionError("the exchange does not end: what does a policy wait for?")
                self.clock.advance(max(0.0, due - self.clock.seconds()))

    def _errors(self) -> list[BaseException]:
        """What policies raised, and their body filters, and what the core could not bear."""
        harness = self.harness
        filters = [
            each.cause
            for each in harness.failures
            if each.side is Side.SITIO and each.cause is not None
        ]
        broken, self._broken = self._broken, []
        return [*harness.errors, *filters, *broken]


class _Upstream:
    """Answers each attempt with what it was told to."""

    def __init__(
        self, endpoint: MemoryEndpoint, responses: tuple[Response | Mishap, ...], pieces: int | None
    ) -> None:
        self.attempts = 0
        self.requests: list[Request] = []
        self._endpoint = endpoint
        self._endpoint.verdict = None
        self._responses = deque(responses)
        self._pieces = pieces
        self._open: list[tuple[Peer, Response | Mishap]] = []
        self._data: dict[Peer, bytes] = {}

    def answer(self) -> bool:
        """Do what can be done; whether that was anything."""
        if self._endpoint.pending:
            self._decide()
            return True
        for each in self._open:
            if self._read(each[0]):
                self._open.remove(each)
                self._response(*each)
                return True
        return False

    def _decide(self) -> None:
        self.attempts += 1
        answer = self._responses.popleft() if len(self._responses) > 1 else self._responses[0]
        if isinstance(answer, Mishap) and answer.name == "refused":
            self._endpoint.refuse()
        else:
            self._endpoint.accept()
            self._open.append((self._endpoint.peers[-1], answer))

    def _read(self, peer: Peer) -> bool:
        """Whether the whole request has come."""
        data = self._data[peer] = self._data.get(peer, b"") + peer.got()
        try:
            self.requests += readRequests(data)
        except AssertionError:
            return False
        return bool(data)

    def _response(self, peer: Peer, answer: Response | Mishap) -> None:
        if isinstance(answer, Response):
            peer.sends(*_cut(*_wireResponse(answer, self.requests[-1].method), self._pieces))
            peer.closes()
        elif answer.name != "silence":
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
    if size is None:
        return [head + body]
    return [head, *(body[start : start + size] for start in range(0, len(body), size))]


def _readResponse(client: Peer, method: str) -> tuple[Response | None, bool]:
    """The last response that a client got, if any, and whether it is whole."""
    reader = codec.ResponseReader(framing.Limits(head=1024 * 1024, fields=10_000))
    reader.expect(method)
    reader.receive(client.got())
    response = reader.nextHead()
    while response is not None and reader.state is framing.HEAD:
        response = reader.nextHead()
    if response is not None:
        response.body = reader.nextBody()
    untilClose = reader.state is framing.UNTIL_CLOSE and client.closed
    return response, untilClose or reader.state in (framing.ENDED, framing.TUNNEL)


def runPolicy(policy: Any, request: Request, *responses: Response | Mishap, **how: Any) -> Outcome:
    """
    Show one request to a policy, in a sidecar of its own.

    The parameters are those of L{Runner} and L{Runner.run}.
    """
    settings, clock = how.pop("settings", None), how.pop("clock", None)
    with Runner(policy, settings=settings, clock=clock) as runner:
        return runner.run(request, *responses, **how)
