"""
Promises of L{sitio.net.tlsfiles}: files of TLS are read again when they change, and mistakes in
them change nothing.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.certificates import BadTLSFiles
from sitio.net.tlsclient import TLSClientEndpoint
from sitio.net.tlsfiles import TLSFiles
from sitio.net.tlssettings import ClientTLS, KeyPair, ServerTLS
from sitio.net.watching import LOOK_SECONDS, Watcher
from sitio.test.helpers.authority import Authority, fromNow
from sitio.test.helpers.securepair import SecurePair, connectionOf, isResumed


class RotationTestCase(SynchronousTestCase):
    """A port by TLS whose files are watched, and clients."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.watcher = Watcher(self.clock)
        self.watcher.startService()
        self.addCleanup(self.watcher.stopService)
        self.now = datetime.now().timestamp()
        self.authority = Authority(Path(self.mktemp()))
        self.files = self.authority.issue("server", "a.example", commonName="first")
        self.tls = TLSFiles(self.watcher, lambda: self.now)
        self.port = self.tls.port("main", ServerTLS(self.files.certificate, self.files.key))
        self.pair = SecurePair(self.clock, self.port)

    def client(self, host: str = "a.example", **settings: Any) -> Any:
        """Connect a new client."""
        tls = self.tls.upstream("other", ClientTLS(ca=self.authority.file, **settings))
        client, error = self.pair.dial(TLSClientEndpoint(self.clock, self.pair, tls, host))
        self.tls.drop(tls)
        self.assertIsNone(error)
        return client

    def seen(self, host: str = "a.example") -> str:
        """The common name of the certificate that a new client sees."""
        return commonNameOf(self.client(host))

    def look(self) -> list[str]:
        """Let the watcher look, and return what is logged."""
        with capturedLogs() as events:
            self.clock.advance(LOOK_SECONDS)
            self.clock.advance(LOOK_SECONDS)
        return [str(formatEvent(each)) for each in events]


def commonNameOf(client: Any) -> str:
    """The common name of the certificate that a client has seen."""
    found = connectionOf(client).get_peer_certificate()
    assert found is not None
    name: str = found.to_cryptography().subject.rfc4514_string().partition(",")[0]
    return name.removeprefix("CN=")


