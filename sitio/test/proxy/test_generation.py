"""
Tests of L{sitio.proxy.generation}, through a whole proxy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from sitio import Exchange, Response, Retry, onRequest, onResponse
from sitio.errors import BadResponse, ConnectFailed, NoEndpoint, NoRoute, SitioError
from sitio.http.message import Headers, Request
from sitio.http.requestmatch import MatchTable, PathRewrite, RequestMatch
from sitio.net.deadlines import Deadlines
from sitio.policy.chain import Chain
from sitio.proxy.connecting import MAX_TRIED
from sitio.proxy.generation import Generation, Route, Split
from sitio.settings import Settings
from sitio.test.helpers.upstreams import Network, listed
from sitio.testing.harness import Harness
from sitio.testing.network import MemoryEndpoint
from sitio.upstream.budget import Budget
from sitio.upstream.cluster import Cluster
from sitio.upstream.fixed import FixedUpstream
from sitio.upstream.pool import UpstreamPool
from sitio.upstream.uploadslots import slotsOf

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(target: str, *lines: str, host: str = "h") -> bytes:
    """A GET with these field lines."""
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


class TwoRoutes:
    """
    A proxy in memory with two upstreams, C{main} and C{canary}.

    @ivar made: makes generations of the harness's own route, to C{main}.
    """

    def __init__(self, makeRoutes: Any, policies: Any = ()) -> None:
        self._makeRoutes = makeRoutes
        self.harness = Harness(policies, generation=self.generation)
        self.client = self.harness.connect()
        self.harness.acceptConnections()
        self.endpoint.decision = self.endpoint.accept

    def generation(self, route: Route) -> Generation:
        clock: Any = route.chain._clock
        self.endpoint = MemoryEndpoint(clock)
        settings = route.settings
        pool = UpstreamPool(clock, self.endpoint, settings, Deadlines(clock))
        assert route.upstream is not None
        main = FixedUpstream("main", route.upstream.only.pool)  # type: ignore[union-attr, arg-type]
        upstreams = {"main": main, "canary": FixedUpstream("canary", pool, "10.0.0.9:80")}
        base = evolve(route, upstream=main, upstreams=upstreams)
        made = self._makeRoutes(base)
        return Generation(
            fallback=evolve(base, upstream=None),
            table=MatchTable([match for match, _ in made]),
            routes=[each for _, each in made],
            upstreams=upstreams,
            settings=settings,
        )

    def asks(self, data: bytes) -> None:
        """The client sends a request."""
        self.client.sends(data)
        self.harness.settle()

    @property
    def canaries(self) -> list[Any]:
        """The connections to C{canary}."""
        self.harness.settle()
        return self.endpoint.peers


class RouteTests(SynchronousTestCase):
    """Each request takes its route, whatever others do."""

    def test_ownUpstreamAndPolicies(self) -> None:
        """A route has its own upstream, and its policies after those of all routes."""

        @onResponse()
        def everywhere(exchange: Exchange, response: Response) -> None:
            response.headers.add("X-By", "all")

        @onResponse()
        def here(exchange: Exchange, response: Response) -> None:
            response.headers.add("X-By", "api")

        def routes(base: Route) -> list[tuple[RequestMatch, Route]]:
            own = Chain([("here", here)], clock=base.chain._clock, first=base.chain)
            return [
                (RequestMatch(prefix="/api"), evolve(base.toward("canary"), chain=own)),
                (RequestMatch(path="/a"), base),
            ]

        two = TwoRoutes(routes, everywhere)
        two.asks(get("/api/x"))
        [canary] = two.canaries
        self.assertIn(b"GET /api/x HTTP/1.1", canary.got())
        canary.sends(OK)
        self.assertEqual(two.client.gotResponse().headers.getAll("X-By"), ["all", "api"])
        two.asks(get("/a"))
        two.harness.upstream().sends(OK)
        self.assertEqual(two.client.gotResponse().headers.getAll("X-By"), ["all"])
        counted = {
            e["name"]: e["acted"] + e["called"] for e in two.harness.context.generation.snapshot()
        }
        self.assertEqual(counted, {"everywhere": 2, "here": 1})

    def test_noRoute(self) -> None:
        """A request that takes no route gets 404, unless a policy of all routes answers it."""

        @onRequest
        def health(exchange: Exchange) -> Response | None:
            return Response(text="well") if exchange.request.path == "/health" else None

        two = TwoRoutes(lambda base: [(RequestMatch(path="/a"), base)], health)
        two.asks(get("/b"))
        self.assertEqual(two.client.gotResponse().status, 404)
        [exchange] = two.harness.exchanges
        self.assertIsInstance(exchange.failure, NoRoute)
        self.assertEqual((exchange.attempts, exchange.upstream), (0, ""))
        two.asks(get("/health"))
        self.assertEqual(two.client.gotResponse().status, 200)

    def test_ambiguous(self) -> None:
        """A path that may be one of another route gets 400, and its connection goes on."""
        two = TwoRoutes(
            lambda base: [(RequestMatch(prefix="/admin"), base), (RequestMatch(), base)]
        )
        two.asks(get("/%61dmin"))
        self.assertEqual(two.client.gotResponse().status, 400)
        two.asks(get("/x"))
        two.harness.upstream().sends(OK)
        self.assertEqual(two.client.gotResponse().status, 200)

    def test_chosenByPolicy(self) -> None:
        """A request policy chooses another upstream by its name; an unknown one is a failure."""

        @onRequest
        def canary(exchange: Exchange) -> None:
            name = exchange.request.cookies.get("group")
            if name:
                exchange.upstream = name

        two = TwoRoutes(lambda base: [(RequestMatch(), base)], canary)
        two.asks(get("/x", "Cookie: group=canary"))
        two.canaries[0].sends(OK)
        self.assertEqual(two.client.gotResponse().status, 200)
        self.assertEqual(two.harness.exchanges[0].upstream, "canary")
        self.assertEqual(two.harness.exchanges[0].upstreamAddress, "10.0.0.9:80")
        two.asks(get("/x", "Cookie: group=none"))
        self.assertEqual(two.client.gotResponse().status, 500)
        self.flushLoggedErrors(ValueError)
        self.assertEqual(
            [str(each) for each in two.harness.errors],
            ["there is no upstream 'none': the upstreams are canary, main"],
        )

    def test_notChosenTooLate(self) -> None:
        """The upstream can't be chosen while the request is on its way."""
        two = TwoRoutes(lambda base: [(RequestMatch(), base)])
        two.asks(get("/x"))
        [exchange] = two.harness.context.exchanges
        with self.assertRaises(ValueError):
            exchange.upstream = "canary"

    def test_rewritten(self) -> None:
        """The upstream gets another path; policies and observers see the client's."""
        rewrite = PathRewrite.ofTemplate("/users/{id}", "/v2/{id}")
        two = TwoRoutes(
            lambda base: [(RequestMatch(path="/users/{id}"), evolve(base, rewrite=rewrite))]
        )
        two.asks(get("/users/7?x=1"))
        self.assertIn(b"GET /v2/7?x=1 HTTP/1.1\r\n", two.harness.upstream().got())
        two.harness.upstream().sends(OK)
        self.assertEqual(two.client.gotResponse().status, 200)
        [exchange] = two.harness.exchanges
        self.assertEqual(exchange.request.target, "/users/7?x=1")
        self.assertEqual(exchange.request.receivedLine.target, "/users/7?x=1")

    def test_limits(self) -> None:
        """A route has its own timeout, and its own limit of a body, announced or in chunks."""

        def routes(base: Route) -> list[tuple[RequestMatch, Route]]:
            small = evolve(base.settings, responseTimeout=1.0, maxBody=4)
            return [
                (RequestMatch(prefix="/s"), evolve(base, name="small", settings=small, maxBody=4)),
                (RequestMatch(), base),
            ]

        chunked = "POST {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        for data, statuses in (
            ("POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", (413, None)),
            (chunked + "5\r\nhello\r\n0\r\n\r\n", (413, None)),
            (chunked + "3\r\nhel\r\n", (None, None)),
        ):
            for path, status in zip(("/s", "/l"), statuses):
                two = TwoRoutes(routes)
                two.asks(data.format(path).encode())
                if status is None:
                    self.assertEqual(two.client.got(), b"")
                    self.assertTrue(two.harness.upstream().got())
                else:
                    self.assertEqual(two.client.gotResponse().status, status)
                    self.assertEqual(two.harness.exchanges[0].route.name, "small")
                if path == "/s" and status is None:
                    two.client.sends(b"3\r\nlo!\r\n")
                    self.assertEqual(two.client.gotResponse().status, 413)
        two = TwoRoutes(routes)
        two.asks(get("/s"))
        two.harness.advance(3)
        self.assertEqual(two.client.gotResponse().status, 504)


