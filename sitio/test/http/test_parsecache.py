"""
Tests of L{sitio.http.parsecache}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http import parsecache
from sitio.http.headers import MAX_SHARED_BYTES
from sitio.http.parsecache import MAX_CACHE_BYTES, MAX_CACHED, ParseCache


class ParseCacheTests(SynchronousTestCase):
    """Results are cached within bounds."""

    def test_again(self) -> None:
        """A result is stored when the bytes come for the second time."""
        read: list[bytes] = []

        def upper(data: bytes) -> bytes:
            read.append(data)
            return data.upper()

        cache = ParseCache(upper)
        self.assertEqual(
            [cache[each] for each in (b"a", b"b", b"a", b"a")], [b"A", b"B", b"A", b"A"]
        )
        self.assertEqual((read, list(cache)), ([b"a", b"b", b"a"], [b"a"]))

    def test_number(self) -> None:
        """A full cache is emptied, and its results stay right."""
        cache = ParseCache(int)
        for n in range(2 * MAX_CACHED + 1):
            for _ in range(3):
                self.assertEqual(cache[b"%d" % n], n)
            self.assertLessEqual(len(cache), MAX_CACHED)
        self.assertEqual((list(cache), cache.size), ([b"%d" % n], parsecache._BYTE_COST * 4))
        self.assertEqual(cache[b"0"], 0)

    def test_once(self) -> None:
        """Bytes that come once are not stored, and the number of their marks is bounded."""
        cache = ParseCache(int)
        for n in range(2 * MAX_CACHED + 1):
            self.assertEqual(cache[b"%d" % n], n)
            self.assertLessEqual(len(cache._seenOnce), MAX_CACHED)
        self.assertEqual((len(cache), cache.size), (0, 0))

    def test_size(self) -> None:
        """The size is bounded: fewer long entries fit than short ones."""
        cache = ParseCache(len)
        for n in range(1000):
            for _ in range(2):
                self.assertEqual(cache[b"%06d\n" % n * 250], 1750)
            self.assertLessEqual(cache.size, MAX_CACHE_BYTES)
        self.assertLess(len(cache), MAX_CACHE_BYTES // (250 * parsecache._LINE_COST))
        self.assertGreater(len(cache), 0)

    def test_long(self) -> None:
        """Bytes over the limit are parsed each time, and not stored."""
        cache = ParseCache(len)
        for _ in range(3):
            self.assertEqual(cache[bytes(MAX_SHARED_BYTES)], MAX_SHARED_BYTES)
            self.assertEqual(cache[bytes(MAX_SHARED_BYTES + 1)], MAX_SHARED_BYTES + 1)
        self.assertEqual(list(map(len, cache)), [MAX_SHARED_BYTES])

    def test_errors(self) -> None:
        """An exception is not stored, and raised again each time."""
        cache = ParseCache(int)
        for _ in range(3):
            self.assertRaises(ValueError, cache.__getitem__, b"x")
        self.assertEqual((len(cache), cache.size), (0, 0))
