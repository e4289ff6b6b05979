"""
C{retry}: sends a request again after a failure, where that is safe.

Only requests with safe methods are sent again (RFC 9110, section 9.2.1): one request too
many does no harm.  sitio decides whether the request can still be sent.

Each pause is shortened at random by up to half, so that clients that failed at the same time
do not return at the same time.  Retry-After of the response prolongs the pause, up to
L{MAX_PAUSE_SECONDS}.  After a longer Retry-After there is no retry, as no client should wait
so long for a response.

sitio decides whether the budget of the upstream has a retry left (L{sitio.upstream.budget}): so an
upstream that is down gets some 20 % more requests than its clients send, and not several times
as many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from random import random
from typing import Annotated

from attrs import define, field
from zope.interface import implementer

from sitio.http.grammar import SAFE_METHODS
from sitio.http.message import Response, Retry
from sitio.http.retryafter import retryAfter
from sitio.interfaces import IExchange, IResponsePolicy
from sitio.policy.kinds import Duration, Statuses
from sitio.policy.options import About

#: The largest value of C{times}: more retries would make an outage worse.
MAX_TIMES = 10

#: The longest pause, as a client waits and its request occupies the proxy.
MAX_PAUSE_SECONDS = 5.0


@implementer(IResponsePolicy)
@define(eq=False)
class Retries:
    """
    Has requests sent again after failures; see the module's docstring.

    @ivar times: how often one request is sent again at most.
    @ivar statuses: the statuses to retry after.
    @ivar after: seconds of the first pause.
    @ivar now: the time of day, in seconds since 1970, for dates in Retry-After.
    @ivar random: a random number from 0 to 1.
    """

    times: int = 2
    statuses: Container[int] = frozenset((502, 503, 504))
    after: float = 0.1
    now: Callable[[], float] = time.time
    random: Callable[[], float] = random
    buffered: bool = field(default=False, init=False)

    def responseReceived(self, exchange: IExchange, response: Response) -> Retry | None:
        """Return a L{Retry}, or L{None} if it is not safe, or if C{Retry-After} is too long."""
        done = exchange.notes.get(self, 0)
        if exchange.request.method not in SAFE_METHODS or done >= self.times:
            return None
        pause = min(MAX_PAUSE_SECONDS, self.after * 2**done) * (1 - self.random() / 2)
        asked = retryAfter(response.headers, self.now())
        if asked > MAX_PAUSE_SECONDS:
            return None
        exchange.notes[self] = done + 1
        return Retry(max(pause, asked))


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
