"""
Connections that tell the upstream who the client is, by a header of the PROXY protocol:
L{IdentifiedBalancer}.

Such a connection carries the requests of one client on one connection of it, as the header is
said once.  So an exchange takes only connections that were opened for the same client, or a new
one.  They count in the pool like all others, an idle one makes room for a new one when the pool
is full, and is closed as soon as any idle connection.

An upstream without the protocol has nothing of this in its way: L{IdentifiedBalancer} stands
around the balancer of an upstream that has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred

from sitio.net.proxyheader import headerFor
from sitio.upstream.client import IDLE, ProxyClient

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sitio.errors import SitioError
    from sitio.upstream.pool import UpstreamPool

#: Clients and endpoints of one client connection whose connections are known.  A client has one;
#: a trusted proxy may send the requests of many on one connection, and those that are not among
#: the last ones open a new connection.
MAX_KEPT = 16


class IdentifiedConnections:
    """
    The connections of a pool that begin with the same header.

    @ivar uploads: as of the pool.
    """

    __slots__ = ("_header", "_own", "_pool", "uploads")

    def __init__(self, pool: UpstreamPool, header: bytes) -> None:
        self.uploads = pool.uploads
        self._pool = pool
        self._header = header
        self._own: list[ProxyClient] = []

    def takeIdle(self) -> ProxyClient | None:
        """Take an idle connection of this client, or L{None}."""
        for each in self._own:
            if each.state is IDLE and self._pool.takeThis(each):
                return each
        return None

    def acquire(self, fresh: bool = False) -> Deferred[ProxyClient]:
        """
        Open a connection for this client as soon as there is room.  See
        L{UpstreamPool.acquire<sitio.upstream.pool.UpstreamPool.acquire>}.
        """
        return self._pool.acquire(True).addCallback(self._begin)

    def _begin(self, client: ProxyClient) -> ProxyClient:
        client.transport.write(self._header)
        self._own = [*(each for each in self._own if each.isOpen()), client]
        return client


class IdentifiedEndpoint:
    """
    An endpoint for the requests of one client.

    @ivar endpoint: the endpoint for all.
    @ivar address: as metrics and logs name it.
    @ivar pool: the connections for this client.
    """

    __slots__ = ("address", "endpoint", "pool")

    def __init__(self, endpoint: Any, header: bytes) -> None:
        self.endpoint = endpoint
        self.address: str = endpoint.address
        self.pool = IdentifiedConnections(endpoint.pool, header)

    def answered(self, status: int, seconds: float) -> None:
        """An attempt got the head of a response."""
        self.endpoint.answered(status, seconds)

    def failed(self, error: SitioError) -> None:
        """An attempt failed."""
        self.endpoint.failed(error)


class IdentifiedBalancer:
    """Chooses as another balancer does, and the connections for the client of the exchange."""

    def __init__(self, balancer: Any) -> None:
        self._balancer = balancer

    def update(self, members: Sequence[Any], usable: Sequence[Any]) -> None:
        """See L{Balancer<sitio.upstream.balancer.Balancer>}."""
        self._balancer.update(members, usable)

    def choose(self, exchange: Any, tried: Collection[Any]) -> Any:
        """
        The L{IdentifiedEndpoint} for the next attempt; L{None} if no endpoint is usable.

        @param tried: those of earlier attempts.
        """
        endpoint = self._balancer.choose(exchange, [each.endpoint for each in tried])
        if endpoint is None:
            return None
        client = exchange.clientAddress
        downstream = exchange.downstream
        kept = downstream.kept
        if kept is None:
            kept = downstream.kept = {}
        key = endpoint, client
        found: IdentifiedEndpoint | None = kept.pop(key, None)
        if found is None:
            header = _headerOf(client, exchange.peerAddress, *downstream.ends())
            found = IdentifiedEndpoint(endpoint, header)
        # The one that was used last is the last one.
        kept[key] = found
        if len(kept) > MAX_KEPT:
            del kept[next(iter(kept))]
        return found


def _headerOf(client: str, peer: str, source: Any, destination: Any) -> bytes:
    """
    The header for a client.

    @param client: its address, as trusted proxies tell it: then its port is unknown, and 0.
    @param peer: the address of the connection.
    @param source: the same with its port; C{destination} is what it has connected to.
    """
    if client != peer:
        source = (IPv6Address if ":" in client else IPv4Address)("TCP", client, 0)
        if not isinstance(destination, IPv4Address | IPv6Address):
            # The proxy uses a UNIX socket, its client does not.
            destination = IPv4Address("TCP", "0.0.0.0", 0)
    return headerFor(source, destination)
