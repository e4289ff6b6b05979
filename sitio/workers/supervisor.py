"""
Several processes behind one port: the parent.

L{Workers} opens the port and carries no request itself.  It starts processes
that inherit the listening socket, starts another where one has ended, adds up
their metrics, and lets them finish what is in flight when it is told to stop.
What happens in each of them is told in L{sitio.workers.worker}, what passes between in
L{sitio.workers.channel}.

Contract: reactor, port and signals are passed in; POSIX only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import define
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from zope.interface import implementer

from sitio.errors import CannotStart
from sitio.telemetry.records import ExchangeLists, mergeExchanges
from sitio.telemetry.sidecar import DRAINING, SERVING, STARTING, ISidecar, droppedBy
from sitio.telemetry.snapshot import (
    SidecarSnapshot,
    WorkerMetrics,
    countersOf,
    limitEndpoints,
    mergeSidecars,
)
from sitio.telemetry.stats import MAX_ENDPOINTS, Stats
from sitio.telemetry.statsline import StatsLine
from sitio.workers.channel import PATIENCE, Adopted, Output, Process, whyNot

#: Seconds until a worker that has ended is followed by another, and what that
#: grows to, doubled each time, while they end as soon as they have started.
FIRST_DELAY = 0.25
MAX_DELAY = 10.0

#: Seconds after which a worker has proved sound: its end is a first one again.
SOUND = 60.0

#: Seconds in which a second signal counts for the first once more: C{timeout}
#: sends two, to the process and to its group.
SAME = 1.0

#: Where a worker finds its first listening socket, as it would one of systemd's.
PORT_DESCRIPTOR = 3

# The endpoint systemd: wants to be told by a name that its process can't know before.
_BOOT = """\
import json, os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
sys.path[:] = json.loads(sys.argv[1])["path"]
from sitio.workers.worker import work
work()
"""


class SharedPort(Protocol):
    """A port that workers listen on: see L{sitio.workers.sockets}."""

    @property
    def sockets(self) -> list[socket.socket]:
        """Those that listen, in the order of the workers; or a single one."""

    def open(self) -> None:
        """Bind it; raises L{CannotStart}."""

    def close(self) -> Deferred[Any]:
        """Listen no more; the workers' copies of the sockets are not touched."""


@define(eq=False)
class _Place:
    """
    A worker's place.

    @ivar process: the one that is in it.
    @ivar starts: how many have been.
    @ivar delay: seconds until the next, when this one ends.
    @ivar call: the next one's start, while there is none.
    """

    number: int
    process: Process | None = None
    starts: int = 0
    delay: float = FIRST_DELAY
    call: Any = None


