"""
Remembers single exchanges for the admin port: the last ones and the open ones.

L{History} observes exchanges.  Failed exchanges are always recorded, the others only for
L{RECORD_SECONDS} after a request for the lists.  Otherwise a successful exchange costs three
comparisons.  In one second no more exchanges are recorded than are kept, so that thousands
of failures cost little.

A record (L{ExchangeRecord}) is small and plain: it has no bodies, queries or header
fields, as these may hold secrets, and it does not keep the exchange alive.

Contract: clocks are passed in; no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from itertools import count
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from sitio.errors import Side
from sitio.interfaces import ExchangeState, IExchangeObserver
from sitio.net.turns import Steps, atOnce, smallest
from sitio.telemetry import outcomes
from sitio.telemetry.records import (
    MAX_FAILED,
    MAX_OPEN,
    MAX_RECENT,
    ExchangeLists,
    ExchangeRecord,
    Step,
    mergeExchanges,
    stepsOf,
    whoAnswered,
)

#: Seconds after a question in which exchanges that go well are recorded too.
RECORD_SECONDS = 60.0

#: Characters of a path, and of the text of a failure.
MAX_TEXT = 200

#: The step to which the time counts that an open exchange has spent in a state.
_STEPS: dict[str, Step] = {
    ExchangeState.DECIDING: "policies",
    ExchangeState.JUDGING: "policies",
    ExchangeState.RESTING: "policies",
    ExchangeState.CONNECTING: "connection",
    ExchangeState.WAITING: "upstream",
}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def explain(exchange: Any) -> str:
    """
    Describe the outcome of an exchange that has ended: one sentence, without a full stop,
    on what the upstream answered and what the client was sent.
    """
    failure = exchange.failure
    response = exchange.response
    if exchange.status == 499:
        return "the client went away before its response was complete"
    # Otherwise a later attempt went well.
    isLast = response is None or response.failure is not None or exchange.brokeOff
    if failure is not None and isLast:
        cause = _cut(str(failure))
    elif exchange.upstreamStatus is None:
        cause = "the service was not asked"
    else:
        cause = f"the service answered {exchange.upstreamStatus}"
    if exchange.attempts > 1:
        cause += f", at attempt {exchange.attempts}"
    if exchange.lacksBudget and outcomes.isFailure(exchange.upstreamStatus):
        cause += ", and the budget had no retry left"
    if failure is not None and not isLast:
        cause += f", after this: {_cut(str(failure))}"
    if response is None:
        return f"{cause}; nothing was sent"
    if exchange.brokeOff:
        return f"{cause}; the response, a {exchange.status}, broke off"
    if exchange.answeredBy is not None:
        return f"{cause}; {exchange.answeredBy} sent {exchange.status}"
    return f"{cause}; sitio sent {exchange.status}" if whoAnswered(exchange) == "sitio" else cause


def _isNotable(exchange: Any) -> bool:
    """Whether an exchange that has ended failed, or its client had a part in a failure."""
    return exchange.failure is not None or outcomes.failed(outcomes.outcomeOf(exchange))


def recordOf(exchange: Any, key: str, began: float, duration: float) -> ExchangeRecord:
    """
    Make the record of an exchange.

    @param key: of the record; unlike the exchange's id, no other has the same.
    @param began: in seconds since 1970.
    @param duration: in seconds, so far if the exchange is open.
    """
    steps = stepsOf(
        exchange.policyTime,
        exchange.connectTime,
        exchange.upstreamTime,
        duration,
        _STEPS.get(exchange.state, "transfer"),
    )
    isOpen = exchange.state is not ExchangeState.ENDED
    outcome = outcomes.outcomeOf(exchange)
    return {
        "key": key,
        "id": exchange.id,
        "labels": dict(exchange.ownLabels or {}),
        "began": began,
        "duration": duration,
        "client": exchange.clientAddress,
        "method": _cut(exchange.request.receivedLine.method),
        "path": _cut(exchange.request.receivedLine.path),
        "status": exchange.status,
        "upstreamStatus": exchange.upstreamStatus,
        "answeredBy": whoAnswered(exchange),
        "acted": list(exchange.acted),
        "attempts": exchange.attempts,
        "bytesIn": exchange.bytesIn,
        "bytesOut": exchange.bytesOut,
        "steps": steps,
        "state": exchange.state,
        "why": exchange.state if isOpen else explain(exchange),
        "failed": not isOpen and outcomes.failed(outcome),
        "masked": not isOpen and outcomes.masked(outcome),
        "brokeOff": not isOpen and outcomes.brokeOff(outcome),
    }


class _LastRecords:
    """The last records of one kind.  Accepts at most as many in one second as it keeps."""

    def __init__(self, most: int) -> None:
        self.kept: deque[ExchangeRecord] = deque(maxlen=most)
        self._most = self._left = most
        self._until = float("-inf")

    def accepts(self, now: float) -> bool:
        """Whether to record one more now."""
        if now >= self._until:
            self._until = now + 1
            self._left = self._most
        self._left -= 1
        return self._left >= 0


@implementer(IExchangeObserver)
class History:
    """The exchanges of one process, as L{ExchangeLists}."""

    def __init__(self, clock: IReactorTime, now: Callable[[], float], process: int) -> None:
        """
        @param clock: the clock of the exchanges.
        @param now: gives seconds since 1970.
        @param process: the process id, or another number that no other process has.
        """
        self._process = process
        self._clock = clock
        self._now = now
        self._until = float("-inf")
        self._count = count(1)
        # An exchange that was listed while it was open keeps its key.
        self._keys: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._ended = _LastRecords(MAX_RECENT)
        # Failures that clients cause have a list of their own: the thousands of a
        # scanner must not push out the few of the service.
        self._failed = _LastRecords(MAX_FAILED // 2)
        self._clientFailed = _LastRecords(MAX_FAILED // 2)

    def exchangeFinished(self, exchange: Any) -> None:
        """Record a failed exchange, or any after a request.  See L{IExchangeObserver}."""
        failure = exchange.failure
        # Inlined from _isNotable: most exchanges get no further.
        if (
            failure is None
            and (exchange.upstreamStatus or exchange.status) < 500
            and exchange.began >= self._until
        ):
            return
        lists = []
        if exchange.began < self._until:
            lists.append(self._ended)
        if _isNotable(exchange):
            byClient = failure is not None and failure.side is Side.CLIENT
            lists.append(self._clientFailed if byClient else self._failed)
        now = self._clock.seconds()
        lists = [each for each in lists if each.accepts(now)]
        if lists:
            record = self._record(exchange)
            for each in lists:
                each.kept.append(record)

    def _record(self, exchange: Any) -> ExchangeRecord:
        key = self._keys.get(exchange)
        if key is None:
            key = self._keys[exchange] = f"{self._process}-{next(self._count)}"
        ago = self._clock.seconds() - exchange.began
        duration = ago if exchange.duration is None else exchange.duration
        return recordOf(exchange, key, self._now() - ago, duration)

    def exchanges(self, underWay: Collection[Any]) -> ExchangeLists:
        """The same as L{listing}, without a pause."""
        return atOnce(self.listing(underWay))

    def listing(self, underWay: Collection[Any]) -> Steps[ExchangeLists]:
        """
        List the recorded exchanges and the open ones, in steps.  For the next
        L{RECORD_SECONDS} all exchanges are recorded.

        @param underWay: the exchanges that are open, at any moment.
        """
        self._until = self._clock.seconds() + RECORD_SECONDS
        listed = {}
        yield len(underWay) // 64
        exchanges = list(underWay)
        yield len(exchanges) // 64
        for each in (yield from smallest(exchanges, MAX_OPEN, attrgetter("began"))):
            listed[each] = self._record(each)
            yield 8
        lists: ExchangeLists = {
            "failed": [*reversed(self._failed.kept), *reversed(self._clientFailed.kept)],
            "recent": [*reversed(self._ended.kept)],
            # Those that have ended meanwhile are among the others.
            "open": [record for each, record in listed.items() if each in underWay],
        }
        return mergeExchanges([lists])
