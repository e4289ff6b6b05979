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

from sitio.net.records import MAX_LAST_RECORDS, MAX_RECORDS, BoundedRecords
from sitio.net.tls import PortFactory
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.tls import SecureClient, clientContext
from sitio.testing.harness import Harness
from sitio.testing.network import Peer

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#: Records of a flood: the bound several times over.
MANY = 5 * MAX_RECORDS + 1


class _Below:
    """Stands for OpenSSL's connection and for the transport of it."""

    disconnecting = False

    def __init__(self) -> None:
        self._tlsConnection = self.transport = self
        self.yields = 0
        self.taken: list[bytes] = []
        self.records = BoundedRecords(self, self._yielded)

    def _yielded(self) -> None:
        self.yields += 1

    def bio_write(self, data: bytes) -> None:
        """OpenSSL fails if it is given nothing."""
        assert data
        self.taken.append(data)

    def bio_shutdown(self) -> None:
        """Nothing to do."""

    def dataReceived(self, data: bytes) -> None:
        """As Twisted does it, without TLS."""
        self._tlsConnection.bio_write(data)

    def deliver(self) -> bytes:
        """One turn; returns what it has handed on."""
        self.taken.clear()
        self.records.deliver()
        return b"".join(self.taken)


def record(size: int) -> bytes:
    """A record with so many bytes of whatever TLS has put there."""
    return b"\x17\x03\x03%b%b" % (size.to_bytes(2, "big"), b"#" * size)


class HandedOnTests(SynchronousTestCase):
    """
    What is counted are records, whatever is in them: KeyUpdate, alerts and others never come
    out of OpenSSL, and it takes all that it was given in one call.
    """

    def test_sizes(self) -> None:
        """In one turn no more than the bound, and in the end each byte in order."""
        for size in (0, 1, 22, 255, 256, 16384):
            below = _Below()
            below.dataReceived(record(size) * MANY)
            turns = [b"".join(below.taken)]
            while below.records.held:
                turns.append(below.deliver())
            self.assertEqual(turns[:-1], [record(size) * MAX_RECORDS] * 5)
            self.assertEqual(turns[-1], record(size))
            self.assertEqual(below.yields, 5)

    def test_pieces(self) -> None:
        """It does not matter where reads cut the records."""
        data = b"".join(record(each % 9) for each in range(MANY))
        for piece in (1, 2, 3, 4, 5, 6, 7, 13, 999):
            below = _Below()
            for at in range(0, len(data), piece):
                below.dataReceived(data[at : at + piece])
            whole = b"".join(below.taken)
            self.assertLessEqual(whole.count(b"\x17\x03\x03"), MAX_RECORDS)
            while below.records.held:
                whole += below.deliver()
            self.assertEqual(whole, data)

    def test_nothingHeld(self) -> None:
        """A turn that was yielded for another reason hands on nothing."""
        below = _Below()
        below.dataReceived(record(5) * MAX_RECORDS)
        self.assertEqual(below.deliver(), b"")
        self.assertEqual(below.yields, 0)

    def test_end(self) -> None:
        """At the end some more records are handed on at once: not all of a flood."""
        for count in (0, 1, MAX_RECORDS + 10, 5000):
            below = _Below()
            below.dataReceived(record(22) * count + b"\x17")
            below._tlsConnection.bio_shutdown()
            handed = b"".join(below.taken)
            self.assertTrue((record(22) * 5000).startswith(handed))
            self.assertEqual(len(handed) // 27, min(count, MAX_RECORDS + MAX_LAST_RECORDS))


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
