"""
The admin port.

L{AdminPort} listens from the start.  Its pages need a web server, which takes a tenth of
sitio's start-up time and memory.  So L{LazySite} imports and makes them when the first
client connects, in many turns of the reactor.

Contract: endpoints, and the function that makes the pages, are passed in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure

from sitio.errors import CannotStart
from sitio.net.listening import Listening, explainListenError
from sitio.net.room import SpareDescriptors
from sitio.net.turns import MAX_WORK, Steps, inTurns

#: Where the port listens without C{--admin}: on this host only.
DEFAULT_ENDPOINT = "tcp:9901:interface=127.0.0.1"

#: Where it listens without C{--admin} if another process, mostly another sitio, already
#: listens there.
FALLBACK_ENDPOINT = "tcp:0:interface=127.0.0.1"

#: Open connections: enough for some dashboards, a scraper and probes.
MAX_CONNECTIONS = 64

#: Descriptors that are kept for this port, so that it answers when there are no others left.
SPARE_DESCRIPTORS = 16

#: What the pages need, in pieces: each needs those before it, so that each turn imports little.
MODULES = (
    *("decimal", "gzip", "mimetypes", "http.server", "wsgiref.simple_server"),
    *("twisted.web.error", "twisted.web.resource"),
    *("twisted.cred.credentials", "twisted.cred.portal"),
    *(
        "twisted.spread.banana",
        "twisted.spread.jelly",
        "twisted.spread.flavors",
        "twisted.spread.pb",
    ),
    *("twisted.web.http_headers", "twisted.web.iweb", "twisted.web.http"),
    *("xml.sax", "xml.sax.expatreader", "hyperlink"),
    *(
        "twisted.web._stan",
        "twisted.web._flatten",
        "twisted.web._template_util",
        "twisted.web.server",
    ),
    *("sitio.admin.events", "sitio.admin.dashboard", "sitio.admin.health", "sitio.admin.pages"),
    *("prometheus_client", "sitio.telemetry.processes", "sitio.telemetry.metrics"),
)

_log = Logger(namespace="sitio.admin.pages")


class _Early(Protocol):
    """A connection that comes while the pages are made: nothing is read from it until then."""

    transport: Any = None

    def __init__(self, addr: IAddress | None) -> None:
        self._addr = addr

    def connectionMade(self) -> None:
        """See L{Protocol}."""
        self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has left."""
        self.transport = None

    def goOn(self, site: Any) -> None:
        """
        The pages are made.

        @param site: L{None} if they could not be.
        """
        wrapper = self.transport
        if wrapper is None:
            return
        protocol = None if site is None else site.buildProtocol(self._addr)
        if protocol is None:
            wrapper.loseConnection()
            return
        wrapper.wrappedProtocol = protocol
        protocol.makeConnection(wrapper)
        wrapper.resumeProducing()


