"""
Tests of L{sitio.workers.supervisor}, with worker processes that the test plays.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import Any, ClassVar, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import (
    ILogObserver,
    LogEvent,
    formatEvent,
    globalLogPublisher,
)
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sitio.errors import CannotStart
from sitio.telemetry.sidecar import DRAINING, SERVING, STARTING, IDropCounts, ISidecar
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.telemetry.stats import MAX_ENDPOINTS
from sitio.test.helpers.snapshots import exchangesOf, workerSnapshot
from sitio.test.helpers.supervised import Machine, Port, WorkersTestCase
from sitio.workers.heartbeat import (
    SILENT_TURNS,
    STACK_SECONDS,
    START_SECONDS,
    STOP_SECONDS,
    TURN_SECONDS,
    isStopped,
)
from sitio.workers.process import ANSWER_SECONDS, EXIT_SECONDS
from sitio.workers.supervisor import (
    FIRST_DELAY_SECONDS,
    MAX_DELAY_SECONDS,
    REPEATED_SIGNAL_SECONDS,
    STABLE_SECONDS,
    Supervisor,
)


@implementer(IDropCounts)
class Losing(Service):
    """A service that has dropped entries for the fleet's dashboard."""

    dropped: ClassVar = {"fleetEntries": 4}


class StartTests(WorkersTestCase):
    """The supervisor starts its workers."""

    def test_assignment(self) -> None:
        """A worker is told its number, what it inherits, and what the service wants it to do."""
        self.started()
        assignments = [each.assignment for each in self.machine.children]
        self.assertEqual([each["number"] for each in assignments], [1, 2])
        for each in assignments:
            self.assertEqual(each["arguments"], ["--via"])
            self.assertEqual(each["path"], sys.path)
            self.assertEqual(each["reactor"], Machine.__module__)
            self.assertEqual((each["sockets"], each["channel"]), ([2], 5))

    def test_inherited(self) -> None:
        """A worker inherits the sockets of the port, an output of its own, and its channel."""
        self.started()
        fds = self.machine.children[0].childFDs
        self.assertEqual(sorted(fds), [0, 1, 2, 3, 4, 5])
        self.assertEqual([fds[3], fds[4]], [each.fileno() for each in self.port.sockets])
        self.assertEqual(fds[1], fds[2])
        self.assertEqual(len(set(fds.values())), 5)

    def test_stdout(self) -> None:
        """A worker inherits standard output, if it writes there itself."""
        self.started(stdout=1)
        child = self.machine.children[0]
        self.assertEqual((child.assignment["stdout"], child.childFDs[6]), (6, 1))

    def test_systemd(self) -> None:
        """
        A port with one socket takes the place of each of systemd's, so that an endpoint
        description finds it by index and by name.
        """
        self.port = Port(1)
        self.patch(os, "environ", {**os.environ, "LISTEN_FDNAMES": "web:other:third"})
        self.started()
        child = self.machine.children[0]
        only = self.port.sockets[0].fileno()
        self.assertEqual([child.childFDs[each] for each in (3, 4, 5)], [only] * 3)
        self.assertEqual((child.assignment["sockets"], child.assignment["channel"]), ([1], 6))
        self.assertEqual(child.environ["LISTEN_FDS"], "3")
        self.assertEqual(child.environ["LISTEN_FDNAMES"], "web:other:third")

    def test_privileges(self) -> None:
        """The port is opened with privileges, and workers start without."""
        workers = self.workers()
        workers.privilegedStartService()
        self.assertTrue(self.port.sockets)
        self.assertEqual(self.machine.children, [])
        workers.startService()
        self.assertEqual(len(self.machine.children), 2)

    def test_servicesFirst(self) -> None:
        """A child service is started before the first worker."""

        class Before(Service):
            def startService(before) -> None:
                before.children = len(self.machine.children)

        before = Before()
        workers = self.workers()
        before.setServiceParent(workers)
        workers.startService()
        self.assertEqual(before.children, 0)

    def test_firstFails(self) -> None:
        """
        If the first worker can't start, the start fails with its reason and one prefix
        "sitio: ".
        """
        for why in ("sitio: --policy nope", "a worker has ended"):
            workers = self.workers(why=why)
            error = self.assertRaises(CannotStart, workers.startService)
            self.assertEqual(str(error), f"sitio: {why.removeprefix('sitio: ')}")

    def test_noProcess(self) -> None:
        """If no process can be started, the start fails and says why."""
        self.machine.error = OSError(2, "No such file or directory")
        error = self.assertRaises(CannotStart, self.workers().startService)
        self.assertIn("sitio: can't start a worker: [Errno 2] No such file", str(error))


