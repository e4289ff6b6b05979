"""
One exchange in several shapes, in memory: what C{bench.instructions} counts.

Clients and upstream are transports that keep what is written, so that next to all that is
counted is sitio's.  The traffic is varied as that of real clients: each request has a target, a
cookie and an id of its own among the fields of a browser, and each response a Date, an ETag and
a Last-Modified.

C{bench.instructions} runs this module as a program that plays shapes.  Each has a process of its
own, a fork of the one that has imported sitio, so none finds what another has left in a cache.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, cast

from attrs import define, evolve, field, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from zope.interface import implementer

from sitio import Exchange, Response, onRequest, onResponse
from sitio.http.dates import formatDate
from sitio.http.requestmatch import MatchTable, RequestMatch
from sitio.policy.loader import loadPolicies
from sitio.proxy.generation import Generation
from sitio.service import SidecarService

ROOT = Path(__file__).parent.parent

#: Exchanges before those that count: enough for Python to have specialised all code, and for
#: sitio's tables to be as full as they become.
WARMING = 150

#: Exchanges that count.
COUNTED = 100

BODY = bytes(range(32, 96)) * 16
JSON = b'{"orders": [%b]}' % b", ".join(
    b'{"id": %d, "name": "article %d", "amount": %d.5, "paid": true}' % (each, each, each)
    for each in range(16)
)

#: The C function whose calls mark what counts.
MARK = "getsid"

#: Pieces in which the body of a POST arrives, after its head.
PIECE = BODY * 4
PIECES = 3

#: When the first response was made: 2026-11-30 07:00 UTC.
NOON = 1_796_022_000

_FIELDS = (
    b"Host: service.example\r\n"
    b"Connection: %(connection)b\r\n"
    b'sec-ch-ua: "Chromium";v="142", "Not-A.Brand";v="99"\r\n'
    b"sec-ch-ua-mobile: ?0\r\n"
    b'sec-ch-ua-platform: "Linux"\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    b" Chrome/142.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
    b"image/apng,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: same-origin\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Referer: http://service.example/articles/%(path)d\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-US,en;q=0.9\r\n"
    b"Cookie: session=%(number)032x; theme=dark\r\n"
    b"X-Request-ID: %(mixed)032x\r\n"
)
_GET = b"GET /articles/%(path)d?page=%(number)d HTTP/1.1\r\n" + _FIELDS + b"\r\n"
_POST = (
    b"POST /articles/%(path)d?page=%(number)d HTTP/1.1\r\n"
    + _FIELDS
    + b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
    % (len(PIECE) * PIECES)
)
# It may be kept although its request has a cookie, so last-good does all of its work.
_RESPONSE = (
    b"HTTP/1.1 %(status)b\r\n"
    b"Server: nginx/1.22.1\r\n"
    b"Date: %(date)b\r\n"
    b"Content-Type: %(type)b\r\n"
    b"Content-Length: %(length)d\r\n"
    b"Last-Modified: %(modified)b\r\n"
    b"Connection: keep-alive\r\n"
    b"Cache-Control: public, max-age=60\r\n"
    b'ETag: "%(mixed)x-%(length)x"\r\n'
    b"\r\n"
    b"%(body)b"
)


@onRequest
def _refuse(exchange: Exchange) -> Response | None:
    """Refuse requests by a field."""
    if exchange.request.headers.get("X-Blocked") == "yes":
        return Response(403, text="Blocked.\n")
    return None


@onResponse
def _stamp(exchange: Exchange, response: Response) -> None:
    """Set a field."""
    response.headers["X-Passed"] = "sitio"


@onResponse(buffered=True)
def _count(exchange: Exchange, response: Response) -> None:
    """Change a body of JSON."""
    page = response.json()
    page["count"] = len(page["orders"])
    response.json = page


@onRequest
async def _refuseLater(exchange: Exchange) -> Response | None:
    """L{_refuse}, as a coroutine that never waits."""
    if exchange.request.headers.get("X-Blocked") == "yes":
        return Response(403, text="Blocked.\n")
    return None


@frozen
class Shape:
    """
    A shape of an exchange.

    @ivar policies: descriptions, as for C{--policy}, and policies.
    @ivar head: the request's, with places for what differs.
    @ivar pieces: of the request's body.
    @ivar status: of the upstream's response.
    @ivar body: of the upstream's response, and its type.
    @ivar sees: what the response of the client contains besides its status.
    @ivar connects: whether each exchange has a connection of its own.
    @ivar routes: how many routes there are; requests take the last one.
    """

    policies: tuple[Any, ...] = ()
    head: bytes = _GET
    pieces: tuple[bytes, ...] = ()
    status: bytes = b"200 OK"
    body: tuple[bytes, bytes] = (b"application/octet-stream", BODY)
    sees: bytes = BODY
    connects: bool = False
    routes: int = 0


SHAPES = {
    "plain": Shape(),
    "defaults": Shape(("error-page:404", "last-good")),
    "acts": Shape((_refuse, _stamp), sees=b"\r\nX-Passed: sitio\r\n"),
    "replaced-404": Shape(("error-page:404",), status=b"404 Not Found", sees=b"<!DOCTYPE html>"),
    "json-body": Shape((_count,), body=(b"application/json", JSON), sees=b'"count": 16}'),
    "coroutine": Shape((_refuseLater,)),
    "post": Shape(head=_POST, pieces=(PIECE,) * PIECES),
    "connection": Shape(connects=True),
    "routes": Shape(routes=10),
}

#: What each is, for people.
TITLES = {
    "plain": "no policy, 1 KB",
    "defaults": "error-page and last-good, 1 KB, kept by last-good",
    "acts": "a policy that reads a field of the request, one that sets one of the response",
    "replaced-404": "a 404 that error-page replaces",
    "json-body": "a body of JSON that a policy buffers and changes",
    "coroutine": "a coroutine that never waits",
    "post": "a POST with a body in pieces",
    "connection": "a new connection for each exchange",
    "routes": "no policy, the last of ten routes",
}

#: One exchange: what the client sends, piece by piece, and what the upstream sends.
Messages = tuple[tuple[bytes, ...], bytes]


def messages(shape: Shape, first: int, count: int) -> list[Messages]:
    """Messages of exchanges that all differ; those of another C{first} differ from these."""
    return [_message(shape, number) for number in range(first, first + count)]


def _message(shape: Shape, number: int) -> Messages:
    # Spread over 128 bits, so that figures have as many digits in each exchange.
    mixed = number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128 | 2**127
    kind, body = shape.body
    places: dict[bytes, Any] = {
        b"connection": b"close" if shape.connects else b"keep-alive",
        b"path": 1000 + number % 997,
        b"number": 100_000 + number,
        b"mixed": mixed,
        b"status": shape.status,
        b"type": kind,
        b"length": len(body),
        b"body": body,
        b"date": formatDate(NOON + number).encode(),
        b"modified": formatDate(NOON - 3600 * number).encode(),
    }
    return (shape.head % places, *shape.pieces), _RESPONSE % places


@implementer(ITransport)
class Transport:
    """Keeps what is written, and does as little as can be."""

    disconnecting = False
    protocol: Any = None

    def __init__(self, written: list[bytes]) -> None:
        self.write = written.append
        self.writeSequence = written.extend

    def getPeer(self) -> IPv4Address:
        return _CLIENT

    getHost = getPeer

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Never pauses it."""

    def unregisterProducer(self) -> None:
        """Has none."""

    pauseProducing = resumeProducing = stopProducing = unregisterProducer

    def setTcpNoDelay(self, enabled: object) -> None:
        """Has no effect."""

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.protocol.connectionLost(connectionDone)

    def abortConnection(self) -> None:
        raise AssertionError("sitio aborts a connection")


