"""
Random conversations: clients, upstream, policies and time do random things, and sitio
keeps its promises.

All bytes of one request - its bodies and its tunnel - repeat the request's own tag, so
that a byte in another's message is detected.
"""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import define, field
from hypothesis import HealthCheck, given, settings as profile, strategies as st
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import ISSLTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer

from sitio.errors import Stopped
from sitio.http import codec, framing
from sitio.http.limits import Limits
from sitio.http.message import Request, Response, Retry
from sitio.interfaces import IRequestPolicy, IResponsePolicy
from sitio.proxy import server
from sitio.proxy.exchange import Exchange
from sitio.settings import Settings
from sitio.test.helpers.producers import pauseOnce
from sitio.testing import CLOSED, OPEN, RESET, Harness, Peer

#: Short timeouts and small limits, so that conversations reach them.
SETTINGS = Settings(
    connectTimeout=2.0,
    headTimeout=2.0,
    responseTimeout=4.0,
    stallTimeout=4.0,
    idleTimeout=5.0,
    poolTimeout=2.0,
    upstreamIdleTimeout=3.0,
    tunnelTimeout=6.0,
    policyTimeout=3.0,
    maxHead=600,
    maxBody=250_000,
    bufferLimit=3000,
    requestBufferLimit=3000,
    replayLimit=500,
    maxClients=4,
    poolSize=2,
    poolQueue=3,
)

#: Seconds after which every wait is over: in all, and for each request.
ALL_WAITS = 60.0
ITS_WAITS = 12.0

SIZES = (0, 1, 40, 500, 3000, 3001, 70_000, 250_000)

JUDGED = (201, 404, 500, 502, 503, 504)

REQUEST_ACTS = (
    *("",) * 16,
    *("answer", "defer", "cling", "raise", "body", "get", "filter", "keeps"),
)
RESPONSE_ACTS = (
    *("", "replace", "retry", "defer", "cling", "raise", "filter", "keeps", "fails", "edit"),
)

MALFORMED = (
    b"GET /%b HTTP/1.1\r\n\r\n",
    b"GET /%b HTTP/1.1\nHost: h\r\n\r\n",
    b"GET  /%b HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /%b HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 700 + b"\r\n\r\n",
    b"GET /%b HTTP/2.0\r\nHost: h\r\n\r\n",
    b"POST /%b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /%b HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /%b HTTP/1.1\r\nHost: h\r\nContent-Length: 250001\r\n\r\n",
)

#: Bodies that become malformed or too long; the upstream may have responded before.
BROKEN = (b"1\r\n<more", b"1\r\n<\r\nfffff\r\n", b"+1\r\n<", b"1\r\n<\r\n0\r\nX: y\n\n")


class Mistake(Exception):
    """The error that a policy raises."""


