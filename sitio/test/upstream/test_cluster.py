"""
Tests of L{sitio.upstream.cluster}: an upstream of one or several endpoints.
"""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import define, evolve, field
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import ConnectFailed, Stopped
from sitio.net.deadlines import PERIOD_SECONDS, Deadlines
from sitio.net.proxyheader import LOCAL, headerFor
from sitio.settings import Settings
from sitio.test.helpers.logs import recorded
from sitio.test.helpers.messages import OK, get
from sitio.test.helpers.receivers import Receiver
from sitio.test.helpers.upstreams import (
    Asker,
    FakeResolver,
    Network,
    asking,
    byAddress,
    listed,
    occupy,
    shares,
)
from sitio.upstream.cluster import (
    MAX_DRAINING,
    Cluster,
    ClusterSettings,
    EndpointSettings,
    poolSettings,
)
from sitio.upstream.dnssettings import DnsSettings
from sitio.upstream.ejection import EjectionSettings
from sitio.upstream.health import HealthSettings


@define
class Ends:
    """The connection of a client."""

    kept: dict[Any, Any] | None = None

    def ends(self) -> tuple[Any, Any]:
        """The addresses of both ends."""
        return IPv4Address("TCP", "192.0.2.1", 4000), IPv4Address("TCP", "192.0.2.80", 80)


@define
class Identified(Asker):
    """An exchange that knows its client's connection."""

    downstream: Ends = field(factory=Ends)
    peerAddress: str = "192.0.2.1"


