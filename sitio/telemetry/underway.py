"""
Exchanges that are still under way, added to the metrics of those that have ended.

An event stream or a long poll may last for hours.  Until it ends, it counts in no histogram
and under no status; but its endpoint has a row, and the bytes so far are in the sums.

Contract: pure; reads exchanges, and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable
from typing import Any

from attrs import define, field

from sitio.net.turns import Steps, smallest
from sitio.telemetry.snapshot import OTHER, Metrics

#: Seconds after which an exchange counts: quicker ones have their row soon, or never, as
#: those of a scan for vulnerabilities.
LONG_SECONDS = 1.0

#: Exchanges that are looked at as one piece.
_PIECE = 32

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
    _moved: list[tuple[Any, int, int]] = field(factory=list)

    def add(self, exchange: Any) -> None:
        """
        Add one.  Its bytes count only once its status is known, and with it its row for ever:
        the sums of a row never fall.
        """
        isKnown = exchange.status is not None
        moved = exchange, isKnown and exchange.bytesIn, isKnown and exchange.bytesOut
        self.count += 1
        self.bytesIn += moved[1]
        self.bytesOut += moved[2]
        self._moved.append(moved)

    def join(self, other: UnderWay) -> None:
        """Add those of another endpoint."""
        self.count += other.count
        self.bytesIn += other.bytesIn
        self.bytesOut += other.bytesOut

    def addTo(self, metrics: Metrics) -> Metrics:
        """The metrics of their endpoint, with those of the exchanges under way."""
        return {
            **metrics,
            "bytesIn": metrics["bytesIn"] + self.bytesIn,
            "bytesOut": metrics["bytesOut"] + self.bytesOut,
            "underWay": self.count,
        }

    def settle(self, exchanges: Container[Any]) -> None:
        """
        Leave out those that have ended since they were added: their row has counted them.

        @param exchanges: those under way now.
        """
        for _, bytesIn, bytesOut in [each for each in self._moved if each[0] not in exchanges]:
            self.count -= 1
            self.bytesIn -= bytesIn
            self.bytesOut -= bytesOut
        self._moved.clear()


def isShared(key: Key) -> bool:
    """Whether a row counts for many endpoints: its name is in round brackets."""
    return key[1][:1] == "("


def byEndpoint(
    exchanges: Iterable[Any],
    now: float,
    rows: Collection[Key],
    keyOf: Callable[[Any], Key],
    room: int,
) -> Steps[dict[Key, UnderWay]]:
    """
    The exchanges under way for L{LONG_SECONDS} or more, by endpoint.

    @param rows: the endpoints that have a row of their own.
    @param keyOf: returns the endpoint of an exchange.
    @param room: how many other endpoints may get one: those with the oldest exchanges.  The
        exchanges of the others count as C{(other)} of their method.
    """
    found: defaultdict[Key, UnderWay] = defaultdict(UnderWay)
    began: dict[Key, float] = {}
    latest = now - LONG_SECONDS
    for number, exchange in enumerate(exchanges):
        if exchange.began <= latest:
            key = keyOf(exchange)
            found[key].add(exchange)
            if key not in rows and not isShared(key):
                began[key] = min(exchange.began, began.get(key, latest))
        if number % _PIECE == _PIECE - 1:
            yield _PIECE
    if len(began) > room:
        kept = set((yield from smallest(began, room, began.__getitem__)))
        for key in began.keys() - kept:
            found[key[0], OTHER[1]].count += found.pop(key).count
            yield 1
    return found
