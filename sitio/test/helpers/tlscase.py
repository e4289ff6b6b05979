"""
A sidecar with a TLS port, in memory: L{TLSTestCase}.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.deadlines import PERIOD_SECONDS
from sitio.net.tls import PortFactory
from sitio.settings import Settings
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.tls import SecureClient, clientContext
from sitio.testing.harness import Harness
from sitio.testing.network import Peer

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

SETTINGS = Settings(headTimeout=4, idleTimeout=3)


class TLSTestCase(SynchronousTestCase):
    """A sidecar with a TLS port."""

    def setUp(self) -> None:
        self.sidecar = Harness(settings=SETTINGS)
        folder = Path(self.mktemp())
        folder.mkdir()
        self.key, self.certificate = certify(folder)
        self.factory: Any = self.port()

    def port(self) -> PortFactory:
        """Make a port, with keys for its tickets of its own."""
        loaded = PrivateCertificate.loadPEM(self.certificate.read_text() + self.key.read_text())
        options = CertificateOptions(
            privateKey=loaded.privateKey.original, certificate=loaded.original
        )
        return PortFactory(self.sidecar.clock, options, self.sidecar.factory)

    def connect(
        self,
        version: ssl.TLSVersion | None = None,
        alpn: Sequence[str] = (),
        session: ssl.SSLSession | None = None,
        context: ssl.SSLContext | None = None,
    ) -> SecureClient:
        """Connect a client, which has not begun its handshake."""
        peer = Peer(self.sidecar.clock)
        self.sidecar.clients.append(peer)
        protocol = self.factory.buildProtocol(peer.transport.getPeer())
        peer.connect(protocol)
        context = context or clientContext(self.certificate, version)
        if alpn:
            context.set_alpn_protocols(alpn)
        return SecureClient(peer, context, session)

    def ready(self, *arguments: Any, **options: Any) -> SecureClient:
        """Connect a client; its handshake is done."""
        client = self.connect(*arguments, **options)
        client.handshake()
        return client

    def served(self, client: SecureClient, request: bytes = REQUEST) -> None:
        """Let the client have one response."""
        client.sends(request)
        self.sidecar.upstream(-1).got()
        self.sidecar.upstream(-1).sends(RESPONSE)
        self.sidecar.settle()
        client.receive()

    def until(self, client: SecureClient, true: Callable[[SecureClient], bool]) -> float:
        """The seconds until this is true.  The client reads, and answers nothing."""
        began = self.sidecar.clock.seconds()
        while not true(client):
            self.assertLess(self.sidecar.clock.seconds() - began, 100, "it does not close")
            self.sidecar.advance(PERIOD_SECONDS)
            client.receive()
        return self.sidecar.clock.seconds() - began
