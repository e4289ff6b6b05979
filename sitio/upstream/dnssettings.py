"""
What DNS is asked for: L{DnsSettings}.

A module of its own, as L{sitio.upstream.discovery} loads C{twisted.names}, which is large.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class DnsSettings:
    """
    What DNS is asked for, and how often.

    @ivar name: a name with a port, C{photos.default.svc} and 8087; or, with C{port} 0, a service
        whose SRV records have the ports: C{_http._tcp.photos.default.svc}.
    @ivar floor: seconds between two questions, at least.
    @ivar ceiling: the same, at most.
    @ivar servers: name servers in place of those of the system: C{ADDRESS} or C{ADDRESS:PORT}.
    """

    name: str
    port: int = 0
    floor: float = 1.0
    ceiling: float = 60.0
    servers: tuple[str, ...] = ()
