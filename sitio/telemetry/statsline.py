"""
The stats line: a log event with hit counts and latencies.

L{event} makes the event, L{asLine} its text.  L{StatsLine} logs the line for a sidecar
of several processes; L{sitio.telemetry.stats} logs it for one process.

Contract: clock and metrics are passed in; no I/O but the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sitio.net.periodic import Periodic
from sitio.telemetry.histogram import LATENCY_BOUNDS, quantile, subtractCounts
from sitio.telemetry.sidecar import ISnapshotSource
from sitio.telemetry.snapshot import EndpointMetrics, Metrics, SidecarSnapshot, Snapshot

#: Columns of the line; it fits into a terminal.
LINE_WIDTH = 100

#: Columns of a route in the line, and of the first route if that is too long for the
#: line.  The middle of a longer route is left out.
ROUTE_WIDTH = 40
SHORT_ROUTE_WIDTH = 12

#: Endpoints in one log event.
MAX_LISTED = 10

#: Method and route.
_Key = tuple[str, str]

#: Hits, and exchanges under way.
_Counts = tuple[int, int]


def report(now: Snapshot, before: Snapshot | None) -> dict[str, Any] | None:
    """
    The L{event} with the changes since an earlier snapshot; L{None} if there are none.
    """
    endpoints = {(each["method"], each["route"]): each for each in now["endpoints"]}
    known = before["endpoints"] if before else []
    then = {(each["method"], each["route"]): countsOf(each) for each in known}
    listed, more = moved({key: countsOf(each) for key, each in endpoints.items()}, then)
    total = before["total"] if before else None
    if countsOf(now["total"]) == countsOf(total):
        return None
    return event(now["total"], total, [endpoints[key] for key in listed], more)


def countsOf(metrics: Metrics | None) -> _Counts:
    """What makes a line worth logging when it changes: hits, and exchanges under way."""
    return (metrics["hits"], metrics["underWay"]) if metrics else (0, 0)


def moved(now: dict[_Key, _Counts], before: dict[_Key, _Counts]) -> tuple[list[_Key], int]:
    """
    Choose the endpoints that an event lists: those that have changed first, then the
    busiest.  So a new request becomes visible.

    @param now: L{countsOf} each endpoint.
    @param before: the same for the last event.

    @return: the endpoints, and how many more there are.
    """
    order = sorted(now, key=lambda key: (now[key] == before.get(key), -sum(now[key])))
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
    recent = list(total["latency"])
    if before:
        recent = subtractCounts(recent, before["latency"])
    return {
        "line": asLine(total["hits"], new, endpoints, more, total["underWay"]),
        "hits": total["hits"],
        "underWay": total["underWay"],
        "new": new,
        "endpoints": endpoints,
        "more": more,
        "upstreamStatuses": total["upstreamStatuses"],
        "statuses": total["statuses"],
        "masked": total["masked"],
        "median": quantile(LATENCY_BOUNDS, recent, 0.5),
        "p95": quantile(LATENCY_BOUNDS, recent, 0.95),
    }


def asLine(
    hits: int, new: int, endpoints: Sequence[EndpointMetrics], more: int = 0, underWay: int = 0
) -> str:
    """
    One line of at most L{LINE_WIDTH} columns with as many endpoints as fit, in the
    given order, each with its hits, failures and mean latency.

    @param more: how many endpoints there are beside these.
    @param underWay: how many exchanges have been under way for a second or more.
    """
    line = f"stats: {hits} hit{'s' * (hits != 1)} (+{new})"
    if underWay:
        line += f", {underWay} under way"
    left = len(endpoints) + more
    for endpoint in endpoints:
        room = LINE_WIDTH - len(line) - len(" | ")
        room -= len(f" | and {left - 1} more") * (left > 1)
        text = _asText(endpoint, ROUTE_WIDTH)
        if len(text) > room and endpoint is endpoints[0]:
            text = _asText(endpoint, max(SHORT_ROUTE_WIDTH, ROUTE_WIDTH - len(text) + room))
        if len(text) > room:
            break
        line = f"{line} | {text}"
        left -= 1
    return f"{line} | and {left} more" if left else line


def _asText(endpoint: EndpointMetrics, width: int) -> str:
    """C{GET /photos/a.png 30 (2 x 404), 1.0 ms}, the route cut to a width."""
    # Control characters from a client must not reach a terminal.
    route = endpoint["route"].encode("unicode_escape").decode("ascii")
    if len(route) > width:
        # The end of a path says more than its middle.
        route = f"{route[: width // 3]}...{route[len(route) - width + width // 3 + 3 :]}"
    counts = []
    if endpoint["hits"]:
        mean = _asTime(endpoint["seconds"] / endpoint["hits"])
        counts.append(f"{endpoint['hits']}{_failuresOf(endpoint)}, {mean}")
    if endpoint["underWay"]:
        counts.append(f"{endpoint['underWay']} under way")
    return f"{endpoint['method']} {route} {', '.join(counts)}".strip()


def _failuresOf(endpoint: Metrics) -> str:
    """The upstream statuses from 400 on, in round brackets, the two most frequent by name."""
    masked = endpoint["masked"]
    failures = {
        name: times for name, times in endpoint["upstreamStatuses"].items() if name[0] in "456789"
    }
    if "499" in endpoint["statuses"]:
        failures["499"] = endpoint["statuses"]["499"]
    texts = []
    for name, times in sorted(failures.items(), key=lambda item: (-item[1], item[0])):
        texts.append(f"{times} x {name}")
        if name in masked:
            some = "" if masked[name] == times else f", {masked[name]}"
            texts[-1] += f"{some} masked"
    if len(texts) > 2:
        texts[2:] = ["..."]
    return f" ({', '.join(texts)})" if texts else ""


def _asTime(seconds: float) -> str:
    if seconds < 0.0095:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e3:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


class StatsLine(Service):
    """
    Logs the stats line of a sidecar of several processes.
    """

    def __init__(self, clock: IReactorTime, source: ISnapshotSource, interval: float) -> None:
        """
        @param interval: seconds between two lines; 0 for no lines.
        """
        self._source = source
        self._interval = interval
        self._log = Logger(namespace="sitio.telemetry.stats")
        self._before: Snapshot | None = None
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

    def _report(self) -> Deferred[None]:
        return maybeDeferred(self._source.snapshot).addCallback(self._say)

    def _say(self, snapshot: SidecarSnapshot) -> None:
        event = report(snapshot["metrics"], self._before)
        if event is not None:
            self._log.info("{line}", **event)
        self._before = snapshot["metrics"]
