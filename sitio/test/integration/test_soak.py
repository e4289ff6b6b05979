"""
sitio's first promise under random load: no client gets another's bytes, and nothing is
left at the end.

Two clients, each with several connections, pipeline all kinds of requests into a small
pool, while clients and service disconnect at random.  Each message consists of bytes that
belong to one client only, and its receiver checks them all.  C{SITIO_SOAK_SECONDS} sets
the duration, C{SITIO_SOAK_SEED} the random numbers.
"""

from __future__ import annotations

import gc
import os
import random
import re
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from sitio import Response, Retry, onFinish, onResponse
from sitio.interfaces import ISelectivePolicy
from sitio.service import SidecarService
from sitio.settings import Settings
from sitio.test.helpers.loopback import (
    LOCALHOST,
    Client,
    LoopbackTestCase,
    ServerConnection,
    Upstream,
    descriptorsOf,
    reactor,
)

SECONDS = float(os.environ.get("SITIO_SOAK_SECONDS", "3"))
SEED = int(os.environ.get("SITIO_SOAK_SEED", random.randrange(1_000_000)))

NAMES = ("alice", "bob")

#: Concurrent connections of each client.
CONNECTIONS = 8

#: Size of the pool: less than that, so that connections are shared and waited for.
POOL = 5

#: Bytes of the longest body, beyond what the transports of one connection hold.
LARGE = 200_000

#: The service sends this unasked: no client may ever see it.
UNASKED = b"[nobody/0]"


class Parser:
    """
    Parses messages without the code of sitio.

    @param bodiless: whether the message with this first line has no body.
    @param toClose: whether a body without framing ends with the connection.
    """

    def __init__(self, bodiless: Callable[[bytes], bool], toClose: bool) -> None:
        self.held = b""
        self._bodiless = bodiless
        self._toClose = toClose

    def next(self, closed: bool = False) -> tuple[bytes, dict[bytes, bytes], bytes] | None:
        """First line, fields and body of the next message, or L{None} if it is not complete."""
        head, end, rest = self.held.partition(b"\r\n\r\n")
        if not end:
            return None
        line, *lines = head.split(b"\r\n")
        fields = {name.lower(): value for name, value in (each.split(b": ", 1) for each in lines)}
        body: bytes | None = b""
        if self._bodiless(line):
            pass
        elif b"transfer-encoding" in fields:
            body, rest = self._chunks(rest)
        elif b"content-length" in fields:
            length = int(fields[b"content-length"])
            body = rest[:length] if len(rest) >= length else None
            rest = rest[length:]
        elif self._toClose:
            body, rest = (rest, b"") if closed else (None, b"")
        if body is None:
            return None
        self.held = rest
        return line, fields, body

    def _chunks(self, rest: bytes) -> tuple[bytes | None, bytes]:
        pieces: list[bytes] = []
        while True:
            size, end, rest = rest.partition(b"\r\n")
            length = int(size, 16) if end else 0
            if not end or len(rest) < length + 2:
                return None, b""
            assert rest[length : length + 2] == b"\r\n", rest[:100]
            if not length:
                return b"".join(pieces), rest[2:]
            pieces.append(rest[:length])
            rest = rest[length + 2 :]


def chunked(dice: random.Random, body: bytes) -> bytes:
    """Encode a body in chunks of random sizes."""
    pieces = []
    while body:
        size = dice.randint(1, len(body))
        pieces.append(b"%x\r\n%b\r\n" % (size, body[:size]))
        body = body[size:]
    return b"".join([*pieces, b"0\r\n\r\n"])


class Service(Upstream):
    """
    Answers requests with bytes that only their client may see, or breaks off.

    @ivar wrong: called with a sentence for each error.
    """

    def __init__(self, dice: random.Random, tell: Callable[[str], None]) -> None:
        Upstream.__init__(self, lambda script: Served(script, dice, self.wrong, self.posts).begin())
        self.posts: Counter[bytes] = Counter()
        self.wrong = tell


