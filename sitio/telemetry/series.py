"""
Limits the series that Prometheus gets: L{Series}.

A histogram is a dozen series for each combination of its labels, and clients and services can
make up methods and statuses.  So only some combinations have series of their own: the busiest
of those that the first page finds, then each next one while there is room.  A combination
keeps its series, so that no counter falls.  The others are added up by the class of their
status, with the method C{_OTHER} and no route: sums by class, and of failures, stay right.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from operator import add
from typing import Any

from sitio.net.turns import Steps, smallest
from sitio.telemetry.outcomes import NO_FAILURES

#: Values of labels; the first two are the method and the route.
Labels = tuple[str, ...]

#: What stands for many methods and many errors in OpenTelemetry's conventions.
_OTHER = "_OTHER"

#: Combinations with series of their own, without templates of routes: with seven policies the
#: page has less than 500 series, whatever is requested.
FEW = 7
FEW_METHODS = 4
FEW_MASKED = 4

#: Endpoints of upstreams with series of their own: as many as DNS may name for one.
ENDPOINTS = 256

#: The same with templates.  An operator who asks for routes wants them apart; a combination
#: of the first is 14 series.
MANY = 256
MANY_METHODS = 256
MANY_MASKED = 64


#: The largest difference between sums of the same numbers, as a part of them.
ROUNDING = 1e-9


def _classOf(status: str) -> str:
    return f"{status[0]}xx" if status[:1] in tuple("2345") else ""


def _outcomeAmongMany(labels: Labels) -> Labels:
    *_, status, error = labels
    name = _classOf(status)
    if not error:
        return _OTHER, "", name, ""
    if error == status and name:
        return _OTHER, "", name, name
    return _OTHER, "", "", error if error in NO_FAILURES else _OTHER


def _methodAmongMany(labels: Labels) -> Labels:
    return _OTHER, ""


def _maskedAmongMany(labels: Labels) -> Labels:
    return _OTHER, "", _classOf(labels[-1])


def _endpointAmongMany(labels: Labels) -> Labels:
    return labels[0], _OTHER


class LimitedFamily:
    """The combinations of labels of one metric, or of several that have the same."""

    def __init__(
        self, most: int, amongMany: Callable[[Labels], Labels], forgets: bool = False
    ) -> None:
        """
        @param most: how many combinations have series of their own.
        @param amongMany: returns the labels as which another counts: some seven in all.
        @param forgets: whether a combination that is not found any more leaves its place to
            another, as endpoints with new addresses come for old ones.
        """
        self._forgets = forgets
        self._most = most
        self._amongMany = amongMany
        self._own: set[Labels] = set()
        self._told: dict[Labels, float] = {}

    def limited(self, found: MutableMapping[Any, list[float]]) -> Steps[dict[Labels, list[float]]]:
        """
        The same counts, with a limited number of combinations.

        @param found: counts of one length, whose sum tells how busy a combination is.  It is
            empty afterwards.
        """
        if self._forgets:
            self._own.intersection_update(found)
        room = self._most - len(self._own)
        if room:
            new = (labels for labels in found if labels not in self._own)
            self._own.update((yield from smallest(new, room, lambda labels: -sum(found[labels]))))
        sums: dict[Labels, list[float]] = {}
        for labels in list(found):
            # To drop all at once takes too long.
            counts = found.pop(labels)
            name = labels if labels in self._own else self._amongMany(labels)
            sums[name] = list(map(add, sums[name], counts)) if name in sums else counts
            yield 2
        return sums

    def rising(self, labels: Labels, seconds: float) -> float:
        """
        A sum of seconds, or the one of the last page if it is smaller by no more than rounding:
        numbers are added in another order when endpoints lose their row, and a counter that
        falls is a restart to Prometheus.
        """
        told = self._told.get(labels, 0.0)
        if seconds < told <= seconds * (1 + ROUNDING):
            return told
        self._told[labels] = seconds
        return seconds


class Series:
    """
    Which combinations of labels have series of their own, in all pages of one sidecar.
    """

    def __init__(self, isRouted: bool = False) -> None:
        """
        @param isRouted: whether there are templates of routes.
        """
        most = MANY if isRouted else FEW
        self.durations = LimitedFamily(most, _outcomeAmongMany)
        self.attempts = LimitedFamily(most, _outcomeAmongMany)
        self.sizes = LimitedFamily(MANY_METHODS if isRouted else FEW_METHODS, _methodAmongMany)
        self.masked = LimitedFamily(MANY_MASKED if isRouted else FEW_MASKED, _maskedAmongMany)
        self.endpoints = LimitedFamily(ENDPOINTS, _endpointAmongMany, forgets=True)