@implementer(ISidecar)
class Workers(MultiService):
    """
    The workers, as the service that C{twistd sitio --workers} runs.

    Services that are put into it are started before the workers and stopped after.
    """

    log = Logger(namespace="sitio")

    def __init__(
        self,
        reactor: Any,
        count: int,
        port: SharedPort,
        duty: Callable[[], Mapping[str, Any]],
        *,
        grace: float,
        statsInterval: float = 2.0,
        stdout: int | None = None,
        onSignal: Callable[[int, Any], Any] = signal.signal,
        firstWord: Callable[[socket.socket, socket.socket], str | None] = whyNot,
    ) -> None:
        """
        @param reactor: provides time, processes and sockets.
        @param count: how many.
        @param port: where clients come.
        @param duty: what a worker is told, as plain data; asked at each start.
        @param grace: seconds in which workers finish what is in flight.
        @param statsInterval: seconds between two lines of metrics, 0 for none.
        @param stdout: a descriptor that workers write to as well, if they do.
        @param onSignal: how to be called on a signal.
        @param firstWord: L{whyNot}.
        """
        MultiService.__init__(self)
        self._reactor = reactor
        self._port = port
        self._duty = duty
        self._grace = grace
        self._stdout = stdout
        self._onSignal = onSignal
        self._firstWord = firstWord
        self._began = reactor.seconds()
        self._places = [_Place(number) for number in range(1, count + 1)]
        self._stats = StatsLine(reactor, self, statsInterval)
        # What those counted that have ended.
        self._past: SidecarSnapshot = {
            "metrics": Stats(reactor).snapshot(),
            "policies": [],
            "pool": {},
            "poolCounts": {"opened": 0, "failed": 0, "waited": 0, "waitedSeconds": 0.0},
            "clients": 0,
            "inFlight": 0,
            "brokenResponses": 0,
            "overlongResponses": 0,
            "dropped": droppedBy(()),
            "restarts": 0,
            "workers": [],
        }
        # Those that others stand in for until they are back.
        self._absent: set[int] = set()
        self._draining = False
        self._ended: Deferred[None] | None = None
        self._end: Any = None
        self._stopped = 0.0

    # Starting.

    def privilegedStartService(self) -> None:
        """
        Open the port, while the process may still use ports below 1024.

        @raise CannotStart: it can't be opened, or not be shared.
        """
        MultiService.privilegedStartService(self)
        self._port.open()

    def startService(self) -> None:
        """
        Start the workers, and wait for the first.

        @raise CannotStart: that one can't start, so the others can't either.
        """
        self._port.open()
        MultiService.startService(self)
        sockets = [self._start(each) for each in self._places]
        why = self._firstWord(*sockets[0])
        for pair in sockets:
            _close(*pair)
        if why is not None:
            raise CannotStart(why if why.startswith("sitio: ") else f"sitio: {why}")
        self._stats.startService()

    def _start(self, place: _Place) -> tuple[socket.socket, socket.socket]:
        """Start a worker; copies of the sockets to it, for the caller to close."""
        talk, itsTalk = socket.socketpair()
        output, itsOutput = socket.socketpair()
        process = Process(self._reactor, place.number, self)
        try:
            self._spawn(process, itsTalk.fileno(), itsOutput.fileno())
        except OSError as error:
            _close(talk, output)
            raise CannotStart(f"sitio: can't start a worker: {error}") from error
        finally:
            _close(itsTalk, itsOutput)
        place.process = process
        place.starts += 1
        for end, protocol in ((talk, process.talk), (output, Output(place.number, self.log))):
            end.setblocking(False)
            self._reactor.adoptStreamConnection(end.fileno(), end.family, Adopted(protocol))
        return talk, output

    def _spawn(self, process: Process, talk: int, output: int) -> None:
        environ = dict(os.environ)
        sockets = [each.fileno() for each in self._port.sockets]
        if len(sockets) == 1:
            # Whichever of systemd's the description means, it is this one.
            sockets *= len(environ.get("LISTEN_FDNAMES", "").split(":"))
            environ["LISTEN_FDS"] = str(len(sockets))
        places = dict(enumerate(sockets, PORT_DESCRIPTOR))
        duty = {
            **self._duty(),
            "number": process.number,
            "path": sys.path,
            "reactor": type(self._reactor).__module__,
            "sockets": len(self._port.sockets),
            "talk": PORT_DESCRIPTOR + len(sockets),
        }
        shared = {}
        if self._stdout is not None:
            duty["stdout"] = duty["talk"] + 1
            shared = {duty["stdout"]: self._stdout}
        with open(os.devnull) as nothing:
            self._reactor.spawnProcess(
                process,
                sys.executable,
                [sys.executable, "-c", _BOOT, json.dumps(duty)],
                env=environ,
                childFDs={
                    0: nothing.fileno(),
                    1: output,
                    2: output,
                    **places,
                    duty["talk"]: talk,
                    **shared,
                },
            )

    # While they run.

    def ready(self, process: Process) -> None:
        """A worker accepts its clients: for the first time, or again."""
        if self._draining:
            process.talk.tell("drain")
        self._tellAbsent(self._absent - {process.number})

    def leaving(self, process: Process) -> None:
        """A worker accepts no more: the others do that in its place."""
        self._tellAbsent(self._absent | {process.number})

    def _tellAbsent(self, absent: set[int]) -> None:
        if absent != self._absent and self._ended is None:
            self._absent = absent
            for each in self._processes():
                each.talk.tell("absent", sorted(absent))

    def reopen(self) -> None:
        """Have the workers open their files anew."""
        for each in self._processes():
            each.talk.tell("reopen")

    def over(self, process: Process) -> None:
        """A worker has ended: keep what it counted, and have another take its place."""
        place = self._places[process.number - 1]
        place.process = None
        if process.snapshot.answer is not None:
            past = countersOf(mergeSidecars([self._past, process.snapshot.answer]))
            self._past = {**past, "metrics": limitEndpoints(past["metrics"], MAX_ENDPOINTS)}
        if self._ended is not None:
            self._checkEnded()
            return
        self.leaving(process)
        if self._reactor.seconds() - process.began >= SOUND:
            place.delay = FIRST_DELAY
        self._later(place, process.refusal or process.why)

    def _later(self, place: _Place, why: str) -> None:
        self.log.warn(
            "Worker {worker} {why}; another takes its place in {delay:g} s",
            worker=place.number,
            why=why,
            delay=place.delay,
        )
        place.call = self._reactor.callLater(place.delay, self._again, place)
        place.delay = min(2 * place.delay, MAX_DELAY)

    def _again(self, place: _Place) -> None:
        try:
            _close(*self._start(place))
        except CannotStart as error:
            self._later(place, str(error))

    def _processes(self) -> list[Process]:
        return [each.process for each in self._places if each.process is not None]

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        """See L{ISnapshotSource}."""
        answers = gatherResults([each.snapshot.ask() for each in self._processes()])
        return answers.addCallback(lambda _: self._told())

    def exchanges(self) -> Deferred[ExchangeLists]:
        """See L{ISnapshotSource}."""
        answers = gatherResults([each.exchanges.ask() for each in self._processes()])
        return answers.addCallback(lambda _: self._exchangesTold())

    def _exchangesTold(self) -> ExchangeLists:
        return mergeExchanges(
            each.exchanges.answer for each in self._processes() if each.exchanges.answer is not None
        )

    @property
    def state(self) -> str:
        """See L{ISidecar}."""
        if self._draining or self._ended is not None:
            return DRAINING
        return SERVING if any(each.accepts for each in self._processes()) else STARTING

    def drain(self) -> None:
        """See L{ISidecar}; workers that are started from now on drain as well."""
        self._draining = True
        for each in self._processes():
            each.talk.tell("drain")

    def _told(self) -> SidecarSnapshot:
        # The workers' own, and that of what is beside them.
        past: SidecarSnapshot = {**self._past, "dropped": droppedBy(self, self._past["dropped"])}
        told = [past]
        for place in self._places:
            process = place.process
            if process is not None and process.snapshot.answer is not None:
                last: SidecarSnapshot = process.snapshot.answer
                row: WorkerMetrics = {
                    **last["workers"][0],
                    "number": place.number,
                    "restarts": place.starts - 1,
                }
                told.append({**last, "workers": [row]})
        whole = mergeSidecars(told)
        metrics = limitEndpoints(whole["metrics"], MAX_ENDPOINTS)
        metrics = {**metrics, "uptime": self._reactor.seconds() - self._began}
        restarts = sum(max(0, place.starts - 1) for place in self._places)
        return {**whole, "metrics": metrics, "restarts": restarts}

    # Stopping.

    def stopService(self) -> Deferred[Any]:
        """
        Have all workers finish what is in flight, for the grace at most.

        A second signal meanwhile makes them break it off.
        """
        ended = self._ended = Deferred()
        self._stopped = self._reactor.seconds()
        for place in self._places:
            if place.call is not None and place.call.active():
                place.call.cancel()
        closed = self._port.close()
        for each in self._processes():
            each.talk.tell("stop")
        self._end = self._reactor.callLater(self._grace + PATIENCE, self._kill)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._onSignal(number, self._signalled)
        self._checkEnded()
        stopped: Deferred[Any] = gatherResults([closed, ended])
        stopped.addBoth(lambda _: self._stats.stopService())
        return stopped.addBoth(lambda _: MultiService.stopService(self))

    def _signalled(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._signalledAgain)

    def _signalledAgain(self) -> None:
        if self._reactor.seconds() - self._stopped < SAME or not self._end.active():
            return
        self.log.warn("sitio was told to stop once more, and breaks off what is in flight")
        for each in self._processes():
            each.talk.tell("end")
        if self._end.getTime() > self._reactor.seconds() + PATIENCE:
            self._end.reset(PATIENCE)

    def _kill(self) -> None:
        for each in self._processes():
            self.log.warn("Worker {worker} does not end, and is killed", worker=each.number)
            each.kill()

    def _checkEnded(self) -> None:
        if self._ended is not None and not self._processes():
            if self._end.active():
                self._end.cancel()
            self._ended.callback(None)


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        each.close()
