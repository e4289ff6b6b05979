"""
Tests of C{twistd sitio --config} with TLS from files, as a process.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread

from sitio.net.tls import TLSServerEndpoint
from sitio.net.tlsfiles import TLSFiles
from sitio.net.tlssettings import ServerTLS
from sitio.test.helpers.authority import Authority
from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    Client,
    LoopbackTestCase,
    Process,
    ServerConnection,
    Upstream,
    reactor,
)

#: Seconds for a blocking client's wait.
SOCKET_SECONDS = 10.0


def answer(connection: ServerConnection) -> None:
    """Answer one request, whatever it is."""
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")


class ConfigTests(LoopbackTestCase):
    """TLS to clients and to the service, from C{sitio.toml}."""

    def setUp(self) -> None:
        self.authority = Authority(self.shortFolder())
        self.folder = self.authority.folder

    async def start(self, extra: str = "") -> tuple[Process, int]:
        """Start sitio in front of a service that speaks TLS."""
        self.authority.issue("tls", "localhost", commonName="first")
        service = self.authority.issue("service", "service.example")
        own = TLSFiles().port(
            "service", ServerTLS(service.certificate, service.key, self.authority.file)
        )
        self.authority.issue("me", "me.example")
        secure = TLSServerEndpoint(reactor, TCP4ServerEndpoint(reactor, 0, 5, LOCALHOST), own)
        upstream = Upstream(answer)
        listening: Any = await secure.listen(upstream)
        self.addCleanup(listening.stopListening)
        self.addCleanup(upstream.close)
        (self.folder / "sitio.toml").write_text(
            f"""{extra}
            [listener]
            address = "{LOCALHOST}:0"
            [listener.tls]
            certificate = "tls.crt"
            key = "tls.key"
            [admin]
            address = "unix:admin.sock"
            [upstream]
            address = "{LOCALHOST}:{listening.getHost().port}"
            [upstream.tls]
            ca = "ca.pem"
            name = "service.example"
            certificate = "me.crt"
            key = "me.key"
            """
        )
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "sitio", "--config", "sitio.toml"), cwd=str(self.folder)
        )
        return process, int((await process.out.expect(LISTENING_LINE))[1])

    def dial(self, port: int) -> str:
        """Ask for one response, in a thread; returns the name in sitio's certificate."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        plain = socket.create_connection((LOCALHOST, port), SOCKET_SECONDS)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"GET / HTTP/1.0\r\nHost: here\r\n\r\n")
            data = b""
            while piece := client.recv(9999):
                data += piece
            self.assertTrue(data.endswith(b"\r\n\r\nhi"), data)
            found: Any = client.getpeercert()
        return next(value for ((key, value), *_) in found["subject"] if key == "commonName")

    async def admin(self, process: Process, page: str) -> bytes:
        """A page of the admin port."""
        await process.out.expect(b"admin pages are on")
        endpoint = UNIXClientEndpoint(reactor, str(self.folder / "admin.sock"))
        client: Any = await endpoint.connect(Factory.forProtocol(Client))
        client.send(f"GET {page} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        await client.got.waitForEnd()
        seen: bytes = client.got.data
        return seen

    async def test_rotates(self) -> None:
        """A new certificate is used without a restart; one that can't be used is told."""
        process, port = await self.start()
        self.assertEqual(await deferToThread(self.dial, port), "first")
        self.authority.issue("tls", "localhost", commonName="second")
        await process.out.expect(b"The listener uses new TLS files: CN=second")
        self.assertEqual(await deferToThread(self.dial, port), "second")
        (self.folder / "tls.key").write_bytes(b"")
        await process.out.expect(b"are not used, those before stay: .*holds no private key")
        self.assertEqual(await deferToThread(self.dial, port), "second")
        ready = await self.admin(process, "/ready")
        self.assertIn(b"200 OK", ready)
        self.assertIn(b"sitio is ready; listener: the new TLS files are not used", ready)
        metrics = await self.admin(process, "/metrics")
        self.assertRegex(
            metrics,
            rb'sitio_certificate_expiry_timestamp_seconds{name="listener",role="listener",'
            rb'serial="[0-9A-F]+",subject="CN=second',
        )
        self.assertIn(b'sitio_tls_files_rejected{name="listener",role="listener"} 1.0', metrics)
        self.assertIn(b'sitio_tls_files_rejected{name="upstream",role="upstream"} 0.0', metrics)

    async def test_workers(self) -> None:
        """Workers have the same."""
        process, port = await self.start("workers = 2")
        # A worker that starts later has the new files at once.
        await self.until(lambda: process.output().count("takes requests on") == 2)
        self.assertEqual(await deferToThread(self.dial, port), "first")
        self.authority.issue("tls", "localhost", commonName="second")
        await self.until(
            lambda: len(re.findall(rb"uses new TLS files: CN=second", process.out.data)) >= 2
        )
        for _ in range(4):
            self.assertEqual(await deferToThread(self.dial, port), "second")
        self.assertIn(b"sitio is ready", await self.admin(process, "/ready"))

    async def test_refused(self) -> None:
        """A certificate that can't be used ends the start with one sentence."""
        self.authority.issue("tls", "localhost")
        (self.folder / "sitio.toml").write_text(
            '[upstream]\naddress = "localhost:8087"\n'
            '[listener.tls]\ncertificate = "tls.crt"\nkey = "tls.crt"\n'
        )
        process = self.twistd("--config", "sitio.toml", cwd=str(self.folder))
        self.assertEqual(await process.finish(), 1)
        self.assertNotIn("Traceback", process.output())
        self.assertRegex(
            process.output(),
            r"sitio: \S*sitio.toml:3: listener.tls: \S+tls.crt holds no private key in PEM format",
        )
