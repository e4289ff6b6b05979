"""
C{retry}: sends a request again after a failure, where that is safe.

Only requests with safe methods are sent again (RFC 9110, section 9.2.1): one request too
many does no harm.  sitio decides whether the request can still be sent.

Each pause is shortened at random by up to half, so that clients that failed at the same time
do not return at the same time.  Retry-After of the response prolongs the pause, up to
L{MAX_PAUSE_SECONDS}.  After a longer Retry-After there is no retry, as no client should wait
so long for a response.

The budget: each exchange that reached the upstream earns 0.2 retries, and each retry costs 1.
So an upstream that is down gets about 20 % more requests than its clients send, and not
several times as many.  In addition there are 10 retries at the start, and 1 more each second,
for services with so few requests that they would earn none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container
from random import random
from typing import Annotated

from attrs import define, field
from zope.interface import implementer

from sitio.http.dates import parseDate
from sitio.http.grammar import SAFE_METHODS
from sitio.http.message import Response, Retry
from sitio.interfaces import IExchange, IExchangeObserver, IResponsePolicy
from sitio.policy.kinds import Duration, Statuses
from sitio.policy.options import About

#: The largest value of C{times}: more retries would make an outage worse.
MAX_TIMES = 10

#: The longest pause, as a client waits and its request occupies the proxy.
MAX_PAUSE_SECONDS = 5.0

#: Retries earned by an exchange, earned each second, available at the start, and saved at
#: most.  The last is bounded, as retries earned long ago say nothing about the load that the
#: upstream can take now.
EARNED_PER_EXCHANGE = 0.2
EARNED_PER_SECOND = 1.0
INITIAL_RETRIES = 10.0
MAX_SAVED_RETRIES = 100.0


@define(eq=False)
class Budget:
    """How many retries are available; see the module's docstring."""

    left: float = INITIAL_RETRIES
    _at: float | None = field(default=None, init=False)

    def earn(self) -> None:
        """Count an exchange that reached the upstream."""
        self.left = min(MAX_SAVED_RETRIES, self.left + EARNED_PER_EXCHANGE)

    def spend(self, now: float) -> bool:
        """
        Take one retry, if one is available.

        @param now: seconds on a clock.  If the clock goes back, nothing changes.

        @return: whether there was one.
        """
        if self._at is not None:
            earned = max(0.0, now - self._at) * EARNED_PER_SECOND
            self.left = min(MAX_SAVED_RETRIES, self.left + earned)
        self._at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@implementer(IResponsePolicy, IExchangeObserver)
@define(eq=False)
class Retries:
    """
    Has requests sent again after failures; see the module's docstring.

    @ivar times: how often one request is sent again at most.
    @ivar statuses: the statuses to retry after.
    @ivar after: seconds of the first pause.
    @ivar seconds: a monotonic clock, in seconds, for the budget.
    @ivar now: the time of day, in seconds since 1970, for dates in Retry-After.
    @ivar random: a random number from 0 to 1.
    """

    times: int = 2
    statuses: Container[int] = frozenset((502, 503, 504))
    after: float = 0.1
    seconds: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    random: Callable[[], float] = random
    buffered: bool = field(default=False, init=False)
    budget: Budget = field(factory=Budget, init=False)

    def responseReceived(self, exchange: IExchange, response: Response) -> Retry | None:
        """Return a L{Retry}, or L{None} if it is not safe or the budget is used up."""
        done = exchange.notes.get(self, 0)
        if exchange.request.method not in SAFE_METHODS or done >= self.times:
            return None
        pause = min(MAX_PAUSE_SECONDS, self.after * 2**done) * (1 - self.random() / 2)
        asked = self._retryAfter(response)
        if asked > MAX_PAUSE_SECONDS or not self.budget.spend(self.seconds()):
            return None
        exchange.notes[self] = done + 1
        return Retry(max(pause, asked))

    def exchangeFinished(self, exchange: IExchange) -> None:
        """Let an exchange that reached the upstream earn its part of a retry."""
        if exchange.attempts:
            self.budget.earn()

    def _retryAfter(self, response: Response) -> float:
        """The seconds in Retry-After, in either of its forms, or 0 (RFC 9110, section 10.2.3)."""
        text = response.headers.get("Retry-After") or ""
        if re.fullmatch("[0-9]+", text):
            return int(text[:9])
        date = parseDate(text)
        return 0 if date is None else max(0, date - self.now())


def makePolicy(
    *,
    times: Annotated[
        int, About("how often one request is sent again at most", least=1, most=MAX_TIMES)
    ] = 2,
    statuses: Annotated[
        Statuses, About("the statuses, of responses and of failed attempts, to retry after")
    ] = frozenset((502, 503, 504)),
    after: Annotated[
        Duration, About("the first pause; it doubles with each attempt", 0, MAX_PAUSE_SECONDS)
    ] = 0.1,
) -> Retries:
    """Send a request again after a failure, where that is safe."""
    return Retries(times, statuses, after)
