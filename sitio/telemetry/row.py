"""
The counters of one endpoint: L{Row}.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from operator import add
from typing import Any

from attrs import define, field

from sitio.net.turns import Steps
from sitio.telemetry import outcomes
from sitio.telemetry.histogram import (
    FINE_BOUNDS,
    LATENCY_BOUNDS,
    Histogram,
    noCounts,
)
from sitio.telemetry.outcomes import Outcome
from sitio.telemetry.snapshot import Metrics

#: Outcomes that one row tells apart; more are counted by the classes of their statuses.
#: An endpoint has a handful, unless it makes up statuses.
MAX_OUTCOMES = 32

#: The same of a row to which others are added: more than there are statuses, as what they told
#: apart must stay so, or counters of Prometheus fall.  100 KiB at most.
MAX_ADDED_OUTCOMES = 1024

#: Outcomes that are read as one piece.
_PIECE = 32

#: Counts of a histogram with L{LATENCY_BOUNDS}, then the sum in seconds: a plain list, as
#: that is the fastest to count in.
Durations = list[Any]

_Counters = dict[Outcome, tuple[Durations, Durations | None]]


_NO_DURATIONS: Durations = [*noCounts(LATENCY_BOUNDS), 0.0]

#: Makes the durations of nothing.
noDurations = _NO_DURATIONS.copy


def asHistogram(durations: Durations) -> Histogram:
    """The same as plain data."""
    return {"counts": durations[:-1], "seconds": durations[-1]}


def sumUp(several: Iterable[list[Any]]) -> list[Any]:
    """The sums of the counts of several histograms."""
    return list(map(sum, zip(*several)))


def _addTo(ours: Durations, theirs: Durations) -> None:
    ours[:] = map(add, ours, theirs)


@define(eq=False)
class Row:
    """
    The counters of one endpoint, in the form that is fastest to count in.

    @ivar hits: how many exchanges were counted.
    @ivar latency: counts of a histogram with L{FINE_BOUNDS}.
    @ivar outcomes: for each outcome the durations of its exchanges, and those of the attempts
        that end in the same way, which all rows share; L{None} where there is no attempt, or
        more to do than to count one.
    @ivar last: when the last exchange began.
    @ivar told: the metrics that were read last, when there were C{toldHits}: of most rows
        nothing has changed when they are read again.  Nobody changes it.
    """

    hits: int = 0
    bytesIn: int = 0
    bytesOut: int = 0
    latency: list[int] = field(factory=noCounts(FINE_BOUNDS).copy)
    outcomes: _Counters = field(factory=dict)
    last: float = 0.0
    told: Metrics | None = None
    toldHits: int = 0

    def durationsOf(
        self, outcome: Outcome, attempts: Durations | None = None, most: int = MAX_OUTCOMES
    ) -> Durations:
        """
        The durations of an outcome; those of its classes if there are too many.

        @param attempts: the durations of attempts that belong to it.
        @param most: how many are told apart.
        """
        if outcome not in self.outcomes and len(self.outcomes) >= most:
            sent, upstream, name = outcome
            outcome, attempts = (sent and classOf(sent), upstream and classOf(upstream), name), None
        return self.outcomes.setdefault(outcome, (noDurations(), attempts))[0]

    def copy(self) -> Row:
        """The counters as they are now, to be read in steps."""
        kept: _Counters = {each: (spent[:], None) for each, (spent, _) in self.outcomes.items()}
        return Row(self.hits, self.bytesIn, self.bytesOut, self.latency[:], kept)

    def add(self, others: Collection[Row]) -> None:
        """Add the counters of other rows."""
        self.latency = sumUp([self.latency, *[each.latency for each in others]])
        for other in others:
            self.hits += other.hits
            self.bytesIn += other.bytesIn
            self.bytesOut += other.bytesOut
            for outcome, (theirs, _) in other.outcomes.items():
                _addTo(self.durationsOf(outcome, most=MAX_ADDED_OUTCOMES), theirs)

    def metrics(self) -> Steps[Metrics]:
        """The counters as plain data."""
        metrics: Metrics = {
            "hits": self.hits,
            "failed": 0,
            "sentFailed": 0,
            "statuses": {},
            "upstreamStatuses": {},
            "broken": {},
            "sentBroken": {},
            "masked": {},
            "bytesIn": self.bytesIn,
            "bytesOut": self.bytesOut,
            "latency": self.latency,
            "seconds": 0.0,
            "upstreamSeconds": {},
            "underWay": 0,
        }
        for number, (outcome, (spent, _)) in enumerate(self.outcomes.items()):
            _count(metrics, outcome, sum(spent[:-1]), spent[-1])
            if number % _PIECE == _PIECE - 1:
                yield _PIECE
        return metrics

    def histograms(self) -> Steps[dict[str, Histogram]]:
        """Histograms of durations, by sent status and what ended the response early."""
        durations: dict[str, Durations] = {}
        for number, (outcome, (spent, _)) in enumerate(self.outcomes.items()):
            _addTo(durations.setdefault(keyOf(outcome[0], outcome[2]), noDurations()), spent)
            if number % _PIECE == _PIECE - 1:
                yield _PIECE
        return {key: asHistogram(each) for key, each in durations.items()}


@lru_cache(MAX_ADDED_OUTCOMES)
def _meaningOf(outcome: Outcome) -> tuple[str, str, bool, bool, bool, bool]:
    """Sent and upstream status of an outcome, as they are shown, and what it counts as."""
    sent = "499" if outcome[2] == outcomes.CLIENT_GONE else nameOf(outcome[0])
    upstream = sent if outcome[1] is None else nameOf(outcome[1])
    return (
        *(sent, upstream, outcomes.failed(outcome), outcomes.sentFailed(outcome)),
        *(outcomes.masked(outcome), outcomes.brokeOff(outcome)),
    )


def _count(metrics: Metrics, outcome: Outcome, times: int, seconds: float) -> None:
    """Add so many exchanges with one outcome, but for their histogram."""
    sent, upstream, failed, sentFailed, masked, brokeOff = _meaningOf(outcome)
    metrics["seconds"] += seconds
    _tally(metrics["statuses"], sent, times)
    _tally(metrics["upstreamStatuses"], upstream, times)
    _tally(metrics["upstreamSeconds"], upstream, seconds)
    metrics["failed"] += failed and times
    metrics["sentFailed"] += sentFailed and times
    if masked:
        _tally(metrics["masked"], upstream, times)
    if brokeOff:
        _tally(metrics["broken"], upstream, times)
        _tally(metrics["sentBroken"], sent, times)


def _tally(counts: dict[str, Any], name: str, more: float) -> None:
    counts[name] = counts.get(name, 0) + more


def classOf(status: int) -> int:
    """The class of a status, 1 to 9; a class is its own class."""
    return status // 100 or status


def nameOf(status: int | None) -> str:
    """A status as a text: C{404}, C{4xx} for a class, C{none}."""
    if status is None:
        return "none"
    return str(status) if status > 9 else f"{status}xx"


def keyOf(status: int | None, name: str | None) -> str:
    """The key of a histogram: C{200}, or C{200 connection_lost}."""
    return nameOf(status) if name is None else f"{nameOf(status)} {name}"
