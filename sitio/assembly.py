"""
Makes the services that C{twistd sitio} runs from its options.

C{twistd} uses two names of this module: L{Options} and L{makeService}.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.logger import Logger

from sitio.config import options as config
from sitio.config.places import ConfigErrors
from sitio.errors import CannotStart
from sitio.net.background import toldInTerminal
from sitio.net.collector import Collector
from sitio.net.memory import trimming
from sitio.net.process import installReactor, openStandardStreams, prepareReactor
from sitio.net.signals import Signals, prepareSignals
from sitio.policy.loader import namedPolicies
from sitio.redact import endpointWithoutSecrets
from sitio.service import SidecarService
from sitio.telemetry.accesslog import makeAccessLog
from sitio.telemetry.eventlog import withLog
from sitio.telemetry.startline import StartLine
from sitio.wiring.adminports import adminEndpoint, administer, fleetAddress
from sitio.wiring.endpoints import (
    Connects,
    clientEndpoint,
    hostOf,
    listening,
    peersOf,
    refusal,
    refuse,
)
from sitio.wiring.fitting import fitDescriptors
from sitio.wiring.plan import Plan, templatesOf
from sitio.wiring.reloading import Reloads, watchable
from sitio.wiring.tlsplan import TLSPlan

if TYPE_CHECKING:
    from sitio.net.watching import Watcher
    from sitio.wiring.replacement import Replaceable
    from sitio.workers.supervisor import Supervisor


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

_log = Logger(namespace="sitio")


def _refuse(sentence: str) -> NoReturn:
    raise CannotStart(f"sitio: {sentence}")


def makeService(options: config.Options) -> Any:
    """
    The service that C{twistd sitio} runs: a sidecar, or the parent of several worker processes,
    with its admin port, its log and its reports to the fleet's dashboard.

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
    reloads = makeReloads(reactor, options, sidecar)
    reopen = getattr(sidecar, "reopen", None)
    Signals(reactor, reopen, reloads.request).setServiceParent(sidecar)
    startLine(options).setServiceParent(sidecar)
    if options["admin"] != "" or options["probes"]:
        administer(reactor, options, sidecar, reloads.reload)
    if fleet is not None:
        # Imported here so that workers, which don't report, don't load it.
        from sitio.fleet.reporter import makeReporter

        makeReporter(reactor, sidecar, fleet).setServiceParent(sidecar)
    service: Any = toldInTerminal(sidecar) if options.inBackground else sidecar
    return withLog(service, options.parent, options["log-format"], options["log-level"])


def makeReloads(
    reactor: Any, options: config.Options, sidecar: SidecarService | Supervisor
) -> Reloads:
    """What reads the configuration anew, as a service of a sidecar."""
    assert sidecar.replaceable is not None
    reloads = Reloads(reactor, sidecar.configState, sidecar.replaceable, sidecar.watcher)
    reloads.setServiceParent(sidecar)
    return reloads


def assemble(
    reactor: Any,
    options: config.Options,
    ports: Sequence[Any] | None = None,
    demo: str | None = None,
    generation: int = 1,
) -> SidecarService:
    """
    Make one sidecar.

    @param ports: what to listen with, for each listener, if it is not C{reactor}: a
        worker's reactors have sockets that the parent has opened.
    @param demo: the endpoint description of a photo site that runs already.
    @param generation: the number of what is configured.

    @raise CannotStart: an endpoint description is wrong, or there is no upstream.
    """
    configured = options.config
    site = None
    if configured.demo and demo is None:
        from sitio.demo import demoService

        site = demoService(reactor)
    elif not configured.upstreams:
        _refuse(
            "there is no upstream: name the service with --upstream, such as"
            " tcp:localhost:8087, or with TARGET_PORT, or use --demo"
        )
    watcher = makeWatcher(reactor, options)
    connected = site if demo is None else clientEndpoint(reactor, demo)
    tls = TLSPlan(reactor, watcher)
    connects = Connects(reactor, tls, connected)
    listeners = listening(reactor, configured, tls, ports)
    refuse(connects.mistakes(configured))
    plan = Plan(configured, reactor, connects, options.loaded.policies, generation)
    try:
        sidecar = SidecarService(
            reactor,
            listeners,
            plan.make,
            observers=_accessLog(reactor, options),
            statsInterval=options["stats-interval"],
            host=hostOf(configured),
            keepsFolded=configured.forwarded.keepUnderscores,
            routes=templatesOf(configured),
        )
    except ConfigErrors as error:
        raise refusal(error.mistakes) from error
    sidecar.replaceable = partial(
        _replacement, reactor, options, sidecar, connects, hasPorts=ports is None
    )
    sidecar.context.useMark(options["mark"])
    sidecar.peers = peersOf(configured)
    sidecar.tls, sidecar.watcher, sidecar.connects = tls, watcher, connects
    # As a child of the sidecar, the site stops after the last exchange has ended.
    for each in (watcher, trimming(reactor), site):
        if each is not None:
            each.setServiceParent(sidecar)
    return sidecar


