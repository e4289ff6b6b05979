"""
Waiting for one Deferred at a time: L{Waiting}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Waiting:
    """Something that waits for one Deferred at a time, and may end before that fires."""

    _waiting: Deferred[Any] | None = None

    def wait(self, result: Any, goOn: Callable[[Any], None]) -> None:
        """
        Go on with a result or a L{Failure}: now, or once its Deferred has it.

        Whoever makes the Deferred bounds the wait.
        """
        if not isinstance(result, Deferred):
            goOn(result)
            return
        self._waiting = result

        def settled(value: Any) -> None:
            # Else it was cancelled, and nothing waits for it.
            if self._waiting is result:
                self._waiting = None
                goOn(value)

        result.addBoth(settled)
        result.addErrback(self.waitBroke)

    def stopWaiting(self) -> None:
        """Cancel what is waited for, if there is anything."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def waitBroke(self, failure: Failure) -> None:
        """What was to go on raised, which is a mistake in sitio."""
        raise NotImplementedError
