"""
Waits for one Deferred at a time: L{Waiting}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Waiting:
    """A base for objects that wait for one Deferred at a time and may stop waiting."""

    _waiting: Deferred[Any] | None = None

    def wait(self, result: Any, goOn: Callable[[Any], None]) -> None:
        """
        Call C{goOn} with a result or a L{Failure}: now, or when its Deferred fires.

        There is no timeout here: the maker of the Deferred bounds the wait.
        """
        # Quicker than to ask None whether it is a Deferred, which is an abstract class.
        if result is None or not isinstance(result, Deferred):
            goOn(result)
            return
        self._waiting = result
        result.addBoth(self._settled, result, goOn)
        result.addErrback(self.waitBroke)

    def _settled(self, value: Any, result: Deferred[Any], goOn: Callable[[Any], None]) -> None:
        # Otherwise it was cancelled by stopWaiting.
        if self._waiting is result:
            self._waiting = None
            goOn(value)

    def stopWaiting(self) -> None:
        """Cancel the Deferred that is waited for, if there is one."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def waitBroke(self, failure: Failure) -> None:
        """C{goOn} has raised, which is a bug in sitio."""
        raise NotImplementedError
