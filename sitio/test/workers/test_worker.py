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

from sitio.config.places import ConfigErrors, Mistake
from sitio.telemetry.configstate import ConfigState
from sitio.telemetry.records import ExchangeLists
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.test.helpers.snapshots import exchangesOf, workerSnapshot
from sitio.workers.channel import encodeMessage
from sitio.workers.process import ANSWER_SECONDS
from sitio.workers.worker import Worker


class Served:
    """The sidecar, the reactor and the sockets of a worker, played by the test."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.acts: list[str] = []
        self.stopping: Deferred[None] = Deferred()
        self.trigger: Callable[[], Any] | None = None
        self.fails: OSError | None = None
        self.callLater = clock.callLater
        self.configState = ConfigState(0.0)
        self.preparing: Deferred[list[str]] = Deferred()
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

    def replaceable(self) -> Any:
        return self

    def prepare(self, text: str | None) -> Deferred[list[str]]:
        self.acts.append(f"prepare {text}")
        self.preparing = Deferred()
        return self.preparing

    def adopt(self) -> int:
        self.acts.append("adopt")
        return 2

    def discard(self) -> None:
        self.acts.append("discard")

    def abort(self) -> None:
        self.acts.append("abort")

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        return succeed(workerSnapshot(4))

    def exchanges(self) -> Deferred[ExchangeLists]:
        return succeed(exchangesOf(5))

    def acceptFor(self, others: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.acts.append(f"for {list(others)}")


class WorkerTests(SynchronousTestCase):
    """A worker obeys its supervisor, and ends soon after it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.served = served = Served(self.clock)
        self.worker = Worker(served, served, [served])  # type: ignore[arg-type, list-item]
        self.transport = StringTransport()
        self.transport.loseConnection = self.loseConnection  # type: ignore[method-assign]
        self.losing = False
        self.worker.channel.makeConnection(self.transport)
        self.worker.begin()

    def loseConnection(self) -> None:
        self.losing = True

    def tell(self, name: str, content: Any = None) -> None:
        """Send a message of the supervisor."""
        self.worker.channel.dataReceived(encodeMessage(name, content))

    def said(self) -> bytes:
        """What the worker has sent since the last call."""
        self.clock.advance(0)
        while self.transport.producer is not None:
            self.transport.producer.resumeProducing()
        said: bytes = self.transport.value()
        self.transport.clear()
        return said

    def shutDown(self) -> Deferred[None]:
        """Do what the reactor does before it stops."""
        assert self.served.trigger is not None
        ended: Deferred[None] = self.served.trigger()
        return ended

    def test_ready(self) -> None:
        """It reports when it is ready."""
        self.assertEqual(self.said(), encodeMessage("ready"))

    def test_ping(self) -> None:
        """It answers when it is asked whether it is alive."""
        self.said()
        self.tell("ping")
        self.assertEqual(self.said(), encodeMessage("pong"))

    def test_snapshot(self) -> None:
        """It sends its snapshot on request."""
        self.said()
        self.tell("snapshot")
        self.assertEqual(self.said(), encodeMessage("snapshot", workerSnapshot(4)))

    def test_exchanges(self) -> None:
        """It sends its exchanges on request."""
        self.said()
        self.tell("exchanges")
        self.assertEqual(self.said(), encodeMessage("exchanges", exchangesOf(5)))

    def test_drain(self) -> None:
        """C{drain} makes the sidecar drain; the worker goes on."""
        self.tell("drain")
        self.assertEqual(self.served.acts, ["go elsewhere"])

    def prepared(self, number: int) -> None:
        """Let it prepare a configuration."""
        self.tell("prepare", {"number": number, "text": "a"})

    def test_adopt(self) -> None:
        """It tells when it has prepared a configuration, and adopts it when it is told to."""
        self.said()
        self.prepared(2)
        self.assertEqual(self.said(), b"")
        self.served.preparing.callback(["workers"])
        self.assertEqual(self.said(), encodeMessage("prepared", []))
        self.tell("adopt", 2)
        self.assertEqual(self.served.acts, ["prepare a", "adopt"])
        self.assertEqual(self.served.configState.generation, 2)

    def test_mistakes(self) -> None:
        """It tells mistakes, and any other failure as one."""
        self.said()
        self.prepared(2)
        self.served.preparing.errback(ConfigErrors([Mistake("a.toml", 1, "b", "c")]))
        self.assertEqual(self.said(), encodeMessage("prepared", [["a.toml", 1, "b", "c"]]))
        self.prepared(2)
        self.served.preparing.errback(RuntimeError("odd"))
        said = encodeMessage("prepared", [["", 0, "", "RuntimeError: odd"]])
        self.assertEqual(self.said(), said)
        self.flushLoggedErrors(RuntimeError)

    def test_tooLate(self) -> None:
        """What is prepared when nobody waits for it any more is dropped, before the next one."""
        self.prepared(2)
        self.tell("discard", 2)
        self.prepared(3)
        self.assertEqual(self.served.acts, ["prepare a", "discard"])
        self.said()
        self.served.preparing.callback([])
        self.assertEqual(self.served.acts, ["prepare a", "discard", "discard", "prepare a"])
        self.assertEqual(self.said(), b"")
        self.served.preparing.callback([])
        self.assertEqual(self.said(), encodeMessage("prepared", []))

    def test_standIn(self) -> None:
        """C{absent} makes it accept clients in place of these workers."""
        self.tell("absent", [2, 5])
        self.assertEqual(self.served.acts, ["for [1, 4]"])

    def test_standInFails(self) -> None:
        """If it can't, it logs that and goes on."""
        self.served.fails = OSError(24, "Too many open files")
        self.tell("absent", [2])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertFalse(self.losing)

    def test_reopen(self) -> None:
        """C{reopen} has the effect of the signal SIGUSR1."""
        signals: list[int] = []
        self.patch(signal, "raise_signal", signals.append)
        self.tell("reopen")
        self.assertEqual(signals, [signal.SIGUSR1])

    def test_stop(self) -> None:
        """
        C{stop}: it accepts no more clients, drains, sends its last metrics, and ends when the
        supervisor has read them.
        """
        self.said()
        self.tell("stop")
        self.assertEqual(self.served.acts, ["stop"])
        ended = self.shutDown()
        self.assertEqual(self.served.acts, ["stop", "drain"])
        self.assertEqual(self.said(), encodeMessage("stopping"))
        self.served.stopping.callback(None)
        self.assertEqual(self.said(), encodeMessage("snapshot", workerSnapshot(4)))
        self.assertTrue(self.losing)
        self.assertNoResult(ended)
        self.worker.channel.connectionLost()
        self.successResultOf(ended)
        self.assertEqual(self.served.acts, ["stop", "drain"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_supervisorSlow(self) -> None:
        """It does not wait long for a supervisor that does not read."""
        ended = self.shutDown()
        self.served.stopping.callback(None)
        self.clock.advance(0)
        self.clock.advance(ANSWER_SECONDS)
        self.successResultOf(ended)

    def test_longMessage(self) -> None:
        """A long message leaves in parts, and what is said meanwhile comes after it."""
        channel = self.worker.channel
        self.said()
        channel.write([b"one", b"two", b"three"])
        self.assertEqual(self.transport.value(), b"")
        producer: Any = self.transport.producer
        producer.resumeProducing()
        self.assertEqual(self.transport.value(), b"one")
        channel.write([b"four"])
        channel.send("pong")
        self.assertEqual(self.said(), b"onetwothreefour" + encodeMessage("pong"))
        channel.send("pong")
        self.assertEqual(self.said(), encodeMessage("pong"))
        channel.write([b"lost"])
        producer.stopProducing()
        self.assertEqual(list(channel._parts), [])

    def test_failsToDrain(self) -> None:
        """If the sidecar fails to stop, it still sends its last metrics and ends."""
        ended = self.shutDown()
        self.said()
        self.served.stopping.errback(RuntimeError("a policy's service"))
        self.assertEqual(self.said(), encodeMessage("snapshot", workerSnapshot(4)))
        self.worker.channel.connectionLost()
        self.successResultOf(ended)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_end(self) -> None:
        """C{abort} breaks off what is in flight."""
        self.tell("stop")
        self.shutDown()
        self.tell("abort")
        self.assertEqual(self.served.acts, ["stop", "drain", "abort"])

    def test_endAtOnce(self) -> None:
        """C{abort} may come without C{stop}."""
        self.tell("abort")
        self.assertEqual(self.served.acts, ["stop", "abort"])

    def test_signalled(self) -> None:
        """If it stops already, because of a signal, C{stop} does nothing."""
        self.shutDown()
        self.tell("stop")
        self.assertEqual(self.served.acts, ["drain"])

    def test_supervisorGone(self) -> None:
        """When the supervisor is gone, it drains and ends."""
        self.worker.channel.connectionLost()
        self.assertEqual(self.served.acts, ["stop"])
        ended = self.shutDown()
        self.served.stopping.callback(None)
        self.clock.advance(0)
        self.successResultOf(ended)
