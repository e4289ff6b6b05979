"""
Promises of L{sitio.net.process}: what is done to a process that is sitio's alone, and
not to any other.  L{sitio.test.system.test_twistd} sees such processes.
"""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any, cast
from unittest.mock import patch

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from sitio import assembly
from sitio.config.options import Options
from sitio.errors import CannotStart
from sitio.net.process import YOUNG, spareCollector


class ReactorTests(SynchronousTestCase):
    """Which reactor C{twistd sitio} installs, when it reads its options."""

    REACTOR = "twisted.internet.reactor"

    def setUp(self) -> None:
        self.installed: list[str] = []
        uv = ModuleType("sitio.net.reactor")
        vars(uv).update(install=lambda: self.installed.append("uv"))
        modules = patch.dict(sys.modules, {"sitio.net.reactor": uv})
        modules.start()
        self.addCleanup(modules.stop)
        sys.modules.pop(self.REACTOR, None)

    def parse(self, options: Options) -> None:
        """Have options read as C{twistd} has them read."""
        options.parseOptions([])

    def test_none(self) -> None:
        """Where there is none, it is the one on uvloop."""
        self.parse(assembly.Options({}))
        self.assertEqual(self.installed, ["uv"])

    def test_beforePolicies(self) -> None:
        """It is there before the first policy, which may import it."""
        path = FilePath(self.mktemp() + ".py")
        path.setContent(b"1 / 0")
        options = assembly.Options({})
        self.assertRaises(CannotStart, options.parseOptions, ["--policy", f"file:{path.path}"])
        self.assertEqual(self.installed, ["uv"])

    def test_installed(self) -> None:
        """One that is there stays, as the operator may have named it."""
        sys.modules[self.REACTOR] = ModuleType(self.REACTOR)
        self.parse(assembly.Options({}))
        self.assertEqual(self.installed, [])

    def test_embedded(self) -> None:
        """A program that reads options of sitio's without C{twistd} is left alone."""
        Options({}).parseOptions([])
        self.assertEqual(self.installed, [])

    def test_without(self) -> None:
        """Where uvloop can't be imported, a line says so, and Twisted's default will do."""
        sys.modules["sitio.net.reactor"] = cast(Any, None)
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.parse(assembly.Options({}))
        [said] = [formatEvent(each) for each in events]
        self.assertIn("sitio runs on Twisted's default reactor", said)
        self.assertNotIn(self.REACTOR, sys.modules)


class CollectorTests(SynchronousTestCase):
    """What the garbage collector is told."""

    def test_spared(self) -> None:
        """It looks no more at what is there, and less often at the rest."""
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        spareCollector()
        self.assertGreater(gc.get_freeze_count(), 10_000)
        self.assertEqual(gc.get_threshold()[0], YOUNG)

    def test_other(self) -> None:
        """A collector that can't leave anything out is left as it is."""
        before = gc.get_threshold()
        self.patch(sys.modules["sitio.net.process"], "gc", ModuleType("gc"))
        spareCollector()
        self.assertEqual(gc.get_threshold(), before)
