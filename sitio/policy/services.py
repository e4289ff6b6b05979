"""
Starts and stops the policies that are services: L{PolicyServices}.
"""

from __future__ import annotations

from inspect import iscoroutine
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.policy.coroutines import started
from sitio.policy.pending import CANCELLED, bounded
from sitio.policy.verify import nameOf

#: Longest time, in seconds, that a service may take to stop.  With the grace before it and the
#: threads after it, it ends within the ten seconds that supervisors add to the grace.
STOP_SECONDS = 5.0


class PolicyServices(MultiService):
    """
    The policies that are services.

    C{startService} and C{stopService} may be coroutines, which may await asyncio, or return
    Deferreds.  A C{startService} that raises at once keeps sitio from starting; one that fails
    later, or is still at work when sitio stops, does not.  Nothing keeps sitio from stopping.
    """

    def __init__(self, clock: IReactorTime, log: Logger | None = None) -> None:
        """
        @param clock: measures L{STOP_SECONDS}.
        @param log: gets the failures.
        """
        MultiService.__init__(self)
        self._clock = clock
        self.log = log or Logger()
        #: What C{startService} returned, while it is at work.
        self._starting: dict[IService, Deferred[Any]] = {}

    def startService(self) -> None:
        """Start all, in order; coroutines begin when the reactor runs."""
        Service.startService(self)
        for each in self:
            answer: Any = each.startService()
            if iscoroutine(answer):
                answer = self._later(answer)
            if isinstance(answer, Deferred):
                self._starting[each] = answer
                answer.addErrback(self._startFailed, each)
                answer.addCallback(self._forget, each)

    def _forget(self, result: object, member: IService) -> None:
        del self._starting[member]

    def _later(self, coroutine: Any) -> Deferred[Any]:
        """Run a coroutine in the next turn of the reactor: before that, asyncio does not run."""

        def begin(_: object) -> Any:
            return started(coroutine)

        def cancel(begun: Deferred[Any]) -> None:
            call.cancel()
            coroutine.close()

        begun: Deferred[Any] = Deferred(cancel)
        call = self._clock.callLater(0, begun.callback, None)
        return begun.addCallback(begin)

    def stopService(self) -> Deferred[Any]:
        """Stop all, the last one first, each within L{STOP_SECONDS}.  The Deferred never fails."""
        Service.stopService(self)
        waits = [each for member in reversed(self.services) for each in self._stop(member)]
        return gatherResults(waits)

    def _stop(self, member: Any) -> list[Deferred[Any]]:
        """Stop one service; return what to wait for."""
        waits = []
        starting = self._starting.get(member)
        if starting is not None:
            waits.append(self._bounded(starting, member, "startService"))
            try:
                starting.cancel()
            except BaseException:
                self._failed(Failure(), member, "could not be cancelled while it started")
        try:
            answer = started(member.stopService())
        except BaseException:
            self._failed(Failure(), member, "could not stop")
            return waits
        if isinstance(answer, Deferred):
            waits.append(self._bounded(answer, member, "stopService"))
        return waits

    def _bounded(self, answer: Deferred[Any], member: Any, method: str) -> Deferred[Any]:
        def cancelFailed() -> None:
            self._failed(Failure(), member, "could not be cancelled")

        late = f"its {method} took longer than {{:g}} s to end"
        ended = bounded(answer, STOP_SECONDS, self._clock, cancelFailed, late)
        return ended.addErrback(self._failed, member, "could not stop")

    def _startFailed(self, failure: Failure, member: Any) -> None:
        # Cancelled by this service, as sitio stops.
        if self.running or not failure.check(*CANCELLED):
            self._failed(failure, member, "could not start")

    def _failed(self, failure: Failure, member: Any, what: str) -> None:
        self.log.failure(
            "The service of the policy {name} {what}", failure, name=nameOf(member), what=what
        )