class ClusterCase(SynchronousTestCase):
    """A cluster; the test plays its endpoints and DNS."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.resolver = FakeResolver()
        self.clusters: list[Cluster] = []

    def open(self, settings: ClusterSettings) -> Cluster:
        """Start a cluster with these settings."""
        cluster = Cluster(
            "photos",
            settings,
            clock=self.clock,
            connect=self.network.connect,
            deadlines=Deadlines(self.clock),
            random=Random(1).random,
            makeResolver=lambda servers: self.resolver,
        )
        cluster.start()
        return cluster

    def advance(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        while seconds > 0:
            self.clock.advance(min(seconds, PERIOD_SECONDS))
            seconds -= PERIOD_SECONDS

    def client(self, endpoint: Any) -> Any:
        """A connection to an endpoint."""
        acquired = endpoint.pool.acquire()
        self.clock.advance(0)
        return self.successResultOf(acquired)

    def discovered(self, *hosts: str, **settings: Any) -> Cluster:
        """A cluster with these endpoints, from DNS."""
        self.resolver.has(*hosts)
        return self.open(ClusterSettings(dns=DnsSettings("photos.example", 80), **settings))


class ListedTests(ClusterCase):
    """Endpoints that are listed."""

    def test_only(self) -> None:
        """One listed endpoint that nothing judges is the only one."""
        cluster = self.open(listed("a:1"))
        assert cluster.only is not None
        self.assertEqual(cluster.only.address, "a:1")
        self.assertIs(cluster.choose(asking()), cluster.only)

    def test_notOnly(self) -> None:
        """There is no only endpoint where there are several, or one may become unfit."""
        for settings in (
            listed("a:1", "b:1"),
            listed("a:1", ejection=EjectionSettings()),
            listed("a:1", health=HealthSettings("/health")),
        ):
            self.assertIsNone(self.open(settings).only)

    def test_several(self) -> None:
        """Several endpoints share the requests by their weights."""
        endpoints = [EndpointSettings("a:1"), EndpointSettings("b:1", weight=3)]
        found = shares(self.open(ClusterSettings(endpoints=endpoints)), 4000)
        self.assertApproximates(found["a:1"], 1000, 150)

    def test_target(self) -> None:
        """An endpoint may have an address to show, and another to connect to."""
        endpoint = EndpointSettings("a:1", target="tcp:a:1:timeout=3")
        self.open(ClusterSettings(endpoints=[endpoint]))
        self.assertEqual(list(self.network.endpoints), ["tcp:a:1:timeout=3"])

    def received(self, cluster: Cluster, target: str) -> bytes:
        """What an endpoint gets of a request, after the first connection for it is made."""
        client = self.client(cluster.choose(asking()))
        client.sendRequest(Receiver(), get(), b"", True, b"X-Forwarded-For: 192.0.2.1\r\n")
        return b"".join([each.got() for each in self.network.peers(target)])

    def test_addressed(self) -> None:
        """Requests have the Host of the endpoint or of the upstream, and tell or don't."""
        endpoint = EndpointSettings("a:1", host="a.example")
        for settings, host, tells in (
            (ClusterSettings(endpoints=[endpoint]), b"a.example", True),
            (ClusterSettings(endpoints=[endpoint], host="b.example"), b"a.example", True),
            (listed("a:1", host="b.example", tells=False), b"b.example", False),
            (listed("a:1", tells=False), b"h", False),
        ):
            self.setUp()
            got = self.received(self.open(settings), "a:1")
            self.assertIn(b"\r\nHost: %b\r\n" % host, got)
            self.assertEqual(b"X-Forwarded-For" in got, tells)

    def test_identified(self) -> None:
        """With C{identifies}, connections begin with the client; those of checks name nobody."""
        cluster = self.open(listed("a:1", identifies=True, health=HealthSettings("/h")))
        self.assertIsNone(cluster.only)
        self.advance(1)
        [check] = self.network.peers("a:1")
        self.assertTrue(check.got().startswith(LOCAL + b"GET /h HTTP/1.1\r\n"))
        client = self.client(cluster.choose(Identified(asking().request)))
        client.sendRequest(Receiver(), get(), b"", True)
        header = headerFor(*Ends().ends())
        self.assertTrue(self.network.peers("a:1")[0].got().startswith(header + b"GET / "))

    def test_hash(self) -> None:
        """With C{hashOn} the requests of one key go to one endpoint."""
        cluster = self.open(listed("a:1", "b:1", "c:1", hashOn="field:X-User"))
        users = [asking(**{"X-User": "ann"}) for _ in range(50)]
        self.assertEqual(len(shares(cluster, 50, users)), 1)

    def test_wrongHash(self) -> None:
        """What nothing can be hashed on is refused."""
        self.assertRaises(ValueError, self.open, listed("a:1", hashOn="user"))

    def test_tried(self) -> None:
        """A second attempt goes to another endpoint."""
        cluster = self.open(listed("a:1", "b:1"))
        for _ in range(10):
            first = cluster.choose(asking())
            assert first is not None
            self.assertIsNot(cluster.choose(asking(), (first,)), first)

    def test_stop(self) -> None:
        """The end closes connections, refuses requests, and leaves nothing on the clock."""
        cluster = self.open(
            listed("a:1", "b:1", ejection=EjectionSettings(), health=HealthSettings("/h"))
        )
        self.advance(1)
        endpoint = cluster.choose(asking())
        assert endpoint is not None
        for _ in range(5):
            endpoint.failed(ConnectFailed())
        client = self.client(endpoint)
        stopped = cluster.stop()
        self.advance(1)
        self.assertNoResult(stopped)
        self.failureResultOf(endpoint.pool.acquire(), Stopped)
        client.close()
        self.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class EqualityTests(SynchronousTestCase):
    """Settings are compared when the configuration changes."""

    def test_equal(self) -> None:
        """Settings of the same content are equal, in lists and in tuples."""
        make = lambda: listed(  # noqa: E731
            "a:1", "b:1", health=HealthSettings("/h"), ejection=EjectionSettings()
        )
        self.assertEqual(make(), make())
        self.assertEqual(hash(make()), hash(make()))
        changes: tuple[tuple[str, Any], ...] = (
            ("endpoints", [EndpointSettings("a:1", weight=2)]),
            ("dns", DnsSettings("photos")),
            ("connection", "tls"),
            ("host", "a.example"),
            ("tells", False),
            ("identifies", True),
            ("hashOn", "path"),
            ("slowStart", 3.0),
            ("health", None),
            ("ejection", None),
            ("panic", 0.25),
            ("pool", Settings(poolSize=7)),
        )
        for name, other in changes:
            self.assertNotEqual(evolve(make(), **{name: other}), make(), name)

    def test_otherLimits(self) -> None:
        """Limits that no pool reads make no difference."""
        one = listed("a:1", pool=Settings(poolSize=5, responseTimeout=3.0))
        self.assertEqual(one, listed("a:1", pool=Settings(poolSize=5)))
        self.assertEqual(poolSettings(Settings(connectTimeout=2.0)).connectTimeout, 2.0)


