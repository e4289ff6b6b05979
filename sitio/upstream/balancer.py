"""
Which endpoint gets a request: L{LeastRequests}, and L{HashRing}.

Contract: the clock and the source of random numbers are passed in.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from itertools import accumulate
from struct import Struct
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from sitio.upstream.endpoint import Endpoint
from sitio.upstream.hashkey import Asking, HashKey

#: Seconds for which the shares of endpoints are used again.
SHARES_SECONDS = 0.1

#: An endpoint is slow if its responses take so many times as long as those of others, and at
#: least so many seconds: smaller differences are not worth unequal shares.
SLOW_TIMES = 4.0
SLOW_SECONDS = 0.02

#: Seconds without a response after which a slow endpoint gets a request again, to find out.
FORGET_SECONDS = 5.0

#: The largest handicap of a slow endpoint, in outstanding requests.
MAX_HANDICAP = 100.0

#: Times that the second of two endpoints is drawn anew when it is the first again.  With
#: weights of 9 and 1 that is so four times of five.
MAX_DRAWS = 8

#: Points of an endpoint of average weight on the ring: shares differ by some 6 %.  And points
#: in all, whatever the number of endpoints: to make the ring takes some 10 ms then.
POINTS = 256
MAX_POINTS = 8192

_eight = Struct(">8Q")
_one = Struct(">Q")


class Balancer(Protocol):
    """Chooses endpoints."""

    def update(self, members: Sequence[Endpoint], usable: Sequence[Endpoint]) -> None:
        """
        Choose among other endpoints from now on.

        @param members: all of the upstream, whatever their state.
        @param usable: those that may be chosen.
        """

    def choose(self, exchange: Asking, tried: Collection[Endpoint]) -> Endpoint | None:
        """
        The endpoint for the next attempt.

        @param tried: those of earlier attempts; one of them is chosen only if all others
            are among them.

        @return: L{None} if no endpoint is usable.
        """


class _Shares:
    """The shares of some endpoints at one moment, from which two are drawn."""

    def __init__(self, endpoints: Sequence[Endpoint], now: float) -> None:
        self.endpoints = endpoints
        self.shares = [each.share(now) for each in endpoints]
        self._areEqual = len(set(self.shares)) == 1
        self._sums = list(accumulate(self.shares))
        self.until = now + SHARES_SECONDS
        # What slow endpoints have as outstanding requests more; mostly nothing.
        self.handicaps: list[float] | None = None

    def two(self, random: Callable[[], float]) -> tuple[int, int]:
        """The indices of two of two or more endpoints, drawn by their shares."""
        if self._areEqual:
            count = len(self.shares)
            one = int(random() * count)
            two = int(random() * (count - 1))
            return one, two + (two >= one)
        one = two = self._draw(random)
        for _ in range(MAX_DRAWS):
            two = self._draw(random)
            if two != one:
                break
        return one, two

    def _draw(self, random: Callable[[], float]) -> int:
        # A product may be rounded up to the sum.
        return min(bisect(self._sums, random() * self._sums[-1]), len(self._sums) - 1)


class Slowness:
    """
    Finds endpoints whose responses all take much longer than those of others.

    Such an endpoint has more requests outstanding, but with few requests that are one or two,
    and these are what the slowest percent of clients see.
    """

    def __init__(self) -> None:
        # How many responses each endpoint had, and when that was noticed.
        self._seen: dict[Endpoint, tuple[int, float]] = {}

    def handicaps(self, endpoints: Sequence[Endpoint], now: float) -> list[float] | None:
        """
        What to add to the outstanding requests of each endpoint; L{None} if no one is slow.
        """
        seen = self._seen
        self._seen = {}
        for each in endpoints:
            responses, at = seen.get(each, (0, now))
            if responses != each.responses:
                responses, at = each.responses, now
            self._seen[each] = (responses, at)
        waits = [each.wait for each in endpoints]
        known = sorted(each for each in waits if each)
        if len(known) < 2:
            return None
        usual = known[(len(known) - 1) // 2]
        if known[-1] < max(SLOW_SECONDS, SLOW_TIMES * usual):
            return None
        return [
            min(wait / usual, MAX_HANDICAP)
            if wait >= max(SLOW_SECONDS, SLOW_TIMES * usual)
            and now - self._seen[each][1] < FORGET_SECONDS
            else 0.0
            for each, wait in zip(endpoints, waits)
        ]


class LeastRequests:
    """
    The one of two random endpoints that has fewer requests outstanding for its share.

    Two are enough: the most loaded of many endpoints is chosen almost never, and several
    sidecars that see the same endpoints do not all choose the same one.  One that is much slower
    than others counts as if it had more of them (L{Slowness}).
    """

    def __init__(self, clock: IReactorTime, random: Callable[[], float]) -> None:
        """@param random: returns a number from 0 up to, but not including, 1."""
        self._clock = clock
        self._random = random
        self._slowness = Slowness()
        self._shares = _Shares((), 0.0)

    def update(self, members: Sequence[Endpoint], usable: Sequence[Endpoint]) -> None:
        """See L{Balancer}."""
        self._renew(usable)

    def _renew(self, endpoints: Sequence[Endpoint]) -> _Shares:
        now = self._clock.seconds()
        shares = self._shares = _Shares(endpoints, now)
        shares.handicaps = self._slowness.handicaps(endpoints, now)
        return shares

    def choose(self, exchange: Asking, tried: Collection[Endpoint]) -> Endpoint | None:
        """See L{Balancer}."""
        shares = self._shares
        if tried:
            rest = [each for each in shares.endpoints if each not in tried]
            if rest:
                shares = _Shares(rest, self._clock.seconds())
        elif self._clock.seconds() >= shares.until:
            shares = self._renew(shares.endpoints)
        endpoints = shares.endpoints
        if len(endpoints) < 2:
            return endpoints[0] if endpoints else None
        one, two = shares.two(self._random)
        weights = shares.shares
        load: float = endpoints[one].pool.outstanding
        other: float = endpoints[two].pool.outstanding
        if shares.handicaps is not None:
            load += shares.handicaps[one]
            other += shares.handicaps[two]
        # Equal: the one that was drawn first, so that idle endpoints are chosen by share.
        return endpoints[one if load * weights[two] <= other * weights[one] else two]


def hashOf(text: str) -> int:
    """A number of 64 bits, the same in each process and each version of Python."""
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int(_one.unpack(digest)[0])


def _points(address: str, count: int) -> list[int]:
    """So many numbers of 64 bits; the first ones stay the same when there are more."""
    found: list[int] = []
    for number in range(0, count, 8):
        found += _eight.unpack(blake2b(f"{number} {address}".encode()).digest())
    return found[:count]


class HashRing:
    """
    The endpoint to which the key of a request leads: requests with one key go to one endpoint.

    Each endpoint has points on a ring, as many as its weight says.  A request goes to the
    owner of the first point after its hash that is usable.  So when an endpoint fails, only its
    requests move, to all others alike, and they come back with it; the ring is made anew only
    when endpoints come and go.  The ring depends on nothing but addresses and weights: all
    workers and all sidecars choose the same endpoint.

    A request without a key goes where L{LeastRequests} says.
    """

    def __init__(self, key: HashKey, others: LeastRequests) -> None:
        self._key = key
        self._others = others
        self._made: list[tuple[str, int]] = []
        self._ring: list[int] = []
        self._addresses: list[str] = []
        self._mask = 0
        self._usable: dict[str, Endpoint] = {}

    def update(self, members: Sequence[Endpoint], usable: Sequence[Endpoint]) -> None:
        """See L{Balancer}."""
        self._others.update(members, usable)
        self._usable = {each.address: each for each in usable}
        wanted = sorted((each.address, each.weight) for each in members)
        if wanted != self._made:
            self._made = wanted
            self._make(wanted)

    def _make(self, wanted: Sequence[tuple[str, int]]) -> None:
        total = sum(weight for _, weight in wanted)
        points = POINTS
        while points > 1 and points * len(wanted) > MAX_POINTS:
            points //= 2
        # The lowest bits of a point are the place of its owner: numbers are sorted fast.
        self._addresses = [address for address, _ in wanted]
        self._mask = mask = (1 << len(wanted).bit_length()) - 1
        ring: list[int] = []
        for place, (address, weight) in enumerate(wanted):
            count = max(1, round(points * len(wanted) * weight / total))
            ring += [each & ~mask | place for each in _points(address, count)]
        ring.sort()
        self._ring = ring

    def choose(self, exchange: Asking, tried: Collection[Endpoint]) -> Endpoint | None:
        """See L{Balancer}."""
        usable = self._usable
        key = self._key(exchange)
        if key is None or len(usable) < 2:
            return self._others.choose(exchange, tried)
        ring, addresses, mask = self._ring, self._addresses, self._mask
        begin = bisect(ring, hashOf(key))
        refused = {each.address for each in tried}
        if refused and refused.issuperset(usable):
            refused = set()
        count = len(ring)
        for step in range(count):
            owner = addresses[ring[(begin + step) % count] & mask]
            if owner in usable and owner not in refused:
                return usable[owner]
        return None
