"""
L{SidecarService}: one sidecar as a Twisted service.

C{twistd sitio} runs it (L{sitio.assembly}), and so can any other application
(examples/embedded.py).

C{service.generations} (L{sitio.wiring.generations}) replaces what is configured while traffic
flows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, reduce
from time import time
from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from sitio.errors import CannotStart
from sitio.http.claims import APPEND
from sitio.http.routes import Routes
from sitio.net.deadlines import Deadlines
from sitio.net.handshake import HandshakeEndpoint
from sitio.net.listening import Listening, Ports
from sitio.net.room import Room
from sitio.net.turns import inTurns
from sitio.proxy.context import ProxyContext
from sitio.proxy.factory import ProxyServerFactory
from sitio.proxy.trust import ForwardedSettings
from sitio.settings import Settings
from sitio.telemetry.certificates import TLSMetrics, mergeTLS
from sitio.telemetry.configstate import ConfigState
from sitio.telemetry.history import History
from sitio.telemetry.records import ExchangeLists
from sitio.telemetry.sidecar import DRAINING, SERVING, STARTING, ISidecar, droppedBy
from sitio.telemetry.snapshot import (
    NO_PEERS,
    Peers,
    SidecarSnapshot,
    Snapshot,
    addUp,
)
from sitio.telemetry.stats import Stats
from sitio.telemetry.upstreams import mergeUpstreams
from sitio.upstream.pool import UpstreamPool
from sitio.wiring.generations import Generations, MakeGeneration, Prepared, ofOne

if TYPE_CHECKING:
    from sitio.net.watching import Watcher
    from sitio.wiring.endpoints import Connects
    from sitio.wiring.replacement import Replaceable
    from sitio.wiring.tlsplan import TLSPlan

#: The port for clients, or several, which may have names.
Listen = (
    IStreamServerEndpoint | Sequence[IStreamServerEndpoint] | Mapping[str, IStreamServerEndpoint]
)

#: Seconds between two looks for idle clients while no more can be accepted.
CROWDED_SECONDS = 1.0


@implementer(ISidecar)
class SidecarService(MultiService):
    """
    A sidecar as a service: it listens while it runs, and drains when it stops.

    @ivar context: what its exchanges share; C{context.chain} may be replaced.
    @ivar stats: the metrics.
    @ivar history: the last exchanges.
    @ivar peers: labels of the metrics.
    @ivar tls: the TLS of its configuration; L{None} if it has none.
    @ivar ports: the ports for clients.
    @ivar generations: what is configured, and what was before.
    @ivar configState: which configuration is in use.
    @ivar replaceable: makes what replaces it; L{None} if a program configures this sidecar.
    @ivar watcher: says when its files have changed.
    @ivar connects: what its upstreams connect with, if they are configured.
    """

    peers: Peers = NO_PEERS
    tls: TLSPlan | None = None
    replaceable: Callable[[], Replaceable] | None = None
    watcher: Watcher | None = None
    connects: Connects | None = None
    _stillCrowded: IDelayedCall | None = None

    log = Logger(namespace="sitio")

    def __init__(
        self,
        reactor: IReactorTime,
        listen: Listen,
        upstream: IStreamClientEndpoint | MakeGeneration,
        policies: Iterable[tuple[str, Any] | Any] = (),
        *,
        settings: Settings | None = None,
        statsInterval: float = 2.0,
        host: bytes = b"localhost",
        via: bytes | None = None,
        keepsFolded: bool = False,
        forwarded: ForwardedSettings | str = APPEND,
        routes: Routes | None = None,
        observers: Iterable[Any] = (),
        upstreamAddress: str = "the upstream",
    ) -> None:
        """
        @param reactor: the clock.
        @param listen: see L{Listen}.
        @param upstream: the service behind sitio; or what makes the first generation: then
            C{policies}, C{settings} and C{via} are not used.
        @param policies: in order, as L{sitio.policy.loader.namedPolicies} takes them.
        @param settings: limits and timeouts.
        @param statsInterval: seconds between two stats lines; 0 for none.
        @param host: the Host for HTTP/1.0 requests that have none.
        @param via: the pseudonym in Via fields; L{None} adds no Via.
        @param keepsFolded: whether requests keep fields that CGI takes for those of sitio.
        @param forwarded: what requests tell of clients, or a mode of L{sitio.http.claims}.
        @param routes: templates of paths that are endpoints in the metrics.
        @param observers: more of them, which stay when the policies change.
        @param upstreamAddress: for log lines.
        """
        MultiService.__init__(self)
        self.stats = Stats(reactor, statsInterval, routes=routes)
        self.history = History(reactor, time, os.getpid())
        self._clock = reactor
        deadlines = Deadlines(reactor)
        make = upstream
        if not callable(make):
            pooled = partial(UpstreamPool, reactor, HandshakeEndpoint(make))
            make = ofOne(pooled, upstreamAddress, policies, settings or Settings(), via)
        generation = make(deadlines, None)
        self.context = ProxyContext(
            clock=reactor,
            generation=generation,
            host=host,
            keepsFolded=keepsFolded,
            forwarded=forwarded,
            observers=(allObservers := [*observers, self.stats, self.history]),
        )
        self.stats.watch(self.context.exchanges)
        self.factory = ProxyServerFactory(self.context, deadlines)
        self.factory.room = self._room = Room(generation.settings.maxClients, self._crowded)
        self.configState = ConfigState(time(), generation.number)
        self.ports = Ports(self._newListening, _named(listen))
        self.generations = Generations(reactor, deadlines, self.context)
        for each in (self.generations, *allObservers):
            if IService.providedBy(each):
                IService(each).setServiceParent(self)

    def _newListening(self) -> Listening:
        return Listening(
            self.factory,
            self._listens,
            log=self.log,
            consequence="sitio takes no requests",
            room=self._room,
        )

    @property
    def port(self) -> IListeningPort | None:
        """The first listening port; L{None} while there is none."""
        return self.ports.first

    def adopt(self, prepared: Prepared) -> Deferred[None]:
        """
        Use a generation that C{generations.prepare} has made, from the next request on.

        @return: fires when the former one has ended.
        """
        ended = self.generations.adopt(prepared)
        self.factory.useSettings()
        settings = prepared.generation.settings
        self._room.limit = settings.maxClients
        self.context.buffers.limit = settings.bufferTotal
        return ended

    def privilegedStartService(self) -> None:
        """
        Listen, before the process drops its privileges.

        @raise CannotStart: the port can't be opened.
        """
        MultiService.privilegedStartService(self)
        if self.ports.begun:
            return
        if self.factory.draining:
            raise CannotStart("sitio: a sidecar that was stopped can't start again; make another")
        self.ports.listen()

    def _listens(self, port: IListeningPort) -> None:
        self.log.info("sitio takes requests on {address}", address=_readable(port.getHost()))

    def _crowded(self) -> None:
        """As many clients are connected as may be: idle ones make room, while that lasts."""
        if self._stillCrowded is None and self._room.taken >= self._room.limit:
            self.factory.makeRoom()
            self._stillCrowded = self._clock.callLater(CROWDED_SECONDS, self._lookAgain)

    def _lookAgain(self) -> None:
        self._stillCrowded = None
        self._crowded()

    def startService(self) -> None:
        """Start the policies and observers that are services; listen, if that is not done yet."""
        self.privilegedStartService()
        MultiService.startService(self)

    def stopService(self) -> Deferred[Any]:
        """
        Stop accepting connections, and finish the exchanges in flight, for
        C{settings.grace} at most.

        Policies and observers stop last, after all exchanges have ended; each policy within
        L{STOP_SECONDS<sitio.policy.services.STOP_SECONDS>}.
        """
        closed = self.ports.close()
        if self._stillCrowded is not None and self._stillCrowded.active():
            self._stillCrowded.cancel()
        drained = self.factory.drain()
        grace = self.context.settings.grace
        late = self._clock.callLater(grace, self._graceIsOver)

        def disconnected(result: object) -> Deferred[Any]:
            if late.active():
                late.cancel()
            return self.generations.stopUpstreams()

        drained.addCallback(disconnected)
        ended: Deferred[Any] = gatherResults([closed, drained])
        ended.addBoth(lambda _: MultiService.stopService(self))
        return ended

    def _graceIsOver(self) -> None:
        self.log.warn(
            "{exchanges} exchanges on {connections} connections did not end within the grace,"
            " and are aborted",
            exchanges=len(self.context.exchanges),
            connections=self.factory.connections,
        )
        self.abort()

    def abort(self) -> None:
        """Abort all exchanges in flight."""
        self.factory.abort()

    @property
    def state(self) -> str:
        """See L{ISidecar}."""
        if self.factory.draining:
            return DRAINING
        return STARTING if self.port is None else SERVING

    def warnings(self) -> list[str]:
        """See L{ISidecar}."""
        return [] if self.tls is None else self.tls.warnings()

    def isBusy(self) -> bool:
        """Whether an exchange is under way."""
        return bool(self.context.exchanges)

    def drain(self) -> None:
        """See L{ISidecar}."""
        if not self.factory.draining:
            self.log.info("sitio drains: each connection closes after its response")
            self.factory.drain()

    def exchanges(self) -> Deferred[ExchangeLists]:
        """See L{ISnapshotSource<sitio.telemetry.sidecar.ISnapshotSource>}."""
        return inTurns(self.history.listing(self.context.exchanges), self._clock)

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        """See L{ISnapshotSource<sitio.telemetry.sidecar.ISnapshotSource>}."""
        return inTurns(self.stats.reading(), self._clock).addCallback(self._withAllElse)

    def _withAllElse(self, metrics: Snapshot) -> SidecarSnapshot:
        clients = self.factory.connections
        upstreams = self.generations.upstreams
        pools = [pool for each in upstreams for pool in each.pools]
        return {
            "metrics": metrics,
            "peers": self.peers,
            "config": self.configState.snapshot(),
            "policies": self.generations.policyMetrics(),
            "upstreams": mergeUpstreams([each.snapshot() for each in upstreams], ()),
            # A former upstream of the same name may not be gone yet.
            "tls": mergeTLS(cast("list[TLSMetrics]", self.tls.snapshot()) if self.tls else (), ()),
            "pool": reduce(addUp, (each.snapshot() for each in pools), dict(_NO_CONNECTIONS)),
            "poolCounts": self.generations.poolCounts(),
            "clients": clients,
            "inFlight": len(self.context.exchanges),
            "bufferedBytes": self.context.buffers.held,
            "brokenResponses": self.context.brokenOff,
            "overlongResponses": self.context.tooLong,
            "dropped": droppedBy((*self, *self.generations.policyServices)),
            "restarts": 0,
            "workers": [
                {
                    "number": 1,
                    "pid": os.getpid(),
                    "uptime": metrics["uptime"],
                    "restarts": 0,
                    "hits": metrics["total"]["hits"],
                    "clients": clients,
                }
            ],
        }


def _named(listen: Listen) -> Mapping[str, IStreamServerEndpoint]:
    if isinstance(listen, Mapping):
        return listen
    several = listen if isinstance(listen, Sequence) else (listen,)
    return {f"port {number}": each for number, each in enumerate(several, 1)}


_NO_CONNECTIONS = {"open": 0, "idle": 0, "waiting": 0}


def _readable(address: Any) -> str:
    """An address of Twisted's as C{HOST:PORT}, or the path of a UNIX socket."""
    name = getattr(address, "name", None)
    if name is not None:
        return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    host = getattr(address, "host", "")
    return f"{f'[{host}]' if ':' in host else host}:{getattr(address, 'port', '?')}"
