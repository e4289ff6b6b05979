"""
The endpoints of what is configured: those that listen, and those that connect to upstreams.

Contract: the reactor is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from sitio.config.model import Config
from sitio.config.places import ConfigErrors, Mistake
from sitio.errors import CannotStart
from sitio.net.descriptions import checkClient, explain, target
from sitio.net.endpoints import serverEndpoint
from sitio.net.loops import NoLoopEndpoint
from sitio.net.portreactor import portFromString
from sitio.redact import endpointMessageWithoutSecrets, endpointWithoutSecrets
from sitio.telemetry.snapshot import Peers
from sitio.upstream.hosts import UPSTREAM, hostFor
from sitio.wiring.tlsplan import Connecting, TLSPlan

#: How the descriptions of endpoints with TLS begin.
_TLS = ("ssl:", "tls:")

#: Upstreams of which it is found out whether they are a port of sitio: each look may ask the
#: system for its addresses.
MAX_LOOKED_AT = 16


def withoutSecrets(description: str, error: Exception, isClient: bool = False) -> tuple[str, str]:
    """An endpoint description, and what is wrong with it."""
    why = endpointMessageWithoutSecrets(explain(error, description, isClient), description)
    return endpointWithoutSecrets(description), why


def clientEndpoint(reactor: Any, description: str) -> IStreamClientEndpoint:
    """
    The endpoint that connects to what a description says.

    @raise ValueError: the description is wrong.
    """
    try:
        checkClient(description)
        return clientFromString(reactor, description)
    except Exception as error:
        shown, why = withoutSecrets(description, error, isClient=True)
        raise ValueError(
            f"{shown!r} can't be used ({why}); use for example tcp:localhost:8087"
        ) from error


class Connects(Connecting):
    """What connects to upstreams, and what is wrong with their addresses."""

    def mistakes(self, config: Config) -> Iterator[Mistake]:
        """What is wrong with the addresses of upstreams."""
        for upstream in config.upstreams:
            for each in upstream.endpoints:
                try:
                    clientEndpoint(self._reactor, each.address)
                except ValueError as error:
                    yield mistakeAt(config, each.place, "--upstream", str(error))


def mistakeAt(config: Config, place: str, option: str, sentence: str) -> Mistake:
    """
    A mistake.

    @param option: where it is if there is no file: a default or a variable stands for an option.
    """
    if not config.places.file:
        return Mistake("", 0, option, sentence)
    return config.places.mistake(place, sentence)


def listening(
    reactor: Any, config: Config, tls: TLSPlan, ports: Sequence[Any] | None = None
) -> dict[str, IStreamServerEndpoint]:
    """
    The endpoints of the ports for clients, by their addresses.

    @param tls: has their TLS.
    @param ports: what to listen with, for each of them, if they are open already.

    @raise CannotStart: a description is wrong.
    """
    found: dict[str, IStreamServerEndpoint] = {}
    mistakes = []
    for at, listener in enumerate(config.listeners):
        try:
            if ports is None:
                endpoint = portFromString(reactor, listener.address)
            else:
                endpoint = serverEndpoint(ports[at], listener.address)
        except Exception as error:
            shown, why = withoutSecrets(listener.address, error)
            sentence = f"{shown!r} can't be used ({why}); use for example 8080 or tcp:8080"
            place = f"{listener.place}.address"
            mistakes.append(mistakeAt(config, place, "--port", sentence))
            continue
        try:
            endpoint = tls.listening(listener, endpoint)
        except ValueError as error:
            mistakes.append(mistakeAt(config, f"{listener.place}.tls", "--port", str(error)))
            continue
        found[listener.address] = noLoops(endpoint, config)
    refuse(mistakes)
    return found


def noLoops(endpoint: IStreamServerEndpoint, config: Config, **more: Any) -> IStreamServerEndpoint:
    """
    An endpoint that does not listen where an upstream is.

    @param more: as L{NoLoopEndpoint<sitio.net.loops.NoLoopEndpoint>} takes it.
    """
    addresses = [each.address for upstream in config.upstreams for each in upstream.endpoints]
    found = dict.fromkeys(map(_targetOf, addresses))
    for where in [each for each in found if each is not None][:MAX_LOOKED_AT]:
        endpoint = NoLoopEndpoint(endpoint, where, **more)
    return endpoint


def _targetOf(description: str) -> tuple[str, int] | str | None:
    """Where a description leads, if it is right and of a known kind."""
    try:
        return target(description)
    except ValueError:
        return None


def firstAddress(config: Config) -> str:
    """The address of the first endpoint that is listed, C{""} if there is none."""
    addresses = (each.address for upstream in config.upstreams for each in upstream.endpoints)
    return next(addresses, "")


def hostOf(config: Config) -> bytes:
    """The Host of requests that have none: that of the first upstream."""
    try:
        return (hostFor(UPSTREAM, firstAddress(config)) or "localhost").encode()
    except ValueError:
        return b"localhost"


def peersOf(config: Config) -> Peers:
    """
    Whom sitio talks to: the first port, and the upstream.

    With several endpoints no address is that of all attempts: it is empty then.
    """
    listener, upstream = config.listeners[0], firstAddress(config)
    # The endpoint behind a PROXY header has the client's scheme.
    description = listener.address.removeprefix("haproxy:")
    secure = listener.tls is not None or description.startswith(_TLS)
    found = _targetOf(upstream)
    host, number = found if isinstance(found, tuple) else (found or "localhost", "")
    if len(config.upstreams) > 1 or not all(each.isSingle for each in config.upstreams):
        host, number = "", ""
    schemes = {"https" if each.isSecure else "http" for each in config.upstreams} or {"http"}
    return {
        "scheme": "https" if secure else "http",
        "upstreamAddress": str(host),
        "upstreamPort": str(number),
        "upstreamScheme": schemes.pop() if len(schemes) == 1 else "",
    }


def refusal(mistakes: Iterable[Mistake]) -> CannotStart:
    """The error that ends a start with these mistakes; its cause is a L{ConfigErrors}."""
    found = list(mistakes)
    told = [str(each) if each.file else f"{each.key} {each.sentence}".strip() for each in found]
    error = CannotStart("\n".join([f"sitio: {told[0]}", *told[1:]]))
    error.__cause__ = ConfigErrors(found)
    return error


def refuse(mistakes: Iterable[Mistake]) -> None:
    """
    @raise CannotStart: there are mistakes.
    """
    found = list(mistakes)
    if found:
        raise refusal(found)
