"""
What is configured, and what is said, in random conversations with several upstreams.

All chances come from one source of random numbers, which has a seed.
"""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.task import Clock, deferLater

from sitio import Exchange, Response, Retry, onRequest, onResponse
from sitio.http.requestmatch import MatchTable, PathRewrite, RequestMatch
from sitio.net.deadlines import Deadlines
from sitio.policy.chain import Chain
from sitio.proxy.generation import Generation, Route, Split
from sitio.settings import Settings
from sitio.test.helpers.upstreams import Network, listed
from sitio.upstream.cluster import Cluster
from sitio.upstream.ejection import EjectionSettings
from sitio.upstream.retries import RetrySettings

#: Short timeouts, so that conversations reach them, each at another time; and small buffers, so
#: that sitio pauses clients.
SETTINGS = Settings(
    connectTimeout=1.0,
    poolTimeout=2.0,
    responseTimeout=3.0,
    stallTimeout=4.0,
    tunnelTimeout=6.0,
    policyTimeout=2.5,
    bufferLimit=1000,
    requestBufferLimit=1000,
    replayLimit=1000,
)

#: Bytes of a body that one of the routes takes; bodies below and above it, and above the buffers.
MAX_BODY = 20
SIZES = (1, 5, 30, 5000, 5000)

#: Mostly those that a route takes; the others get 404, or 400 as they can be read in two ways.
TARGETS = (
    *("/p/1", "/p", "/q/x", "/q", "/c/y", "/o/z", "/s/t") * 3,
    *("/none", "/p/../c", "*", "http://h/p/abs", "/%70"),
)

METHODS = (*("GET", "POST") * 3, "PUT", "HEAD", "OPTIONS", "DELETE")

UPSTREAMS = ("photos", "canary", "one")

#: Lines that a request may have, and how often.
LINES = (
    ("X-Slow: 1", 0.15),
    ("Connection: close", 0.1),
    ("Connection: upgrade\r\nUpgrade: echo", 0.08),
)

SWITCHED = b"HTTP/1.1 101 S\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nhi"

GOOD = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 204 N\r\n\r\n",
)

#: Failures, interim responses, parts of responses, and what is no response.
OTHER = (
    b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\n123",
    b"HTTP/1.1 502 Bad\r\nContent-Length: 3\r\nRetry-After: 1\r\n\r\n123",
    b"HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\n123",
    b"HTTP/1.1 103 E\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\n\r\nuntil",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"junk\r\n\r\n",
    SWITCHED,
)

#: What DNS may name, beside what is listed.
NAMED = ("a:1", "b:1", "d:1", "g:1")


def content(random: Random) -> tuple[list[str], str]:
    """The lines about the body of a request, and the body."""
    size = random.choice(SIZES)
    lines = ["Expect: 100-continue"] if random.random() < 0.25 else []
    if random.random() < 0.5:
        return [*lines, f"Content-Length: {size}"], "x" * size
    trailer = "T: 1\r\n" if random.random() < 0.2 else ""
    body = f"{size:x}\r\n{'y' * size}\r\n0\r\n{trailer}\r\n"
    return [*lines, "Transfer-Encoding: chunked"], body


def request(random: Random) -> bytes:
    """A whole request."""
    target = random.choice(TARGETS)
    method = "OPTIONS" if target == "*" else random.choice(METHODS)
    lines = [f"{method} {target} HTTP/1.1", "Host: h"]
    lines += [line for line, share in LINES if random.random() < share]
    if random.random() < 0.15:
        lines.append(f"X-Up: {random.choice(UPSTREAMS)}")
    body = ""
    if method in ("POST", "PUT"):
        more, body = content(random)
        lines += more
    return "\r\n".join([*lines, "", body]).encode()


def somePolicies(random: Random, clock: Clock) -> list[tuple[str, Any]]:
    """Policies that wait, choose an upstream, take whole bodies, and ask for another attempt."""

    @onRequest
    async def slow(exchange: Exchange) -> None:
        if "X-Slow" in exchange.request.headers:
            await deferLater(clock, 0.7)

    @onRequest
    def choose(exchange: Exchange) -> None:
        name = exchange.request.headers.get("X-Up")
        if name:
            exchange.upstream = name

    @onRequest(buffered=True)
    def whole(exchange: Exchange) -> None:
        pass

    @onResponse(500, 502, 503, 504)
    async def again(exchange: Exchange, response: Response) -> Retry | None:
        if random.random() < 0.3:
            await deferLater(clock, 0.3)
        if random.random() < 0.4:
            exchange.upstream = random.choice(UPSTREAMS)
        return Retry(random.choice((0, 0.1, 1))) if random.random() < 0.6 else None

    @onResponse(200, buffered=True)
    def body(exchange: Exchange, response: Response) -> None:
        pass

    return [("choose", choose), ("slow", slow), ("again", again), ("whole", whole), ("body", body)]