class JudgedTests(ClusterCase):
    """Endpoints that are out of service."""

    def eject(self, cluster: Cluster, address: str) -> None:
        for each in (cluster._endpoints[address],):
            for _ in range(5):
                each.failed(ConnectFailed("connection refused"))

    def test_ejected(self) -> None:
        """An ejected endpoint gets no requests; after its return it gets some."""
        cluster = self.open(listed("a:1", "b:1", "c:1", ejection=EjectionSettings()))
        self.eject(cluster, "a:1")
        self.assertEqual(set(shares(cluster, 200)), {"b:1", "c:1"})
        self.clock.advance(30)
        self.assertEqual(set(shares(cluster, 200)), {"a:1", "b:1", "c:1"})

    def test_snapshot(self) -> None:
        """The snapshot has state, counts and the reason of each endpoint."""
        cluster = self.open(listed("a:1", "b:1", ejection=EjectionSettings()))
        self.eject(cluster, "a:1")
        found = byAddress(cluster)
        self.assertEqual(
            found["a:1"],
            {
                "address": "a:1",
                "states": {"ejected": 1},
                "weight": 1,
                "outstanding": 0,
                "open": 0,
                "idle": 0,
                "sent": 0,
                "answered": 0,
                "failed": 5,
                "seconds": 0.0,
                "ejections": 1,
                "lastFailure": "connection refused",
            },
        )
        self.assertEqual(found["b:1"]["states"], {"healthy": 1})
        self.assertEqual(cluster.snapshot()["name"], "photos")
        self.assertEqual(cluster.snapshot()["problem"], "")

    def panicking(self, **settings: Any) -> Cluster:
        """Four endpoints, of which two are ejected and one is unhealthy."""
        cluster = self.open(
            listed("a:1", "b:1", "c:1", "d:1", **settings, ejection=EjectionSettings())
        )
        self.eject(cluster, "a:1")
        self.eject(cluster, "b:1")
        cluster._endpoints["c:1"].isHealthy = False
        cluster._update()
        return cluster

    def test_panic(self) -> None:
        """With too few healthy endpoints all are used: those left could not bear the load."""
        self.assertEqual(set(shares(self.panicking(), 200)), {"a:1", "b:1", "c:1", "d:1"})

    def test_panicEnds(self) -> None:
        """With enough healthy endpoints the others get none again."""
        cluster = self.panicking()
        cluster._endpoints["c:1"].isHealthy = True
        cluster._update()
        self.assertEqual(set(shares(cluster, 200)), {"c:1", "d:1"})

    def test_threshold(self) -> None:
        """The threshold is the operator's; 0 means never."""
        self.assertEqual(set(shares(self.panicking(panic=0.25), 200)), {"d:1"})
        cluster = self.panicking(panic=0.0)
        cluster._endpoints["d:1"].isHealthy = False
        cluster._update()
        self.assertIsNone(cluster.choose(asking()))
        self.assertEqual(cluster.problem(), "no endpoint of the upstream photos is healthy")

    def test_hashPanic(self) -> None:
        """So it is with consistent hashing."""
        cluster = self.panicking(hashOn="path")
        paths = [asking(f"/{number}") for number in range(200)]
        self.assertEqual(set(shares(cluster, 200, paths)), {"a:1", "b:1", "c:1", "d:1"})


