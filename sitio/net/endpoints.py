"""
The ports that endpoint descriptions stand for: L{serverEndpoint}.

Contract: reactors are passed in.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import directlyProvides, providedBy

from sitio.net.proxyprotocol import ProxyProtocolEndpoint, ProxyProtocolFactory


class ReactorProxy:
    """
    Passes everything on to a reactor.  Subclasses replace the methods that listen.

    @ivar reactor: that reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)


class TLSReactor(ReactorProxy):
    """Listens with the TLS of L{sitio.net.tls}, above a TCP port of the other reactor."""

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """
        See C{IReactorSSL}.

        With C{haproxy:}, the header comes before TLS, as load balancers send it.
        """
        # Imported here, as it takes memory and most ports are plain.
        from sitio.net.tls import PortFactory

        outer = factory
        if isinstance(outer, ProxyProtocolFactory):
            outer.wrapped = PortFactory(self.reactor, contextFactory, outer.wrapped)
        else:
            outer = PortFactory(self.reactor, contextFactory, factory)
        return self.reactor.listenTCP(port, outer, backlog, interface)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """
        See C{IReactorTCP}.

        An endpoint such as C{tls:} puts Twisted's TLS above a TCP port: its connections
        become those of L{sitio.net.tls} too.
        """
        outer = factory
        if isinstance(factory, TLSMemoryBIOFactory):
            from sitio.net.tls import closeBoundedly

            closeBoundedly(factory, self.reactor)
            if isinstance(factory.wrappedFactory, ProxyProtocolFactory):
                outer = factory.wrappedFactory
                factory.wrappedFactory, outer.wrapped = outer.wrapped, factory
        return self.reactor.listenTCP(port, outer, backlog, interface)


def serverEndpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    The endpoint of a description, like Twisted's C{serverFromString}.

    Two parts of it are sitio's own: C{haproxy:}, and the TLS of C{ssl:} and C{tls:}.

    @raise Exception: the description is wrong; many kinds.
    """
    name, colon, rest = description.partition(":")
    if colon and name.lower() == "haproxy":
        return ProxyProtocolEndpoint(reactor, serverEndpoint(reactor, rest))
    return serverFromString(TLSReactor(reactor), description)
