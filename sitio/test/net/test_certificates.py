"""
Promises of L{sitio.net.certificates}: each mistake in the files of certificates is one sentence.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.certificates import (
    MAX_FILE_BYTES,
    WARN_SECONDS,
    BadTLSFiles,
    readAuthorities,
    readIdentity,
    written,
)
from sitio.net.tlssettings import KeyPair
from sitio.test.helpers.authority import Authority, fromNow, joined


class CertificateTestCase(SynchronousTestCase):
    """An authority, and the certificate of a server."""

    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()))
        self.folder = self.authority.folder
        self.files = self.authority.issue("server", "a.example", "*.b.example", "127.0.0.1")

    def assertBad(self, files: KeyPair, sentence: str) -> None:
        """Assert that these files can't be used, for this reason."""
        with self.assertRaises(BadTLSFiles) as caught:
            readIdentity(files)
        self.assertEqual(str(caught.exception), sentence)


class IdentityTests(CertificateTestCase):
    """A certificate and its key."""

    def test_read(self) -> None:
        """Names, subject, serial number and times are those of the certificate."""
        ends = fromNow(days=3)
        files = self.authority.issue("other", "A.example", commonName="me", ends=ends)
        identity = readIdentity(files)
        self.assertEqual(identity.names, ("a.example",))
        self.assertIn("CN=me", identity.subject)
        self.assertEqual(int(identity.serial, 16), identity.chain[0].serial_number)
        self.assertEqual(identity.ends, int(ends.timestamp()))
        self.assertNotIn("PRIVATE", repr(identity))

    def test_oneFile(self) -> None:
        """Key and certificate may be in one file, in either order."""
        for order in (self.files.paths, self.files.paths[::-1]):
            both = str(joined(self.folder / "both.pem", order))
            self.assertEqual(len(readIdentity(KeyPair(both, both)).chain), 1)

    def test_chain(self) -> None:
        """A chain in order is taken as a whole."""
        between = Authority(self.folder, "between", self.authority)
        files = between.issue("below", "a.example")
        self.assertEqual(len(readIdentity(files).chain), 2)

    def test_subject(self) -> None:
        """A certificate without a subject is named by its first name, or its first URI."""
        files = self.authority.issueURIs("workload", "spiffe://example/a")
        identity = readIdentity(files)
        self.assertEqual((identity.subject, identity.names), ("spiffe://example/a", ()))

    def test_commonName(self) -> None:
        """A certificate without alternative names is for its common name."""
        identity = readIdentity(self.authority.issueURIs("old", commonName="Old.example"))
        self.assertEqual(identity.names, ("old.example",))
        self.assertEqual(readIdentity(self.files).names, ("a.example", "*.b.example"))


