"""
Promises of L{sitio.net.recordlayer}: what is written in a turn leaves together, and every byte
arrives, in whatever pieces it comes.  The peer is Python's own TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.flow import FlowControlled
from sitio.net.recordlayer import MAX_UNSENT_BYTES, Buffer
from sitio.net.records import HEADER_BYTES
from sitio.net.tls import PortFactory
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.tls import SecureClient, clientContext
from sitio.testing.network import CLOSED, OPEN, RESET, Peer

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

#: The content that fits into one record (RFC 8446, section 5.1).
RECORD = 16384


class _Echoing(FlowControlled):
    """Keeps what it receives."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.received: list[bytes] = []
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def isOpen(self) -> bool:
        return self.lost is None

    def readConnectionLost(self) -> None:
        """TLS has no half-close."""

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost = reason


class LayerTestCase(SynchronousTestCase):
    """Connections of one port."""

    def setUp(self) -> None:
        self.clock = Clock()
        folder = Path(self.mktemp())
        folder.mkdir()
        key, self.certificate = certify(folder)
        loaded = PrivateCertificate.loadPEM(self.certificate.read_text() + key.read_text())
        options = CertificateOptions(
            privateKey=loaded.privateKey.original, certificate=loaded.original
        )
        self.server = _Echoing(self.clock)
        self.wrapped = Factory()
        self.wrapped.buildProtocol = lambda address: self.server  # type: ignore
        self.factory: Any = PortFactory(self.clock, options, self.wrapped)

    def connect(self, version: ssl.TLSVersion | None = None) -> SecureClient:
        """Connect a client that has not begun its handshake; C{written} is what it gets."""
        self.server = _Echoing(self.clock)
        peer = Peer(self.clock)
        peer.connect(self.factory.buildProtocol(peer.transport.getPeer()))
        self.written: list[bytes] = []
        write = peer.transport.write

        def noted(data: bytes) -> None:
            self.written.append(data)
            write(data)

        peer.transport.write = noted  # type: ignore[method-assign]
        return SecureClient(peer, clientContext(self.certificate, version))

    def ready(self, version: ssl.TLSVersion | None = None) -> SecureClient:
        """Connect a client; its handshake is done, and nothing is on its way."""
        client = self.connect(version)
        client.handshake()
        client.receive()
        self.written.clear()
        return client

    def all(self) -> Iterator[SecureClient]:
        """Connect one client for each version of TLS."""
        for version in VERSIONS:
            yield self.ready(version)


def sizes(data: bytes) -> list[int]:
    """The length of each record, without its header."""
    found = []
    while data:
        length = int.from_bytes(data[3:5], "big")
        found.append(length)
        assert len(data) >= HEADER_BYTES + length, "a record is cut"
        data = data[HEADER_BYTES + length :]
    return found