class RestartTests(WorkersTestCase):
    """A worker that ends is replaced."""

    def test_another(self) -> None:
        """
        A new worker with the same number starts after a short delay; the log says why and
        when.
        """
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
        """If a worker says why it can't start, the log quotes it."""
        self.started()
        self.machine.children[0].sends("failed", "sitio: --policy nope")
        self.machine.children[0].ends(1)
        self.assertEqual(
            self.lines(), ["Worker 1 sitio: --policy nope; another takes its place in 0.25 s"]
        )

    def test_backoff(self) -> None:
        """
        While workers end soon after their start, the delay grows up to a maximum; each end
        is logged.
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
        """After a worker that has run for long, the delay is short again."""
        self.started(1, statsInterval=0)
        for _ in range(5):
            self.machine.children[-1].ends(1)
            self.machine.advance(MAX_DELAY_SECONDS)
        self.lines()
        self.machine.advance(STABLE_SECONDS)
        self.machine.children[-1].ends(1)
        self.assertIn("in 0.25 s", self.lines()[0])

    def test_cannotSpawn(self) -> None:
        """If a process can't be started, it is tried again, with a longer delay each time."""
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
        """A worker whose process has exited has ended only when its last messages were read."""
        self.started(1)
        child = self.machine.children[0]
        child.exits(None, 15)
        self.assertEqual(self.lines(), [])
        child.sends("snapshot", workerSnapshot(5))
        child.hangsUp()
        self.assertEqual(len(self.lines()), 1)

    def test_channelHeldOpen(self) -> None:
        """
        If a process has exited and its channel stays open, the channel is closed after a
        while.
        """
        self.started(1)
        child = self.machine.children[0]
        child.exits()
        self.machine.advance(EXIT_SECONDS - 0.1)
        self.assertFalse(child.adopted[0].disconnected)
        self.machine.advance(0.1)
        self.assertTrue(child.adopted[0].disconnected)

    def test_doesNotExit(self) -> None:
        """If a channel is closed and the process does not exit, it is killed after a while."""
        self.started(1)
        child = self.machine.children[0]
        child.hangsUp()
        self.machine.advance(EXIT_SECONDS)
        self.assertEqual(child.signals, ["KILL"])
        child.exits(None, 9)
        self.assertEqual(len(self.lines()), 1)

    def test_standIn(self) -> None:
        """
        Other workers accept the clients of an ended worker until the new worker is ready.
        """
        self.started(3)
        one, two, three = self.machine.children
        two.ends(1)
        self.assertEqual(one.received(), [("absent", [2])])
        self.assertEqual(three.received(), [("absent", [2])])
        self.machine.advance(FIRST_DELAY_SECONDS)
        self.assertEqual(one.received(), [])
        self.machine.children[3].sends("ready")
        self.assertEqual(one.received(), [("absent", [])])

    def test_standInEarly(self) -> None:
        """They do so as soon as a worker accepts no more clients, and are told once."""
        self.started()
        one, two = self.machine.children
        two.sends("stopping")
        self.assertEqual(one.received(), [("absent", [2])])
        two.ends()
        self.assertEqual(one.received(), [])


class ReopenTests(WorkersTestCase):
    """Workers open their log files anew."""

    def test_all(self) -> None:
        """Each running worker is told to."""
        workers = self.started()
        first, second = self.machine.children
        first.received(), second.received()
        second.ends()
        workers.reopen()
        self.assertIn(("reopen", None), first.received())


