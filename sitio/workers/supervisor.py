"""
The supervisor: the parent of several worker processes behind one port.

L{Supervisor} opens the port and carries no request itself.  It starts workers, which
inherit the listening sockets.  It replaces workers that end or are stuck, adds up their
metrics, and when it stops, it lets them finish what is in flight.

See L{sitio.workers.worker} for a worker's side and L{sitio.workers.channel} for the
messages between the two.

Contract: reactor, port and signals are passed in; POSIX only.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping
from itertools import chain
from operator import itemgetter
from time import time
from typing import Any

from attrs import define
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from sitio.errors import CannotStart
from sitio.net.turns import Steps, inTurns
from sitio.telemetry.certificates import warningsOf
from sitio.telemetry.configstate import ConfigState
from sitio.telemetry.records import ExchangeLists, mergeExchanges
from sitio.telemetry.sidecar import DRAINING, SERVING, STARTING, ISidecar
from sitio.telemetry.snapshot import SidecarSnapshot, Snapshot
from sitio.telemetry.stats import Stats
from sitio.telemetry.statsline import StatsLine
from sitio.workers.channel import SingleProtocolFactory
from sitio.workers.heartbeat import Heartbeat
from sitio.workers.output import OutputLogger
from sitio.workers.process import EXIT_SECONDS, WorkerProcess, waitForFirstWorker
from sitio.workers.sockets import SharedPort, SharedPorts
from sitio.workers.spawning import spawn
from sitio.workers.totals import Totals

#: Seconds until a worker that has ended is replaced.  The delay is doubled each time
#: while workers end soon after their start, up to the second number.
FIRST_DELAY_SECONDS = 0.25
MAX_DELAY_SECONDS = 10.0

#: Seconds that a worker must run for the delay to begin anew.
STABLE_SECONDS = 60.0

#: Seconds after the first signal to stop in which further ones are ignored: the command
#: C{timeout} sends two, to the process and to its group.
REPEATED_SIGNAL_SECONDS = 1.0


@define(eq=False)
class _Slot:
    """
    The place of one worker, which several processes may have one after the other.

    @ivar process: the running one, or L{None}.
    @ivar starts: how many were started.
    @ivar delay: seconds until the next start, should this process end now.
    @ivar restart: the next start, while there is no process.
    """

    number: int
    process: WorkerProcess | None = None
    starts: int = 0
    delay: float = FIRST_DELAY_SECONDS
    restart: IDelayedCall | None = None


@implementer(ISidecar)
class Supervisor(MultiService):
    """
    The service that C{twistd sitio --workers} runs.

    Child services are started before the workers and stopped after them.

    @ivar configState: which configuration is in use.
    @ivar replaceable: makes what replaces it.
    @ivar watcher: says when its files have changed.
    @ivar connects: what connects to upstreams, to check them.
    @ivar isReplacing: whether workers are asked for another configuration: none is started.
    """

    replaceable: Callable[[], Any] | None = None
    watcher: Any = None
    connects: Any = None
    isReplacing = False

    log = Logger(namespace="sitio")

    def __init__(
        self,
        reactor: Any,
        count: int,
        port: SharedPort | SharedPorts,
        assignment: Callable[[], Mapping[str, Any]],
        *,
        grace: float,
        workerTimeout: float = 10.0,
        statsInterval: float = 2.0,
        stdout: int | None = None,
        onSignal: Callable[[int, Any], Any] = signal.signal,
        waitForFirst: Callable[[socket.socket, socket.socket], str | None] = waitForFirstWorker,
    ) -> None:
        """
        @param reactor: provides time, processes and sockets.
        @param count: the number of workers.
        @param port: the ports for clients.
        @param assignment: returns what a worker is told, as plain data; called at each
            start of a worker.
        @param grace: seconds that workers have to finish what is in flight.
        @param workerTimeout: seconds after which a worker that does not answer is replaced; 0
            for never.
        @param statsInterval: seconds between two stats lines; 0 for none.
        @param stdout: a descriptor that workers write to as well, if they do.
        @param onSignal: registers a signal handler.
        @param waitForFirst: L{waitForFirstWorker}.
        """
        MultiService.__init__(self)
        self._reactor = reactor
        self._port = port
        self._assignment = assignment
        self._grace = grace
        self._stdout = stdout
        self._onSignal = onSignal
        self._waitForFirst = waitForFirst
        self._startedAt = reactor.seconds()
        self.configState = ConfigState(time())
        self._slots = [_Slot(number) for number in range(1, count + 1)]
        self._statsLine = StatsLine(reactor, self._metrics, statsInterval)
        self._heartbeat = Heartbeat(reactor, workerTimeout, lambda: self.processes, self, self.log)
        self._totals = Totals(Stats(reactor).snapshot())
        # The numbers of workers in whose place others accept clients.
        self._absent: set[int] = set()
        self._draining = False
        # While it stops: fires when the last worker has ended.
        self._allEnded: Deferred[None] | None = None
        self._killTimer: Any = None
        self._stoppedAt = 0.0

    # Starting.

    def privilegedStartService(self) -> None:
        """
        Open the port, while the process may still use ports below 1024.

        @raise CannotStart: the port can't be opened, or can't be shared.
        """
        MultiService.privilegedStartService(self)
        self._port.open()

    def startService(self) -> None:
        """
        Start the workers, and wait for the first one.

        @raise CannotStart: the first worker can't start.  The others have the same
            options, so they can't either.
        """
        self._port.open()
        MultiService.startService(self)
        sockets = [self._start(each) for each in self._slots]
        why = self._waitForFirst(*sockets[0])
        for pair in sockets:
            _close(*pair)
        if why is not None:
            raise CannotStart(why if why.startswith("sitio: ") else f"sitio: {why}")
        self._statsLine.startService()
        self._heartbeat.startService()

    def _start(self, slot: _Slot) -> tuple[socket.socket, socket.socket]:
        """Start a worker.  Returns channel and output as sockets, for the caller to close."""
        channel, itsChannel = socket.socketpair()
        output, itsOutput = socket.socketpair()
        process = WorkerProcess(self._reactor, slot.number, self)
        try:
            assignment = {**self._assignment(), "number": slot.number}
            ends = itsChannel.fileno(), itsOutput.fileno()
            spawn(self._reactor, process, assignment, self._port, ends, self._stdout)
        except OSError as error:
            _close(channel, output)
            raise CannotStart(f"sitio: can't start a worker: {error}") from error
        finally:
            _close(itsChannel, itsOutput)
        slot.process = process
        slot.starts += 1
        for end, protocol in (
            (channel, process.channel),
            (output, OutputLogger(slot.number, self.log)),
        ):
            end.setblocking(False)
            factory = SingleProtocolFactory(protocol)
            self._reactor.adoptStreamConnection(end.fileno(), end.family, factory)
        return channel, output

    # While workers run: what they report.

    def workerReady(self, process: WorkerProcess) -> None:
        """See L{WorkerListener<sitio.workers.process.WorkerListener>}."""
        if self._draining:
            process.channel.send("drain")
        self._setAbsent(self._absent - {process.number})

    def workerStopping(self, process: WorkerProcess) -> None:
        """See L{WorkerListener<sitio.workers.process.WorkerListener>}."""
        self._setAbsent(self._absent | {process.number})

    def _setAbsent(self, absent: set[int]) -> None:
        if absent != self._absent and self._allEnded is None:
            self._absent = absent
            self.sendToAll("absent", sorted(absent))

    def workerEnded(self, process: WorkerProcess) -> None:
        """Keep what the worker has counted, and replace it."""
        slot = self._slots[process.number - 1]
        slot.process = None
        if process.snapshot.value is not None:
            inTurns(self._totals.retire(process.snapshot.value), self._reactor)
        if self._allEnded is not None:
            self._checkAllEnded()
            return
        self.workerStopping(process)
        if self._reactor.seconds() - process.startedAt >= STABLE_SECONDS:
            slot.delay = FIRST_DELAY_SECONDS
        self._restartLater(slot, process.startError or process.exitReason)

    def _restartLater(self, slot: _Slot, why: str) -> None:
        self.log.warn(
            "Worker {worker} {why}; another takes its place in {delay:g} s",
            worker=slot.number,
            why=why,
            delay=slot.delay,
        )
        slot.restart = self._reactor.callLater(slot.delay, self._restart, slot)
        slot.delay = min(2 * slot.delay, MAX_DELAY_SECONDS)

    def _restart(self, slot: _Slot) -> None:
        if self.isReplacing:
            slot.restart = self._reactor.callLater(FIRST_DELAY_SECONDS, self._restart, slot)
            return
        try:
            _close(*self._start(slot))
        except CannotStart as error:
            self._restartLater(slot, str(error))

    # While workers run: what they are told.

    @property
    def processes(self) -> list[WorkerProcess]:
        """Those that run."""
        return [each.process for each in self._slots if each.process is not None]

    def sendToAll(self, name: str, content: Any = None) -> None:
        """Send a message to each worker."""
        for each in self.processes:
            each.channel.send(name, content)

    def reopen(self) -> None:
        """Make the workers open their log files anew."""
        self.sendToAll("reopen")

    def drain(self) -> None:
        """See L{ISidecar}.  Workers that start later drain as well."""
        self._draining = True
        self.sendToAll("drain")

    def isBusy(self) -> bool:
        """Whether an exchange is under way in this process: never, as its workers have them."""
        return False

    @property
    def state(self) -> str:
        """See L{ISidecar}."""
        if self._draining or self._allEnded is not None:
            return DRAINING
        silent = self._heartbeat.silent
        if silent:
            return f"waiting for the answer of worker {', '.join(map(str, silent))}"
        return SERVING if any(each.accepts for each in self.processes) else STARTING

    def warnings(self) -> list[str]:
        """See L{ISidecar}: those of the last snapshots of its workers."""
        return warningsOf(chain.from_iterable(each.tls for each in self.processes))

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        """See L{ISnapshotSource<sitio.telemetry.sidecar.ISnapshotSource>}."""
        refreshed = gatherResults([each.snapshot.refresh() for each in self.processes])
        return refreshed.addCallback(lambda _: inTurns(self._total(), self._reactor))

    def _metrics(self, hits: int, underWay: int) -> Deferred[Snapshot | None]:
        return self.snapshot().addCallback(itemgetter("metrics"))

    def _total(self) -> Steps[SidecarSnapshot]:
        return self._totals.total(
            [
                (slot.process.snapshot.value, slot.number, slot.starts - 1)
                for slot in self._slots
                if slot.process is not None and slot.process.snapshot.value is not None
            ],
            self,
            uptime=self._reactor.seconds() - self._startedAt,
            restarts=sum(max(0, slot.starts - 1) for slot in self._slots),
            config=self.configState.snapshot(),
        )

    def exchanges(self) -> Deferred[ExchangeLists]:
        """See L{ISnapshotSource<sitio.telemetry.sidecar.ISnapshotSource>}."""
        refreshed = gatherResults([each.exchanges.refresh() for each in self.processes])
        return refreshed.addCallback(
            lambda _: mergeExchanges(
                each.exchanges.value for each in self.processes if each.exchanges.value is not None
            )
        )

    # Stopping.

    def stopService(self) -> Deferred[Any]:
        """
        Make all workers finish what is in flight, within the grace.

        After a second signal they no longer finish it.
        """
        ended = self._allEnded = Deferred()
        self._stoppedAt = self._reactor.seconds()
        for slot in self._slots:
            if slot.restart is not None and slot.restart.active():
                slot.restart.cancel()
        closed = self._port.close()
        self.sendToAll("stop")
        self._heartbeat.hurry()
        self._killTimer = self._reactor.callLater(self._grace + EXIT_SECONDS, self._kill)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._onSignal(number, self._signalReceived)
        self._checkAllEnded()
        stopped: Deferred[Any] = gatherResults([closed, ended])
        stopped.addBoth(lambda _: self._heartbeat.stopService())
        stopped.addBoth(lambda _: self._statsLine.stopService())
        return stopped.addBoth(lambda _: MultiService.stopService(self))

    def _signalReceived(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._abort)

    def _abort(self) -> None:
        seconds = self._reactor.seconds()
        if seconds - self._stoppedAt < REPEATED_SIGNAL_SECONDS or not self._killTimer.active():
            return
        self.log.warn("sitio got a second signal to stop, and breaks off what is in flight")
        self.sendToAll("abort")
        if self._killTimer.getTime() > seconds + EXIT_SECONDS:
            self._killTimer.reset(EXIT_SECONDS)

    def _kill(self) -> None:
        for each in self.processes:
            self.log.warn("Worker {worker} does not end, and is killed", worker=each.number)
            each.kill()

    def _checkAllEnded(self) -> None:
        if self._allEnded is not None and not self.processes:
            if self._killTimer.active():
                self._killTimer.cancel()
            self._allEnded.callback(None)


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        each.close()
