"""
Promises of L{sitio.cli.terminal}: width and colours.
"""

from __future__ import annotations

import io
import os
import shutil
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from sitio.cli.terminal import FILE_COLUMNS, MAX_COLUMNS, MIN_COLUMNS, Terminal


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class TerminalTests(SynchronousTestCase):
    """Where a screen is written."""

    def test_colours(self) -> None:
        """There are colours on a terminal only, and not if they are turned off."""
        for stream, environ, coloured in (
            (_Screen(), {}, True),
            (_Screen(), {"NO_COLOR": ""}, True),
            (_Screen(), {"NO_COLOR": "1"}, False),
            (_Screen(), {"TERM": "dumb"}, False),
            (io.StringIO(), {}, False),
        ):
            terminal = Terminal.of(stream, environ)
            self.assertEqual(terminal.coloured, coloured)
            self.assertEqual(terminal.paint("a", fg="red") == "a", not coloured)

    def test_width(self) -> None:
        """The width is that of the terminal, within limits; that of a file is fixed."""
        for columns, width in ((100, 100), (10, MIN_COLUMNS), (500, MAX_COLUMNS)):
            size = os.terminal_size((columns, 24))
            self.patch(shutil, "get_terminal_size", partial(tuple.__getitem__, (size,), 0))
            self.assertEqual(Terminal.of(_Screen(), {}).width, width)
            self.assertEqual(Terminal.of(io.StringIO(), {}).width, FILE_COLUMNS)
