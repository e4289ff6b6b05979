"""
Decides when masking stops: L{Budget}.

Each good response that gets through renews the stored one, so a service that fails nearly
always would be masked for ever.  Hence good responses and failures are counted over windows
of L{WINDOW_SECONDS}.  When failures have prevailed for the whole budget, masking stops until
there is a window in which they do not.  As many good responses as failures is a tie: masking
goes on.  A window without responses says nothing.

They are counted twice, each time against the same budget:

  - B{by endpoint}: method and path, as in the metrics.  An endpoint that fails is unmasked,
    and the others are not.
  - B{in all}: by paths, not by responses.  If at two paths or more failures prevail, and at
    fewer of them good responses, that is an outage of the whole service, even if each path is
    asked too rarely to use up a budget.  A path counts once, however often it fails, and by
    whatever method.

Only an endpoint with failures has a row, so that a healthy service pays nothing.  A row ends
with the outage, or after the largest age of a response without any: nothing is left to be sent
then.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define
from twisted.logger import Logger

#: Seconds over which good responses and failures are counted against each other: short
#: beside any budget, and long enough for a few requests.
WINDOW_SECONDS = 10

#: Endpoints with failures that are told apart, as many as in the metrics; all others count
#: as one.
MAX_ENDPOINTS = 512

#: Characters of the longest path that is an endpoint of its own, as in the metrics.
MAX_ROUTE = 256

#: Failing paths from which the failures may be the whole service's.
MIN_FAILING = 2

#: Seconds between two lines of the log.
LOG_INTERVAL_SECONDS = 60

#: Method and path.
Endpoint = tuple[str, str]

_OTHER = ("", "(other)")


@define(eq=False)
class _Outage:
    """
    A time in which failures prevail.

    @ivar since: when it began.
    @ivar windowBegan: when the window at hand began.
    @ivar seen: when the last response was counted.
    @ivar good: good responses in this window.
    @ivar failed: failures in this window.
    @ivar allGood: good responses since the outage began.
    @ivar allFailed: failures since then.
    """

    since: float
    windowBegan: float
    seen: float
    good: int = 0
    failed: int = 0
    allGood: int = 0
    allFailed: int = 0
    warned: bool = False

    def isOver(self, now: float) -> bool:
        """Start another window if it is time; return whether failures did not prevail in it."""
        if now - self.windowBegan < WINDOW_SECONDS:
            return False
        isOver = 0 < self.good >= self.failed
        self.windowBegan = now
        self.good = self.failed = 0
        return isOver


class Budget:
    """
    Whether failures may still be masked.

    Times are seconds on a clock that never goes back.

    @ivar outages: those of endpoints; while there are none, good responses need no count.
    """

    log = Logger()

    def __init__(self, seconds: float, maxAge: float) -> None:
        """
        @param seconds: how long failures may prevail while they are masked.
        @param maxAge: how old a response may be that masks.
        """
        self._seconds = seconds
        self._maxAge = maxAge
        # The last one is that in which a response was counted last.
        self.outages: OrderedDict[Endpoint, _Outage] = OrderedDict()
        self._whole: _Outage | None = None
        # Good responses less failures of each path, in the window at hand of all.
        self._balances: dict[str, int] = {}
        self._windowBegan = float("-inf")
        # Paths that failed, and those that did not, in the window before.
        self._before = (0, 0)
        # By the text of a line: when it was logged last, and how often it was not since then.
        self._loggedAt: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}

    def change(self, seconds: float, maxAge: float) -> None:
        """Have other times from now on; an outage that has begun goes on."""
        self._seconds, self._maxAge = seconds, maxAge

    def succeeded(self, endpoint: Endpoint, now: float) -> None:
        """Count a response that can be stored, or that confirms a stored one."""
        if not self.outages:
            return
        self._count(endpoint[1], 1, now)
        endpoint = self._rowFor(endpoint)
        outage = self.outages.get(endpoint)
        if outage is None:
            return
        if outage.isOver(now):
            del self.outages[endpoint]
            if not self.outages:
                self._whole = None
        else:
            outage.good += 1
            outage.allGood += 1
            outage.seen = now
            self.outages.move_to_end(endpoint)

    def mayMask(self, endpoint: Endpoint, now: float) -> bool:
        """Count a failure that could be masked, and return whether it may be."""
        self._count(endpoint[1], -1, now)
        endpoint = self._rowFor(endpoint)
        outage = self.outages.get(endpoint)
        if outage is None or outage.isOver(now):
            outage = self.outages[endpoint] = _Outage(now, now, now)
        outage.failed += 1
        outage.allFailed += 1
        outage.seen = now
        self.outages.move_to_end(endpoint)
        mayMask = self._mayMaskAll(now)
        if now - outage.since < self._seconds:
            return mayMask
        if mayMask:
            # Else the line about the whole service says it.
            self._warn(
                outage,
                now,
                "last-good stops masking {method} {path}: {failed} failures and {good} good"
                " responses in {lasted:.0f} seconds ({unlogged} more such lines since the last)",
                method=endpoint[0],
                path=endpoint[1],
                failed=outage.allFailed,
                good=outage.allGood,
            )
        return False

    def _mayMaskAll(self, now: float) -> bool:
        failing = sum(each < 0 for each in self._balances.values())
        good = len(self._balances) - failing
        if self._whole is None:
            if failing >= MIN_FAILING and failing > good:
                self._whole = _Outage(now, self._windowBegan, now)
            return True
        if now - self._whole.since < self._seconds:
            return True
        # The window at hand may have just begun.
        failing, good = max((failing, good), self._before, key=sum)
        self._warn(
            self._whole,
            now,
            "last-good stops masking: {failed} paths fail and {good} do not, after {lasted:.0f}"
            " seconds ({unlogged} more such lines since the last)",
            failed=failing,
            good=good,
        )
        return False

    def _rowFor(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint as which it counts: the table is bounded."""
        if endpoint in self.outages:
            return endpoint
        full = len(self.outages) >= MAX_ENDPOINTS
        return _OTHER if full or len(endpoint[1]) > MAX_ROUTE else endpoint

    def _count(self, path: str, change: int, now: float) -> None:
        """Count a response in the window of all paths."""
        balances = self._balances
        if now - self._windowBegan >= WINDOW_SECONDS:
            good = sum(each >= 0 for each in balances.values())
            self._before = len(balances) - good, good
            if 0 < good >= len(balances) - good:
                self._whole = None
            self._windowBegan = now
            balances.clear()
            self._dropIdle(now)
        if path not in balances and (len(balances) >= MAX_ENDPOINTS or len(path) > MAX_ROUTE):
            path = _OTHER[1]
        balances[path] = balances.get(path, 0) + change

    def _dropIdle(self, now: float) -> None:
        """Drop the rows of endpoints of which no response is left that could mask."""
        outages = self.outages
        while outages:
            endpoint, outage = next(iter(outages.items()))
            if now - outage.seen <= self._maxAge:
                return
            del outages[endpoint]
        self._whole = None

    def _warn(self, outage: _Outage, now: float, what: str, **facts: object) -> None:
        """Log once for each outage that masking stops, at most one line of a kind in a minute."""
        if outage.warned:
            return
        outage.warned = True
        if now - self._loggedAt.get(what, float("-inf")) < LOG_INTERVAL_SECONDS:
            self._unlogged[what] = self._unlogged.get(what, 0) + 1
            return
        unlogged = self._unlogged.pop(what, 0)
        self.log.warn(what, lasted=now - outage.since, unlogged=unlogged, **facts)
        self._loggedAt[what] = now
