"""
Tests of L{sitio.net.process}.  L{sitio.test.system.test_twistd} tests whole processes.
"""

from __future__ import annotations

import codecs
import sys
from time import monotonic
from types import ModuleType
from typing import Any, cast
from unittest.mock import patch

from twisted.internet.base import ReactorBase as TwistedReactor
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from sitio import assembly
from sitio.config.options import Options
from sitio.errors import CannotStart
from sitio.net.lookups import Lookups
from sitio.net.process import (
    CODECS,
    loadCodecs,
    silenceFactories,
    useMonotonicClock,
    useOwnLookups,
)
from sitio.test.helpers.logs import recorded


class ReactorBase(TwistedReactor):
    """A reactor without sockets."""

    def installWaker(self) -> None:
        """There is nothing to wake."""

    def wakeUp(self) -> None:
        """It does not sleep."""


class ReactorTests(SynchronousTestCase):
    """Which reactor C{twistd sitio} installs when it reads its options."""

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
        """Read options as C{twistd} does."""
        options.parseOptions([])

    def test_none(self) -> None:
        """If no reactor is installed, the one on uvloop is."""
        self.parse(assembly.Options({}))
        self.assertEqual(self.installed, ["uv"])

    def test_beforePolicies(self) -> None:
        """The reactor is installed before the first policy is loaded, which may import it."""
        path = FilePath(self.mktemp() + ".py")
        path.setContent(b"1 / 0")
        options = assembly.Options({})
        self.assertRaises(CannotStart, options.parseOptions, ["--policy", f"file:{path.path}"])
        self.assertEqual(self.installed, ["uv"])

    def test_installed(self) -> None:
        """A reactor that is installed stays: the operator may have chosen it."""
        sys.modules[self.REACTOR] = ModuleType(self.REACTOR)
        self.parse(assembly.Options({}))
        self.assertEqual(self.installed, [])

    def test_embedded(self) -> None:
        """A program that reads sitio's options without C{twistd} gets no reactor."""
        Options({}).parseOptions([])
        self.assertEqual(self.installed, [])

    def test_without(self) -> None:
        """If uvloop can't be imported, a log line says so, and no reactor is installed."""
        sys.modules["sitio.net.reactor"] = cast(Any, None)
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.parse(assembly.Options({}))
        [said] = [formatEvent(each) for each in events]
        self.assertIn("sitio runs on Twisted's default reactor", said)
        self.assertNotIn(self.REACTOR, sys.modules)


class ClockTests(SynchronousTestCase):
    """Reactors measure time with a clock that nobody sets."""

    def setUp(self) -> None:
        self.reactor = ReactorBase()
        self.called: list[str] = []

    def test_waiting(self) -> None:
        """Calls that wait keep their time and their order, and can be changed."""
        first = self.reactor.callLater(60, self.called.append, "first")
        second = self.reactor.callLater(70, self.called.append, "second")
        self.reactor.timeout()  # Both are in the reactor's heap, the next one is not yet.
        third = self.reactor.callLater(80, self.called.append, "third")
        self.reactor.callLater(50, self.called.append, "never").cancel()
        useMonotonicClock(self.reactor)
        now = monotonic()
        for call, seconds in ((first, 60), (second, 70), (third, 80)):
            self.assertApproximates(call.getTime() - now, seconds, 5)
        self.assertApproximates(self.reactor.timeout() or 0, 60, 5)
        third.reset(0)
        self.reactor.runUntilCurrent()
        self.assertEqual(self.called, ["third"])

    def test_twice(self) -> None:
        """A reactor that goes by this clock already stays as it is."""
        useMonotonicClock(self.reactor)
        call = self.reactor.callLater(60, self.called.append, "")
        at = call.getTime()
        useMonotonicClock(self.reactor)
        self.assertIs(self.reactor.seconds, monotonic)
        self.assertEqual(call.getTime(), at)


class LookupsTests(SynchronousTestCase):
    """Who looks up names."""

    def test_twisted(self) -> None:
        """Twisted's resolver, which uses the pool of threads, is replaced."""
        reactor = ReactorBase()
        useOwnLookups(reactor)
        self.assertIsInstance(reactor.nameResolver, Lookups)

    def test_chosen(self) -> None:
        """A resolver that somebody has installed stays."""
        reactor = ReactorBase()
        chosen = Lookups(cast(Any, reactor))
        reactor.installNameResolver(chosen)
        useOwnLookups(reactor)
        self.assertIs(reactor.nameResolver, chosen)


class FactoriesTests(SynchronousTestCase):
    """What factories log."""

    def test_silent(self) -> None:
        """A factory that says nothing of itself, such as one of treq, logs no start and stop."""
        self.patch(Factory, "noisy", True)
        for lines in (2, 0):
            with recorded() as recorder:
                factory = Factory()
                factory.doStart()
                factory.doStop()
            self.assertEqual(len(recorder.events), lines)
            silenceFactories()


class CodecsTests(SynchronousTestCase):
    """What Python loads from files at its first use is loaded early."""

    def test_loaded(self) -> None:
        """Afterwards no codec needs a file."""
        looked: list[str] = []
        self.patch(codecs, "lookup", looked.append)
        loadCodecs()
        self.assertEqual(tuple(looked), CODECS)
        # The codec of the stats line, without which it fails at the limit.
        self.assertIn("unicode_escape", CODECS)
