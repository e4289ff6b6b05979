"""
Promises of L{sitio.net.tlsclient}: connections to an upstream by TLS, which is verified.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.handshake import HandshakeFailed
from sitio.net.tlsclient import MAX_SESSION_SECONDS, TLSClientEndpoint
from sitio.net.tlsfiles import PortTLS, UpstreamTLS
from sitio.net.tlssettings import ClientTLS, KeyPair, ServerTLS
from sitio.test.helpers.authority import Authority, fromNow
from sitio.test.helpers.securepair import Recorder, SecurePair, connectionOf, isResumed


class ClientTestCase(SynchronousTestCase):
    """A port by TLS, and clients of it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.authority = Authority(Path(self.mktemp()))
        self.files = self.authority.issue("server", "a.example", "192.0.2.7", "::1")
        self.pair = self.listen(self.files)

    def listen(self, files: KeyPair, **settings: Any) -> SecurePair:
        """Listen with this certificate."""
        port = PortTLS("port", ServerTLS(files.certificate, files.key, **settings))
        return SecurePair(self.clock, port)

    def endpoint(
        self, host: str = "a.example", pair: SecurePair | None = None, **settings: Any
    ) -> TLSClientEndpoint:
        """An endpoint that trusts the authority, unless the settings say otherwise."""
        if settings.get("verify", True):
            settings.setdefault("ca", self.authority.file)
        tls = UpstreamTLS("upstream", ClientTLS(**settings))
        return TLSClientEndpoint(self.clock, pair or self.pair, tls, host)

    def connected(self, endpoint: TLSClientEndpoint, pair: SecurePair | None = None) -> Recorder:
        """Connect, which must work."""
        client, error = (pair or self.pair).dial(endpoint)
        self.assertIsNone(error)
        assert client is not None
        return client

    def assertRefused(self, endpoint: TLSClientEndpoint, sentence: str) -> None:
        """Assert that no connection comes about, for this reason."""
        pair: Any = endpoint._endpoint
        client, error = pair.dial(endpoint)
        self.assertIsNone(client)
        self.assertIsInstance(error, HandshakeFailed)
        self.assertEqual(str(error), sentence)
        self.assertEqual(pair.served[-1].data, b"")


class VerificationTests(ClientTestCase):
    """Whom sitio trusts."""

    def test_trusted(self) -> None:
        """A certificate of the authority for the name is trusted, and data goes both ways."""
        for host in ("a.example", "A.Example.", "192.0.2.7", "::1", "[::1]"):
            client = self.connected(self.endpoint(host))
            client.transport.write(b"question")
            self.pair.flush()
            self.assertEqual(self.pair.served[-1].data, b"question")
            self.pair.served[-1].transport.write(b"answer")
            self.pair.flush()
            self.assertEqual(client.data, b"answer")

    def test_serverName(self) -> None:
        """The name is asked for by SNI; an IP address is not."""
        for host, name in (("a.example", b"a.example"), ("192.0.2.7", None)):
            self.connected(self.endpoint(host))
            self.assertEqual(connectionOf(self.pair.served[-1]).get_servername(), name)

    def test_otherName(self) -> None:
        """C{name} takes the place of the host, for SNI and for the check."""
        self.connected(self.endpoint("10.0.0.1", name="a.example"))
        self.assertEqual(connectionOf(self.pair.served[-1]).get_servername(), b"a.example")
        self.assertRefused(
            self.endpoint("a.example", name="b.example"),
            "its certificate is for a.example, and not for b.example",
        )

    def test_wrongName(self) -> None:
        """A certificate for another host is refused, with the names that it has."""
        self.assertRefused(
            self.endpoint("b.example"), "its certificate is for a.example, and not for b.example"
        )
        self.assertRefused(
            self.endpoint("192.0.2.8"), "its certificate is for a.example, and not for 192.0.2.8"
        )
        many = self.authority.issue("many", *(f"{n}.example" for n in "abcdefg"))
        self.assertRefused(
            self.endpoint("h.example", self.listen(many)),
            "its certificate is for a.example, b.example, c.example, d.example, e.example, and"
            " others, and not for h.example",
        )

    def test_untrusted(self) -> None:
        """A certificate of another authority is refused, and so is an expired one."""
        stranger = Authority(Path(self.mktemp())).issue("stranger", "a.example")
        self.assertRefused(
            self.endpoint(pair=self.listen(stranger)),
            "its certificate is not trusted: unable to get local issuer certificate",
        )
        old = self.authority.issue(
            "old", "a.example", begins=fromNow(days=-2), ends=fromNow(days=-1)
        )
        self.assertRefused(
            self.endpoint(pair=self.listen(old)),
            "its certificate is not trusted: certificate has expired",
        )

    def test_systemAuthorities(self) -> None:
        """Without C{ca}, the authorities of the system are trusted, and no other."""
        self.assertRefused(
            self.endpoint(ca=None),
            "its certificate is not trusted: unable to get local issuer certificate",
        )

    def test_unverified(self) -> None:
        """With C{verify = false} any certificate will do."""
        self.connected(self.endpoint("b.example", verify=False))

    def test_oldVersion(self) -> None:
        """A port without the minimum version is refused."""
        port = PortTLS("port", ServerTLS(self.files.certificate, self.files.key))
        port.current._default.set_max_proto_version(SSL.TLS1_2_VERSION)
        pair = SecurePair(self.clock, port)
        self.connected(self.endpoint(pair=pair), pair)
        _, error = pair.dial(self.endpoint(pair=pair, minimum="1.3"))
        self.assertRegex(str(error), "the TLS handshake failed: .*protocol version")

    def test_ownCertificate(self) -> None:
        """sitio shows its certificate to a port that asks for one."""
        own = self.authority.issue("own", "client.example")
        pair = self.listen(self.files, clientCA=self.authority.file)
        self.connected(
            self.endpoint(pair=pair, certificate=own.certificate, key=own.key), pair
        ).transport.write(b"question")
        pair.flush()
        self.assertEqual(pair.served[-1].data, b"question")
        self.assertIsNotNone(pair.served[-1].transport.getPeerCertificate())

    def test_protocol(self) -> None:
        """The protocol is HTTP/1.1, by ALPN."""
        client = self.connected(self.endpoint())
        self.assertEqual(client.transport.negotiatedProtocol, b"http/1.1")


