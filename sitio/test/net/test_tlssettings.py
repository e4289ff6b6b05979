"""
Promises of L{sitio.net.tlssettings}: settings are values, and wrong ones are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sitio.net.tlssettings import NONE, OPTIONAL, REQUIRED, ClientTLS, KeyPair, ServerTLS


class SettingsTests(SynchronousTestCase):
    """The two kinds of settings."""

    def test_equal(self) -> None:
        """Settings of the same files are equal, whether they are paths or texts."""
        self.assertEqual(
            ServerTLS(Path("a"), Path("b"), more=[("c", "d")]),
            ServerTLS("a", "b", more=(KeyPair("c", "d"),)),
        )
        self.assertNotEqual(ServerTLS("a", "b"), ServerTLS("a", "b", minimum="1.3"))
        self.assertEqual(ClientTLS(ca=Path("a")), ClientTLS(ca="a"))
        self.assertEqual(hash(ClientTLS(ca="a")), hash(ClientTLS(ca="a")))

    def test_clientCertificate(self) -> None:
        """With authorities for clients, a certificate is required, unless it is said otherwise."""
        self.assertEqual(ServerTLS("a", "b").clientCertificate, NONE)
        self.assertEqual(ServerTLS("a", "b", "ca").clientCertificate, REQUIRED)
        self.assertEqual(ServerTLS("a", "b", "ca", OPTIONAL).clientCertificate, OPTIONAL)

    def test_paths(self) -> None:
        """All files are known, for who watches them."""
        settings = ServerTLS("a", "b", "ca", more=[("c", "d")])
        self.assertEqual([str(each) for each in settings.paths], ["a", "b", "c", "d", "ca"])
        self.assertEqual([str(each) for each in ClientTLS(ca="a").paths], ["a"])
        client = ClientTLS(certificate="b", key="c")
        self.assertEqual([str(each) for each in client.paths], ["b", "c"])
        self.assertEqual(ClientTLS().paths, ())

    def test_wrong(self) -> None:
        """Each mistake is one sentence."""
        table: list[tuple[Callable[[], object], str]] = [
            (
                lambda: ServerTLS("", "b"),
                "TLS needs the name of a file as its certificate, not ''",
            ),
            (lambda: ServerTLS("a", "\0"), r"TLS needs the name of a file as its key, not '\x00'"),
            (lambda: ServerTLS("a", "b", minimum="1.1"), "minimum is 1.2 or 1.3, not '1.1'"),
            (
                lambda: ServerTLS("a", "b", "ca", "perhaps"),
                "clientCertificate is required or optional or none, not 'perhaps'",
            ),
            (
                lambda: ServerTLS("a", "b", clientCertificate=OPTIONAL),
                "certificates of clients need the file of the authorities that sign them:"
                " set client-ca",
            ),
            (
                lambda: ClientTLS(certificate="a"),
                "the certificate for the upstream needs its key, too",
            ),
            (lambda: ClientTLS(key="a"), "the key for the upstream needs its certificate, too"),
            (
                lambda: ClientTLS(verify=False, ca="a"),
                "ca names the authorities that are trusted, but verify = false trusts anyone:"
                " leave one of both out",
            ),
            (lambda: ClientTLS(minimum="3"), "minimum is 1.2 or 1.3, not '3'"),
        ]
        for make, sentence in table:
            with self.assertRaises(ValueError) as caught:
                make()
            self.assertEqual(str(caught.exception), sentence)
