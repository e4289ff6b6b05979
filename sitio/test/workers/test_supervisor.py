"""
Promises of L{sitio.workers}: several processes that do as one does.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, ClassVar, cast

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sitio.errors import CannotStart
from sitio.telemetry.sidecar import DRAINING, SERVING, STARTING, IDropCounts, ISidecar
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.telemetry.stats import MAX_ENDPOINTS
from sitio.test.helpers.logs import Noted
from sitio.test.helpers.snapshots import exchangesOf, told
from sitio.workers.channel import Channel, encodeMessage
from sitio.workers.process import ANSWER_SECONDS, EXIT_SECONDS, WorkerProcess
from sitio.workers.supervisor import (
    FIRST_DELAY_SECONDS,
    MAX_DELAY_SECONDS,
    REPEATED_SIGNAL_SECONDS,
    STABLE_SECONDS,
    Supervisor,
)


@implementer(IDropCounts)
class Losing(Service):
    """A dashboard that was not told all."""

    dropped: ClassVar = {"fleetEntries": 4}


@define(eq=False)
class Child:
    """
    A worker's process, played by the test.

    @ivar signals: those that it was sent.
    """

    process: WorkerProcess
    assignment: dict[str, Any]
    environ: dict[str, str]
    childFDs: dict[int, int]
    signals: list[str] = field(factory=list)
    adopted: list[StringTransport] = field(factory=list)
    pid: int = 4711

    def signalProcess(self, name: str) -> None:
        """See C{IProcessTransport}."""
        if self.process.exitReason:
            raise ProcessExitedAlready()
        self.signals.append(name)

    def says(self, word: str, content: Any = None) -> None:
        """It tells its parent this."""
        self.process.channel.dataReceived(encodeMessage(word, content))

    def heard(self) -> list[Any]:
        """What its parent has told it since the last time, as pairs."""
        heard: list[Any] = []
        reader = Channel(lambda word, content: heard.append((word, content)), lambda: None)
        reader.makeConnection(StringTransport())
        reader.dataReceived(self.adopted[0].value())
        self.adopted[0].clear()
        return heard

    def hangsUp(self) -> None:
        """It closes its end of the talk."""
        self.process.channel.connectionLost()

    def exits(self, status: int | None = 0, number: int | None = None) -> None:
        """It exits."""
        self.process.processEnded(Failure(ProcessTerminated(status, number)))

    def ends(self, status: int | None = 0, number: int | None = None) -> None:
        """It ends as processes do."""
        self.exits(status, number)
        self.hangsUp()


class Machine(Clock):
    """
    A reactor on which processes are started that the test plays.

    @ivar children: in the order of their start.
    @ivar error: why no more can be started.
    """

    def __init__(self) -> None:
        Clock.__init__(self)
        self.children: list[Child] = []
        self.error: OSError | None = None

    def spawnProcess(
        self, process: Any, executable: str, arguments: Any, env: Any, childFDs: Any
    ) -> None:
        """See C{IReactorProcess}."""
        if self.error is not None:
            raise self.error
        assert executable == arguments[0] == sys.executable
        child = Child(process, json.loads(arguments[-1]), env, childFDs)
        process.makeConnection(child)
        self.children.append(child)

    def adoptStreamConnection(self, fileno: int, family: Any, factory: Any) -> None:
        """See C{IReactorSocket}."""
        transport = StringTransport()
        factory.buildProtocol(None).makeConnection(transport)
        self.children[-1].adopted.append(transport)

    def callFromThread(self, function: Callable[[], object]) -> None:
        """See C{IReactorFromThreads}."""
        self.callLater(0, function)


class Port:
    """A port that closes when the test says so."""

    def __init__(self, count: int = 2) -> None:
        self.sockets: list[socket.socket] = []
        self.opened = 0
        self.closing: Deferred[None] | None = None
        self._count = count

    def open(self) -> None:
        self.opened += 1
        self.sockets = self.sockets or [socket.socket() for _ in range(self._count)]

    def close(self) -> Deferred[None]:
        for each in self.sockets:
            each.close()
        self.closing = Deferred()
        return self.closing


class WorkersTestCase(SynchronousTestCase):
    """A parent with two workers, played by the test."""

    def setUp(self) -> None:
        self.machine = Machine()
        self.port = Port()
        self.addCleanup(self.port.close)
        self.onSignal: dict[int, Any] = {}
        self.noted = Noted()
        self.patch(Supervisor, "log", Logger("sitio", observer=self.noted))

    def workers(self, count: int = 2, why: str | None = None, **arguments: Any) -> Supervisor:
        """So many, not started."""
        arguments = {"grace": 30.0, "statsInterval": 2.0, **arguments}
        return Supervisor(
            self.machine,
            count,
            cast(Any, self.port),
            lambda: {"arguments": ["--via"]},
            onSignal=self.onSignal.__setitem__,
            waitForFirst=lambda channel, output: why,
            **arguments,
        )

    def started(self, count: int = 2, **arguments: Any) -> Supervisor:
        """So many, and ready."""
        workers = self.workers(count, **arguments)
        workers.startService()
        for each in self.machine.children:
            each.says("ready")
        return workers

    def lines(self) -> list[str]:
        """What was logged since the last time."""
        lines = [formatEvent(each) for each in self.noted.events]
        self.noted.events.clear()
        return lines


class StartTests(WorkersTestCase):
    """Supervisor are started."""

    def test_duty(self) -> None:
        """Each is told its number, what it has inherited, and what the service wants it to do."""
        self.started()
        assignments = [each.assignment for each in self.machine.children]
        self.assertEqual([each["number"] for each in assignments], [1, 2])
        for each in assignments:
            self.assertEqual(each["arguments"], ["--via"])
            self.assertEqual(each["path"], sys.path)
            self.assertEqual(each["reactor"], __name__)
            self.assertEqual((each["sockets"], each["channel"]), (2, 5))

    def test_inherited(self) -> None:
        """It inherits the sockets of the port, an output that is its own, and its talk."""
        self.started()
        fds = self.machine.children[0].childFDs
        self.assertEqual(sorted(fds), [0, 1, 2, 3, 4, 5])
        self.assertEqual([fds[3], fds[4]], [each.fileno() for each in self.port.sockets])
        self.assertEqual(fds[1], fds[2])
        self.assertEqual(len(set(fds.values())), 5)

    def test_stdout(self) -> None:
        """It inherits its parent's standard output, if it is to write there itself."""
        self.started(stdout=1)
        child = self.machine.children[0]
        self.assertEqual((child.assignment["stdout"], child.childFDs[6]), (6, 1))

    def test_systemd(self) -> None:
        """
        A port of one socket stands wherever systemd's would, so that a description
        finds it by its index and by its name.
        """
        self.port = Port(1)
        self.patch(os, "environ", {**os.environ, "LISTEN_FDNAMES": "web:other:third"})
        self.started()
        child = self.machine.children[0]
        only = self.port.sockets[0].fileno()
        self.assertEqual([child.childFDs[each] for each in (3, 4, 5)], [only] * 3)
        self.assertEqual((child.assignment["sockets"], child.assignment["channel"]), (1, 6))
        self.assertEqual(child.environ["LISTEN_FDS"], "3")
        self.assertEqual(child.environ["LISTEN_FDNAMES"], "web:other:third")

    def test_privileges(self) -> None:
        """The port is opened while there are privileges, and processes start without."""
        workers = self.workers()
        workers.privilegedStartService()
        self.assertTrue(self.port.sockets)
        self.assertEqual(self.machine.children, [])
        workers.startService()
        self.assertEqual(len(self.machine.children), 2)

    def test_servicesFirst(self) -> None:
        """A service that is put into it runs before the first worker starts."""

        class Before(Service):
            def startService(before) -> None:
                before.children = len(self.machine.children)

        before = Before()
        workers = self.workers()
        before.setServiceParent(workers)
        workers.startService()
        self.assertEqual(before.children, 0)

    def test_firstFails(self) -> None:
        """If the first can't start, the start fails with its reason, marked as sitio's once."""
        for why in ("sitio: --policy nope", "a worker has ended"):
            workers = self.workers(why=why)
            error = self.assertRaises(CannotStart, workers.startService)
            self.assertEqual(str(error), f"sitio: {why.removeprefix('sitio: ')}")

    def test_noProcess(self) -> None:
        """If no process can be started, the start fails, and says why."""
        self.machine.error = OSError(2, "No such file or directory")
        error = self.assertRaises(CannotStart, self.workers().startService)
        self.assertIn("sitio: can't start a worker: [Errno 2] No such file", str(error))