class SplitTests(SynchronousTestCase):
    """Requests are shared between upstreams by weight."""

    def test_shares(self) -> None:
        """Each upstream gets its share."""
        split = Split((("a", 90), ("b", 10), ("c", 0)), random=Random(1))
        counted = Counter(split.choose(Request("GET", "/")) for _ in range(10_000))
        self.assertEqual(set(counted), {"a", "b"})
        self.assertTrue(850 < counted["b"] < 1150, counted)

    def test_sticky(self) -> None:
        """Equal values of a field or cookie lead to the same upstream; values are shared evenly."""
        for split, named in (
            (Split((("a", 3), ("b", 1)), stickyField="X-User"), "X-User: {}"),
            (Split((("a", 3), ("b", 1)), stickyCookie="user"), "Cookie: x=y; user={}"),
        ):
            counted: Counter[str] = Counter()
            for number in range(2000):
                name, _, value = named.format(f"user{number}").partition(": ")
                request = Request("GET", "/", Headers({name: value}))
                chosen = {split.choose(request) for _ in range(3)}
                self.assertEqual(len(chosen), 1)
                counted.update(chosen)
            self.assertTrue(400 < counted["b"] < 600, counted)

    def test_route(self) -> None:
        """A route with a split sends each request to the chosen upstream."""
        split = Split((("main", 0), ("canary", 1)))
        two = TwoRoutes(lambda base: [(RequestMatch(), evolve(base, split=split))])
        two.asks(get("/"))
        self.assertEqual(len(two.canaries), 1)


