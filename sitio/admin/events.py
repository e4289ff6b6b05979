"""
The content of the live dashboard's events.

L{EventBuilder} gets the sidecar's snapshot once a second while there are viewers, and
makes the text of an event, in steps.  There are two kinds of events:

  - L{EventBuilder.changes} has only the endpoints that have changed and the exchanges that are
    new.  Its numbers are totals, not differences.
  - L{EventBuilder.full} (C{"full": true}) is for a viewer that is new or has missed an
    event: all endpoints, with the hits in each second of the last minute, and the totals
    of each second of the last five minutes, as far as there were viewers.

Contract: no clock, no I/O.  Memory is bounded, as the table of endpoints is.
"""

from __future__ import annotations

import re
from collections import deque
from socket import gethostname
from typing import Any, Literal

from sitio.net.turns import Steps, writeJson
from sitio.telemetry.histogram import CELL_BOUNDS, FINE_BOUNDS, quantile
from sitio.telemetry.records import ExchangeLists, ExchangeRecord
from sitio.telemetry.snapshot import EndpointMetrics, SidecarSnapshot, Snapshot
from sitio.telemetry.upstreams import UpstreamEndpoint, UpstreamMetrics, isPlain, present

#: Seconds that the charts of the page show.
HISTORY_SECONDS = 300.0

#: Totals that are kept for the charts, one for each second.
MAX_POINTS = int(HISTORY_SECONDS) + 1

#: Bars of the last minute of an endpoint.
MAX_BARS = 60

#: Seconds between two snapshots after which the last minute of an endpoint starts anew,
#: as each bar stands for one second.
GAP_SECONDS = 5.0

#: Exchanges in one event: the newest that ended, more than a person reads in a second,
#: and the oldest that are open.
MAX_NEW = 100
MAX_OPEN = 20

#: What tells that an endpoint has changed.
_CHANGING_KEYS: tuple[Literal["hits", "underWay", "bytesOut"], ...] = (
    *("hits", "underWay", "bytesOut"),
)

_CLASSES = "12345"

#: The place of failures among them.
_FAILED = 4

#: Hits and failures of an endpoint without new hits.
_NOTHING = (0, 0)

#: Endpoints of each upstream in one event, the worst first: more than a person looks at.
MAX_UPSTREAM_ENDPOINTS = 64

#: Method and route.
_Key = tuple[str, str]

#: The keys of a snapshot, and of an endpoint's metrics, that events contain unchanged.
_SNAPSHOT_KEYS = ("policies", "pool", "poolCounts", "clients", "inFlight", "workers")
_ENDPOINT_KEYS = (
    *("method", "route", "hits", "failed", "upstreamStatuses", "masked"),
    *("underWay", "bytesOut"),
)


def describeSidecar(config: dict[str, Any]) -> dict[str, Any]:
    """
    Describe the sidecar: C{name} of its host, C{version}, C{upstream}, and the C{address}
    at which a client on this host reaches it.  An unknown value is L{None}.

    @param config: the options, as on the page /config.
    """
    options = config.get("options", {})
    port = re.match(r"tcp6?:(?:port=)?([0-9]+)(?=:|$)", options.get("port", ""))
    return {
        "name": gethostname(),
        "version": config.get("sitio"),
        "upstream": options.get("upstream"),
        "address": f"http://localhost:{port[1]}" if port and port[1] != "0" else None,
    }