class RestartTests(WorkersTestCase):
    """A worker that ends is followed by another."""

    def test_another(self) -> None:
        """Another takes its place, soon, with its number; it is said why, and when."""
        self.started()
        self.machine.children[1].ends(None, 9)
        self.assertEqual(
            self.lines(), ["Worker 2 ended by SIGKILL; another takes its place in 0.25 s"]
        )
        self.assertEqual(len(self.machine.children), 2)
        self.machine.advance(FIRST_DELAY_SECONDS)
        self.assertEqual(len(self.machine.children), 3)
        self.assertEqual(self.machine.children[2].assignment["number"], 2)

    def test_refusal(self) -> None:
        """One that says why it can't start is quoted."""
        self.started()
        self.machine.children[0].says("failed", "sitio: --policy nope")
        self.machine.children[0].ends(1)
        self.assertEqual(
            self.lines(), ["Worker 1 sitio: --policy nope; another takes its place in 0.25 s"]
        )

    def test_backoff(self) -> None:
        """
        While they end as soon as they have started, the time to the next grows, up to
        a bound; each is said in a line.
        """
        self.started(1)
        waits = []
        for _ in range(9):
            before = self.machine.seconds()
            count = len(self.machine.children)
            self.machine.children[-1].ends(1)
            while len(self.machine.children) == count:
                self.machine.advance(0.125)
            waits.append(self.machine.seconds() - before)
        self.assertEqual(waits, [0.25, 0.5, 1, 2, 4, 8, *[MAX_DELAY_SECONDS] * 3])
        self.assertEqual(len(self.lines()), 9)

    def test_sound(self) -> None:
        """One that has run for a while is followed soon, whatever was before it."""
        self.started(1, statsInterval=0)
        for _ in range(5):
            self.machine.children[-1].ends(1)
            self.machine.advance(MAX_DELAY_SECONDS)
        self.lines()
        self.machine.advance(STABLE_SECONDS)
        self.machine.children[-1].ends(1)
        self.assertIn("in 0.25 s", self.lines()[0])

    def test_cannotSpawn(self) -> None:
        """When a process can't be started for now, that is tried again, later each time."""
        self.started(1)
        self.machine.error = OSError(11, "Resource temporarily unavailable")
        self.machine.children[0].ends(1)
        self.machine.advance(0.25)
        self.machine.advance(0.5)
        delays = [re.findall(r"in ([0-9.]+) s$", each)[0] for each in self.lines()]
        self.assertEqual(delays, ["0.25", "0.5", "1"])
        self.machine.error = None
        self.machine.advance(1)
        self.assertEqual(len(self.machine.children), 2)

    def test_reapedFirst(self) -> None:
        """A process that was reaped is waited for until all is read that it had to say."""
        self.started(1)
        child = self.machine.children[0]
        child.exits(None, 15)
        self.assertEqual(self.lines(), [])
        child.says("snapshot", told(5))
        child.hangsUp()
        self.assertEqual(len(self.lines()), 1)

    def test_talkHeldOpen(self) -> None:
        """One whose socket somebody else holds open is let go, after a while."""
        self.started(1)
        child = self.machine.children[0]
        child.exits()
        self.machine.advance(EXIT_SECONDS - 0.1)
        self.assertFalse(child.adopted[0].disconnected)
        self.machine.advance(0.1)
        self.assertTrue(child.adopted[0].disconnected)

    def test_doesNotExit(self) -> None:
        """One that has closed its socket and does not exit is killed, after a while."""
        self.started(1)
        child = self.machine.children[0]
        child.hangsUp()
        self.machine.advance(EXIT_SECONDS)
        self.assertEqual(child.signals, ["KILL"])
        child.exits(None, 9)
        self.assertEqual(len(self.lines()), 1)

    def test_standIn(self) -> None:
        """
        The others are told to accept clients in place of one that has ended, until
        another is ready there.
        """
        self.started(3)
        one, two, three = self.machine.children
        two.ends(1)
        self.assertEqual(one.heard(), [("absent", [2])])
        self.assertEqual(three.heard(), [("absent", [2])])
        self.machine.advance(FIRST_DELAY_SECONDS)
        self.assertEqual(one.heard(), [])
        self.machine.children[3].says("ready")
        self.assertEqual(one.heard(), [("absent", [])])

    def test_standInEarly(self) -> None:
        """In place of one that drains they do it from the first moment on, and are told once."""
        self.started()
        one, two = self.machine.children
        two.says("stopping")
        self.assertEqual(one.heard(), [("absent", [2])])
        two.ends()
        self.assertEqual(one.heard(), [])