class HealthCheckedTests(ClusterCase):
    """Endpoints with active health checks."""

    def test_unhealthy(self) -> None:
        """An endpoint whose check fails gets no requests; each is asked."""
        cluster = self.open(listed("a:1", "b:1", health=HealthSettings("/health")))
        self.advance(0.5)
        for address, answer in (("a:1", OK), ("b:1", b"HTTP/1.1 503 No\r\n\r\n")):
            [peer] = self.network.peers(address)
            self.assertEqual(peer.gotRequest().path, "/health")
            peer.sends(answer)
        self.advance(0.25)
        self.assertEqual(set(shares(cluster, 100)), {"a:1"})
        self.assertIsNone(cluster.problem())

    def test_host(self) -> None:
        """The Host of a check is that of requests, or else the address."""
        for settings, host in (
            (listed("10.0.0.1:80"), "10.0.0.1:80"),
            (listed("10.0.0.1:80", host="photos.example"), "photos.example"),
            (
                ClusterSettings([EndpointSettings("10.0.0.1:80", host="one.example")], host="x"),
                "one.example",
            ),
            (listed("/run/photos.sock"), "localhost"),
        ):
            [address] = [each.address for each in settings.endpoints]
            self.network.endpoints.clear()
            self.open(evolve(settings, health=HealthSettings("/health")))
            self.advance(0.5)
            [peer] = self.network.peers(address)
            self.assertEqual(peer.gotRequest().headers["Host"], host)

    def test_notCounted(self) -> None:
        """A check is no request: it is in no count of the endpoint."""
        cluster = self.open(listed("a:1", "b:1", health=HealthSettings("/health")))
        self.advance(0.5)
        found = byAddress(cluster)["a:1"]
        self.assertEqual((found["outstanding"], found["open"], found["sent"]), (0, 0, 0))