_CLIENT = IPv4Address("TCP", "192.0.2.1", 40000)


@define
class Upstream:
    """The upstream's endpoint; it takes one connection."""

    written: list[bytes] = field(factory=list)
    protocol: Any = None

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.protocol is not None:
            raise AssertionError("sitio opens a second connection to the upstream")
        self.protocol = connected(factory, self.written)
        return succeed(self.protocol)


def connected(factory: Any, written: list[bytes]) -> Any:
    """Make a protocol, and connect it."""
    protocol = factory.buildProtocol(_CLIENT)
    transport = Transport(written)
    transport.protocol = protocol
    protocol.makeConnection(transport)
    return protocol


def _routed(generation: Generation, count: int) -> Generation:
    """The same with so many routes, of which the last one takes the requests."""
    matches = [RequestMatch(path=f"/users/{{id}}/{each}") for each in range(1, count // 2)]
    matches += [RequestMatch(prefix=f"/art{each}") for each in range(len(matches), count - 1)]
    matches.append(RequestMatch(path="/articles/{id}"))
    only = generation.fallback
    return evolve(generation, table=MatchTable(matches), routes=[only] * count)


class Side:
    """
    A sidecar with the policies of a shape.

    @ivar sent: what sitio wrote to its clients.
    @ivar play: runs exchanges.
    """

    def __init__(self, shape: Shape) -> None:
        policies: list[Any] = []
        for each in shape.policies:
            policies += loadPolicies(each) if isinstance(each, str) else [each]
        clock = Clock()
        # A real reactor's is no function of Python either.
        clock.seconds = repeat(1000.0).__next__  # type: ignore[method-assign]
        self._upstream = Upstream()
        service = SidecarService(
            cast(IReactorTime, clock),
            cast(IStreamServerEndpoint, None),
            cast(IStreamClientEndpoint, self._upstream),
            policies,
        )
        service.context.useMark("0123456789abcdef")
        if shape.routes:
            service.context.generation = _routed(service.context.generation, shape.routes)
        self._factory = service.factory
        self._shape = shape
        self.sent: list[bytes] = []
        self._client = connected(self._factory, self.sent)
        self.play = self._playConnecting if shape.connects else self._play

    def _play(self, exchanges: Iterable[Messages]) -> None:
        receive = self._client.dataReceived
        upstream = self._upstream
        for pieces, response in exchanges:
            for piece in pieces:
                receive(piece)
            upstream.protocol.dataReceived(response)

    def _playConnecting(self, exchanges: Iterable[Messages]) -> None:
        factory, sent, upstream = self._factory, self.sent, self._upstream
        for pieces, response in exchanges:
            connected(factory, sent).dataReceived(pieces[0])
            upstream.protocol.dataReceived(response)

    def check(self, count: int) -> None:
        """
        Check that this many exchanges have ended as they should, and forget them.

        @raise AssertionError: they have not.
        """
        got, asked = b"".join(self.sent), b"".join(self._upstream.written)
        self.sent.clear()
        self._upstream.written.clear()
        found = (
            got.count(b"HTTP/1.1 " + self._shape.status + b"\r\n"),
            got.count(self._shape.sees),
            asked.count(b"\r\nX-Forwarded-For: "),
        )
        if found != (count,) * 3:
            raise AssertionError(f"{count} exchanges, and {found} of status, sight and request")


def play(shape: Shape, mark: Callable[[], object], done: Callable[[], object]) -> None:
    """Play a shape, with C{mark} called before and C{done} after the exchanges that count."""
    side = Side(shape)
    first = messages(shape, 0, WARMING)
    then = messages(shape, WARMING, COUNTED)

    def run() -> None:
        side.play(first)
        side.check(WARMING)
        gc.collect()
        gc.disable()
        try:
            mark()
            side.play(then)
            done()
        finally:
            gc.enable()
        side.check(COUNTED)

    # Called by a loop, as on the reactors that have one: coroutines of policies are its tasks.
    # Not within a task, as theirs would have to pause that.
    loop = asyncio.new_event_loop()
    ended = loop.create_future()
    loop.call_soon(_callInto, ended, run)
    try:
        loop.run_until_complete(ended)
    finally:
        loop.close()


def _callInto(ended: asyncio.Future[None], function: Callable[[], None]) -> None:
    try:
        function()
        ended.set_result(None)
    except BaseException as error:
        ended.set_exception(error)


def playForCallgrind(shape: Shape) -> None:
    """Play a shape, with a call of L{MARK} before what counts, and one after it."""
    mark = partial(os.getsid, 0)
    play(shape, mark, mark)


def playForCalls(shape: Shape) -> None:
    """Play a shape, and print the calls that count as JSON: their number, by function."""
    counts: Counter[Any] = Counter()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            counts[frame.f_code] += 1
        elif event == "c_call":
            counts[argument if isinstance(argument, type) else _nameOf(argument)] += 1

    play(shape, lambda: sys.setprofile(profile), lambda: sys.setprofile(None))
    named: Counter[str] = Counter()
    for what, count in counts.items():
        named[_pathOf(what) if isinstance(what, CodeType) else str(what)] += count
    print(json.dumps(named))


def _nameOf(function: Any) -> str:
    owner = getattr(function, "__objclass__", None) or type(getattr(function, "__self__", None))
    return f"{owner.__name__}.{function.__name__}".replace("module.", "")


def _pathOf(code: CodeType) -> str:
    path = code.co_filename.removeprefix(f"{ROOT}{os.sep}").rpartition("site-packages/")[2]
    return f"{path}:{code.co_firstlineno} {code.co_qualname}"


PLAYERS = {"instructions": playForCallgrind, "calls": playForCalls}


def main(how: str, *names: str) -> None:
    """Play each shape in a process of its own; the ids of the processes are printed."""
    for name in names:
        child = os.fork()
        if not child:
            # A second that ends would cost some exchanges more.
            time.time = repeat(float(NOON)).__next__
            PLAYERS[how](SHAPES[name])
            sys.stdout.flush()
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"the shape {name} failed")
        print(child, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
