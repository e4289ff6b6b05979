"""
Tests of policies that use libraries for asyncio, in whole processes and over loopback.
"""

from __future__ import annotations

import re
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.protocol import Factory, Protocol

from sitio.test.helpers.loopback import LISTENING_LINE, LOCALHOST, TWISTD, LoopbackTestCase, Process

#: The libraries of the policy below.  They come with the extra C{dev}.
LIBRARIES = ("asyncpg", "httpx", "redis")

if missing := [each for each in LIBRARIES if find_spec(each) is None]:
    skip = f"not installed: {', '.join(missing)}"

POLICY = """
import asyncio
import time

import asyncpg
import httpx
import redis.asyncio
from twisted.internet.task import deferLater
from sitio import Response, inThread, onRequest

async def later(seconds):
    from twisted.internet import reactor
    return await deferLater(reactor, seconds, lambda: "twisted")

async def byHttpx():
    async with httpx.AsyncClient(timeout=20) as client:
        pair = await asyncio.gather(*(client.get("http://HOST:%(http)d/" + x) for x in "ab"))
        return " ".join(each.text for each in pair)

async def byRedis():
    async with redis.asyncio.Redis(host="HOST", port=%(redis)d, protocol=2) as client:
        await client.set("k", "v")
        return (await client.get("k")).decode()

async def byAsyncpg():
    connection = await asyncpg.connect(
        host="HOST", port=%(postgres)d, user="u", database="d", ssl=False, timeout=20)
    async with asyncio.timeout(20):
        try:
            return await connection.execute("SELECT 1")
        finally:
            await connection.close()

async def mixed():
    async with asyncio.timeout(20):
        said = [await later(0.01), await asyncio.sleep(0.01, "asyncio"), await inThread(str, 5)]
        said += await asyncio.gather(byHttpx(), byRedis(), inThread(len, "six"))
    return repr(said)

async def late():
    try:
        async with asyncio.timeout(0.01):
            await later(20)
    except TimeoutError:
        return "late"

async def forever():
    print("WAITING", flush=True)
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        print("CANCELLED", flush=True)
        raise

async def joined():
    return " ".join(await asyncio.gather(later(0.01), later(0.01)))

async def exits():
    await later(0.01)
    raise SystemExit(3)

async def exit():
    await asyncio.gather(exits(), later(0.01))

def block():
    print("BLOCKED", flush=True)
    time.sleep(600)

WAYS = dict(
    block=lambda: inThread(block),
    httpx=byHttpx, redis=byRedis, asyncpg=byAsyncpg, mixed=mixed, late=late, forever=forever,
    exit=exit, children=lambda: asyncio.wait_for(joined(), 20),
    deferred=lambda: later(0.01), thread=lambda: inThread(str, 7))

@onRequest
async def ask(exchange):
    return Response(200, text=await WAYS[exchange.request.path[1:]]())
"""