class EventBuilder:
    """Makes the text of events from a sidecar's snapshots."""

    def __init__(self, sidecar: dict[str, Any]) -> None:
        """
        @param sidecar: the description of the sidecar, from L{describeSidecar}.
        """
        self._sidecar = sidecar
        self._at = float("-inf")
        self._hits = 0
        # What the page shows of each endpoint.
        self._endpoints: dict[_Key, dict[str, Any]] = {}
        self._bars: dict[_Key, deque[tuple[int, int]]] = {}
        self._points: deque[dict[str, Any]] = deque(maxlen=MAX_POINTS)
        self._known: set[str] = set()
        # What both kinds of events contain, and what only one of them does.
        self._common: dict[str, Any] = {}
        self._changesOnly: dict[str, Any] = {}
        self._fullOnly: dict[str, Any] = {}

    def update(
        self,
        now: float,
        today: float,
        state: str,
        snapshot: SidecarSnapshot,
        exchanges: ExchangeLists,
        problem: str | None,
    ) -> Steps[bool]:
        """
        Take the sidecar's values of this second.

        @param now: in seconds, on any clock.
        @param today: the same time in seconds since 1970.
        @param state: of the sidecar.
        @param problem: what keeps the upstream from accepting requests.

        @return: whether these values continue the ones before.  If not, as the sidecar
            was restarted or there were no viewers for too long, all viewers need
            L{full}.
        """
        metrics = snapshot["metrics"]
        isRecent = now - self._at <= HISTORY_SECONDS
        continues = metrics["total"]["hits"] >= self._hits and isRecent
        if not continues:
            self._forget()
        changed, evicted = yield from self._updateEndpoints(now, metrics)
        point = _point(now, snapshot)
        self._points.append(point)
        while self._points[0]["at"] < now - HISTORY_SECONDS:
            self._points.popleft()
        self._common = {
            "state": state,
            "problem": problem,
            "now": today,
            "point": point,
            "totals": _totals(metrics),
            "open": exchanges["open"][:MAX_OPEN],
            "upstreams": _upstreams(snapshot["upstreams"]),
            **{name: snapshot[name] for name in _SNAPSHOT_KEYS},  # type: ignore[literal-required]
        }
        self._changesOnly = {
            "endpoints": changed,
            "evicted": evicted,
            "recent": self._unknown(exchanges["recent"]),
            "failed": self._unknown(exchanges["failed"]),
        }
        self._fullOnly = {
            "latencyBounds": metrics["latencyBounds"],
            "addedBounds": metrics["addedBounds"],
            "cellBounds": list(CELL_BOUNDS),
            "recent": exchanges["recent"],
            "failed": exchanges["failed"],
        }
        self._known = {each["key"] for each in (*exchanges["recent"], *exchanges["failed"])}
        return continues

    def changes(self) -> Steps[list[bytes]]:
        """The event for a viewer that got the event before."""
        return _event({**self._common, **self._changesOnly})

    def full(self) -> Steps[list[bytes]]:
        """The event for a viewer that did not."""
        return _event(
            {
                **self._common,
                **self._fullOnly,
                "full": True,
                "sidecar": self._sidecar,
                "endpoints": list(self._endpoints.values()),
                "bars": list(map(list, self._bars.values())),
                "points": list(self._points),
            }
        )

    def _unknown(self, ended: list[ExchangeRecord]) -> list[ExchangeRecord]:
        """The exchanges that were not in the event before, the newest first."""
        return [each for each in ended if each["key"] not in self._known][:MAX_NEW]

    def _forget(self) -> None:
        """Forget what was kept for full events."""
        self._at = float("-inf")
        self._endpoints.clear()
        self._bars.clear()
        self._points.clear()
        self._known.clear()

    def _updateEndpoints(
        self, now: float, metrics: Snapshot
    ) -> Steps[tuple[list[dict[str, Any]], list[_Key]]]:
        """Add a bar to each endpoint; returns those that have changed, and those evicted."""
        steady = now - self._at <= GAP_SECONDS
        before, after, changed, bars = self._endpoints, {}, [], {}
        for each in metrics["endpoints"]:
            key = (each["method"], each["route"])
            known = self._bars.get(key) if steady else None
            bars[key] = known = deque(maxlen=MAX_BARS) if known is None else known
            was, bar = before.pop(key, None), _NOTHING
            if was is not None and all(was[name] == each[name] for name in _CHANGING_KEYS):
                shown = was
            else:
                shown = _short(each)
                changed.append(shown)
                hits, failures = (was["hits"], was["failed"]) if was else _NOTHING
                # An endpoint that was evicted and came back has fewer hits than before.
                bar = (max(0, each["hits"] - hits), max(0, each["failed"] - failures))
                yield 15
            after[key] = shown
            if steady:
                known.append(bar)
            yield 2
        self._at, self._hits = now, metrics["total"]["hits"]
        self._endpoints, self._bars = after, bars
        yield len(after) // 4
        return changed, list(before)


