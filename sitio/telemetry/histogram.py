"""
Histograms of durations: the bounds of their buckets, sums and quantiles.

A histogram with I{n} bounds has I{n + 1} counts.  Count I{i} is how many durations
are at most bound I{i} and above the bound before it; the last count is how many
are above all bounds.

Contract: pure; numbers in, numbers out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import sqrt
from operator import sub
from typing import TypedDict


def _round(bound: float) -> float:
    """With four digits, so that a bound of other histograms is exactly the same number."""
    return float(f"{bound:.4g}")


#: Upper bounds of fine buckets in seconds, inclusive: 21 in each decade, from 10 us to 5000 s.
#: One is at most 13 % above the one before, so that the middle of a bucket is within 6 % of
#: each duration in it.  All other bounds here are among them.
FINE_BOUNDS = tuple(
    _round(start * 10**exponent * (end / start) ** (step / steps))
    for exponent in range(-5, 4)
    for start, end, steps in ((1.0, 2.5, 8), (2.5, 5.0, 6), (5.0, 7.5, 4), (7.5, 10.0, 3))
    for step in range(steps)
    if start * 10**exponent <= 2500
) + (5000.0,)

#: Upper bounds of the latency buckets that Prometheus gets, as each is a series for each
#: combination of labels: ten of those of OpenTelemetry's HTTP conventions, and 1 ms, as a
#: service on the same host often answers faster than their smallest, 5 ms.
LATENCY_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

#: Upper bounds of the cells in which the dashboard shows durations: three in each decade, so
#: that they are about equally high.
CELL_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

#: Those that Prometheus gets of the time that sitio adds, which is mostly below a millisecond.
ADDED_BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)


def coarser(bounds: Sequence[float]) -> tuple[int, ...]:
    """
    For each fine bucket the index of the bucket with these bounds in which it lies.

    @param bounds: some of L{FINE_BOUNDS}.
    """
    return tuple(bisect_left(bounds, each) for each in (*FINE_BOUNDS, float("inf")))


class Histogram(TypedDict):
    """Durations by L{LATENCY_BOUNDS}: C{counts}, and C{seconds}, their sum."""

    counts: list[int]
    seconds: float


def noCounts(bounds: Sequence[float]) -> list[int]:
    """The counts of an empty histogram."""
    return [0] * (len(bounds) + 1)


def subtractCounts(newer: Iterable[int], older: Iterable[int]) -> list[int]:
    """What was counted between two states of one histogram."""
    return list(map(sub, newer, older))


def regroup(counts: Iterable[int], buckets: Sequence[int]) -> list[int]:
    """
    The counts of fine buckets in coarser ones.

    @param buckets: from L{coarser}.
    """
    sums = [0] * (buckets[-1] + 1)
    for bucket, count in zip(buckets, counts):
        sums[bucket] += count
    return sums


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """
    Estimate the value that a share of the durations do not exceed: the middle of the bucket
    in which the exact quantile lies.

    It is the geometric middle, so with L{FINE_BOUNDS} it is at most 6 % off.  Nothing is
    interpolated: of durations that are all alike all quantiles are alike.  The first bucket
    has no lower bound, and the last no upper one: there the estimate is the bound that the
    bucket has.

    @param share: C{0.5} for the median; more than 0, at most 1.

    @return: in the unit of the bounds, or L{None} for an empty histogram.
    """
    totals = list(accumulate(counts))
    if not totals[-1]:
        return None
    index = bisect_left(totals, share * totals[-1])
    if 0 < index < len(bounds):
        return sqrt(bounds[index - 1] * bounds[index])
    return bounds[min(index, len(bounds) - 1)]