class MistakeTests(CertificateTestCase):
    """What can be wrong with files."""

    def test_unreadable(self) -> None:
        """A file that can't be read is named."""
        missing = self.folder / "missing"
        self.assertBad(
            KeyPair(missing, self.files.key),
            f"can't read the certificate {missing}: No such file or directory",
        )
        self.assertBad(
            KeyPair(self.files.certificate, self.folder),
            f"can't read the key {self.folder}: Is a directory",
        )

    def test_long(self) -> None:
        """A file that is too long is not read to its end."""
        long = self.folder / "long"
        long.write_bytes(b"\n" * (MAX_FILE_BYTES + 1))
        self.assertBad(
            KeyPair(long, self.files.key),
            f"the certificate {long} has more than {MAX_FILE_BYTES} bytes",
        )

    def test_swapped(self) -> None:
        """Files that hold something else are named."""
        certificate, key = self.files.certificate, self.files.key
        self.assertBad(KeyPair(key, key), f"{key} holds no certificate in PEM format")
        self.assertBad(
            KeyPair(certificate, certificate), f"{certificate} holds no private key in PEM format"
        )

    def test_damaged(self) -> None:
        """So are damaged ones."""
        for path, sentence in zip(
            self.files.paths,
            (
                f"a certificate in {self.files.certificate} is damaged",
                f"the key in {self.files.key} is damaged, or of a kind that is unknown",
            ),
        ):
            whole = path.read_bytes()
            lines = whole.splitlines(keepends=True)
            path.write_bytes(b"".join((lines[0], b"AAAA\n", *lines[2:])))
            self.assertBad(self.files, sentence)
            path.write_bytes(whole)

    def test_password(self) -> None:
        """A key with a password is refused, in both formats."""
        path = self.files.paths[1]
        key = load_pem_private_key(path.read_bytes(), None)
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            path.write_bytes(
                key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
            )
            self.assertBad(
                self.files,
                f"the key in {path} has a password, for which sitio can't ask: write it without"
                " one, as openssl pkey does",
            )

    def test_otherKey(self) -> None:
        """A key of another certificate is refused."""
        other = self.authority.issue("other", "a.example")
        self.assertBad(
            KeyPair(self.files.certificate, other.key),
            f"the key in {other.key} does not belong to the certificate in"
            f" {self.files.certificate}",
        )

    def test_order(self) -> None:
        """A chain in the wrong order is refused, with what is wrong."""
        between = Authority(self.folder, "between", self.authority)
        files = between.issue("below", "a.example")
        first, second = self.folder / "1.pem", self.folder / "2.pem"
        parts = files.paths[0].read_bytes().split(b"-----BEGIN")[1:]
        first.write_bytes(b"-----BEGIN" + parts[0])
        second.write_bytes(b"-----BEGIN" + parts[1])
        chain = joined(self.folder / "chain.pem", (second, first))
        self.assertBad(
            KeyPair(chain, files.key),
            f"the certificate of the key must come first in {chain}; it is number 2",
        )
        joined(chain, (first, self.authority.file))
        with self.assertRaises(BadTLSFiles) as caught:
            readIdentity(KeyPair(chain, files.key))
        self.assertRegex(
            str(caught.exception),
            rf"the certificates in {chain} are not in order: number 2 \(.*\) has not signed the"
            " one before it",
        )

    def test_authorities(self) -> None:
        """A file of authorities has one certificate or several, and mistakes are named."""
        several = joined(self.folder / "several", (self.authority.file, self.files.paths[0]))
        self.assertEqual(len(readAuthorities(str(several))), 2)
        with self.assertRaises(BadTLSFiles) as caught:
            readAuthorities("/nowhere")
        self.assertEqual(
            str(caught.exception),
            "can't read the file of authorities /nowhere: No such file or directory",
        )


class TimeTests(CertificateTestCase):
    """What is said of the time of a certificate."""

    def warningAt(self, lifetime: float, left: float) -> str | None:
        """The warning, in the last seconds of a certificate of so many seconds."""
        files = self.authority.issue(
            "timed",
            "a.example",
            begins=fromNow(seconds=-10),
            ends=fromNow(seconds=lifetime - 10),
        )
        identity = readIdentity(files)
        warning = identity.warning(identity.ends - left)
        return warning and warning.replace(identity.subject, "CN")

    def test_soon(self) -> None:
        """sitio warns two weeks before the end, and later for a certificate of a day."""
        year, day = 365 * 86400, 86400
        self.assertIsNone(self.warningAt(year, WARN_SECONDS + 1))
        self.assertEqual(
            self.warningAt(year, WARN_SECONDS - 1), "the certificate CN expires in 13 days"
        )
        self.assertIsNone(self.warningAt(day, 0.21 * day))
        self.assertEqual(self.warningAt(day, 0.19 * day), "the certificate CN expires in 4 hours")
        self.assertEqual(self.warningAt(day, 300), "the certificate CN expires in 5 minutes")
        self.assertEqual(self.warningAt(day, 30), "the certificate CN expires in 30 seconds")

    def test_over(self) -> None:
        """An expired certificate is named, and so is one that is not valid yet."""
        self.assertRegex(str(self.warningAt(86400, 0)), "the certificate CN has expired at 20.*Z")
        identity = readIdentity(self.files)
        self.assertIn(
            f"is not valid before {written(identity.begins)}",
            str(identity.warning(identity.begins - 1)),
        )
        self.assertFalse(identity.isValid(identity.begins - 1))
        self.assertFalse(identity.isValid(identity.ends))
        self.assertTrue(identity.isValid(identity.ends - 1))

    def test_chain(self) -> None:
        """The first certificate of the chain that ends counts."""
        between = Authority(self.folder, "between", self.authority)
        identity = readIdentity(between.issue("below", "a.example"))
        ends = [each.not_valid_after_utc.timestamp() for each in identity.chain]
        self.assertEqual(identity.ends, min(ends))
