"""
An upstream of one or several endpoints: L{Cluster}.

The endpoints are listed or come from DNS (L{sitio.upstream.discovery}).  A balancer chooses one
for each attempt (L{sitio.upstream.balancer}).  Health checks and failures take endpoints out of
service (L{sitio.upstream.health}, L{sitio.upstream.ejection}).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import reduce
from random import Random
from typing import Any

from attrs import Factory, evolve, field, frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger

from sitio.http.addressing import writerFor
from sitio.http.grammar import splitHost
from sitio.net.deadlines import Deadlines
from sitio.settings import Settings
from sitio.upstream.balancer import Balancer, HashRing, LeastRequests
from sitio.upstream.budget import Budget
from sitio.upstream.dnssettings import DnsSettings
from sitio.upstream.ejection import Ejections, EjectionSettings
from sitio.upstream.endpoint import Endpoint, UpstreamSnapshot
from sitio.upstream.hashkey import Asking, hashKey
from sitio.upstream.health import HealthCheck, HealthSettings
from sitio.upstream.pool import NO_COUNTS, PoolCounts, UpstreamPool, addCounts
from sitio.upstream.retries import Retries, RetrySettings

#: Endpoints that have left and still have requests under way: so many are shown.  The
#: connections of others end in the same way.
MAX_DRAINING = 64

#: Addresses in a line of the log.
MAX_LOGGED = 8

#: The part of healthy endpoints below which all are used.  With three endpoints, one may be
#: left alone.
PANIC = 0.3

#: Connects to an address.
Connect = Callable[[str], IStreamClientEndpoint]

#: The settings that a pool reads.
_POOL = (
    "connectTimeout",
    "poolTimeout",
    "upstreamIdleTimeout",
    "maxHead",
    "maxFields",
    "maxInterim",
    "poolSize",
    "poolUploads",
    "poolQueue",
)


def poolSettings(settings: Settings) -> Settings:
    """The same limits as far as pools read them; all else has its default."""
    return Settings(**{each: getattr(settings, each) for each in _POOL})


@frozen
class EndpointSettings:
    """
    A listed endpoint.

    @ivar address: as metrics and logs name it; without secrets.
    @ivar weight: its share in relation to others; 1 or more.
    @ivar target: what L{Connect} gets; the address if it is empty.
    @ivar host: the Host of requests for it; that of the upstream if it is empty.
    """

    address: str
    weight: int = 1
    target: str = ""
    host: str = ""


def _hostAt(address: str) -> str:
    """The Host of a request for an address that needs none of its own."""
    return "localhost" if splitHost(address) is None else address


def _some(addresses: Sequence[str]) -> str:
    """The first of some addresses, and how many others there are."""
    rest = len(addresses) - MAX_LOGGED
    return f"{', '.join(addresses[:MAX_LOGGED])}{f' and {rest} others' if rest > 0 else ''}"


def _asTuple(endpoints: Iterable[EndpointSettings]) -> tuple[EndpointSettings, ...]:
    return tuple(endpoints)


@frozen
class ClusterSettings:
    """
    All that makes an upstream.  Two upstreams of equal name and settings are the same: a
    new configuration keeps the connections of the old one.

    @ivar endpoints: those that are listed.
    @ivar dns: where others come from.
    @ivar connection: how connections are made, beside the address: TLS, PROXY header.  Anything
        that can be compared.
    @ivar host: the Host of requests; empty for the client's.
    @ivar tells: whether requests tell of the client
        (L{Addressing<sitio.http.addressing.Addressing>}).
    @ivar identifies: whether connections begin with a header of the PROXY protocol, which names
        the client (L{sitio.upstream.identified}).
    @ivar hashOn: what requests are hashed on (L{hashKey}); empty for least requests.
    @ivar slowStart: seconds in which the share of an endpoint grows that is new or returns.
    @ivar health: active health checks.
    @ivar ejection: when endpoints are ejected whose requests fail.
    @ivar panic: the part of healthy endpoints, 0 to 1, below which all are used.
    @ivar pool: limits of each endpoint's pool.
    @ivar retries: how sitio itself sends requests again; L{None} if it does not.
    """

    endpoints: tuple[EndpointSettings, ...] = field(default=(), converter=_asTuple)
    dns: DnsSettings | None = None
    connection: Any = None
    host: str = ""
    tells: bool = True
    identifies: bool = False
    hashOn: str = ""
    slowStart: float = 0.0
    health: HealthSettings | None = None
    ejection: EjectionSettings | None = None
    panic: float = PANIC
    pool: Settings = field(default=Factory(Settings), converter=poolSettings)
    retries: RetrySettings | None = None


class Cluster:
    """
    An upstream: one or several endpoints, from L{start} to L{stop}.

    @ivar name: its name in the configuration.
    @ivar settings: see L{ClusterSettings}.
    @ivar only: the endpoint, if there is one that never changes, that nothing judges, and whose
        connections are for all clients; else L{None}.  With C{retries} it is L{None}, too.
    @ivar budget: allows each retry, whoever asks for it.
    @ivar retries: how sitio itself sends requests again; L{None} if it does not.
    """

    def __init__(
        self,
        name: str,
        settings: ClusterSettings,
        *,
        clock: IReactorTime,
        connect: Connect,
        deadlines: Deadlines,
        random: Callable[[], float] | None = None,
        makeResolver: Callable[[Sequence[str]], Any] | None = None,
        log: Logger | None = None,
    ) -> None:
        """
        @param connect: returns a Twisted endpoint for an address.
        @param random: returns a number from 0 up to, but not including, 1.
        @param makeResolver: returns the resolver for these name servers; see
            L{NameResolver<sitio.upstream.resolvers.NameResolver>}.  Called only with C{dns}.

        @raise ValueError: the settings are wrong.
        """
        self.name = name
        self.settings = settings
        self._clock = clock
        self._connect = connect
        self._deadlines = deadlines
        self._random = random or Random().random
        self._log = log or Logger(namespace="sitio.upstream")
        self._endpoints: dict[str, Endpoint] = {}
        self._draining: list[Endpoint] = []
        self._left: PoolCounts = {**NO_COUNTS}
        self._checks: dict[Endpoint, HealthCheck] = {}
        self._isRunning = False
        self._isPanicking = False
        self._ejections = self._makeEjections(settings.ejection)
        self._balancer: Balancer = LeastRequests(clock, self._random)
        if settings.hashOn:
            self._balancer = HashRing(hashKey(settings.hashOn), LeastRequests(clock, self._random))
        if settings.identifies:
            # Imported here, as few upstreams want it.
            from sitio.upstream.identified import IdentifiedBalancer

            self._balancer = IdentifiedBalancer(self._balancer)
        for each in settings.endpoints:
            self._add(each.address, each.weight, each.target or each.address, each.host)
        self._discovery = self._makeDiscovery(settings.dns, makeResolver)
        again = settings.retries or RetrySettings()
        self.budget = Budget(clock.seconds(), again.share, again.minimum)
        self.retries = Retries(again, self._random) if settings.retries else None
        isAsked = bool(
            settings.health or settings.ejection or settings.identifies or settings.retries
        )
        self.only: Endpoint | None = None
        if len(self._endpoints) == 1 and self._discovery is None and not isAsked:
            [self.only] = self._endpoints.values()
        self._update()

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {len(self._endpoints)} endpoints>"

    def _makeEjections(self, settings: EjectionSettings | None) -> Ejections | None:
        if settings is None:
            return None
        members = self._endpoints.values()
        return Ejections(settings, self._clock, lambda: members, self._update, self._log, self.name)

    def _makeDiscovery(self, settings: DnsSettings | None, makeResolver: Any) -> Any:
        if settings is None:
            return None
        # Imported here, as twisted.names takes memory and most upstreams are listed.
        from sitio.upstream.discovery import Discovery

        resolver = makeResolver(settings.servers)
        return Discovery(settings, self._clock, resolver, self._random, self._found, self._log)

    # --- Choosing

    def choose(self, exchange: Asking, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """
        The endpoint for the next attempt.

        @param tried: those of earlier attempts; another is chosen if there is any.

        @return: L{None} if there is no endpoint: DNS has given none, or none is healthy and
            C{panic} is 0.
        """
        return self._balancer.choose(exchange, tried)

    def _update(self, changed: object = None) -> None:
        """Endpoints have come, gone, or changed their state."""
        members = list(self._endpoints.values())
        usable = [each for each in members if each.isUsable]
        isPanicking = len(usable) < self.settings.panic * len(members)
        if isPanicking is not self._isPanicking:
            self._isPanicking = isPanicking
            report = self._log.warn if isPanicking else self._log.info
            report(
                "{usable} of {count} endpoints of the upstream {name} are healthy: {what}",
                usable=len(usable),
                count=len(members),
                name=self.name,
                what="all are used" if isPanicking else "only these are used",
            )
        self._balancer.update(members, members if isPanicking else usable)

    # --- Endpoints that come and go

    def _pool(self, target: str, host: str) -> UpstreamPool:
        settings = self.settings
        makeWriter = writerFor(host or settings.host, settings.tells)
        endpoint = self._connect(target)
        return UpstreamPool(self._clock, endpoint, settings.pool, self._deadlines, makeWriter)

    def _poolOfChecks(self, target: str, timeout: float) -> UpstreamPool:
        """One connection at a time, which must be there before the check times out."""
        bounds = evolve(self.settings.pool, poolSize=1, poolQueue=1, connectTimeout=timeout)
        endpoint = self._connect(target)
        if self.settings.identifies:
            from sitio.net.proxyheader import LOCAL, PrefacedEndpoint

            endpoint = PrefacedEndpoint(endpoint, LOCAL)
        return UpstreamPool(self._clock, endpoint, bounds, self._deadlines)

    def _add(self, address: str, weight: int, target: str, host: str = "") -> Endpoint:
        settings = self.settings
        endpoint = Endpoint(
            address,
            weight,
            self._pool(target, host),
            self._clock,
            settings.slowStart,
            self._ejections,
        )
        self._endpoints[address] = endpoint
        if settings.health is not None:
            self._checks[endpoint] = HealthCheck(
                endpoint,
                evolve(settings.health, host=host or settings.host or _hostAt(address)),
                self._clock,
                self._random,
                self._poolOfChecks(target, settings.health.timeout),
                self._update,
                self._log,
            )
        return endpoint

    def _found(self, found: Iterable[tuple[str, int]]) -> None:
        """DNS has named these endpoints, with their weights."""
        wanted = dict(found)
        isFirst = not self._endpoints
        left = [each for each in self._endpoints if each not in wanted]
        joined = [each for each in wanted if each not in self._endpoints]
        for address in left:
            self._remove(address)
        for address, weight in wanted.items():
            endpoint = self._endpoints.get(address)
            if endpoint is None:
                endpoint = self._add(address, weight, address)
                if not isFirst:
                    endpoint.warm()
                if endpoint in self._checks:
                    self._checks[endpoint].start()
            endpoint.weight = weight
        for addresses, what in ((joined, "joined"), (left, "left")):
            if addresses:
                self._log.info(
                    "{addresses} {what} the upstream {name}; endpoints now: {count}",
                    addresses=_some(addresses),
                    what=what,
                    name=self.name,
                    count=len(wanted),
                )
        self._update()

    def _remove(self, address: str) -> None:
        endpoint = self._endpoints.pop(address)
        endpoint.isDraining = True
        if self._ejections is not None:
            self._ejections.forget(endpoint)
        check = self._checks.pop(endpoint, None)
        if check is not None:
            check.stop()
        endpoint.pool.retire()
        self._draining.append(endpoint)
        self._stillDraining()

    def _stillDraining(self) -> list[Endpoint]:
        busy = [each for each in self._draining if each.pool.outstanding][-MAX_DRAINING:]
        for each in self._draining:
            if each not in busy:
                self._left = addCounts(self._left, each.pool.counts())
        self._draining = busy
        return busy

    # --- Its life

    @property
    def pools(self) -> list[UpstreamPool]:
        """The pools of all endpoints, also of those that leave."""
        return [each.pool for each in (*self._endpoints.values(), *self._draining)]

    def start(self) -> None:
        """Begin to ask DNS, and to check the health of endpoints."""
        if self._isRunning:
            return
        self._isRunning = True
        for each in self._checks.values():
            each.start()
        if self._discovery is not None:
            self._discovery.start()

    def stop(self) -> Deferred[None]:
        """
        Close idle connections and refuse requests; fires when all connections are closed.

        A connection in use is closed when its exchange ends.
        """
        if self._discovery is not None:
            self._discovery.stop()
        if self._ejections is not None:
            self._ejections.stop()
        stopping = [each.stop() for each in self._checks.values()]
        stopping += [each.pool.stop() for each in (*self._endpoints.values(), *self._draining)]
        stopped: Deferred[Any] = gatherResults(stopping)
        return stopped.addCallback(lambda _: None)

    # --- What there is to know of it

    def counts(self) -> PoolCounts:
        """What all pools have counted, also those of endpoints that have left."""
        return reduce(addCounts, (each.counts() for each in self.pools), self._left)

    def problem(self) -> str | None:
        """What keeps requests from all endpoints, as a sentence without a full stop."""
        if not self._endpoints:
            why = getattr(self._discovery, "problem", None)
            return why or f"DNS has named no endpoint of the upstream {self.name} yet"
        if not any(each.isUsable for each in self._endpoints.values()):
            return f"no endpoint of the upstream {self.name} is healthy"
        return None

    def snapshot(self) -> UpstreamSnapshot:
        """What there is to know of it, as plain data."""
        endpoints = [*self._endpoints.values(), *self._stillDraining()]
        return {
            "name": self.name,
            "problem": self.problem() or getattr(self._discovery, "problem", None) or "",
            "judged": self.only is None,
            **self.budget.counts(),
            "endpoints": [each.snapshot() for each in endpoints],
        }
