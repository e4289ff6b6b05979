"""
Tables for a terminal: L{Table}.

A table fits into the width: columns that can be left out are left out, the last ones first; then
the columns that may be cut are cut.

Contract: pure.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import click
from attrs import Factory, define, field, frozen

from sitio.cli.terminal import Terminal

#: Spaces between two columns.
GAP = 2

#: Columns that a cut column keeps.
LEAST = 16

_CUT = "..."


@frozen
class Cell:
    """A text, and its style as of L{click.style}."""

    text: str
    style: dict[str, Any] = field(factory=dict)


@frozen
class Column:
    """
    @ivar right: whether numbers stand at the right.
    @ivar isCut: whether its texts may be cut, or wrapped if it is the last column.
    @ivar extra: whether it may be left out; of several, the highest number first.
    """

    title: str
    right: bool = False
    isCut: bool = False
    extra: int = 0


@define
class Table:
    """Rows of cells under titles."""

    columns: Sequence[Column]
    rows: list[list[Cell]] = Factory(list)
    wraps: bool = False

    def add(self, *cells: str | Cell) -> None:
        """Add a row."""
        self.rows.append([each if isinstance(each, Cell) else Cell(each) for each in cells])

    def lines(self, terminal: Terminal, indent: int = 2) -> list[str]:
        """The table as lines, which fit into the width if they can."""
        room = terminal.width - indent
        shown = self._shown(room)
        widths = self._widths(shown, room)
        titles = [Cell(self.columns[at].title, {"dim": True}) for at in shown]
        lines = [self._line(terminal, shown, widths, titles, indent)]
        for row in self.rows:
            lines += self._rowLines(terminal, shown, widths, row, indent)
        return lines

    def _width(self, at: int) -> int:
        texts = [self.columns[at].title, *(row[at].text for row in self.rows)]
        return max(map(len, texts))

    def _shown(self, room: int) -> list[int]:
        """The columns that are shown, by their places."""
        shown = list(range(len(self.columns)))
        extras = sorted(
            (at for at in shown if self.columns[at].extra),
            key=lambda at: (-self.columns[at].extra, -at),
        )
        for at in extras:
            if self._needed(shown) <= room:
                break
            shown.remove(at)
        return shown

    def _needed(self, shown: Sequence[int]) -> int:
        least = [
            min(self._width(at), LEAST) if self.columns[at].isCut else self._width(at)
            for at in shown
        ]
        return sum(least) + GAP * (len(shown) - 1)

    def _widths(self, shown: Sequence[int], room: int) -> list[int]:
        widths = [self._width(at) for at in shown]
        over = sum(widths) + GAP * (len(shown) - 1) - room
        while over > 0:
            # The widest of those that may be cut gives way.
            cuttable = [
                place
                for place, at in enumerate(shown)
                if self.columns[at].isCut and widths[place] > LEAST
            ]
            if not cuttable:
                break
            widest = max(cuttable, key=widths.__getitem__)
            widths[widest] -= 1
            over -= 1
        return widths

    def _rowLines(
        self,
        terminal: Terminal,
        shown: Sequence[int],
        widths: Sequence[int],
        row: Sequence[Cell],
        indent: int,
    ) -> list[str]:
        cells = [row[at] for at in shown]
        more: list[str] = []
        if self.wraps and len(cells[-1].text) > widths[-1]:
            first, *more = textwrap.wrap(cells[-1].text, widths[-1]) or [""]
            cells[-1] = Cell(first, cells[-1].style)
        lines = [self._line(terminal, shown, widths, cells, indent)]
        blank = [Cell("")] * (len(cells) - 1)
        for each in more:
            last = Cell(each, cells[-1].style)
            lines.append(self._line(terminal, shown, widths, [*blank, last], indent))
        return lines

    def _line(
        self,
        terminal: Terminal,
        shown: Sequence[int],
        widths: Sequence[int],
        cells: Sequence[Cell],
        indent: int,
    ) -> str:
        parts = []
        for at, width, cell in zip(shown, widths, cells):
            text = cutTo(cell.text, width)
            padding = " " * (width - len(text))
            painted = terminal.paint(text, **cell.style)
            parts.append(padding + painted if self.columns[at].right else painted + padding)
        return (" " * indent + (" " * GAP).join(parts)).rstrip()


def cutTo(text: str, width: int) -> str:
    """The text, without its middle if it is longer than that."""
    if len(text) <= width:
        return text
    left = (width - len(_CUT) + 1) // 2
    right = width - len(_CUT) - left
    return text[:left] + _CUT + (text[-right:] if right > 0 else "")


def plain(lines: Sequence[str]) -> list[str]:
    """Lines without colours."""
    return [click.unstyle(each) for each in lines]