class ReopenTests(WorkersTestCase):
    """Files that workers write were renamed."""

    def test_all(self) -> None:
        """Each of them is told, but for those that aren't there."""
        workers = self.started()
        first, second = self.machine.children
        first.heard(), second.heard()
        second.ends()
        workers.reopen()
        self.assertIn(("reopen", None), first.heard())


class SnapshotTests(WorkersTestCase):
    """What many tell is what one would."""

    def snapshot(self, workers: Supervisor, *tells: SidecarSnapshot | None) -> SidecarSnapshot:
        """What it tells when its workers tell this, or nothing."""
        snapshot = workers.snapshot()
        for child, tell in zip(self.machine.children[-len(tells) :], tells):
            if tell is not None:
                child.says("snapshot", tell)
        if None in tells:
            self.assertNoResult(snapshot)
            self.machine.advance(ANSWER_SECONDS)
        return self.successResultOf(snapshot)

    def test_interface(self) -> None:
        """It is one source of snapshots, as a single sidecar is."""
        self.assertTrue(verifyObject(ISidecar, self.workers()))

    def test_sum(self) -> None:
        """Metrics add up: endpoints, policies, pool, clients; uptime is the parent's."""
        workers = self.started(statsInterval=0)
        self.machine.advance(7)
        whole = self.snapshot(workers, told(2, a=1), told(3, b=4))
        metrics = whole["metrics"]
        self.assertEqual(metrics["total"]["hits"], 10)
        self.assertEqual(
            {each["route"]: each["hits"] for each in metrics["endpoints"]},
            {"/": 5, "/a": 1, "/b": 4},
        )
        self.assertEqual(metrics["uptime"], 7)
        [policy] = whole["policies"]
        self.assertEqual((policy["name"], policy["called"], policy["seconds"]), ("deny", 5, 1.25))
        self.assertEqual(whole["pool"], {"open": 4, "idle": 2, "waiting": 0})
        self.assertEqual(
            whole["poolCounts"], {"opened": 10, "failed": 2, "waited": 4, "waitedSeconds": 1.0}
        )
        self.assertEqual(
            (whole["clients"], whole["inFlight"], whole["overlongResponses"]), (6, 4, 2)
        )
        self.assertEqual(whole["brokenResponses"], 4)
        self.assertEqual(whole["dropped"], {"accessLogLines": 6, "fleetEntries": 0})

    def test_lost(self) -> None:
        """What is lost counts wherever it was: in workers, those that have ended, the parent."""
        workers = self.started(2, statsInterval=0)
        Losing().setServiceParent(workers)
        first = self.snapshot(workers, told(), told())
        self.machine.children[1].ends(1)
        self.machine.advance(1)
        one, _, two = self.machine.children
        snapshot = workers.snapshot()
        one.says("snapshot", told())
        two.says("snapshot", told())
        second = self.successResultOf(snapshot)
        self.assertEqual(
            (first["dropped"], second["dropped"]),
            (
                {"accessLogLines": 6, "fleetEntries": 4},
                {"accessLogLines": 9, "fleetEntries": 4},
            ),
        )

    def test_plain(self) -> None:
        """It is plain data, of which JSON can be made."""
        whole = self.snapshot(self.started(), told(2), told(3))
        self.assertEqual(json.loads(json.dumps(whole)), whole)

    def test_each(self) -> None:
        """Each worker has its row: number, process, its own hits, how many were before it."""
        workers = self.started()
        self.machine.children[1].ends(1)
        self.machine.advance(1)
        one, _, two = self.machine.children
        snapshot = workers.snapshot()
        one.says("snapshot", told(2, pid=11))
        two.says("snapshot", told(3, pid=12))
        rows = self.successResultOf(snapshot)["workers"]
        self.assertEqual(
            [(each["number"], each["pid"], each["restarts"], each["hits"]) for each in rows],
            [(1, 11, 0, 2), (2, 12, 1, 3)],
        )

    def test_restarts(self) -> None:
        """How many were started in the place of others is told, while a place is empty too."""
        workers = self.started(1, statsInterval=0)
        for count in (0, 1, 2):
            self.machine.children[-1].ends(1)
            self.assertEqual(self.successResultOf(workers.snapshot())["restarts"], count)
            self.machine.advance(MAX_DELAY_SECONDS)

    def test_noneYet(self) -> None:
        """Before any has said anything there are zeros."""
        whole = self.snapshot(self.started(), None, None)
        self.assertEqual(whole["metrics"]["total"]["hits"], 0)
        self.assertEqual(whole["workers"], [])

    def test_silent(self) -> None:
        """One that does not answer counts as it was when it last did, and is asked once."""
        workers = self.started(statsInterval=0)
        self.snapshot(workers, told(2), told(3))
        for _ in range(5):
            whole = self.snapshot(workers, told(4), None)
            self.assertEqual(whole["metrics"]["total"]["hits"], 7)
        self.assertEqual(self.machine.children[1].heard(), [("snapshot", None)] * 2)

    def test_late(self) -> None:
        """What comes too late counts the next time."""
        workers = self.started(statsInterval=0)
        self.snapshot(workers, told(2), None)
        self.machine.children[1].says("snapshot", told(3))
        self.assertEqual(self.snapshot(workers, told(2), None)["metrics"]["total"]["hits"], 5)

    def test_together(self) -> None:
        """Several that ask at a time are answered together."""
        workers = self.started()
        snapshots = [workers.snapshot() for _ in range(3)]
        for each in self.machine.children:
            self.assertEqual(each.heard(), [("snapshot", None)])
            each.says("snapshot", told(1))
        for snapshot in snapshots:
            self.assertEqual(self.successResultOf(snapshot)["metrics"]["total"]["hits"], 2)

    def test_impatient(self) -> None:
        """Who does not want to wait for all cancels, and has what is known so far."""
        workers = self.started()
        snapshot = workers.snapshot()
        self.machine.children[0].says("snapshot", told(1))
        snapshot.cancel()
        self.assertEqual(self.successResultOf(snapshot)["metrics"]["total"]["hits"], 1)

    def test_endedMeanwhile(self) -> None:
        """One that ends while it is asked is not waited for, and not counted twice."""
        workers = self.started()
        self.snapshot(workers, told(2), told(3))
        snapshot = workers.snapshot()
        self.machine.children[0].says("snapshot", told(2))
        self.machine.children[1].ends(1)
        self.assertEqual(self.successResultOf(snapshot)["metrics"]["total"]["hits"], 5)

    def test_past(self) -> None:
        """What one counted that has ended stays in the sums; what it had open does not."""
        workers = self.started()
        self.snapshot(workers, told(2), told(3))
        self.machine.children[1].says("snapshot", told(4))
        self.machine.children[1].ends()
        self.machine.advance(FIRST_DELAY_SECONDS)
        one, _, two = self.machine.children
        snapshot = workers.snapshot()
        one.says("snapshot", told(2))
        two.says("snapshot", told(1))
        whole = self.successResultOf(snapshot)
        self.assertEqual(whole["metrics"]["total"]["hits"], 7)
        self.assertEqual(whole["policies"][0]["called"], 7)
        self.assertEqual((whole["clients"], whole["pool"]["open"]), (6, 4))

    def test_bounded(self) -> None:
        """However many workers come and go, the table is no longer than that of one."""
        workers = self.started(1)
        for start in range(3):
            paths = {f"p{number}": 1 for number in range(200 * start, 200 * start + 400)}
            self.machine.children[-1].says("snapshot", told(0, **paths))
            self.machine.children[-1].ends()
            self.machine.advance(MAX_DELAY_SECONDS)
        snapshot = workers.snapshot()
        self.machine.children[-1].says("snapshot", told(0, q=5))
        metrics = self.successResultOf(snapshot)["metrics"]
        self.assertEqual(len(metrics["endpoints"]), MAX_ENDPOINTS + 1)
        self.assertEqual(sum(each["hits"] for each in metrics["endpoints"]), 1205)
        self.assertEqual(metrics["total"]["hits"], 1205)
        self.assertGreater(metrics["evicted"], 0)


