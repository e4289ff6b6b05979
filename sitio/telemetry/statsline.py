"""
The stats line: a log event with hit counts and latencies, failures first.

Its totals are by class of the upstream status, the worst first.  Then come the endpoints that
fail, then those with new requests, then the busiest.

L{event} makes the event, L{asLine} its text.  L{StatsLine} logs the line.

Contract: clock and metrics are passed in; no I/O but the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sitio.net.periodic import Periodic
from sitio.net.turns import Steps, inTurns
from sitio.telemetry.histogram import FINE_BOUNDS, quantile, subtractCounts
from sitio.telemetry.snapshot import EndpointMetrics, Metrics, Snapshot

#: Columns of the line: a wide terminal, without the time in front.
LINE_WIDTH = 140

#: Columns of its totals, if there are several classes: so the first endpoint fits, too.
TOTALS_WIDTH = 80

#: Columns of a route in the line, and of the first route if that is too long for the
#: line.  The middle of a longer route is left out.
ROUTE_WIDTH = 40
SHORT_ROUTE_WIDTH = 12

#: Endpoints in one log event.
MAX_LISTED = 10

#: Method and route.
_Key = tuple[str, str]

#: Hits, exchanges under way, and failures.
_Counts = tuple[int, int, int]

#: Names of classes of statuses, the worst first.
_CLASSES = ("broken", "none", "6xx-9xx", "5xx", "4xx", "3xx", "2xx", "1xx")

#: How the line calls them, if not by their name.
_NAMES = {"broken": "broken off", "none": "no response"}


class Report:
    """
    What a stats line told, of which the next one tells the changes.

    @ivar counts: L{countsOf} the total.
    """

    def __init__(self) -> None:
        self.counts: _Counts = (0, 0, 0)
        self._total: Metrics | None = None
        self._endpoints: dict[_Key, _Counts] = {}

    def telling(self, now: Snapshot) -> Steps[dict[str, Any] | None]:
        """The L{event} with the changes since the last one; L{None} if there are none."""
        if countsOf(now["total"]) == self.counts:
            return None
        endpoints = {(each["method"], each["route"]): each for each in now["endpoints"]}
        counts = {key: countsOf(each) for key, each in endpoints.items()}
        yield len(counts)
        listed, more = moved(counts, self._endpoints)
        yield len(counts)
        told = event(now["total"], self._total, [endpoints[key] for key in listed], more)
        self._total, self._endpoints, self.counts = now["total"], counts, countsOf(now["total"])
        return told


def countsOf(metrics: Metrics) -> _Counts:
    """What makes a line worth logging when it changes: hits, and exchanges under way."""
    return metrics["hits"], metrics["underWay"], metrics["failed"]


def classesOf(
    statuses: Mapping[str, int], broken: Mapping[str, int] | None = None
) -> dict[str, int]:
    """
    The same counts by class, the worst first: C{{"none": 1, "5xx": 2, "2xx": 30}}.

    @param broken: how many of them broke off; these are a class of their own.
    """
    classes = dict.fromkeys(_CLASSES, 0)
    for name, times in statuses.items():
        cut = broken.get(name, 0) if broken else 0
        group = name if name == "none" else f"{name[0]}xx" if name[0] < "6" else "6xx-9xx"
        classes[group] += times - cut
        classes["broken"] += cut
    return {name: times for name, times in classes.items() if times}


def moved(now: dict[_Key, _Counts], before: dict[_Key, _Counts]) -> tuple[list[_Key], int]:
    """
    Choose the endpoints that an event lists: first those with the most new failures, then
    those that have changed, then the busiest.  So a failure becomes visible, and a new request.

    @param now: L{countsOf} each endpoint.
    @param before: the same for the last event.

    @return: the endpoints, and how many more there are.
    """

    def rank(key: _Key) -> tuple[int, bool, int]:
        hits, underWay, failures = counts = now[key]
        last = before.get(key, (0, 0, 0))
        # A row of many endpoints may have lost some.
        return -max(0, failures - last[2]), counts == last, -hits - underWay

    order = sorted(now, key=rank)
    return order[:MAX_LISTED], len(order[MAX_LISTED:])


def event(
    total: Metrics, before: Metrics | None, endpoints: list[EndpointMetrics], more: int
) -> dict[str, Any]:
    """
    The fields of the log event with the changes since an earlier total.  C{line} is
    the text.  C{median} and C{p95} are for the time since the earlier total.

    @param endpoints: the endpoints to list.
    @param more: how many more there are.
    """
    new = total["hits"] - (before["hits"] if before else 0)
    classes = classesOf(total["upstreamStatuses"], total["broken"])
    newClasses = classesOf(before["upstreamStatuses"], before["broken"]) if before else {}
    newClasses = {name: times - newClasses.get(name, 0) for name, times in classes.items()}
    recent = list(total["latency"])
    if before:
        recent = subtractCounts(recent, before["latency"])
    return {
        "line": asLine(total, new, endpoints, more, newClasses),
        "hits": total["hits"],
        "underWay": total["underWay"],
        "new": new,
        "endpoints": endpoints,
        "more": more,
        "classes": classes,
        "newClasses": newClasses,
        "failed": total["failed"],
        "sentFailed": total["sentFailed"],
        "upstreamStatuses": total["upstreamStatuses"],
        "statuses": total["statuses"],
        "masked": total["masked"],
        "median": quantile(FINE_BOUNDS, recent, 0.5),
        "p95": quantile(FINE_BOUNDS, recent, 0.95),
    }


def asLine(
    total: Metrics,
    new: int,
    endpoints: Sequence[EndpointMetrics],
    more: int = 0,
    newClasses: Mapping[str, int] | None = None,
) -> str:
    """
    One line of at most L{LINE_WIDTH} columns with the totals, and as many endpoints as fit,
    in the given order, each with its hits, failures and mean latency.

    @param new: how many hits are new.
    @param more: how many endpoints there are beside these.
    @param newClasses: how many hits of each class are new.
    """
    hits = total["hits"]
    line = f"stats: {hits} hit{'s' * (hits != 1)} (+{new})"
    if total["underWay"]:
        line += f", {total['underWay']} under way"
    for mark, text in zip(chain(":", repeat(",")), _asClasses(total, newClasses or {})):
        if mark == "," and len(line) + len(text) > TOTALS_WIDTH - len(", , ..."):
            line += ", ..."
            break
        line += f"{mark} {text}"
    left = len(endpoints) + more
    for endpoint in endpoints:
        room = LINE_WIDTH - len(line) - len(" | ")
        room -= len(f" | and {left - 1} more") * (left > 1)
        text = _asText(endpoint, ROUTE_WIDTH)
        if len(text) > room and endpoint is endpoints[0]:
            text = _asText(endpoint, max(SHORT_ROUTE_WIDTH, ROUTE_WIDTH - len(text) + room))
        if len(text) > room and endpoint is endpoints[0]:
            text = _asText(endpoint, SHORT_ROUTE_WIDTH, kinds=1)
        if len(text) > room:
            break
        line = f"{line} | {text}"
        left -= 1
    return f"{line} | and {left} more" if left else line


def _asClasses(total: Metrics, new: Mapping[str, int]) -> Iterator[str]:
    """C{20 x 5xx (+4), 15 masked}; C{80 x 2xx}."""
    masked = classesOf(total["masked"])
    for name, times in classesOf(total["upstreamStatuses"], total["broken"]).items():
        text = f"{times} x {_NAMES.get(name, name)}"
        if name[0] not in "1234":
            text += f" (+{new[name]})" * bool(new.get(name))
            hidden = masked.get(name, 0)
            if hidden:
                text += " masked" if hidden == times else f", {hidden} masked"
        yield text


def _asText(endpoint: EndpointMetrics, width: int, kinds: int = 2) -> str:
    """
    C{GET /photos/a.png 30 (2 x 404), 1.0 ms}, the route cut to a width.

    @param kinds: how many kinds of failures it names.
    """
    # Control characters from a client must not reach a terminal.
    route = endpoint["route"].encode("unicode_escape").decode("ascii")
    if len(route) > width:
        # The end of a path says more than its middle.
        route = f"{route[: width // 3]}...{route[len(route) - width + width // 3 + 3 :]}"
    counts = []
    if endpoint["hits"]:
        mean = _asTime(endpoint["seconds"] / endpoint["hits"])
        counts.append(f"{endpoint['hits']}{_failuresOf(endpoint, kinds)}, {mean}")
    if endpoint["underWay"]:
        counts.append(f"{endpoint['underWay']} under way")
    return f"{endpoint['method']} {route} {', '.join(counts)}".strip()


def _failuresOf(endpoint: Metrics, kinds: int) -> str:
    """The upstream statuses from 400 on, in round brackets, the most frequent by name."""
    masked = endpoint["masked"]
    failures = {
        name: times for name, times in endpoint["upstreamStatuses"].items() if name[0] in "456789"
    }
    broken = sum(endpoint["broken"].values())
    if broken:
        failures["broken off"] = broken
    if "499" in endpoint["statuses"]:
        failures["499"] = endpoint["statuses"]["499"]
    texts = []
    for name, times in sorted(failures.items(), key=lambda item: (-item[1], item[0])):
        texts.append(f"{times} x {name}")
        if name in masked:
            some = "" if masked[name] == times else f", {masked[name]}"
            texts[-1] += f"{some} masked"
    if len(texts) > kinds:
        texts[kinds:] = ["..."]
    return f" ({', '.join(texts)})" if texts else ""


def _asTime(seconds: float) -> str:
    if seconds < 0.0095:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e3:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


class StatsLine(Service):
    """
    Logs the stats line while it runs.
    """

    def __init__(
        self,
        clock: IReactorTime,
        read: Callable[[int, int], Deferred[Snapshot | None]],
        interval: float,
        log: Logger | None = None,
    ) -> None:
        """
        @param read: returns the metrics; may return L{None} if there are as many hits, and
            exchanges under way, as in its arguments.
        @param interval: seconds between two lines; 0 for no lines.
        """
        self._read = read
        self._clock = clock
        self._interval = interval
        self._log = Logger(namespace="sitio.telemetry.stats") if log is None else log
        self._told = Report()
        self._reporting = Periodic(
            clock, interval, self._report, log=self._log, whenFails="The stats line failed"
        )

    def startService(self) -> None:
        """Begin to log a line in each interval in which something changed."""
        Service.startService(self)
        if self._interval:
            self._reporting.startService()

    def stopService(self) -> Deferred[None] | None:
        """Log what is not logged yet."""
        Service.stopService(self)
        if not self._reporting.running:
            return None
        stopped = self._reporting.stopService()
        return stopped.addCallback(lambda _: self._reporting.turn())

    async def _report(self) -> None:
        now = await self._read(*self._told.counts[:2])
        event = None if now is None else await inTurns(self._told.telling(now), self._clock)
        if event is not None:
            self._log.info("{line}", **event)
