"""
A function that is called at a fixed interval: the one kind of timer loop in sitio.

Contract: the clock and the log are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure


class Periodic(Service):
    """
    Calls a function at a fixed interval while the service runs.  One call is a I{turn}.

      - Turns never overlap: a turn that returns a Deferred lasts until that fires.
      - Turns that fall into a longer one, or into a time when the process stood still,
        are left out.  They are not made up for.
      - A turn that fails is logged, and the next turn comes at its time.  While turns
        go on failing, only the first failure is logged.  A cancelled turn is no failure.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interval: float,
        function: Callable[[], Any],
        *,
        log: Logger,
        whenFails: str,
        now: bool = False,
    ) -> None:
        """
        @param interval: seconds from the start of one turn to the start of the next.
        @param function: takes no arguments; may return a Deferred or a coroutine.
        @param log: where failures go.
        @param whenFails: the sentence that is logged with the traceback of a failure.
        @param now: whether the first turn happens in L{startService}; otherwise it
            happens one interval later.
        """
        self._clock = clock
        self._interval = interval
        self._function = function
        self._log = log
        self._whenFails = whenFails
        self._now = now
        self._failing = False
        self._loop: LoopingCall | None = None
        self._turn: Deferred[Any] | None = None
        self._waiting: list[Deferred[None]] = []

    def startService(self) -> None:
        """
        Begin the turns.

        @raise ValueError: the interval is not a number of seconds above 0.
        """
        if not 0 < self._interval < float("inf"):
            raise ValueError(f"an interval of {self._interval!r} s; more than 0 s is needed")
        Service.startService(self)
        self._loop = LoopingCall(self.turn)
        self._loop.clock = self._clock
        self._loop.start(self._interval, now=self._now)

    def stopService(self) -> Deferred[None]:
        """
        Begin no further turn.

        @return: fires when the turn under way has ended; at once if there is none.  A
            turn that waits for this itself would wait forever.
        """
        Service.stopService(self)
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()
        return self._whenEnded()

    def turn(self) -> Deferred[None]:
        """
        Do one turn now, unless one is under way; for example a last one after
        L{stopService}.

        @return: fires at the end of the turn and never fails.
        """
        if self._turn is not None:
            return self._whenEnded()
        turn = self._turn = maybeDeferred(self._function)
        return turn.addCallbacks(self._succeeded, self._failed)

    def cancel(self) -> None:
        """Cancel the turn under way, if there is one."""
        if self._turn is not None:
            self._turn.cancel()

    def _whenEnded(self) -> Deferred[None]:
        if self._turn is None:
            return succeed(None)
        ended: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(ended)
        return ended

    def _succeeded(self, result: object) -> None:
        self._failing = False
        self._ended()

    def _failed(self, reason: Failure) -> None:
        if not reason.check(CancelledError):
            if not self._failing:
                self._log.failure(self._whenFails, reason)
            self._failing = True
        self._ended()

    def _ended(self) -> None:
        self._turn = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