class ExchangeTests(WorkersTestCase):
    """Single exchanges of many are told as those of one."""

    def test_together(self) -> None:
        """All workers are asked, and their exchanges stand in one order."""
        workers = self.started(statsInterval=0)
        asked = workers.exchanges()
        for child, shown in zip(self.machine.children, (exchangesOf(3, 1), exchangesOf(4, 2))):
            self.assertEqual(child.heard(), [("exchanges", None)])
            self.assertNoResult(asked)
            child.says("exchanges", shown)
        whole = self.successResultOf(asked)
        self.assertEqual([each["began"] for each in whole["recent"]], [4, 3, 2, 1])
        self.assertEqual([each["began"] for each in whole["open"]], [1, 2, 3, 4])

    def test_silent(self) -> None:
        """A worker that does not answer is not waited for, and one that never did has none."""
        workers = self.started(statsInterval=0)
        asked = workers.exchanges()
        self.machine.children[0].says("exchanges", exchangesOf(1))
        self.assertNoResult(asked)
        self.machine.advance(ANSWER_SECONDS)
        self.assertEqual(len(self.successResultOf(asked)["recent"]), 1)

    def test_besideSnapshots(self) -> None:
        """What is asked and answered of the one does not count for the other."""
        workers = self.started(statsInterval=0)
        snapshot, asked = workers.snapshot(), workers.exchanges()
        for each in self.machine.children:
            self.assertEqual(each.heard(), [("snapshot", None), ("exchanges", None)])
            each.says("snapshot", told(1))
        self.assertEqual(self.successResultOf(snapshot)["metrics"]["total"]["hits"], 2)
        self.assertNoResult(asked)
        for each in self.machine.children:
            each.says("exchanges", exchangesOf())
        self.successResultOf(asked)


