"""
How wide the terminal is, and whether it has colours: L{Terminal}.

Contract: looks at the stream and the environment that it is given.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import click
from attrs import frozen

#: Columns of output that goes to no terminal, as to a file.
FILE_COLUMNS = 120

#: Columns that are used at least, and at most: longer lines are hard to read.
MIN_COLUMNS = 40
MAX_COLUMNS = 160


@frozen
class Terminal:
    """
    Where a screen is written.

    @ivar width: columns.
    @ivar coloured: whether there are colours.
    """

    width: int = 80
    coloured: bool = False

    @classmethod
    def of(cls, stream: Any = None, environ: Mapping[str, str] | None = None) -> Terminal:
        """
        That of a stream, standard output by default.  C{NO_COLOR}, if it is not empty, and
        C{TERM=dumb} turn colours off (no-color.org).
        """
        stream = sys.stdout if stream is None else stream
        environ = os.environ if environ is None else environ
        isTerminal = stream.isatty()
        columns = shutil.get_terminal_size().columns if isTerminal else FILE_COLUMNS
        coloured = isTerminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        return cls(max(MIN_COLUMNS, min(columns, MAX_COLUMNS)), coloured)

    def paint(self, text: str, **style: Any) -> str:
        """The text in a style of L{click.style}, if there are colours."""
        return click.style(text, **style) if self.coloured and style else text