class AdoptTests(SynchronousTestCase):
    """Another generation takes the place of one."""

    def test_pinned(self) -> None:
        """
        An exchange keeps the route with which it began; the next one on the same connection
        takes the new; the old generation ends with its last exchange.
        """
        harness = Harness()
        client = harness.connect()
        client.sends(get("/a"))
        context = harness.context
        former = context.generation
        assert former.only is not None
        settings = evolve(former.only.settings, responseTimeout=1.0)
        route = evolve(former.only, settings=settings, via=b"new")
        ended: list[object] = []
        context.adopt(Generation.ofOne(route, 2)).addCallback(ended.append)
        harness.acceptConnections()
        harness.advance(5)
        harness.upstream().sends(OK)
        self.assertNotIn("Via", client.gotResponse().headers)
        self.assertEqual(ended, [None])
        client.sends(get("/b"))
        harness.upstream().sends(OK)
        self.assertIn("Via", client.gotResponse().headers)

    def test_several(self) -> None:
        """Each of several former generations ends with its own last exchange."""
        harness = Harness()
        harness.acceptConnections()
        clients = [harness.connect() for _ in range(3)]
        ended: list[int] = []
        for number, client in enumerate(clients):
            client.sends(get(f"/{number}"))
            assert harness.context.generation.only is not None
            left = harness.context.adopt(
                Generation.ofOne(harness.context.generation.only, number + 2)
            )
            left.addCallback(partial(self._note, ended, number))
        for number in (1, 0, 2):
            harness.upstream(number).sends(OK)
        self.assertEqual(ended, [1, 0, 2])
        self.assertEqual(harness.context._ending, [])

    def _note(self, ended: list[int], number: int, _: object) -> None:
        ended.append(number)

    def test_nothingUnderWay(self) -> None:
        """A generation without exchanges ends at once."""
        harness = Harness()
        assert harness.context.generation.only is not None
        left = harness.context.adopt(Generation.ofOne(harness.context.generation.only, 2))
        self.assertIsNone(self.successResultOf(left))

    def test_observersFirst(self) -> None:
        """A generation ends when its policies have observed its last exchange, not before."""
        seen: list[str] = []

        class Observing:
            def exchangeFinished(self, exchange: Exchange) -> None:
                seen.append("observed")

        harness = Harness(Observing())
        harness.acceptConnections()
        client = harness.connect()
        client.sends(get("/"))
        assert harness.context.generation.only is not None
        left = harness.context.adopt(Generation.ofOne(harness.context.generation.only, 2))
        left.addCallback(lambda _: seen.append("ended"))
        harness.upstream().sends(OK)
        self.assertEqual(client.gotResponse().status, 200)
        self.assertEqual(seen, ["observed", "ended"])

    def test_limitsOfConnections(self) -> None:
        """New connections have the limits of the generation at their beginning."""
        harness = Harness(settings=Settings(maxHead=200))
        assert harness.context.generation.only is not None
        old = harness.connect()
        larger = evolve(harness.context.generation.only, settings=Settings())
        harness.context.adopt(Generation.ofOne(larger, 2))
        harness.factory.useSettings()
        new = harness.connect()
        for client, status in ((old, 431), (new, 200)):
            client.sends(get("/", "X-Long: " + "a" * 300))
            if status == 200:
                harness.acceptConnections()
                harness.upstream().sends(OK)
            self.assertEqual(client.gotResponse().status, status)