class DrainTests(WorkersTestCase):
    """What many do is told as what one does."""

    def test_state(self) -> None:
        """They are starting until one accepts clients, and serving while any does."""
        workers = self.workers(statsInterval=0)
        self.assertEqual(workers.state, STARTING)
        workers.startService()
        one, two = self.machine.children
        self.assertEqual(workers.state, STARTING)
        one.says("ready")
        self.assertEqual(workers.state, SERVING)
        two.says("ready")
        one.says("stopping")
        self.assertEqual(workers.state, SERVING)
        two.ends(1)
        self.assertEqual(workers.state, STARTING)

    def test_stopping(self) -> None:
        """When they are told to stop they drain."""
        workers = self.started(statsInterval=0)
        workers.stopService()
        self.assertEqual(workers.state, DRAINING)

    def test_drain(self) -> None:
        """Each is told to drain, and one that comes later as well."""
        workers = self.started(statsInterval=0)
        one, two = self.machine.children
        workers.drain()
        self.assertEqual(workers.state, DRAINING)
        self.assertEqual([one.heard(), two.heard()], [[("drain", None)]] * 2)
        two.ends(1)
        self.machine.advance(FIRST_DELAY_SECONDS)
        three = self.machine.children[-1]
        self.assertEqual(three.heard(), [])
        three.says("ready")
        self.assertIn(("drain", None), three.heard())


