"""
Upstreams of several endpoints, in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.names.error import DNSNameError

from sitio.http.message import Headers, Request
from sitio.net.deadlines import Deadlines
from sitio.proxy.generation import Generation, Route
from sitio.settings import Settings
from sitio.testing import Harness, MemoryEndpoint, Peer
from sitio.upstream.cluster import Cluster, ClusterSettings, EndpointSettings
from sitio.upstream.endpoint import Endpoint
from sitio.upstream.pool import UpstreamPool


@define
class Asker:
    """As much of an exchange as endpoints are chosen by."""

    request: Request
    clientAddress: str = "192.0.2.1"


def asking(path: str = "/", client: str = "192.0.2.1", **fields: str) -> Asker:
    """A request for this path with these fields."""
    return Asker(Request("GET", path, Headers(fields)), client)


def someEndpoint(
    clock: Clock, address: str = "a:1", weight: int = 1, slowStart: float = 0.0, judge: Any = None
) -> Endpoint:
    """An endpoint whose connections end in memory."""
    pool = UpstreamPool(clock, MemoryEndpoint(clock), Settings(), Deadlines(clock))
    return Endpoint(address, weight, pool, clock, slowStart, judge)


def occupy(endpoint: Endpoint, requests: int) -> None:
    """Give an endpoint so many requests that do not end."""
    for _ in range(requests):
        endpoint.pool.acquire()


@define
class Network:
    """
    What a cluster connects to.

    @ivar endpoints: the places in memory, by address.
    """

    clock: Clock
    endpoints: dict[str, list[MemoryEndpoint]] = field(factory=dict)

    def connect(self, address: str) -> MemoryEndpoint:
        endpoint = MemoryEndpoint(self.clock)
        self.endpoints.setdefault(address, []).append(endpoint)
        return endpoint

    def peers(self, address: str) -> list[Peer]:
        """The upstream's ends of all connections to this address, oldest first."""
        return [peer for each in self.endpoints[address] for peer in each.peers]


def listed(*addresses: str, **settings: Any) -> ClusterSettings:
    """Settings of an upstream with these endpoints."""
    return ClusterSettings(endpoints=[EndpointSettings(each) for each in addresses], **settings)


def shares(cluster: Any, requests: int, exchanges: Iterable[Any] | None = None) -> Counter[str]:
    """How many of so many requests each endpoint would get, by its address."""
    found: Counter[str] = Counter()
    for each in exchanges or (asking() for _ in range(requests)):
        chosen = cluster.choose(each, ())
        found[chosen.address if chosen is not None else ""] += 1
    return found


def byAddress(cluster: Cluster) -> dict[str, Any]:
    """The snapshot of each endpoint."""
    return {each["address"]: each for each in cluster.snapshot()["endpoints"]}


def record(payload: Any, name: str = "photos.example", ttl: int = 5) -> dns.RRHeader:
    """A record with this payload."""
    return dns.RRHeader(name, payload.TYPE, dns.IN, ttl, payload)


@define
class FakeResolver:
    """
    Answers from these lists: of records by name and kind, or of exceptions.

    @ivar asked: the names that were asked for, with the kind of record.
    @ivar search: suffixes.
    @ivar isSilent: whether questions stay without an answer.
    """

    records: dict[tuple[str, int], Any] = field(factory=dict)
    additional: Sequence[Any] = ()
    asked: list[tuple[str, int]] = field(factory=list)
    search: Sequence[str] = ()
    isSilent: bool = False
    isStopped: bool = False

    def candidates(self, name: str) -> Sequence[str]:
        return [*(f"{name}.{each}" for each in self.search), name]

    def lookupAddress(self, name: str) -> Deferred[Any]:
        return self._answer(name, dns.A)

    def lookupIPV6Address(self, name: str) -> Deferred[Any]:
        return self._answer(name, dns.AAAA)

    def lookupService(self, name: str) -> Deferred[Any]:
        return self._answer(name, dns.SRV)

    def stop(self) -> None:
        self.isStopped = True

    def _answer(self, name: str, kind: int) -> Deferred[Any]:
        self.asked.append((name, kind))
        if self.isSilent:
            return Deferred()
        found = self.records.get((name, kind))
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise DNSNameError(name)
        return succeed((found, [], self.additional))

    def has(self, *hosts: str, name: str = "photos.example", ttl: int = 5) -> None:
        """From now on a name has these IPv4 addresses, and no IPv6 address."""
        self.records[name, dns.A] = [record(dns.Record_A(each), name, ttl) for each in hosts]
        self.records[name, dns.AAAA] = []

    def fails(self, error: Exception, name: str = "photos.example") -> None:
        """From now on nothing is known about a name."""
        self.records[name, dns.A] = self.records[name, dns.AAAA] = error


class ClusterHarness:
    """
    A whole proxy in memory, in front of a cluster.  A test plays its client and its endpoints.

    @ivar harness: the proxy.
    @ivar client: a client.
    @ivar cluster: the cluster, whose random numbers are all 0: of several endpoints with equal
        loads it chooses the one that was listed first.
    @ivar network: what it connects to.
    """

    cluster: Cluster
    network: Network

    def __init__(
        self, settings: ClusterSettings, policies: Any = (), proxy: Settings | None = None
    ) -> None:
        """
        @param policies: as L{Harness} takes them.
        @param proxy: limits and timeouts of exchanges.
        """
        self._settings = settings
        self.harness = Harness(policies, settings=proxy, generation=self._generation)
        self.client = self.harness.connect()

    def _generation(self, route: Route) -> Generation:
        clock: Any = route.chain._clock
        self.network = Network(clock)
        self.cluster = Cluster(
            "photos",
            self._settings,
            clock=clock,
            connect=self.network.connect,
            deadlines=Deadlines(clock),
            random=lambda: 0.0,
        )
        self.cluster.start()
        upstream: Any = self.cluster
        return Generation.ofOne(evolve(route, upstream=upstream))

    @property
    def exchange(self) -> Any:
        """The last exchange that has ended."""
        return self.harness.exchanges[-1]

    def asks(self, data: bytes, client: Peer | None = None) -> None:
        """A client sends a request."""
        (client or self.client).sends(data)
        self.harness.settle()

    def asked(self, address: str) -> list[Peer]:
        """The endpoint's ends of connections with bytes that it has not read, oldest first."""
        self.harness.settle()
        return [each for each in self.network.peers(address) if each.pieces]

    def answers(self, address: str, data: bytes) -> int:
        """
        An endpoint answers all requests that it has not read.

        @return: how many.
        """
        asked = self.asked(address)
        for each in asked:
            each.got()
            each.sends(data)
        self.harness.settle()
        return len(asked)

    def decide(self, address: str, verdict: str | None) -> None:
        """What an endpoint does with connections: C{accept}, C{refuse}, or leave them pending."""
        for each in self.network.endpoints[address]:
            each.decision = None if verdict is None else getattr(each, verdict)
            each.decide()
        self.harness.settle()

    def assertQuiet(self) -> None:
        """
        Close everything, and check that nothing is left.

        @raise AssertionError: something is left.
        """
        self.harness.closeAll()
        for endpoints in self.network.endpoints.values():
            for each in endpoints:
                each.decision = each.refuse
                each.decide()
                for peer in each.peers:
                    peer.closes()
        self.cluster.stop()
        self.harness.settle()
        left = [each for each in self.cluster.pools if each.size]
        if left:
            raise AssertionError(f"this is left: {left}")
        self.harness.assertQuiet()
