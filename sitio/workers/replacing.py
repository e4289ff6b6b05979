"""
Puts another configuration in place of that of all workers, or of none: L{WorkersReplacement}.

First each worker prepares it, from the same text of the file, and says whether it can.  Only if
all can, they are told to adopt it; else all discard it.  A worker that ends in between is replaced
by a worker that starts with the configuration that counts then.

Contract: clock and supervisor are passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from sitio.workers.process import WorkerProcess
from sitio.workers.supervisor import Supervisor

#: Seconds that a worker has to prepare a configuration: its self-tests have ten.
WORKER_SECONDS = 30.0


class Refused(Exception):
    """
    Workers can't use a configuration.

    @ivar mistakes: what they say: each a list of file, line, key and sentence.
    """

    def __init__(self, mistakes: Iterable[tuple[Any, ...]]) -> None:
        self.mistakes = list(dict.fromkeys(mistakes))
        super().__init__("; ".join(str(each[-1]) for each in self.mistakes))


class WorkersReplacement:
    """Tells the workers of a supervisor, in two steps."""

    def __init__(self, clock: IReactorTime, supervisor: Supervisor) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._number = supervisor.configState.generation

    def prepare(self, text: str | None) -> Deferred[None]:
        """
        Let all workers prepare a configuration.

        @param text: of the file; L{None} if there is none.

        @return: fails with L{Refused} if one of them can't; then all have discarded it.
        """
        self._supervisor.isReplacing = True
        self._number = self._supervisor.configState.generation + 1
        asked = [self._ask(each, text) for each in self._supervisor.processes]
        prepared: Deferred[Any] = gatherResults(asked)
        return prepared.addCallback(self._decide)

    def _ask(self, process: WorkerProcess, text: str | None) -> Deferred[list[Any]]:
        asked = process.prepare({"number": self._number, "text": text})
        late = f"worker {process.number} has not prepared it within {WORKER_SECONDS:g} seconds"
        asked.addTimeout(WORKER_SECONDS, self._clock, lambda why, seconds: [("", 0, "", late)])
        return asked

    def _decide(self, answers: list[list[Any]]) -> None:
        mistakes = [tuple(each) for some in answers for each in some]
        if mistakes:
            self.discard()
            raise Refused(mistakes)

    def adopt(self) -> int:
        """Let all workers adopt it; those that start from now on have it as well."""
        self._supervisor.isReplacing = False
        self._supervisor.sendToAll("adopt", self._number)
        return self._number

    def discard(self) -> None:
        """Let all workers drop it."""
        self._supervisor.isReplacing = False
        self._supervisor.sendToAll("discard", self._number)
