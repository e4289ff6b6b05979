"""
Checks a configuration without opening anything: L{check}.

It reads the file, makes the policies, the routes and the upstreams, and reads certificates and
keys.  It listens nowhere and connects to nothing.

Contract: reads files; the reactor is passed in, and is not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from sitio.config.model import Config
from sitio.config.options import Options
from sitio.config.places import ConfigErrors, Mistake
from sitio.errors import CannotStart
from sitio.fleet.address import parseAddress
from sitio.net.certificates import readAuthorities, readIdentity
from sitio.net.deadlines import Deadlines
from sitio.net.descriptions import checkClient
from sitio.net.endpoints import serverEndpoint
from sitio.net.tlssettings import KeyPair
from sitio.wiring.endpoints import withoutSecrets
from sitio.wiring.plan import Plan

#: A mistake: its place, and a sentence.
Found = tuple[str, str]

_LISTEN = "use for example 8080 or tcp:8080"
_CONNECT = "use for example localhost:8087"


def check(
    arguments: Sequence[str], reactor: Any, environ: dict[str, str] | None = None
) -> list[Mistake]:
    """
    What is wrong with a configuration: all of it, in the order of the lines.

    @param arguments: the command line, such as C{["--config", "sitio.toml"]}.
    @param environ: environment variables; L{None} for those of the process.
    """
    options = Options(environ)
    try:
        options.parseOptions(arguments)
    except CannotStart as refused:
        errors = refused.__context__
        if not isinstance(errors, ConfigErrors):
            return [Mistake("", 0, "", str(refused).removeprefix("sitio: "))]
        mistakes = list(errors.mistakes)
        config = errors.config
        if config is None:
            return mistakes
    else:
        mistakes, config = [], options.config
    told = {each.key for each in mistakes}
    for place, sentence in _built(config, reactor):
        if place not in told:
            mistakes.append(config.places.mistake(place, sentence))
    if not mistakes:
        mistakes += _planned(options, reactor)
    return list(ConfigErrors(mistakes).mistakes)


def _planned(options: Options, reactor: Any) -> list[Mistake]:
    """What is wrong with all parts together."""
    policies = options.loaded.policies
    plan = Plan(options.config, reactor, lambda upstream: lambda address: _Nowhere(), policies)
    try:
        plan.make(Deadlines(reactor), None)
    except ConfigErrors as errors:
        return list(errors.mistakes)
    return []


@implementer(IStreamClientEndpoint)
class _Nowhere:
    """Stands for an endpoint, to which nothing connects."""

    def connect(self, factory: object) -> Deferred[Any]:
        """See C{IStreamClientEndpoint}."""
        return fail(ConnectError())


def _built(config: Config, reactor: Any) -> Iterator[Found]:
    """What is wrong with the addresses and the files that a configuration names."""
    if not config.upstreams and not config.places.file:
        yield "", "there is no upstream: name the service with --upstream, such as localhost:8087"
    for listener in config.listeners:
        yield from _port(reactor, f"{listener.place}.address", listener.address)
        if listener.tls is not None:
            for pair in listener.tls.certificates:
                yield from _pair(pair.place, pair.certificate, pair.key)
            yield from _authorities(f"{listener.tls.place}.client-ca", listener.tls.clientCa)
    for name, address in (("address", config.admin.address), ("probes", config.admin.probes)):
        if address:
            yield from _port(reactor, f"admin.{name}", address)
    for upstream in config.upstreams:
        for endpoint in upstream.endpoints:
            yield from _endpoint(reactor, endpoint.place, endpoint.address)
        tls = upstream.tls
        if tls is not None:
            yield from _authorities(f"{tls.place}.ca", tls.ca)
            if tls.certificate and tls.key:
                yield from _pair(tls.place, tls.certificate, tls.key)
    if config.fleet:
        try:
            parseAddress(config.fleet)
        except ValueError as error:
            yield "fleet", f"it is {error}"


def _port(reactor: Any, place: str, description: str) -> Iterator[Found]:
    if not description or description.removeprefix("haproxy:").startswith("systemd:"):
        # The sockets of systemd are there only when it starts sitio.
        return
    try:
        serverEndpoint(reactor, description)
    except Exception as error:
        yield place, _cantUse(error, description, isClient=False)


def _endpoint(reactor: Any, place: str, description: str) -> Iterator[Found]:
    if not description:
        return
    try:
        checkClient(description)
        clientFromString(reactor, description)
    except Exception as error:
        yield place, _cantUse(error, description, isClient=True)


def _cantUse(error: Exception, description: str, *, isClient: bool) -> str:
    shown, why = withoutSecrets(description, error, isClient)
    return f"{shown!r} can't be used ({why}); {_CONNECT if isClient else _LISTEN}"


def _pair(place: str, certificate: str | None, key: str | None) -> Iterator[Found]:
    if not certificate or not key:
        # That was told.
        return
    try:
        readIdentity(KeyPair(certificate, key))
    except ValueError as error:
        yield f"{place}.certificate", str(error)


def _authorities(place: str, path: str | None) -> Iterator[Found]:
    if path is None:
        return
    try:
        readAuthorities(path)
    except ValueError as error:
        yield place, str(error)
