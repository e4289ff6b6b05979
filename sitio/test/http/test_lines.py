"""
Tests of L{sitio.http.lines}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.lines import NO_LINES, keyOf, keysIn, pairsOf, spansOf, wireForm, without

LINES = b"\r\nA:1\r\nB: A: 2\r\na: \t3 \r\nAA:\r\nX_y:4\r\n"
LOWERED = LINES.lower()


class LineTests(SynchronousTestCase):
    """Lines in wire form."""

    def test_keys(self) -> None:
        """Each line has a key, whatever its name is; a value has none."""
        self.assertEqual(keysIn(LOWERED), [b"\na:", b"\nb:", b"\na:", b"\naa:", b"\nx_y:"])
        self.assertEqual((keysIn(NO_LINES), keyOf(b"x-a")), ([], b"\nx-a:"))

    def test_spans(self) -> None:
        """All lines of a name are found, also the first and the last; and can be cut."""
        for name, lines in (
            (b"a", [b"A:1\r\n", b"a: \t3 \r\n"]),
            (b"b", [b"B: A: 2\r\n"]),
            (b"x_y", [b"X_y:4\r\n"]),
            (b"x", []),
            (b"", []),
        ):
            spans = spansOf(keyOf(name), LOWERED)
            self.assertEqual([LINES[start:end] for start, end in spans], lines)
            rest = without(LINES, spans)
            self.assertEqual(len(rest), len(LINES) - sum(map(len, lines)))
            self.assertNotIn(keyOf(name), rest.lower())
        every = [each for key in set(keysIn(LOWERED)) for each in spansOf(key, LOWERED)]
        self.assertEqual(without(LINES, every), NO_LINES)

    def test_pairs(self) -> None:
        """Names and values, as they are written, but for blanks before a value."""
        pairs = [(b"A", b"1"), (b"B", b"A: 2"), (b"a", b"3 "), (b"AA", b""), (b"X_y", b"4")]
        self.assertEqual((pairsOf(LINES), pairsOf(NO_LINES)), (pairs, []))
        self.assertEqual(pairsOf(wireForm(pairs)), pairs)
        self.assertEqual(wireForm([]), NO_LINES)
