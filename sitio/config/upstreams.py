"""
Services behind sitio, as they are configured: L{UpstreamConfig}, and its tables.

Contract: pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from sitio.config import kinds, routekinds
from sitio.config.keys import entry, place, table

if TYPE_CHECKING:
    from sitio.config.tables import (
        EjectionConfig,
        HealthConfig,
        ResolveConfig,
        RetriesConfig,
        UpstreamTLSConfig,
    )

#: The name of the only upstream, if it has none of its own.
UPSTREAM = "upstream"

#: The largest weight of an endpoint, as that of HAProxy.
MAX_WEIGHT = 256

#: The name of the photo site.
DEMO = "demo"


@frozen
class EndpointConfig:
    """
    One address of an upstream.

    @ivar address: an endpoint description; it begins with C{tls:} for an C{https} address.
    @ivar weight: its share in relation to the others.
    """

    address: str = entry(kinds.CONNECT, "address of the service", example='"10.0.0.1:8087"')
    weight: int = entry(
        kinds.count(1, MAX_WEIGHT), "share of the requests in relation to the others", 1
    )
    place: str = place()


@frozen
class UpstreamConfig:
    """
    A service behind sitio.

    @ivar name: as in C{[upstreams.NAME]}.
    @ivar endpoints: its addresses, if they are listed; that of C{address} is one of them.
    @ivar dns: a name and a port whose addresses are asked for, or L{None}.
    @ivar srv: a name whose SRV records are asked for, or L{None}.
    @ivar hashOn: as L{hashKey<sitio.upstream.hashkey.hashKey>} takes it.
    @ivar host: C{client}, C{upstream}, or a Host; L{None} for the default, see L{hostMode}.
    @ivar forwarded: L{None} for the default, see L{tellsClient}.
    """

    name: str = UPSTREAM
    address: str | None = entry(
        kinds.CONNECT,
        "address of the service, if there is one; with https it is verified",
        None,
        example='"localhost:8087"',
    )
    endpoints: tuple[EndpointConfig, ...] = table("several addresses of the service", ())
    dns: tuple[str, int] | None = entry(
        kinds.HOST_AND_PORT,
        "name with a port; each address of it is an endpoint",
        None,
        example='"photos.default.svc:8087"',
    )
    srv: str | None = entry(
        kinds.HOSTNAME,
        "name of SRV records; each of them is an endpoint",
        None,
        example='"_http._tcp.photos.default.svc"',
    )
    balance: str = entry(
        kinds.choice("least-requests", "hash"),
        "least-requests: of two endpoints at random the one with fewer requests; hash: equal"
        " requests go to the same endpoint",
        "least-requests",
    )
    hashOn: str | None = entry(
        routekinds.HASH_ON, "what makes requests equal for hash", None, example='"field:X-User"'
    )
    slowStart: float = entry(
        kinds.seconds(zero=True), "time in which a new endpoint gets its full share", 0.0
    )
    host: str | None = entry(
        routekinds.HOST,
        "Host that the service gets: client for the client's, upstream for that of the address,"
        " or a name; upstream is the default with https, else client",
        None,
        example='"upstream"',
    )
    forwarded: bool | None = entry(
        kinds.FLAG,
        "whether requests tell the service of the client, by X-Forwarded fields and the like; false"
        " is the default for https with the Host of the upstream",
        None,
        example="false",
    )
    proxyProtocol: str | None = entry(
        kinds.choice("v2"),
        "PROXY header that each connection begins with, with the client's address; without it,"
        " none; not with TLS",
        None,
        example='"v2"',
    )
    tls: UpstreamTLSConfig | None = table("TLS to the upstream")
    health: HealthConfig | None = table("active health checks")
    ejection: EjectionConfig | None = table(
        "passive ejection; without it as by default, if there are several endpoints"
    )
    retries: RetriesConfig | None = table("retries with a budget")
    resolve: ResolveConfig | None = table("how names are looked up")
    place: str = place()

    @property
    def isSecure(self) -> bool:
        """Whether sitio speaks TLS with it."""
        secure = (each.address.startswith(("tls:", "ssl:")) for each in self.endpoints)
        return self.tls is not None or any(secure)

    @property
    def hostMode(self) -> str:
        """C{client}, C{upstream}, or the Host that it gets."""
        return self.host or ("upstream" if self.isSecure else "client")

    @property
    def tellsClient(self) -> bool:
        """Whether requests tell of the client: not where they go to a foreign service."""
        if self.forwarded is not None:
            return self.forwarded
        return not (self.isSecure and self.hostMode == "upstream")

    @property
    def ejects(self) -> EjectionConfig | None:
        """
        When endpoints are ejected: as the table says, or by default if there may be several;
        L{None} for never.
        """
        if self.ejection is not None:
            return self.ejection if self.ejection.consecutive else None
        if self.isSingle:
            return None
        from sitio.config.tables import EjectionConfig

        return EjectionConfig()

    @property
    def isSingle(self) -> bool:
        """Whether it has one endpoint that never changes."""
        return self.dns is None and self.srv is None and len(self.endpoints) <= 1