class HTTP(Protocol):
    """Answers each request with its path."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        path = data.split()[1]
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))


class Redis(Protocol):
    """Speaks enough RESP 2 for SET and GET (https://redis.io/docs: protocol spec)."""

    transport: Any

    values: ClassVar[dict[bytes, bytes]] = {}

    def __init__(self) -> None:
        self.held = b""

    def dataReceived(self, data: bytes) -> None:
        self.held += data
        while found := re.match(rb"\*[0-9]+\r\n((?:\$[0-9]+\r\n[^\r]*\r\n)+)", self.held):
            self.held = self.held[found.end() :]
            name, *words = re.findall(rb"\$[0-9]+\r\n([^\r]*)\r\n", found[1])
            if name == b"SET":
                self.values[words[0]] = words[1]
            if name == b"GET":
                value = self.values[words[0]]
                self.transport.write(b"$%d\r\n%b\r\n" % (len(value), value))
            else:
                self.transport.write(b"+OK\r\n")


class Postgres(Protocol):
    """Speaks enough of PostgreSQL's protocol 3 for a simple query."""

    transport: Any

    def __init__(self) -> None:
        self.held = b""
        self.isStarted = False

    def dataReceived(self, data: bytes) -> None:
        self.held += data
        while message := self._take():
            kind, _ = message
            if kind == b"":
                self._send(b"R", struct.pack("!i", 0))
                self._send(b"S", b"server_version\x0016.0\x00")
                self._send(b"S", b"client_encoding\x00UTF8\x00")
            elif kind == b"Q":
                self._send(b"C", b"SELECT 1\x00")
            elif kind == b"X":
                self.transport.loseConnection()
                return
            self._send(b"Z", b"I")

    def _take(self) -> tuple[bytes, bytes] | None:
        kindLength = 1 if self.isStarted else 0
        if len(self.held) < kindLength + 4:
            return None
        end = kindLength + struct.unpack_from("!i", self.held, kindLength)[0]
        if len(self.held) < end:
            return None
        kind, body, self.held = (
            self.held[:kindLength],
            self.held[kindLength + 4 : end],
            self.held[end:],
        )
        self.isStarted = True
        return kind, body

    def _send(self, kind: bytes, body: bytes) -> None:
        self.transport.write(kind + struct.pack("!i", len(body) + 4) + body)


class LibraryTests(LoopbackTestCase):
    """httpx, redis.asyncio and asyncpg work in policies, beside Twisted."""

    async def start(self, reactor: str, *options: str) -> None:
        """Start sitio with the policy on this reactor."""
        ports = {
            name: await self.listen(Factory.forProtocol(protocol))
            for name, protocol in (("http", HTTP), ("redis", Redis), ("postgres", Postgres))
        }
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "ask.py").write_text(POLICY.replace("HOST", LOCALHOST) % ports)
        self.process: Process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", f"--reactor={reactor}", "sitio", "--admin="),
            *("--port", f"tcp:0:interface={LOCALHOST}", "--upstream", f"tcp:{LOCALHOST}:1"),
            *("--policy", f"file:{(folder / 'ask.py').absolute()}", *options),
        )
        self.port = int((await self.process.out.expect(LISTENING_LINE))[1])

    async def ask(self, way: str, status: int, body: str) -> None:
        """Check what one request gets."""
        request = f"GET /{way} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        client = await self.connect(self.port, request.encode())
        await client.got.waitForEnd()
        got = client.got.data.decode()
        self.assertIn(f"HTTP/1.1 {status} ", got, self.process.output())
        self.assertEqual(got.partition("\r\n\r\n")[2], body) if body else None

    async def checkAll(self, reactor: str) -> None:
        """Check all ways to wait on a reactor that runs asyncio."""
        await self.start(reactor, "--policy-timeout=20")
        for way, body in (
            ("httpx", "/a /b"),
            ("redis", "v"),
            ("asyncpg", "SELECT 1"),
            ("mixed", "['twisted', 'asyncio', '5', '/a /b', 'v', 3]"),
            ("late", "late"),
            ("deferred", "twisted"),
            ("children", "twisted twisted"),
            ("thread", "7"),
        ):
            await self.ask(way, 200, body)
        client = await self.connect(self.port, b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n")
        await self.process.out.expect(b"WAITING")
        client.transport.abortConnection()
        await self.process.out.expect(b"CANCELLED")
        self.process.signal(15)
        await self.process.finish()
        self.assertNotIn("Traceback", self.process.output())

    def test_uv(self) -> object:
        """They work on sitio's reactor, and a client that leaves cancels them."""
        return self.checkAll("uv")

    def test_asyncio(self) -> object:
        """They work on Twisted's asyncio reactor as well."""
        return self.checkAll("asyncio")

    async def test_timeout(self) -> None:
        """The policy timeout cancels a coroutine that waits for asyncio."""
        await self.start("uv", "--policy-timeout=0.1")
        await self.ask("forever", 500, "")
        await self.process.out.expect(b"CANCELLED")
        await self.process.out.expect(rb"it took longer than 0\.1 s")

    async def test_exit(self) -> None:
        """C{sys.exit} in a task that a policy has started ends neither it nor sitio."""
        for reactor in ("uv", "asyncio"):
            await self.start(reactor)
            await self.ask("exit", 500, "")
            await self.ask("deferred", 200, "twisted")

    async def test_epoll(self) -> None:
        """On a reactor without asyncio they fail, and the log says which reactor to use."""
        await self.start("epoll")
        await self.ask("deferred", 200, "twisted")
        await self.ask("thread", 200, "7")
        await self.ask("mixed", 500, "")
        await self.process.out.expect(b"start twistd with --reactor=uv ")

    async def test_stop(self) -> None:
        """sitio ends on any reactor while a call in a thread still runs."""
        for reactor in ("uv", "epoll"):
            await self.start(reactor)
            client = await self.connect(self.port, b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
            await self.process.out.expect(b"BLOCKED")
            client.transport.abortConnection()
            # The signal alone ends it, long before the call does.
            self.process.signal(15)
            await self.process.finish()
            self.assertNotIn("Traceback", self.process.output())
