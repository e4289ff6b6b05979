"""
Makes the services that C{twistd sitio} runs from its options.

C{twistd} uses two names of this module: L{Options} and L{makeService}.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

from attrs import evolve
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import Logger

from sitio.config import options as config
from sitio.config.places import ConfigErrors
from sitio.errors import CannotStart
from sitio.net.background import InBackground, toldInTerminal
from sitio.net.collector import Collector
from sitio.net.descriptions import checkClient, explain, target
from sitio.net.descriptors import MIN_DESCRIPTORS, raiseLimit, share
from sitio.net.endpoints import serverEndpoint
from sitio.net.loops import NoLoopEndpoint
from sitio.net.memory import trimming
from sitio.net.portreactor import portFromString
from sitio.net.process import (
    installReactor,
    loadCodecs,
    openStandardStreams,
    prepareReactor,
)
from sitio.net.proxyheader import LOCAL, PrefacedEndpoint
from sitio.net.signals import Signals, prepareSignals
from sitio.net.watching import Watcher
from sitio.plan import Plan
from sitio.policy.loader import namedPolicies
from sitio.redact import (
    endpointMessageWithoutSecrets,
    endpointWithoutSecrets,
    textWithoutSecrets,
)
from sitio.service import SidecarService
from sitio.telemetry.accesslog import makeAccessLog
from sitio.telemetry.startline import StartLine
from sitio.tlsplan import Connecting, TLSPlan, peersOf
from sitio.upstream.hosts import UPSTREAM, hostFor

if TYPE_CHECKING:
    from sitio.admin.health import ConnectionCheck, HttpCheck
    from sitio.fleet.address import Address
    from sitio.workers.supervisor import Supervisor

#: Options that are endpoint descriptions.
ENDPOINTS = frozenset(("admin", "port", "probes", "upstream"))


def _prepareProcess() -> None:
    """
    Called before the options are parsed.

    C{twistd} has installed no reactor by then, and a policy may import
    C{twisted.internet.reactor}, which would install Twisted's default.
    """
    prepareSignals()
    openStandardStreams()
    installReactor()


Options = partial(config.Options, beforeParsing=_prepareProcess)


#: The descriptors that C{select} can watch.
SELECT_DESCRIPTORS = 1024

_log = Logger(namespace="sitio")


def _refuse(sentence: str) -> NoReturn:
    raise CannotStart(f"sitio: {sentence}")


def makeService(options: config.Options) -> SidecarService | Supervisor | InBackground:
    """
    The service that C{twistd sitio} runs: a sidecar, or the parent of several
    worker processes, with its admin port and its reports to the fleet's dashboard.

    @raise CannotStart: an endpoint description or the URL of C{--fleet} is wrong.
    """
    from twisted.internet import reactor

    prepareReactor(reactor)
    fleet = fleetAddress(options)
    fitDescriptors(reactor, options, log=_log)
    sidecar: SidecarService | Supervisor = assemble(reactor, options)
    if options["workers"] > 1:
        # The sidecar above is dropped: it has shown that the options are valid.
        sidecar = supervise(reactor, options)
    reactor.callWhenRunning(Collector(reactor, sidecar.isBusy).start)
    Signals(reactor, getattr(sidecar, "reopen", None)).setServiceParent(sidecar)
    startLine(options).setServiceParent(sidecar)
    if options["admin"] != "" or options["probes"]:
        administer(reactor, options, sidecar)
    if fleet is not None:
        # Imported here so that workers, which don't report, don't load it.
        from sitio.fleet.reporter import makeReporter

        makeReporter(reactor, sidecar, fleet).setServiceParent(sidecar)
    return toldInTerminal(sidecar) if options.inBackground else sidecar


def fitDescriptors(reactor: Any, options: config.Options, log: Logger | None = None) -> None:
    """
    Raise this process's limit of file descriptors, bring the numbers of connections in the
    options into it, and load early what can't be loaded at the limit.

    @param log: where one line goes if that makes them smaller.
    @raise CannotStart: the limit is below C{MIN_DESCRIPTORS}.
    """
    limit = raiseLimit()
    if limit is not None and limit < MIN_DESCRIPTORS:
        _refuse(
            f"this process may have {limit} file descriptors open, and needs {MIN_DESCRIPTORS} at"
            " least; raise the limit (ulimit -n)"
        )
    loadCodecs()
    if isinstance(reactor, SelectReactor):
        limit = min(limit or SELECT_DESCRIPTORS, SELECT_DESCRIPTORS)
    settings = options["settings"]
    clients, connections = share(limit, settings.maxClients, settings.poolSize)
    if (clients, connections) == (settings.maxClients, settings.poolSize):
        return
    options["settings"] = evolve(settings, maxClients=clients, poolSize=connections)
    for name, fitting in (("max-clients", clients), ("pool-size", connections)):
        if options[name] != str(fitting):
            options[name] = str(fitting)
            options.lowered.add(name)
    if log is not None:
        log.warn(
            "A process may have {limit} file descriptors open (ulimit -n): so --max-clients is"
            " {clients} and --pool-size {connections}",
            limit=limit,
            clients=clients,
            connections=connections,
        )


def _portOf(ports: Any, options: config.Options, *, isWorker: bool) -> Any:
    """The endpoint of C{--port}."""
    try:
        # A worker's port is open already.
        return (serverEndpoint if isWorker else portFromString)(ports, options["port"])
    except Exception as error:
        shown, why = _withoutSecrets(options["port"], error)
        _refuse(f"--port {shown!r} can't be used ({why}); use for example 8080 or tcp:8080")


def assemble(reactor: Any, options: config.Options, ports: Any = None) -> SidecarService:
    """
    Make one sidecar.

    @param ports: the reactor to listen with, if it is not C{reactor}: a worker's
        has sockets that the parent has opened.
    @raise CannotStart: an endpoint description is wrong, or there is no upstream.
    """
    tls = TLSPlan(reactor, Watcher(reactor))
    listen = tls.ofPort(options, _portOf(ports or reactor, options, isWorker=ports is not None))
    observers = []
    if options["access-log"] is not None:
        query = bool(options["access-log-query"])
        log = makeAccessLog(reactor, options["access-log"], query, options["stdout"])
        observers.append(log)
    description = options["upstream"]
    demo = None
    if description is None:
        if not options["demo"]:
            _refuse(
                "there is no upstream: name the service with --upstream, such as"
                " tcp:localhost:8087, or with TARGET_PORT, or use --demo"
            )
        from sitio.demo import demoService

        demo, host = demoService(reactor), b"localhost"
    else:
        _, host = upstreamOf(reactor, description)
        where = target(description)
        if where is not None:
            listen = NoLoopEndpoint(listen, where)
    connects = Connecting(reactor, tls, demo)
    plan = Plan(options.config, reactor, connects, options["policies"])
    try:
        sidecar = SidecarService(
            reactor,
            listen,
            plan.make,
            observers=observers,
            statsInterval=options["stats-interval"],
            host=host,
            keepsFolded=bool(options["keep-underscores"]),
            routes=options["routes"],
        )
    except ConfigErrors as error:
        _refuse(str(error))
    sidecar.context.useMark(options["mark"])
    sidecar.peers = peersOf(options)
    tls.serve(sidecar)
    returning = trimming(reactor)
    if returning is not None:
        returning.setServiceParent(sidecar)
    if demo is not None:
        # As a child of the sidecar, the site stops after the last exchange has ended.
        demo.setServiceParent(sidecar)
    return sidecar


def supervise(reactor: Any, options: config.Options) -> Supervisor:
    """Make the parent of several processes, each of which runs L{assemble}'s sidecar."""
    # Imported here so that a sidecar in one process, and a worker's, don't load it.
    from sitio.workers.sockets import SharedPort
    from sitio.workers.supervisor import Supervisor

    demo = None
    if options["upstream"] is None:
        from sitio.demo import HOST, demoService

        demo = demoService(reactor)

    def assignment() -> dict[str, Any]:
        address: Any = demo.port.getHost() if demo is not None and demo.port is not None else None
        return {
            "arguments": options["arguments"],
            "folder": options["folder"],
            "mark": options["mark"],
            "upstream": address and f"tcp:{HOST}:{address.port}",
        }

    target = options["access-log"]
    supervisor = Supervisor(
        reactor,
        options["workers"],
        SharedPort(reactor, options["port"], options["workers"]),
        assignment,
        grace=options["settings"].grace,
        workerTimeout=options["worker-timeout"],
        statsInterval=options["stats-interval"],
        stdout=options["stdout"] if target and target[1] is None else None,
    )
    if demo is not None:
        demo.setServiceParent(supervisor)
    return supervisor