def _short(endpoint: EndpointMetrics) -> dict[str, Any]:
    """What the page shows of an endpoint."""
    shown = {name: endpoint[name] for name in _ENDPOINT_KEYS}  # type: ignore[literal-required]
    for name, share in (("median", 0.5), ("p95", 0.95)):
        shown[name] = quantile(FINE_BOUNDS, endpoint["latency"], share)
    return shown


def _upstreams(upstreams: list[UpstreamMetrics]) -> list[dict[str, Any]]:
    """
    What the page shows of upstreams and their endpoints: nothing if there is only one that
    nothing judges.
    """
    shown = present(upstreams)
    if isPlain(shown):
        return []
    return [
        {
            **each,
            "count": len(each["endpoints"]),
            "usable": sum(map(_isUsable, each["endpoints"])),
            "endpoints": _worst(each["endpoints"]),
        }
        for each in shown
    ]


def _isUsable(endpoint: UpstreamEndpoint) -> bool:
    return not endpoint["states"].keys() - {"healthy", "warming"}


def _worst(endpoints: list[UpstreamEndpoint]) -> list[UpstreamEndpoint]:
    """As many as are shown, in their order; those that get no requests go first."""
    kept = sorted(endpoints, key=_isUsable)[:MAX_UPSTREAM_ENDPOINTS]
    addresses = {each["address"] for each in kept}
    return [each for each in endpoints if each["address"] in addresses]


def _totals(metrics: Snapshot) -> dict[str, Any]:
    """What the page shows of all endpoints together, since the start."""
    total = metrics["total"]
    return {
        "hits": total["hits"],
        "underWay": total["underWay"],
        "failed": total["failed"],
        "upstreamStatuses": total["upstreamStatuses"],
        "masked": total["masked"],
        "broken": total["broken"],
        "uptime": metrics["uptime"],
    }


def _point(now: float, snapshot: SidecarSnapshot) -> dict[str, Any]:
    """
    The totals at one moment; the charts are made of these.

    Statuses are counted by class, and responses that broke off among the failures, whatever
    their status.  Of histograms there are only the buckets that have counts.
    """
    metrics = snapshot["metrics"]
    total = metrics["total"]
    return {
        "at": round(now, 3),
        "hits": total["hits"],
        "failed": total["failed"],
        "sentFailed": total["sentFailed"],
        "upstreamStatuses": _byClass(total["upstreamStatuses"], total["broken"]),
        "statuses": _byClass(total["statuses"], total["sentBroken"]),
        "masked": sum(total["masked"].values()),
        "broken": sum(total["broken"].values()),
        "latency": _filled(total["latency"]),
        "added": _filled(metrics["added"]),
        "bytesOut": total["bytesOut"],
    }


def _filled(counts: list[int]) -> list[int]:
    """The buckets that have counts: the index of each, then its count."""
    return [number for pair in enumerate(counts) if pair[1] for number in pair]


def _byClass(statuses: dict[str, int], broken: dict[str, int]) -> list[int]:
    """
    The counts of 1xx to 5xx, and of all others.

    @param broken: the responses among them that broke off; they count as 5xx.
    """
    counts = [0] * (len(_CLASSES) + 1)
    for name, times in statuses.items():
        counts[_CLASSES.find(name[0]) if name[0] in _CLASSES else -1] += times
    for name, times in broken.items():
        counts[_CLASSES.find(name[0]) if name[0] in _CLASSES else -1] -= times
        counts[_FAILED] += times
    return counts


def _event(data: dict[str, Any]) -> Steps[list[bytes]]:
    parts = yield from writeJson(data, (",", ":"), levels=2)
    parts[0] = b"data: " + parts[0]
    parts[-1] += b"\n\n"
    return parts