class SnapshotTests(WorkersTestCase):
    """The snapshots of all workers are added up to one."""

    def snapshot(self, workers: Supervisor, *tells: SidecarSnapshot | None) -> SidecarSnapshot:
        """The total, when the workers send these snapshots; L{None} is no response."""
        snapshot = workers.snapshot()
        for child, tell in zip(self.machine.children[-len(tells) :], tells):
            if tell is not None:
                child.sends("snapshot", tell)
        if None in tells:
            self.assertNoResult(snapshot)
            self.machine.advance(ANSWER_SECONDS)
        return self.successResultOf(snapshot)

    def test_interface(self) -> None:
        """The supervisor provides the interface of a single sidecar."""
        self.assertTrue(verifyObject(ISidecar, self.workers()))

    def test_sum(self) -> None:
        """Endpoints, policies, pool and clients are added up; the uptime is the supervisor's."""
        workers = self.started(statsInterval=0)
        self.machine.advance(7)
        whole = self.snapshot(workers, workerSnapshot(2, a=1), workerSnapshot(3, b=4))
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
        """Dropped entries count in workers, in workers that have ended, and in the supervisor."""
        workers = self.started(2, statsInterval=0)
        Losing().setServiceParent(workers)
        first = self.snapshot(workers, workerSnapshot(), workerSnapshot())
        self.machine.children[1].ends(1)
        self.machine.advance(1)
        one, _, two = self.machine.children
        two.sends("ready")
        snapshot = workers.snapshot()
        one.sends("snapshot", workerSnapshot())
        two.sends("snapshot", workerSnapshot())
        second = self.successResultOf(snapshot)
        self.assertEqual(
            (first["dropped"], second["dropped"]),
            (
                {"accessLogLines": 6, "fleetEntries": 4},
                {"accessLogLines": 9, "fleetEntries": 4},
            ),
        )

    def test_plain(self) -> None:
        """The total is plain data, which JSON can express."""
        whole = self.snapshot(self.started(), workerSnapshot(2), workerSnapshot(3))
        self.assertEqual(json.loads(json.dumps(whole)), whole)

    def test_each(self) -> None:
        """Each worker has a row: its number, its process, its hits and its restarts."""
        workers = self.started()
        self.machine.children[1].ends(1)
        self.machine.advance(1)
        one, _, two = self.machine.children
        two.sends("ready")
        snapshot = workers.snapshot()
        one.sends("snapshot", workerSnapshot(2, pid=11))
        two.sends("snapshot", workerSnapshot(3, pid=12))
        rows = self.successResultOf(snapshot)["workers"]
        self.assertEqual(
            [(each["number"], each["pid"], each["restarts"], each["hits"]) for each in rows],
            [(1, 11, 0, 2), (2, 12, 1, 3)],
        )

    def test_warnings(self) -> None:
        """What workers say of their certificates is told once, as of their last snapshots."""
        workers = self.started()
        self.assertEqual(workers.warnings(), [])
        tells = workerSnapshot(2), workerSnapshot(3)
        for each, warnings in zip(tells, (["soon"], ["soon", "broken"])):
            each["tls"] = [
                {
                    "role": "listener",
                    "name": "main",
                    "certificates": [],
                    "problem": "",
                    "warnings": warnings,
                }
            ]
        self.snapshot(workers, *tells)
        self.assertEqual(workers.warnings(), ["soon", "broken"])

    def test_restarts(self) -> None:
        """Restarts are counted, also while a worker is missing."""
        workers = self.started(1, statsInterval=0)
        for count in (0, 1, 2):
            self.machine.children[-1].ends(1)
            self.assertEqual(self.successResultOf(workers.snapshot())["restarts"], count)
            self.machine.advance(MAX_DELAY_SECONDS)

    def test_noneYet(self) -> None:
        """Before a worker has sent anything, all metrics are zero."""
        whole = self.snapshot(self.started(), None, None)
        self.assertEqual(whole["metrics"]["total"]["hits"], 0)
        self.assertEqual(whole["workers"], [])

    def test_silent(self) -> None:
        """
        A worker that does not respond counts with its last snapshot.  It is asked once, and
        waited for once.
        """
        workers = self.started(statsInterval=0)
        self.snapshot(workers, workerSnapshot(2), workerSnapshot(3))
        self.snapshot(workers, workerSnapshot(4), None)
        for _ in range(5):
            asked, exchanges = workers.snapshot(), workers.exchanges()
            self.machine.children[0].sends("snapshot", workerSnapshot(4))
            self.machine.children[0].sends("exchanges", exchangesOf(1))
            whole = self.successResultOf(asked)
            self.assertEqual(whole["metrics"]["total"]["hits"], 7)
            self.successResultOf(exchanges)
        self.assertEqual(self.machine.children[1].received(), [("snapshot", None)] * 2)

    def test_starting(self) -> None:
        """A worker that is starting is not waited for."""
        workers = self.started(statsInterval=0)
        self.machine.children[1].ends(1)
        self.machine.advance(FIRST_DELAY_SECONDS)
        asked = workers.snapshot()
        self.machine.children[0].sends("snapshot", workerSnapshot(2))
        self.assertEqual(self.successResultOf(asked)["metrics"]["total"]["hits"], 2)

    def test_silentNoMore(self) -> None:
        """A worker that was late is asked and waited for again once anything comes from it."""
        workers = self.started(statsInterval=0)
        self.snapshot(workers, workerSnapshot(2), None)
        self.machine.children[1].sends("snapshot", workerSnapshot(3))
        asked = workers.snapshot()
        self.machine.children[0].sends("snapshot", workerSnapshot(2))
        self.assertNoResult(asked)
        self.machine.children[1].sends("snapshot", workerSnapshot(5))
        self.assertEqual(self.successResultOf(asked)["metrics"]["total"]["hits"], 7)

    def test_late(self) -> None:
        """A response that comes too late counts the next time."""
        workers = self.started(statsInterval=0)
        self.snapshot(workers, workerSnapshot(2), None)
        self.machine.children[1].sends("snapshot", workerSnapshot(3))
        self.assertEqual(
            self.snapshot(workers, workerSnapshot(2), None)["metrics"]["total"]["hits"], 5
        )

    def test_together(self) -> None:
        """Several callers at a time share one request to each worker."""
        workers = self.started()
        snapshots = [workers.snapshot() for _ in range(3)]
        for each in self.machine.children:
            self.assertEqual(each.received(), [("snapshot", None)])
            each.sends("snapshot", workerSnapshot(1))
        for snapshot in snapshots:
            self.assertEqual(self.successResultOf(snapshot)["metrics"]["total"]["hits"], 2)

    def test_impatient(self) -> None:
        """A caller that cancels gets what is known so far."""
        workers = self.started()
        snapshot = workers.snapshot()
        self.machine.children[0].sends("snapshot", workerSnapshot(1))
        snapshot.cancel()
        self.assertEqual(self.successResultOf(snapshot)["metrics"]["total"]["hits"], 1)

    def test_endedMeanwhile(self) -> None:
        """A worker that ends while it is asked is not waited for, and not counted twice."""
        workers = self.started()
        self.snapshot(workers, workerSnapshot(2), workerSnapshot(3))
        snapshot = workers.snapshot()
        self.machine.children[0].sends("snapshot", workerSnapshot(2))
        self.machine.children[1].ends(1)
        self.assertEqual(self.successResultOf(snapshot)["metrics"]["total"]["hits"], 5)

    def test_past(self) -> None:
        """What an ended worker has counted stays in the sums; what it had open does not."""
        workers = self.started()
        self.snapshot(workers, workerSnapshot(2), workerSnapshot(3))
        self.machine.children[1].sends("snapshot", workerSnapshot(4))
        self.machine.children[1].ends()
        self.machine.advance(FIRST_DELAY_SECONDS)
        one, _, two = self.machine.children
        two.sends("ready")
        snapshot = workers.snapshot()
        one.sends("snapshot", workerSnapshot(2))
        two.sends("snapshot", workerSnapshot(1))
        whole = self.successResultOf(snapshot)
        self.assertEqual(whole["metrics"]["total"]["hits"], 7)
        self.assertEqual(whole["policies"][0]["called"], 7)
        self.assertEqual((whole["clients"], whole["pool"]["open"]), (6, 4))

    def test_bounded(self) -> None:
        """However many workers come and go, the table of endpoints keeps its limit."""
        workers = self.started(1)
        for start in range(3):
            paths = {f"p{number}": 1 for number in range(200 * start, 200 * start + 400)}
            self.machine.children[-1].sends("snapshot", workerSnapshot(0, **paths))
            self.machine.children[-1].ends()
            self.machine.advance(MAX_DELAY_SECONDS)
        self.machine.children[-1].sends("ready")
        snapshot = workers.snapshot()
        self.machine.children[-1].sends("snapshot", workerSnapshot(0, q=5))
        self.machine.advance(0)
        metrics = self.successResultOf(snapshot)["metrics"]
        self.assertEqual(len(metrics["endpoints"]), MAX_ENDPOINTS + 1)
        self.assertEqual(sum(each["hits"] for each in metrics["endpoints"]), 1205)
        self.assertEqual(metrics["total"]["hits"], 1205)
        self.assertGreater(metrics["evicted"], 0)

    def test_turns(self) -> None:
        """
        Full tables are added up in many turns.  Workers that end meanwhile are counted, once:
        in the sums under way as running, in later ones as ended.
        """
        workers = self.started(3, statsInterval=0)
        first, second, third = self.machine.children
        full = {f"p{number}": 1 for number in range(400)}
        asked = workers.snapshot()
        for each in (first, second, third):
            each.sends("snapshot", workerSnapshot(0, **full))
        self.assertNoResult(asked)
        second.ends(1)
        third.ends(1)
        again = workers.snapshot()
        first.sends("snapshot", workerSnapshot(0, **full))
        self.assertNoResult(again)
        for told, clients in ((asked, 9), (again, 3)):
            self.machine.advance(0)
            whole = self.successResultOf(told)
            self.assertEqual((whole["metrics"]["total"]["hits"], whole["clients"]), (1200, clients))
        later = workers.snapshot()
        first.sends("snapshot", workerSnapshot(0, **full))
        self.machine.advance(0)
        self.assertEqual(self.successResultOf(later)["metrics"]["total"]["hits"], 1200)


