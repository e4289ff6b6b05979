"""
Single exchanges, for people: the last ones, the open ones, and what came of each.

L{History} observes exchanges.  It notes down those that fail, and the others only
while somebody looks: that is for L{ATTENTION} after each look.  While nobody does, an
exchange that went well costs three comparisons; and in one second no more are noted
down than are kept, so that thousands that pass, or fail, are no work.

What is noted is small and plain (L{ExchangeFacts}): no body, no query, no field,
as these may hold secrets, and nothing that keeps an exchange alive.

Contract: clocks are passed in; no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from sitio.errors import Side
from sitio.interfaces import IExchangeObserver
from sitio.proxy.exchange import ASKED, CONNECTING, DECIDING, ENDED, JUDGING, RESTING
from sitio.telemetry.snapshot import (
    MAX_FAILED,
    MAX_OPEN,
    MAX_RECENT,
    ExchangeFacts,
    Exchanges,
    Step,
    exchangesTogether as together,
    stepsOf,
    whoAnswered,
)

#: Seconds after a look in which exchanges that go well are noted down as well.
ATTENTION = 60.0

#: Characters of a path, and of what a failure says of itself.
MAX_TEXT = 200

#: Which step the time counts for that has not come to its end.
_STEP: dict[str, Step] = {
    DECIDING: "policies",
    JUDGING: "policies",
    RESTING: "policies",
    CONNECTING: "connection",
    ASKED: "upstream",
}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def explained(exchange: Any) -> str:
    """One sentence, without its end: what the upstream said, and what became of that."""
    failure = exchange.failure
    response = exchange.response
    sent = exchange.status
    if sent == 499:
        return "the client went away before its response was whole"
    # Else another attempt has mended what failed.
    last = response is None or response.failure is not None or exchange.brokeOff
    if failure is not None and last:
        cause = _cut(str(failure))
    elif exchange.upstreamStatus is None:
        cause = "the service was not asked"
    else:
        cause = f"the service said {exchange.upstreamStatus}"
    if exchange.attempts > 1:
        cause += f", at attempt {exchange.attempts}"
    if failure is not None and not last:
        cause += f", after this: {_cut(str(failure))}"
    if response is None:
        return f"{cause}; nothing was sent"
    if exchange.brokeOff:
        return f"{cause}; the response, a {sent}, broke off"
    if exchange.answeredBy is not None:
        return f"{cause}; {exchange.answeredBy} sent {sent}"
    return f"{cause}; sitio sent {sent}" if whoAnswered(exchange) == "sitio" else cause


def _failed(exchange: Any) -> bool:
    """Whether something went wrong, be it masked or not; without a failure there is a status."""
    return exchange.failure is not None or (exchange.upstreamStatus or exchange.status or 0) >= 500


def factsOf(exchange: Any, id: str, began: float, duration: float) -> ExchangeFacts:
    """
    What is told of an exchange.

    @param began: in seconds since 1970.
    @param duration: how many seconds it took, or takes already.
    """
    steps = stepsOf(
        exchange.policyTime,
        exchange.connectTime,
        exchange.upstreamTime,
        duration,
        _STEP.get(exchange.state, "transfer"),
    )
    ended = exchange.state is ENDED
    return {
        "id": id,
        "began": began,
        "duration": duration,
        "client": exchange.clientAddress,
        "method": _cut(exchange.request.line.method),
        "path": _cut(exchange.request.line.path),
        "status": exchange.status,
        "upstreamStatus": exchange.upstreamStatus,
        "answeredBy": whoAnswered(exchange),
        "acted": list(exchange.acted),
        "attempts": exchange.attempts,
        "bytesIn": exchange.bytesIn,
        "bytesOut": exchange.bytesOut,
        "steps": steps,
        "state": exchange.state,
        "why": explained(exchange) if ended else exchange.state,
        "failed": _failed(exchange),
    }


class _Last:
    """The last so many of one kind, and in one second no more than that."""

    def __init__(self, most: int) -> None:
        self.kept: deque[ExchangeFacts] = deque(maxlen=most)
        self._most = self._left = most
        self._until = float("-inf")

    def takes(self, now: float) -> bool:
        """Whether one more is wanted now."""
        if now >= self._until:
            self._until = now + 1
            self._left = self._most
        self._left -= 1
        return self._left >= 0


@implementer(IExchangeObserver)
class History:
    """The exchanges of one process, as L{Exchanges}."""

    def __init__(self, clock: IReactorTime, now: Callable[[], float], process: int) -> None:
        """
        @param clock: that of the exchanges.
        @param now: seconds since 1970.
        @param process: the number of this process, or any that no other has.
        """
        self._process = process
        self._clock = clock
        self._now = now
        self._until = float("-inf")
        self._count = count(1)
        # Those that were told while they were open keep their names.
        self._ids: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._ended = _Last(MAX_RECENT)
        # Those that clients made fail have a place of their own: a scanner's many
        # must not push out the service's few.
        self._failed = _Last(MAX_FAILED // 2)
        self._clients = _Last(MAX_FAILED // 2)

    def exchangeFinished(self, exchange: Any) -> None:
        """Note it down, if it failed or somebody looks.  See L{IExchangeObserver}."""
        failure = exchange.failure
        # As in _failed, written out: this is all that is done for most.
        if (
            failure is None
            and (exchange.upstreamStatus or exchange.status) < 500
            and exchange.began >= self._until
        ):
            return
        kinds = []
        if exchange.began < self._until:
            kinds.append(self._ended)
        if _failed(exchange):
            theirs = failure is not None and failure.side is Side.CLIENT
            kinds.append(self._clients if theirs else self._failed)
        now = self._clock.seconds()
        kinds = [each for each in kinds if each.takes(now)]
        if kinds:
            facts = self._facts(exchange)
            for each in kinds:
                each.kept.append(facts)

    def _facts(self, exchange: Any) -> ExchangeFacts:
        id = self._ids.get(exchange)
        if id is None:
            id = self._ids[exchange] = f"{self._process}-{next(self._count)}"
        ago = self._clock.seconds() - exchange.began
        duration = ago if exchange.duration is None else exchange.duration
        return factsOf(exchange, id, self._now() - ago, duration)

    def exchanges(self, underWay: Iterable[Any]) -> Exchanges:
        """
        What was noted down, and these; from now on, for L{ATTENTION}, others are
        noted down too.
        """
        self._until = self._clock.seconds() + ATTENTION
        longest = sorted(underWay, key=lambda each: each.began)[:MAX_OPEN]
        return together(
            [
                {
                    "failed": [*reversed(self._failed.kept), *reversed(self._clients.kept)],
                    "recent": [*reversed(self._ended.kept)],
                    "open": [self._facts(each) for each in longest],
                }
            ]
        )
