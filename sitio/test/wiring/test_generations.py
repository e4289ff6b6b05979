"""
Tests of L{sitio.wiring.generations}: what is configured is replaced while traffic flows.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio import Response
from sitio.http.message import Headers, Request
from sitio.interfaces import IRequestPolicy
from sitio.net.deadlines import Deadlines
from sitio.policy.chain import Chain
from sitio.proxy.context import ProxyContext
from sitio.proxy.generation import Generation, Route
from sitio.settings import Settings
from sitio.testing.network import MemoryEndpoint
from sitio.upstream.pool import NO_COUNTS, PoolCounts, UpstreamPool
from sitio.wiring.generations import Generations, MakeGeneration, ofOne


@implementer(IRequestPolicy)
class ServingPolicy(Service):
    """A policy that is a service, and notes its life."""

    def __init__(self, story: list[str], name: str, fails: bool = False) -> None:
        self._story, self._called, self._fails = story, name, fails

    def startService(self) -> None:
        if self._fails:
            raise RuntimeError("no database")
        Service.startService(self)
        self._story.append(f"{self._called} starts")

    def stopService(self) -> None:
        Service.stopService(self)
        self._story.append(f"{self._called} stops")

    def requestReceived(self, exchange: object) -> Response | None:
        return None


class NotedUpstream:
    """An upstream that notes its life."""

    only = None
    pools = ()

    def __init__(self, story: list[str], name: str) -> None:
        self.name, self._story = name, story

    def start(self) -> None:
        self._story.append(f"{self.name} starts")

    def counts(self) -> PoolCounts:
        return {**NO_COUNTS, "opened": 1}

    def stop(self) -> Deferred[None]:
        self._story.append(f"{self.name} stops")
        return succeed(None)


class Anything:
    """Has the attributes that a test gives it."""


class GenerationsTests(SynchronousTestCase):
    """A generation starts before it is used, and stops when nothing needs it any more."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.story: list[str] = []
        self.upstreams: dict[str, Any] = {}
        deadlines = Deadlines(self.clock)
        self.context = ProxyContext(self.clock, self.make("a", ["up"])(deadlines, None))
        self.generations = Generations(self.clock, deadlines, self.context)

    def make(self, name: str, upstreams: list[str], fails: bool = False) -> MakeGeneration:
        """A generation with one policy; upstreams of equal names are the same."""

        def make(deadlines: Deadlines, former: Generation | None) -> Generation:
            used: dict[str, Any] = {}
            for each in upstreams:
                known = {} if former is None else former.upstreams
                used[each] = known.get(each) or NotedUpstream(self.story, each)
            policy = ServingPolicy(self.story, name, fails)
            route = Route(Chain([(name, policy)], clock=self.clock), None, upstreams=used)
            number = 1 if former is None else former.number + 1
            return Generation(route, upstreams=used, number=number)

        return make

    def begin(self) -> Any:
        """An exchange of the current generation begins."""
        exchange: Any = Anything()
        exchange.chain = self.context.generation.fallback.chain
        self.context.exchanges.add(exchange)
        return exchange

    def test_life(self) -> None:
        """The new starts before the old stops, and the old stops after its last exchange."""
        self.generations.startService()
        exchange = self.begin()
        prepared = self.generations.prepare(self.make("b", ["up", "other"]))
        self.assertEqual(self.story, ["a starts", "up starts", "b starts"])
        self.assertEqual(self.context.generation.number, 1)
        ended = self.generations.adopt(prepared)
        self.assertEqual(self.story[3:], ["other starts"])
        self.assertNoResult(ended)
        self.context.exchangeFinished(exchange)
        self.assertEqual(self.story[4:], ["a stops"])
        self.assertIsNone(self.successResultOf(ended))
        self.successResultOf(self.generations.adopt(self.generations.prepare(self.make("c", []))))
        self.assertEqual(self.story[5:], ["c starts", "b stops", "up stops", "other stops"])
        self.assertEqual(len(self.generations.prepared), 1)

    def test_counts(self) -> None:
        """What the connections of an upstream have counted stays when it is dropped."""
        counts = []
        for upstreams in (["up"], ["up", "other"], []):
            prepared = self.generations.prepare(self.make("b", upstreams))
            self.successResultOf(self.generations.adopt(prepared))
            counts.append(self.generations.poolCounts()["opened"])
        self.assertEqual(counts, [1, 2, 2])

    def test_failing(self) -> None:
        """
        A policy that can't start leaves all as it was; what it began to do stops, with all else
        that is new.
        """
        self.generations.startService()
        self.assertRaises(RuntimeError, self.generations.prepare, self.make("b", ["new"], True))
        self.assertEqual(self.story, ["a starts", "up starts", "b stops", "new stops"])
        self.assertEqual(self.context.generation.number, 1)
        self.assertEqual(len(list(self.generations)), 1)

    def test_discarded(self) -> None:
        """A generation that is dropped before its use stops; what the current one has goes on."""
        self.generations.startService()
        prepared = self.generations.prepare(self.make("b", ["up", "new"]))
        self.successResultOf(self.generations.discard(prepared))
        self.assertEqual(self.story[2:], ["b starts", "b stops", "new stops"])
        self.assertEqual(len(list(self.generations)), 1)

    def test_late(self) -> None:
        """
        Of two that were prepared at one time only one can be adopted: upstreams of the other may
        have stopped.
        """
        self.generations.startService()
        first = self.generations.prepare(self.make("b", []))
        second = self.generations.prepare(self.make("c", ["up"]))
        self.successResultOf(self.generations.adopt(first))
        self.assertRaises(ValueError, self.generations.adopt, second)
        self.assertIs(self.context.generation, first.generation)
        self.assertEqual(self.story[-2:], ["c stops", "up stops"])
        self.assertEqual(len(list(self.generations)), 1)

    def test_stopped(self) -> None:
        """With sitio all generations stop."""
        self.generations.startService()
        self.begin()
        self.generations.adopt(self.generations.prepare(self.make("b", ["up"])))
        self.successResultOf(self.generations.stopUpstreams())
        self.generations.stopService()
        self.assertEqual(sorted(self.story[3:]), ["a stops", "b stops", "up stops"])

    def test_counted(self) -> None:
        """Policies of the same name go on counting; names that are gone are not told."""
        exchange: Any = Anything()
        exchange.request = Request("GET", "/", Headers())
        exchange.policyTime = 0.0

        def called() -> dict[str, int]:
            return {each["name"]: each["called"] for each in self.generations.policyMetrics()}

        self.context.chain.requestReceived(exchange)
        for name, expected in (("a", {"a": 1}), ("a", {"a": 2}), ("b", {"b": 0}), ("a", {"a": 3})):
            self.generations.adopt(self.generations.prepare(self.make(name, [])))
            self.assertEqual(called(), expected)
            if name == "a":
                self.context.chain.requestReceived(exchange)

    def test_ofOne(self) -> None:
        """A generation with one route has the policies and the pool of one endpoint."""

        def pooled(settings: Settings, deadlines: Deadlines) -> UpstreamPool:
            return UpstreamPool(self.clock, MemoryEndpoint(self.clock), settings, deadlines)

        make = ofOne(pooled, "10.0.0.1:80", ["error-page:404"], Settings(maxClients=7), b"sitio")
        made = make(Deadlines(self.clock), self.context.generation)
        self.assertEqual(made.number, 2)
        assert made.only is not None and made.only.upstream is not None
        assert made.only.upstream.only is not None
        self.assertEqual(made.only.upstream.only.address, "10.0.0.1:80")
        self.assertIsInstance(made.only.pool, UpstreamPool)
        self.assertEqual([name for name, _ in made.policies()], ["error-page"])
        self.assertEqual((made.only.via, made.settings.maxClients), (b"sitio", 7))
