"""
L{Backlog}: the requests that were not posted to the fleet dashboard yet.

The fleet dashboard gets one entry for each request.  Entries are made of metrics, which
only grow: the difference between two snapshots is what happened in between.  Until they
are posted, requests are a few numbers for each endpoint and status.

Contract: pure; metrics in, JSON out.
"""

from __future__ import annotations

import json
from collections import Counter
from http import HTTPStatus
from mimetypes import MimeTypes

from attrs import define

from sitio.telemetry.snapshot import OTHER, Snapshot

#: Bytes of entries in one post.  The dashboard of the articles accepts 100 KiB.
MAX_POST_BYTES = 90_000

#: Requests that wait to be posted: a day of one a second, or two minutes at the highest
#: rate of posting.  If there are more, the fleet dashboard gets a sample.
MAX_PENDING = 100_000

#: Pairs of endpoint and status that wait to be posted.  Others are added to (other).
MAX_KEYS = 2048

#: Media types of pages.  Files of other types belong to a page.
_PAGES = frozenset(("text/html", "application/xhtml+xml"))

# Without the types that this host has added, so that all hosts agree.
_types = MimeTypes(filenames=())

#: Method, route and upstream status.
Key = tuple[str, str, str]

_messages = {str(int(each)): each.phrase for each in HTTPStatus}


def isFile(route: str) -> bool:
    """Whether the ending of a path is that of a file, such as a picture, and not of a page."""
    kind, packed = _types.guess_type(route.rpartition("/")[2], strict=False)
    return packed is not None or (kind is not None and kind not in _PAGES)


@define
class _Pending:
    """Requests that wait to be posted, and the seconds that they took together."""

    hits: int = 0
    seconds: float = 0.0


class Backlog:
    """
    The requests that were not posted to the fleet dashboard yet.

    The time in an entry is a mean: that of the requests with the same endpoint and status
    between two snapshots.

    @ivar dropped: requests for which there will be no entry.
    """

    def __init__(self, most: int = MAX_PENDING) -> None:
        """
        @param most: requests that may wait to be posted.
        """
        self.dropped = 0
        self._most = most
        # Hits and seconds in the last snapshot.
        self._seen: dict[Key, tuple[int, float]] = {}
        self._pending: dict[Key, _Pending] = {}

    def update(self, metrics: Snapshot) -> None:
        """Add the requests since the last snapshot."""
        now = {
            (row["method"], row["route"], status): (hits, row["upstreamSeconds"][status])
            for row in metrics["endpoints"]
            for status, hits in row["upstreamStatuses"].items()
        }
        nothing = (0, 0.0)
        changes = {
            key: now.get(key, nothing)[0] - self._seen.get(key, nothing)[0]
            for key in self._seen | now
        }
        for key, new in _withoutEvicted(changes).items():
            self._add(key, new, _mean(now[key], self._seen.get(key, nothing)))
        self._seen = now
        self._enforceLimit()

    def _add(self, key: Key, hits: int, mean: float) -> None:
        if key not in self._pending and len(self._pending) >= MAX_KEYS:
            key = (*OTHER, key[2])
        pending = self._pending.setdefault(key, _Pending())
        pending.hits += hits
        pending.seconds += hits * mean

    @property
    def hits(self) -> int:
        """How many requests wait to be posted."""
        return sum(each.hits for each in self._pending.values())

    def _enforceLimit(self) -> None:
        """If too many requests wait, drop the same share of each endpoint and status."""
        hits = self.hits
        if hits <= self._most:
            return
        for key, pending in list(self._pending.items()):
            kept = pending.hits * self._most // hits
            pending.seconds *= kept / pending.hits
            pending.hits = kept
            if not kept:
                del self._pending[key]
        self.dropped += hits - self.hits

    def takeEntries(self, now: float, most: int = MAX_POST_BYTES) -> list[str]:
        """
        Remove as many requests as fit into a post.

        @param now: seconds since 1970.
        @param most: bytes of all entries, with a comma after each.

        @return: the JSON of one entry for each request.
        """
        taken: list[str] = []
        for key, pending in list(self._pending.items()):
            entry = _entry(key, pending.seconds / pending.hits, now)
            hits = min(pending.hits, most // (len(entry) + 1))
            taken += [entry] * hits
            most -= hits * (len(entry) + 1)
            if hits < pending.hits:
                pending.seconds *= 1 - hits / pending.hits
                pending.hits -= hits
                break
            del self._pending[key]
        return taken


def _withoutEvicted(changes: dict[Key, int]) -> dict[Key, int]:
    """
    The new hits among these changes.  When an endpoint is evicted, its hits move to
    (other), where they are not new.
    """
    moved = Counter[str]()
    for key, change in changes.items():
        moved[key[2]] -= min(0, change)
    new = {key: each for key, each in changes.items() if each > 0}
    order = sorted(new, key=lambda key: key[:2] != OTHER)
    for key in order:
        known = min(new[key], moved[key[2]])
        new[key] -= known
        moved[key[2]] -= known
    # (other) may count them by the class of their status.
    rest = moved.total()
    for key in order:
        known = min(new[key], rest)
        new[key] -= known
        rest -= known
    return {key: each for key, each in new.items() if each}


def _mean(now: tuple[int, float], before: tuple[int, float]) -> float:
    """Mean seconds of the hits between two snapshots."""
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