class Configurations:
    """
    Makes generations with three upstreams.

    @ivar network: what the upstreams connect to.
    @ivar settings: limits and timeouts, the same in all generations.
    @ivar clusters: all upstreams that were made.
    """

    def __init__(self, random: Random, clock: Clock) -> None:
        self.random = random
        self.clock = clock
        self.network = Network(clock)
        self.deadlines = Deadlines(clock)
        self.clusters: list[Cluster] = []
        self.settings = evolve(
            SETTINGS,
            poolSize=random.choice((1, 2, 3)),
            poolUploads=random.choice((0, 1)),
            poolQueue=random.choice((1, 5)),
        )
        self.policies = somePolicies(random, clock)

    def someFirst(self) -> list[tuple[str, Any]]:
        """The policies of all routes."""
        choose, _, again, *_ = self.policies
        return [choose, again] if self.random.random() < 0.7 else [choose]

    def cluster(self, name: str, *addresses: str, **settings: Any) -> Cluster:
        """A new upstream with these endpoints."""
        made = Cluster(
            name,
            listed(*addresses, pool=self.settings, **settings),
            clock=self.clock,
            connect=self.network.connect,
            deadlines=self.deadlines,
            random=self.random.random,
        )
        self.clusters.append(made)
        return made

    def first(self, route: Route) -> Generation:
        """The first generation; its routes have the policies of this one."""
        random = self.random
        self.route = evolve(route, upstream=None)
        retries = RetrySettings(
            attempts=random.choice((1, 2, 4)),
            hedgeAfter=random.choice((None, 0.2, 0.5)),
            perTryTimeout=random.choice((None, 0.8)),
            minimum=random.choice((0.0, 1.0, 5.0)),
        )
        photos = self.cluster(
            "photos",
            *("a:1", "b:1", "c:1"),
            retries=random.choice((retries, retries, None)),
            ejection=random.choice((None, EjectionSettings())),
        )
        canary = self.cluster(
            "canary",
            *("d:1", "e:1"),
            identifies=random.random() < 0.5,
            retries=random.choice((retries, None)),
            hashOn=random.choice(("", "path")),
        )
        one = self.cluster("one", "f:1")
        return self.generation({"photos": photos, "canary": canary, "one": one}, 1)

    def generation(self, upstreams: dict[str, Cluster], number: int) -> Generation:
        """A generation with these upstreams, and with all kinds of routes."""
        random = self.random
        known: Any = upstreams
        base = evolve(self.route, upstreams=known)
        chosen = [each for each in self.policies[1:] if random.random() < 0.5]
        timeout = self.settings.policyTimeout
        chain = Chain(chosen, clock=self.clock, timeout=timeout, first=base.chain)
        small = evolve(base.settings, maxBody=MAX_BODY, replayLimit=random.choice((0, 10)))
        bounded = evolve(base.toward("photos"), name="q", settings=small, maxBody=MAX_BODY)
        split = Split((("photos", 1), ("canary", 1), ("one", 1)), random=random)
        routes = (
            (RequestMatch(prefix="/p"), evolve(base.toward("photos"), name="p", chain=chain)),
            (
                RequestMatch(prefix="/q", methods=("GET", "POST")),
                evolve(bounded, rewrite=PathRewrite.ofPrefix("/q", "/z")),
            ),
            (RequestMatch(prefix="/c"), evolve(base.toward("canary"), name="c", chain=chain)),
            (RequestMatch(prefix="/o"), evolve(base.toward("one"), name="o", chain=chain)),
            (RequestMatch(prefix="/s"), evolve(base, name="s", split=split)),
        )
        return Generation(
            fallback=base,
            table=MatchTable([match for match, _ in routes]),
            routes=[route for _, route in routes],
            upstreams=known,
            settings=base.settings,
            number=number,
        )
