"""
Promises of L{sitio.net.tlstransport}: to a protocol, its transport is the one that Twisted's TLS
makes.
"""

from __future__ import annotations

import gc
import ssl
import weakref
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import INegotiated, ISSLTransport, ISystemHandle, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.tls import PortFactory, PortTransport
from sitio.net.tlstransport import adopt
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.tls import SecureClient, clientContext
from sitio.testing.harness import Harness
from sitio.testing.network import CLOSED, Peer


class _Echo(Protocol):
    """A protocol of someone else."""

    transport: Any
    lost = False

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True


class TransportTests(SynchronousTestCase):
    """The transport of a port."""

    def setUp(self) -> None:
        self.clock = Clock()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.key, self.certificate = certify(folder)
        pem = self.certificate.read_text() + self.key.read_text()
        loaded = PrivateCertificate.loadPEM(pem)
        self.options = CertificateOptions(
            privateKey=loaded.privateKey.original,
            certificate=loaded.original,
            trustRoot=Certificate.loadPEM(self.certificate.read_bytes()),
        )
        self.context = clientContext(self.certificate)
        self.context.load_cert_chain(self.certificate, self.key)
        self.factory: Any = PortFactory(self.clock, self.options, Factory.forProtocol(_Echo))

    def connect(self) -> tuple[SecureClient, Any, _Echo]:
        """Connect a client: it, the transport, and the protocol."""
        peer = Peer(self.clock)
        tls = self.factory.buildProtocol(peer.transport.getPeer())
        echo = tls.wrappedProtocol
        peer.connect(tls)
        client = SecureClient(peer, self.context)
        client.handshake()
        client.receive()
        return client, tls, echo

    def test_interfaces(self) -> None:
        """It provides what Twisted's provides, and is found in the factory once."""
        client, tls, echo = self.connect()
        self.assertIs(echo.transport, tls)
        self.assertIsInstance(tls, TLSMemoryBIOProtocol)
        for interface in (ISSLTransport, INegotiated, ISystemHandle, ITCPTransport):
            self.assertTrue(interface.providedBy(tls), interface)
        self.assertEqual(list(self.factory.protocols), [tls])
        self.assertEqual(tls.getPeer(), client.peer.transport.getPeer())
        self.assertTrue(tls.getTcpNoDelay())
        client.closes()
        self.assertEqual(list(self.factory.protocols), [])

    def test_abortedAfterwards(self) -> None:
        """A connection that is closed can be aborted, as one of TCP."""
        client, tls, echo = self.connect()
        client.closes()
        self.assertTrue(echo.lost)
        tls.abortConnection()
        self.assertTrue(echo.lost)
        self.assertEqual(list(self.factory.protocols), [])

    def test_clientCertificate(self) -> None:
        """The protocol can ask for the client's certificate, and for OpenSSL's connection."""
        _, tls, _ = self.connect()
        self.assertIsInstance(tls.getHandle(), SSL.Connection)
        known = crypto.load_certificate(crypto.FILETYPE_PEM, self.certificate.read_bytes())
        self.assertEqual(tls.getPeerCertificate().digest("sha256"), known.digest("sha256"))
        self.assertEqual(Certificate.peerFromTransport(tls).digest(), known.digest("md5"))

    def test_otherProtocol(self) -> None:
        """A protocol that does not bound the records of a turn gets them all at once."""
        client, tls, _ = self.connect()
        self.assertIsNone(tls.layer.bounds)
        for each in (b"one ", b"two ", b"three"):
            client.tls.write(each)
        self.assertEqual(client.receive(), b"one two three")

    def test_boundBefore(self) -> None:
        """
        A transport may take C{dataReceived} before it connects the protocol, as uvloop's does
        behind the header of C{haproxy:}.
        """
        sidecar = Harness()
        factory: Any = PortFactory(sidecar.clock, self.options, sidecar.factory)
        peer = Peer(sidecar.clock)
        sidecar.clients.append(peer)
        tls = factory.buildProtocol(peer.transport.getPeer())
        receive = tls.dataReceived
        peer.connect(tls)
        peer.transport.protocol = type("Bound", (), {"dataReceived": staticmethod(receive)})()
        client = SecureClient(peer, self.context)
        client.handshake()
        client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(tls.layer.isReady)
        sidecar.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertTrue(client.receive().endswith(b"ok"))

    def test_adopted(self) -> None:
        """A factory of Twisted's own makes such transports once it is adopted."""
        self.factory = TLSMemoryBIOFactory(
            self.options, False, Factory.forProtocol(_Echo), self.clock
        )
        adopt(self.factory, self.clock, PortTransport)
        client, tls, _ = self.connect()
        self.assertIsInstance(tls, PortTransport)
        client.sends(b"hello")
        self.assertEqual(client.receive(), b"hello")

    def test_freed(self) -> None:
        """A connection that has ended leaves nothing to the garbage collector."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        sidecar = Harness(clock=self.clock)
        for wrapped in (self.factory.wrappedFactory, sidecar.factory):
            self.factory.wrappedFactory = wrapped
            for end in (SecureClient.closes, lambda client: client.peer.resets()):
                client, tls, echo = self.connect()
                left = [weakref.ref(each) for each in (tls, tls.getHandle(), echo)]
                del echo
                end(client)
                self.clock.advance(2)
                self.assertFalse(tls.connected)
                # The network of the tests keeps its own end.
                del client.peer.transport.protocol
                del client, tls
                self.assertEqual([each() for each in left], [None] * 3, (wrapped, end))

    def test_unwrap(self) -> None:
        """The client's close_notify is answered."""
        client, _, echo = self.connect()
        client.closes()
        with self.assertRaises(ssl.SSLZeroReturnError):
            client.tls.read()
        self.assertEqual((client.peer.state, echo.lost), (CLOSED, True))