def administer(reactor: Any, options: config.Options, sidecar: SidecarService | Supervisor) -> None:
    """
    Add the admin port to a sidecar, and the port for probes.

    @raise CannotStart: the endpoint description of C{--admin} or C{--probes} is wrong.
    """
    from sitio.admin.port import FALLBACK_ENDPOINT, AdminPort

    health = _healthCheck(reactor, options, sidecar)
    hosts = frozenset(filter(None, (options["admin-hosts"] or "").split(",")))

    @cache
    def pages() -> Any:
        # Imported at the first request: a web server takes a tenth of sitio's start-up
        # time and memory.
        from sitio.admin.pages import Admin
        from sitio.telemetry import metrics  # noqa: F401  (a page imports it when it is asked)

        shown = shownOptions(options)
        isRouted = bool(options["routes"].templates)
        return Admin(reactor, sidecar, health, shown, reactor.stop, hosts, isRouted)

    def probes() -> Any:
        from sitio.admin.probes import probeSite

        return probeSite(reactor, pages(), hosts)

    if options["probes"]:
        example = "use for example 9902 or tcp:9902"
        listen = _listens(reactor, options, "--probes", options["probes"], example)
        port = AdminPort(probes, listen, option="--probes", what="pages for probes", clock=reactor)
        port.setServiceParent(sidecar)
    if options["admin"] != "":
        example = "use for example 9901 or tcp:9901, or --admin= for none"
        listen = _listens(reactor, options, "--admin", adminEndpoint(options), example)
        fallback = portFromString(reactor, FALLBACK_ENDPOINT) if options["admin"] is None else None
        AdminPort(lambda: pages().site(), listen, fallback, clock=reactor).setServiceParent(sidecar)


