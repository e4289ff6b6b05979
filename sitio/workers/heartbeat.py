"""
Finds workers that are stuck, and ends them: L{Heartbeat}.

A worker whose reactor does not turn, as its policy loops or it was stopped by a signal, still
holds its part of the port: clients would wait for it for ever.  The kernel keeps the
connections that a worker has not accepted, so others can accept them.  Those that it has
accepted end with it.

Contract: clock and log are passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from sitio.net.periodic import Periodic
from sitio.net.signals import STACK_SIGNAL
from sitio.workers.process import EXIT_SECONDS, WorkerListener, WorkerProcess

#: The longest time, in seconds, between two turns, each of which asks all workers.
TURN_SECONDS = 1.0

#: Turns in a timeout, at least: so it is at most a tenth longer than asked for.
MIN_TURNS = 10

#: Turns without an answer after which others accept a worker's clients too.  It costs them
#: next to nothing, so this is soon.
SILENT_TURNS = 2

#: Seconds without an answer after which a worker is ended while sitio stops, if it has not
#: even begun to stop; else L{EXIT_SECONDS}, as what a policy does at the end may block.
STOP_SECONDS = 2.0

#: Seconds that a worker may take to start, if C{--worker-timeout} is not longer: its policies
#: may read files, or ask other services.
START_SECONDS = 120.0

#: Seconds in which a worker writes its stack, before it is killed.
STACK_SECONDS = 0.5


class Heartbeat(Service):
    """
    Asks each worker for an answer every second, and ends those that give none for too long.

      - Only turns count, in which this process itself runs.  A time in which the whole
        machine stands still is one turn, however long it is.
      - Any message of a worker is an answer.
      - A worker that has not yet begun to accept clients is not asked, and has
        L{START_SECONDS}: its policies may take long to load.
      - One whose process ends has L{EXIT_SECONDS<sitio.workers.process.EXIT_SECONDS>}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        timeout: float,
        processes: Callable[[], Iterable[WorkerProcess]],
        listener: WorkerListener,
        log: Logger,
    ) -> None:
        """
        @param timeout: seconds without an answer after which a worker is ended; 0 for no
            heartbeat.
        @param processes: returns the running workers.
        @param listener: is told that a silent worker accepts no clients
            (C{workerStopping}), and that it does again (C{workerReady}).
        """
        self._clock = clock
        self._interval = min(TURN_SECONDS, timeout / MIN_TURNS) or TURN_SECONDS
        self._limit = math.ceil(timeout / self._interval)
        self._processes = processes
        self._listener = listener
        self._log = log
        self._hurries = False
        self._silent: set[WorkerProcess] = set()
        self._kills: dict[WorkerProcess, IDelayedCall] = {}
        self._turns = Periodic(
            clock, self._interval, self._turn, log=log, whenFails="Workers can't be watched"
        )

    @property
    def silent(self) -> list[int]:
        """The numbers of the workers that do not answer."""
        return [each.number for each in self._processes() if each in self._silent]

    def startService(self) -> None:
        """Begin to ask."""
        Service.startService(self)
        if self._limit:
            self._turns.startService()

    def stopService(self) -> None:
        """Ask no more."""
        Service.stopService(self)
        self._turns.stopService()
        for each in self._kills.values():
            if each.active():
                each.cancel()

    def hurry(self) -> None:
        """Wait for a silent worker for L{STOP_SECONDS} at most, as sitio stops."""
        self._hurries = True
        for each in self._processes():
            if not each.ready:
                # It has not been asked so far.
                each.pulse.missed = 0

    def _limitFor(self, process: WorkerProcess) -> int:
        """The turns without an answer after which a worker is ended."""
        if not self._hurries:
            start = math.ceil(START_SECONDS / self._interval)
            return self._limit if process.ready else max(self._limit, start)
        seconds = STOP_SECONDS if process.accepts else EXIT_SECONDS
        return min(self._limit, math.ceil(seconds / self._interval))

    def _turn(self) -> None:
        running = list(self._processes())
        self._silent.intersection_update(running)
        for gone in self._kills.keys() - set(running):
            del self._kills[gone]
        for each in running:
            if not each.ending and each not in self._kills:
                self._look(each, each.pulse.missed)
                each.pulse.missed += 1

    def _look(self, process: WorkerProcess, missed: int) -> None:
        asked = process.ready or self._hurries
        if missed == 0 and asked:
            # One question at a time: more would pile up in the channel.
            process.channel.send("ping")
        if missed >= self._limitFor(process):
            self._end(process, missed)
        elif not asked:
            return
        elif missed >= SILENT_TURNS and process not in self._silent:
            self._silent.add(process)
            self._log.warn(
                "Worker {worker} does not answer; others accept its clients meanwhile",
                worker=process.number,
            )
            self._listener.workerStopping(process)
        elif missed == 0 and process in self._silent:
            self._silent.discard(process)
            self._log.info("Worker {worker} answers again", worker=process.number)
            if process.accepts:
                self._listener.workerReady(process)

    def _end(self, process: WorkerProcess, missed: int) -> None:
        if isStopped(process.transport.pid):
            why = "it was stopped by a signal"
        else:
            why = "its stacks follow"
        self._log.error(
            "Worker {worker} has not {what} for {seconds:g} s, and is ended; {why}",
            worker=process.number,
            what="answered" if process.ready or self._hurries else "accepted clients",
            seconds=round(missed * self._interval, 1),
            why=why,
        )
        process.signal(STACK_SIGNAL)
        self._kills[process] = self._clock.callLater(STACK_SECONDS, process.kill)


def isStopped(pid: int) -> bool:
    """Whether a process was stopped by a signal, or by a debugger.  Known on Linux only."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    return False
