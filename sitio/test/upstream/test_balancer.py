"""
Tests of L{sitio.upstream.balancer}: which endpoint gets a request.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.upstreams import asking, occupy, shares, someEndpoint
from sitio.upstream import balancer
from sitio.upstream.balancer import MAX_POINTS, POINTS, HashRing, LeastRequests, hashOf
from sitio.upstream.endpoint import Endpoint
from sitio.upstream.hashkey import hashKey


class BalancerCase(SynchronousTestCase):
    """Endpoints in memory; random numbers that repeat."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.random = Random(1)

    def endpoints(self, *weights: int, slowStart: float = 0.0) -> list[Endpoint]:
        return [
            someEndpoint(self.clock, f"e{number}", weight, slowStart)
            for number, weight in enumerate(weights)
        ]

    def least(self, endpoints: list[Endpoint]) -> LeastRequests:
        chooser = LeastRequests(self.clock, self.random.random)
        chooser.update(endpoints, endpoints)
        return chooser

    def ring(self, endpoints: list[Endpoint]) -> HashRing:
        chooser = HashRing(hashKey("path"), LeastRequests(self.clock, self.random.random))
        chooser.update(endpoints, endpoints)
        return chooser


class LeastRequestsTests(BalancerCase):
    """The one of two with fewer requests outstanding."""

    def test_none(self) -> None:
        """Without endpoints there is nothing to choose."""
        self.assertIsNone(self.least([]).choose(asking(), ()))

    def test_single(self) -> None:
        """One endpoint is chosen, even if it was tried."""
        [one] = endpoints = self.endpoints(1)
        self.assertIs(self.least(endpoints).choose(asking(), (one,)), one)

    def test_fewer(self) -> None:
        """Of two endpoints the one with fewer requests gets all."""
        endpoints = self.endpoints(1, 1)
        occupy(endpoints[0], 1)
        self.assertEqual(shares(self.least(endpoints), 100), {"e1": 100})

    def test_never(self) -> None:
        """The one with the most requests of several gets none."""
        endpoints = self.endpoints(1, 1, 1, 1)
        occupy(endpoints[2], 9)
        found = shares(self.least(endpoints), 400)
        self.assertEqual(set(found), {"e0", "e1", "e3"})

    def test_equal(self) -> None:
        """Idle endpoints get equal shares."""
        found = shares(self.least(self.endpoints(1, 1, 1, 1)), 4000)
        for each in found.values():
            self.assertApproximates(each, 1000, 100)

    def test_weights(self) -> None:
        """Idle endpoints get shares by their weight."""
        found = shares(self.least(self.endpoints(1, 2, 5)), 8000)
        self.assertApproximates(found["e0"], 1000, 150)
        self.assertApproximates(found["e1"], 2000, 200)
        self.assertApproximates(found["e2"], 5000, 250)

    def test_weightedLoad(self) -> None:
        """An endpoint of three times the weight has three times as many requests outstanding."""
        light, heavy = endpoints = self.endpoints(1, 3)
        chooser = self.least(endpoints)
        for _ in range(400):
            chosen = chooser.choose(asking(), ())
            assert chosen is not None
            occupy(chosen, 1)
        self.assertApproximates(light.pool.outstanding, 100, 10)
        self.assertApproximates(heavy.pool.outstanding, 300, 10)

    def test_tried(self) -> None:
        """Another endpoint than those that were tried, as long as there is one."""
        endpoints = self.endpoints(1, 1, 1)
        chooser = self.least(endpoints)
        for _ in range(20):
            self.assertIs(chooser.choose(asking(), endpoints[:2]), endpoints[2])
        self.assertIn(chooser.choose(asking(), endpoints), endpoints)

    def test_slowStart(self) -> None:
        """The share of an endpoint that returns grows with time."""
        endpoints = self.endpoints(1, 1, slowStart=10.0)
        endpoints[1].warm()
        chooser = self.least(endpoints)
        found = []
        for _ in range(3):
            found.append(shares(chooser, 1000)["e1"])
            self.clock.advance(5)
        self.assertApproximates(found[0], 48, 25)
        self.assertApproximates(found[1], 333, 60)
        self.assertApproximates(found[2], 500, 60)

    def slowed(self, *waits: float) -> tuple[list[Endpoint], LeastRequests]:
        """Endpoints whose last three responses took so long."""
        endpoints = self.endpoints(*(1 for _ in waits))
        chooser = self.least(endpoints)
        for endpoint, wait in zip(endpoints, waits):
            for _ in range(3):
                endpoint.answered(200, wait)
        self.clock.advance(balancer.SHARES_SECONDS)
        return endpoints, chooser

    def test_slow(self) -> None:
        """An endpoint whose responses take many times as long as those of others gets none."""
        _, chooser = self.slowed(0.01, 0.3, 0.012)
        self.assertEqual(set(shares(chooser, 200)), {"e0", "e2"})

    def test_slowUnderLoad(self) -> None:
        """It gets some if the others have many times as many outstanding."""
        endpoints, chooser = self.slowed(0.01, 0.1)
        occupy(endpoints[0], 9)
        self.assertEqual(shares(chooser, 50), {"e0": 50})
        occupy(endpoints[0], 2)
        self.assertEqual(shares(chooser, 50), {"e1": 50})

    def test_slowIsForgotten(self) -> None:
        """After a while without a response it gets a request, to find out."""
        endpoints, chooser = self.slowed(0.01, 0.3)
        chooser.choose(asking(), ())
        self.clock.advance(balancer.FORGET_SECONDS - 0.01)
        self.assertEqual(set(shares(chooser, 200)), {"e0"})
        self.clock.advance(balancer.SHARES_SECONDS)
        self.assertEqual(set(shares(chooser, 200)), {"e0", "e1"})
        endpoints[1].answered(200, 0.3)
        self.clock.advance(balancer.SHARES_SECONDS)
        self.assertEqual(set(shares(chooser, 200)), {"e0"})

    def test_quickAgain(self) -> None:
        """One quick response is enough to be an endpoint like others."""
        endpoints, chooser = self.slowed(0.01, 0.3)
        endpoints[1].answered(200, 0.01)
        self.clock.advance(balancer.SHARES_SECONDS)
        self.assertEqual(set(shares(chooser, 200)), {"e0", "e1"})

    def test_notSlow(self) -> None:
        """
        Smaller differences make no difference, nor do single slow responses, nor is one slow
        among others that are.
        """
        for waits in ((0.1, 0.39), (0.001, 0.019), (0.3, 0.01, 0.3, 0.3), (0.0, 0.3)):
            endpoints, chooser = self.slowed(*waits)
            self.assertEqual(len(shares(chooser, 300)), len(endpoints), waits)
        endpoints, chooser = self.slowed(0.01, 0.01)
        for wait in (9.0, 9.0):
            endpoints[1].answered(200, wait)
        self.clock.advance(balancer.SHARES_SECONDS)
        self.assertEqual(len(shares(chooser, 300)), 2)

    @given(
        weights=st.lists(st.integers(1, 1000), min_size=2, max_size=8),
        numbers=st.lists(st.floats(0, 1, exclude_max=True), min_size=40, max_size=40),
    )
    def test_anyNumbers(self, weights: list[int], numbers: list[float]) -> None:
        """Whatever the weights and the random numbers, an endpoint is found."""
        endpoints = self.endpoints(*weights)
        chooser = LeastRequests(self.clock, iter(numbers).__next__)
        chooser.update(endpoints, endpoints)
        for _ in range(2):
            self.assertIn(chooser.choose(asking(), ()), endpoints)


