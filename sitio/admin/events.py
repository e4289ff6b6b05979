"""
What the events of the live dashboard say.

A L{Feed} is given what a sidecar tells, once a second while somebody looks, and
makes the text of an event of it, of which there are two kinds:

  - L{Feed.changes} names only the endpoints that moved and the exchanges that are
    new.  It holds sums and no differences.
  - L{Feed.all} (C{"all": true}) is for who knows nothing yet, or has missed an
    event: all endpoints with what they did in each second of the last minute, and
    the sums of the last five minutes, as far as somebody looked.

Contract: no clock, no I/O.  What is remembered is bounded by the table of
endpoints, which is bounded itself.
"""

from __future__ import annotations

import json
import re
from collections import deque
from socket import gethostname
from typing import Any

from sitio.telemetry.records import ExchangeLists, ExchangeRecord
from sitio.telemetry.snapshot import EndpointMetrics, Metrics, SidecarSnapshot, Snapshot

#: Seconds of history: what the page shows.
HISTORY = 300.0

#: Sums kept of that: one a second.
MAX_POINTS = int(HISTORY) + 1

#: Bars of an endpoint's last minute.
TRAIL = 60

#: Seconds between two answers of the sidecar after which an endpoint's last
#: minute begins anew: its bars stand for a second each.
GAP = 5.0

#: Exchanges in one event: those that ended last, more than a person can read in a
#: second, and those that are open for longest.
MAX_NEW = 100
MAX_OPEN = 20

_CLASSES = "12345"

#: Hits and failures of an endpoint that has not moved.
_STILL = (0, 0)

#: What events have of a snapshot as it is, and of an endpoint.
_AS_THEY_ARE = ("policies", "pool", "poolCounts", "clients", "inFlight", "workers")
_OF_ENDPOINTS = ("method", "route", "hits", "upstreamStatuses", "masked", "latency")


def aboutOf(config: dict[str, Any]) -> dict[str, Any]:
    """
    Which sidecar this is: C{name} of its host, C{version}, C{upstream}, and the
    C{address} at which this host reaches it; L{None} where that is not known.
    """
    options = config.get("options", {})
    port = re.match(r"tcp6?:(?:port=)?([0-9]+)(?=:|$)", options.get("port", ""))
    return {
        "name": gethostname(),
        "version": config.get("sitio"),
        "upstream": options.get("upstream"),
        "address": f"http://localhost:{port[1]}" if port and port[1] != "0" else None,
    }