class RotationTests(RotationTestCase):
    """New files."""

    def test_rotates(self) -> None:
        """New handshakes see the new certificate; a connection that is open lives on."""
        old = self.client()
        self.authority.issue("server", "a.example", commonName="second")
        self.assertEqual(self.seen(), "first")
        logged = self.look()
        self.assertEqual(len(logged), 1)
        self.assertRegex(
            logged[0], "^The listener main uses new TLS files: CN=second.* until 3000-01-01T"
        )
        self.assertEqual(self.seen(), "second")
        old.transport.write(b"still here")
        self.pair.flush()
        self.assertEqual(self.pair.served[0].data, b"still here")
        self.assertEqual(commonNameOf(old), "first")

    def test_broken(self) -> None:
        """
        Files that can't be used change nothing.  The log says so once for each change, and the
        state as long as it lasts.
        """
        key = self.files.paths[1]
        good = key.read_bytes()
        for number, (broken, why) in enumerate(
            (
                (b"", f"{key} holds no private key in PEM format"),
                (
                    self.authority.issue("other", "a.example").paths[1].read_bytes(),
                    f"the key in {key} does not belong to the certificate in"
                    f" {self.files.certificate}",
                ),
            )
        ):
            key.write_bytes(broken)
            self.assertEqual(
                self.look(),
                [f"The new TLS files of the listener main are not used, those before stay: {why}"],
            )
            self.assertEqual(self.look(), [])
            self.assertEqual(self.port.problem, why)
            self.assertEqual(
                self.tls.warnings(), [f"listener main: the new TLS files are not used: {why}"]
            )
            self.assertEqual(self.tls.snapshot()[0]["problem"], why)
            self.assertEqual(self.seen(), "first", number)
        key.write_bytes(good)
        self.assertEqual(len(self.look()), 1)
        self.assertEqual((self.port.problem, self.tls.warnings()), (None, []))

    def test_gone(self) -> None:
        """Files that are gone change nothing either."""
        shutil.rmtree(self.authority.folder)
        [line] = self.look()
        self.assertIn("No such file or directory", line)
        self.assertIsNotNone(self.port.problem)

    def test_expired(self) -> None:
        """
        An expired certificate is used with a warning, unless it would replace one that is
        valid.
        """
        self.authority.issue(
            "server", "a.example", commonName="old", begins=fromNow(days=-2), ends=fromNow(days=-1)
        )
        [line] = self.look()
        self.assertRegex(line, "not used, those before stay: the certificate CN=old.* has expired")
        self.assertEqual(self.seen(), "first")
        with capturedLogs() as events:
            port = self.tls.port("late", self.port.settings)
        self.assertRegex(
            str(formatEvent(events[0])),
            "TLS of the listener late: the certificate CN=old.* expired",
        )
        self.assertRegex(port.warnings()[0], "^listener late: the certificate CN=old.* has expired")
        self.authority.issue(
            "server",
            "a.example",
            commonName="older",
            begins=fromNow(days=-3),
            ends=fromNow(days=-2),
        )
        self.look()
        self.assertIn("CN=older", port.warnings()[0])

    def test_secret(self) -> None:
        """The symbolic links of a Secret of Kubernetes are followed when they change."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in ("..1", "..2"):
            (folder / name).mkdir()
            files = self.authority.issue("server", "a.example", commonName=name)
            for path, target in zip(files.paths, ("tls.crt", "tls.key")):
                shutil.copy(path, folder / name / target)
        (folder / "..data").symlink_to("..1")
        for target in ("tls.crt", "tls.key"):
            (folder / target).symlink_to(f"..data/{target}")
        port = self.tls.port("mounted", ServerTLS(folder / "tls.crt", folder / "tls.key"))
        self.pair = SecurePair(self.clock, port)
        self.assertEqual(self.seen(), "..1")
        (folder / "..new").symlink_to("..2")
        (folder / "..new").replace(folder / "..data")
        shutil.rmtree(folder / "..1")
        self.look()
        self.assertEqual(self.seen(), "..2")

    def test_clientAuthorities(self) -> None:
        """
        When the authorities of clients change, a client of the old ones is refused, also if it
        could resume a session.
        """
        settings = ServerTLS(self.files.certificate, self.files.key, self.authority.folder / "cas")
        Path(str(settings.clientCA)).write_bytes(self.authority.file.read_bytes())
        self.pair = SecurePair(self.clock, self.tls.port("mutual", settings))
        own = self.authority.issue("own", "client.example")
        upstream = self.tls.upstream(
            "up",
            ClientTLS(ca=self.authority.file, certificate=own.certificate, key=own.key),
        )
        endpoint = TLSClientEndpoint(self.clock, self.pair, upstream, "a.example")
        for resumed in (False, True):
            client, _ = self.pair.dial(endpoint)
            assert client is not None
            self.assertEqual(isResumed(client), resumed)
            client.transport.write(b"x")
            self.pair.flush()
        others = Authority(self.authority.folder, "others")
        Path(str(settings.clientCA)).write_bytes(others.file.read_bytes())
        self.look()
        with capturedLogs() as events:
            client, _ = self.pair.dial(endpoint)
        # With TLS 1.3 the client learns of it after its own part of the handshake.
        assert client is not None
        self.assertIsNotNone(client.reason)
        self.assertRegex(
            str(formatEvent(events[0])),
            "^The TLS client 192.0.2.1 is refused: its certificate is not trusted: .*certificate"
            r".* \(0 more since the last report\)$",
        )

    def test_replace(self) -> None:
        """Other settings can take the place of those in use; wrong ones change nothing."""
        other = self.authority.issue("other", "a.example", commonName="other")
        with self.assertRaises(BadTLSFiles):
            self.port.replace(ServerTLS("/nowhere", other.key))
        self.authority.issue("server", "a.example", commonName="second")
        self.look()
        self.assertEqual(self.seen(), "second")
        self.port.replace(ServerTLS(other.certificate, other.key))
        self.assertEqual(self.seen(), "other")
        self.authority.issue("other", "a.example", commonName="third")
        self.look()
        self.assertEqual(self.seen(), "third")

    def test_refusedAtStart(self) -> None:
        """What can't be used at the start raises, and is not watched."""
        with self.assertRaises(BadTLSFiles):
            self.tls.port("wrong", ServerTLS("/nowhere", "/nowhere"))
        self.assertEqual(len(self.watcher._watches), 1)
        self.assertEqual(len(self.tls.snapshot()), 1)

    def test_weak(self) -> None:
        """A key that OpenSSL refuses is a mistake in a sentence."""
        from cryptography.hazmat.primitives.asymmetric import rsa

        weak = self.authority.issueURIs(
            "weak", commonName="a", key=rsa.generate_private_key(65537, 1024)
        )
        with self.assertRaises(BadTLSFiles) as caught:
            self.tls.port("weak", ServerTLS(weak.certificate, weak.key))
        self.assertEqual(
            str(caught.exception),
            f"OpenSSL refuses the certificate in {weak.certificate}: ee key too small",
        )