class ExchangeTests(WorkersTestCase):
    """The exchanges of all workers are shown in one list."""

    def test_together(self) -> None:
        """All workers are asked, and their exchanges are sorted together."""
        workers = self.started(statsInterval=0)
        asked = workers.exchanges()
        for child, shown in zip(self.machine.children, (exchangesOf(3, 1), exchangesOf(4, 2))):
            self.assertEqual(child.received(), [("exchanges", None)])
            self.assertNoResult(asked)
            child.sends("exchanges", shown)
        whole = self.successResultOf(asked)
        self.assertEqual([each["began"] for each in whole["recent"]], [4, 3, 2, 1])
        self.assertEqual([each["began"] for each in whole["open"]], [1, 2, 3, 4])

    def test_silent(self) -> None:
        """A worker that does not respond is not waited for, and adds nothing."""
        workers = self.started(statsInterval=0)
        asked = workers.exchanges()
        self.machine.children[0].sends("exchanges", exchangesOf(1))
        self.assertNoResult(asked)
        self.machine.advance(ANSWER_SECONDS)
        self.assertEqual(len(self.successResultOf(asked)["recent"]), 1)

    def test_besideSnapshots(self) -> None:
        """Requests for snapshots and for exchanges are independent."""
        workers = self.started(statsInterval=0)
        snapshot, asked = workers.snapshot(), workers.exchanges()
        for each in self.machine.children:
            self.assertEqual(each.received(), [("snapshot", None), ("exchanges", None)])
            each.sends("snapshot", workerSnapshot(1))
        self.assertEqual(self.successResultOf(snapshot)["metrics"]["total"]["hits"], 2)
        self.assertNoResult(asked)
        for each in self.machine.children:
            each.sends("exchanges", exchangesOf())
        self.successResultOf(asked)