class LineTests(WorkersTestCase):
    """The stats line of many is that of one."""

    def setUp(self) -> None:
        WorkersTestCase.setUp(self)
        self.said = self.observed()

    def observed(self) -> list[LogEvent]:
        """What is logged on metrics from here on."""
        events: list[LogEvent] = []

        def observe(event: LogEvent) -> None:
            if event.get("log_namespace") == "sitio.telemetry.stats":
                events.append(event)

        observer = cast(ILogObserver, observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return events

    def after(self, seconds: float, *tells: SidecarSnapshot) -> list[str]:
        """The lines after some seconds, when the workers tell this if they are asked."""
        del self.said[:]
        self.machine.advance(seconds)
        for child, tell in zip(self.machine.children, tells):
            if child.heard():
                child.says("snapshot", tell)
        return [formatEvent(each) for each in self.said]

    def test_interval(self) -> None:
        """It is logged each interval in which anything moved, over all workers."""
        self.started()
        self.assertEqual(self.after(1, told(1), told(2)), [])
        self.assertEqual(self.after(1, told(1), told(2)), ["stats: 3 hits (+3) | GET / 3, 2.0 ms"])
        self.assertEqual(self.after(2, told(1), told(2)), [])
        self.assertEqual(self.after(2, told(2), told(2)), ["stats: 4 hits (+1) | GET / 4, 2.0 ms"])

    def test_none(self) -> None:
        """An interval of 0 is no line at all, and nobody is asked."""
        workers = self.started(statsInterval=0)
        self.assertEqual(self.after(10, told(1), told(2)), [])
        workers.stopService()
        self.assertEqual(self.after(10, told(1), told(2)), [])

    def test_last(self) -> None:
        """What the last has told at its end is logged before all is over."""
        workers = self.started()
        self.after(2, told(1), told(2))
        stopped = workers.stopService()
        for child, hits in zip(self.machine.children, (3, 4)):
            child.says("snapshot", told(hits))
            child.ends()
        assert self.port.closing is not None
        self.port.closing.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(formatEvent(self.said[-1]), "stats: 7 hits (+4) | GET / 7, 2.0 ms")

    def test_differ(self) -> None:
        """Metrics that can't be added up are a line in the log, and not the end of it."""
        self.started()
        strange = told(1)
        strange["metrics"]["addedBounds"] = [1.0]
        self.after(2, strange, told(2))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.after(2, told(1), told(2)), ["stats: 3 hits (+3) | GET / 3, 2.0 ms"])