class LazySite(ServerFactory):
    """Passes connections to a site, which is made for the first of them."""

    noisy = False

    def __init__(
        self,
        make: Callable[[], IProtocolFactory],
        spare: SpareDescriptors,
        clock: IReactorTime | None = None,
    ) -> None:
        """
        @param make: makes the site.  If it fails, that is logged, the connection is closed,
            and the next one makes another attempt.
        @param spare: descriptors that are free while files are imported.
        @param clock: for turns in which L{MODULES} are imported, before the site is made;
            L{None} to leave that to C{make}.
        """
        self._make = make
        self._spare = spare
        self._clock = clock
        self._site: Any = None
        self._failing = False
        self._making: Deferred[None] | None = None
        self._early: list[_Early] = []

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A protocol of the site; L{None} closes the connection."""
        if self._site is None and self._making is None:
            self._making = inTurns(self._importing(), self._clock) if self._clock else succeed(None)
            # It fails only if the port stops meanwhile.
            self._making.addCallbacks(lambda _: self._tryToMake(), lambda _: None)
            self._making.addCallback(self._made)
        if self._making is not None:
            self._early.append(_Early(addr))
            return self._early[-1]
        return None if self._site is None else self._site.buildProtocol(addr)

    def _importing(self) -> Steps[None]:
        for name in MODULES:
            if name not in sys.modules:
                self._spare.giveAll()
                # The next one imports it, or fails with a message.
                with suppress(ImportError):
                    import_module(name)
                self._spare.keep()
                yield MAX_WORK

    def _made(self, _: object) -> None:
        self._making = None
        early, self._early = self._early, []
        for each in early:
            each.goOn(self._site)

    def _tryToMake(self) -> None:
        self._spare.giveAll()
        try:
            site: Any = self._make()
            site.doStart()
            self._site = site
        except Exception:
            if not self._failing:
                _log.failure("sitio has no admin pages for now: they can't be made")
            self._failing = True
        finally:
            self._spare.keep()

    def stopFactory(self) -> None:
        """Called when the last port has closed."""
        if self._making is not None:
            self._making.cancel()
        if self._site is not None:
            self._site.doStop()


class _ConnectionLimit(WrappingFactory):
    """
    Keeps at most L{MAX_CONNECTIONS} open.  A new connection makes it abort the oldest: the
    new one may be a probe's, on which the life of a Pod depends.
    """

    noisy = False

    def logPrefix(self) -> str:
        """The name of the port in Twisted's log lines."""
        return "sitio admin"

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Accept one more; L{None} if there are no pages."""
        protocol = self.wrappedFactory.buildProtocol(addr)
        if protocol is None:
            return None
        if len(self.protocols) >= MAX_CONNECTIONS:
            self.abortOldest()
        return self.protocol(self, protocol)

    def abortOldest(self) -> None:
        """Abort the oldest connection, if there is one."""
        oldest = next(iter(self.protocols), None)
        if oldest is not None:
            # At once, as connectionLost may come after the next new connection.
            self.unregisterProtocol(oldest)
            oldest.abortConnection()

    def unregisterProtocol(self, p: Any) -> None:
        """Forget one, unless it was aborted."""
        self.protocols.pop(p, None)


class _Spare(SpareDescriptors):
    """When none is left, the oldest connection is aborted, and the next one waits for that."""

    factory: _ConnectionLimit

    def give(self) -> bool:
        """See L{SpareDescriptors}."""
        if SpareDescriptors.give(self):
            return True
        self.factory.abortOldest()
        return False


class AdminPort(Service):
    """
    The port, open until everything else has stopped.
    """

    def __init__(
        self,
        pages: Callable[[], IProtocolFactory],
        endpoint: IStreamServerEndpoint,
        fallback: IStreamServerEndpoint | None = None,
        *,
        option: str = "--admin",
        what: str = "admin pages",
        clock: IReactorTime | None = None,
    ) -> None:
        """
        @param pages: makes the site, when it is first needed.
        @param fallback: where to listen if the first endpoint is in use; with L{None} the
            start fails.
        @param option: the option that names the endpoint, and C{what} is there.
        @param clock: as L{LazySite} takes it.
        """
        self._what = what
        spare = _Spare(SPARE_DESCRIPTORS)
        self._factory = spare.factory = _ConnectionLimit(LazySite(pages, spare, clock))
        self._listening = Listening(
            self._factory,
            self._listens,
            log=_log,
            consequence=f"sitio has no {what}",
            name=f"sitio: {option}",
            spare=spare,
        )
        self._endpoint = endpoint
        self._fallback = fallback

    @property
    def port(self) -> IListeningPort | None:
        """The listening port; L{None} while there is none."""
        return self._listening.port

    def startService(self) -> None:
        """
        Listen.

        @raise CannotStart: the port can't be listened on.
        """
        Service.startService(self)
        try:
            self._listening.listen(self._endpoint)
        except CannotStart as error:
            if self._fallback is None:
                raise
            why = explainListenError(error.__cause__)
            _log.warn("sitio {why}; so its admin pages are on another port", why=why)
            self._listening.listen(self._fallback)

    def _listens(self, port: IListeningPort) -> None:
        address: Any = port.getHost()
        if isinstance(address, UNIXAddress):
            where = os.fsdecode(address.name or b"")
        else:
            host = f"[{address.host}]" if ":" in address.host else address.host
            where = f"http://{host}:{address.port}/"
        _log.info("The {what} are on {address}", what=self._what, address=where)

    def stopService(self) -> Deferred[Any]:
        """Stop listening, and close each connection when its response is sent."""
        Service.stopService(self)
        closed = self._listening.close()
        for each in list(self._factory.protocols):
            each.loseConnection()
        return closed