class DrainTests(WorkersTestCase):
    """The supervisor has the states of a single sidecar."""

    def test_state(self) -> None:
        """It is starting until one worker accepts clients, and serving while any does."""
        workers = self.workers(statsInterval=0)
        self.assertEqual(workers.state, STARTING)
        workers.startService()
        one, two = self.machine.children
        self.assertEqual(workers.state, STARTING)
        one.sends("ready")
        self.assertEqual(workers.state, SERVING)
        two.sends("ready")
        one.sends("stopping")
        self.assertEqual(workers.state, SERVING)
        two.ends(1)
        self.assertEqual(workers.state, STARTING)

    def test_stopping(self) -> None:
        """It is draining once it was told to stop."""
        workers = self.started(statsInterval=0)
        workers.stopService()
        self.assertEqual(workers.state, DRAINING)

    def test_drain(self) -> None:
        """Each worker is told to drain, and each later one as well."""
        workers = self.started(statsInterval=0)
        one, two = self.machine.children
        workers.drain()
        self.assertEqual(workers.state, DRAINING)
        self.assertEqual([one.received(), two.received()], [[("drain", None)]] * 2)
        two.ends(1)
        self.machine.advance(FIRST_DELAY_SECONDS)
        three = self.machine.children[-1]
        self.assertEqual(three.received(), [])
        three.sends("ready")
        self.assertIn(("drain", None), three.received())


