"""
How many retries an upstream takes: L{Budget}.

Requests that fail are sent again.  If all of them were, an upstream that is down would get
several times its load, and might never recover.  So there are at most a share of retries, of the
requests of the last ten seconds, and a few for services with few requests.

Contract: pure; the time is passed in.
"""

from __future__ import annotations

from collections import deque
from typing import TypedDict

#: Seconds for which requests and retries count.  Longer than most failures that a retry helps
#: against, and shorter than it takes until the load is another one.
WINDOW_SECONDS = 10

#: Retries as a share of the requests.
SHARE = 0.2

#: Retries in each second of the window, however few requests there are: each process has as many.
MINIMUM = 1.0


class RetryCounts(TypedDict):
    """What a budget has counted; see L{Budget}."""

    retries: int
    hedges: int
    refused: int


class Budget:
    """
    Counts the requests to one upstream, and allows retries in proportion to them.

    In a window of ten seconds, of which the last has not ended, there are at most C{share *
    requests + minimum * 10} retries.  A retry counts at least as long as each request that it was
    allowed for.  So over any time too, retries are at most that share of the requests, and the
    minimum.

    An exchange counts itself, as that is quicker than a call::

        if now >= budget.until:
            budget.turn(now)
        budget.requests += 1

    @ivar requests: those that have begun in the current second.
    @ivar until: the end of that second.
    @ivar retries: how many there were since the start.  Here and below those count that were not
        asked for, too (L{note}).
    @ivar refused: how many were asked for and refused.
    @ivar hedges: how many of the retries ran beside the first attempt.
    """

    __slots__ = ("_before", "_past", "_retries", "hedges", "minimum", "refused", "requests",
                 "retries", "share", "until")  # fmt: skip

    def __init__(self, now: float, share: float = SHARE, minimum: float = MINIMUM) -> None:
        """
        @param now: in seconds, as in all methods.
        @param share: retries as a share of the requests, 0 to 1.
        @param minimum: retries per second that are allowed however few requests there are.
        """
        self.share = share
        self.minimum = minimum
        self.until = now + 1
        self.requests = 0
        self.retries = self.refused = self.hedges = 0
        # Retries in the current second; requests and retries in each of those before, and in all
        # of these.
        self._retries = 0
        self._past: deque[tuple[int, int]] = deque(maxlen=WINDOW_SECONDS - 1)
        self._before = (0, 0)

    def __repr__(self) -> str:
        return f"<Budget {self.retries} retries, {self.refused} refused>"

    def turn(self, now: float) -> None:
        """A second has ended, or several."""
        passed = int(now - self.until) + 1
        self._past.append((self.requests, self._retries))
        self._past.extend(((0, 0),) * min(passed - 1, WINDOW_SECONDS))
        self._before = (sum(each for each, _ in self._past), sum(each for _, each in self._past))
        self.requests = self._retries = 0
        self.until += passed

    def counts(self) -> RetryCounts:
        """What was counted since the start, for metrics."""
        return {"retries": self.retries, "hedges": self.hedges, "refused": self.refused}

    def spend(self, now: float) -> bool:
        """
        Take one retry.

        @return: whether there was one left.
        """
        if now >= self.until:
            self.turn(now)
        requests, retries = self._before
        most = self.share * (requests + self.requests) + self.minimum * WINDOW_SECONDS
        if retries + self._retries + 1 > most:
            self.refused += 1
            return False
        self._count()
        return True

    def note(self, now: float) -> None:
        """Count a retry that happens in any case: fewer others are left."""
        if now >= self.until:
            self.turn(now)
        self._count()

    def _count(self) -> None:
        self._retries += 1
        self.retries += 1
