"""
Tests of L{sitio.workers.worker}: one worker; the test plays its supervisor.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from sitio.telemetry.records import ExchangeLists
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.test.helpers.snapshots import exchangesOf, told
from sitio.workers.channel import encodeMessage
from sitio.workers.process import ANSWER_SECONDS
from sitio.workers.worker import Worker


class Served:
    """
    What a worker does its work with, its sidecar and its reactor, played by the test.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.acts: list[str] = []
        self.stopping: Deferred[None] = Deferred()
        self.trigger: Callable[[], Any] | None = None
        self.fails: OSError | None = None
        self.callLater = clock.callLater
        self.seconds = clock.seconds

    def addSystemEventTrigger(self, phase: str, event: str, trigger: Callable[[], Any]) -> None:
        assert (phase, event) == ("before", "shutdown")
        self.trigger = trigger

    def stop(self) -> None:
        self.acts.append("stop")

    def stopService(self) -> Deferred[None]:
        self.acts.append("drain")
        return self.stopping

    def drain(self) -> None:
        self.acts.append("go elsewhere")

    def abort(self) -> None:
        self.acts.append("abort")

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        return succeed(told(4))

    def exchanges(self) -> Deferred[ExchangeLists]:
        return succeed(exchangesOf(5))

    def acceptFor(self, others: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.acts.append(f"for {list(others)}")


class WorkerTests(SynchronousTestCase):
    """A worker obeys its parent, and does not outlive it for long."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.served = served = Served(self.clock)
        self.worker = Worker(served, served, served)  # type: ignore[arg-type]
        self.transport = StringTransport()
        self.transport.loseConnection = self.loseConnection  # type: ignore[method-assign]
        self.losing = False
        self.worker.channel.makeConnection(self.transport)
        self.worker.begin()

    def loseConnection(self) -> None:
        self.losing = True

    def tell(self, word: str, content: Any = None) -> None:
        """The parent says this."""
        self.worker.channel.dataReceived(encodeMessage(word, content))

    def said(self) -> bytes:
        """What it has said since the last time."""
        said: bytes = self.transport.value()
        self.transport.clear()
        return said

    def shutDown(self) -> Deferred[None]:
        """The reactor is about to stop."""
        assert self.served.trigger is not None
        ended: Deferred[None] = self.served.trigger()
        return ended

    def test_ready(self) -> None:
        """It says when it is ready."""
        self.assertEqual(self.said(), encodeMessage("ready"))

    def test_snapshot(self) -> None:
        """It tells of itself when it is asked."""
        self.said()
        self.tell("snapshot")
        self.assertEqual(self.said(), encodeMessage("snapshot", told(4)))

    def test_exchanges(self) -> None:
        """It tells of single exchanges when it is asked."""
        self.said()
        self.tell("exchanges")
        self.assertEqual(self.said(), encodeMessage("exchanges", exchangesOf(5)))

    def test_drain(self) -> None:
        """Told to drain it does, and does not end."""
        self.tell("drain")
        self.assertEqual(self.served.acts, ["go elsewhere"])

    def test_standIn(self) -> None:
        """It accepts clients in place of others, by their numbers."""
        self.tell("absent", [2, 5])
        self.assertEqual(self.served.acts, ["for [1, 4]"])

    def test_standInFails(self) -> None:
        """If it can't, it says so in the log and goes on."""
        self.served.fails = OSError(24, "Too many open files")
        self.tell("absent", [2])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertFalse(self.losing)

    def test_reopen(self) -> None:
        """Told that files were renamed it does what it would on the signal that says so."""
        signals: list[int] = []
        self.patch(signal, "raise_signal", signals.append)
        self.tell("reopen")
        self.assertEqual(signals, [signal.SIGUSR1])

    def test_stop(self) -> None:
        """
        Told to stop it says that it accepts no more, drains, tells its last metrics,
        and ends once its parent has them.
        """
        self.said()
        self.tell("stop")
        self.assertEqual(self.served.acts, ["stop"])
        ended = self.shutDown()
        self.assertEqual(self.served.acts, ["stop", "drain"])
        self.assertEqual(self.said(), encodeMessage("stopping"))
        self.served.stopping.callback(None)
        self.assertEqual(self.said(), encodeMessage("snapshot", told(4)))
        self.assertTrue(self.losing)
        self.assertNoResult(ended)
        self.worker.channel.connectionLost()
        self.successResultOf(ended)
        self.assertEqual(self.served.acts, ["stop", "drain"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_parentSlow(self) -> None:
        """It does not wait for long for a parent that does not read."""
        ended = self.shutDown()
        self.served.stopping.callback(None)
        self.clock.advance(ANSWER_SECONDS)
        self.successResultOf(ended)

    def test_failsToDrain(self) -> None:
        """Even if it can't drain it tells its last metrics, and ends."""
        ended = self.shutDown()
        self.said()
        self.served.stopping.errback(RuntimeError("a policy's service"))
        self.assertEqual(self.said(), encodeMessage("snapshot", told(4)))
        self.worker.channel.connectionLost()
        self.successResultOf(ended)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_end(self) -> None:
        """Told to end it breaks off what is in flight."""
        self.tell("stop")
        self.shutDown()
        self.tell("abort")
        self.assertEqual(self.served.acts, ["stop", "drain", "abort"])

    def test_endAtOnce(self) -> None:
        """It can be told so without having been told to stop."""
        self.tell("abort")
        self.assertEqual(self.served.acts, ["stop", "abort"])

    def test_signalled(self) -> None:
        """Once it stops of itself, by a signal, it is not stopped again."""
        self.shutDown()
        self.tell("stop")
        self.assertEqual(self.served.acts, ["drain"])

    def test_parentGone(self) -> None:
        """When its parent has gone it drains, and does not wait for it."""
        self.worker.channel.connectionLost()
        self.assertEqual(self.served.acts, ["stop"])
        ended = self.shutDown()
        self.served.stopping.callback(None)
        self.successResultOf(ended)