class NameTests(RotationTestCase):
    """The certificate for a name."""

    def more(self) -> list[KeyPair]:
        """Certificates for several names."""
        return [
            self.authority.issue("shop", "shop.example", "*.shop.example", commonName="shop"),
            self.authority.issue("till", "till.shop.example", commonName="till"),
            self.authority.issue("late", "shop.example", commonName="late"),
        ]

    def test_names(self) -> None:
        """
        A client gets the first certificate that is for its name; an exact name is better than
        one with a star, which stands for one label.  Any other client gets the first of all.
        """
        self.port.replace(ServerTLS(self.files.certificate, self.files.key, more=self.more()))
        for host, expected in (
            ("a.example", "first"),
            ("shop.example", "shop"),
            ("Shop.Example", "shop"),
            ("x.shop.example", "shop"),
            ("till.shop.example", "till"),
            ("x.y.shop.example", "first"),
            ("other.example", "first"),
            ("192.0.2.1", "first"),
        ):
            tls = self.tls.upstream("any", ClientTLS(verify=False))
            client, error = self.pair.dial(TLSClientEndpoint(self.clock, self.pair, tls, host))
            self.assertIsNone(error)
            self.assertEqual(commonNameOf(client), expected, host)

    def test_otherwiseTheSame(self) -> None:
        """Each certificate comes with the same rules: for clients, protocols and sessions."""
        settings = ServerTLS(
            self.files.certificate, self.files.key, self.authority.file, more=self.more()
        )
        self.pair = SecurePair(self.clock, self.tls.port("mutual", settings))
        own = self.authority.issue("own", "client.example")
        tls = self.tls.upstream(
            "up", ClientTLS(ca=self.authority.file, certificate=own.certificate, key=own.key)
        )
        endpoint = TLSClientEndpoint(self.clock, self.pair, tls, "till.shop.example")
        for resumed in (False, True):
            client, _ = self.pair.dial(endpoint)
            assert client is not None
            client.transport.write(b"question")
            self.pair.flush()
            self.assertEqual(self.pair.served[-1].data, b"question")
            self.assertEqual(isResumed(client), resumed)
            self.assertEqual(client.transport.negotiatedProtocol, b"http/1.1")
            self.assertIsNotNone(self.pair.served[-1].transport.getPeerCertificate())
        stranger = self.tls.upstream("stranger", ClientTLS(ca=self.authority.file))
        client, _ = self.pair.dial(
            TLSClientEndpoint(self.clock, self.pair, stranger, "till.shop.example")
        )
        assert client is not None
        self.assertIsNotNone(client.reason)

    def test_optional(self) -> None:
        """An optional certificate may be missing, but a wrong one is refused."""
        settings = ServerTLS(
            self.files.certificate, self.files.key, self.authority.file, "optional"
        )
        self.pair = SecurePair(self.clock, self.tls.port("optional", settings))
        self.client().transport.write(b"question")
        self.pair.flush()
        self.assertEqual(self.pair.served[-1].data, b"question")
        self.assertIsNone(self.pair.served[-1].transport.getPeerCertificate())
        wrong = Authority(Path(self.mktemp())).issue("wrong", "client.example")
        client = self.client(certificate=wrong.certificate, key=wrong.key)
        self.assertIsNotNone(client.reason)


class SnapshotTests(RotationTestCase):
    """What metrics and operators see."""

    def test_snapshot(self) -> None:
        """Each port and each upstream is there, with its certificates, until it is dropped."""
        ends = fromNow(days=8, hours=12)
        own = self.authority.issue("own", "client.example", commonName="own", ends=ends)
        upstream = self.tls.upstream("photos", ClientTLS(certificate=own.certificate, key=own.key))
        [port, other] = self.tls.snapshot()
        self.assertEqual((port["role"], port["name"]), ("listener", "main"))
        self.assertEqual((other["role"], other["name"]), ("upstream", "photos"))
        [row] = other["certificates"]
        [identity] = upstream.identities
        self.assertEqual(
            row, {"subject": identity.subject, "serial": identity.serial, "ends": identity.ends}
        )
        self.assertRegex(
            self.tls.warnings()[0],
            r"^upstream photos: the certificate CN=own.* expires in 8 days$",
        )
        self.tls.drop(upstream)
        self.tls.drop(upstream)
        self.assertEqual(len(self.tls.snapshot()), 1)
        self.assertEqual((self.tls.warnings(), self.tls.snapshot()[0]["warnings"]), ([], []))
