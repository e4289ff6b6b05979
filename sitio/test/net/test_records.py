"""
Tests of L{sitio.net.records}: what TLS delivers in one turn of the reactor is bounded.

The client is Python's own.  A test hands all that it has sealed to sitio at once, and looks
before the next turn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.records import MAX_RECORDS
from sitio.net.tls import PortFactory
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.tls import SecureClient, clientContext
from sitio.testing.harness import Harness
from sitio.testing.network import Peer

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#: Records of a flood: the bound several times over.
MANY = 5 * MAX_RECORDS + 1


class RecordsTests(SynchronousTestCase):
    """Records of one byte, many in one read."""

    def setUp(self) -> None:
        self.sidecar = Harness()
        folder = Path(self.mktemp())
        folder.mkdir()
        key, certificate = certify(folder)
        loaded = PrivateCertificate.loadPEM(certificate.read_text() + key.read_text())
        options = CertificateOptions(
            privateKey=loaded.privateKey.original, certificate=loaded.original
        )
        factory: Any = PortFactory(self.sidecar.clock, options, self.sidecar.factory)
        self.peer = Peer(self.sidecar.clock)
        self.sidecar.clients.append(self.peer)
        self.peer.connect(factory.buildProtocol(self.peer.transport.getPeer()))
        self.client = SecureClient(self.peer, clientContext(certificate))
        self.client.handshake()

    def hand(self, *records: bytes) -> None:
        """Hand these records to sitio in one read, and stay in the same turn."""
        for each in records:
            self.client.tls.write(each)
        self.peer.transport.protocol.dataReceived(self.client._out.read())

    def upload(self, length: int) -> Peer:
        """Begin an upload of this length, and return the upstream."""
        self.client.sends(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length)
        upstream = self.sidecar.upstream()
        upstream.got()
        return upstream

    def test_bounded(self) -> None:
        """Some are delivered in one turn, and all of them in the end; reading goes on."""
        upstream = self.upload(2 * MANY)
        self.hand(*[b"#"] * MANY)
        self.assertLessEqual(len(upstream.transport.outgoing), MAX_RECORDS)
        self.assertTrue(self.peer.paused)
        self.assertEqual(upstream.got(), b"#" * MANY)
        self.assertFalse(self.peer.paused)
        self.hand(*[b"#"] * MANY)
        self.assertEqual(upstream.got(), b"#" * MANY)
        upstream.sends(OK)
        self.assertEqual(self.client.receive(), OK)

    def test_long(self) -> None:
        """A stream of long records arrives whole."""
        upstream = self.upload(MANY * 1000)
        self.hand(*[b"#" * 1000] * MANY)
        self.assertEqual(upstream.got(), b"#" * 1000 * MANY)

    def test_pausedMeanwhile(self) -> None:
        """A pause that the upstream asks for meanwhile outlasts the turn."""
        upstream = self.upload(2 * MANY)
        upstream.stopsReading()
        self.hand(*[b"#"] * MANY)
        self.sidecar.settle()
        self.assertTrue(self.peer.paused)
        upstream.resumesReading()
        self.assertFalse(self.peer.paused)
        self.assertEqual(upstream.got(), b"#" * MANY)

    def test_lostMeanwhile(self) -> None:
        """If the connection is lost meanwhile, nothing is left behind."""
        self.upload(MANY)
        self.hand(*[b"#"] * (MANY - 1))
        self.peer.transport._lost(Failure(ConnectionLost()))
        self.sidecar.settle()
        self.assertEqual([each.status for each in self.sidecar.exchanges], [499])
        self.sidecar.assertQuiet()

    def test_closing(self) -> None:
        """A client's close_notify behind many records is read, also while sitio closes."""
        self.client.sends(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.sidecar.upstream().sends(OK)
        self.client.receive()
        self.assertTrue(self.client.notified)
        self.assertFalse(self.peer.closed)
        self.hand(*[b"#"] * MANY)
        self.client.closes()
        self.assertTrue(self.peer.closed)
        self.sidecar.assertQuiet()
