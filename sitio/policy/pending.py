"""
Results of policies that are still to come: L{then}, L{bounded}.

A policy may raise any exception, also one that is no C{Exception}, such as the
C{SystemExit} of C{sys.exit}; may fail to cancel what it waits for; may never end.  None of
this holds up its exchange.
"""

from __future__ import annotations

from asyncio import CancelledError as FutureCancelled
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

#: What a policy's wait fails with when it is cancelled.
CANCELLED = (CancelledError, FutureCancelled)


def then(result: Any, goOn: Callable[..., Any], *args: Any) -> Any:
    """
    Call C{goOn} with a result and more arguments: now, or when the L{Deferred} of it fires.

    @return: what that returns, or a Deferred of it.
    """
    if isinstance(result, Deferred):
        return result.addCallback(goOn, *args)
    return goOn(result, *args)


def _raised(result: Any, report: Callable[[], object]) -> None:
    """Report a failure of what was given up, unless it is that of being cancelled."""
    if isinstance(result, Failure) and not result.check(*CANCELLED):
        try:
            result.raiseException()
        except BaseException:
            report()


def bounded(
    answer: Deferred[Any],
    seconds: float,
    clock: IReactorTime,
    cancelFailed: Callable[[], object],
    late: str = "it took longer than {:g} s",
) -> Deferred[Any]:
    """
    A Deferred of the result of a policy's Deferred that fires in time, whatever the policy
    does.  To cancel it cancels the policy's, whose result is dropped: nothing may follow it.

    @param seconds: how long it may take; then it fails with C{TimeoutError}, unless the
        policy has another result when it is cancelled.
    @param cancelFailed: called within an exception handler when the policy's canceller
        has raised, or when the policy has failed in another way because it was given up.
    @param late: what the C{TimeoutError} says.
    """
    isLate = isGivenUp = False

    def cancel() -> None:
        if timer.active():
            timer.cancel()
        try:
            answer.cancel()
        except BaseException:
            cancelFailed()

    def giveUp(_: object) -> None:
        nonlocal isGivenUp
        isGivenUp = True
        cancel()

    def expire() -> None:
        nonlocal isLate
        isLate = True
        cancel()
        if not result.called:
            result.errback(Failure(TimeoutError(late.format(seconds))))

    def fired(value: Any) -> None:
        if timer.active():
            timer.cancel()
        if isGivenUp:
            _raised(value, cancelFailed)
            return
        if result.called or (isLate and isinstance(value, Failure) and value.check(*CANCELLED)):
            return
        result.callback(value)

    result: Deferred[Any] = Deferred(giveUp)
    timer = clock.callLater(seconds, expire)
    answer.addBoth(fired)
    return result