#: So many keys tell shares to a percent or two.
KEYS = [asking(f"/{number}") for number in range(3000)]


class HashRingTests(BalancerCase):
    """The endpoint to which a key leads."""

    def places(self, chooser: HashRing) -> list[str]:
        return [getattr(chooser.choose(each, ()), "address", "") for each in KEYS]

    def moved(self, before: list[str], after: list[str]) -> Counter[tuple[str, str]]:
        """How many keys have moved, by where from and where to."""
        return Counter(pair for pair in zip(before, after) if pair[0] != pair[1])

    def test_same(self) -> None:
        """One key always leads to one endpoint, also in another process."""
        self.assertEqual(hashOf("/a"), 12428406182287002128)
        one, two = self.ring(self.endpoints(1, 1, 1)), self.ring(self.endpoints(1, 1, 1)[::-1])
        self.assertEqual(self.places(one), self.places(two))

    def test_shares(self) -> None:
        """The keys are shared by weight, within some percent."""
        found = Counter(self.places(self.ring(self.endpoints(1, 1, 2))))
        self.assertApproximates(found["e0"], 750, 120)
        self.assertApproximates(found["e1"], 750, 120)
        self.assertApproximates(found["e2"], 1500, 150)

    def test_unusable(self) -> None:
        """Only the keys of an endpoint that fails move, to all others; and they come back."""
        endpoints = self.endpoints(1, 1, 1, 1)
        chooser = self.ring(endpoints)
        before = self.places(chooser)
        chooser.update(endpoints, endpoints[1:])
        moved = self.moved(before, self.places(chooser))
        self.assertEqual(set(moved), {("e0", "e1"), ("e0", "e2"), ("e0", "e3")})
        self.assertEqual(sum(moved.values()), before.count("e0"))
        chooser.update(endpoints, endpoints)
        self.assertEqual(self.places(chooser), before)

    def test_joined(self) -> None:
        """Keys move only to an endpoint that joins, and not more than its share."""
        endpoints = self.endpoints(1, 1, 1, 1)
        chooser = self.ring(endpoints[:3])
        before = self.places(chooser)
        chooser.update(endpoints, endpoints)
        moved = self.moved(before, self.places(chooser))
        self.assertEqual({to for _, to in moved}, {"e3"})
        self.assertApproximates(sum(moved.values()), 750, 120)

    def test_tried(self) -> None:
        """A retry goes to another endpoint; if all were tried, to the first again."""
        endpoints = self.endpoints(1, 1, 1)
        chooser = self.ring(endpoints)
        first = chooser.choose(asking("/a"), ())
        assert first is not None
        second = chooser.choose(asking("/a"), (first,))
        assert second is not None
        self.assertIsNot(first, second)
        third = chooser.choose(asking("/a"), (first, second))
        self.assertEqual({first, second, third}, set(endpoints))
        self.assertIs(chooser.choose(asking("/a"), endpoints), first)

    def test_withoutKey(self) -> None:
        """A request without a key goes where the fewest requests are."""
        endpoints = self.endpoints(1, 1)
        chooser = HashRing(hashKey("cookie:c"), LeastRequests(self.clock, self.random.random))
        chooser.update(endpoints, endpoints)
        occupy(endpoints[0], 1)
        self.assertEqual(shares(chooser, 20), {"e1": 20})

    def test_none(self) -> None:
        """Without usable endpoints there is nothing to choose."""
        chooser = self.ring(endpoints := self.endpoints(1, 1))
        chooser.update(endpoints, [])
        self.assertIsNone(chooser.choose(asking(), ()))

    def test_bounded(self) -> None:
        """However many endpoints and weights there are, the ring has a limited size."""
        sizes = []
        for count in (1, 64, 65, 256):
            chooser = self.ring(self.endpoints(*([7] * count)))
            sizes.append(len(chooser._ring))
        self.assertEqual(sizes, [POINTS, MAX_POINTS, 65 * POINTS // 4, MAX_POINTS])

    def test_madeOnce(self) -> None:
        """The ring is made anew only when endpoints or weights change."""
        endpoints = self.endpoints(1, 1)
        chooser = self.ring(endpoints)
        made: list[int] = []

        def points(address: str, count: int) -> list[int]:
            made.append(count)
            return [1]

        self.patch(balancer, "_points", points)
        chooser.update(endpoints, endpoints[:1])
        self.assertEqual(made, [])
        endpoints[0].weight = 3
        chooser.update(endpoints, endpoints)
        self.assertEqual(made, [384, 128])
