"""
One call under way at a time: callers that arrive meanwhile share its result.

Contract: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """
    Runs a function once for all callers that ask while its result is outstanding.

    Results are not kept: the first caller after the end starts a new run.  Calls with
    different arguments do not share a run.
    """

    def __init__(self, function: Callable[..., Deferred[T] | T]) -> None:
        """
        @param function: returns the result or a Deferred of it.
        """
        self._function = function
        self._callers: dict[tuple[Any, ...], list[Deferred[T]]] = {}

    def run(self, *arguments: Any) -> Deferred[T]:
        """
        Start a run with these arguments, or join the one that is under way.

        @param arguments: for the function; they are hashable.

        @return: the result.  If the function fails, all callers get the same failure.
            A caller that cancels this Deferred neither stops the run nor disturbs the
            other callers.
        """
        underWay = arguments in self._callers
        callers = self._callers.setdefault(arguments, [])
        caller: Deferred[T] = Deferred(callers.remove)
        callers.append(caller)
        if not underWay:
            maybeDeferred(self._function, *arguments).addBoth(self._ended, arguments)
        return caller

    def _ended(self, result: Any, arguments: tuple[Any, ...]) -> None:
        for each in self._callers.pop(arguments):
            each.callback(result)