class HeartbeatTests(WorkersTestCase):
    """A worker that is stuck is replaced."""

    TIMEOUT = 10.0

    def setUp(self) -> None:
        WorkersTestCase.setUp(self)
        #: Workers that answer.
        self.answering: set[int] = {1, 2}

    def begun(self, timeout: float = TIMEOUT, count: int = 2, **arguments: Any) -> Supervisor:
        """A supervisor with a heartbeat, whose workers are ready."""
        return self.started(count, statsInterval=0, workerTimeout=timeout, **arguments)

    def runs(self, seconds: float, step: float = TURN_SECONDS) -> list[list[tuple[str, Any]]]:
        """
        Let time pass.  Those who are L{answering} answer.

        @return: what each process was told, without questions.
        """
        told: list[list[tuple[str, Any]]] = [[] for _ in self.machine.children]
        for _ in range(round(seconds / step)):
            self.machine.advance(step)
            for child, saw in zip(self.machine.children, told):
                if child.process.number in self.answering and not child.process.exitReason:
                    messages = child.received()
                    saw += [each for each in messages if each[0] != "ping"]
                    if ("ping", None) in messages:
                        child.sends("pong")
        return told

    def test_answers(self) -> None:
        """A worker that answers is asked every second, and goes on."""
        workers = self.begun()
        self.assertEqual(self.runs(600), [[], []])
        self.assertEqual((workers.state, self.lines()), (SERVING, []))
        self.assertEqual([each.signals for each in self.machine.children], [[], []])

    def test_replaced(self) -> None:
        """
        A worker that does not answer for C{--worker-timeout} writes its stack, and is killed
        and replaced; the log says so.
        """
        self.begun()
        two = self.machine.children[1]
        self.answering.discard(2)
        self.runs(self.TIMEOUT)
        self.assertEqual(two.signals, [])
        self.runs(1)
        self.assertEqual(two.signals, [signal.SIGUSR2])
        self.assertEqual(
            self.lines(),
            [
                "Worker 2 does not answer; others accept its clients meanwhile",
                "Worker 2 has not answered for 10 s, and is ended; its stacks follow",
            ],
        )
        self.machine.advance(STACK_SECONDS)
        self.assertEqual(two.signals, [signal.SIGUSR2, "KILL"])
        self.runs(5)
        self.assertEqual(len(two.signals), 2)
        two.ends(None, 9)
        self.machine.advance(FIRST_DELAY_SECONDS)
        self.assertEqual(self.machine.children[2].assignment["number"], 2)

    def test_timeouts(self) -> None:
        """The timeout is met to a tenth, or to a second; it is not shorter than asked for."""
        for timeout in (0.5, 1.0, 2.5, 10.0, 60.0, 600.0):
            self.setUp()
            self.begun(timeout)
            self.answering.discard(1)
            step = min(1.0, timeout / 10)
            began = self.machine.seconds()
            while not self.machine.children[0].signals:
                self.runs(step, step)
            waited = self.machine.seconds() - began
            self.assertGreaterEqual(waited, timeout - 1e-6)
            self.assertLessEqual(waited, timeout + 2 * step)

    def test_port(self) -> None:
        """
        Others accept the clients of a silent worker long before it is replaced, and until
        the new one is ready.
        """
        self.begun()
        self.answering.discard(2)
        two = self.machine.children[1]
        self.assertEqual(self.runs(SILENT_TURNS), [[], []])
        self.assertEqual(self.runs(1)[0], [("absent", [2])])
        self.assertEqual(self.runs(8)[0], [])
        self.machine.advance(STACK_SECONDS)
        two.ends(None, 9)
        self.answering.add(2)
        self.assertEqual(self.runs(5)[0], [])
        self.machine.children[2].sends("ready")
        self.assertEqual(self.runs(1)[0], [("absent", [])])

    def test_state(self) -> None:
        """While a worker does not answer, the state says whose answer is missing."""
        workers = self.begun()
        self.answering.discard(2)
        self.runs(2)
        self.assertEqual(workers.state, SERVING)
        self.runs(1)
        self.assertEqual(workers.state, "waiting for the answer of worker 2")
        self.runs(8)
        self.machine.children[1].ends(None, 9)
        self.assertEqual(workers.state, SERVING)

    def test_allSilent(self) -> None:
        """All workers may be silent at the same time."""
        workers = self.begun()
        self.answering.clear()
        self.runs(3)
        self.assertEqual(workers.state, "waiting for the answer of worker 1, 2")
        self.runs(8.5)
        self.assertEqual([each.signals[0] for each in self.machine.children], [signal.SIGUSR2] * 2)

    def test_back(self) -> None:
        """A worker that answers again in time has its clients again; both is logged."""
        workers = self.begun()
        self.answering.discard(2)
        self.runs(9)
        self.lines()
        self.answering.add(2)
        self.assertEqual(self.runs(2)[0], [("absent", [])])
        self.assertEqual(self.lines(), ["Worker 2 answers again"])
        self.assertEqual(workers.state, SERVING)
        self.runs(60)
        self.assertEqual(self.machine.children[1].signals, [])

    def test_anyMessage(self) -> None:
        """Whatever a worker sends is an answer."""
        self.begun()
        self.answering.discard(2)
        two = self.machine.children[1]
        for _ in range(10):
            self.runs(5)
            two.sends("snapshot", workerSnapshot(1))
        self.assertEqual(two.signals, [])

    def test_oneQuestion(self) -> None:
        """A worker that does not answer is not asked again: questions don't pile up."""
        self.begun(600.0)
        self.answering.discard(2)
        self.runs(300)
        self.assertEqual(self.machine.children[1].received(), [("ping", None), ("absent", [2])])

    def test_pause(self) -> None:
        """After a time in which the whole machine stood still, nobody is ended."""
        workers = self.begun()
        for _ in range(5):
            self.runs(1)
            # The timers of this process come first, and then the answers.
            self.machine.advance(3600)
        self.runs(5)
        self.assertEqual([each.signals for each in self.machine.children], [[], []])
        self.assertEqual((workers.state, self.lines()), (SERVING, []))

    def test_starting(self) -> None:
        """A worker that is starting is not asked: its policies may take long to load."""
        workers = self.begun()
        self.machine.children[1].ends(1)
        self.machine.advance(FIRST_DELAY_SECONDS)
        self.answering.discard(2)
        self.runs(START_SECONDS - 1)
        three = self.machine.children[2]
        self.assertEqual((three.received(), three.signals), ([], []))
        self.assertEqual(workers.state, SERVING)

    def test_neverStarts(self) -> None:
        """
        A worker that does not begin to accept clients in L{START_SECONDS}, or in a longer
        C{--worker-timeout}, is ended and replaced like one that is stuck later.
        """
        for timeout, wanted in ((1.0, START_SECONDS), (10.0, START_SECONDS), (300.0, 300.0)):
            self.setUp()
            workers = self.begun(timeout)
            self.machine.children[1].ends(1)
            self.machine.advance(FIRST_DELAY_SECONDS)
            self.answering.discard(2)
            three = self.machine.children[2]
            self.lines()
            step = min(TURN_SECONDS, timeout / 10)
            self.runs(wanted - 1, step)
            self.assertEqual((three.signals, self.lines()), ([], []))
            self.runs(2, step)
            self.assertEqual(three.signals[:1], [signal.SIGUSR2])
            [line] = self.lines()
            self.assertEqual(
                line,
                f"Worker 2 has not accepted clients for {wanted:g} s, and is ended;"
                " its stacks follow",
            )
            self.assertEqual(workers.state, SERVING)
            self.machine.advance(STACK_SECONDS)
            self.assertEqual(three.signals, [signal.SIGUSR2, "KILL"])
            three.ends(None, 9)
            self.machine.advance(2 * FIRST_DELAY_SECONDS)
            self.assertEqual(self.machine.children[3].assignment["number"], 2)

    def test_startsSlowly(self) -> None:
        """A worker that has taken long to start is asked from then on, and has all its time."""
        self.begun()
        self.machine.children[1].ends(1)
        self.machine.advance(FIRST_DELAY_SECONDS)
        self.runs(START_SECONDS - 1)
        three = self.machine.children[2]
        three.sends("ready")
        self.runs(60)
        self.assertEqual(three.signals, [])
        self.answering.discard(2)
        self.runs(self.TIMEOUT - 1)
        self.assertEqual(three.signals, [])
        self.runs(2)
        self.assertEqual(three.signals, [signal.SIGUSR2])

    def test_ending(self) -> None:
        """A worker that is ending has the time for that which it always has."""
        self.begun(1.0)
        two = self.machine.children[1]
        two.hangsUp()
        self.runs(EXIT_SECONDS - 1)
        self.assertEqual(two.signals, [])
        self.runs(1)
        self.assertEqual(two.signals, ["KILL"])

    def test_off(self) -> None:
        """With 0 no worker is asked, and none is ended."""
        self.begun(0.0)
        self.answering.clear()
        self.machine.advance(3600)
        for each in self.machine.children:
            self.assertEqual((each.received(), each.signals), ([], []))

    def test_stop(self) -> None:
        """A stuck worker does not hold up the end: what it was silent before counts."""
        for before, after in ((0, STOP_SECONDS + 1), (1, 2), (9, 1)):
            self.setUp()
            workers = self.begun()
            self.runs(1)
            self.answering.discard(2)
            self.runs(before)
            stopped = workers.stopService()
            assert self.port.closing is not None
            self.port.closing.callback(None)
            one, two = self.machine.children
            one.sends("stopping")
            one.ends()
            self.runs(after)
            self.assertEqual(two.signals, [signal.SIGUSR2])
            self.machine.advance(STACK_SECONDS)
            two.ends(None, 9)
            self.successResultOf(stopped)
            self.assertEqual(self.machine.getDelayedCalls(), [])

    def test_stopFlushing(self) -> None:
        """A worker that has begun to stop may be silent for longer: its policies may block."""
        workers = self.begun()
        workers.stopService()
        self.machine.children[1].sends("stopping")
        self.answering.discard(2)
        self.runs(EXIT_SECONDS - 1)
        self.assertEqual(self.machine.children[1].signals, [])
        self.runs(2)
        self.assertEqual(self.machine.children[1].signals, [signal.SIGUSR2])

    def test_stopStarting(self) -> None:
        """Nor does a worker that never ends starting: there is nothing in flight on it."""
        workers = self.begun()
        self.machine.children[1].ends(1)
        self.machine.advance(FIRST_DELAY_SECONDS)
        self.answering.discard(2)
        self.runs(60)
        workers.stopService()
        self.runs(EXIT_SECONDS)
        self.assertEqual(self.machine.children[2].signals, [])
        self.runs(1)
        self.assertEqual(self.machine.children[2].signals, [signal.SIGUSR2])

    def test_stopBusy(self) -> None:
        """A worker that answers has the whole grace."""
        workers = self.begun(grace=30.0)
        workers.stopService()
        self.runs(30)
        self.assertEqual([each.signals for each in self.machine.children], [[], []])

    def test_stoppedProcess(self) -> None:
        """Of a process that was stopped by a signal there is no stack; the log says why."""
        process = subprocess.Popen(["sleep", "60"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertFalse(isStopped(process.pid))
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        self.assertTrue(isStopped(process.pid))
        self.begun()
        self.machine.children[1].pid = process.pid
        self.answering.discard(2)
        self.runs(11)
        self.assertIn("it was stopped by a signal", self.lines()[-1])
        self.assertFalse(isStopped(2**22 + 1))


class LineTests(WorkersTestCase):
    """The stats line of all workers is that of a single sidecar."""

    def setUp(self) -> None:
        WorkersTestCase.setUp(self)
        self.said = self.observed()

    def observed(self) -> list[LogEvent]:
        """The events on metrics that are logged from now on."""
        events: list[LogEvent] = []

        def observe(event: LogEvent) -> None:
            if event.get("log_namespace") == "sitio.telemetry.stats":
                events.append(event)

        observer = cast(ILogObserver, observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return events

    def after(self, seconds: float, *tells: SidecarSnapshot) -> list[str]:
        """The stats lines of the next seconds, when workers respond with these snapshots."""
        del self.said[:]
        self.machine.advance(seconds)
        for child, tell in zip(self.machine.children, tells):
            if child.received():
                child.sends("snapshot", tell)
        return [formatEvent(each) for each in self.said]

    def test_interval(self) -> None:
        """A line is logged after each interval in which any worker had a hit."""
        self.started()
        self.assertEqual(self.after(1, workerSnapshot(1), workerSnapshot(2)), [])
        self.assertEqual(
            self.after(1, workerSnapshot(1), workerSnapshot(2)),
            ["stats: 3 hits (+3): 3 x 2xx | GET / 3, 2.0 ms"],
        )
        self.assertEqual(self.after(2, workerSnapshot(1), workerSnapshot(2)), [])
        self.assertEqual(
            self.after(2, workerSnapshot(2), workerSnapshot(2)),
            ["stats: 4 hits (+1): 4 x 2xx | GET / 4, 2.0 ms"],
        )

    def test_none(self) -> None:
        """With an interval of 0 there are no lines, and no worker is asked."""
        workers = self.started(statsInterval=0)
        self.assertEqual(self.after(10, workerSnapshot(1), workerSnapshot(2)), [])
        workers.stopService()
        self.assertEqual(self.after(10, workerSnapshot(1), workerSnapshot(2)), [])

    def test_last(self) -> None:
        """The last snapshots of workers are logged before the supervisor has stopped."""
        workers = self.started()
        self.after(2, workerSnapshot(1), workerSnapshot(2))
        stopped = workers.stopService()
        for child, hits in zip(self.machine.children, (3, 4)):
            child.sends("snapshot", workerSnapshot(hits))
            child.ends()
        assert self.port.closing is not None
        self.port.closing.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(
            formatEvent(self.said[-1]), "stats: 7 hits (+4): 7 x 2xx | GET / 7, 2.0 ms"
        )

    def test_differ(self) -> None:
        """Metrics that can't be added up are logged as an error; the next line comes in time."""
        self.started()
        strange = workerSnapshot(1)
        strange["metrics"]["addedBounds"] = [1.0]
        self.after(2, strange, workerSnapshot(2))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(
            self.after(2, workerSnapshot(1), workerSnapshot(2)),
            ["stats: 3 hits (+3): 3 x 2xx | GET / 3, 2.0 ms"],
        )


class StopTests(WorkersTestCase):
    """When it stops, the supervisor loses nothing that is in flight."""

    def stopped(self, workers: Supervisor) -> Deferred[Any]:
        """Stop it; its port closes."""
        stopped = workers.stopService()
        assert self.port.closing is not None
        self.port.closing.callback(None)
        return stopped

    def test_drain(self) -> None:
        """All workers are told to stop and are waited for; none is replaced."""
        workers = self.started(statsInterval=0)
        stopped = self.stopped(workers)
        one, two = self.machine.children
        self.assertEqual([one.received(), two.received()], [[("stop", None)]] * 2)
        one.sends("stopping")
        one.ends()
        self.machine.advance(10)
        self.assertNoResult(stopped)
        self.assertEqual(two.received(), [])
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
        """A child service runs until the last worker has ended."""
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
        """A worker that was to be replaced is not."""
        workers = self.started(statsInterval=0)
        self.machine.children[0].ends(1)
        stopped = self.stopped(workers)
        self.machine.children[1].ends()
        self.successResultOf(stopped)
        self.assertEqual(self.machine.getDelayedCalls(), [])

    def test_killed(self) -> None:
        """A worker that runs on after the grace is killed; the log says so."""
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
        """After a second signal workers break off what is in flight, and are killed soon."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.setUp()
            stopped = self.stopped(self.started(1, statsInterval=0))
            [child] = self.machine.children
            self.machine.advance(REPEATED_SIGNAL_SECONDS)
            self.onSignal[number](number, None)
            self.machine.advance(0)
            self.assertEqual(child.received(), [("stop", None), ("abort", None)])
            self.assertEqual(len(self.lines()), 1)
            self.machine.advance(EXIT_SECONDS)
            self.assertEqual(child.signals, ["KILL"])
            child.ends(None, 9)
            self.successResultOf(stopped)
            # A further signal does nothing.
            self.onSignal[number](number, None)
            self.machine.advance(0)

    def test_sameSignal(self) -> None:
        """A signal right after the first one is ignored."""
        self.stopped(self.started(1, statsInterval=0))
        self.machine.advance(REPEATED_SIGNAL_SECONDS / 2)
        self.onSignal[signal.SIGTERM](signal.SIGTERM, None)
        self.machine.advance(0)
        self.assertEqual(self.machine.children[0].received(), [("stop", None)])

    def test_secondSignalLate(self) -> None:
        """A second signal does not prolong the grace."""
        self.stopped(self.started(1, grace=2.0, statsInterval=0))
        self.machine.advance(2 + EXIT_SECONDS - 1)
        self.onSignal[signal.SIGTERM](signal.SIGTERM, None)
        self.machine.advance(1)
        self.assertEqual(self.machine.children[0].signals, ["KILL"])

    def test_neverStarted(self) -> None:
        """A supervisor that was not started stops at once."""
        self.successResultOf(self.stopped(self.workers()))