class DiscoveredTests(ClusterCase):
    """Endpoints from DNS."""

    def test_found(self) -> None:
        """The endpoints that DNS names share the requests."""
        cluster = self.discovered("10.0.0.1", "10.0.0.2")
        self.assertIsNone(cluster.only)
        self.assertEqual(set(shares(cluster, 100)), {"10.0.0.1:80", "10.0.0.2:80"})

    def test_notYet(self) -> None:
        """Before the first answer there is no endpoint."""
        self.resolver.isSilent = True
        cluster = self.discovered("10.0.0.1")
        self.assertIsNone(cluster.choose(asking()))
        self.assertIn("photos", str(cluster.problem()))

    def test_joined(self) -> None:
        """An endpoint that joins gets its share slowly; those that were there keep theirs."""
        cluster = self.discovered("10.0.0.1", slowStart=10.0)
        kept = cluster.choose(asking())
        self.assertEqual(byAddress(cluster)["10.0.0.1:80"]["states"], {"healthy": 1})
        self.resolver.has("10.0.0.1", "10.0.0.2")
        self.advance(6)
        self.assertEqual(byAddress(cluster)["10.0.0.2:80"]["states"], {"warming": 1})
        self.assertIs(cluster._endpoints["10.0.0.1:80"], kept)

    def test_drains(self) -> None:
        """
        An endpoint that leaves gets no more requests.  Its idle connections are closed at once,
        the others after their response.
        """
        cluster = self.discovered("10.0.0.1", "10.0.0.2")
        leaving = cluster._endpoints["10.0.0.1:80"]
        busy, idle = (self.client(leaving) for _ in range(2))
        busy.sendRequest(receiver := Receiver(), get(), b"", True)
        idle.sendRequest(Receiver(), get(), b"", True)
        peers = self.network.peers("10.0.0.1:80")
        peers[1].sends(OK)
        self.resolver.has("10.0.0.2")
        self.advance(6)
        self.assertEqual(set(shares(cluster, 50)), {"10.0.0.2:80"})
        self.assertEqual((peers[0].closed, peers[1].closed), (False, True))
        self.assertEqual(byAddress(cluster)["10.0.0.1:80"]["states"], {"draining": 1})
        peers[0].sends(OK)
        self.advance(0.25)
        self.assertEqual(receiver.calls, [("response", 200, b"ok", True)])
        self.assertTrue(peers[0].closed)
        self.assertEqual(set(byAddress(cluster)), {"10.0.0.2:80"})

    def test_lateRequest(self) -> None:
        """A request that has chosen an endpoint which then leaves is still sent to it."""
        cluster = self.discovered("10.0.0.1", "10.0.0.2")
        leaving = cluster._endpoints["10.0.0.1:80"]
        self.resolver.has("10.0.0.2")
        self.advance(6)
        client = self.client(leaving)
        client.sendRequest(Receiver(), get(), b"", True)
        [peer] = self.network.peers("10.0.0.1:80")
        peer.sends(OK)
        self.advance(0.25)
        self.assertTrue(peer.closed)

    def test_returned(self) -> None:
        """An endpoint that comes back is a new one."""
        cluster = self.discovered("10.0.0.1", "10.0.0.2")
        before = cluster._endpoints["10.0.0.1:80"]
        occupy(before, 1)
        for hosts in (("10.0.0.2",), ("10.0.0.1", "10.0.0.2")):
            self.resolver.has(*hosts)
            self.advance(6)
        self.assertIsNot(cluster._endpoints["10.0.0.1:80"], before)
        states = [each["states"] for each in cluster.snapshot()["endpoints"]]
        self.assertEqual(states, [{"healthy": 1}, {"healthy": 1}, {"draining": 1}])

    def test_manyDrain(self) -> None:
        """Of endpoints that drain a limited number is remembered."""
        cluster = self.discovered("10.0.0.1", "10.7.1.0")
        for number in range(MAX_DRAINING + 5):
            occupy(cluster._endpoints[f"10.7.1.{number}:80"], 1)
            self.resolver.has("10.0.0.1", f"10.7.1.{number + 1}")
            self.advance(6)
        self.assertEqual(len(cluster.snapshot()["endpoints"]), 2 + MAX_DRAINING)

    def test_checked(self) -> None:
        """Endpoints from DNS are checked, too, until they leave."""
        self.discovered("10.0.0.1", "10.0.0.2", health=HealthSettings("/health"))
        self.advance(0.5)
        self.assertEqual(self.network.peers("10.0.0.1:80")[-1].gotRequest().path, "/health")
        self.resolver.has("10.0.0.2")
        self.advance(6)
        before = len(self.network.peers("10.0.0.1:80"))
        self.advance(10)
        self.assertEqual(len(self.network.peers("10.0.0.1:80")), before)
        self.assertGreater(len(self.network.peers("10.0.0.2:80")), 5)

    def test_log(self) -> None:
        """However many endpoints come and go, an answer is a line or two in the log."""
        with recorded() as log:
            self.discovered(*(f"10.0.0.{number}" for number in range(10, 30)))
            self.resolver.has("10.0.0.12", "10.0.0.7")
            self.advance(6)
        first, joined, left = log.texts()
        self.assertTrue(first.startswith("10.0.0.10:80, 10.0.0.11:80, "), first)
        self.assertTrue(
            first.endswith(" and 12 others joined the upstream photos; endpoints now: 20")
        )
        self.assertIn("10.0.0.7:80 joined the upstream photos; endpoints now: 2", joined)
        self.assertIn("and 11 others left the upstream photos", left)

    def test_stop(self) -> None:
        """The end stops the questions."""
        cluster = self.discovered("10.0.0.1")
        self.successResultOf(cluster.stop())
        self.assertTrue(self.resolver.isStopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