class WriteTests(LayerTestCase):
    """What leaves."""

    def test_joined(self) -> None:
        """All that is written in one turn leaves in one write, and in one record if it fits."""
        head, body = b"h" * 300, b"b" * 1000
        table: list[tuple[str, Callable[[Any], object]]] = [
            ("one", lambda transport: transport.write(head + body)),
            ("two", lambda transport: (transport.write(head), transport.write(body))),
            ("sequence", lambda transport: transport.writeSequence((head, body))),
            ("many", lambda transport: [transport.write(b"x") for _ in range(500)]),
            ("empty", lambda transport: (transport.write(b""), transport.write(head))),
            ("full", lambda transport: transport.write(bytes(RECORD))),
        ]
        for client in self.all():
            for what, write in table:
                self.written.clear()
                write(self.server.transport)
                self.assertEqual(self.written, [], what)
                client.receive()
                self.assertEqual(len(self.written), 1, what)
                self.assertEqual(len(sizes(self.written[0])), 1, what)
            self.assertTrue(client.data.startswith((head + body) * 3 + b"x" * 500 + head))

    def test_turns(self) -> None:
        """What is written in two turns leaves in two writes."""
        client = self.ready()
        for each in (b"one", b"two"):
            self.server.transport.write(each)
            self.clock.advance(0)
        self.assertEqual(len(self.written), 2)
        self.assertEqual(client.receive(), b"onetwo")

    def test_nothing(self) -> None:
        """Writing nothing sends no record."""
        self.ready()
        self.server.transport.write(b"")
        self.server.transport.writeSequence([])
        self.clock.advance(0)
        self.assertEqual(self.written, [])

    def test_long(self) -> None:
        """A long write leaves in few writes of full records, with each byte in its place."""
        for client in self.all():
            for size in (RECORD + 1, MAX_UNSENT_BYTES + 1, 128 * 1024, 1_000_001):
                self.written.clear()
                client.data = b""
                data = bytes(each % 251 for each in range(size))
                self.server.transport.write(data)
                self.assertEqual(client.receive(), data)
                self.assertLessEqual(len(self.written), size // 100_000 + 1)
                records = sizes(b"".join(self.written))
                self.assertEqual(len(records), -(-size // RECORD))

    def test_bounded(self) -> None:
        """What waits for the end of the turn is bounded."""
        client = self.ready()
        for _ in range(10):
            self.server.transport.write(bytes(MAX_UNSENT_BYTES // 3))
        self.assertEqual(len(self.written), 2)
        self.assertEqual(len(client.receive()), 10 * (MAX_UNSENT_BYTES // 3))

    def test_kinds(self) -> None:
        """Other buffers are copied at once; what is no buffer is refused."""
        client = self.ready()
        changing = bytearray(b"before")
        self.server.transport.write(changing)
        changing[:] = b"after!"
        self.server.transport.write(memoryview(b" and view"))
        for wrong in ("text", 5, None):
            with self.assertRaises(TypeError):
                self.server.transport.write(wrong)
        self.assertEqual(client.receive(), b"before and view")

    def test_early(self) -> None:
        """What is written before the end of the handshake leaves after it, in order."""
        for version in VERSIONS:
            client = self.connect(version)
            self.server.transport.write(b"first ")
            self.clock.advance(0)
            self.server.transport.writeSequence([b"second ", b"third "])
            client.handshake()
            self.server.transport.write(b"last")
            self.assertEqual(client.receive(), b"first second third last")
            client.sends(b"heard")
            self.assertEqual(self.server.received, [b"heard"])

    def test_closing(self) -> None:
        """C{loseConnection} sends first what was written; what is written later is dropped."""
        for client in self.all():
            transport = self.server.transport
            transport.write(b"the end")
            transport.unregisterProducer()
            transport.loseConnection()
            transport.write(b"more")
            self.assertEqual(client.receive(), b"the end")
            self.assertTrue(client.notified)
            client.closes()
            self.assertEqual(client.peer.state, CLOSED)

    def test_lost(self) -> None:
        """After the end, writes do nothing, and no call is left behind."""
        for end in (SecureClient.closes, lambda client: client.peer.resets()):
            client = self.ready()
            transport = self.server.transport
            transport.write(b"unsent")
            end(client)
            self.clock.advance(2)
            self.assertIsNotNone(self.server.lost)
            transport.write(b"more")
            transport.writeSequence([b"more"])
            transport.loseConnection()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aborted(self) -> None:
        """C{abortConnection} sends nothing more."""
        client = self.ready()
        self.server.transport.write(b"unsent")
        self.server.transport.unregisterProducer()
        self.server.transport.abortConnection()
        self.assertEqual(client.receive(), b"")
        self.assertEqual((client.peer.state, self.written), (RESET, []))


class ReadTests(LayerTestCase):
    """What arrives."""

    def test_one(self) -> None:
        """A record in one read is delivered at once, and nothing is sent for it."""
        for client in self.all():
            for size in (1, 300, RECORD):
                self.server.received.clear()
                client.sends(bytes(size))
                self.assertEqual(self.server.received, [bytes(size)])
            self.assertEqual(self.written, [])

    def test_pieces(self) -> None:
        """It does not matter where reads cut the records, nor how many come in one."""
        for client in self.all():
            sent = b""
            for size in (1, 2, 4, 5, 6, 7, 21, 22, 23, 100, 9999, 100_000):
                pieces = [bytes([65 + each]) * (each * each + 1) for each in range(20)]
                for each in pieces:
                    client.tls.write(each)
                sent += b"".join(pieces)
                raw = client._out.read()
                for at in range(0, len(raw), size):
                    client.peer.transport.protocol.dataReceived(raw[at : at + size])
                    if self.server.isYielding:
                        self.clock.advance(0)
                self.clock.advance(0)
                self.assertEqual(b"".join(self.server.received), sent, size)
                client.sends(b"whole")
                sent += b"whole"
                self.assertEqual(self.server.received[-1], b"whole")

    def test_uncounted(self) -> None:
        """Reads of one record each, as requests are, never cost a pause."""
        client = self.ready()
        pauses: list[None] = []
        self.patch(client.peer.transport, "pauseProducing", lambda: pauses.append(None))
        for _ in range(100):
            client.sends(b"request")
        self.assertEqual((len(self.server.received), pauses), (100, []))

    def test_apart(self) -> None:
        """Connections share a buffer, and no byte of one is seen by another."""
        clients, servers = [], []
        for each in range(4):
            clients.append(self.ready(VERSIONS[each % 2]))
            servers.append(self.server)
        for turn in range(3):
            for each, client in enumerate(clients):
                client.sends(b"%d" % each * (turn * 5000 + 100 - 30 * turn))
                servers[each].transport.write(b"%d" % each * 20_000 * (turn + 1))
        for each, client in enumerate(clients):
            self.assertEqual(set(b"".join(servers[each].received)), set(b"%d" % each))
            self.assertEqual(client.receive(), b"%d" % each * 120_000)

    def test_forged(self) -> None:
        """A record that was changed on its way ends the connection with an alert."""
        for client in self.all():
            client.tls.write(b"amount=1")
            raw = bytearray(client._out.read())
            raw[-1] ^= 1
            client.peer.sends(bytes(raw))
            self.assertEqual(self.server.received, [])
            with self.assertRaises(ssl.SSLError) as caught:
                client.receive()
            self.assertIn("bad record mac", str(caught.exception).lower().replace("_", " "))
            self.assertNotEqual(client.peer.state, OPEN)

    def test_plain(self) -> None:
        """Bytes that are no record end the connection."""
        for client in self.all():
            client.peer.sends(b"GET / HTTP/1.1\r\n\r\n")
            self.assertEqual(self.server.received, [])
            self.assertNotEqual(client.peer.state, OPEN)

    def test_closedWithin(self) -> None:
        """After C{abortConnection} nothing more of the same read is delivered."""
        for client in self.all():
            server = self.server

            def received(data: bytes, server: _Echoing = server) -> None:
                server.received.append(data)
                server.transport.unregisterProducer()
                server.transport.abortConnection()

            server.dataReceived = received  # type: ignore[method-assign]
            client.tls.write(b"one")
            client.tls.write(b"two")
            client.receive()
            self.assertEqual(server.received, [b"one"])
            self.assertEqual(client.peer.state, RESET)


class BufferTests(SynchronousTestCase):
    """What differs between reactors."""

    def test_soon(self) -> None:
        """A reactor's own way to the next turn is taken if it has one."""

        class Quick(Clock):
            def callSoon(self, function: Callable[[], object]) -> str:
                function()
                return "handle"

        called: list[int] = []
        self.assertEqual(Buffer(Quick()).soon(lambda: called.append(1)), "handle")
        clock = Clock()
        Buffer(clock).soon(lambda: called.append(2)).cancel()
        Buffer(clock).soon(lambda: called.append(3))
        self.assertEqual(called, [1])
        clock.advance(0)
        self.assertEqual(called, [1, 3])
