"""
The ports for operators: the admin pages, and those for probes; and what they tell of the
configuration.

Contract: the reactor is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from sitio.config.model import Config
from sitio.config.options import Options
from sitio.config.upstreams import UpstreamConfig
from sitio.errors import CannotStart
from sitio.net.portreactor import portFromString
from sitio.net.proxyheader import LOCAL, PrefacedEndpoint
from sitio.redact import endpointWithoutSecrets, textWithoutSecrets
from sitio.wiring.endpoints import hostOf, noLoops, withoutSecrets

if TYPE_CHECKING:
    from sitio.admin.health import ConnectionCheck, HttpCheck
    from sitio.fleet.address import Address

#: Options that are endpoint descriptions.
ENDPOINTS = frozenset(("admin", "port", "probes", "upstream"))


def _refuse(sentence: str) -> NoReturn:
    raise CannotStart(f"sitio: {sentence}")


def administer(
    reactor: Any,
    options: Options,
    sidecar: Any,
    reload: Callable[[str], Any] | None = None,
) -> None:
    """
    Add the admin port to a sidecar, and the port for probes.

    @param reload: reads the configuration anew, see
        L{Reloads.reload<sitio.wiring.reloading.Reloads.reload>}.

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

        return Admin(
            reactor,
            sidecar,
            health,
            lambda: shownConfig(options, sidecar),
            reactor.stop,
            hosts,
            # Another file may bring routes.
            isRouted=bool(options["routes"].templates or options["config"]),
            reload=reload,
        )

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


def adminEndpoint(options: Options) -> str:
    """The endpoint description of the admin port; empty for none."""
    if options["admin"] is not None:
        return str(options["admin"])
    from sitio.admin.port import DEFAULT_ENDPOINT

    return DEFAULT_ENDPOINT


def _listens(
    reactor: Any, options: Options, option: str, description: str, example: str
) -> IStreamServerEndpoint:
    """
    The endpoint of an admin port, which must not be the upstream.

    @raise CannotStart: its description is wrong.
    """
    try:
        endpoint = portFromString(reactor, description)
    except Exception as error:
        shown, why = withoutSecrets(description, error)
        _refuse(f"{option} {shown!r} can't be used ({why}); {example}")
    consequence = "so clients would see its admin pages"
    return noLoops(endpoint, options.config, option=option, consequence=consequence)


def _healthCheck(reactor: Any, options: Options, sidecar: Any) -> ConnectionCheck | HttpCheck:
    """The check of the upstreams that C{/ready} uses."""
    from sitio.admin.health import AnyEndpoint, ConnectionCheck, makeHttpCheck

    connects = sidecar.connects

    def endpoints() -> list[IStreamClientEndpoint]:
        # Asked each time, as a reload may change them.
        config = options.config
        if config.demo:
            return [sidecar.getServiceNamed("demo")]
        return [
            PrefacedEndpoint(connect(address), LOCAL) if header else connect(address)
            for connect, header, address in (
                (connects(upstream), upstream.proxyProtocol is not None, address)
                for upstream, address in connectable(config)
            )
        ]

    upstream = AnyEndpoint(endpoints)
    path = options["health-path"]
    if path is None:
        return ConnectionCheck(reactor, upstream)
    health = makeHttpCheck(reactor, upstream, hostOf(options.config).decode(), path)
    health.setServiceParent(sidecar)
    return health


def connectable(config: Config) -> list[tuple[UpstreamConfig, str]]:
    """Upstreams with addresses that are listed, or whose names are."""
    found: list[tuple[UpstreamConfig, str]] = []
    for upstream in config.upstreams:
        found += [(upstream, each.address) for each in upstream.endpoints]
        if upstream.dns is not None:
            host, port = upstream.dns
            found.append((upstream, "tcp:{}:{}".format(host.replace(":", "\\:"), port)))
    return found


def fleetAddress(options: Options) -> Address | None:
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
        _refuse(f"{options['fleet-source']} is {error}; {options.program} --help lists the options")


def _shownPolicies(descriptions: list[str]) -> list[str]:
    if not descriptions:
        return []
    # Loaded already, if there are policies.
    from sitio.policy.sources import shownPolicy

    return [shownPolicy(each) for each in descriptions]


def shownOptions(options: Options) -> dict[str, Any]:
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
        "listeners": [
            {"address": endpointWithoutSecrets(each.address), "tls": each.tls is not None}
            for each in options.config.listeners
        ],
        "routes": list(options["routes"].templates),
        "policies": _shownPolicies(options["descriptions"]),
    }


def shownConfig(options: Options, sidecar: Any) -> dict[str, Any]:
    """The same, with what came of the last reload."""
    return {**shownOptions(options), **sidecar.configState.shown()}
