"""
What is configured, as plain values: L{Config}, and its parts.

It is the same whether it comes from a file (L{sitio.config.file}), from the command line, or
from both (L{sitio.config.merge}).  L{sitio.assembly} makes the objects of it.

Contract: pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, fields, frozen

from sitio.config import kinds, routekinds
from sitio.config.keys import entry, place, table
from sitio.config.listeners import ListenerConfig
from sitio.config.places import NO_PLACES, Places
from sitio.config.policies import PolicyConfig
from sitio.config.upstreams import UpstreamConfig
from sitio.config.values import LOG_FORMATS, LOG_LEVELS
from sitio.http.claims import APPEND, MODES, STYLES, X_FORWARDED
from sitio.http.requestmatch import RequestMatch, checkPrefix
from sitio.settings import Settings

if TYPE_CHECKING:
    from sitio.config.tables import RouteLimits


@frozen
class AdminConfig:
    """
    The admin pages, and the port for probes.

    @ivar address: an endpoint description; C{""} for none, L{None} for the default.
    @ivar probes: an endpoint description; L{None} for none.
    """

    address: str | None = entry(
        kinds.ADMIN,
        "port of this host, endpoint description, or empty for no admin pages; without it"
        " 127.0.0.1:9901, or another port if that is taken",
        None,
        example="9901",
    )
    probes: str | None = entry(
        kinds.LISTEN, "port for /live, /ready and /metrics only", None, example="9902"
    )
    hosts: tuple[str, ...] = entry(
        kinds.HOSTS,
        "names under which the admin pages may be asked for, besides addresses and local names",
        (),
        example='["sitio.example.com"]',
    )
    healthPath: str | None = entry(
        kinds.PATH,
        "path that sitio requests every two seconds; sitio is ready while the status is 200 to 399",
        None,
        example='"/healthz"',
    )
    place: str = place()


@frozen
class ForwardedConfig:
    """
    What the upstream is told about the client.

    @ivar trusted: networks, and C{unix}; L{None} for the default.
    """

    mode: str = entry(
        kinds.choice(*MODES), "what becomes of X-Forwarded fields and the like in requests", APPEND
    )
    style: str = entry(
        kinds.choice(*STYLES),
        "fields that sitio writes: X-Forwarded-For and the like, Forwarded (RFC 7239), or both",
        X_FORWARDED,
    )
    trusted: tuple[str, ...] | None = entry(
        kinds.TRUSTED,
        "proxies whose claims are believed, as networks, and unix for UNIX sockets: the client is"
        " then whom they name; without it, private networks, whose claims only pass",
        None,
        example='["10.0.0.0/8"]',
    )
    via: bool = entry(kinds.FLAG, "add Via to requests and responses", False)
    keepUnderscores: bool = entry(
        kinds.FLAG,
        "pass request fields that CGI and WSGI take for those of sitio, such as X_Forwarded_For",
        False,
    )
    place: str = place()


@frozen
class RouteConfig:
    """
    Which requests go where.  All that is given must match.

    @ivar hosts: names, or C{*.} and a name.
    @ivar path: a template; not with C{prefix}.
    @ivar fields: names and what they must be: a text, True for any value, False for none.
    @ivar query: the same for parameters.
    @ivar upstreams: names and weights; one with weight 1.0 if C{upstream} is given.
    @ivar sticky: C{("cookie", NAME)} or C{("field", NAME)}.
    @ivar limits: those of its own; L{settings} has all.
    """

    name: str = entry(kinds.TEXT, "for people; without it, the path", "", example='"users"')
    hosts: tuple[str, ...] = entry(
        routekinds.HOST_PATTERNS,
        "host that is asked for, or a list; *.example.com for all names below",
        (),
        example='"api.example.com"',
        name="host",
    )
    path: str | None = entry(
        routekinds.TEMPLATE,
        "path or template, which is also the endpoint in the metrics",
        None,
        example='"/users/{id}"',
    )
    prefix: str | None = entry(
        routekinds.PREFIX, "first segments of the path", None, example='"/api"'
    )
    methods: tuple[str, ...] = entry(
        kinds.several(routekinds.METHOD, "methods such as GET"),
        "methods; GET includes HEAD",
        (),
        example='["GET", "POST"]',
    )
    fields: tuple[tuple[str, str | bool], ...] = entry(
        routekinds.FIELDS,
        "fields of the request: a text, true for any value, false for none",
        (),
        example='{ X-Beta = "1", X-Debug = true }',
    )
    query: tuple[tuple[str, str | bool], ...] = entry(
        routekinds.QUERY, "parameters of the query, as fields", (), example='{ v = "2" }'
    )
    upstream: str | None = entry(
        kinds.TEXT,
        "name of the upstream; not needed if there is only one",
        None,
        example='"photos"',
    )
    upstreams: tuple[tuple[str, float], ...] = entry(
        routekinds.WEIGHTS,
        "instead of upstream: several of them, with their shares",
        (),
        example="{ photos = 90, canary = 10 }",
    )
    sticky: tuple[str, str] | None = entry(
        routekinds.STICKY,
        "requests with the same cookie or field go to the same of several upstreams",
        None,
        example='"cookie:group"',
    )
    policies: tuple[PolicyConfig, ...] = table(
        "policies of this route, after those of all routes", (), example='["error-page:404"]'
    )
    rewrite: str | None = entry(
        routekinds.REWRITE,
        "path for the upstream, with the named parts of path",
        None,
        example='"/v2/{id}"',
    )
    stripPrefix: str | None = entry(
        routekinds.PREFIX, "first segments that the upstream does not get", None, example='"/api"'
    )
    replacePrefix: str | None = entry(
        routekinds.PREFIX, "what the upstream gets instead of prefix", None, example='"/v2"'
    )
    hostForUpstream: str | None = entry(
        routekinds.HOST_OF_ROUTE,
        "Host that the upstream gets for this route, in place of that of the upstream",
        None,
        example='"api.example.com"',
    )
    limits: RouteLimits | None = table("limits and timeouts of this route")
    place: str = place()

    def match(self) -> RequestMatch:
        """
        What a request must be to take the route.

        @raise ValueError: a part of it is wrong.
        """
        return RequestMatch(
            hosts=self.hosts,
            path=self.path,
            prefix=None if self.prefix is None else checkPrefix(self.prefix),
            methods=self.methods,
            fields=self.fields,
            query=self.query,
        )

    def settings(self, settings: Settings) -> Settings:
        """The limits and timeouts of this route."""
        if self.limits is None:
            return settings
        own = {each.name: getattr(self.limits, each.name) for each in fields(type(self.limits))}
        return evolve(settings, **{name: value for name, value in own.items() if value is not None})


@frozen
class Config:
    """
    All that is configured.

    @ivar workers: the number of processes.
    @ivar accessLog: see L{accessLogTarget<sitio.config.values.accessLogTarget>}.
    @ivar fleet: a URL; L{None} for none.
    @ivar policies: those for all routes, which come before a route's own.
    @ivar templates: paths that are one endpoint in the metrics, beside those of routes.
    @ivar listeners: at least one.
    @ivar upstreams: none only if there is nothing that is served: a mistake.  With C{demo} the
        photo site is the only one, and has no endpoints.
    @ivar routes: in order; the first that matches counts.  Without routes, all requests go to
        the only upstream.
    @ivar folder: what paths of files are relative to: they are absolute already, but in
        policies.
    @ivar places: where things stand.
    """

    workers: int = entry(
        kinds.WORKERS,
        "number of processes that share the ports; auto for one on each core that sitio may use",
        1,
    )
    workerTimeout: float = entry(
        kinds.seconds(zero=True),
        "time after which a worker that does not answer is ended and replaced; 0 for never",
        10.0,
    )
    statsInterval: float = entry(
        kinds.seconds(zero=True), "time between two stats lines in the log; 0 for none", 2.0
    )
    accessLog: tuple[str, str | None] | None = entry(
        kinds.ACCESS_LOG,
        "a line for each request: json, common or off; json:PATH writes to a file",
        None,
        example='"json:access.log"',
    )
    accessLogQuery: bool = entry(
        kinds.FLAG, "show query strings in the access log; they may hold secrets", False
    )
    logLevel: str = entry(kinds.choice(*LOG_LEVELS), "lowest level of lines in the log", "info")
    logFormat: str = entry(kinds.choice(*LOG_FORMATS), "form of the lines in the log", "text")
    fleet: str | None = entry(
        kinds.SECRET,
        "post metrics to this central dashboard",
        None,
        example='"http://dashboard:8080"',
    )
    watch: bool = entry(
        kinds.FLAG,
        "whether changes of this file, of policy files and of certificates are taken over at once;"
        " with false, at SIGHUP, sitio reload or POST /reload",
        True,
    )
    demo: bool = entry(kinds.FLAG, "serve a small photo site, instead of an upstream", False)
    policies: tuple[PolicyConfig, ...] = table(
        "policies of all routes, in order, before those of a route",
        (),
        example='["error-page:404", { name = "last-good", max-age = "60s" }]',
    )
    templates: tuple[str, ...] = entry(
        kinds.several(routekinds.TEMPLATE, "paths such as /users/{id}"),
        "templates of paths that are one endpoint in metrics and dashboard, beside the paths of"
        " routes",
        (),
        example='["/users/{id}"]',
    )
    listeners: tuple[ListenerConfig, ...] = table("port for clients", (), single="listener")
    admin: AdminConfig = table("admin pages and probes", AdminConfig())
    limits: Settings = table("limits and timeouts", Settings())
    forwarded: ForwardedConfig = table(
        "what the upstream is told about the client", ForwardedConfig()
    )
    upstreams: tuple[UpstreamConfig, ...] = table("service behind sitio", (), single="upstream")
    routes: tuple[RouteConfig, ...] = table(
        "which requests go where; the first that matches counts, and 404 if none does", ()
    )
    folder: str = "."
    places: Places = field(default=NO_PLACES, eq=False, repr=False)

    def where(self, place: str) -> str:
        """
        Where something stands, for a message: C{sitio.toml:17: routes[2].policies[0]}.

        @param place: C{routes[2].policies[0]}; of an object with a C{place}, that, or more.
        """
        return self.places.where(place)

    def upstream(self, name: str) -> UpstreamConfig:
        """
        An upstream by its name.

        @raise KeyError: there is none.
        """
        return {each.name: each for each in self.upstreams}[name]
