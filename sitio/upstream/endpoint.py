"""
One endpoint of an upstream: L{Endpoint}.

It has a pool of connections of its own, counts what came of its requests, and knows whether
it should get more of them.  L{sitio.upstream.ejection} and L{sitio.upstream.health} decide
that; L{sitio.upstream.cluster} acts on it.
"""

from __future__ import annotations

from typing import Protocol, TypedDict

from twisted.internet.interfaces import IReactorTime

from sitio.errors import Side, SitioError
from sitio.upstream.pool import UpstreamPool

# The states of an endpoint, for people.
HEALTHY = "healthy"
WARMING = "warming"  # returned or new: its share grows (slow start)
UNHEALTHY = "unhealthy"  # its active health checks fail
EJECTED = "ejected"  # too many of its requests failed in a row
DRAINING = "draining"  # it has left the upstream; what is under way ends

#: Statuses of 500 and above that speak of the request, and not of the endpoint: a client
#: that sends unknown methods must not take endpoints out of service.
BLAMELESS = frozenset((501, 505))

#: The smallest part of its share that an endpoint gets during its slow start: with less it
#: would get no request for a long time.
LEAST_SHARE = 0.05

#: Characters of the sentence about the last failure.
MAX_SENTENCE = 200


class Judge(Protocol):
    """Decides what becomes of an endpoint that fails."""

    def failedInARow(self, endpoint: Endpoint) -> None:
        """The endpoint has failed once more; C{endpoint.inARow} is how often in a row."""


class EndpointSnapshot(TypedDict):
    """
    An endpoint at one moment.

    C{states} has the state with a count of one.  C{outstanding} requests have a connection or
    wait for one; C{open} and C{idle} are connections.  C{sent} requests were sent so far.
    C{answered} attempts got a response; C{failed} ones got none, a connection included, or one
    that counts as a failure; both are 0 where nothing judges the endpoint.  C{seconds} is the
    sum of the waits for these responses.  C{lastFailure} is a sentence, or empty.
    """

    address: str
    states: dict[str, int]
    weight: int
    outstanding: int
    open: int
    idle: int
    sent: int
    answered: int
    failed: int
    seconds: float
    ejections: int
    lastFailure: str


class UpstreamSnapshot(TypedDict):
    """
    An upstream at one moment.  C{problem} is a sentence about what is wrong with all of it,
    or empty.  C{judged} is whether endpoints may be taken out of service.  C{retries} were made,
    C{hedges} of them beside the first attempt, and C{refused} were refused by the budget.
    """

    name: str
    problem: str
    judged: bool
    retries: int
    hedges: int
    refused: int
    endpoints: list[EndpointSnapshot]


def unjudged(address: str, pool: UpstreamPool) -> EndpointSnapshot:
    """What there is to know of an endpoint that nothing judges."""
    connections = pool.snapshot()
    return {
        "address": address,
        "states": {HEALTHY: 1},
        "weight": 1,
        "outstanding": pool.outstanding,
        "open": connections["open"],
        "idle": connections["idle"],
        "sent": pool.sent,
        "answered": 0,
        "failed": 0,
        "seconds": 0.0,
        "ejections": 0,
        "lastFailure": "",
    }


class Endpoint:
    """
    One endpoint of an upstream.

    @ivar address: as metrics and logs name it: C{10.0.0.1:8087}.
    @ivar weight: its share in relation to others; 1 or more.
    @ivar pool: its connections.
    @ivar isHealthy: whether its active health checks succeed, or there are none.
    @ivar isEjected: whether it gets no requests for a while, as too many failed.
    @ivar isDraining: whether it has left the upstream.
    @ivar inARow: how many of its requests have failed in a row.
    @ivar ejections: how often it was ejected.
    @ivar lastFailure: a sentence without a full stop; empty if there was none.
    """

    def __init__(
        self,
        address: str,
        weight: int,
        pool: UpstreamPool,
        clock: IReactorTime,
        slowStart: float = 0.0,
        judge: Judge | None = None,
    ) -> None:
        """
        @param slowStart: seconds in which its share grows after L{warm}; 0 for none.
        @param judge: told of each failure.
        """
        self.address = address
        self.weight = weight
        self.pool = pool
        self.isHealthy = True
        self.isEjected = False
        self.isDraining = False
        self.inARow = 0
        self.ejections = 0
        self._clock = clock
        self._slowStart = slowStart
        self._judge = judge
        self._warmAt = float("-inf")
        self._waits = (0.0, 0.0, 0.0)
        self._answered = 0
        self._failed = 0
        self._seconds = 0.0
        self.lastFailure = ""

    def __repr__(self) -> str:
        return f"<Endpoint {self.address} {self.state}>"

    # --- What came of its requests

    def answered(self, status: int, seconds: float) -> None:
        """
        An attempt has got the head of a response.

        @param seconds: since the request was sent.
        """
        self._answered += 1
        self._seconds += seconds
        _, before, last = self._waits
        self._waits = (before, last, seconds)
        if status < 500 or status in BLAMELESS:
            self.inARow = 0
        else:
            self._hasFailed(f"it answered {status}")

    def failed(self, error: SitioError) -> None:
        """
        An attempt has got no response.  What was not the endpoint's fault, such as a client
        that has gone, is not counted.
        """
        if error.side is Side.UPSTREAM:
            self._hasFailed(str(error))

    def _hasFailed(self, sentence: str) -> None:
        self._failed += 1
        self.inARow += 1
        self.lastFailure = sentence[:MAX_SENTENCE]
        if self._judge is not None:
            self._judge.failedInARow(self)

    # --- Whether it gets more of them

    @property
    def isUsable(self) -> bool:
        """Whether requests should go to it."""
        return self.isHealthy and not self.isEjected

    @property
    def wait(self) -> float:
        """
        The shortest of the waits for its last three responses, in seconds; 0 before there are
        three.  Single requests that take long don't change it.
        """
        return min(self._waits)

    @property
    def responses(self) -> int:
        """How many responses it has sent."""
        return self._answered

    def warm(self) -> None:
        """Begin the slow start: from now on its share grows to its weight."""
        self._warmAt = self._clock.seconds() + self._slowStart

    def share(self, now: float) -> float:
        """
        Its weight, as far as its slow start has got.

        @param now: in seconds on its clock.
        """
        left = self._warmAt - now
        if left <= 0:
            return self.weight
        return self.weight * max(LEAST_SHARE, 1 - left / self._slowStart)

    def isWarming(self, now: float) -> bool:
        """Whether its share still grows."""
        return now < self._warmAt

    @property
    def state(self) -> str:
        """Its state, for people."""
        if self.isDraining:
            return DRAINING
        if self.isEjected:
            return EJECTED
        if not self.isHealthy:
            return UNHEALTHY
        return WARMING if self.isWarming(self._clock.seconds()) else HEALTHY

    def failing(self, sentence: str) -> None:
        """Remember why a health check has failed."""
        self.lastFailure = sentence[:MAX_SENTENCE]

    def snapshot(self) -> EndpointSnapshot:
        """What there is to know of it, as plain data."""
        return {
            **unjudged(self.address, self.pool),
            "states": {self.state: 1},
            "weight": self.weight,
            "answered": self._answered,
            "failed": self._failed,
            "seconds": self._seconds,
            "ejections": self.ejections,
            "lastFailure": self.lastFailure,
        }
