"""
Tests of L{sitio.http.codings}.
"""

from __future__ import annotations

import contextlib
import gzip
import sys
import zlib
from random import Random
from unittest.mock import patch

import brotli
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.codings import (
    MAX_DECODED_BYTES,
    MAX_MEMBERS,
    UnreadableBody,
    _zstd,
    codingsOf,
    decoded,
)

zstd = _zstd()
PLAIN = b"hello, hello, " * 2000
RAW = zlib.compress(PLAIN)[2:-4]
SKIPPED = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"

#: The same text in each coding.
CODED = [
    ("gzip", gzip.compress(PLAIN)),
    ("x-gzip", gzip.compress(PLAIN)),
    ("deflate", zlib.compress(PLAIN)),
    ("deflate", RAW),
    ("br", brotli.compress(PLAIN)),
    ("zstd", zstd.compress(PLAIN)),
]


class CodingsTests(SynchronousTestCase):
    """Bodies are decoded, or there is one clear error."""

    def refuses(self, body: bytes, codings: str, limit: int = MAX_DECODED_BYTES) -> str:
        return str(self.assertRaises(UnreadableBody, decoded, body, codings, limit))

    def test_decoded(self) -> None:
        """Each coding is decoded, in any case of its name, and an empty body stays empty."""
        for coding, body in CODED:
            self.assertEqual(decoded(body, coding), PLAIN, coding)
            self.assertEqual(decoded(body, f" Identity,, {coding.upper()} "), PLAIN, coding)
            self.assertEqual(decoded(b"", coding), b"", coding)

    def test_several(self) -> None:
        """Codings are undone in the order opposite to that in which they were applied."""
        twice = brotli.compress(gzip.compress(PLAIN))
        self.assertEqual(decoded(twice, "gzip, br"), PLAIN)
        self.assertIn("not gzip", self.refuses(twice, "br, gzip"))
        self.assertIn("has 4 codings", self.refuses(twice, "br, br, br, br"))

    def test_none(self) -> None:
        """Without a coding the body is as it is."""
        for codings in ("", "identity", " , "):
            self.assertEqual(decoded(b"a", codings), b"a")
        self.assertEqual(codingsOf("GZip ,identity"), ["gzip"])

    def test_members(self) -> None:
        """Members of gzip and frames of zstd follow each other; zstd has some without data."""
        frames = zstd.compress(PLAIN) + SKIPPED + zstd.compress(b"!")
        self.assertEqual(decoded(frames, "zstd"), PLAIN + b"!")
        members = gzip.compress(PLAIN) + gzip.compress(b"") + gzip.compress(b"!")
        self.assertEqual(decoded(members, "gzip"), PLAIN + b"!")
        one = gzip.compress(b"a")
        self.assertEqual(decoded(one * MAX_MEMBERS, "gzip"), b"a" * MAX_MEMBERS)
        self.assertIn("more than 1000 parts", self.refuses(one * (MAX_MEMBERS + 1), "gzip"))

    def test_truncated(self) -> None:
        """A body that lacks its end is not taken for a whole one, wherever it is cut."""
        for coding, body in CODED:
            for end in (1, 3, len(body) // 2, len(body) - 1):
                error = self.refuses(body[:end], coding)
                self.assertRegex(error, "truncated|broken", (coding, end))

    def test_followed(self) -> None:
        """A body that is followed by other bytes is refused."""
        for coding, body in CODED:
            for more in (b"x", b"\0" * 9, b"x" * 20000):
                self.refuses(body + more, coding)
        for coding, body in CODED[2:5]:
            self.refuses(body + body, coding)

    def test_wrong(self) -> None:
        """A body that is something else is refused, and the error has nothing of it."""
        for coding, _ in CODED:
            error = self.refuses(b"hunter2 " * 10, coding)
            self.assertEqual(error, f"the body is not {coding}, or broken")

    def test_changed(self) -> None:
        """A changed byte is found by the codings that have a checksum."""
        for coding, body in (CODED[0], CODED[2]):
            self.refuses(body[:-3] + bytes([body[-3] ^ 1]) + body[-2:], coding)

    def test_garbage(self) -> None:
        """Whatever is broken, there is a result within the limit, or this one error."""
        random = Random(13)
        for _ in range(2000):
            coding, body = random.choice(CODED)
            broken = bytearray(body)
            for _ in range(random.randrange(1, 4)):
                at = random.randrange(len(broken))
                broken[at : at + random.randrange(9)] = random.randbytes(random.randrange(9))
            with contextlib.suppress(UnreadableBody):
                self.assertLessEqual(len(decoded(bytes(broken), coding, 40_000)), 40_000)

    def test_unknown(self) -> None:
        """The error names the codings that are known."""
        self.assertEqual(
            self.refuses(b"a", "compress"),
            "the body has the coding 'compress', which is none of gzip, deflate, br, zstd",
        )

    def test_limit(self) -> None:
        """A result of the limit's length is right, one more byte is refused."""
        for coding, body in CODED:
            self.assertEqual(decoded(body, coding, len(PLAIN)), PLAIN, coding)
            error = self.refuses(body, coding, len(PLAIN) - 1)
            self.assertIn(f"more than {len(PLAIN) - 1} bytes when it is decoded", error)

    def test_bombs(self) -> None:
        """What would be 64 MiB is given up at 16 MiB, or earlier with another limit."""
        zeros = bytes(64 * 1024 * 1024)
        for coding, bomb in (
            ("gzip", gzip.compress(zeros, 1)),
            ("deflate", zlib.compress(zeros, 1)),
            ("deflate", zlib.compress(zeros, 1)[2:-4]),
            ("br", brotli.compress(zeros, quality=1)),
            ("zstd", zstd.compress(zeros)),
        ):
            self.assertIn("more than 16777216 bytes", self.refuses(bomb, coding))
            self.assertIn("more than 10 bytes", self.refuses(bomb, coding, 10))

    def test_betweenCodings(self) -> None:
        """The limit is also that of what is between two codings."""
        inner = gzip.compress(b"a") * 100
        self.assertIn("more than 200 bytes", self.refuses(brotli.compress(inner), "gzip, br", 200))

    def test_window(self) -> None:
        """A window of more than 8 MiB is refused (RFC 9659)."""
        options = {zstd.CompressionParameter.window_log: 27}
        body = zstd.ZstdCompressor(options=options).compress(PLAIN * 3000, 2)
        self.assertIn("not zstd, or broken", self.refuses(body, "zstd", 1 << 30))

    def test_missingLibrary(self) -> None:
        """Without its library the error says how to install it."""
        missing = dict.fromkeys(("brotli", "compression", "backports"))
        with patch.dict(sys.modules, missing):
            for coding in ("br", "zstd"):
                self.assertEqual(
                    self.refuses(b"a", coding),
                    f"the body has the coding {coding}, for which a library is missing:"
                    f" pip install 'sitio-sidecar[{coding}]'",
                )
