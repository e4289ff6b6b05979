"""
Promises of L{sitio.net.titles}: a worker has a name of its own.

C{system.test_command} looks at real ones.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.net.titles import MAX_COMM, nameWorker


class NameTests(SynchronousTestCase):
    """The names of a worker."""

    def setUp(self) -> None:
        self.comm = Path(self.mktemp())
        self.comm.write_text("")
        self.titles: list[str] = []

    def withModule(self, module: Any) -> None:
        """Have C{import setproctitle} find a module, or fail for L{None}."""
        self.patch(sys, "modules", {**sys.modules, "setproctitle": module})

    def test_long(self) -> None:
        """With setproctitle, the command line says which worker of how many it is."""
        module: Any = ModuleType("setproctitle")
        module.setproctitle = self.titles.append
        self.withModule(module)
        nameWorker(3, 4, str(self.comm))
        self.assertEqual(self.titles, ["sitio: worker 3 of 4"])
        self.assertEqual(self.comm.read_text(), "sitio:worker3")

    def test_short(self) -> None:
        """Without, the short name does; that of the last of the most workers fits."""
        self.withModule(None)
        nameWorker(256, 256, str(self.comm))
        self.assertEqual(self.comm.read_text(), "sitio:worker256")
        self.assertEqual(len(self.comm.read_text()), MAX_COMM)

    def test_neither(self) -> None:
        """A system without such a file is no error, and gets none."""
        self.withModule(None)
        self.comm.unlink()
        nameWorker(1, 2, str(self.comm))
        self.assertFalse(self.comm.exists())