def makeWatcher(reactor: Any, options: config.Options) -> Watcher | None:
    """What says when files have changed, if there are any, and if they are to be watched."""
    if not options.config.watch or not watchable(options):
        return None
    # Imported only if there are files.
    from sitio.net.watching import Watcher

    return Watcher(reactor)


def _replacement(*arguments: Any, **options: Any) -> Replaceable:
    # Imported at the first reload, or if files are watched.
    from sitio.wiring.replacement import Replacement

    return Replacement(*arguments, **options)


def _accessLog(reactor: Any, options: config.Options) -> list[Any]:
    """The access log, if there is one."""
    if options["access-log"] is None:
        return []
    query = bool(options["access-log-query"])
    return [makeAccessLog(reactor, options["access-log"], query, options["stdout"])]


def supervise(reactor: Any, options: config.Options) -> Supervisor:
    """Make the parent of several processes, each of which runs L{assemble}'s sidecar."""
    # Imported here so that a sidecar in one process, and a worker's, don't load it.
    from sitio.workers.sockets import SharedPorts
    from sitio.workers.supervisor import Supervisor

    demo = None
    if options.config.demo:
        from sitio.demo import HOST, demoService

        demo = demoService(reactor)

    def assignment() -> dict[str, Any]:
        address: Any = demo.port.getHost() if demo is not None and demo.port is not None else None
        return {
            "arguments": options["arguments"],
            "folder": options["folder"],
            "mark": options["mark"],
            "count": options["workers"],
            "text": options.loaded.text,
            "generation": supervisor.configState.generation,
            "demo": address and f"tcp:{HOST}:{address.port}",
        }

    listeners = options.config.listeners
    target = options["access-log"]
    supervisor = Supervisor(
        reactor,
        options["workers"],
        SharedPorts(reactor, [each.address for each in listeners], options["workers"]),
        assignment,
        grace=options["settings"].grace,
        workerTimeout=options["worker-timeout"],
        statsInterval=options["stats-interval"],
        stdout=options["stdout"] if target and target[1] is None else None,
    )

    def replaceable() -> Any:
        from sitio.wiring.replacement import SeveralProcesses
        from sitio.workers.replacing import WorkersReplacement

        workers = WorkersReplacement(reactor, supervisor)
        return SeveralProcesses(options, supervisor.connects, workers)

    supervisor.replaceable, supervisor.watcher = replaceable, makeWatcher(reactor, options)
    supervisor.connects = Connects(reactor, TLSPlan(reactor, supervisor.watcher), demo)
    for each in (demo, supervisor.watcher):
        if each is not None:
            each.setServiceParent(supervisor)
    return supervisor


def _upstreamNames(options: config.Options) -> str:
    """The upstreams as log lines name them, without secrets."""
    configured = options.config
    if configured.demo:
        return "photo site"
    names = [
        endpointWithoutSecrets(each.endpoints[0].address) if len(each.endpoints) == 1 else each.name
        for each in configured.upstreams
    ]
    return ", ".join(names)


def startLine(options: config.Options) -> StartLine:
    """The log line at the start."""
    from sitio import __version__

    return StartLine(
        __version__,
        ", ".join(endpointWithoutSecrets(each.address) for each in options.config.listeners),
        endpointWithoutSecrets(adminEndpoint(options)),
        endpointWithoutSecrets(options["probes"] or ""),
        _upstreamNames(options),
        [name for name, _ in namedPolicies(options["policies"])],
    )
