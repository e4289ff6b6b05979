"""
What is wrong between keys, each of which is right: L{partMistakes}, L{wholeMistakes}.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import evolve

from sitio.config.listeners import ListenerConfig
from sitio.config.model import Config, RouteConfig
from sitio.config.upstreams import UpstreamConfig
from sitio.config.values import isSamePort
from sitio.http.requestmatch import MAX_MATCHES, PathRewrite, RequestMatch, hiddenBy
from sitio.http.routes import MAX_ROUTES, Routes
from sitio.policy.kinds import nearest

#: A mistake: its place, and a sentence.
Found = tuple[str, str]

#: Listeners of one sitio.
MAX_LISTENERS = 16

#: Upstreams of one sitio, and endpoints that one of them lists.
MAX_UPSTREAMS = 100
MAX_ENDPOINTS = 256

#: The port of the admin pages without one in the configuration.
DEFAULT_ADMIN = "tcp:9901:interface=127.0.0.1"


def partMistakes(config: Config) -> Iterator[Found]:
    """
    Mistakes within single tables of a file, before the command line has changed anything.
    """
    if config.demo and config.upstreams:
        yield "demo", "it is a service of its own: leave out [upstream], or this"
    for listener in config.listeners:
        yield from _inListener(listener)
    for upstream in config.upstreams:
        yield from _inUpstream(upstream)
    for route in config.routes:
        yield from _inRoute(route)


def _inListener(listener: ListenerConfig) -> Iterator[Found]:
    tls = listener.tls
    if tls is None:
        return
    if tls.clientCertificate is not None and tls.clientCa is None:
        yield (
            f"{tls.place}.client-certificate",
            "there is no client-ca: name the PEM file with the authorities of clients",
        )
    if listener.address.removeprefix("haproxy:").startswith(("ssl:", "tls:", "unix:", "systemd:")):
        yield (
            f"{listener.place}.tls",
            "the address is an endpoint description that has TLS of its own or is no TCP port:"
            " write a port such as 8443",
        )


def _inUpstream(upstream: UpstreamConfig) -> Iterator[Found]:
    place = upstream.place
    ways = {
        "address": upstream.address is not None,
        "endpoints": bool(upstream.endpoints),
        "dns": upstream.dns is not None,
        "srv": upstream.srv is not None,
    }
    given = [name for name, isGiven in ways.items() if isGiven]
    if not given:
        yield place, 'it has no address: write for example address = "localhost:8087"'
    elif len(given) > 1:
        yield f"{place}.{given[1]}", f"there is {given[0]}, too: write one of {', '.join(ways)}"
    if len(upstream.endpoints) > MAX_ENDPOINTS:
        yield (
            f"{place}.endpoints",
            f"{len(upstream.endpoints)} endpoints are too many; write at most {MAX_ENDPOINTS}, or"
            " a name of DNS",
        )
    yield from _inEndpoints(upstream)
    if (upstream.balance == "hash") != (upstream.hashOn is not None):
        if upstream.hashOn is None:
            yield f"{place}.balance", 'hash needs hash-on: write for example hash-on = "path"'
        else:
            yield f"{place}.hash-on", 'it needs the balance that uses it: write balance = "hash"'
    if upstream.proxyProtocol is not None and (upstream.isSecure or _isSecure(upstream.address)):
        yield (
            f"{place}.proxy-protocol",
            "the PROXY header comes before TLS, which sitio can't write: leave it out, or write an"
            " address without TLS",
        )
    yield from _inUpstreamTLS(upstream)
    resolve = upstream.resolve
    if resolve is not None:
        if upstream.dns is None and upstream.srv is None:
            yield f"{place}.resolve", "there is neither dns nor srv: leave it out, or write one"
        if resolve.floor > resolve.ceiling:
            yield (
                f"{place}.resolve.floor",
                f"{resolve.floor:g} seconds are more than those of ceiling: write at most"
                f" {resolve.ceiling:g}",
            )
    yield from _inRetries(upstream)


def _inEndpoints(upstream: UpstreamConfig) -> Iterator[Found]:
    seen: dict[str, str] = {}
    for each in upstream.endpoints:
        if each.address is None:
            continue
        if each.address in seen:
            yield each.place, f"it is the same as {seen[each.address]}: write a larger weight there"
        seen.setdefault(each.address, each.place)
    secure = [each for each in upstream.endpoints if _isSecure(each.address)]
    if secure and len(secure) < len(upstream.endpoints) and upstream.tls is None:
        yield (
            secure[0].place,
            "it has TLS and others of this upstream have none: write https for all of them, or for"
            " none",
        )


def _isSecure(address: str | None) -> bool:
    return (address or "").startswith(("tls:", "ssl:"))


def _inUpstreamTLS(upstream: UpstreamConfig) -> Iterator[Found]:
    tls = upstream.tls
    if tls is None:
        return
    if (tls.certificate is None) != (tls.key is None):
        name, other = ("key", "certificate") if tls.certificate is None else ("certificate", "key")
        yield f"{tls.place}.{name}", f"it needs its {other}: write {other} = and a PEM file"
    if not tls.verify and tls.ca is not None:
        yield f"{tls.place}.ca", "nothing is verified with it: leave out verify = false"
    addresses = [upstream.address, *(each.address for each in upstream.endpoints)]
    if tls.name is None and any((each or "").startswith("unix:") for each in addresses):
        yield tls.place, "a UNIX socket has no name to verify: write name = and that of the service"


def _inRetries(upstream: UpstreamConfig) -> Iterator[Found]:
    retries = upstream.retries
    if retries is None:
        return
    if not retries.budget and not retries.minimum:
        yield (
            f"{retries.place}.budget",
            "with a budget and a minimum of 0 nothing is tried again: leave out the table",
        )
    if retries.attempts == 1 and retries.hedgeAfter is None:
        yield f"{retries.place}.attempts", "one attempt is no retry: write 2 or more"
    after, most = retries.hedgeAfter, retries.perTryTimeout
    if after is not None and most is not None and after >= most:
        yield (
            f"{retries.place}.hedge-after",
            f"the first attempt has ended by then: write less than the {most:g} seconds of"
            " per-try-timeout",
        )


def _inRoute(route: RouteConfig) -> Iterator[Found]:
    place = route.place
    if route.path is not None and route.prefix is not None:
        yield f"{place}.prefix", "there is a path, too: write one of them"
    if route.upstream is not None and route.upstreams:
        yield f"{place}.upstreams", "there is upstream, too: write one of them"
    if route.sticky is not None and len(route.upstreams) < 2:
        yield f"{place}.sticky", "there is nothing to choose: write upstreams with their weights"
    ways = [
        name
        for name, value in (
            ("rewrite", route.rewrite),
            ("strip-prefix", route.stripPrefix),
            ("replace-prefix", route.replacePrefix),
        )
        if value is not None
    ]
    if len(ways) > 1:
        yield f"{place}.{ways[1]}", f"there is {ways[0]}, too: write one of them"
    if route.rewrite is not None:
        if route.path is None:
            yield f"{place}.rewrite", "it needs a path: write path, or replace-prefix for a prefix"
        else:
            try:
                PathRewrite.ofTemplate(route.path, route.rewrite)
            except ValueError as error:
                yield f"{place}.rewrite", f"{error}: write names of the path"
    if route.replacePrefix is not None and route.prefix is None:
        yield f"{place}.replace-prefix", "it needs a prefix: write prefix, or rewrite for a path"
    if route.stripPrefix is not None:
        yield from _inStrip(route, route.stripPrefix)


def _inStrip(route: RouteConfig, strip: str) -> Iterator[Found]:
    path = route.prefix if route.path is None else route.path
    cut = strip.rstrip("/")
    if path is None:
        yield f"{route.place}.strip-prefix", f"it needs a prefix: write prefix = {strip!r}"
    elif path != cut and not path.startswith(f"{cut}/"):
        yield (
            f"{route.place}.strip-prefix",
            f"{path!r} does not begin with {strip!r}: write whole segments of its beginning",
        )


def wholeMistakes(config: Config, isBroken: Callable[[str], bool]) -> Iterator[Found]:
    """
    Mistakes of a configuration as a whole, command line included.

    @param isBroken: whether a mistake was told at a place, or in it.
    """
    for name, given, most in (
        ("listeners", config.listeners, MAX_LISTENERS),
        ("upstreams", config.upstreams, MAX_UPSTREAMS),
        ("routes", config.routes, MAX_MATCHES),
    ):
        if len(given) > most:
            yield name, f"{len(given)} are too many; write at most {most}"
    yield from _samePorts(config)
    limits = config.limits
    if limits.poolUploads > limits.poolSize:
        yield (
            "limits.pool-uploads",
            f"{limits.poolUploads} is more than pool-size {limits.poolSize}: write at most that,"
            " or 0 for three quarters of it",
        )
    areUpstreamsBroken = isBroken("upstream") or isBroken("upstreams")
    if not config.upstreams and not areUpstreamsBroken:
        yield (
            "",
            'there is no upstream: write [upstream] with address = "localhost:8087", or demo ='
            " true",
        )
    if len(config.upstreams) > 1 and not config.routes:
        names = ", ".join(each.name for each in config.upstreams)
        yield (
            "upstreams",
            f"there are several ({names}): write [[routes]] that say which requests go where",
        )
    routes = [each for each in config.routes if not isBroken(each.place)]
    if not areUpstreamsBroken or config.upstreams:
        for route in config.routes:
            yield from _upstreamsOf(route, config)
    yield from _hidden(routes)
    yield from _templates(evolve(config, routes=tuple(routes)))


def _samePorts(config: Config) -> Iterator[Found]:
    """Ports that exclude each other."""
    ports = [(each.place, each.address) for each in config.listeners]
    admin = config.admin
    if admin.address:
        ports.append(("admin.address", admin.address))
    if admin.probes:
        ports.append(("admin.probes", admin.probes))
        # Without an address, the admin pages take another port if that of a listener is theirs.
        if admin.address is None and isSamePort(admin.probes, DEFAULT_ADMIN):
            yield "admin.probes", "it is the port of the admin pages, too: write another port"
    for at, (place, port) in enumerate(ports):
        for other, another in ports[:at]:
            # The kernel chooses a port 0 anew each time.
            isSame = port == another and not port.startswith(("tcp:0", "tcp6:0"))
            if isSame or isSamePort(port, another):
                yield place, f"it is the port of {other}, too: write another port"
                break


def _upstreamsOf(route: RouteConfig, config: Config) -> Iterator[Found]:
    known = [each.name for each in config.upstreams]
    key = f"{route.place}.upstream" if route.upstream is not None else f"{route.place}.upstreams"
    for name, _ in route.upstreams:
        if name not in known:
            are = f"write one of {', '.join(known)}" if known else f"write [upstreams.{name}]"
            yield key, f"there is no upstream {name!r}{nearest(name, known) or f'; {are}'}"
    if not route.upstreams and len(known) > 1:
        names = ", ".join(known)
        yield route.place, f"there are several upstreams: write upstream = and one of {names}"


def _hidden(routes: Iterable[RouteConfig]) -> Iterator[Found]:
    """Routes that no request ever takes."""
    earlier: list[tuple[str, RequestMatch]] = []
    for route in routes:
        try:
            match = evolve(route, prefix=None if route.path else route.prefix).match()
        except ValueError as error:
            yield route.place, str(error)
            continue
        at = hiddenBy(match, [each for _, each in earlier])
        if at is not None:
            yield (
                route.place,
                f"no request takes it, as {earlier[at][0]} takes them all: write it before that",
            )
        earlier.append((route.place, match))


def _templates(config: Config) -> Iterator[Found]:
    """Templates of paths, of which no two may match the same."""
    paths = [each.path for each in config.routes if each.path is not None]
    names = list(dict.fromkeys(paths))
    try:
        Routes(names)
    except ValueError as error:
        yield "routes", str(error)
        return
    for at, each in enumerate(config.templates):
        if each in names:
            continue
        names.append(each)
        try:
            Routes(names)
        except ValueError as error:
            yield f"templates[{at}]", str(error)
            names.pop()
            if len(names) >= MAX_ROUTES:
                break
