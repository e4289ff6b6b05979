"""
Tests of L{sitio.http.paths}.  Its tables of spellings are those of the tests of C{deny}.
"""

from __future__ import annotations

import contextlib
from urllib.parse import unquote_to_bytes

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.paths import (
    MAX_COMBINING,
    MAX_LIGATURES,
    MAX_PREFIXES,
    MAX_READINGS,
    MAX_WORK,
    UnreadablePath,
    isDecoded,
    readings,
    unquoted,
)


class ReadingTests(SynchronousTestCase):
    """The ways in which services read a path."""

    def test_plain(self) -> None:
        """A plain path has one reading: itself."""
        for path in ("/", "/a/b.c", "/a/b/", "/a...b", "/.git/x", "/a:b", "/a+b", "/%", "*"):
            self.assertEqual(readings(path), {path})

    def test_partialDecoding(self) -> None:
        """Slashes that stay encoded while dots are resolved are a reading of their own."""
        self.assertIn("/a/admin", readings("/a/x%2fy/%2e%2e/admin"))
        self.assertIn("/a/admin", readings("/a/x%2fy/..%3b/admin"))
        self.assertIn("/a/x/admin", readings("/a/x%2fy/%2e%2e/admin"))

    def test_undecodable(self) -> None:
        """Bytes that are not UTF-8 are dropped, are Latin-1, or take the next one with them."""
        self.assertLessEqual({"/caf", "/caf\u00e9"}, readings("/caf%e9"))
        self.assertIn("/x/y", readings("/x%c0%2fy"))

    def test_similar(self) -> None:
        """Characters that are compatible with ASCII, or invisible, are read as Windows does."""
        for path in ("/%ef%bd%81", "/%e2%80%8ba", "/%c2%ada", "/%e1%b5%83", "/%e2%93%90"):
            self.assertIn("/a", readings(path), path)

    def test_several(self) -> None:
        """Several paths of one request have their readings together."""
        self.assertEqual(readings("/a", "/%62"), {"/a", "/%62", "/b"})
        self.assertEqual(readings("/a", "/b"), {"/a", "/b"})

    def test_limits(self) -> None:
        """Readings, work, prefixes, ligatures, and combining characters in a row are limited."""
        with self.assertRaises(UnreadablePath):
            readings("/%2525%252e;\\..//. / .%01#%e9.;/%2525252e:$/%5c" * 3)
        long = "/" + "%20" * (MAX_WORK // 3)
        with self.assertRaises(UnreadablePath):
            readings(long, long + "x")
        with self.assertRaises(UnreadablePath):
            readings(*(f"/{each}." for each in range(MAX_READINGS)))
        marks = "\u0316\u0301"
        readings("/x" + marks * (MAX_COMBINING // 2))
        with self.assertRaises(UnreadablePath):
            readings("/x" + marks * MAX_COMBINING)
        readings("/x" + "\ufdfa" * MAX_LIGATURES)
        with self.assertRaises(UnreadablePath):
            readings("/x" + "\ufdfa" * (MAX_LIGATURES + 1))
        readings("/x", prefixes=["/x"] * MAX_PREFIXES)
        with self.assertRaises(UnreadablePath):
            readings("/x", prefixes=["/x"] * (MAX_PREFIXES + 1))
        # A row of other marks is text.
        readings("/\uff41" + "\u2026\u00a7" * 99)

    @given(
        st.lists(
            st.sampled_from([b"%", b"%41", b"%4", b"=", b"=41", b"%3d", b"\n", b"%0a", b" ", b"_"])
            | st.binary(max_size=3)
        )
    )
    def test_unquoted(self, pieces: list[bytes]) -> None:
        """The fast decoder decodes as the standard library does, malformed escapes included."""
        data = b"".join(pieces)
        self.assertEqual(unquoted(data), unquote_to_bytes(data))

    @given(st.text(max_size=60))
    def test_anything(self, path: str) -> None:
        """Any text has readings, itself one of them, or is unreadable."""
        with contextlib.suppress(UnreadablePath):
            self.assertIn(path, readings(path))

    @given(st.binary(max_size=60))
    def test_anyBytes(self, path: bytes) -> None:
        """The same for any bytes."""
        with contextlib.suppress(UnreadablePath):
            readings("/" + path.decode("utf-8", "surrogateescape"))

    def test_decoded(self) -> None:
        """A path is decoded if it has no encoding and no detours in it."""
        for path in ("/a", "/a.", "/a b", "/caf\u00e9", "/\uff41", "/100%", "/a:$b", "*"):
            self.assertTrue(isDecoded(path), path)
        for path in ("/%61", "//a", "/a/../b", "/a;b", "/a\\b", "/a ", "/a\n", "/a#b", "/\0"):
            self.assertFalse(isDecoded(path), path)