def adminEndpoint(options: config.Options) -> str:
    """The endpoint description of the admin port; empty for none."""
    if options["admin"] is not None:
        return str(options["admin"])
    from sitio.admin.port import DEFAULT_ENDPOINT

    return DEFAULT_ENDPOINT


def _listens(
    reactor: Any, options: config.Options, option: str, description: str, example: str
) -> IStreamServerEndpoint:
    """
    The endpoint of an admin port, which must not be the upstream.

    @raise CannotStart: its description is wrong.
    """
    try:
        endpoint = portFromString(reactor, description)
    except Exception as error:
        shown, why = _withoutSecrets(description, error)
        _refuse(f"{option} {shown!r} can't be used ({why}); {example}")
    where = target(options["upstream"]) if options["upstream"] else None
    if where is None:
        return endpoint
    consequence = "so clients would see its admin pages"
    return NoLoopEndpoint(endpoint, where, option=option, consequence=consequence)


def _healthCheck(
    reactor: Any, options: config.Options, sidecar: SidecarService | Supervisor
) -> HttpCheck | ConnectionCheck:
    """The check of the upstream that C{/ready} uses."""
    from sitio.admin.health import ConnectionCheck, makeHttpCheck

    endpoint: IStreamClientEndpoint
    if options["upstream"] is None:
        endpoint, host = cast(Any, sidecar.getServiceNamed("demo")), b"localhost"
    else:
        endpoint, host = upstreamOf(reactor, options["upstream"])
        tls = getattr(sidecar, "tls", None) or TLSPlan(reactor, Watcher(reactor))
        endpoint = tls.ofUpstream(options, endpoint)
        tls.serve(sidecar)
        if options["proxy-protocol"] is not None:
            endpoint = PrefacedEndpoint(endpoint, LOCAL)
    path = options["health-path"]
    if path is None:
        return ConnectionCheck(reactor, endpoint)
    health = makeHttpCheck(reactor, endpoint, host.decode(), path)
    health.setServiceParent(sidecar)
    return health


def upstreamName(options: config.Options) -> str:
    """The upstream as log lines name it, without secrets."""
    description = options["upstream"]
    return "photo site" if description is None else endpointWithoutSecrets(description)


def startLine(options: config.Options) -> StartLine:
    """The log line at the start."""
    from sitio import __version__

    return StartLine(
        __version__,
        endpointWithoutSecrets(options["port"]),
        endpointWithoutSecrets(adminEndpoint(options)),
        endpointWithoutSecrets(options["probes"] or ""),
        upstreamName(options),
        [name for name, _ in namedPolicies(options["policies"])],
    )


def upstreamOf(reactor: Any, description: str) -> tuple[IStreamClientEndpoint, bytes]:
    """
    The endpoint of an upstream, and the Host for requests that have none.

    @raise CannotStart: the endpoint description is wrong.
    """
    try:
        checkClient(description)
        host = hostFor(UPSTREAM, description) or "localhost"
        return clientFromString(reactor, description), host.encode()
    except Exception as error:
        shown, why = _withoutSecrets(description, error, isClient=True)
        _refuse(f"--upstream {shown!r} can't be used ({why}); use for example tcp:localhost:8087")


def _withoutSecrets(description: str, error: Exception, isClient: bool = False) -> tuple[str, str]:
    """An endpoint description, and what is wrong with it."""
    why = endpointMessageWithoutSecrets(explain(error, description, isClient), description)
    return endpointWithoutSecrets(description), why


def fleetAddress(options: config.Options) -> Address | None:
    """
    The address of the fleet's dashboard, if there is one.

    @raise CannotStart: the URL is wrong; the sentence does not repeat it, as it may
        contain a password.
    """
    if options["fleet"] is None:
        return None
    from sitio.fleet.address import parseAddress

    try:
        return parseAddress(options["fleet"])
    except ValueError as error:
        _refuse(f"{options['fleet-source']} is {error}; twistd sitio --help lists the options")


def _shownPolicies(descriptions: list[str]) -> list[str]:
    if not descriptions:
        return []
    # Loaded already, if there are policies.
    from sitio.policy.sources import shownPolicy

    return [shownPolicy(each) for each in descriptions]


def shownOptions(options: config.Options) -> dict[str, Any]:
    """The version, the options and the policies as plain data, without secrets."""
    from sitio import __version__

    texts = options.texts()
    fleet = fleetAddress(options)
    if fleet is not None:
        texts["fleet"] = fleet.shown
    return {
        "sitio": __version__,
        "options": {
            name: endpointWithoutSecrets(text) if name in ENDPOINTS else textWithoutSecrets(text)
            for name, text in texts.items()
        },
        "sources": options.sources(),
        "routes": list(options["routes"].templates),
        "policies": _shownPolicies(options["descriptions"]),
    }
