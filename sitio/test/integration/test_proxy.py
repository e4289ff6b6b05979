"""
Tests of sitio over loopback, between real clients and real services.

sitio runs in the process of the tests.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import sys
import threading
from typing import Any, ClassVar
from unittest import skipIf

import websockets.exceptions
import websockets.sync.client
import websockets.sync.server
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    readBody,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.static import Data, File
from zope.interface import implementer

from sitio import onFinish
from sitio.errors import Side
from sitio.net.endpoints import serverEndpoint
from sitio.net.portreactor import BACKLOG
from sitio.service import SidecarService
from sitio.settings import Settings
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.loopback import (
    LOCALHOST,
    LoopbackTestCase,
    Process,
    Upstream,
    reactor,
)

MEBIBYTE = 1024 * 1024

CURL = shutil.which("curl")

#: Bytes that are not a text, the same in each run.
BYTES = random.Random(7).randbytes(300_000)

TEXT = b"".join(b"line %d of a text that can be compressed\n" % each for each in range(5000))


# --- A service of twisted.web


class Echo(Resource):
    """Responds with a description of the request, as JSON."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        """Send method, target, fields and a digest of the body."""
        body = request.content.read()
        fields = {
            name.decode().lower(): [each.decode("latin-1") for each in values]
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        said = {
            "method": request.method.decode(),
            "target": request.uri.decode(),
            "fields": fields,
            "length": len(body),
            "digest": hashlib.sha256(body).hexdigest(),
        }
        request.setHeader(b"Content-Type", b"application/json")
        answer = json.dumps(said).encode()
        if request.method == b"HEAD":
            request.setHeader(b"Content-Length", b"%d" % len(answer))
            return b""
        return answer


class Pieces(Resource):
    """Sends L{BYTES} in pieces and without a length, so in chunks."""

    isLeaf = True

    def render_GET(self, request: Any) -> int:
        """Write one piece in each turn of the reactor."""
        self.send(request, 0)
        return NOT_DONE_YET

    def send(self, request: Any, at: int) -> None:
        """Send the piece that begins here, and then all others."""
        if at < len(BYTES):
            request.write(BYTES[at : at + 7001])
            reactor.callLater(0, self.send, request, at + 7001)
        else:
            request.finish()


class Zipped(Resource):
    """A text that is stored compressed."""

    isLeaf = True
    data: ClassVar[bytes] = gzip.compress(TEXT)

    def render_GET(self, request: Any) -> bytes:
        """Send the stored bytes."""
        request.setHeader(b"Content-Encoding", b"gzip")
        request.setHeader(b"Vary", b"Accept-Encoding")
        return self.data


class Elsewhere(Resource):
    """A redirect and two cookies."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """Send the redirect."""
        request.setResponseCode(302)
        request.setHeader(b"Location", b"/there")
        request.responseHeaders.setRawHeaders(b"Set-Cookie", [b"a=1; Path=/", b"b=2"])
        return b""


def site(folder: str) -> Site:
    """The upstream of most tests."""
    root = Resource()
    root.putChild(b"echo", Echo())
    root.putChild(b"pieces", Pieces())
    root.putChild(b"zipped", Zipped())
    root.putChild(b"elsewhere", Elsewhere())
    root.putChild(b"bytes", Data(BYTES, "application/octet-stream"))
    root.putChild(b"files", File(folder))
    return Site(root)


class IntegrationTestCase(LoopbackTestCase):
    """sitio in this process, between a client and a service."""

    def sidecar(
        self,
        upstream: str,
        *policies: Any,
        port: str = f"tcp:0:interface={LOCALHOST}:backlog={BACKLOG}",
    ) -> SidecarService:
        """Start sitio in front of an endpoint."""
        service = SidecarService(
            reactor,
            serverEndpoint(reactor, port),
            clientFromString(reactor, upstream),
            policies,
            statsInterval=0,
            # Its connections end with the test.
            settings=Settings(grace=0),
        )
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def inFront(self, upstream: int, *policies: Any) -> int:
        """Start sitio in front of a port, and return its own port."""
        return portOf(self.sidecar(f"tcp:{LOCALHOST}:{upstream}", *policies))

    def client(self, agent: Any = None) -> HTTPClient:
        """A treq client with persistent connections, which close at the end of the test."""
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        return HTTPClient(agent or Agent(reactor, pool=pool))


def portOf(service: SidecarService) -> int:
    """The port on which a sidecar listens."""
    assert service.port is not None
    address: Any = service.port.getHost()
    port: int = address.port
    return port


# --- python -m http.server


class HTTPServerTests(IntegrationTestCase):
    """
    The upstream is C{python -m http.server}, which speaks HTTP/1.0 and closes after each
    response.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        folder = self.shortFolder()
        (folder / "bytes").write_bytes(BYTES)
        (folder / "empty").write_bytes(b"")
        server = self.spawn(
            sys.executable, "-m", "http.server", "0", "--bind", LOCALHOST, cwd=str(folder)
        )
        self.upstream = int((await server.out.expect(rb"port ([0-9]+)"))[1])
        self.port = self.inFront(self.upstream)
        self.url = f"http://{LOCALHOST}:{self.port}"

    async def test_get(self) -> None:
        """A file arrives with all its bytes and fields."""
        client = self.client()
        response = await client.get(f"{self.url}/bytes")
        self.assertEqual(response.code, 200)
        self.assertEqual(await response.content(), BYTES)
        direct = await client.get(f"http://{LOCALHOST}:{self.upstream}/bytes")
        await direct.content()
        for name in ("Server", "Content-Type", "Last-Modified", "Content-Length"):
            self.assertEqual(
                response.headers.getRawHeaders(name), direct.headers.getRawHeaders(name)
            )

    async def test_empty(self) -> None:
        """An empty file arrives empty."""
        response = await self.client().get(f"{self.url}/empty")
        self.assertEqual((response.code, await response.content()), (200, b""))

    async def test_head(self) -> None:
        """HEAD gets the length and no body, and the connection is reused."""
        client = self.client()
        response = await client.head(f"{self.url}/bytes")
        self.assertEqual(response.headers.getRawHeaders("Content-Length"), [str(len(BYTES))])
        self.assertEqual(await response.content(), b"")
        response = await client.get(f"{self.url}/bytes")
        self.assertEqual(await response.content(), BYTES)

    async def test_missing(self) -> None:
        """A missing file is the 404 of the service."""
        response = await self.client().get(f"{self.url}/nothing")
        self.assertEqual(response.code, 404)
        self.assertIn(b"File not found", await response.content())

    async def test_keepAlive(self) -> None:
        """The client's connection persists, although the service closes its own each time."""
        said = await deferToThread(self.many, 40)
        self.assertEqual(said, [200] * 40)

    def many(self, times: int) -> list[int]:
        """The statuses of many requests on one connection.  Runs in a thread."""
        connection = http.client.HTTPConnection(LOCALHOST, self.port, timeout=self.timeout)
        connection.auto_open = 0
        connection.connect()
        statuses = []
        for _ in range(times):
            connection.request("GET", "/bytes")
            response = connection.getresponse()
            assert response.read() == BYTES
            statuses.append(response.status)
        connection.close()
        return statuses

    async def test_concurrent(self) -> None:
        """Concurrent requests each get their own response."""
        client = self.client()

        async def one(name: str) -> bytes:
            return await (await client.get(f"{self.url}/{name}")).content()

        wanted = [("bytes", BYTES), ("empty", b"")] * 5
        found = await gatherResults([Deferred.fromCoroutine(one(name)) for name, _ in wanted])
        self.assertEqual([hash(each) for each in found], [hash(each) for _, each in wanted])


