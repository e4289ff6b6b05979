"""
The client connections of one proxy: L{ProxyServerFactory}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from zope.interface import implementer

from sitio.errors import Stopped
from sitio.http.limits import Limits
from sitio.net.deadlines import NEVER, Deadlines
from sitio.net.room import NO_LIMIT, Room
from sitio.proxy.context import ProxyContext
from sitio.proxy.leaving import IDLE
from sitio.proxy.server import ProxyServer
from sitio.settings import DRAIN_IDLE_SECONDS

#: Connections that may be within a slow handshake of TLS, which has cost them their place among
#: the clients; and the same as a part of the clients, as each needs a descriptor.  Beyond that
#: the oldest is aborted.
MAX_STALLED = 1024
STALLED_SHARE = 0.25


@implementer(IProtocolNegotiationFactory)
class ProxyServerFactory(Factory):
    """
    The client connections of one proxy.

    @ivar context: the state shared by their exchanges.
    @ivar limits: the limits of the requests that they read.
    @ivar draining: whether sitio is stopping.
    @ivar room: the places for connections of its ports.
    """

    noisy = False

    def __init__(self, context: ProxyContext, deadlines: Deadlines) -> None:
        self.context = context
        self._open: set[ProxyServer] = set()
        self.useSettings()
        self.draining = False
        self.room = Room(NO_LIMIT)
        self._deadlines = deadlines
        deadlines.watchGroup(context.exchanges)
        # Those in a slow handshake, without a place, oldest first.
        self._stalled: dict[ProxyServer, None] = {}
        self._drained: list[Deferred[None]] = []

    def useSettings(self) -> None:
        """
        Take the settings of the current generation: its limits for connections that are made
        later, and what it says of forwarded fields for the next request of each.
        """
        settings = self.context.settings
        self.limits = Limits(
            settings.maxHead,
            settings.maxFields,
            self.context.generation.maxBody,
            keepsFolded=self.context.keepsFolded,
        )
        for server in self._open:
            server.forgetForwarding()

    def buildProtocol(self, addr: IAddress | None) -> ProxyServer:
        return ProxyServer(self)

    def logPrefix(self) -> str:
        """The name of the port in Twisted's own log lines."""
        return "sitio"

    def acceptableProtocols(self) -> list[bytes]:
        """The protocols offered to TLS clients by ALPN (RFC 7301)."""
        return [b"http/1.1", b"http/1.0"]

    @property
    def connections(self) -> int:
        """How many client connections are open, those in a slow handshake not counted."""
        return len(self._open)

    def opened(self, server: ProxyServer) -> bool:
        """Register a new client connection; returns whether there is room for it."""
        if self._isFull():
            return False
        self._open.add(server)
        self._deadlines.watch(server)
        if self.draining:
            server.drain()
        return True

    def _isFull(self) -> bool:
        if len(self._open) < self.context.settings.maxClients:
            return False
        self.context.clientRefused(len(self._open))
        return True

    def stalled(self, server: ProxyServer) -> bool:
        """
        Take the place of a connection whose handshake is slow.

        @return: whether it may go on without a place.
        """
        if server not in self._open or self.draining:
            return False
        most = min(MAX_STALLED, max(1, int(STALLED_SHARE * self.context.settings.maxClients)))
        if len(self._stalled) >= most:
            oldest = next(iter(self._stalled))
            self._forgetStalled(oldest)
            oldest.abort()
        self._open.remove(server)
        self._stalled[server] = None
        self.room.leave()
        return True

    def _forgetStalled(self, server: ProxyServer) -> bool:
        if server not in self._stalled:
            return False
        del self._stalled[server]
        self.room.take()
        return True

    def secured(self, server: ProxyServer) -> bool:
        """The handshake of a connection has ended; returns whether there is room for it."""
        if self._forgetStalled(server):
            if self._isFull():
                return False
            self._open.add(server)
        return True

    def closed(self, server: ProxyServer) -> None:
        """Forget a client connection that has closed."""
        self._forgetStalled(server)
        self._open.discard(server)
        self._deadlines.forget(server)
        self._checkDrained()

    def drain(self) -> Deferred[None]:
        """
        Finish the exchanges under way.  The Deferred fires when all exchanges have ended
        and all connections have closed.

        The caller stops accepting first, and bounds the wait by L{abort}.
        """
        self.draining = True
        for server in [*self._open, *self._stalled]:
            server.drain()
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        self._checkDrained()
        return drained

    def makeRoom(self) -> None:
        """
        Let idle connections end soon: other clients wait for their places.

        Those that are new, or end soon anyway, are left alone.
        """
        now = self.context.seconds()
        later = now + self.context.settings.headTimeout
        for server in self._open:
            if server.state is IDLE and later < server.deadline < NEVER:
                server.deadline = now + DRAIN_IDLE_SECONDS

    def abort(self) -> None:
        """Break off all exchanges and connections that are left."""
        for exchange in list(self.context.exchanges):
            exchange.addWaitedTime()
            exchange.abort(Stopped("sitio stopped before this exchange had ended"))
        for server in [*self._open, *self._stalled]:
            server.abort()

    def _checkDrained(self) -> None:
        if not self._open and not self._stalled and not self.context.exchanges:
            drained, self._drained = self._drained, []
            for each in drained:
                each.callback(None)
