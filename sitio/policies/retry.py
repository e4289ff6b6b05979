"""
C{retry}: ask the upstream again after a failure, where that is safe.

Options, each of them optional::

    times=N             how often one request is sent again at most (2)
    statuses=STATUSES   which responses, and failed attempts, call for it (502,503,504)
    after=SECONDS       the first pause, doubled from attempt to attempt (0.1)

Only requests of safe methods are repeated: those ask for nothing but a response (RFC
9110, section 9.2.1), so that one too many does no harm.  C{exchange} alone decides
whether a request still can be sent again.

A pause is cut at random by up to a half: clients that failed together must not
come back together.  Retry-After of the response makes it longer, up to L{PATIENCE};
an upstream that asks for more is not asked again, as no client should wait so long
without a word.

The budget: each exchange that reached the upstream earns a fifth of a retry, and
each retry costs a whole one, so that a dead upstream gets about 20 % more requests
than its clients send, and not several times as many.  Beside that there are ten
retries to begin with and one more each second, which add up to no harm, for a
service that is asked so seldom that it would earn none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container
from random import random

from attrs import define, field
from zope.interface import implementer

from sitio.http.dates import parseDate
from sitio.http.grammar import SAFE_METHODS
from sitio.http.message import Response, Retry, parseStatuses
from sitio.interfaces import IExchange, IExchangeObserver, IResponsePolicy

#: The most that C{times} may be: beyond it, trying again is what an outage is made of.
MAX_TIMES = 10

#: Seconds of the longest pause: a client waits, and its request holds a place.
PATIENCE = 5.0

#: Retries that an exchange earns, that come with each second, that are there to
#: begin with, and that can be saved up: what was earned long ago says nothing
#: about what the upstream can bear now.
EARNED = 0.2
PER_SECOND = 1.0
AT_FIRST = 10.0
SAVED = 100.0


@define(eq=False)
class Budget:
    """How many retries there are; see the head of this module."""

    left: float = AT_FIRST
    _at: float | None = field(default=None, init=False)

    def earn(self) -> None:
        """An exchange has reached the upstream."""
        self.left = min(SAVED, self.left + EARNED)

    def spend(self, now: float) -> bool:
        """
        Take one retry, if there is one.

        @param now: seconds on a clock; where it goes back, nothing is lost or won.
        """
        if self._at is not None:
            self.left = min(SAVED, self.left + max(0.0, now - self._at) * PER_SECOND)
        self._at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@implementer(IResponsePolicy, IExchangeObserver)
@define(eq=False)
class Retries:
    """
    Has requests sent again; see the head of this module.

    @ivar times: how often one request is, at most.
    @ivar statuses: after which responses.
    @ivar after: seconds of the first pause.
    @ivar seconds: the time, in seconds since 1970.
    @ivar chance: a random number from 0 to 1.
    """

    times: int = 2
    statuses: Container[int] = frozenset((502, 503, 504))
    after: float = 0.1
    seconds: Callable[[], float] = time.time
    chance: Callable[[], float] = random
    buffered: bool = field(default=False, init=False)
    budget: Budget = field(factory=Budget, init=False)

    def responseReceived(self, exchange: IExchange, response: Response) -> Retry | None:
        """A L{Retry}, or L{None} where it's not safe, not welcome or too much."""
        done = exchange.notes.get(self, 0)
        if exchange.request.method not in SAFE_METHODS or done >= self.times:
            return None
        pause = min(PATIENCE, self.after * 2**done) * (1 - self.chance() / 2)
        asked = self._retryAfter(response)
        if asked > PATIENCE or not self.budget.spend(self.seconds()):
            return None
        exchange.notes[self] = done + 1
        return Retry(max(pause, asked))

    def exchangeFinished(self, exchange: IExchange) -> None:
        """What reached the upstream earns a part of a retry."""
        if exchange.attempts:
            self.budget.earn()

    def _retryAfter(self, response: Response) -> float:
        """The seconds that Retry-After asks for, in either form; 0 for none (RFC 9110, 10.2.3)."""
        text = response.headers.get("Retry-After") or ""
        if re.fullmatch("[0-9]+", text):
            return int(text[:9])
        date = parseDate(text)
        return 0 if date is None else max(0, date - self.seconds())


def makePolicy(*, times: str = "2", statuses: str = "502,503,504", after: str = "0.1") -> Retries:
    """
    C{retry[:times=N][:statuses=STATUSES][:after=SECONDS]}: see the head of this module.

    @raise ValueError: a value that is none, in one sentence.
    """
    if not re.fullmatch("[0-9]{1,2}", times) or not 1 <= int(times) <= MAX_TIMES:
        raise ValueError(f"times={times}: a whole number from 1 to {MAX_TIMES} is expected")
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", after) or float(after) > PATIENCE:
        raise ValueError(f"after={after}: seconds from 0 to {PATIENCE:g} are expected")
    return Retries(int(times), parseStatuses(statuses), float(after))
