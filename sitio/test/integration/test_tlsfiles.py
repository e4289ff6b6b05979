"""
Tests of TLS from files on real sockets: with C{openssl s_client}, with Python's own TLS, and with
certificates that are replaced under load.
"""

from __future__ import annotations

import shutil
import ssl
from functools import partial
from pathlib import Path
from typing import Any
from unittest import skipUnless

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint

from sitio.net.portreactor import portFromString
from sitio.net.tls import TLSServerEndpoint
from sitio.net.tlsclient import TLSClientEndpoint
from sitio.net.tlsfiles import TLSFiles
from sitio.net.tlssettings import ClientTLS, ServerTLS
from sitio.net.watching import Watcher
from sitio.proxy.securing import PLACE_SECONDS
from sitio.service import SidecarService
from sitio.settings import Settings
from sitio.test.helpers.authority import Authority
from sitio.test.helpers.loopback import (
    LOCALHOST,
    LoopbackTestCase,
    ServerConnection,
    Upstream,
    reactor,
)

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

#: A command of C{openssl s_client} that asks for one response.
ASK = r"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


class Answering(ServerConnection):
    """A connection of a service that answers each request."""

    def dataReceived(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self.transport.write(RESPONSE)


class AnsweringService(Upstream):
    """A service that answers each request."""

    def buildProtocol(self, addr: Any) -> ServerConnection:
        made = Answering(None)
        self.connections.append(made)
        return made


class TLSFilesTestCase(LoopbackTestCase):
    """A sitio with a port by TLS, whose files are watched, in front of a service."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.authority = Authority(Path(self.mktemp()).absolute())
        self.files = self.authority.issue("server", "localhost", LOCALHOST, commonName="first")
        self.watcher = Watcher(reactor)
        self.watcher.startService()
        self.addCleanup(self.watcher.stopService)
        self.tls = TLSFiles(self.watcher)
        self.service = AnsweringService()
        self.upstream = await self.listen(self.service)

    def serve(
        self, *, below: Any = None, limits: Settings | None = None, upstream: Any = None, **tls: Any
    ) -> int:
        """Start sitio, and return its port."""
        settings = ServerTLS(self.files.certificate, self.files.key, **tls)
        listen = below or portFromString(reactor, f"tcp:0:interface={LOCALHOST}")
        self.sidecar = SidecarService(
            reactor,
            TLSServerEndpoint(reactor, listen, self.tls.port("main", settings)),
            upstream or HostnameEndpoint(reactor, LOCALHOST, self.upstream),
            statsInterval=0,
            settings=limits or Settings(grace=0),
        )
        self.sidecar.startService()
        self.addCleanup(self.sidecar.stopService)
        assert self.sidecar.port is not None
        number: int = getattr(self.sidecar.port.getHost(), "port", 0)
        return number

    async def openssl(self, port: int, *options: str, ask: str = ASK) -> str:
        """What C{openssl s_client} prints."""
        process = self.spawn(
            "sh",
            "-c",
            f"printf '{ask}' | openssl s_client -connect {LOCALHOST}:{port} -ign_eof"
            f' -CAfile {self.authority.file} "$@"',
            "sh",
            *options,
        )
        await process.finish()
        return process.output()


@skipUnless(shutil.which("openssl"), "openssl is not installed")
class CommandTests(TLSFilesTestCase):
    """C{openssl s_client} as a client."""

    async def test_response(self) -> None:
        """It gets its response, over TLS 1.3 with ALPN, and trusts the certificate."""
        port = self.serve()
        seen = await self.openssl(port, "-alpn", "h2,http/1.1")
        self.assertIn("HTTP/1.1 200 OK", seen)
        self.assertIn("ALPN protocol: http/1.1", seen)
        self.assertRegex(seen, "New, TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256")
        self.assertIn("Verify return code: 0 (ok)", seen)

    async def test_otherProtocol(self) -> None:
        """A client that speaks only HTTP/2 gets the alert for that."""
        seen = await self.openssl(self.serve(), "-alpn", "h2")
        self.assertIn("no application protocol", seen)
        self.assertNotIn("HTTP/1.1", seen)

    async def test_minimum(self) -> None:
        """Older versions than the minimum are refused: those before 1.2 in any case."""
        port = self.serve()
        self.assertIn("200 OK", await self.openssl(port, "-tls1_2"))
        self.assertNotIn(
            "200 OK", await self.openssl(port, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
        )
        port = self.serve(minimum="1.3")
        self.assertIn("200 OK", await self.openssl(port, "-tls1_3"))
        seen = await self.openssl(port, "-tls1_2")
        self.assertNotIn("200 OK", seen)
        self.assertIn("protocol version", seen)

    async def test_serverName(self) -> None:
        """It gets the certificate for the name that it asks for."""
        more = [self.authority.issue("shop", "*.shop.example", commonName="shop")]
        port = self.serve(more=more)
        for name, expected in (
            ("x.shop.example", "shop"),
            ("localhost", "first"),
            ("other.example", "first"),
        ):
            seen = await self.openssl(port, "-servername", name)
            self.assertRegex(seen, rf"subject=.*CN ?= ?{expected}")
            self.assertIn("200 OK", seen)

    async def test_resumed(self) -> None:
        """A session is resumed, in TLS 1.2 and 1.3."""
        port = self.serve()
        for version in ("-tls1_2", "-tls1_3"):
            session = str(Path(self.mktemp()).absolute())
            self.assertIn("New, TLSv1", await self.openssl(port, version, "-sess_out", session))
            seen = await self.openssl(port, version, "-sess_in", session)
            self.assertIn("Reused, TLSv1", seen)
            self.assertIn("200 OK", seen)

    async def test_clientCertificate(self) -> None:
        """With authorities for clients, one without a certificate of theirs gets no response."""
        port = self.serve(clientCA=self.authority.file)
        own = self.authority.issue("own", "client.example", commonName="me")
        stranger = Authority(Path(self.mktemp()).absolute()).issue("own", "client.example")
        for version in ("-tls1_2", "-tls1_3"):
            for files, isServed in ((own, True), (stranger, False), (None, False)):
                shown = () if files is None else ("-cert", files.certificate, "-key", files.key)
                seen = await self.openssl(port, version, *shown)
                self.assertEqual("200 OK" in seen, isServed, seen)
                if not isServed:
                    self.assertRegex(
                        seen, "alert (certificate required|handshake failure|unknown ca)"
                    )
            self.assertIn("Acceptable client certificate CA names", seen)

    async def test_haproxy(self) -> None:
        """The header of a load balancer comes before TLS."""
        port = self.serve(below=portFromString(reactor, f"haproxy:tcp:0:interface={LOCALHOST}"))
        client = await self.connect(port, b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n")
        secured = _Python(client, self.authority)
        await secured.ask()


class _Python:
    """Python's own TLS above a client that a test has connected."""

    def __init__(self, client: Any, authority: Authority) -> None:
        context = ssl.create_default_context(cafile=str(authority.file))
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._client = client
        self._seen = 0

    async def _move(self, step: Any) -> Any:
        got = self._client.got
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._client.send(self._out.read())
                await got.waitUntil(lambda: len(got.data) > self._seen)
                self._in.write(got.data[self._seen :])
                self._seen = len(got.data)

    async def begin(self) -> None:
        """Do the handshake."""
        await self._move(self._tls.do_handshake)
        self._client.send(self._out.read())

    async def ask(self) -> None:
        """Ask for one response, and get it."""
        if not self._seen:
            await self.begin()
        self._tls.write(REQUEST)
        data = b""
        while not data.endswith(b"hi"):
            data += await self._move(self._tls.read)

    def subject(self) -> str:
        """The common name of the certificate that it has seen."""
        found: Any = self._tls.getpeercert()
        return next(value for ((key, value), *_) in found["subject"] if key == "commonName")


class RotationTests(TLSFilesTestCase):
    """Certificates that are replaced while clients ask."""

    async def dial(self, port: int) -> _Python:
        """Connect a client with Python's own TLS."""
        secured = _Python(await self.connect(port), self.authority)
        await secured.begin()
        return secured

    async def test_underLoad(self) -> None:
        """
        No request fails while the certificate is replaced, kept connections live on, and new
        clients see the new certificate.
        """
        port = self.serve()
        kept = [await self.dial(port) for _ in range(4)]
        ended = False
        asked = 0
        names: list[str] = []

        async def keepAsking(client: _Python) -> None:
            nonlocal asked
            while not ended:
                await client.ask()
                asked += 1

        async def keepConnecting() -> None:
            nonlocal asked
            while not ended:
                client = await self.dial(port)
                await client.ask()
                asked += 1
                names.append(client.subject())

        def seen(name: str) -> bool:
            return names[-1:] == [name]

        running = [Deferred.fromCoroutine(keepAsking(each)) for each in kept]
        running += [Deferred.fromCoroutine(keepConnecting()) for _ in range(2)]
        for name in ("second", "third"):
            await self.until(lambda: len(names) > 3)
            self.authority.issue("server", "localhost", LOCALHOST, commonName=name)
            await self.until(partial(seen, name))
        ended = True
        await gatherResults(running)
        self.assertEqual(
            [each for n, each in enumerate(names) if each not in names[:n]],
            ["first", "second", "third"],
        )
        self.assertEqual({each.subject() for each in kept}, {"first"})
        self.assertGreater(asked, len(names))

    async def test_toUpstream(self) -> None:
        """
        The authorities for an upstream are replaced: the next connection trusts the new ones.
        """
        others = Authority(self.authority.folder, "others")
        up = others.issue("up", "localhost")
        served = TLSFiles().port("service", ServerTLS(up.certificate, up.key))
        secure = TLSServerEndpoint(
            reactor, TCP4ServerEndpoint(reactor, 0, interface=LOCALHOST), served
        )
        listening: Any = await secure.listen(self.service)
        self.addCleanup(listening.stopListening)
        trusted = self.authority.folder / "trusted.pem"
        trusted.write_bytes(self.authority.file.read_bytes())
        upstream = TLSClientEndpoint(
            reactor,
            HostnameEndpoint(reactor, LOCALHOST, listening.getHost().port),
            self.tls.upstream("up", ClientTLS(ca=trusted, name="localhost")),
            LOCALHOST,
        )
        port = self.serve(upstream=upstream)
        client = await self.dial(port)
        client._tls.write(REQUEST)
        self.assertIn(b"502 Bad Gateway", await client._move(client._tls.read))
        trusted.write_bytes(others.file.read_bytes())
        await self.until(lambda: self.tls.snapshot() and self._trusts(upstream, others))
        await (await self.dial(port)).ask()

    def _trusts(self, upstream: Any, authority: Authority) -> bool:
        current = upstream.tls.current
        self._first = getattr(self, "_first", current)
        return current is not self._first


class SlowTests(TLSFilesTestCase):
    """Clients that don't finish their handshake."""

    async def test_placeOfOthers(self) -> None:
        """
        They have no place among the clients after a second, and end when the time for a head is
        over.
        """
        limits = Settings(grace=0, maxClients=4, headTimeout=PLACE_SECONDS + 2)
        port = self.serve(limits=limits)
        slow = [await self.connect(port, b"\x16\x03\x01") for _ in range(4)]
        client = await self.connect(port)
        secured = _Python(client, self.authority)
        await secured.ask()
        for each in slow:
            await each.got.waitForEnd()
        self.assertEqual(self.sidecar.factory.connections, 1)
        self.assertEqual(self.sidecar._room.taken, 1)
        await secured.ask()
