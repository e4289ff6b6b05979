"""
Makes generations of a configuration: L{Plan}.

A configuration is plain values (L{sitio.config.model}); a generation has the routes, chains and
upstreams that they stand for.

Contract: the reactor and what connects are passed in; policies may read files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, fields
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from sitio.config.model import Config, ForwardedConfig, RouteConfig
from sitio.config.places import ConfigErrors, Mistake
from sitio.config.policies import PolicyConfig, policiesMade
from sitio.config.upstreams import UpstreamConfig
from sitio.errors import inOneLine
from sitio.http.addressing import hostOf, writerFor
from sitio.http.requestmatch import MatchTable, PathRewrite
from sitio.http.routes import Routes
from sitio.net.deadlines import Deadlines
from sitio.net.descriptions import target
from sitio.policy.chain import Chain
from sitio.proxy.generation import Generation, Route, Split, largestBody
from sitio.proxy.trust import ForwardedSettings, Trust
from sitio.proxy.upstream import Upstream
from sitio.redact import endpointWithoutSecrets
from sitio.settings import Settings
from sitio.upstream.fixed import FixedUpstream
from sitio.upstream.hosts import CLIENT, UPSTREAM, hostFor
from sitio.upstream.pool import UpstreamPool

#: Makes what connects to the addresses of an upstream.
Connects = Callable[[UpstreamConfig], Callable[[str], IStreamClientEndpoint]]

#: Names and policies.
Named = list[tuple[str, Any]]


def rewriteOf(route: RouteConfig) -> PathRewrite | None:
    """
    The path that the upstream gets; L{None} for the client's.

    @raise ValueError: it has a name that the path does not have.
    """
    if route.rewrite is not None:
        return PathRewrite.ofTemplate(route.path or route.prefix or "/", route.rewrite)
    if route.stripPrefix is not None:
        return PathRewrite.ofPrefix(route.stripPrefix.rstrip("/"), "")
    if route.replacePrefix is not None:
        prefix = (route.prefix or "").rstrip("/")
        return PathRewrite.ofPrefix(prefix, route.replacePrefix.rstrip("/"))
    return None


def templatesOf(config: Config) -> Routes:
    """The paths that are endpoints in the metrics: of routes, and those that are listed."""
    paths = [each.path for each in config.routes if each.path is not None]
    # Routes may have the same path, with other methods for example.
    return Routes.first((*config.templates, *paths))


class Plan:
    """
    Makes generations of one configuration.

    @ivar config: the configuration.
    """

    def __init__(
        self,
        config: Config,
        clock: IReactorTime,
        connects: Connects,
        policies: Mapping[str, Named] | None = None,
        first: int = 1,
    ) -> None:
        """
        @param policies: those that are made already, by the places of their configurations.
        @param first: the number of the first generation.
        """
        self.config = config
        self._clock = clock
        self._connects = connects
        self._policies = dict(policies or {})
        self._first = first

    def make(self, deadlines: Deadlines, former: Generation | None) -> Generation:
        """
        Make a generation.

        @param former: upstreams of equal configuration are taken from it, with their
            connections.

        @raise ConfigErrors: policies or upstreams can't be made; all mistakes are told.
        """
        config, mistakes = self.config, _Mistakes(self.config)
        upstreams: dict[str, Upstream] = {}
        for each in config.upstreams:
            with mistakes.of(each.place):
                upstreams[each.name] = self._upstream(each, deadlines, former)
        named = self._named(config.policies, mistakes)
        settings = config.limits
        chain = Chain(named, clock=self._clock, timeout=settings.policyTimeout)
        via = b"sitio" if config.forwarded.via else None
        base = Route(chain, None, settings, via=via, upstreams=upstreams)
        routes = [self._route(each, base, mistakes) for each in config.routes]
        mistakes.check()
        fallback = base
        if not routes and len(upstreams) == 1:
            fallback = base.toward(*upstreams)
        most = largestBody((fallback, *routes))
        return Generation(
            fallback=_limited(fallback, most),
            table=MatchTable(each.match() for each in config.routes),
            routes=[_limited(each, most) for each in routes],
            upstreams=upstreams,
            settings=settings,
            number=self._first if former is None else former.number + 1,
            forwarded=_forwardedOf(config.forwarded),
        )

    def _named(self, policies: Iterable[PolicyConfig], mistakes: _Mistakes) -> Named:
        named: Named = []
        for each in policies:
            # Each generation has policies of its own.
            made = self._policies.pop(each.place, None)
            if made is not None:
                named += made
                continue
            with mistakes.of(each.place):
                named += policiesMade(each)
        return named

    def _route(self, config: RouteConfig, base: Route, mistakes: _Mistakes) -> Route:
        settings = config.settings(base.settings)
        chain = base.chain
        if config.policies or settings.policyTimeout != base.settings.policyTimeout:
            own = self._named(config.policies, mistakes)
            timeout = settings.policyTimeout
            chain = Chain(own, clock=self._clock, timeout=timeout, first=base.chain)
        shares = _sharesOf(config, base.upstreams)
        split = None
        if len(shares) > 1:
            kind, name = config.sticky or ("", "")
            split = Split(
                shares,
                stickyField=name if kind == "field" else None,
                stickyCookie=name if kind == "cookie" else None,
            )
        rewrite = None
        with mistakes.of(config.place):
            rewrite = rewriteOf(config)
        return evolve(
            base,
            chain=chain,
            upstream=base.upstreams[shares[0][0]] if shares else None,
            settings=settings,
            name=config.name or config.path or config.prefix or "",
            rewrite=rewrite,
            host=config.hostForUpstream,
            split=split,
        )

    def _upstream(
        self, config: UpstreamConfig, deadlines: Deadlines, former: Generation | None
    ) -> Upstream:
        kept: Any = None if former is None else former.upstreams.get(config.name)
        settings = self._settingsOf(config)
        if kept is not None and kept.settings == settings:
            return kept
        connect = self._connects(config)
        if isinstance(settings, tuple):
            address = config.endpoints[0].address if config.endpoints else ""
            writer = writerFor(_hostOf(config, address), config.tellsClient)
            pool = UpstreamPool(
                self._clock, connect(address), self.config.limits, deadlines, writer
            )
            shown = shownAddress(address) if address else config.name
            return FixedUpstream(config.name, pool, shown, settings)
        # Imported here, as most have one upstream at one place.
        from sitio.upstream.cluster import Cluster

        cluster: Any = Cluster(
            config.name,
            settings,
            clock=self._clock,
            connect=connect,
            deadlines=deadlines,
            makeResolver=self._resolver,
        )
        made: Upstream = cluster
        return made

    def _resolver(self, servers: Sequence[str]) -> Any:
        from sitio.upstream.resolvers import SystemResolver

        return SystemResolver(self._clock, servers)

    def _settingsOf(self, config: UpstreamConfig) -> Any:
        """What makes the upstream: it is another one if that changes."""
        if config.proxyProtocol and config.isSecure:
            raise ValueError(
                "the PROXY header comes before TLS, which sitio can't write: leave out"
                " proxy-protocol, or use an address without TLS"
            )
        isAsked = config.health or config.ejects or config.proxyProtocol or config.retries
        if config.isSingle and not isAsked:
            return config, self.config.limits
        return _clusterSettings(config, self.config.limits)


def _forwardedOf(config: ForwardedConfig) -> ForwardedSettings:
    """What requests tell of clients, and whom sitio believes."""
    trusted = None if config.trusted is None else Trust.of(config.trusted)
    return ForwardedSettings(config.mode, config.style, trusted)


def _limited(route: Route, most: int | None) -> Route:
    """A route that checks its own limit of a body, if that is not the one of all."""
    own = route.settings.maxBody
    return evolve(route, maxBody=own if own and own != most else None)


def _sharesOf(
    route: RouteConfig, upstreams: Mapping[str, Upstream]
) -> tuple[tuple[str, float], ...]:
    """The upstreams of a route with their weights."""
    if route.upstreams:
        return route.upstreams
    if route.upstream is not None:
        return ((route.upstream, 1.0),)
    return tuple((name, 1.0) for name in upstreams) if len(upstreams) == 1 else ()


def _clusterSettings(config: UpstreamConfig, limits: Settings) -> Any:
    """What makes an upstream of several endpoints, or one that is judged."""
    from sitio.upstream.cluster import ClusterSettings, EndpointSettings
    from sitio.upstream.dnssettings import DnsSettings
    from sitio.upstream.ejection import EjectionSettings
    from sitio.upstream.health import HealthSettings
    from sitio.upstream.retries import RetrySettings

    def taken(kind: Any, table: Any, **more: Any) -> Any:
        """Settings of the same names as the keys of a table."""
        if table is None:
            return None
        return kind(
            **{
                each.name: getattr(table, each.name, each.default)
                for each in fields(kind)
                if each.name not in more
            },
            **more,
        )

    dns = None
    if config.dns is not None or config.srv is not None:
        name, port = config.dns or (config.srv or "", 0)
        dns = taken(DnsSettings, config.resolve, name=name, port=port) or DnsSettings(name, port)
    ejects, retries = config.ejects, config.retries
    settings = ClusterSettings(
        endpoints=[
            EndpointSettings(
                shownAddress(each.address),
                each.weight,
                each.address,
                _hostOf(config, each.address),
            )
            for each in config.endpoints
        ],
        dns=dns,
        connection=config.tls,
        host=_hostOfName(config),
        tells=config.tellsClient,
        identifies=config.proxyProtocol is not None,
        hashOn=config.hashOn or "" if config.balance == "hash" else "",
        slowStart=config.slowStart,
        health=taken(HealthSettings, config.health),
        ejection=taken(EjectionSettings, ejects),
        pool=limits,
        retries=None if retries is None else taken(RetrySettings, retries, share=retries.budget),
    )
    return settings if ejects is None else evolve(settings, panic=ejects.panic)


def _hostOf(config: UpstreamConfig, address: str) -> str:
    """The Host of requests for an endpoint; empty for the client's."""
    return hostFor(config.hostMode, address, config.isSecure) if address else ""


def _hostOfName(config: UpstreamConfig) -> str:
    """The Host of requests for endpoints that DNS has named; empty for the client's."""
    mode = config.hostMode
    if mode in (CLIENT, UPSTREAM):
        if mode == CLIENT or config.dns is None:
            return ""
        return hostOf(*config.dns, "https" if config.isSecure else "http")
    return mode


def shownAddress(description: str) -> str:
    """An endpoint as metrics and log lines name it: C{10.0.0.1:8087}, or a path."""
    where = target(description)
    if isinstance(where, tuple):
        host, port = where
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return where or endpointWithoutSecrets(description)


class _Mistakes:
    """Collects what is wrong, with the place of each."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._found: list[Mistake] = []
        self._place = ""

    def of(self, place: str) -> _Mistakes:
        """A context that notes a C{ValueError} as a mistake at this place."""
        self._place = place
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        if not isinstance(error, ValueError):
            return False
        sentence = str(error) or inOneLine(error)
        self._found.append(self._config.places.mistake(self._place, sentence))
        return True

    def check(self) -> None:
        """
        @raise ConfigErrors: there are mistakes.
        """
        if self._found:
            raise ConfigErrors(self._found)
