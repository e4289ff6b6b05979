"""
Promises of L{sitio.net.tls}: the TLS of the ports, with a client of Python's own.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SkipTest

from sitio.net.deadlines import PERIOD_SECONDS
from sitio.net.endpoints import serverEndpoint
from sitio.net.loglimit import LOG_SECONDS
from sitio.net.proxyprotocol import ProxyProtocolFactory
from sitio.net.tls import CLOSE_NOTIFY_SECONDS
from sitio.settings import DRAIN_IDLE_SECONDS, LINGER_SECONDS
from sitio.test.helpers.tls import SecureClient, clientContext
from sitio.test.helpers.tlscase import REQUEST, SETTINGS, TLSTestCase
from sitio.testing.harness import Harness
from sitio.testing.network import CLOSED, OPEN, RESET

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


class CloseTests(TLSTestCase):
    """How a connection ends."""

    def test_silentClient(self) -> None:
        """
        sitio sends its close_notify when it would end its half without TLS.  Then it waits a
        second for the client, or as long as it lingers.  The client ignores all of it.
        """

        def idle(client: SecureClient) -> None:
            self.served(client)

        def nothing(client: SecureClient) -> None:
            pass

        def head(client: SecureClient) -> None:
            client.sends(b"GET / HTTP/1.1\r\n")

        def last(client: SecureClient) -> None:
            self.served(client, LAST_REQUEST)

        def malformed(client: SecureClient) -> None:
            client.sends(b"GET\r\n\r\n")

        def drain(client: SecureClient) -> None:
            self.served(client)
            self.sidecar.factory.drain()

        # When the close_notify comes, and how long sitio waits after that.
        table: list[tuple[Callable[[SecureClient], None], float, float]] = [
            (idle, 3, CLOSE_NOTIFY_SECONDS),
            (nothing, 4, CLOSE_NOTIFY_SECONDS),
            (head, 4, LINGER_SECONDS),
            (last, 0, CLOSE_NOTIFY_SECONDS),
            (malformed, 0, LINGER_SECONDS),
            (drain, DRAIN_IDLE_SECONDS, CLOSE_NOTIFY_SECONDS),
        ]
        for version in VERSIONS:
            for what, notified, wait in table:
                self.setUp()
                client = self.ready(version)
                what(client)
                took = self.until(client, lambda each: each.notified)
                rest = self.until(client, lambda each: each.peer.state is not OPEN)
                case = (version, what.__name__, took, rest)
                for seconds, expected in ((took, notified), (rest, wait)):
                    self.assertGreaterEqual(seconds, expected - PERIOD_SECONDS, case)
                    self.assertLessEqual(seconds, expected + 2 * PERIOD_SECONDS, case)
                self.assertEqual(client.peer.state, CLOSED, case)
                self.sidecar.assertQuiet()

    def test_between(self) -> None:
        """The wait is 1 to 2 s."""
        self.assertGreaterEqual(CLOSE_NOTIFY_SECONDS, 1)
        self.assertLess(CLOSE_NOTIFY_SECONDS + PERIOD_SECONDS, 2)

    def test_answered(self) -> None:
        """If the client answers with its close_notify, the connection closes at once."""
        for version in VERSIONS:
            client = self.ready(version)
            self.served(client, LAST_REQUEST)
            self.assertTrue(client.notified)
            self.assertEqual(client.peer.state, OPEN)
            client.closes()
            self.assertEqual(client.peer.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_clientFirst(self) -> None:
        """If the client closes first, sitio answers and closes at once."""
        for version in VERSIONS:
            client = self.ready(version)
            self.served(client)
            client.closes()
            client.receive()
            self.assertTrue(client.notified)
            self.assertEqual(client.peer.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_clientFirstWithinResponse(self) -> None:
        """
        A client that closes within its response has disconnected: 499.  What it does not read
        holds neither the connection to the upstream nor its own for longer than a stall.
        """
        for version in VERSIONS:
            for reads in (True, False):
                self.setUp()
                client = self.ready(version)
                client.sends(REQUEST)
                upstream = self.sidecar.upstream()
                upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                if not reads:
                    client.receive()
                    client.peer.stopsReading()
                upstream.sends(bytes(200_000))
                client.closes()
                if not reads:
                    self.sidecar.advance(SETTINGS.stallTimeout + 2 * PERIOD_SECONDS)
                self.assertNotEqual(client.peer.state, OPEN)
                self.assertTrue(upstream.reset)
                [exchange] = self.sidecar.exchanges
                self.assertIsNotNone(exchange.failure)
                if reads:
                    self.assertEqual(exchange.status, 499)
                self.sidecar.assertQuiet()

    def test_slowClient(self) -> None:
        """A client that still reads its response gets all of it, however long that takes."""
        client = self.ready()
        body = bytes(60_000)
        client.sends(LAST_REQUEST)
        client.peer.stopsReading()
        self.sidecar.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + body)
        self.sidecar.advance(10 * CLOSE_NOTIFY_SECONDS)
        self.assertEqual(client.peer.state, OPEN)
        client.peer.resumesReading()
        client.receive()
        self.assertTrue(client.data.endswith(body))
        self.assertTrue(client.notified)
        self.assertEqual(client.peer.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_lingering(self) -> None:
        """While sitio drops the rest of a request, the client's close_notify ends that."""
        for version in VERSIONS:
            client = self.ready(version)
            client.sends(b"GET\r\n\r\n")
            self.assertTrue(client.data.startswith(b"HTTP/1.1 400 "))
            self.assertTrue(client.notified)
            client.sends(bytes(20_000))
            self.assertEqual(client.peer.state, OPEN)
            client.closes()
            self.assertEqual(client.peer.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_dripping(self) -> None:
        """Bytes that still come do not prolong the wait."""
        client = self.ready()
        self.served(client, LAST_REQUEST)
        for _ in range(5):
            client.sends(b"more")
            self.sidecar.advance(CLOSE_NOTIFY_SECONDS / 4)
        self.assertNotEqual(client.peer.state, OPEN)
        self.sidecar.assertQuiet()

    def test_brokenOff(self) -> None:
        """A response that breaks off ends with a reset, and no close_notify."""
        heads = (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
            b"HTTP/1.1 200 OK\r\n\r\npart",
        )
        requests = (REQUEST, b"GET / HTTP/1.0\r\nHost: here\r\n\r\n")
        for version in VERSIONS:
            for head in heads:
                for request in requests:
                    client = self.ready(version)
                    client.sends(request)
                    upstream = self.sidecar.upstream(-1)
                    upstream.sends(head)
                    self.assertIn(b"part", client.receive())
                    notices: list[bytes] = []
                    transport = client.peer.transport
                    write = transport.write

                    def seen(
                        data: bytes,
                        transport: Any = transport,
                        write: Any = write,
                        notices: list[bytes] = notices,
                    ) -> None:
                        if transport.connected:
                            notices.append(data)
                        write(data)

                    self.patch(transport, "write", seen)
                    upstream.resets()
                    self.sidecar.settle()
                    client.receive()
                    case = (version, head, request)
                    self.assertEqual(client.peer.state, RESET, case)
                    self.assertEqual(notices, [], case)
                    self.assertFalse(client.notified, case)
        self.sidecar.assertQuiet()

    def test_withinHandshake(self) -> None:
        """A client that does not end its handshake is disconnected like a slow one."""
        for begun in (False, True):
            client = self.connect()
            if begun:
                client.peer.sends(b"\x16\x03\x01\x02\x00")
            self.sidecar.advance(SETTINGS.headTimeout - PERIOD_SECONDS)
            self.assertEqual(client.peer.state, OPEN)
            self.sidecar.advance(2 * PERIOD_SECONDS)
            self.assertEqual(client.peer.state, RESET)
        self.sidecar.assertQuiet()


class NegotiationTests(TLSTestCase):
    """ALPN: which protocol the client and sitio speak."""

    def test_accepted(self) -> None:
        """A client that offers HTTP/1.1 or HTTP/1.0, or nothing, is served."""
        table: list[tuple[Sequence[str], str | None]] = [
            ([], None),
            (["http/1.1"], "http/1.1"),
            (["http/1.0"], "http/1.0"),
            (["http/1.0", "http/1.1"], "http/1.1"),
            (["h2", "http/1.1"], "http/1.1"),
            (["h2", "h3", "http/1.0"], "http/1.0"),
        ]
        for version in VERSIONS:
            for offered, chosen in table:
                client = self.ready(version, offered)
                self.assertEqual(client.tls.selected_alpn_protocol(), chosen)
                self.served(client)
                self.assertTrue(client.data.endswith(b"hi"))
                client.peer.resets()
        self.sidecar.assertQuiet()

    def test_refused(self) -> None:
        """Any other offer gets the alert no_application_protocol."""
        with capturedLogs():
            for version in VERSIONS:
                for offered in (["h2"], ["spdy/3", "h2"], ["HTTP/1.1"], ["http/1.10"]):
                    client = self.connect(version, offered)
                    with self.assertRaises(ssl.SSLError) as caught:
                        client.handshake()
                    said = str(caught.exception).lower().replace("_", " ")
                    self.assertIn("no application protocol", said)
                    self.assertEqual(client.peer.state, CLOSED)
        self.assertEqual(self.sidecar.upstreams, [])
        self.sidecar.assertQuiet()

    def test_logged(self) -> None:
        """The log says what such a client offers: once a minute at most."""
        with capturedLogs() as events:
            for _ in range(3):
                with self.assertRaises(ssl.SSLError):
                    self.connect(alpn=["h2", "spdy/3"]).handshake()
            self.sidecar.advance(LOG_SECONDS)
            with self.assertRaises(ssl.SSLError):
                self.connect(alpn=["x" * 255] * 20).handshake()
        spoken = "sitio speaks http/1.1, http/1.0"
        self.assertEqual(
            [each["why"] for each in events],
            [f"it offers h2, spdy/3, {spoken}", f"it offers {'x' * 100}, {spoken}"],
        )
        self.assertEqual([each["skipped"] for each in events], [0, 2])
        self.assertEqual(events[0]["peer"], "192.0.2.1")

    def test_otherRefusals(self) -> None:
        """The log also says why another handshake fails, but not that a client has gone."""
        with capturedLogs() as events:
            self.connect().peer.resets()
            half = self.connect()
            half.peer.sends(b"\x16\x03\x01")
            half.peer.resets()
            self.connect().peer.sends(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual([each["why"] for each in events], ["http request"])

    def test_noProtocols(self) -> None:
        """A port that names no protocols ignores each offer."""
        self.patch(self.sidecar.factory, "acceptableProtocols", list)
        self.factory = self.port()
        client = self.ready(alpn=["h2"])
        self.assertIs(client.tls.selected_alpn_protocol(), None)


class SessionTests(TLSTestCase):
    """A client that comes again resumes its session."""

    def test_resumed(self) -> None:
        """The second handshake is a short one, in TLS 1.2 and 1.3, and so is the third."""
        for version in VERSIONS:
            context = clientContext(self.certificate, version)
            session: ssl.SSLSession | None = None
            for resumed in (False, True, True):
                client = self.ready(session=session, context=context)
                self.served(client)
                self.assertEqual(client.tls.session_reused, resumed, version)
                session = client.tls.session
                client.closes()
            self.assertIsNotNone(session)

    def test_elsewhere(self) -> None:
        """A ticket of another port or process is ignored: the client is served."""
        for version in VERSIONS:
            context = clientContext(self.certificate, version)
            client = self.ready(context=context)
            self.served(client)
            self.factory = self.port()
            again = self.ready(session=client.tls.session, context=context)
            self.assertFalse(again.tls.session_reused)
            self.served(again)
            self.assertTrue(again.data.endswith(b"hi"))

    def test_otherProtocol(self) -> None:
        """A resumed session is asked for its protocols like a new one."""
        for version in VERSIONS:
            context = clientContext(self.certificate, version)
            client = self.ready(context=context, alpn=["http/1.1"])
            self.served(client)
            with capturedLogs(), self.assertRaises(ssl.SSLError):
                self.ready(context=context, alpn=["h2"], session=client.tls.session)


class BalancerTests(TLSTestCase):
    """A TLS port behind a load balancer that sends the PROXY protocol."""

    def test_before(self) -> None:
        """The header comes before TLS; the upstream gets its address, and https."""
        self.factory = ProxyProtocolFactory(self.sidecar.clock, self.factory)
        header = b"PROXY TCP4 198.51.100.7 192.0.2.80 40000 443\r\n"
        for together in (False, True):
            client = self.connect()
            if together:
                # In one packet with the first bytes of TLS.
                sends = client.peer.sends

                def first(data: bytes, client: Any = client, sends: Any = sends) -> None:
                    client.peer.sends = sends
                    sends(header + data)

                client.peer.sends = first  # type: ignore[method-assign, assignment]
            else:
                client.peer.sends(header)
            client.handshake()
            client.sends(REQUEST)
            fields = dict(self.sidecar.upstream(-1).gotRequest().headers)
            self.assertEqual(fields["X-Forwarded-For"], "198.51.100.7")
            self.assertEqual(fields["X-Forwarded-Proto"], "https")
            client.peer.resets()
        self.sidecar.assertQuiet()


class DescriptionTests(TLSTestCase):
    """Each kind of endpoint that speaks TLS has the same connections."""

    def listen(self, description: str) -> None:
        """Take the factory that listens for a description."""
        reactor = MemoryReactorClock()
        self.sidecar = Harness(settings=SETTINGS, clock=reactor)
        try:
            endpoint = serverEndpoint(reactor, description)
        except ValueError as error:
            raise SkipTest(f"this Twisted can't listen on {description}") from error
        self.successResultOf(endpoint.listen(self.sidecar.factory))
        self.factory = reactor.tcpServers[0][1]
        # Twisted's endpoint takes the global reactor.
        getattr(self.factory, "wrapped", self.factory)._clock = reactor

    def test_brokenOff(self) -> None:
        """A response that breaks off ends with a reset, and no close_notify."""
        folder = Path(self.mktemp())
        folder.mkdir()
        pem = self.certificate.read_text() + self.key.read_text()
        (folder / "all.pem").write_text(pem)
        for description in (
            f"ssl:443:privateKey={self.key}:certKey={self.certificate}",
            f"tls:{folder}:443",
        ):
            self.listen(description)
            client = self.ready()
            client.sends(REQUEST)
            self.sidecar.upstream(-1).sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
            self.assertIn(b"part", client.receive())
            self.sidecar.upstream(-1).resets()
            self.sidecar.settle()
            client.receive()
            self.assertEqual((client.peer.state, client.notified), (RESET, False), description)
            self.sidecar.assertQuiet()

    def test_header(self) -> None:
        """With C{haproxy:}, the header comes before TLS."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "all.pem").write_text(self.certificate.read_text() + self.key.read_text())
        for description in (
            f"haproxy:ssl:443:privateKey={self.key}:certKey={self.certificate}",
            f"haproxy:tls:{folder}:443",
        ):
            self.listen(description)
            client = self.connect()
            client.peer.sends(b"PROXY TCP4 198.51.100.7 192.0.2.80 40000 443\r\n")
            client.handshake()
            client.sends(REQUEST)
            fields = dict(self.sidecar.upstream(-1).gotRequest().headers)
            self.assertEqual(fields["X-Forwarded-For"], "198.51.100.7", description)
            client.peer.resets()
