"""
Tests of TLS on real sockets: to clients (L{sitio.net.tls}), and to the upstream
(L{sitio.net.handshake}).
"""

from __future__ import annotations

import shutil
import socket
import ssl
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from sitio.admin.health import ConnectionCheck, makeHttpCheck
from sitio.net.endpoints import serverEndpoint
from sitio.service import SidecarService
from sitio.settings import Settings
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.loopback import (
    LOCALHOST,
    LoopbackTestCase,
    Received,
    Upstream,
    reactor,
)
from sitio.test.helpers.tls import clientContext

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

#: A request that sitio answers itself, for the shell's printf.
ANSWERED = r"OPTIONS * HTTP/1.1\r\nHost: here\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n"

#: Seconds for a blocking client's wait.
SOCKET_SECONDS = 10.0


class TLSTestCase(LoopbackTestCase):
    """A test with a key and a certificate for localhost."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.key, self.certificate = certify(folder)
        self.secure = (
            f"ssl:0:interface={LOCALHOST}:privateKey={self.key}:certKey={self.certificate}"
        )

    def sidecar(self, upstream: str, port: str, **settings: Any) -> int:
        """Start sitio, and return its port."""
        service = SidecarService(
            reactor,
            serverEndpoint(reactor, port),
            clientFromString(reactor, upstream),
            statsInterval=0,
            settings=Settings(**{"grace": 0, **settings}),
        )
        service.startService()
        self.addCleanup(service.stopService)
        assert service.port is not None
        return numberOf(service.port)

    def inFront(self, upstream: int, **settings: Any) -> int:
        """Start sitio with a TLS port, and return that port."""
        return self.sidecar(f"tcp:{LOCALHOST}:{upstream}", self.secure, **settings)

    def dial(self, port: int, session: Any = None, context: Any = None) -> ssl.SSLSocket:
        """Connect a blocking client, in a thread."""
        plain = socket.create_connection((LOCALHOST, port), SOCKET_SECONDS)
        context = context or clientContext(self.certificate)
        secured: ssl.SSLSocket = context.wrap_socket(
            plain, server_hostname="localhost", session=session, suppress_ragged_eofs=False
        )
        return secured


def numberOf(port: Any) -> int:
    """The number of a listening port."""
    number: int = port.getHost().port
    return number


class InFrontTests(TLSTestCase):
    """TLS to clients."""

    async def test_brokenOff(self) -> None:
        """A client sees that a response breaks off, also one without a length."""
        for head in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        ):
            upstream = Upstream()
            port = self.inFront(await self.listen(upstream))

            asking = deferToThread(self.breaks, port, seen := Received())
            asked = await upstream.connection()
            await asked.got.expect(b"\r\n\r\n")
            asked.send(head)
            await seen.expect(b"part")
            asked.transport.abortConnection()
            await asking

    def breaks(self, port: int, seen: Received) -> None:
        """Ask, in a thread, and assert that the response breaks off after C{part}."""
        data = b""
        with self.dial(port) as client:
            client.sendall(b"GET / HTTP/1.0\r\nHost: here\r\n\r\n")
            while b"part" not in data:
                data += client.recv(9999)
            reactor.callFromThread(seen.add, data)
            with self.assertRaises(OSError):
                # After a close_notify this would be empty.
                client.recv(9999)

    async def test_silentClient(self) -> None:
        """A client that ignores the close_notify is closed after 1 to 2 s."""
        upstream = Upstream()
        port = self.inFront(await self.listen(upstream), idleTimeout=0.25)

        def ask() -> float:
            client = self.dial(port)
            client.sendall(REQUEST)
            self.assertTrue(client.recv(9999).endswith(b"hi"))
            began = reactor.seconds()
            # Below TLS: the client sees the close_notify and ignores it.
            raw = socket.socket(fileno=client.detach())
            raw.settimeout(SOCKET_SECONDS)
            while raw.recv(9999):
                pass
            raw.close()
            took: float = reactor.seconds() - began
            return took

        asking = deferToThread(ask)
        asked = await upstream.connection()
        await asked.got.expect(b"\r\n\r\n")
        asked.send(RESPONSE)
        took = await asking
        self.assertGreaterEqual(took, 1.2)
        self.assertLess(took, 4)

    @skipIf(shutil.which("openssl") is None, "openssl is not installed")
    async def test_reconnect(self) -> None:
        """C{openssl s_client} resumes its session, in TLS 1.2 and 1.3."""
        port = self.inFront(await self.listen(Upstream()))
        folder = self.certificate.parent
        for version in ("-tls1_2", "-tls1_3"):
            reused = []
            for option in ("-sess_out", "-sess_in"):
                process = self.spawn(
                    *("/bin/sh", "-c", f"printf '{ANSWERED}' | openssl s_client $0 $*", version),
                    *("-connect", f"{LOCALHOST}:{port}", "-CAfile", str(self.certificate)),
                    *("-ign_eof", option, f"{folder}/session"),
                )
                await process.finish()
                reused.append("Reused, TLSv1" in process.output())
            self.assertEqual(reused, [False, True], version)


class BehindTests(TLSTestCase):
    """TLS to the upstream."""

    async def behind(self, factory: Any, description: str = "") -> int:
        """Start a service, with TLS unless there is a description, and return its port."""
        listening = await serverFromString(reactor, description or self.secure).listen(factory)
        self.addCleanup(listening.stopListening)
        return numberOf(listening)

    async def asked(self, port: int) -> bytes:
        """The response of sitio to one request."""
        client = await self.connect(port, REQUEST)
        await client.got.expect(b"\r\n\r\n[^$]+")
        return client.got.data

    async def problem(self, upstream: str) -> str | None:
        """What /ready says of an upstream; the check of a page says the same."""
        found = await ConnectionCheck(reactor, clientFromString(reactor, upstream)).problem()
        check = makeHttpCheck(reactor, clientFromString(reactor, upstream), "localhost", "/")
        check.startService()
        said = await self.until(
            lambda: (each := check._problem) is None or ("not been checked" not in each and each)
        )
        await maybeDeferred(check.stopService)
        if found is not None:
            self.assertIn(found.partition(": ")[2], said)
        return found

    async def test_failures(self) -> None:
        """A handshake that fails is a 502, and /ready tells why."""
        other = Path(self.mktemp()).absolute()
        other.mkdir()
        certify(other)
        upstream = await self.behind(Upstream())
        plain = await self.listen(Plain.factory())
        table = [
            (f"tls:localhost:{upstream}", "its certificate is not trusted"),
            (f"tls:localhost:{upstream}:trustRoots={other}/trusted", "is not trusted"),
            (
                f"tls:sitio.invalid:{upstream}:trustRoots={self.certificate.parent}"
                f":endpoint=tcp\\:{LOCALHOST}\\:{upstream}",
                "its certificate is for another name",
            ),
            (f"tls:localhost:{plain}", "the TLS handshake failed: "),
            (f"ssl:{LOCALHOST}:{plain}", "the TLS handshake failed: "),
        ]
        for description, why in table:
            port = self.sidecar(description, f"tcp:0:interface={LOCALHOST}")
            self.assertIn(b" 502 ", await self.asked(port), description)
            problem = await self.problem(description)
            self.assertIn(f"the upstream can't be reached: {why}"[:31], str(problem))
            self.assertIn(why, str(problem), description)

    async def test_trusted(self) -> None:
        """A trusted certificate is no problem."""
        upstream = await self.behind(Upstream())
        trusted = f"tls:localhost:{upstream}:trustRoots={self.certificate.parent}"
        endpoint = Recorder(clientFromString(reactor, trusted))
        self.assertIs(await ConnectionCheck(Clock(), endpoint).problem(), None)
        [connection] = endpoint.connected
        await self.until(lambda: not connection.transport.connected)

    async def test_silent(self) -> None:
        """
        Silence within the handshake counts as connecting: 504 after C{--connect-timeout}.
        /ready tells too.
        """
        silent = await self.listen(Factory.forProtocol(Protocol))
        for name in ("tls:localhost", f"ssl:{LOCALHOST}"):
            port = self.sidecar(
                f"{name}:{silent}",
                f"tcp:0:interface={LOCALHOST}",
                connectTimeout=0.5,
                responseTimeout=30,
            )
            began = reactor.seconds()
            self.assertIn(b" 504 ", await self.asked(port))
            self.assertLess(reactor.seconds() - began, 5)
            check = ConnectionCheck(reactor, clientFromString(reactor, f"{name}:{silent}"))
            problem = await check.problem()
            self.assertEqual(problem, "the upstream accepted no connection within 0.75 seconds")


@implementer(IStreamClientEndpoint)
class Recorder:
    """An endpoint that keeps the protocols which it has connected."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self.connected: list[Any] = []
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See L{IStreamClientEndpoint}."""
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(self._connected)

    def _connected(self, protocol: Any) -> Any:
        self.connected.append(protocol)
        return protocol


class Plain(Protocol):
    """Speaks no TLS."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    @classmethod
    def factory(cls) -> Any:
        """A factory of these."""
        return Factory.forProtocol(cls)
