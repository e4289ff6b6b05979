"""Tests for L{sitio.policy.services}: policies that are services start and stop with sitio."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.services import STOP_SECONDS, PolicyServices
from sitio.testing.loop import ClockLoop


class Doing(Service):
    """A service whose methods do what a test says."""

    def __init__(self, starts: Any = None, stops: Any = None) -> None:
        self.starts, self.stops = starts, stops

    def startService(self) -> Any:
        Service.startService(self)
        return self.starts and self.starts()

    def stopService(self) -> Any:
        Service.stopService(self)
        return self.stops and self.stops()


class PolicyServicesTests(SynchronousTestCase):
    """L{PolicyServices} runs coroutines, bounds and reports what its services do."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.loop = ClockLoop(self.clock)
        self.services = PolicyServices(self.clock)
        self.did: list[str] = []

    def add(self, starts: Any = None, stops: Any = None) -> None:
        Doing(starts, stops).setServiceParent(self.services)

    def start(self) -> None:
        self.services.startService()
        # Twice, as asyncio goes on in another turn.
        self.clock.pump([0, 0])

    def stop(self) -> Deferred[Any]:
        with self.loop.running():
            stopped = self.services.stopService()
        self.clock.pump([0, 0, 0])
        return stopped

    async def waits(self, seconds: float, what: str) -> None:
        """Await asyncio, and say so, also when it is cancelled."""
        try:
            await asyncio.sleep(seconds)
            self.did.append(what)
        except asyncio.CancelledError:
            self.did.append(f"{what}, cancelled")
            raise

    def fails(self) -> None:
        raise ZeroDivisionError

    async def failsLater(self) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    def test_coroutines(self) -> None:
        """C{startService} and C{stopService} may await asyncio; the end waits for the latter."""
        self.add(lambda: self.waits(1, "started"), lambda: self.waits(2, "stopped"))
        self.start()
        self.clock.advance(1)
        self.clock.advance(0)
        self.assertEqual(self.did, ["started"])
        stopped = self.stop()
        self.assertNoResult(stopped)
        self.clock.advance(2)
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(self.did, ["started", "stopped"])

    def test_longStart(self) -> None:
        """A start that is still at work when sitio stops is cancelled, and that is no failure."""
        self.add(lambda: self.waits(3600, "start"))
        self.start()
        self.successResultOf(self.stop())
        self.assertEqual(self.did, ["start, cancelled"])

    def test_neverBegun(self) -> None:
        """So is a start that has not begun."""
        self.add(lambda: self.waits(3600, "start"))
        self.services.startService()
        self.successResultOf(self.stop())
        self.assertEqual((self.did, self.clock.getDelayedCalls()), ([], []))

    def test_loop(self) -> None:
        """A start that returned a Deferred which fires at the stop is no failure."""
        ended: Deferred[None] = Deferred()
        self.add(lambda: ended, lambda: ended.callback(None))
        self.start()
        self.successResultOf(self.stop())

    def test_neverEnds(self) -> None:
        """A stop that never ends is reported, and does not keep the others from stopping."""
        for stops in (Deferred, lambda: self.waits(3600, "stop")):
            self.add(stops=stops)
        self.add(stops=lambda: self.did.append("other"))
        self.start()
        stopped = self.stop()
        self.clock.advance(STOP_SECONDS - 0.1)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(self.did[0], "other")
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_failures(self) -> None:
        """What a stop raises, at once or later, is reported; the others stop."""
        for stops in (self.fails, self.failsLater):
            self.add(stops=stops)
        self.start()
        self.successResultOf(self.stop())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_failedStart(self) -> None:
        """A start that raises keeps sitio from starting; one that fails later is reported."""
        self.add(self.failsLater)
        self.start()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(self.stop())
        services = PolicyServices(self.clock)
        Doing(self.fails).setServiceParent(services)
        with self.assertRaises(ZeroDivisionError):
            services.startService()

    def test_noAsyncio(self) -> None:
        """On a reactor without asyncio the failure names the reactors."""
        services = PolicyServices(clock := Clock())
        Doing(lambda: self.waits(1, "start")).setServiceParent(services)
        services.startService()
        clock.advance(0)
        [failure] = self.flushLoggedErrors()
        self.assertIn("--reactor=asyncio", str(failure.value))
