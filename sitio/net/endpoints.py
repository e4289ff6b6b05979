"""
The ports that endpoint descriptions stand for: L{serverEndpoint}.

Contract: reactors are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import directlyProvides, providedBy

from sitio.net.descriptions import checkServer
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
        """See C{IReactorSSL}."""
        # Imported here, as it takes memory and most ports are plain.
        from sitio.net.tls import PortFactory

        outer = _belowHeader(
            factory, lambda wrapped: PortFactory(self.reactor, contextFactory, wrapped)
        )
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

            def secured(wrapped: Any) -> Any:
                factory.wrappedFactory = wrapped
                return factory

            closeBoundedly(factory, self.reactor)
            outer = _belowHeader(factory.wrappedFactory, secured)
        return self.reactor.listenTCP(port, outer, backlog, interface)


def _belowHeader(factory: Any, secured: Callable[[Any], Any]) -> Any:
    """
    Put TLS between a factory and its port.  With C{haproxy:}, the header comes before TLS,
    as load balancers send it.

    @param secured: returns the factory with TLS for the one that it is given.
    """
    if isinstance(factory, ProxyProtocolFactory):
        factory.wrapped = secured(factory.wrapped)
        return factory
    return secured(factory)


def serverEndpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    The endpoint of a description, like Twisted's C{serverFromString}.

    Two parts of it are sitio's own: C{haproxy:}, and the TLS of C{ssl:} and C{tls:}.

    @raise Exception: the description is wrong; many kinds, for which
        L{explain<sitio.net.descriptions.explain>} has words.
    """
    checkServer(description)
    name, colon, rest = description.partition(":")
    if colon and name.lower() == "haproxy":
        return ProxyProtocolEndpoint(reactor, serverEndpoint(reactor, rest))
    return serverFromString(TLSReactor(reactor), description)