class Served:
    """One connection of the service."""

    #: What may happen to a request, and how often.
    PLANS: ClassVar[dict[str, int]] = {
        "answer": 70,
        "answer to the close": 5,
        "answer and close": 4,
        "answer and more": 3,
        "answer early": 10,
        "refuse": 8,
        "close": 3,
        "break": 3,
        "break within": 8,
    }

    def __init__(
        self,
        script: ServerConnection,
        dice: random.Random,
        wrong: Callable[[str], None],
        posts: Counter[bytes],
    ) -> None:
        self._script = script
        self._dice = dice
        self._wrong = wrong
        self._posts = posts
        self._parser = Parser(lambda line: False, False)
        # What happens to the current request, and whether it is complete and waits.
        self._plan = ""
        self._answering = False

    def begin(self) -> None:
        """Start to read requests."""
        self._script.dataReceived = self.dataReceived  # type: ignore[method-assign]

    def dataReceived(self, data: bytes) -> None:
        """Receive bytes of a request, or of the next one if this one was answered early."""
        self._parser.held += data
        if self._answering:
            self._wrong(f"more than a request has come: {data[:100]!r}")
        while not self._answering:
            self._plan = self._plan or self._planned()
            request = self._parser.next()
            if request is None:
                return
            self._check(request)

    def _planned(self) -> str:
        """Choose what happens to the request whose head has arrived."""
        head, end, _ = self._parser.held.partition(b"\r\n\r\n")
        if not end:
            return ""
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        if method == b"POST":
            self._posts[target] += 1
            if self._posts[target] > 1:
                self._wrong(f"{target!r} was sent twice")
        [plan] = self._dice.choices([*self.PLANS], [*self.PLANS.values()])
        if plan == "answer early":
            self._answer(plan, method, target)
        return plan

    def _check(self, request: tuple[bytes, dict[bytes, bytes], bytes]) -> None:
        """Check that a complete request consists of the bytes of one client."""
        line, fields, body = request
        method, target, _ = line.split(b" ")
        mark = markOf(target)
        if body != mark * (len(body) // len(mark)):
            self._wrong(f"the body of {target!r} is another's")
        if fields[b"x-mark"] != mark:
            self._wrong(f"the fields of {target!r} are another's")
        plan, self._plan = self._plan, ""
        if plan != "answer early":
            self._answering = True
            delay = self._dice.choice((0, 0, 0.001, 0.003))
            reactor.callLater(delay, self._answer, plan, method, target)

    def _answer(self, plan: str, method: bytes, target: bytes) -> None:
        """Do what was chosen for this request."""
        script, dice = self._script, self._dice
        if script.got.ended:
            return
        if plan == "close":
            script.transport.loseConnection()
            return
        if plan == "break":
            script.transport.abortConnection()
            return
        mark = markOf(target)
        sizes = (10,) if plan == "answer and more" else (0, 1, 10, 100, 1000, 30_000, LARGE)
        size = dice.choice(sizes)
        body = mark * (size // len(mark) + (size > 0))
        status = b"503 Busy" if plan == "refuse" else b"200 OK"
        head = b"HTTP/1.1 %b\r\nX-Mark: %b\r\n" % (status, mark)
        if plan == "answer to the close":
            head += b"Connection: close\r\n\r\n"
        elif method != b"HEAD" and plan != "answer and more" and dice.random() < 0.4:
            head += b"Transfer-Encoding: chunked\r\n\r\n"
            body = chunked(dice, body)
        else:
            head += b"Content-Length: %d\r\n\r\n" % len(body)
        response = head if method == b"HEAD" else head + body
        if plan == "answer and more":
            response += b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(UNASKED) + UNASKED
        if plan == "break within":
            script.send(response[: dice.randrange(len(response))])
            reactor.callLater(dice.choice((0, 0.002)), script.transport.abortConnection)
        elif plan != "answer and more" and dice.random() < 0.3:
            at = dice.randrange(len(response))
            script.send(response[:at])
            reactor.callLater(0.001, self._finish, plan, response[at:])
        else:
            self._finish(plan, response)

    def _finish(self, plan: str, response: bytes) -> None:
        """Send the rest of a response."""
        self._answering = False
        if not self._script.got.ended:
            self._script.send(response)
            if plan in ("answer to the close", "answer and close"):
                self._script.transport.loseConnection()


def markOf(target: bytes) -> bytes:
    """The bytes that all bodies for this target consist of."""
    return b"[%b]" % target.split(b"/", 2)[2]


class ResponseReceiver:
    """
    One connection of a client, with pipelined requests.

    @ivar tally: the number of requests by outcome.
    """

    def __init__(
        self,
        name: str,
        dice: random.Random,
        wrong: Callable[[str], None],
        tally: Counter[str],
    ) -> None:
        self._name = name
        self._dice = dice
        self._wrong = wrong
        self._tally = tally
        self._asked: deque[tuple[bytes, bytes]] = deque()
        # Whether it speaks HTTP/1.0, and whether it has disconnected itself.
        self._old = False
        self._left = False
        self._parser = Parser(self._bodiless, True)
        others = [each for each in (*NAMES, "nobody") if each != name]
        self._foreign = re.compile(rb"\[(%b)/" % "|".join(others).encode())
        self._tail = b""

    def _bodiless(self, line: bytes) -> bool:
        return self._asked[0][0] == b"HEAD"

    async def run(self, client: Client, numbers: Any) -> None:
        """Send some requests, until one side disconnects."""
        client.dataReceived = lambda data: self._received(client, data)  # type: ignore
        for _ in range(self._dice.randint(1, 4)):
            if client.got.ended:
                break
            self._ask(client, numbers)
            await client.got.waitUntil(lambda: not self._asked or client.got.ended)
        client.transport.loseConnection()
        await client.got.waitForEnd()
        self._ended(client)

    def _ask(self, client: Client, numbers: Any) -> None:
        dice = self._dice
        self._old = dice.random() < 0.2
        many = 1 if self._old else dice.randint(1, 6)
        data = b"".join(self._request(next(numbers)) for _ in range(many))
        while data:
            size = dice.choice((1, 20, 1000, LARGE, LARGE))
            client.send(data[:size])
            data = data[size:]
        leave = dice.random()
        if leave < 0.2:
            transport = client.transport
            how = transport.abortConnection if leave < 0.1 else transport.loseConnection
            reactor.callLater(dice.random() * 0.006, self._leave, client, how)
        elif leave < 0.3:
            client.transport.pauseProducing()
            reactor.callLater(dice.random() * 0.006, self._readOn, client)

    def _leave(self, client: Client, how: Callable[[], None]) -> None:
        if not client.got.ended:
            self._left = True
            how()

    def _readOn(self, client: Client) -> None:
        if not client.got.ended:
            client.transport.resumeProducing()

    def _request(self, number: int) -> bytes:
        dice = self._dice
        method = dice.choices((b"GET", b"HEAD", b"POST"), (6, 1, 2))[0]
        kind = dice.choice((b"plain", b"plain", b"whole"))
        target = b"/%b/%b/%d" % (kind, self._name.encode(), number)
        self._asked.append((method, target))
        mark = markOf(target)
        version = b"1.0" if self._old else b"1.1"
        head = b"%b %b HTTP/%b\r\nHost: here\r\nX-Mark: %b\r\n" % (method, target, version, mark)
        if method != b"POST":
            return head + b"\r\n"
        body = mark * dice.choice((0, 1, 100, LARGE // len(mark)))
        if not self._old and dice.random() < 0.5:
            return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(dice, body)
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def _received(self, client: Client, data: bytes) -> None:
        # Incomplete responses are checked, too.
        around = self._tail + data
        found = self._foreign.search(around)
        if found:
            self._wrong(f"{self._name} has seen {found[0]!r}")
        self._tail = around[-20:]
        self._parser.held += data
        while self._asked and (response := self._parser.next()):
            self._check(response)
        if not self._asked and self._parser.held:
            self._wrong(f"{self._name} got {self._parser.held[:100]!r}, asked for nothing")
        client.got.add(b"")

    def _check(self, response: tuple[bytes, dict[bytes, bytes], bytes]) -> None:
        line, fields, body = response
        _, target = self._asked.popleft()
        status = line.split(b" ")[1].decode()
        self._tally[status] += 1
        if fields.get(b"server") == b"sitio":
            if status not in ("502", "503", "504"):
                self._wrong(f"sitio said {line!r} of {target!r}")
            return
        mark = markOf(target)
        if fields.get(b"x-mark") != mark or body != mark * (len(body) // len(mark)):
            self._wrong(f"{target!r} was answered {fields!r} {body[:100]!r}")

    def _ended(self, client: Client) -> None:
        if self._asked and client.clean and not self._left:
            response = self._parser.next(closed=True)
            if response is not None:
                self._check(response)
        self._tally["unanswered"] += len(self._asked)


@implementer(ISelectivePolicy)
class Whole:
    """Buffers some responses, and replaces them."""

    statuses = (200,)
    buffered = True

    def isInterested(self, exchange: Any, response: Response) -> bool:
        """Responses to paths below C{/whole/}."""
        return bool(exchange.request.path.startswith("/whole/"))

    def responseReceived(self, exchange: Any, response: Response) -> Response:
        """Return an equal response."""
        return Response(200, body=response.body, headers=response.headers)


@onResponse(503)
def again(exchange: Any, response: Response) -> Retry | None:
    """Retry twice."""
    return Retry() if exchange.attempts < 3 else None


class SoakTests(LoopbackTestCase):
    """Two clients and a service that disconnect at random."""

    log = Logger()
    timeout = SECONDS + LoopbackTestCase.timeout

    def wrong(self, sentence: str) -> None:
        """Record an error; the first errors are the most useful."""
        if len(self.mistakes) < 10:
            self.mistakes.append(sentence)

    async def test_soak(self) -> None:
        """
        Each client sees only its own bytes, in the order of its requests.  No POST is sent
        twice.  Each exchange ends once.  At the end no connection, no file descriptor and no
        delayed call is left.
        """
        self.mistakes: list[str] = []
        # Not counted: descriptors that the reactor opens once for all ports, and the timeout that
        # trial sets after the start of a test.
        endpoint = TCP4ServerEndpoint(reactor, 0, interface=LOCALHOST)
        await (await endpoint.listen(Upstream())).stopListening()
        await deferLater(reactor, 0, lambda: None)
        gc.collect()
        descriptors = Counter(descriptorsOf(os.getpid()))
        calls = set(reactor.getDelayedCalls())
        ended: Counter[str] = Counter()
        tally: Counter[str] = Counter()

        @onFinish
        def finished(exchange: Any) -> None:
            ended[str(exchange.status)] += 1
            if exchange.notes.setdefault("ended", 0):
                self.wrong(f"{exchange!r} ended again")
            exchange.notes["ended"] += 1

        dice = random.Random(SEED)
        upstream = Service(dice, self.wrong)
        listening: Any = await endpoint.listen(upstream)
        service = SidecarService(
            reactor,
            TCP4ServerEndpoint(reactor, 0, interface=LOCALHOST),
            TCP4ClientEndpoint(reactor, LOCALHOST, listening.getHost().port),
            [finished, Whole(), again],
            settings=Settings(poolSize=POOL, bufferLimit=LARGE // 2),
            statsInterval=0,
        )
        service.startService()
        assert service.port is not None
        port: int = service.port.getHost().port  # type: ignore[attr-defined]

        until = reactor.seconds() + SECONDS
        numbers = {name: iter(range(10**9)) for name in NAMES}

        async def keepAsking(name: str) -> None:
            while reactor.seconds() < until and not self.mistakes:
                client = await self.connect(port)
                tally["connections"] += 1
                await ResponseReceiver(name, dice, self.wrong, tally).run(client, numbers[name])

        asking = [
            Deferred.fromCoroutine(keepAsking(name)) for name in NAMES for _ in range(CONNECTIONS)
        ]
        try:
            await gatherResults(asking, consumeErrors=True)
        finally:
            self.assertEqual(self.mistakes, [], f"SITIO_SOAK_SEED={SEED}")

        await service.stopService()
        self.assertEqual(service.factory.connections, 0)
        pool = (await service.snapshot())["pool"]
        self.assertEqual(pool, {"open": 0, "idle": 0, "waiting": 0})
        await listening.stopListening()
        await self.until(lambda: all(each.got.ended for each in upstream.connections))
        gc.collect()
        left = Counter(descriptorsOf(os.getpid())) - descriptors
        self.assertEqual(left, Counter())
        # The calls of the service and of the clients end within a few turns.
        await self.until(lambda: set(reactor.getDelayedCalls()) <= calls)
        answered = sum(tally[each] for each in tally if each.isdecimal())
        self.assertGreaterEqual(sum(ended.values()), answered)
        self.assertGreater(tally["200"], 0)
        self.log.info(
            "seed {seed}, {seconds} s: clients saw {tally}, sitio counted {ended},"
            " {connections} connections to the service",
            seed=SEED,
            seconds=SECONDS,
            tally=dict(tally),
            ended=dict(ended),
            connections=len(upstream.connections),
        )
