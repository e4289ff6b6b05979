"""
Tests of L{sitio.policies.allow}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio import PeerCertificate
from sitio.interfaces import IRequestPolicy
from sitio.policies.allow import makePolicy as declared
from sitio.test.helpers.policies import fromText
from sitio.testing import request, runPolicy

#: Makes a policy of the texts of a description.
makePolicy = fromText(declared)

NO_CERTIFICATE = "403 Forbidden: a client certificate is needed\n"
NOT_ALLOWED = "403 Forbidden: this client is not allowed\n"


def peer(*dnsNames: str, spiffe: str | None = None, **attributes: str) -> PeerCertificate:
    """What a certificate says."""
    return PeerCertificate(attributes=tuple(attributes.items()), dnsNames=dnsNames, spiffe=spiffe)


class AllowTests(SynchronousTestCase):
    """Who comes in."""

    def answer(
        self, certificate: PeerCertificate | None, *, address: str = "192.0.2.1", **options: str
    ) -> str | None:
        """What a client is told that is refused; L{None} for one that comes in."""
        outcome = runPolicy(
            makePolicy(**options), request(), certificate=certificate, clientAddress=address
        )
        if outcome.status == 200:
            return None
        self.assertEqual((outcome.status, outcome.attempts), (403, 0))
        return outcome.text

    def assertAllowed(self, certificate: PeerCertificate, **options: str) -> None:
        """Assert that a client with this certificate comes in."""
        self.assertIsNone(self.answer(certificate, **options), (certificate, options))

    def assertRefused(self, certificate: PeerCertificate, **options: str) -> None:
        """Assert that it does not."""
        self.assertEqual(self.answer(certificate, **options), NOT_ALLOWED, (certificate, options))

    def test_interface(self) -> None:
        """It is a request policy."""
        self.assertTrue(verifyObject(IRequestPolicy, makePolicy(name="a")))

    def test_withoutCertificate(self) -> None:
        """A client without a certificate is told that it needs one."""
        for options in (
            {"name": "a"},
            {"spiffe": "spiffe://a/b"},
            {"subject": "CN=a"},
        ):
            self.assertEqual(self.answer(None, **options), NO_CERTIFICATE)

    def test_names(self) -> None:
        """One of the names is enough; a star stands for one label."""
        names = "web.example,*.Shop.example."
        for name in ("web.example", "a.shop.example"):
            self.assertAllowed(peer("other.example", name), name=names)
        for name in (
            *("shop.example", "a.b.shop.example", "xweb.example", "web.example.org"),
            *("*.shop.example", "ashop.example"),
        ):
            self.assertRefused(peer(name), name=names)
        self.assertRefused(peer(CN="web.example"), name=names)

    def test_spiffe(self) -> None:
        """A star stands for a whole segment, two at the end for one or more."""
        one = "spiffe://cluster.local/ns/shop/sa/*"
        self.assertAllowed(peer(spiffe="spiffe://cluster.local/ns/shop/sa/web"), spiffe=one)
        for id in (
            *("spiffe://cluster.local/ns/shop/sa", "spiffe://cluster.local/ns/shop/sa/a/b"),
            *("spiffe://cluster.local/ns/other/sa/web", "spiffe://other/ns/shop/sa/web"),
            *("spiffe://clusterXlocal/ns/shop/sa/web", None),
        ):
            self.assertRefused(peer(spiffe=id), spiffe=one)
        rest = "spiffe://cluster.local/ns/*/sa/**"
        for id in ("spiffe://cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/b/c"):
            self.assertAllowed(peer(spiffe=id), spiffe=rest)
        for id in ("spiffe://cluster.local/ns/a/sa", "spiffe://cluster.local/ns/a/b/sa/c"):
            self.assertRefused(peer(spiffe=id), spiffe=rest)
        self.assertAllowed(peer(spiffe="spiffe://a/b"), spiffe=f"{one},spiffe://a/b")

    def test_subjects(self) -> None:
        """All attributes of an alternative are needed, in any order."""
        subjects = "O=Shop,cn=web|CN=batch, one"
        self.assertAllowed(peer(CN="web", O="Shop", C="DE"), subject="O=Shop,cn=web|CN=batch")
        self.assertAllowed(peer(CN="batch"), subject="O=Shop,cn=web|CN=batch")
        for certificate in (peer(CN="web"), peer(CN="web", O="Other"), peer(OU="batch"), peer()):
            self.assertRefused(certificate, subject="O=Shop,cn=web|CN=batch")
        self.assertAllowed(peer(CN="a,b"), subject=r"CN=a\,b")
        with self.assertRaises(ValueError):
            makePolicy(subject=subjects)

    def test_networks(self) -> None:
        """The address of the client is in one of the networks; no certificate is needed."""
        networks = "10.0.0.0/8,192.0.2.7,2001:db8::/32"
        for address in ("10.1.2.3", "192.0.2.7", "2001:db8::1"):
            self.assertIsNone(self.answer(None, address=address, network=networks), address)
        for address in ("11.0.0.1", "192.0.2.8", "::1", "unknown", ""):
            self.assertEqual(self.answer(None, address=address, network=networks), NOT_ALLOWED)

    def test_several(self) -> None:
        """With several options, the client needs a value of each."""
        options = {"name": "web.example", "network": "10.0.0.0/8", "subject": "CN=web"}
        self.assertIsNone(self.answer(peer("web.example", CN="web"), address="10.0.0.1", **options))
        for certificate, address in (
            (peer("web.example", CN="web"), "11.0.0.1"),
            (peer("web.example"), "10.0.0.1"),
            (peer("other.example", CN="web"), "10.0.0.1"),
        ):
            self.assertEqual(self.answer(certificate, address=address, **options), NOT_ALLOWED)

    def test_wrong(self) -> None:
        """A mistake in a description is one sentence."""
        for options, sentence in (
            (
                {},
                "allow needs to know whom it lets in: give name=, spiffe=, subject= or network=",
            ),
            (
                {"name": "*"},
                "name=*: '*' is not a name: write web.example, or *.example",
            ),
            (
                {"name": "a.*.example"},
                "name=a.*.example: 'a.*.example' is not a name: write web.example, or *.example",
            ),
            (
                {"spiffe": "https://a/b"},
                "spiffe=https://a/b: 'https://a/b' is not a SPIFFE id: write"
                " spiffe://DOMAIN/PATH, with * for one segment of the path, or ** for its end",
            ),
            (
                {"spiffe": "spiffe://a/b*"},
                "spiffe=spiffe://a/b*: 'spiffe://a/b*' is not a SPIFFE id: write"
                " spiffe://DOMAIN/PATH, with * for one segment of the path, or ** for its end",
            ),
            (
                {"subject": "web"},
                "subject=web: 'web' is not an attribute of a subject: write CN=web,O=Shop",
            ),
            (
                {"network": "10.0.0.1/8"},
                "network=10.0.0.1/8: the network of this address is 10.0.0.0/8: write that",
            ),
        ):
            with self.assertRaises(ValueError) as caught:
                makePolicy(**options)
            self.assertEqual(str(caught.exception), sentence)
