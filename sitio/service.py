"""
C{twistd sitio}: reads options, wires objects, decides nothing.

L{makeService} is what the plugin calls; L{SidecarService} is the same as a
part of another application's service tree (examples/embedded.py).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from time import time
from typing import Any, ClassVar, NoReturn, cast

import attrs
from twisted.application.service import IService, MultiService
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.admin.redact import endpointWithoutSecrets, policyWithoutSecrets
from sitio.errors import CannotStart
from sitio.fleet.address import VARIABLES, Address, addressOf
from sitio.net.deadlines import Deadlines
from sitio.net.process import installReactor, spareCollector
from sitio.policy.chain import Chain
from sitio.policy.loader import loadPolicies, makers, named
from sitio.proxy.context import Sidecar
from sitio.proxy.server import ProxyServerFactory
from sitio.settings import Settings
from sitio.telemetry.accesslog import accessLog, described
from sitio.telemetry.history import History
from sitio.telemetry.logfile import Reopening
from sitio.telemetry.snapshot import (
    DRAINING,
    SERVING,
    STARTING,
    Exchanges,
    ISidecar,
    PolicyMetrics,
    SidecarSnapshot,
    lostBy,
)
from sitio.telemetry.stats import Stats
from sitio.upstream.pool import UpstreamPool
from sitio.workers.sockets import SharedPort, whyNoPort
from sitio.workers.supervisor import Workers, numberOf

DEFAULT_PORT = "8080"

#: Clients that may wait to be accepted.  Twisted's own 50 are soon full when many
#: come at a time, and whoever finds no place tries again after a whole second.
BACKLOG = 1024


def _fail(sentence: str) -> NoReturn:
    raise CannotStart(f"sitio: {sentence}")


def _portNumber(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise usage.UsageError(f"{name} is {text!r}; a port, 0 to 65535, is wanted")
    return int(text)


def _optionName(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "-" + match[0].lower(), name)


def _asText(value: Any) -> str:
    """A value as it was told, or as good as that."""
    return ":".join(filter(None, value)) if isinstance(value, tuple) else str(value)


_PORT_HELP = (
    "where clients come: a number, or an endpoint description such as"
    " tcp:8080:interface=127.0.0.1; default $PORT, else 8080"
)
_UPSTREAM_HELP = (
    "the service behind: an endpoint description such as tcp:localhost:8087; default"
    " $TARGET_PORT on localhost, else a photo site that comes with sitio"
)
_WORKERS_HELP = "processes that share the port; auto for one on each core"
_STATS_HELP = "seconds between two lines of metrics; 0 for none"
_ACCESS_HELP = "a line for each request: json, common or off; json:PATH writes to that file"
_DASHBOARD_HELP = (
    "where to post metrics, such as http://dashboard:8080; default $DASHBOARD, $MOTHERSHIP or"
    " $DASHBOARD_URL; empty for nowhere"
)
_QUERY_HELP = "show query strings in the access log; they may hold secrets"
_ADMIN_HELP = (
    "where the admin pages are: a port of this host, an endpoint description, or empty"
    " for none; default tcp:9901:interface=127.0.0.1, or another port where that is taken"
)
_HEALTH_HELP = (
    "a page of the service that says whether it is well, such as /healthz; it is asked"
    " every two seconds, and sitio is ready when it answers 200 to 399"
)
_VIA_HELP = "add Via to requests and responses; it makes some services stop compressing"


def _limit(each: attrs.Attribute) -> list[Any]:
    """The option of one of the L{Settings}."""
    default = str(each.default).removesuffix(".0")
    help = f"{each.metadata['unit']} {each.metadata['help']}"
    return [_optionName(each.name), None, default, help]


#: Those of which none at all makes sense; any other would stop all traffic at 0.
_MAY_BE_NONE = frozenset(
    ("bufferLimit", "grace", "maxBody", "poolQueue", "replayLimit", "upstreamIdleTimeout")
)

_PARAMETERS: list[list[Any]] = [
    ["port", "p", None, _PORT_HELP],
    ["upstream", "u", None, _UPSTREAM_HELP],
    ["workers", "w", "1", _WORKERS_HELP],
    ["stats-interval", None, "2", _STATS_HELP],
    ["access-log", None, "off", _ACCESS_HELP],
    ["admin", None, None, _ADMIN_HELP],
    ["health-path", None, None, _HEALTH_HELP],
    ["dashboard", None, None, _DASHBOARD_HELP],
    *(_limit(each) for each in attrs.fields(Settings)),
]
_FLAGS = [["access-log-query", None, _QUERY_HELP], ["via", None, _VIA_HELP]]


class Options(usage.Options):
    """
    What C{twistd sitio} is told.

    A bad value ends the start with one sentence and status 1.
    """

    synopsis = "[--port PORT] [--upstream ENDPOINT] [--policy DESCRIPTION ...] [options]"
    longdesc = (
        "An HTTP sidecar: takes requests on --port, hands them to --upstream, and lets"
        " each --policy act on requests and responses, in the order in which they are given."
    )

    optParameters: ClassVar = _PARAMETERS
    optFlags: ClassVar = _FLAGS

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        usage.Options.__init__(self)
        self._environ = dict(os.environ) if environ is None else environ
        self["policies"] = []
        self["descriptions"] = []
        self["arguments"] = []
        self["folder"] = os.getcwd()
        self["stdout"] = 1

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        As in C{usage.Options}, but what is wrong is said without the whole usage.

        C{twistd} has installed no reactor yet.  The first policy that is loaded may
        import it, and settle which one it is.
        """
        if self.parent is not None:
            installReactor()
        self["arguments"] = list(sys.argv[1:] if options is None else options)
        try:
            usage.Options.parseOptions(self, options)
        except usage.UsageError as error:
            _fail(f"{error}; twistd sitio --help lists the options")

    def opt_policy(self, description: str) -> None:
        """a policy, such as error-page:404 or file:mine.py; repeatable, order matters"""
        try:
            self["policies"] += loadPolicies(description)
            self["descriptions"].append(description)
        except ValueError as error:
            _fail(f"--policy {error}")

    def opt_help_policies(self) -> None:
        """list the policies that are installed, and exit"""
        print("file:PATH  the policies that a file of Python makes with @onRequest, @onResponse")
        for _, maker in sorted(makers().items()):
            print(maker.usage)
        raise SystemExit(0)

    def opt_version(self) -> None:
        """print the version of sitio, and exit"""
        from sitio import __version__

        print(f"sitio {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *rest: str) -> None:
        """There is nothing but options."""
        if rest:
            raise usage.UsageError(f"{rest[0]!r} is no option")

    def postOptions(self) -> None:
        """Turn texts into values, and take the rest from the environment."""
        environ = self._environ
        port = self["port"] or environ.get("PORT") or DEFAULT_PORT
        if port.isdecimal():
            number = _portNumber("PORT" if self["port"] is None else "--port", port)
            port = f"tcp:{number}:backlog={BACKLOG}"
        self["port"] = port
        admin = self["admin"]
        if admin is not None and admin.isdecimal():
            self["admin"] = f"tcp:{_portNumber('--admin', admin)}:interface=127.0.0.1"
        path = self["health-path"]
        if path is not None and not re.fullmatch(r"/[!\"$-~]*", path):
            raise usage.UsageError(f"--health-path is {path!r}; a path such as /healthz is wanted")
        target = environ.get("TARGET_PORT")
        if self["upstream"] is None and target:
            self["upstream"] = f"tcp:localhost:{_portNumber('TARGET_PORT', target)}"
        try:
            self["workers"] = numberOf(self["workers"])
        except ValueError as error:
            raise usage.UsageError(f"--workers is {error}") from error
        self["stats-interval"] = self._number("stats-interval", float)
        self["access-log"] = self._accessLog(self["access-log"])
        self["dashboard"] = self._dashboard(self["dashboard"])
        self["settings"] = Settings(
            **{
                each.name: self._number(
                    _optionName(each.name), type(each.default), each.name in _MAY_BE_NONE
                )
                for each in attrs.fields(Settings)
            }
        )

    def _dashboard(self, text: str | None) -> Address | None:
        name = "--dashboard"
        if text is None:
            name = next((each for each in VARIABLES if self._environ.get(each)), "")
            text = self._environ.get(name)
        try:
            return addressOf(text) if text else None
        except ValueError as error:
            raise usage.UsageError(f"{name} is {error}") from error

    def _accessLog(self, text: str) -> tuple[str, str | None] | None:
        try:
            asked = described(text)
        except ValueError as error:
            raise usage.UsageError(f"--access-log is {error}") from error
        if asked is None:
            return None
        form, path = asked
        if path is not None:
            return form, os.path.join(self["folder"], path)
        if self.parent is not None and not self.parent.get("nodaemon", True):
            raise usage.UsageError(
                f"--access-log {form} needs twistd -n, as there is no standard output in the"
                f" background; {form}:access.log needs none"
            )
        return form, None

    def told(self) -> dict[str, Any]:
        """What it was told, and the defaults of the rest, as plain data without secrets."""
        from sitio import __version__

        names = [name for name, *_ in (*_PARAMETERS, *_FLAGS) if self[name] is not None]
        return {
            "sitio": __version__,
            "options": {name: endpointWithoutSecrets(_asText(self[name])) for name in names},
            "policies": [policyWithoutSecrets(each) for each in self["descriptions"]],
        }

    def _number(self, name: str, kind: type, none: bool = True) -> Any:
        text = self[name]
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not 0 <= value < float("inf") or not (value or none):
            what = "a whole number" if kind is int else "a number of seconds"
            least = "0 or more" if none else "more than 0"
            raise usage.UsageError(f"--{name} is {text!r}; {what}, {least}, is wanted")
        return value


@implementer(ISidecar)
class SidecarService(MultiService):
    """
    A sidecar as a service: it listens while it runs, and drains when it stops.

    @ivar sidecar: what its exchanges share; C{sidecar.chain} may be replaced.
    @ivar stats: the metrics.
    @ivar recent: single exchanges.
    @ivar port: the L{IListeningPort}, while it listens.
    """

    log = Logger(namespace="sitio")

    def __init__(
        self,
        reactor: IReactorTime,
        listen: IStreamServerEndpoint,
        upstream: IStreamClientEndpoint,
        policies: Iterable[tuple[str, Any] | Any] = (),
        *,
        settings: Settings | None = None,
        statsInterval: float = 2.0,
        host: bytes = b"localhost",
        via: bytes | None = None,
    ) -> None:
        """
        @param reactor: the clock.
        @param listen: where clients come.
        @param upstream: the service behind.
        @param policies: in order, as L{named<sitio.policy.loader.named>} takes them.
        @param settings: limits and timeouts.
        @param statsInterval: seconds between two lines of metrics, 0 for none.
        @param host: Host for requests of HTTP/1.0 that come without.
        @param via: the pseudonym in Via fields; L{None} adds none.
        """
        MultiService.__init__(self)
        settings = settings or Settings()
        self.stats = Stats(reactor, statsInterval)
        self.recent = History(reactor, time, os.getpid())
        self.port: IListeningPort | None = None
        self._listening: Deferred[None] | None = None
        self._clock = reactor
        self._endpoint = listen
        sweep = Deadlines(reactor)
        self.sidecar = Sidecar(
            clock=reactor,
            pool=UpstreamPool(reactor, upstream, settings, sweep),
            chain=Chain(
                [*named(policies), ("stats", self.stats), ("recent", self.recent)],
                clock=reactor,
                timeout=settings.policyTimeout,
            ),
            settings=settings,
            host=host,
            via=via,
        )
        self.factory = ProxyServerFactory(self.sidecar, sweep)
        for policy in self.sidecar.chain.policies:
            if IService.providedBy(policy):
                IService(policy).setServiceParent(self)

    def privilegedStartService(self) -> None:
        """
        Listen, while the process may still use ports below 1024.

        @raise CannotStart: the port can't be listened on.
        """
        MultiService.privilegedStartService(self)
        if self._listening is not None:
            return
        if self.factory.draining:
            _fail("a sidecar that was stopped can't start again; make another")
        failures: list[Failure] = []
        listening: Deferred[Any] = self._endpoint.listen(self.factory)
        self._listening = listening.addCallbacks(self._listens, failures.append)
        if failures:
            _fail(whyNoPort(failures[0].value))
        self._listening.addCallback(lambda _: self._failedLate(failures))

    def _listens(self, port: IListeningPort) -> None:
        self.port = port
        self.log.info("sitio takes requests on {address}", address=_readable(port.getHost()))

    def _failedLate(self, failures: list[Failure]) -> None:
        """An endpoint that takes its time over it has nobody left to raise to."""
        for each in failures:
            if not each.check(CancelledError):
                self.log.critical("sitio takes no requests: {why}", why=whyNoPort(each.value))

    def startService(self) -> None:
        """Start the policies and the metrics; listen, if nobody has before."""
        self.privilegedStartService()
        MultiService.startService(self)

    def stopService(self) -> Deferred[Any]:
        """
        Stop to accept, finish what is in flight, for C{settings.grace} at most.

        Policies and metrics are stopped last, when nothing uses them any more.
        """
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
        port, self.port = self.port, None
        closed = maybeDeferred(port.stopListening) if port is not None else succeed(None)
        drained = self.factory.drain()
        grace = self.sidecar.settings.grace
        late = self._clock.callLater(grace, self._graceIsOver)

        def disconnected(result: object) -> Deferred[Any]:
            if late.active():
                late.cancel()
            return self.sidecar.pool.stop()

        drained.addCallback(disconnected)
        ended: Deferred[Any] = gatherResults([closed, drained])
        ended.addBoth(lambda _: MultiService.stopService(self))
        return ended

    def _graceIsOver(self) -> None:
        self.log.warn(
            "{connections} connections did not end within the grace, and are broken off",
            connections=self.factory.connections,
        )
        self.abort()

    def abort(self) -> None:
        """Break off what is in flight."""
        self.factory.abort()

    @property
    def state(self) -> str:
        """See L{ISidecar}."""
        if self.factory.draining:
            return DRAINING
        return STARTING if self.port is None else SERVING

    def drain(self) -> None:
        """See L{ISidecar}."""
        if not self.factory.draining:
            self.log.info("sitio is told to drain, and to let its clients go elsewhere")
            self.factory.drain()

    def exchanges(self) -> Deferred[Exchanges]:
        """See L{ISnapshots<sitio.telemetry.snapshot.ISnapshots>}."""
        return succeed(self.recent.exchanges(self.factory.exchanges))

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        """See L{ISnapshots<sitio.telemetry.snapshot.ISnapshots>}."""
        metrics = self.stats.snapshot()
        clients = self.factory.connections
        chain = self.sidecar.chain
        told: SidecarSnapshot = {
            "metrics": metrics,
            "policies": [
                cast(PolicyMetrics, each)
                for policy, each in zip(chain.policies, chain.snapshot())
                if policy not in (self.stats, self.recent)
            ],
            "pool": self.sidecar.pool.snapshot(),
            "poolCounts": self.sidecar.pool.counts(),
            "clients": clients,
            "inFlight": len(self.factory.exchanges),
            "brokenOff": self.sidecar.brokenOff,
            "tooLong": self.sidecar.tooLong,
            "lost": lostBy(self),
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
        return succeed(told)


def _readable(address: Any) -> str:
    name = getattr(address, "name", None)
    if name is not None:
        return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    host = getattr(address, "host", "")
    return f"{f'[{host}]' if ':' in host else host}:{getattr(address, 'port', '?')}"


def _hostOf(description: str) -> bytes:
    """Host for requests that have none: what the endpoint description says."""
    match = re.match(r"(?:tcp|tls|ssl):(?:host=)?([^:=\\]+):(?:port=)?([0-9]+)", description)
    if match is None:
        return b"localhost"
    if int(match[2]) > 65535:
        raise ValueError("a port is a number from 0 to 65535")
    return f"{match[1]}:{match[2]}".encode()


def makeService(options: Options) -> SidecarService | Workers:
    """
    The service that C{twistd sitio} runs.

    @raise CannotStart: a description is no endpoint's.
    """
    from twisted.internet import reactor

    sidecar: SidecarService | Workers = assemble(reactor, options)
    reactor.callWhenRunning(spareCollector)
    if options["workers"] > 1:
        # That one has only shown that it can be made.
        sidecar = supervise(reactor, options)
    if options["admin"] != "":
        administer(reactor, options, sidecar)
    if options["dashboard"] is not None:
        # As above: workers have none.
        from sitio.fleet.reporter import dashboard

        dashboard(reactor, sidecar, options["dashboard"]).setServiceParent(sidecar)
    return sidecar


def administer(reactor: Any, options: Options, sidecar: SidecarService | Workers) -> None:
    """Give a sidecar its admin port, as these options want it."""
    from sitio.admin.health import Asking, Connecting, asking
    from sitio.admin.port import DEFAULT, SPARE, AdminPort

    endpoint: IStreamClientEndpoint
    if options["upstream"] is None:
        endpoint, host = cast(Any, sidecar.getServiceNamed("demo")), b"localhost"
    else:
        endpoint, host = upstreamOf(reactor, options["upstream"])
    path = options["health-path"]
    health: Asking | Connecting = Connecting(reactor, endpoint)
    if path is not None:
        health = asking(reactor, endpoint, host.decode(), path)
        health.setServiceParent(sidecar)

    def pages() -> Any:
        # Not before somebody looks: a web server is a tenth of sitio's start and memory.
        from sitio.admin.pages import Admin

        inThread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
        return Admin(reactor, sidecar, health, options.told(), reactor.stop, inThread).site()

    description = options["admin"] or DEFAULT
    try:
        listen = serverFromString(reactor, description)
    except Exception as error:
        shown = endpointWithoutSecrets(description)
        could = "9901 or tcp:9901 could, and --admin= is for none"
        _fail(f"--admin {shown!r} can't be used ({error}); {could}")
    spare = serverFromString(reactor, SPARE) if options["admin"] is None else None
    AdminPort(pages, listen, spare).setServiceParent(sidecar)


def upstreamOf(reactor: Any, description: str) -> tuple[IStreamClientEndpoint, bytes]:
    """The service that a description leads to, and what it is told as Host."""
    try:
        return clientFromString(reactor, description), _hostOf(description)
    except Exception as error:
        shown = endpointWithoutSecrets(description)
        _fail(f"--upstream {shown!r} can't be used ({error}); tcp:localhost:8087 could")


def supervise(reactor: Any, options: Options) -> Workers:
    """Several processes, each with a sidecar that L{assemble} makes of these options."""
    demo = None
    if options["upstream"] is None:
        from sitio.demo import HOST, demoService

        demo = demoService(reactor)

    def duty() -> dict[str, Any]:
        address: Any = demo.port.getHost() if demo is not None and demo.port is not None else None
        return {
            "arguments": options["arguments"],
            "folder": options["folder"],
            "upstream": address and f"tcp:{HOST}:{address.port}",
        }

    logged = options["access-log"]
    workers = Workers(
        reactor,
        options["workers"],
        SharedPort(reactor, options["port"], options["workers"]),
        duty,
        grace=options["settings"].grace,
        statsInterval=options["stats-interval"],
        stdout=options["stdout"] if logged and logged[1] is None else None,
    )
    if logged:
        Reopening(reactor, workers.reopen).setServiceParent(workers)
    if demo is not None:
        demo.setServiceParent(workers)
    return workers


def assemble(reactor: Any, options: Options, ports: Any = None) -> SidecarService:
    """
    One sidecar, as these options want it.

    @param ports: the reactor on which to listen, where it is another.
    """
    try:
        listen = serverFromString(ports or reactor, options["port"])
    except Exception as error:
        shown = endpointWithoutSecrets(options["port"])
        _fail(f"--port {shown!r} can't be used ({error}); 8080 or tcp:8080 could")
    policies = list(options["policies"])
    if options["access-log"] is not None:
        query = bool(options["access-log-query"])
        log = accessLog(reactor, options["access-log"], query, options["stdout"])
        policies.append(("access-log", log))
    description = options["upstream"]
    demo = None
    upstream: IStreamClientEndpoint
    if description is None:
        from sitio.demo import demoService

        upstream, host = (demo := demoService(reactor)), b"localhost"
    else:
        upstream, host = upstreamOf(reactor, description)
    sidecar = SidecarService(
        reactor,
        listen,
        upstream,
        policies,
        settings=options["settings"],
        statsInterval=options["stats-interval"],
        host=host,
        via=b"sitio" if options["via"] else None,
    )
    if demo is not None:
        # As a part of it, the site is there until the last exchange has ended.
        demo.setServiceParent(sidecar)
    return sidecar