# --- twisted.web and treq


@implementer(IBodyProducer)
class Unmeasured:
    """A body of unknown length, which is sent in chunks."""

    length = UNKNOWN_LENGTH

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write one piece in each turn of the reactor."""
        done: Deferred[None] = Deferred()

        def write(at: int) -> None:
            if at == len(self.pieces):
                done.callback(None)
            else:
                consumer.write(self.pieces[at])
                reactor.callLater(0, write, at + 1)

        write(0)
        return done

    def stopProducing(self) -> None:
        """There is nothing to stop."""

    pauseProducing = resumeProducing = stopProducing


class TwistedWebTests(IntegrationTestCase):
    """twisted.web is the upstream, treq the client: persistent connections, chunks, uploads."""

    async def setUp(self) -> None:  # type: ignore[override]
        folder = self.shortFolder()
        (folder / "bytes").write_bytes(BYTES)
        self.port = self.inFront(await self.listen(site(str(folder))))
        self.url = f"http://{LOCALHOST}:{self.port}"
        self.treq = self.client()

    async def test_get(self) -> None:
        """The service gets the client's request, with the client's address."""
        response = await self.treq.get(
            f"{self.url}/echo/a%20b?c=%2F&d", headers=Headers({"X-Mine": ["one", "two"]})
        )
        said = await response.json()
        self.assertEqual((said["method"], said["target"]), ("GET", "/echo/a%20b?c=%2F&d"))
        self.assertEqual(said["fields"]["x-mine"], ["one", "two"])
        self.assertEqual(said["fields"]["host"], [f"{LOCALHOST}:{self.port}"])
        self.assertEqual(said["fields"]["x-forwarded-for"], [LOCALHOST])
        self.assertEqual(said["fields"]["x-forwarded-proto"], ["http"])
        self.assertEqual(said["fields"]["x-forwarded-host"], [f"{LOCALHOST}:{self.port}"])
        self.assertNotIn("via", said["fields"])

    async def test_head(self) -> None:
        """HEAD gets the same length as GET, and no body."""
        response = await self.treq.head(f"{self.url}/bytes")
        self.assertEqual(response.headers.getRawHeaders("Content-Length"), [str(len(BYTES))])
        self.assertEqual(await response.content(), b"")

    async def test_methods(self) -> None:
        """Each method arrives unchanged with its body, also an unknown one."""
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "FROBNICATE"):
            response = await self.treq.request(method, f"{self.url}/echo", data=b"body")
            said = await response.json()
            self.assertEqual((said["method"], said["length"]), (method, 4))

    async def test_post(self) -> None:
        """An upload of known length arrives whole, with its length."""
        response = await self.treq.post(f"{self.url}/echo", data=BYTES)
        said = await response.json()
        self.assertEqual(said["digest"], hashlib.sha256(BYTES).hexdigest())
        self.assertEqual(said["fields"]["content-length"], [str(len(BYTES))])

    async def test_postChunked(self) -> None:
        """An upload in chunks arrives whole and in chunks."""
        pieces = [BYTES[at : at + 50_001] for at in range(0, len(BYTES), 50_001)]
        response = await self.treq.post(f"{self.url}/echo", data=Unmeasured(*pieces))
        said = await response.json()
        self.assertEqual(said["digest"], hashlib.sha256(BYTES).hexdigest())
        self.assertEqual(said["fields"]["transfer-encoding"], ["chunked"])
        self.assertNotIn("content-length", said["fields"])

    async def test_chunks(self) -> None:
        """A response in chunks arrives whole and in chunks."""
        response = await self.treq.get(f"{self.url}/pieces")
        self.assertEqual(response.length, UNKNOWN_LENGTH)
        self.assertEqual(await response.content(), BYTES)

    async def test_range(self) -> None:
        """A part of a file arrives with its Content-Range."""
        response = await self.treq.get(
            f"{self.url}/files/bytes", headers=Headers({"Range": ["bytes=10-19"]})
        )
        self.assertEqual(response.code, 206)
        self.assertEqual(
            response.headers.getRawHeaders("Content-Range"), [f"bytes 10-19/{len(BYTES)}"]
        )
        self.assertEqual(await response.content(), BYTES[10:20])

    async def test_notModified(self) -> None:
        """A 304 has no body, and the connection is reused."""
        response = await self.treq.get(f"{self.url}/files/bytes")
        await response.content()
        [changed] = response.headers.getRawHeaders("Last-Modified")
        for _ in range(2):
            response = await self.treq.get(
                f"{self.url}/files/bytes", headers=Headers({"If-Modified-Since": [changed]})
            )
            self.assertEqual((response.code, await response.content()), (304, b""))

    async def test_gzip(self) -> None:
        """A compressed response arrives unchanged."""
        response = await Agent(reactor).request(
            b"GET", f"{self.url}/zipped".encode(), Headers({"Accept-Encoding": ["gzip"]})
        )
        self.assertEqual(response.headers.getRawHeaders("Content-Encoding"), ["gzip"])
        self.assertEqual(await readBody(response), Zipped.data)

    async def test_redirect(self) -> None:
        """A redirect is left to the client, and repeated fields stay repeated."""
        response = await self.treq.get(f"{self.url}/elsewhere", allow_redirects=False)
        await response.content()
        self.assertEqual(response.code, 302)
        self.assertEqual(response.headers.getRawHeaders("Location"), ["/there"])
        self.assertEqual(response.headers.getRawHeaders("Set-Cookie"), ["a=1; Path=/", "b=2"])

    async def test_sequential(self) -> None:
        """Hundreds of requests, one after another, each get their own response."""
        for number in range(300):
            response = await self.treq.get(f"{self.url}/echo?{number}")
            self.assertEqual((await response.json())["target"], f"/echo?{number}")

    async def test_concurrent(self) -> None:
        """Hundreds of concurrent requests, some with uploads, each get their own response."""

        async def one(number: int) -> tuple[str, int]:
            response = await self.treq.post(f"{self.url}/echo?{number}", data=b"x" * number)
            said = await response.json()
            return said["target"], said["length"]

        found = await gatherResults([Deferred.fromCoroutine(one(each)) for each in range(128)])
        self.assertEqual(found, [(f"/echo?{each}", each) for each in range(128)])


# --- curl


@skipIf(CURL is None, "curl is not installed")
class CurlTests(IntegrationTestCase):
    """curl is the client, twisted.web the upstream."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.path = self.shortFolder()
        (self.path / "bytes").write_bytes(BYTES)
        self.service = site(str(self.path))
        self.upstream = await self.listen(self.service)
        self.url = f"http://{LOCALHOST}:{self.inFront(self.upstream)}"

    async def curl(self, *arguments: str) -> Process:
        """Run curl, which must succeed."""
        assert CURL is not None
        process = self.spawn(CURL, "--silent", "--show-error", "--noproxy", "*", *arguments)
        self.assertEqual(await process.finish(), 0, process.output())
        return process

    async def test_get(self) -> None:
        """A file arrives whole."""
        process = await self.curl(f"{self.url}/bytes")
        self.assertEqual(process.out.data, BYTES)

    async def test_head(self) -> None:
        """C{--head} gets a head, and does not wait for a body."""
        process = await self.curl("--head", f"{self.url}/bytes")
        self.assertTrue(process.output().startswith("HTTP/1.1 200 OK\r\n"))
        self.assertIn(f"Content-Length: {len(BYTES)}\r\n", process.output())

    async def test_upload(self) -> None:
        """Uploads arrive: with a length and in chunks, with Expect and without."""
        for arguments in (
            ["--header", "Expect:"],
            ["--header", "Expect: 100-continue"],
            ["--header", "Transfer-Encoding: chunked"],
            ["--header", "Transfer-Encoding: chunked", "--header", "Expect: 100-continue"],
        ):
            process = await self.curl(
                "--data-binary", f"@{self.path}/bytes", *arguments, f"{self.url}/echo"
            )
            said = json.loads(process.out.data)
            self.assertEqual(said["digest"], hashlib.sha256(BYTES).hexdigest())

    async def test_continue(self) -> None:
        """curl sends the body after the 100 of the service."""
        process = await self.curl(
            *("--verbose", "--expect100-timeout", "1000", "--header", "Expect: 100-continue"),
            *("--data-binary", f"@{self.path}/bytes", f"{self.url}/echo"),
        )
        self.assertIn("< HTTP/1.1 100 Continue", process.output())
        self.assertIn("< HTTP/1.1 200 OK", process.output())

    async def test_range(self) -> None:
        """C{--range} gets a part of the file."""
        process = await self.curl("--range", "10-19", f"{self.url}/files/bytes")
        self.assertEqual(process.out.data, BYTES[10:20])

    async def test_compressed(self) -> None:
        """curl decompresses a compressed response."""
        process = await self.curl("--compressed", f"{self.url}/zipped")
        self.assertEqual(process.out.data, TEXT)

    async def test_oldVersion(self) -> None:
        """An HTTP/1.0 client gets a chunked response without chunks, up to the close."""
        process = await self.curl("--http1.0", "--include", f"{self.url}/pieces")
        head, _, body = process.out.data.partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head.lower())
        self.assertEqual(body, BYTES)

    async def test_keepAlive(self) -> None:
        """
        curl gets several URLs on one connection, and sitio reuses its connection to the
        service.
        """
        process = await self.curl(
            *("--write-out", "%{stderr}connects %{num_connects}\\n", "--output", "/dev/null"),
            f"{self.url}/echo?[1-5]",
        )
        self.assertEqual(
            re.findall(r"connects ([0-9])", process.output()), ["1", "0", "0", "0", "0"]
        )

    async def test_unixSockets(self) -> None:
        """Clients and upstream may use UNIX sockets."""
        service = await serverFromString(reactor, f"unix:{self.path}/service").listen(self.service)
        self.addCleanup(service.stopListening)
        self.sidecar(f"unix:{self.path}/service", port=f"unix:{self.path}/sitio")
        process = await self.curl("--unix-socket", f"{self.path}/sitio", "http://here/echo")
        said = json.loads(process.out.data)
        self.assertEqual(said["fields"]["host"], ["here"])
        process = await self.curl("--unix-socket", f"{self.path}/sitio", "http://here/bytes")
        self.assertEqual(process.out.data, BYTES)

    async def test_proxyProtocol(self) -> None:
        """The PROXY protocol of a load balancer gives the client's address."""
        service = self.sidecar(
            f"tcp:{LOCALHOST}:{self.upstream}", port=f"haproxy:tcp:0:interface={LOCALHOST}"
        )
        process = await self.curl(
            "--haproxy-protocol", f"http://{LOCALHOST}:{portOf(service)}/bytes"
        )
        self.assertEqual(process.out.data, BYTES)
        for header, address in (
            (b"PROXY TCP4 192.0.2.7 192.0.2.80 40000 80\r\n", "192.0.2.7"),
            (b"PROXY TCP6 2001:db8:0:0::7 ::1 40000 80\r\n", "2001:db8::7"),
            (b"PROXY UNKNOWN\r\n", LOCALHOST),
        ):
            client = await self.connect(portOf(service))
            client.transport.setTcpNoDelay(True)
            for at in range(len(header)):
                client.send(header[at : at + 1])
                await deferLater(reactor, 0, lambda: None)
            client.send(b"GET /echo HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            await client.got.waitForEnd()
            said = json.loads(client.got.data.partition(b"\r\n\r\n")[2])
            self.assertEqual(said["fields"]["x-forwarded-for"], [address])

    async def test_noProxyProtocol(self) -> None:
        """A connection without a header, or with a wrong address in it, is reset."""
        service = self.sidecar(
            f"tcp:{LOCALHOST}:{self.upstream}", port=f"haproxy:tcp:0:interface={LOCALHOST}"
        )
        request = b"GET /echo HTTP/1.1\r\nHost: here\r\n\r\n"
        for header in (b"", b"PROXY TCP4 9.8.7.6\nX-Original-URL:/admin 1.1.1.1 1 2\r\n"):
            client = await self.connect(portOf(service), header + request)
            await client.got.waitForEnd()
            self.assertEqual(client.got.data, b"")
            self.assertFalse(client.clean)


# --- TLS


class TLSTests(IntegrationTestCase):
    """TLS to clients, and TLS to the upstream."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.path = self.shortFolder()
        key, certificate = certify(self.path)
        self.secure = f"ssl:0:interface={LOCALHOST}:privateKey={key}:certKey={certificate}"
        trust = trustRootFromCertificates([Certificate.loadPEM(certificate.read_bytes())])
        self.pool = HTTPConnectionPool(reactor)
        self.addCleanup(self.pool.closeCachedConnections)
        agent = Agent(reactor, BrowserLikePolicyForHTTPS(trust), pool=self.pool)
        self.treq = self.client(agent)
        self.site = site(str(self.path))

    async def test_inFront(self) -> None:
        """sitio speaks TLS to clients, and X-Forwarded-Proto tells the service."""
        upstream = await self.listen(self.site)
        service = self.sidecar(f"tcp:{LOCALHOST}:{upstream}", port=self.secure)
        url = f"https://{LOCALHOST}:{portOf(service)}"
        for _ in range(2):
            said = await (await self.treq.post(f"{url}/echo", data=BYTES)).json()
            self.assertEqual(said["fields"]["x-forwarded-proto"], ["https"])
            self.assertEqual(said["digest"], hashlib.sha256(BYTES).hexdigest())
        response = await self.treq.get(f"{url}/pieces")
        self.assertEqual(await response.content(), BYTES)

    async def secured(self) -> int:
        """Start a service that speaks TLS, and return its port."""
        listening = await serverFromString(reactor, self.secure).listen(self.site)
        self.addCleanup(listening.stopListening)
        address: Any = listening.getHost()
        port: int = address.port
        return port

    async def test_behind(self) -> None:
        """sitio connects by TLS to a service with a trusted certificate."""
        upstream = await self.secured()
        service = self.sidecar(f"tls:localhost:{upstream}:trustRoots={self.path}/trusted")
        url = f"http://{LOCALHOST}:{portOf(service)}"
        for _ in range(2):
            said = await (await self.treq.post(f"{url}/echo", data=BYTES)).json()
            self.assertEqual(said["fields"]["x-forwarded-proto"], ["http"])
            self.assertEqual(said["digest"], hashlib.sha256(BYTES).hexdigest())
        response = await self.treq.get(f"{url}/pieces")
        self.assertEqual(await response.content(), BYTES)

    async def test_untrusted(self) -> None:
        """A service with an untrusted certificate gets no request; the client gets a 502."""
        upstream = await self.secured()
        service = self.sidecar(f"tls:localhost:{upstream}")
        response = await self.treq.get(f"http://{LOCALHOST}:{portOf(service)}/echo")
        self.assertEqual(response.code, 502)
        self.assertNotIn(b"localhost", await response.content())


# --- Clients that go away


class GoneTests(IntegrationTestCase):
    """
    When a client disconnects, sitio closes the upstream's connection at once; the status
    is 499.
    """

    #: Seconds until the service's connection must have ended.
    AT_ONCE = 0.1

    async def gone(self, how: str, request: bytes, part: bytes = b"") -> tuple[float, int]:
        """
        Let a client leave after the service got its request and sent part of a response.

        @return: the seconds until the service's connection ended, and the status of the
            exchange.
        """
        ended: list[Any] = []
        upstream = Upstream()
        port = self.inFront(await self.listen(upstream), onFinish(ended.append))
        client = await self.connect(port, request)
        asked = await upstream.connection()
        await asked.got.expect(b"\r\n\r\n")
        if part:
            asked.send(part)
            await client.got.expect(part[-5:] + b"$")
        began = reactor.seconds()
        getattr(client.transport, how)()
        await asked.got.waitForEnd()
        took: float = reactor.seconds() - began
        [exchange] = ended
        self.assertEqual(exchange.failure.side, Side.CLIENT)
        return took, exchange.status

    async def assertGone(self, request: bytes, part: bytes = b"") -> None:
        """
        Assert that the service's connection ends at once and the status is 499, whether the
        client closes or resets.
        """
        for how in ("abortConnection", "loseConnection"):
            # The best of several attempts, as the machine may be busy.
            found = [await self.gone(how, request, part) for _ in range(3)]
            self.assertLess(min(took for took, _ in found), self.AT_ONCE)
            self.assertEqual({status for _, status in found}, {499})

    async def test_beforeResponse(self) -> None:
        """The client disconnects while it waits for the response."""
        await self.assertGone(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")

    async def test_withinResponse(self) -> None:
        """The client disconnects while it receives the response."""
        await self.assertGone(
            b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n01234",
        )

    async def test_withinRequest(self) -> None:
        """The client disconnects while it sends its request."""
        await self.assertGone(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 99\r\n\r\n01")

    async def test_withRequestsBehind(self) -> None:
        """The client disconnects while more of its requests wait behind the current one."""
        await self.assertGone(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 3)


# --- WebSocket


class WebSocketTests(IntegrationTestCase):
    """C{websockets} on both sides."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.closed: list[Any] = []
        server = websockets.sync.server.serve(
            self.serve, LOCALHOST, 0, process_request=self.admit, max_size=8 * MEBIBYTE
        )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        self.port = self.inFront(server.socket.getsockname()[1])

    def serve(self, connection: Any) -> None:
        """Echo messages until C{close}.  Runs in a thread."""
        try:
            for message in connection:
                if message == "close":
                    connection.close(4001, "as you wish")
                    return
                if message == "break":
                    connection.socket.shutdown(socket.SHUT_RDWR)
                    return
                connection.send(message)
            self.closed.append(connection.close_code)
        except websockets.exceptions.ConnectionClosed:
            self.closed.append(connection.close_code)

    def admit(self, connection: Any, request: Any) -> Any:
        """Accept all upgrades but those of one path."""
        if request.path == "/forbidden":
            return connection.respond(403, "not you\n")
        return None

    def connection(self, path: str = "/") -> Any:
        """Connect through sitio.  For use in a thread."""
        return websockets.sync.client.connect(
            f"ws://{LOCALHOST}:{self.port}{path}", max_size=8 * MEBIBYTE, proxy=None
        )

    async def test_echo(self) -> None:
        """Messages of all kinds, up to 1 MiB, pass unchanged in both directions."""
        messages = [
            "text",
            "ümläut ☃",
            b"",
            b"\0\xff",
            BYTES,
            os.urandom(MEBIBYTE),
            "x" * MEBIBYTE,
        ]

        def talk() -> list[Any]:
            with self.connection() as connection:
                found = []
                for each in messages:
                    connection.send(each)
                    found.append(connection.recv(timeout=self.timeout))
            return found

        self.assertEqual(await deferToThread(talk), messages)
        await self.until(lambda: self.closed)
        self.assertEqual(self.closed, [1000])

    async def test_ping(self) -> None:
        """A ping is answered by its pong."""

        def talk() -> bool:
            with self.connection() as connection:
                return bool(connection.ping(b"there?").wait(self.timeout))

        self.assertTrue(await deferToThread(talk))

    async def test_manyAtOnce(self) -> None:
        """Messages larger than all buffers together may be on their way."""

        def talk() -> int:
            message = os.urandom(MEBIBYTE)
            with self.connection() as connection:
                sender = threading.Thread(
                    target=lambda: [connection.send(message) for _ in range(16)]
                )
                sender.start()
                same = sum(connection.recv(timeout=self.timeout) == message for _ in range(16))
                sender.join()
            return same

        self.assertEqual(await deferToThread(talk), 16)

    async def test_serverCloses(self) -> None:
        """The close frame of the service reaches the client with its code and reason."""

        def talk() -> tuple[int | None, str | None]:
            with self.connection() as connection:
                connection.send("close")
                with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                    connection.recv(timeout=self.timeout)
                return connection.close_code, connection.close_reason

        self.assertEqual(await deferToThread(talk), (4001, "as you wish"))

    async def test_clientCloses(self) -> None:
        """The close frame of the client reaches the service with its code."""
        await deferToThread(lambda: self.connection().close(4002, "enough"))
        await self.until(lambda: self.closed)
        self.assertEqual(self.closed, [4002])

    async def test_serverBreaks(self) -> None:
        """If the service disconnects without a close frame, so does the client's connection."""

        def talk() -> int | None:
            with self.connection() as connection:
                connection.send("break")
                with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                    connection.recv(timeout=self.timeout)
                code: int | None = connection.close_code
                return code

        self.assertEqual(await deferToThread(talk), 1006)

    async def test_clientBreaks(self) -> None:
        """If the client disconnects without a close frame, so does the service's connection."""

        def talk() -> None:
            connection = self.connection()
            connection.send("hello")
            connection.recv(timeout=self.timeout)
            connection.socket.shutdown(socket.SHUT_RDWR)

        await deferToThread(talk)
        await self.until(lambda: self.closed)
        self.assertEqual(self.closed, [1006])

    async def test_refused(self) -> None:
        """A refused upgrade is an ordinary response."""

        def talk() -> tuple[int, bytes]:
            try:
                self.connection("/forbidden").close()
            except websockets.exceptions.InvalidStatus as error:
                return error.response.status_code, bytes(error.response.body)
            raise AssertionError("it was let in")

        self.assertEqual(await deferToThread(talk), (403, b"not you\n"))