class StopTests(WorkersTestCase):
    """Told to stop, they lose nothing that is in flight."""

    def stopped(self, workers: Supervisor) -> Deferred[Any]:
        """Stop it; its port closes."""
        stopped = workers.stopService()
        assert self.port.closing is not None
        self.port.closing.callback(None)
        return stopped

    def test_drain(self) -> None:
        """All are told to stop, and all are waited for; none is replaced."""
        workers = self.started(statsInterval=0)
        stopped = self.stopped(workers)
        one, two = self.machine.children
        self.assertEqual([one.heard(), two.heard()], [[("stop", None)]] * 2)
        one.says("stopping")
        one.ends()
        self.machine.advance(10)
        self.assertNoResult(stopped)
        self.assertEqual(two.heard(), [])
        two.ends()
        self.successResultOf(stopped)
        self.assertEqual(len(self.machine.children), 2)
        self.assertEqual(self.machine.getDelayedCalls(), [])
        self.assertEqual(self.lines(), [])

    def test_portFirst(self) -> None:
        """It has not stopped before its port is closed."""
        workers = self.started()
        stopped = workers.stopService()
        for each in self.machine.children:
            each.ends()
        self.assertNoResult(stopped)
        assert self.port.closing is not None
        self.port.closing.callback(None)
        self.successResultOf(stopped)

    def test_servicesLast(self) -> None:
        """A service that was put into it runs until the last worker has ended."""
        workers = self.started()
        inside = Service()
        inside.setServiceParent(workers)
        stopped = self.stopped(workers)
        self.machine.children[0].ends()
        self.assertTrue(inside.running)
        self.machine.children[1].ends()
        self.successResultOf(stopped)
        self.assertFalse(inside.running)

    def test_absentMeanwhile(self) -> None:
        """A worker that was about to be replaced is not."""
        workers = self.started(statsInterval=0)
        self.machine.children[0].ends(1)
        stopped = self.stopped(workers)
        self.machine.children[1].ends()
        self.successResultOf(stopped)
        self.assertEqual(self.machine.getDelayedCalls(), [])

    def test_killed(self) -> None:
        """One that is still there a while after the grace is killed, and said to be."""
        stopped = self.stopped(self.started(grace=10.0, statsInterval=0))
        self.machine.children[0].ends()
        self.machine.advance(10 + EXIT_SECONDS - 0.1)
        two = self.machine.children[1]
        self.assertEqual(two.signals, [])
        self.machine.advance(0.1)
        self.assertEqual(two.signals, ["KILL"])
        self.assertEqual(self.lines(), ["Worker 2 does not end, and is killed"])
        two.ends(None, 9)
        self.successResultOf(stopped)

    def test_secondSignal(self) -> None:
        """A second signal has them break off what is in flight, or be killed soon."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.setUp()
            stopped = self.stopped(self.started(1, statsInterval=0))
            [child] = self.machine.children
            self.machine.advance(REPEATED_SIGNAL_SECONDS)
            self.onSignal[number](number, None)
            self.machine.advance(0)
            self.assertEqual(child.heard(), [("stop", None), ("abort", None)])
            self.assertEqual(len(self.lines()), 1)
            self.machine.advance(EXIT_SECONDS)
            self.assertEqual(child.signals, ["KILL"])
            child.ends(None, 9)
            self.successResultOf(stopped)
            # One more has nothing left to do.
            self.onSignal[number](number, None)
            self.machine.advance(0)

    def test_sameSignal(self) -> None:
        """One that comes right behind the first is the same once more."""
        self.stopped(self.started(1, statsInterval=0))
        self.machine.advance(REPEATED_SIGNAL_SECONDS / 2)
        self.onSignal[signal.SIGTERM](signal.SIGTERM, None)
        self.machine.advance(0)
        self.assertEqual(self.machine.children[0].heard(), [("stop", None)])

    def test_secondSignalLate(self) -> None:
        """It does not put off the end of the grace."""
        self.stopped(self.started(1, grace=2.0, statsInterval=0))
        self.machine.advance(2 + EXIT_SECONDS - 1)
        self.onSignal[signal.SIGTERM](signal.SIGTERM, None)
        self.machine.advance(1)
        self.assertEqual(self.machine.children[0].signals, ["KILL"])

    def test_neverStarted(self) -> None:
        """One that was not started has stopped at once."""
        self.successResultOf(self.stopped(self.workers()))
