"""
Upstreams of several endpoints, in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.names.error import DNSNameError

from sitio.http.message import Headers, Request
from sitio.net.deadlines import Deadlines
from sitio.settings import Settings
from sitio.testing import MemoryEndpoint, Peer
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
