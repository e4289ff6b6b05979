"""
Promises of L{sitio.cli.table}: tables fit into the width.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.cli.table import LEAST, Cell, Column, Table, cutTo
from sitio.cli.terminal import Terminal


class TableTests(SynchronousTestCase):
    """Lines of a table."""

    def table(self, wraps: bool = False) -> Table:
        table = Table(
            [
                Column("name", isCut=True),
                Column("open", right=True, extra=1),
                Column("idle", right=True, extra=2),
                Column("why", isCut=True),
            ],
            wraps=wraps,
        )
        table.add("a", "1", "22", "nothing is known")
        table.add(Cell("b" * 24, {"fg": "red"}), "100000", "3", "x")
        return table

    def test_aligned(self) -> None:
        """Numbers stand at the right; no line ends in spaces."""
        self.assertEqual(
            self.table().lines(Terminal(80)),
            [
                "  name                        open  idle  why",
                "  a                              1    22  nothing is known",
                "  bbbbbbbbbbbbbbbbbbbbbbbb  100000     3  x",
            ],
        )

    def test_narrow(self) -> None:
        """Columns that may be left out go first, then others are cut; every line fits."""
        for width, titles in ((60, "name open idle why"), (48, "name open why"), (40, "name why")):
            lines = self.table().lines(Terminal(width))
            self.assertEqual(" ".join(lines[0].split()), titles)
            self.assertLessEqual(max(map(len, lines)), width)

    def test_wrapped(self) -> None:
        """The last column may go on in the next lines, below itself."""
        table = Table([Column("a"), Column("b", isCut=True)], wraps=True)
        table.add("x", "one two three four five")
        self.assertEqual(
            table.lines(Terminal(20), indent=0),
            ["a  b", "x  one two three", "   four five"],
        )

    def test_painted(self) -> None:
        """Colours change no place."""
        plain = self.table().lines(Terminal(80))
        painted = self.table().lines(Terminal(80, coloured=True))
        self.assertIn("\x1b[31mbbbb", painted[2])
        self.assertEqual(painted[2].replace("\x1b[31m", "").replace("\x1b[0m", ""), plain[2])

    def test_cut(self) -> None:
        """A text is cut in its middle: both ends tell something."""
        self.assertEqual(cutTo("abcdefghij", 10), "abcdefghij")
        self.assertEqual(cutTo("abcdefghij", 8), "abc...ij")
        self.assertEqual(len(cutTo("a" * 100, LEAST)), LEAST)
