"""
Tests of L{sitio.wiring.plan}: a configuration becomes routes, chains and upstreams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.model import Config, ForwardedConfig, RouteConfig
from sitio.config.places import ConfigErrors, Places
from sitio.config.policies import PolicyConfig
from sitio.config.tables import (
    EjectionConfig,
    HealthConfig,
    ResolveConfig,
    RetriesConfig,
    RouteLimits,
    UpstreamTLSConfig,
)
from sitio.config.upstreams import EndpointConfig, UpstreamConfig
from sitio.http.message import Headers, Request
from sitio.net.deadlines import Deadlines
from sitio.proxy.generation import Generation
from sitio.proxy.trust import ForwardedSettings, Trust
from sitio.settings import Settings
from sitio.testing.network import MemoryEndpoint
from sitio.upstream.budget import MINIMUM, SHARE
from sitio.upstream.cluster import Cluster
from sitio.upstream.fixed import FixedUpstream
from sitio.wiring.plan import Plan, shownAddress, templatesOf


def upstream(name: str, *addresses: str, **more: Any) -> UpstreamConfig:
    """An upstream with these endpoints."""
    return UpstreamConfig(name, endpoints=tuple(map(EndpointConfig, addresses)), **more)


MAIN = upstream("main", "tcp:10.0.0.1:80")
CANARY = upstream("canary", "tcp:10.0.0.2:80")


def asked(target: str, **fields: str) -> Request:
    """A GET."""
    return Request("GET", target, Headers({"Host": "h", **fields}))


class PlanTests(SynchronousTestCase):
    """What is configured is what exchanges get."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.asked: list[tuple[str, str]] = []

    def connects(self, config: UpstreamConfig) -> Callable[[str], Any]:
        """Notes the addresses to which somebody will connect."""

        def connect(address: str) -> Any:
            self.asked.append((config.name, address))
            return MemoryEndpoint(self.clock)

        return connect

    def made(self, config: Config, former: Generation | None = None) -> Generation:
        """A generation of a configuration."""
        return Plan(config, self.clock, self.connects).make(self.deadlines, former)

    def test_retries(self) -> None:
        """
        An upstream with retries has what its table says, also with one endpoint; with another
        table it is another upstream.
        """
        table = RetriesConfig(
            budget=0.5, minimum=2.0, attempts=4, perTryTimeout=1.5, hedgeAfter=0.25
        )
        config = Config(upstreams=(evolve(MAIN, retries=table), CANARY))
        former = self.made(config)
        main: Any = former.upstreams["main"]
        self.assertIsNone(main.only)
        self.assertEqual((main.budget.share, main.budget.minimum), (0.5, 2.0))
        retries = main.retries
        self.assertEqual(
            (retries.attempts, retries.perTryTimeout, retries.hedgeAfter), (4, 1.5, 0.25)
        )
        canary: Any = former.upstreams["canary"]
        self.assertIsNone(canary.retries)
        self.assertEqual((canary.budget.share, canary.budget.minimum), (SHARE, MINIMUM))
        self.assertIs(self.made(config, former).upstreams["main"], main)
        other = Config(upstreams=(evolve(MAIN, retries=evolve(table, attempts=2)),))
        self.assertIsNot(self.made(other, former).upstreams["main"], main)

    def test_oneOfEach(self) -> None:
        """One upstream without routes: all requests go there, with all policies and limits."""
        config = Config(
            upstreams=(MAIN,),
            policies=(PolicyConfig("error-page:404"), PolicyConfig("retry", {"times": 2})),
            limits=Settings(maxBody=10, responseTimeout=5.0),
            forwarded=ForwardedConfig(via=True),
        )
        made = self.made(config)
        route = made.only
        assert route is not None and route.upstream is not None
        self.assertEqual([name for name, _ in made.policies()], ["error-page", "retry"])
        self.assertEqual((route.upstream.name, route.via, route.maxBody), ("main", b"sitio", None))
        self.assertEqual(route.settings.responseTimeout, 5.0)
        self.assertEqual((made.maxBody, made.number), (10, 1))
        self.assertEqual(self.asked, [("main", "tcp:10.0.0.1:80")])
        self.assertIsNotNone(route.pool)

    def test_routes(self) -> None:
        """Each route has its upstream, policies, limits, path and Host."""
        config = Config(
            upstreams=(MAIN, CANARY),
            policies=(PolicyConfig("error-page:404"),),
            routes=(
                RouteConfig(
                    name="users",
                    path="/users/{id}",
                    upstream="canary",
                    policies=(PolicyConfig("deny:PUT:/*"),),
                    rewrite="/v2/{id}",
                    limits=RouteLimits(responseTimeout=1.0, maxBody=5, policyTimeout=2.0),
                    hostForUpstream="api.example",
                ),
                RouteConfig(prefix="/api", upstream="main", stripPrefix="/api"),
                RouteConfig(prefix="/old/", upstream="main", replacePrefix="/new/"),
                RouteConfig(fields=(("X-Beta", True),), upstreams=(("main", 1.0), ("canary", 3.0))),
            ),
        )
        made = self.made(config)
        users = made.routeOf(asked("/users/7"))
        assert users.upstream is not None and users.rewrite is not None
        self.assertEqual((users.name, users.upstream.name), ("users", "canary"))
        self.assertEqual(users.rewrite.apply("/users/7?a"), "/v2/7?a")
        self.assertEqual((users.settings.responseTimeout, users.maxBody), (1.0, 5))
        self.assertEqual((users.host, users.changes), ("api.example", True))
        self.assertEqual([each.name for each in users.chain.members], ["error-page", "deny"])
        for target, rewritten in (("/api/x", "/x"), ("/old/x", "/new/x")):
            route = made.routeOf(asked(target))
            assert route.rewrite is not None
            self.assertEqual(route.rewrite.apply(target), rewritten)
            self.assertIs(route.chain, made.fallback.chain)
        beta = {made.routeOf(asked("/x", **{"X-Beta": "1"})).upstream for _ in range(100)}
        self.assertEqual({each and each.name for each in beta}, {"main", "canary"})
        self.assertIs(made.routeOf(asked("/x")), made.fallback)
        self.assertIsNone(made.fallback.upstream)
        self.assertIsNone(made.maxBody)

    def test_theOnlyUpstream(self) -> None:
        """A route that names no upstream goes to the only one."""
        made = self.made(Config(upstreams=(MAIN,), routes=(RouteConfig(prefix="/a"),)))
        route = made.routeOf(asked("/a"))
        assert route.upstream is not None
        self.assertEqual(route.upstream.name, "main")

    def test_clusters(self) -> None:
        """Several endpoints, DNS, checks and ejection make a cluster with these settings."""
        for config, check in (
            (upstream("a", "tcp:10.0.0.1:80", "tcp:h:81"), lambda s: s.ejection.consecutive == 5),
            (
                upstream("a", "tcp:10.0.0.1:80", health=HealthConfig("/well", interval=3.0)),
                lambda s: (s.health.path, s.health.interval) == ("/well", 3.0),
            ),
            (
                upstream("a", "tcp:1:80", ejection=EjectionConfig(consecutive=2, panic=0.1)),
                lambda s: (s.ejection.consecutive, s.panic) == (2, 0.1),
            ),
            (
                UpstreamConfig("a", dns=("h", 8087), resolve=ResolveConfig(floor=2.0)),
                lambda s: (s.dns.name, s.dns.port, s.dns.floor) == ("h", 8087, 2.0),
            ),
            (UpstreamConfig("a", srv="_http._tcp.h"), lambda s: s.dns.name == "_http._tcp.h"),
            (
                upstream("a", "tcp:1:80", "tcp:2:80", balance="hash", hashOn="path", slowStart=9.0),
                lambda s: (s.hashOn, s.slowStart) == ("path", 9.0),
            ),
        ):
            made: Any = self.made(Config(upstreams=(config,))).upstreams["a"]
            self.assertIsInstance(made, Cluster)
            self.assertTrue(check(made.settings), made.settings)

    def test_hosts(self) -> None:
        """The Host of each endpoint, or of the name that DNS is asked for; the client's else."""
        secure = ("tls:a.example:443", "tls:b.example:8443")
        for config, host, hosts in (
            (upstream("a", *secure), "", ["a.example", "b.example:8443"]),
            (upstream("a", *secure, host="c.example"), "c.example", ["c.example"] * 2),
            (upstream("a", *secure, host="client"), "", ["", ""]),
            (upstream("a", "tcp:1:80", "tcp:2:80"), "", ["", ""]),
            (UpstreamConfig("a", dns=("h", 8087)), "", []),
            (UpstreamConfig("a", dns=("h", 8087), host="upstream"), "h:8087", []),
            (UpstreamConfig("a", dns=("h", 443), tls=UpstreamTLSConfig()), "h", []),
            (UpstreamConfig("a", srv="_http._tcp.h", host="upstream"), "", []),
            (UpstreamConfig("a", srv="_http._tcp.h", host="h"), "h", []),
        ):
            made: Any = self.made(Config(upstreams=(config,))).upstreams["a"]
            settings = made.settings
            found = (settings.host, [each.host for each in settings.endpoints])
            self.assertEqual(found, (host, hosts))
            self.assertIs(settings.tells, config.tellsClient)

    def test_forwarded(self) -> None:
        """What is said of claims is that of the generation; nobody is not the default."""
        for trusted, expected in (
            (None, None),
            ((), Trust.of(())),
            (("10.0.0.0/8", "unix"), Trust.of(("unix", "10.0.0.0/8"))),
        ):
            table = ForwardedConfig(mode="replace", style="both", trusted=trusted)
            made = self.made(Config(upstreams=(MAIN,), forwarded=table))
            self.assertEqual(made.forwarded, ForwardedSettings("replace", "both", expected))

    def test_proxyProtocol(self) -> None:
        """Connections with a PROXY header need a choice for each client; with TLS it is refused."""
        made = self.made(Config(upstreams=(upstream("a", "tcp:1:80", proxyProtocol="v2"),)))
        cluster: Any = made.upstreams["a"]
        self.assertTrue(cluster.settings.identifies)
        self.assertIsNone(cluster.only)
        refused = upstream("a", "tls:a:443", proxyProtocol="v2", place="upstreams.a")
        error = self.assertRaises(ConfigErrors, self.made, Config(upstreams=(refused,)))
        self.assertIn("the PROXY header comes before TLS", error.mistakes[0].sentence)

    def test_kept(self) -> None:
        """An upstream of equal configuration is kept with its connections; another one is not."""
        pair = upstream("pair", "tcp:10.0.0.1:80", "tcp:10.0.0.2:80")
        first = self.made(Config(upstreams=(MAIN, pair)))
        self.assertIsInstance(first.upstreams["main"], FixedUpstream)
        second = self.made(Config(upstreams=(MAIN, pair), policies=(PolicyConfig("retry"),)), first)
        self.assertEqual(second.number, 2)
        for name in ("main", "pair"):
            self.assertIs(second.upstreams[name], first.upstreams[name])
        for changed in (
            Config(upstreams=(upstream("main", "tcp:10.0.0.9:80"), upstream("pair", "tcp:1:80"))),
            Config(upstreams=(MAIN, pair), limits=Settings(connectTimeout=1.0)),
        ):
            third = self.made(changed, first)
            for name in ("main", "pair"):
                self.assertIsNot(third.upstreams[name], first.upstreams[name])

    def test_loaded(self) -> None:
        """Policies that are made already are used once; the next generation makes new ones."""
        policy: Any = self.made(Config(policies=(PolicyConfig("error-page:404"),))).policies()[0][1]
        config = Config(upstreams=(MAIN,), policies=(PolicyConfig("error-page:404"),))
        plan = Plan(config, self.clock, self.connects, {"": [("mine", policy)]})
        first = plan.make(self.deadlines, None)
        self.assertEqual(first.policies(), [("mine", policy)])
        [(name, other)] = plan.make(self.deadlines, first).policies()
        self.assertEqual(name, "error-page")
        self.assertIsNot(other, policy)

    def test_mistakes(self) -> None:
        """All that can't be made is told at once, each with its line."""
        config = Config(
            upstreams=(MAIN,),
            policies=(PolicyConfig("eror-page:404", place="policies[0]"),),
            routes=(
                RouteConfig(path="/a/{b}", rewrite="/{c}", place="routes[0]"),
                RouteConfig(
                    policies=(PolicyConfig("retry", {"tims": 1}, place="routes[1].policies[0]"),)
                ),
            ),
            places=Places("sitio.toml", {"policies[0]": 3, "routes[0]": 7, "routes[1]": 12}),
        )
        error = self.assertRaises(ConfigErrors, self.made, config)
        self.assertEqual(
            [(each.line, each.key) for each in error.mistakes],
            [(3, "policies[0]"), (7, "routes[0]"), (12, "routes[1].policies[0]")],
        )
        for each, word in zip(error.mistakes, ("error-page", "'c'", "times")):
            self.assertIn(word, each.sentence)

    def test_templates(self) -> None:
        """The paths of routes are endpoints of the metrics, once for each path."""
        config = Config(
            templates=("/x/{y}",),
            routes=(
                RouteConfig(path="/a/{b}", methods=("GET",)),
                RouteConfig(path="/a/{c}"),
                RouteConfig(prefix="/p"),
                RouteConfig(path="/exact"),
            ),
        )
        self.assertEqual(templatesOf(config).templates, ("/x/{y}", "/a/{b}", "/exact"))

    def test_shownAddress(self) -> None:
        """Addresses are shown as people write them, without secrets."""
        for description, shown in (
            ("tcp:10.0.0.1:80", "10.0.0.1:80"),
            ("tls:api.example:443", "api.example:443"),
            (r"tcp:\:\:1:80", "[::1]:80"),
            ("unix:/run/a.sock", "/run/a.sock"),
        ):
            self.assertEqual(shownAddress(description), shown)

    def test_equalSettings(self) -> None:
        """Equal values make equal upstreams, wherever they stand in a file."""
        other = evolve(MAIN, place="upstreams.main")
        first = self.made(Config(upstreams=(MAIN,)))
        self.assertIs(
            self.made(Config(upstreams=(other,)), first).upstreams["main"], first.upstreams["main"]
        )
