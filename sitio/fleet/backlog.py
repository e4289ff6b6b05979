"""
What a dashboard is owed: L{Backlog}, an entry for each request, made of metrics.

Metrics only grow, so what has come between two looks at them is what was not told
yet.  As long as nobody takes it, it is a few numbers for each endpoint and status.

Contract: pure; metrics in, JSON out.
"""

from __future__ import annotations

import json
from collections import Counter
from http import HTTPStatus
from mimetypes import MimeTypes

from attrs import define

from sitio.telemetry.snapshot import OTHER, Snapshot

#: Bytes of a post; the dashboard of the articles takes 100 KiB.
MAX_BATCH = 90_000

#: Requests that are owed to a dashboard: a day of one in a second, or two minutes of
#: the most that is posted.  Beyond that it gets a sample.
MAX_OWED = 100_000

#: Pairs of endpoint and status that are owed; those beyond are owed as (other).
MAX_KEYS = 2048

#: What is shown and not loaded by a page.
_PAGES = frozenset(("text/html", "application/xhtml+xml"))

# Not those that the host lists as well: the same path is the same everywhere.
_types = MimeTypes(filenames=())

#: Method, route and true status.
Key = tuple[str, str, str]

_messages = {str(int(each)): each.phrase for each in HTTPStatus}


def isFile(route: str) -> bool:
    """Whether a path is that of a file, such as a picture, and not of a page."""
    kind, packed = _types.guess_type(route.rpartition("/")[2], strict=False)
    return packed is not None or (kind is not None and kind not in _PAGES)


@define
class _Owed:
    """Hits that were not put into a batch yet, and the seconds that they took."""

    hits: int = 0
    seconds: float = 0.0


class Backlog:
    """
    What a dashboard is owed: an entry for each hit, made of metrics that only grow.

    The time in an entry is the mean of those of its endpoint and status that were
    counted together.

    @ivar leftOut: hits for which there will be no entry.
    """

    def __init__(self, most: int = MAX_OWED) -> None:
        self.leftOut = 0
        self._most = most
        # Hits and seconds.
        self._seen: dict[Key, tuple[int, float]] = {}
        self._owed: dict[Key, _Owed] = {}

    def count(self, metrics: Snapshot) -> None:
        """Owe what has come since the last time."""
        now = {
            (row["method"], row["route"], status): (hits, row["durations"][status]["seconds"])
            for row in metrics["endpoints"]
            for status, hits in row["upstreamStatuses"].items()
        }
        nothing = (0, 0.0)
        changes = {
            key: now.get(key, nothing)[0] - self._seen.get(key, nothing)[0]
            for key in self._seen | now
        }
        for key, new in _withoutMoved(changes).items():
            self._owe(key, new, _mean(now[key], self._seen.get(key, nothing)))
        self._seen = now
        self._bound()

    def _owe(self, key: Key, hits: int, mean: float) -> None:
        if key not in self._owed and len(self._owed) >= MAX_KEYS:
            key = (*OTHER, key[2])
        owed = self._owed.setdefault(key, _Owed())
        owed.hits += hits
        owed.seconds += hits * mean

    @property
    def hits(self) -> int:
        """How many are owed."""
        return sum(each.hits for each in self._owed.values())

    def _bound(self) -> None:
        """Where more is owed than can ever be posted, leave out the same share of each."""
        hits = self.hits
        if hits <= self._most:
            return
        for key, owed in list(self._owed.items()):
            kept = owed.hits * self._most // hits
            owed.seconds *= kept / owed.hits
            owed.hits = kept
            if not kept:
                del self._owed[key]
        self.leftOut += hits - self.hits

    def entries(self, now: float, most: int = MAX_BATCH) -> list[str]:
        """
        As many entries as fit, each the JSON of one hit; they are owed no more.

        @param now: seconds since 1970.
        @param most: bytes, with a comma for each.
        """
        taken: list[str] = []
        for key, owed in list(self._owed.items()):
            entry = _entry(key, owed.seconds / owed.hits, now)
            hits = min(owed.hits, most // (len(entry) + 1))
            taken += [entry] * hits
            most -= hits * (len(entry) + 1)
            if hits < owed.hits:
                owed.seconds *= 1 - hits / owed.hits
                owed.hits -= hits
                break
            del self._owed[key]
        return taken


def _withoutMoved(changes: dict[Key, int]) -> dict[Key, int]:
    """
    What is new in these changes.  An endpoint that has lost its row has lost its hits
    to (other), where they are not new.
    """
    lost = Counter[str]()
    for key, change in changes.items():
        lost[key[2]] -= min(0, change)
    new = {key: each for key, each in changes.items() if each > 0}
    order = sorted(new, key=lambda key: key[:2] != OTHER)
    for key in order:
        known = min(new[key], lost[key[2]])
        new[key] -= known
        lost[key[2]] -= known
    # (other) may tell their status by its class.
    rest = lost.total()
    for key in order:
        known = min(new[key], rest)
        new[key] -= known
        rest -= known
    return {key: each for key, each in new.items() if each}


def _mean(now: tuple[int, float], before: tuple[int, float]) -> float:
    """Seconds of a hit, of those that came between."""
    hits, seconds = now[0] - before[0], now[1] - before[1]
    return seconds / hits if seconds >= 0 else now[1] / now[0]


def _entry(key: Key, seconds: float, now: float) -> str:
    method, route, status = key
    entry = {
        "endpoint": route,
        "method": method,
        "response": {"status": status, "message": _messages.get(status, "")},
        "time": round(seconds * 1000, 3),
        "started": int((now - seconds) * 1000),
        "file": isFile(route),
    }
    return json.dumps(entry, separators=(",", ":"))
