"""
Histograms of durations: the bounds of their buckets, sums and quantiles.

A histogram with I{n} bounds has I{n + 1} counts.  Count I{i} is how many durations
are at most bound I{i} and above the bound before it; the last count is how many
are above all bounds.

Contract: pure; numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import add, sub
from typing import TypedDict

#: Upper bounds of the latency buckets in seconds, inclusive: those of OpenTelemetry's
#: HTTP conventions, and three smaller ones, as a service on the same host often
#: answers faster than their smallest, 5 ms.
LATENCY_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)

#: The same for the time that sitio adds, which is mostly below a millisecond.
ADDED_BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)


class Histogram(TypedDict):
    """Durations by L{LATENCY_BOUNDS}: C{latency} has the counts, C{seconds} is the sum."""

    latency: list[int]
    seconds: float


def noCounts(bounds: Sequence[float]) -> list[int]:
    """The counts of an empty histogram."""
    return [0] * (len(bounds) + 1)


def addCounts(one: Iterable[int], two: Iterable[int]) -> list[int]:
    """The counts of two histograms with the same bounds, added up."""
    return list(map(add, one, two))


def subtractCounts(newer: Iterable[int], older: Iterable[int]) -> list[int]:
    """What was counted between two states of one histogram."""
    return list(map(sub, newer, older))


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """
    Estimate the value that a share of the durations do not exceed.

    The estimate lies in the same bucket as the exact quantile, interpolated between
    the bounds of that bucket.  The last bucket has no upper bound: there the estimate
    is its lower bound.

    @param share: C{0.5} for the median; more than 0, at most 1.

    @return: in the unit of the bounds, or L{None} for an empty histogram.
    """
    rank = share * sum(counts)
    below = 0
    for index, count in enumerate(counts[:-1]):
        if count and below + count >= rank:
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * (rank - below) / count
        below += count
    return bounds[-1] if counts[-1] else None