class Feed:
    """Turns what a sidecar tells into the text of events."""

    def __init__(self, about: dict[str, Any]) -> None:
        """
        @param about: which sidecar it is, from L{aboutOf}.
        """
        self._about = about
        self._at = float("-inf")
        self._hits = 0
        self._endpoints: dict[tuple[str, str], EndpointMetrics] = {}
        self._trails: dict[tuple[str, str], deque[tuple[int, int]]] = {}
        self._history: deque[dict[str, Any]] = deque(maxlen=MAX_POINTS)
        self._known: set[str] = set()
        self._both: dict[str, Any] = {}
        self._changes: dict[str, Any] = {}
        self._rest: dict[str, Any] = {}

    def take(
        self,
        now: float,
        today: float,
        state: str,
        snapshot: SidecarSnapshot,
        exchanges: ExchangeLists,
        trouble: str | None,
    ) -> bool:
        """
        What the sidecar tells now.

        @param now: in seconds, on any clock.
        @param today: the same since 1970, as the exchanges have it.
        @param trouble: what keeps the upstream from taking requests.

        @return: whether it goes on from what it told before; else nobody knows
            anything any more.
        """
        metrics = snapshot["metrics"]
        on = metrics["total"]["hits"] >= self._hits and now - self._at <= HISTORY
        if not on:
            self._forget()
        moved, gone = self._follow(now, metrics)
        point = _point(now, snapshot)
        self._history.append(point)
        while self._history[0]["at"] < now - HISTORY:
            self._history.popleft()
        self._both = {
            "state": state,
            "trouble": trouble,
            "now": today,
            "point": point,
            "sums": _sums(metrics),
            "open": exchanges["open"][:MAX_OPEN],
            **{name: snapshot[name] for name in _AS_THEY_ARE},  # type: ignore[literal-required]
        }
        self._changes = {
            "endpoints": [_short(each) for each in moved],
            "gone": gone,
            "recent": self._fresh(exchanges["recent"]),
            "failed": self._fresh(exchanges["failed"]),
        }
        self._rest = {
            "latencyBounds": metrics["latencyBounds"],
            "addedBounds": metrics["addedBounds"],
            "recent": exchanges["recent"],
            "failed": exchanges["failed"],
        }
        self._known = {each["id"] for each in (*exchanges["recent"], *exchanges["failed"])}
        return on

    def changes(self) -> bytes:
        """The event for who was told the one before."""
        return _event({**self._both, **self._changes})

    def all(self) -> bytes:
        """The event for who was not."""
        return _event(
            {
                **self._both,
                **self._rest,
                "all": True,
                "about": self._about,
                "endpoints": [_short(each) for each in self._endpoints.values()],
                "trails": [list(each) for each in self._trails.values()],
                "history": list(self._history),
            }
        )

    def _fresh(self, ended: list[ExchangeRecord]) -> list[ExchangeRecord]:
        """Those that were not told before; the newest are the first."""
        return [each for each in ended if each["id"] not in self._known][:MAX_NEW]

    def _forget(self) -> None:
        """Another process counts, or nobody has looked for too long."""
        self._at = float("-inf")
        self._endpoints.clear()
        self._trails.clear()
        self._history.clear()
        self._known.clear()

    def _follow(
        self, now: float, metrics: Snapshot
    ) -> tuple[list[EndpointMetrics], list[tuple[str, str]]]:
        """Lengthen the trails; the endpoints that have moved, and those that are gone."""
        steady = now - self._at <= GAP
        before = self._endpoints
        after = {(each["method"], each["route"]): each for each in metrics["endpoints"]}
        moved, trails = [], {}
        for key, each in after.items():
            trail = self._trails.get(key) if steady else None
            trails[key] = trail = deque(maxlen=TRAIL) if trail is None else trail
            was = before.get(key)
            step = _STILL
            if was is None or was["hits"] != each["hits"]:
                moved.append(each)
                hits, failures = (was["hits"], failuresOf(was)) if was else _STILL
                # A row that came back after it was given up has fewer.
                step = (max(0, each["hits"] - hits), max(0, failuresOf(each) - failures))
            if steady:
                trail.append(step)
        self._at, self._hits = now, metrics["total"]["hits"]
        self._endpoints, self._trails = after, trails
        return moved, [key for key in before if key not in after]


def failuresOf(metrics: Metrics) -> int:
    """How many of its exchanges were failures in truth, be they masked or not."""
    return sum(times for name, times in metrics["upstreamStatuses"].items() if name[0] == "5")


def _short(endpoint: EndpointMetrics) -> dict[str, Any]:
    """What the page shows of an endpoint."""
    return {name: endpoint[name] for name in _OF_ENDPOINTS}  # type: ignore[literal-required]


def _sums(metrics: Snapshot) -> dict[str, Any]:
    """What the page shows of all endpoints together, since the start."""
    total = metrics["total"]
    return {
        "hits": total["hits"],
        "upstreamStatuses": total["upstreamStatuses"],
        "masked": total["masked"],
        "uptime": metrics["uptime"],
    }


def _point(now: float, snapshot: SidecarSnapshot) -> dict[str, Any]:
    """The sums at one moment, by class of status, of which a history is made."""
    metrics = snapshot["metrics"]
    total = metrics["total"]
    return {
        "at": round(now, 3),
        "hits": total["hits"],
        "upstreamStatuses": _byClass(total["upstreamStatuses"]),
        "statuses": _byClass(total["statuses"]),
        "masked": sum(total["masked"].values()),
        "broken": snapshot["brokenResponses"],
        "latency": total["latency"],
        "added": metrics["added"],
        "bytesOut": total["bytesOut"],
    }


def _byClass(statuses: dict[str, int]) -> list[int]:
    """1xx to 5xx, and those that are neither."""
    counts = [0] * (len(_CLASSES) + 1)
    for name, times in statuses.items():
        counts[_CLASSES.find(name[0]) if name[0] in _CLASSES else -1] += times
    return counts


def _event(told: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(told, separators=(",", ":")).encode()
