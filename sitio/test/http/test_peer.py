"""
Promises of L{sitio.http.peer}: what the certificate of a client says.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.peer import MAX_SPIFFE, PeerCertificate, peerOf, spiffeOf
from sitio.net.tlssettings import KeyPair
from sitio.test.helpers.authority import Authority


class PeerTests(SynchronousTestCase):
    """What is read of a certificate."""

    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()))

    def read(self, files: KeyPair) -> tuple[PeerCertificate, x509.Certificate]:
        """The peer of a certificate, and the certificate."""
        found = x509.load_pem_x509_certificate(files.paths[0].read_bytes())
        return peerOf(found), found

    def test_names(self) -> None:
        """Subject, names and fingerprint are those of the certificate."""
        peer, certificate = self.read(
            self.authority.issue("a", "Web.Example", "192.0.2.1", commonName="web")
        )
        self.assertTrue(peer.subject.startswith("CN=web,"), peer.subject)
        self.assertIn(("CN", "web"), peer.attributes)
        self.assertEqual(peer.dnsNames, ("web.example",))
        self.assertEqual((peer.uris, peer.spiffe), ((), None))
        der = certificate.public_bytes(Encoding.DER)
        self.assertEqual(peer.fingerprint, hashlib.sha256(der).hexdigest())

    def test_workload(self) -> None:
        """A workload has a SPIFFE id, and mostly no subject."""
        id = "spiffe://cluster.local/ns/shop/sa/web"
        peer, _ = self.read(self.authority.issueURIs("a", id))
        self.assertEqual((peer.subject, peer.uris, peer.spiffe), ("", (id,), id))
        self.assertEqual(peer.attributes, ())

    def test_withoutNames(self) -> None:
        """A certificate may have nothing but a common name."""
        peer, _ = self.read(self.authority.issueURIs("a", commonName="a,b"))
        self.assertEqual((peer.dnsNames, peer.uris), ((), ()))
        self.assertEqual(peer.attributes, (("CN", "a,b"),))
        self.assertEqual(peer.subject, "CN=a\\,b")

    def test_spiffe(self) -> None:
        """A SPIFFE id is the only URI of its certificate, and well formed."""
        good = "spiffe://example.org/a/b-c_D.1", "spiffe://example.org"
        for each in good:
            self.assertEqual(spiffeOf((each,)), each)
        self.assertIsNone(spiffeOf(()))
        self.assertIsNone(spiffeOf(good))
        for each in (
            "https://example.org/a",
            "spiffe://Example.org/a",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/./a",
            "spiffe://example.org/..",
            "spiffe://example.org/a%2fb",
            "spiffe://example.org/a?b",
            "spiffe://example.org:1/a",
            "spiffe://a@example.org/a",
            "spiffe:///a",
            "spiffe://example.org/a\n",
            f"spiffe://example.org/{'a' * MAX_SPIFFE}",
        ):
            self.assertIsNone(spiffeOf((each,)), each)
        self.assertEqual(spiffeOf(("spiffe://example.org/...",)), "spiffe://example.org/...")