class SessionTests(ClientTestCase):
    """Sessions are resumed, in TLS 1.2 and 1.3."""

    def pairs(self) -> list[SecurePair]:
        """A port for each version."""
        found = []
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            port = PortTLS("port", ServerTLS(self.files.certificate, self.files.key))
            port.current._default.set_max_proto_version(version)
            found.append(SecurePair(self.clock, port))
        return found

    def close(self, pair: SecurePair, client: Recorder) -> None:
        """Close a connection in good order."""
        client.transport.loseConnection()
        pair.flush()
        self.assertIsNotNone(client.reason)

    def test_afterEnd(self) -> None:
        """The next connection resumes the session of one that has ended, and so on."""
        for pair in self.pairs():
            endpoint = self.endpoint(pair=pair)
            resumed = []
            for _ in range(4):
                client = self.connected(endpoint, pair)
                resumed.append(isResumed(client))
                self.close(pair, client)
            self.assertEqual(resumed, [False, True, True, True])

    def test_whileOpen(self) -> None:
        """It also resumes that of one that is open, and of one that was aborted."""
        for pair in self.pairs():
            endpoint = self.endpoint(pair=pair)
            first, second = self.connected(endpoint, pair), self.connected(endpoint, pair)
            self.assertEqual((isResumed(first), isResumed(second)), (False, True))
            for each in (first, second):
                each.transport.abortConnection()
            pair.flush()
            self.assertTrue(isResumed(self.connected(endpoint, pair)))

    def test_notForLong(self) -> None:
        """After an hour the certificate is verified again, whatever was resumed meanwhile."""
        for pair in self.pairs():
            endpoint = self.endpoint(pair=pair)
            self.connected(endpoint, pair)
            self.clock.advance(MAX_SESSION_SECONDS / 2)
            self.assertTrue(isResumed(self.connected(endpoint, pair)))
            self.clock.advance(MAX_SESSION_SECONDS / 2)
            self.assertFalse(isResumed(self.connected(endpoint, pair)))
            self.assertTrue(isResumed(self.connected(endpoint, pair)))

    def test_notAfterReload(self) -> None:
        """When the files of the settings were read again, nothing is resumed."""
        for pair in self.pairs():
            endpoint = self.endpoint(pair=pair)
            self.connected(endpoint, pair)
            endpoint.tls.reload()
            self.assertFalse(isResumed(self.connected(endpoint, pair)))

    def test_notOfOthers(self) -> None:
        """An endpoint resumes only sessions of its own."""
        tls = UpstreamTLS("upstream", ClientTLS(ca=self.authority.file))
        one, other = (TLSClientEndpoint(self.clock, self.pair, tls, "a.example") for _ in "ab")
        self.connected(one)
        self.assertFalse(isResumed(self.connected(other)))
        self.assertIs(one.tls.buffer, other.tls.buffer)

    def test_ofFailure(self) -> None:
        """A handshake that fails leaves no session."""
        endpoint = self.endpoint("b.example")
        for _ in range(2):
            client, _ = self.pair.dial(endpoint)
            self.assertIsNone(client)
