"""
Exchanges that are still under way, added to the metrics of those that have ended.

An event stream or a long poll may last for hours.  Until it ends, it counts in no histogram
and under no status; but its endpoint has a row, and the bytes so far are in the sums.

Contract: pure; reads exchanges, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from attrs import define

from sitio.telemetry.snapshot import OTHER

#: Seconds after which an exchange counts: quicker ones have their row soon, or never, as
#: those of a scan for vulnerabilities.
LONG_SECONDS = 1.0

#: Method and route.
Key = tuple[str, str]


@define(eq=False)
class UnderWay:
    """
    The exchanges of one endpoint that are under way.

    @ivar count: how many there are.
    @ivar bytesIn: bytes of their requests' bodies so far.
    @ivar bytesOut: bytes of their responses' bodies so far.
    """

    count: int = 0
    bytesIn: int = 0
    bytesOut: int = 0

    def add(self, exchange: Any) -> None:
        """
        Add one.  Its bytes count only once its status is known, and with it its row for ever:
        the sums of a row never fall.
        """
        self.count += 1
        if exchange.status is not None:
            self.bytesIn += exchange.bytesIn
            self.bytesOut += exchange.bytesOut

    def join(self, other: UnderWay) -> None:
        """Add those of another endpoint."""
        self.count += other.count
        self.bytesIn += other.bytesIn
        self.bytesOut += other.bytesOut


def isShared(key: Key) -> bool:
    """Whether a row counts for many endpoints: its name is in round brackets."""
    return key[1][:1] == "("


def byEndpoint(
    exchanges: Iterable[Any],
    now: float,
    rows: Collection[Key],
    keyOf: Callable[[Any], Key],
    room: int,
) -> dict[Key, UnderWay]:
    """
    The exchanges under way for L{LONG_SECONDS} or more, by endpoint.

    @param rows: the endpoints that have a row of their own.
    @param keyOf: returns the endpoint of an exchange.
    @param room: how many other endpoints may get one.  The oldest exchanges get it; the
        others count as C{(other)} of their method.
    """
    found: dict[Key, UnderWay] = {}
    latest = now - LONG_SECONDS
    for exchange in sorted(
        (each for each in exchanges if each.began <= latest), key=lambda each: each.began
    ):
        key = keyOf(exchange)
        if key not in rows and key not in found and not isShared(key):
            if room <= 0:
                found.setdefault((key[0], OTHER[1]), UnderWay()).count += 1
                continue
            room -= 1
        found.setdefault(key, UnderWay()).add(exchange)
    return found