def filled(tag: str, size: int, start: int = 0) -> bytes:
    """So many bytes that repeat this tag."""
    unit = f"<{tag}>".encode()
    return (unit * ((start + size) // len(unit) + 1))[start : start + size]


def cut(random: Random, data: bytes, times: int) -> list[bytes]:
    """Cut these bytes into some pieces."""
    at = sorted(random.randrange(len(data) + 1) for _ in range(times))
    pieces = [data[start:end] for start, end in zip([0, *at], [*at, len(data)])]
    return [each for each in pieces if each]


def chunked(random: Random, data: bytes) -> bytes:
    """A chunked body, perhaps with extensions and trailers."""
    pieces = [
        b"%x%b\r\n%b\r\n" % (len(each), random.choice((b"", b";a=b")), each)
        for each in cut(random, data, random.randrange(3))
    ]
    return b"".join(pieces) + random.choice((b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n"))


# --- Who takes part


@define
class Asked:
    """
    A request that a client has sent.

    @ivar good: C{False} if only sitio itself can have answered it.
    @ivar last: whether no other request can follow on this connection.
    @ivar expects: whether sitio itself may send 100 (Continue).
    """

    tag: str
    method: str = "GET"
    modern: bool = True
    upgrade: bool = False
    good: bool = True
    last: bool = False
    expects: bool = False


@define
class Client:
    """A client that sends requests, and checks that each response belongs to the next request."""

    peer: Peer
    asked: list[Asked] = field(factory=list)
    # Unsent pieces of the last request.
    rest: list[bytes] = field(factory=list)
    # Whether it has closed its sending half, or the whole connection.
    ended: bool = False
    left: bool = False
    reader: codec.ResponseReader = field(factory=lambda: codec.ResponseReader(Limits()))
    number: int = 0
    begun: bool = False
    head: Response | None = None
    body: bytes = b""
    last: bool = False
    tunnelled: int = 0

    def send(self, data: bytes) -> None:
        if not self.ended and data:
            self.peer.sends(data)

    @property
    def busy(self) -> bool:
        """Whether further bytes would not be a new request."""
        return bool(self.asked) and (self.asked[-1].upgrade or self.asked[-1].last)

    @property
    def inTunnel(self) -> bool:
        return self.head is not None and self.head.status == 101

    def read(self) -> None:
        """Check the bytes that have arrived."""
        data = self.peer.got()
        assert not (data and self.last), f"bytes behind the last response: {data!r}"
        if data:
            self.reader.receive(data)
        while self.reader.held:
            if self.head is None and not self.readHead():
                return
            if self.head is None:
                continue
            self.body += self.reader.takeRest() if self.inTunnel else self.reader.nextBody()
            if "X-Tag" in self.head.headers:
                tag = self.asked[self.number].tag
                assert self.body == filled(tag, len(self.body)), "another's bytes"
            if self.reader.state is framing.ENDED:
                self.responded()

    def readHead(self) -> bool:
        assert self.number < len(self.asked), "a response to nothing"
        asked = self.asked[self.number]
        if not self.begun:
            self.begun = True
            self.reader.expect(asked.method)
        head = self.reader.nextHead()
        if head is None:
            return False
        if self.reader.state is framing.HEAD:
            assert asked.modern, "an interim response in HTTP/1.0"
            if head.status == 100 and asked.expects and "X-Tag" not in head.headers:
                asked.expects = False
                return self.readHead()
            assert head.headers["X-Tag"] == asked.tag, f"{asked} got an interim response to another"
            return self.readHead()
        if "X-Tag" in head.headers:
            assert asked.good, f"{asked} was let pass"
            assert head.headers["X-Tag"] == asked.tag, f"{asked} got the response to another"
        else:
            assert head.headers["Server"] == "sitio", head.headers.rawFields
        assert asked.upgrade or head.status != 101, "switched unasked"
        self.head = head
        if self.reader.state is framing.ENDED:
            self.responded()
        return True

    def responded(self) -> None:
        """Check a complete response."""
        assert self.head is not None
        asked = self.asked[self.number]
        own = "X-Tag" not in self.head.headers
        size = self.head.headers.get("X-Size")
        if asked.method == "HEAD" or self.head.status in (204, 304):
            assert not self.body
        elif size is not None:
            assert len(self.body) == int(size), f"{len(self.body)} bytes of {size}"
        self.head, self.body, self.begun = None, b"", False
        self.number += 1
        self.last = not self.reader.keepAlive
        held = self.reader.takeRest() if self.last else b""
        # If sitio could not read the head, it did not know that it was a HEAD.
        unread = asked.method == "HEAD" and own
        assert unread or not held, f"bytes behind the last response: {held!r}"

    def checkClosed(self, early: set[str]) -> None:
        """
        Check that an incomplete response does not look complete after sitio has closed.

        @param early: the targets of requests with a body that streamed.  A response that may
            have come before the end of its request, and says where it ends, may break off with
            an end of the connection, so that the client reads what it has got.
        """
        if self.left or self.peer.state is RESET or self.inTunnel:
            return
        assert self.peer.state is CLOSED, self.peer
        if self.head is not None and self.reader.state is framing.UNTIL_CLOSE:
            self.reader.connectionLost()
            self.responded()
        if self.head is not None and f"/{self.asked[self.number].tag}" in early:
            return
        assert self.head is None and not self.reader.held, "a response that was cut short"


@define
class Upstream:
    """The upstream's end of one connection.  It checks requests and responds in pieces."""

    peer: Peer
    arrived: dict[str, int]
    reader: codec.RequestReader = field(factory=lambda: codec.RequestReader(Limits()))
    request: Request | None = None
    tag: str = ""
    body: bytes = b""
    # Unsent pieces of the response, and how the connection ends after them.
    rest: list[bytes] = field(factory=list)
    end: str = ""
    # Whether the close ends the response's body, and whether the response has announced that
    # it is the last.
    untilClose: bool = False
    last: bool = False
    responded: bool = False
    tunnel: bool = False
    tunnelled: int = 0
    ended: bool = False

    def read(self) -> None:
        """Check the bytes that have arrived."""
        data = self.peer.got()
        self.reader.receive(data) if data else None
        while self.reader.held or self.request is not None:
            if self.tunnel:
                self.body += self.reader.takeRest()
                assert self.body == filled(self.tag, len(self.body)), "another's bytes"
                return
            if self.request is None:
                head = self.reader.nextHead()
                if head is None:
                    return
                self.begin(head)
            assert self.request is not None
            self.body += self.reader.nextBody()
            assert self.body == filled(self.tag, len(self.body)), "another's bytes"
            if not self.whole:
                return
            assert len(self.body) == int(self.request.headers["X-Size"]), "a body cut short"
            if not self.responded:
                return
            self.request = None

    @property
    def whole(self) -> bool:
        return self.reader.state is framing.ENDED

    def begin(self, head: Request) -> None:
        assert not self.last, "a request behind the last response"
        self.request = head
        self.tag = head.path.strip("/")
        self.body = b""
        self.responded = False
        self.arrived[self.tag] = times = self.arrived.get(self.tag, 0) + 1
        assert times == 1 or head.method != "POST", f"a POST came {times} times"

    def response(self, random: Random) -> None:
        """Send the next piece of a response, or begin a response."""
        if self.ended or self.tunnel:
            if self.tunnel and not self.ended:
                size = random.choice((1, 20, 70_000))
                self.peer.sends(filled(self.tag, size, self.tunnelled))
                self.tunnelled += size
            return
        if not self.rest:
            if self.request is None or self.responded:
                return
            self.rest = self.make(random, self.request)
        self.peer.sends(self.rest.pop(0))
        if not self.rest:
            self.responded = True
            # Needed if the close ends the body; otherwise sitio may close first.
            if self.end and (self.untilClose or random.random() < 0.5):
                self.breaks(self.end)

    def breaks(self, way: str) -> None:
        """End the connection; by a reset if the close would complete the response."""
        self.ended = True
        getattr(self.peer, "resets" if self.rest and self.untilClose else way)()

    def make(self, random: Random, request: Request) -> list[bytes]:
        """The pieces of a response; sets how the connection ends after them."""
        self.end, self.untilClose = "", False
        tag = b"X-Tag: %b\r\n" % self.tag.encode()
        interim = b"HTTP/1.1 103 Early Hints\r\n" + tag + b"\r\n"
        kind = random.randrange(40)
        if kind == 0:
            return [random.choice((b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\nX: y\r\n\r\n"))]
        if kind == 1:
            return [interim * 33]
        if request.upgrade is not None and self.whole and kind > 6:
            self.tunnel = True
            self.body = b""
            self.tunnelled = random.choice((0, 5))
            early = filled(self.tag, self.tunnelled)
            fields = b"Connection: upgrade\r\nUpgrade: echo\r\n"
            return [b"HTTP/1.1 101 Switching Protocols\r\n" + tag + fields + b"\r\n" + early]
        status = random.choice((200, 200, 200, 204, 304, *JUDGED))
        size = random.choice(SIZES)
        body = filled(self.tag, size)
        bodiless = request.method == "HEAD" or status in (204, 304)
        minor = random.choice((b"0", b"1", b"1", b"1"))
        head = b"HTTP/1.%b %d Some Reason\r\n" % (minor, status) + tag
        head += b"X-Size: %d\r\n" % size
        if status in JUDGED:
            act = random.choice(("", "whole-")) + random.choice(RESPONSE_ACTS)
            head += b"X-Act: %b\r\n" % act.encode()
        if random.random() < 0.1:
            self.end, self.last = "closes", True
            head += b"Connection: close\r\n"
        elif minor == b"0":
            head += b"Connection: keep-alive\r\n"
        how = random.choice(("length", "length", "length", "chunked", "chunked", "close"))
        if how == "length":
            head += b"Content-Length: %d\r\n" % size
        elif how == "chunked" and minor == b"1":
            head += b"Transfer-Encoding: chunked\r\n"
            body = chunked(random, body)
        elif not bodiless:
            self.end, self.last, self.untilClose = "closes", True, True
        whole = head + b"\r\n" + (b"" if bodiless else body)
        if random.random() < 0.2 and minor == b"1":
            whole = interim + whole
        pieces = cut(random, whole, random.choice((0, 0, 1, 3)))
        if random.random() < 0.05 and len(pieces) > 1:
            self.end = "resets" if self.untilClose else random.choice(("closes", "resets"))
            return pieces[: random.randrange(1, len(pieces))]
        if random.random() < 0.05 and not self.end:
            if random.random() < 0.5:
                return [*pieces, b"unasked"]
            self.last = True
            pieces[-1] += b"unasked"
        return pieces


@implementer(IRequestPolicy)
@define(eq=False)
class Decides:
    """A request policy that does what the request's X-Act says."""

    world: World
    buffered: bool = False

    def requestReceived(self, exchange: Any) -> Any:
        act = exchange.request.headers.get("X-Act")
        tag = exchange.request.path.strip("/")
        if act == "answer":
            return mine(tag)
        if act == "defer":
            return self.world.later(None, mine(tag))
        if act == "cling":
            return clinging()
        if act == "raise":
            raise Mistake
        if act == "body":
            exchange.request.body = filled(tag, 33)
            exchange.request.headers["X-Size"] = "33"
        if act == "filter":
            exchange.request.addFilter(lambda data: data)
        if act == "keeps":
            exchange.request.addFilter(lambda data: bytes(bytearray(data)), keepsLength=True)
        if act == "get" and exchange.request.method == "HEAD":
            exchange.request.method = "GET"
        return None


@implementer(IResponsePolicy)
@define(eq=False)
class Judges:
    """A response policy that does what the response's X-Act says."""

    world: World
    buffered: bool
    statuses: Any = frozenset(JUDGED)

    def responseReceived(self, exchange: Any, response: Response) -> Any:
        act = response.headers.get("X-Act") or ""
        tag = exchange.request.path.strip("/")
        if act.startswith("whole-") != self.buffered:
            return None
        act = act.removeprefix("whole-")
        if act == "replace":
            return mine(tag)
        if act == "retry":
            return Retry(0.5 if len(tag) % 2 else 0.0)
        if act == "defer":
            return self.world.later(None, mine(tag), Retry(), Mistake())
        if act == "cling":
            return clinging()
        if act == "raise":
            raise Mistake
        if act == "filter":
            response.addFilter(lambda data: data)
        if act == "keeps":
            response.addFilter(lambda data: bytes(bytearray(data)), keepsLength=True)
        if act == "fails":
            response.addFilter(lambda data: data[1 // 0 :])
        if act == "edit" and response.body is not None:
            response.body = filled(tag, 7)
            response.headers["X-Size"] = "7"
        return None


def mine(tag: str) -> Response:
    """A response of the policy itself."""
    return Response(418, body=filled(tag, 21), headers={"X-Tag": tag, "X-Size": "21"})


def clinging() -> Deferred[None]:
    """What a policy waits for that has a result when it is cancelled."""
    return Deferred(lambda waiting: waiting.callback(None))


class World:
    """A harness and its events; each event makes random choices."""

    def __init__(self, buffersRequests: bool) -> None:
        policies = [
            ("decides", Decides(self, buffersRequests)),
            ("judges", Judges(self, False)),
            ("whole", Judges(self, True)),
            ("again", Judges(self, False)),
            ("once more", Judges(self, True)),
        ]
        self.sidecar = Harness(policies, settings=SETTINGS)
        self.clients: list[Client] = []
        self.upstreams: list[Upstream] = []
        self.arrived: dict[str, int] = {}
        self.waiting: list[tuple[Deferred[Any], tuple[Any, ...]]] = []
        self.tags = 0

    @property
    def peers(self) -> list[Peer]:
        """All peers of sitio."""
        return [each.peer for each in self.clients] + [each.peer for each in self.upstreams]

    def later(self, *answers: Any) -> Deferred[Any]:
        """A Deferred of a policy; an event may fire it."""
        deferred: Deferred[Any] = Deferred()
        self.waiting.append((deferred, answers))
        return deferred

    def settle(self) -> None:
        """Let pending events happen; then check all bytes and all buffers."""
        for peer in self.sidecar.upstreams[len(self.upstreams) :]:
            self.upstreams.append(Upstream(peer, self.arrived))
            if len(self.upstreams) % 2:
                pauseOnce(peer)
            if len(self.upstreams) % 5 == 0:
                # TLS has no half-close.
                alsoProvides(peer.transport, ISSLTransport)
                peer.transport._secure = True
        for upstream in self.upstreams:
            upstream.read()
        for client in self.clients:
            client.read()
            protocol: Any = client.peer.transport.protocol
            assert protocol.reader.held <= SETTINGS.maxHead + 2 * 64 * 1024
        for peer in self.peers:
            # The transport's buffer, one read and a little more; or a buffered response and a head.
            assert peer.backlog <= 140_000, "written to somebody who does not read"

    # --- What may happen

    def asks(self, random: Random) -> None:
        """A client, perhaps a new one, continues a request or begins one."""
        open = [each for each in self.clients if each.peer.state is OPEN and not each.ended]
        if not open or (len(open) < 5 and random.random() < 0.1):
            if self.sidecar.factory.draining:
                return
            open = [Client(self.sidecar.connect(secure=random.random() < 0.3))]
            if random.random() < 0.5:
                pauseOnce(open[0].peer)
            self.clients += open
        client = random.choice(open)
        if client.rest:
            client.send(client.rest.pop(0))
        elif client.busy:
            if client.asked[-1].upgrade and not client.inTunnel:
                # If the upgrade is refused, these bytes are no request.
                if random.random() < 0.7:
                    return
                client.asked.append(Asked(client.asked[-1].tag, good=False, last=True))
            size = random.choice((1, 30, 70_000 if client.inTunnel else 30))
            client.send(filled(client.asked[-1].tag, size, client.tunnelled))
            client.tunnelled += size
        else:
            self.tags += 1
            asked, data = self.request(random, f"{self.tags}")
            client.asked.append(asked)
            client.rest = cut(random, data, random.choice((0, 0, 0, 1, 3)))
            client.send(client.rest.pop(0))

    def request(self, random: Random, tag: str) -> tuple[Asked, bytes]:
        if random.random() < 0.04:
            return Asked(tag, good=False, last=True), random.choice(MALFORMED) % tag.encode()
        if random.random() < 0.04:
            head = f"POST /{tag} HTTP/1.1\r\nHost: h\r\nX-Size: -1\r\n"
            data = head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + random.choice(BROKEN)
            return Asked(tag, "POST", last=True), data
        modern = random.random() < 0.8
        method = random.choice(("GET", "GET", "HEAD", "POST", "POST", "PUT", "OPTIONS", "BREW"))
        asked = Asked(tag, method, modern)
        size = random.choice((0, 0, *SIZES)) if method in ("POST", "PUT", "GET") else 0
        body = filled(tag, size)
        head = f"{method} /{tag} HTTP/1.{modern:d}\r\nHost: h\r\nX-Size: {size}\r\n"
        act = random.choice(REQUEST_ACTS)
        if act:
            head += f"X-Act: {act}\r\n"
        if method == "GET" and modern and not size and random.random() < 0.15:
            asked.upgrade = True
            head += "Connection: upgrade\r\nUpgrade: echo\r\n"
        elif random.random() < 0.05:
            head += "Connection: close\r\n"
        elif not modern and random.random() < 0.9:
            head += "Connection: keep-alive\r\n"
        if size and modern and random.random() < 0.2:
            head += "Expect: 100-continue\r\n"
            asked.expects = True
        if modern and size and random.random() < 0.5:
            head += "Transfer-Encoding: chunked\r\n"
            body = chunked(random, body)
        elif size or method == "POST":
            head += f"Content-Length: {size}\r\n"
        return asked, head.encode() + b"\r\n" + body

    def responses(self, random: Random) -> None:
        """The upstream continues a response or begins one."""
        able = [each for each in self.upstreams if each.request is not None or each.rest]
        if able:
            random.choice(able).response(random)

    def fires(self, random: Random) -> None:
        """A policy decides."""
        if self.waiting:
            index = random.randrange(len(self.waiting))
            deferred, answers = self.waiting.pop(index)
            if not deferred.called:
                answer = random.choice(answers)
                if isinstance(answer, Exception):
                    deferred.errback(answer)
                else:
                    deferred.callback(answer)

    def passes(self, random: Random) -> None:
        """Time passes."""
        self.sidecar.advance(random.choice((0.0, 0.3, 0.3, 0.3, 0.3, 1.0, 2.5, 5.0)))

    def stops(self, random: Random) -> None:
        """A peer stops reading."""
        if self.peers:
            random.choice(self.peers).stopsReading()

    def reads(self, random: Random) -> None:
        """A peer resumes reading."""
        if self.peers:
            random.choice(self.peers).resumesReading()

    def overruns(self, random: Random) -> None:
        """Bytes that a transport, such as TLS, has already read arrive after a pause."""
        for transport in (each.transport for each in self.peers if each.paused):
            first = transport.incoming[0] if transport.incoming else None
            # Only a few bytes, so that this ends.
            if isinstance(first, bytes) and 0 < len(first) < 500 and transport.connected:
                del transport.incoming[0]
                transport.protocol.dataReceived(first)

    def leaves(self, random: Random) -> None:
        """A client disconnects in one of several ways."""
        here = [each for each in self.clients if not each.left]
        if here:
            client = random.choice(here)
            way = random.randrange(3)
            client.left = client.ended = True
            (client.peer.closes, client.peer.resets, client.peer.halfCloses)[way]()

    def breaks(self, random: Random) -> None:
        """The upstream ends a connection in one of several ways."""
        here = [each for each in self.upstreams if not each.ended]
        # Mostly one that has just got a request.
        asked = [each for each in here if each.request is not None and not each.rest]
        if asked and random.random() < 0.7:
            here = asked[-1:]
        if here:
            random.choice(here).breaks(random.choice(("closes", "resets", "halfCloses")))

    def accepts(self, random: Random) -> None:
        """The upstream changes how it treats new connections."""
        sidecar = self.sidecar
        random.choice(
            (
                sidecar.acceptConnections,
                sidecar.acceptConnections,
                sidecar.acceptConnections,
                sidecar.acceptConnections,
                sidecar.refuseConnections,
                sidecar.holdConnections,
            )
        )()

    def drains(self, random: Random) -> None:
        """sitio stops, or its grace ends; rarely, as little happens after that."""
        if random.random() < 0.1:
            self.sidecar.factory.drain()
            if random.random() < 0.3:
                self.sidecar.factory.abort()


EVENTS = (
    *(World.asks,) * 8,
    *(World.responses,) * 12,
    *(World.fires,) * 2,
    World.passes,
    World.stops,
    World.reads,
    World.overruns,
    World.leaves,
    World.breaks,
    World.accepts,
    World.drains,
)

EVENT = st.tuples(st.sampled_from(EVENTS), st.integers(0, 2**16))


class AnyConversation(SynchronousTestCase):
    """The promises that hold in each conversation."""

    @profile(
        max_examples=200, deadline=None, suppress_health_check=[HealthCheck.differing_executors]
    )
    # Long ones find more errors; short ones are for shrinking.
    @given(st.lists(EVENT, max_size=20) | st.lists(EVENT, min_size=60, max_size=150))
    def test_anyConversation(self, events: list[Any]) -> None:
        """
        Nothing raises.  Each response and each byte goes to the right peer.  An incomplete
        response never looks complete.  A POST is sent once.  Buffers for slow readers are
        bounded.  Each exchange is observed once.  In the end everything ends, and nothing
        is left.
        """
        made = []
        early = set()

        class Counted(Exchange):
            __slots__ = ()

            def __init__(self, *arguments: Any) -> None:
                made.append(self)
                Exchange.__init__(self, *arguments)

            def begin(self, extra: bytes, first: bytes = b"", whole: bool = True) -> None:
                # An exchange that has ended does not tell it any more.
                if not whole:
                    early.add(self.request.path)
                Exchange.begin(self, extra, first, whole)

        self.patch(server, "Exchange", Counted)
        world = World(buffersRequests=len(events) % 3 == 0)
        for event, choice in events:
            event(world, Random(choice))
            world.settle()
        world.sidecar.advance(ALL_WAITS + ITS_WAITS * world.tags)
        world.settle()
        self.assertEqual(world.sidecar.factory.connections, 0)
        self.assertEqual(set(world.sidecar.pool.snapshot().values()), {0})
        self.assertEqual(world.sidecar.clock.getDelayedCalls(), [])
        self.assertEqual(world.sidecar.context.buffers.held, 0)
        ended = world.sidecar.exchanges
        for client in world.clients:
            client.checkClosed(early)
        self.assertEqual(sorted(map(id, ended)), sorted(map(id, made)))
        for exchange in ended:
            if not isinstance(exchange.failure, Stopped):
                self.assertIsNotNone(exchange.status)
            self.assertIsNotNone(exchange.duration)
        for error in world.sidecar.errors:
            self.assertIsInstance(error, (Mistake, TimeoutError, ZeroDivisionError))
        self.flushLoggedErrors(Mistake, TimeoutError, ZeroDivisionError)
        self.assertEqual(self.flushLoggedErrors(), [])
