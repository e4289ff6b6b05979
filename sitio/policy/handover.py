"""
What happens to policies when others take their places: self-tests, and the handover of state.

L{selfTests} asks the new ones whether they can work.  L{handOver} gives them the state of those
before.

Contract: the clock and the log are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.errors import inOneLine
from sitio.interfaces import IHandover, ISelfTest
from sitio.policy.coroutines import started
from sitio.policy.pending import bounded

#: Seconds that a self-test may take.  All run at the same time.
SELF_TEST_SECONDS = 10.0


def selfTests(
    policies: Iterable[tuple[str, Any]],
    clock: IReactorTime,
    log: Logger,
    seconds: float = SELF_TEST_SECONDS,
) -> Deferred[list[str]]:
    """
    Run the self-tests of all policies that have one.

    @param policies: names and policies.
    @param log: gets what a test does after it was given up.

    @return: a sentence for each that has failed.  It never fails, and can't be cancelled: it
        fires within these seconds.
    """
    waits: list[Deferred[str | None]] = []
    for name, policy in policies:
        if ISelfTest.providedBy(policy):
            waits.append(_tested(name, policy.selfTest, clock, log, seconds))
    ended: Deferred[list[str | None]] = gatherResults(waits)
    return ended.addCallback(lambda found: [each for each in found if each is not None])


def _tested(
    name: str, test: Callable[[], Any], clock: IReactorTime, log: Logger, seconds: float
) -> Deferred[str | None]:
    def failed(why: Failure) -> str:
        said = inOneLine(cast(BaseException, why.value))
        return f"the self-test of the policy {name} fails: {said}"

    def cancelFailed() -> None:
        log.failure("The self-test of the policy {name} could not be cancelled", name=name)

    answer: Deferred[Any] = Deferred()
    try:
        result = started(test())
    except BaseException:
        answer.errback(Failure())
    else:
        if isinstance(result, Deferred):
            answer = bounded(result, seconds, clock, cancelFailed)
        else:
            answer.callback(result)
    return answer.addCallbacks(lambda _: None, failed)


def handOver(former: Mapping[Any, Any], now: Mapping[Any, Any], log: Logger) -> list[Any]:
    """
    Give the state of policies to those that take their places.

    A policy that fails to give or to take is logged; then the new one begins without state.

    @param former: policies by what tells them apart.
    @param now: those that take the places of former ones with equal keys.

    @return: the keys of those that have taken something.
    """
    taken = []
    for key, policy in now.items():
        before = former.get(key)
        if before is None or before is policy or not IHandover.providedBy(policy):
            continue
        if not IHandover.providedBy(before):
            continue
        try:
            policy.takeState(before.giveState())
        except BaseException:
            log.failure("The state of the policy {name} could not be handed over", name=key)
        else:
            taken.append(key)
    return taken


def kindOf(policy: Any) -> str:
    """
    What a policy is: equal for policies of the same class, also if its file was loaded anew.
    """
    kind = type(policy)
    return f"{kind.__module__}.{kind.__qualname__}"
