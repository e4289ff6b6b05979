"""
The admin port, with pages that are made when somebody comes.

L{AdminPort} listens from the start.  Its pages need a web server, a tenth of the time
that sitio takes to start and of its memory; so L{Pages} has them made, and imported, for
the first connection; whoever never looks never pays.

Contract: endpoints are passed in, and who makes the pages.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory

from sitio.errors import CannotStart
from sitio.net.listening import Listening, explainListenError

#: Where it listens unless it is told: nowhere but on this host.
DEFAULT = "tcp:9901:interface=127.0.0.1"

#: Where it listens instead when another process, mostly another sitio, is there.
SPARE = "tcp:0:interface=127.0.0.1"

#: Connections at a time: a few dashboards, a scraper, probes.
MAX_CONNECTIONS = 64

_log = Logger(namespace="sitio.admin.pages")


class Pages(ServerFactory):
    """Passes connections to a site, which is made for the first of them."""

    noisy = False

    def __init__(self, make: Callable[[], IProtocolFactory]) -> None:
        """
        @param make: the site.  Should it fail, that is logged, and nobody is let in.
        """
        self._make = make
        self._site: Any = None
        self._broken = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The site's, or L{None}, which closes the connection."""
        if self._site is None and not self._broken:
            try:
                self._site = self._make()
                self._site.doStart()
            except Exception:
                self._broken = True
                _log.failure("sitio has no admin pages, and lets nobody in: they can't be made")
        return None if self._broken else self._site.buildProtocol(addr)

    def stopFactory(self) -> None:
        """The last port has closed."""
        if self._site is not None and not self._broken:
            self._site.doStop()


class _Few(WrappingFactory):
    """
    Keeps so many connections and no more: the oldest is broken off for a new one, as
    that may be a probe's, by which a Pod lives or dies.
    """

    noisy = False

    def logPrefix(self) -> str:
        """What Twisted calls the port in its own lines."""
        return "sitio admin"

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """One more, and perhaps one less; L{None} where there are no pages."""
        protocol = self.wrappedFactory.buildProtocol(addr)
        if protocol is None:
            return None
        if len(self.protocols) >= MAX_CONNECTIONS:
            oldest = next(iter(self.protocols))
            # At once, as its end may come after the next new one.
            self.unregisterProtocol(oldest)
            oldest.abortConnection()
        return self.protocol(self, protocol)

    def unregisterProtocol(self, p: Any) -> None:
        """Forget one, unless it was broken off."""
        self.protocols.pop(p, None)


class AdminPort(Service):
    """
    The port, open until everything else has stopped.
    """

    def __init__(
        self,
        pages: Callable[[], IProtocolFactory],
        endpoint: IStreamServerEndpoint,
        spare: IStreamServerEndpoint | None = None,
    ) -> None:
        """
        @param pages: makes the site, when it is first needed.
        @param spare: where to listen when the first is taken; with L{None} that
            ends the start.
        """
        self._factory = _Few(Pages(pages))
        self._listening = Listening(
            self._factory,
            self._listens,
            log=_log,
            consequence="sitio has no admin pages",
            name="sitio: --admin",
        )
        self._endpoint = endpoint
        self._spare = spare

    @property
    def port(self) -> IListeningPort | None:
        """The listening port; L{None} while there is none."""
        return self._listening.port

    def startService(self) -> None:
        """
        Listen; not as early as clients' port, without which nobody needs this one.

        @raise CannotStart: the port can't be listened on.
        """
        Service.startService(self)
        try:
            self._listening.listen(self._endpoint)
        except CannotStart as error:
            if self._spare is None:
                raise
            why = explainListenError(error.__cause__)
            _log.warn("sitio {why}; so its admin pages are elsewhere", why=why)
            self._listening.listen(self._spare)

    def _listens(self, port: IListeningPort) -> None:
        address: Any = port.getHost()
        if isinstance(address, UNIXAddress):
            where = os.fsdecode(address.name or b"")
        else:
            host = f"[{address.host}]" if ":" in address.host else address.host
            where = f"http://{host}:{address.port}/"
        _log.info("The admin pages are on {address}", address=where)

    def stopService(self) -> Deferred[Any]:
        """Listen no more, and close what is open once what was written has left."""
        Service.stopService(self)
        closed = self._listening.close()
        for each in list(self._factory.protocols):
            each.loseConnection()
        return closed