@define(eq=False)
class ToldEndpoint:
    """An endpoint that notes what it is told."""

    address: str
    pool: UpstreamPool
    told: list[Any] = field(factory=list)

    def answered(self, status: int, seconds: float) -> None:
        self.told.append((status, seconds))

    def failed(self, error: SitioError) -> None:
        self.told.append(type(error))


class Several:
    """An upstream whose endpoints are chosen in order, again those that were tried if it must."""

    name = "several"
    only = None

    def __init__(self, endpoints: list[ToldEndpoint]) -> None:
        self.endpoints = endpoints
        self.pools = [each.pool for each in endpoints]
        self.budget = Budget(0.0)
        self.retries = None

    def start(self) -> None:
        """Nothing begins."""

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def choose(self, exchange: Any, tried: Sequence[Any]) -> ToldEndpoint | None:
        rest = [each for each in self.endpoints if each not in tried]
        return next(iter(rest or self.endpoints), None)


class EndpointTests(SynchronousTestCase):
    """An upstream with several endpoints."""

    def begin(self, count: int, policies: Any = ()) -> None:
        self.networks: list[MemoryEndpoint] = []

        def generation(route: Route) -> Generation:
            clock: Any = route.chain._clock
            self.endpoints: list[ToldEndpoint] = []
            for number in range(count):
                network = MemoryEndpoint(clock)
                self.networks.append(network)
                pool = UpstreamPool(clock, network, route.settings, Deadlines(clock))
                self.endpoints.append(ToldEndpoint(f"10.0.0.{number}", pool))
            upstream: Any = Several(self.endpoints)
            return Generation.ofOne(evolve(route, upstream=upstream))

        self.harness = Harness(policies, generation=generation)
        self.client = self.harness.connect()

    def decide(self, *verdicts: str) -> None:
        """What each endpoint does with connections: C{accept} or C{refuse}."""
        for network, verdict in zip(self.networks, verdicts):
            network.decision = getattr(network, verdict)

    def test_told(self) -> None:
        """The endpoint hears of the status of each response, and of each failure."""
        self.begin(1)
        self.decide("accept")
        self.client.sends(get("/a"))
        self.harness.settle()
        self.harness.clock.advance(0.5)
        self.networks[0].peers[0].sends(OK)
        self.assertEqual(self.client.gotResponse().status, 200)
        self.client.sends(get("/b"))
        self.networks[0].peers[0].sends(b"bad\r\n\r\n")
        self.assertEqual(self.client.gotResponse().status, 502)
        self.assertEqual(self.endpoints[0].told, [(200, 0.5), BadResponse])
        [first, _] = self.harness.exchanges
        self.assertEqual(first.upstreamAddress, "10.0.0.0")

    def test_another(self) -> None:
        """
        One that refuses connections is passed over, in the same attempt; the request is not
        sent twice.
        """
        self.begin(3)
        self.decide("refuse", "refuse", "accept")
        self.client.sends(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n12")
        self.harness.settle()
        self.client.sends(b"34")
        peer = self.networks[2].peers[0]
        self.assertTrue(peer.got().endswith(b"\r\n\r\n1234"))
        peer.sends(OK)
        self.assertEqual(self.client.gotResponse("POST").status, 200)
        [exchange] = self.harness.exchanges
        self.assertEqual(exchange.attempts, 1)
        self.assertEqual([each.told[0] for each in self.endpoints[:2]], [ConnectFailed] * 2)
        self.assertEqual(exchange.upstreamAddress, "10.0.0.2")
        for each in self.endpoints:
            self.assertEqual(each.pool.uploads._free, slotsOf(Settings()))

    def test_bound(self) -> None:
        """Not more than some endpoints are tried for one attempt, and each once."""
        for count, tried in ((1, 1), (2, 2), (MAX_TRIED, MAX_TRIED), (MAX_TRIED + 2, MAX_TRIED)):
            self.begin(count)
            self.decide(*["refuse"] * count)
            self.client.sends(get("/"))
            self.assertEqual(self.client.gotResponse().status, 502)
            told = [each.told for each in self.endpoints]
            self.assertEqual(told, [[ConnectFailed]] * tried + [[]] * (count - tried))

    def test_retry(self) -> None:
        """A retry goes to another endpoint."""

        @onResponse(503)
        def again(exchange: Exchange, response: Response) -> Retry | None:
            return Retry() if exchange.attempts == 1 else None

        self.begin(2, again)
        self.decide("accept", "accept")
        self.client.sends(get("/"))
        self.harness.settle()
        self.networks[0].peers[0].sends(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        self.harness.settle()
        self.networks[1].peers[0].sends(OK)
        self.assertEqual(self.client.gotResponse().status, 200)

    def test_none(self) -> None:
        """Without an endpoint the client gets 503; policies see it as a failure."""
        seen = []

        @onResponse(503)
        def see(exchange: Exchange, response: Response) -> None:
            seen.append(type(response.failure))

        self.begin(0, see)
        self.client.sends(get("/"))
        self.assertEqual(self.client.gotResponse().status, 503)
        self.assertEqual(seen, [NoEndpoint])

    def test_switched(self) -> None:
        """A switch of protocols is an answer."""
        self.begin(1)
        self.decide("accept")
        self.client.sends(get("/", "Connection: upgrade", "Upgrade: websocket"))
        self.harness.settle()
        self.networks[0].peers[0].sends(
            b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        self.assertEqual(self.endpoints[0].told, [(101, 0.0)])


class ElsewhereTests(SynchronousTestCase):
    """A response policy sends the request to another upstream."""

    def begin(self, target: str, isRetried: bool = True, **settings: Any) -> None:
        """
        The upstream C{first} answers 503; a policy chooses C{target} then.

        @param settings: of the cluster C{second}.
        """

        @onResponse(503)
        def elsewhere(exchange: Exchange, response: Response) -> Retry | None:
            exchange.upstream = target
            return Retry() if isRetried and exchange.attempts == 1 else None

        def generation(route: Route) -> Generation:
            clock: Any = route.chain._clock
            self.network = Network(clock)
            self.clusters = {
                name: Cluster(
                    name,
                    listed("a:1", "b:1", **more),
                    clock=clock,
                    connect=self.network.connect,
                    deadlines=Deadlines(clock),
                    random=lambda: 0.0,
                )
                for name, more in (("first", {}), ("second", settings))
            }
            upstreams: Any = {**self.clusters, "fixed": route.upstream}
            self.budgets = {name: each.budget for name, each in upstreams.items()}
            first: Any = self.clusters["first"]
            made = evolve(route, upstream=first, upstreams=upstreams)
            return Generation(made, upstreams=upstreams)

        self.harness = Harness(elsewhere, generation=generation)
        self.harness.acceptConnections()
        for places in self.network.endpoints.values():
            for each in places:
                each.decision = each.accept
        self.client = self.harness.connect()
        self.client.sends(get("/"))
        self.harness.settle()
        self.network.peers("a:1")[0].sends(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        self.harness.settle()

    def failures(self, name: str) -> list[int]:
        """How many requests failed at each endpoint of an upstream."""
        return [each["failed"] for each in self.clusters[name].snapshot()["endpoints"]]

    def test_toOneEndpoint(self) -> None:
        """What happens at an upstream with one endpoint is not put down to one of the first."""
        self.begin("fixed")
        self.harness.upstream().resets()
        self.assertEqual(self.client.gotResponse().status, 502)
        [exchange] = self.harness.exchanges
        self.assertEqual((exchange.upstream, exchange.upstreamAddress), ("upstream", "upstream"))
        self.assertEqual(self.failures("first"), [1, 0])

    def test_toSeveral(self) -> None:
        """
        All endpoints of the other upstream are new to the request, those with equal addresses as
        well, also if their connections are made for each client.
        """
        for more in ({}, {"hashOn": "path"}, {"identifies": True}):
            self.begin("second", **more)
            peers = [each for name in ("a:1", "b:1") for each in self.network.peers(name)]
            [second] = [each for each in peers if each.pieces and each is not peers[0]]
            second.sends(OK)
            self.assertEqual(self.client.gotResponse().status, 200)
            self.assertEqual(self.harness.exchanges[0].upstream, "second")
            self.assertEqual(self.failures("first"), [1, 0])

    def test_budget(self) -> None:
        """The retry is one of the other upstream, which gets the load."""
        self.begin("second")
        self.assertEqual([self.budgets[n].retries for n in ("first", "second")], [0, 1])

    def test_notRetried(self) -> None:
        """Without another attempt the response is still that of the first upstream."""
        self.begin("second", isRetried=False)
        self.assertEqual(self.client.gotResponse().status, 503)
        [exchange] = self.harness.exchanges
        self.assertEqual((exchange.upstream, exchange.upstreamAddress), ("first", "a:1"))
