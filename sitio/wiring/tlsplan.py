"""
The TLS of configurations, one after the other: L{TLSPlan}.

Ports stay open from one configuration to the next; so does their TLS, with other settings.  An
upstream is made anew when its settings change, and its TLS with it.

Contract: reactor and watcher are passed in; files of certificates are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from twisted.internet.endpoints import clientFromString, quoteStringArgument
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from sitio.config.listeners import ListenerConfig
from sitio.config.model import Config
from sitio.config.places import ConfigErrors
from sitio.config.upstreams import UpstreamConfig
from sitio.net.descriptions import parse, target
from sitio.net.handshake import HandshakeEndpoint
from sitio.net.tlssettings import NONE, ClientTLS, KeyPair, ServerTLS
from sitio.net.watching import Watcher

if TYPE_CHECKING:
    from sitio.net.tlsfiles import PortTLS, TLSFiles, UpstreamTLS


def serverTLS(config: Any) -> ServerTLS:
    """
    The settings of a table C{[listener.tls]}.

    @raise ValueError: a value is wrong.
    """
    return ServerTLS(
        config.certificate,
        config.key,
        config.clientCa,
        config.asksForCertificate or NONE,
        config.minimum,
        [KeyPair(each.certificate, each.key) for each in config.more],
    )


def clientTLS(config: Any) -> ClientTLS:
    """
    The settings of a table C{[upstream.tls]}.

    @param config: the table; L{None} for the defaults.
    @raise ValueError: a value is wrong.
    """
    if config is None:
        return ClientTLS()
    return ClientTLS(
        config.verify, config.ca, config.name, config.certificate, config.key, config.minimum
    )


class TLSPlan:
    """
    Makes the TLS of ports and upstreams.

    OpenSSL is loaded with the first of them.
    """

    def __init__(self, reactor: Any, watcher: Watcher | None = None) -> None:
        """
        @param watcher: says when files have changed; without one they are read only once.
        """
        self._reactor = reactor
        self._watcher = watcher
        self._files: TLSFiles | None = None
        self._ports: dict[str, PortTLS] = {}
        # As long as somebody connects with them.
        self._upstreams: WeakValueDictionary[tuple[str, ClientTLS], UpstreamTLS]
        self._upstreams = WeakValueDictionary()

    @property
    def files(self) -> TLSFiles:
        """The TLS of all ports and upstreams."""
        if self._files is None:
            # Imported here, as it takes memory and most are plain.
            from sitio.net.tlsfiles import TLSFiles

            self._files = TLSFiles(self._watcher)
        return self._files

    def snapshot(self) -> list[dict[str, Any]]:
        """See L{TLSFiles.snapshot<sitio.net.tlsfiles.TLSFiles.snapshot>}."""
        return [] if self._files is None else self._files.snapshot()

    def warnings(self) -> list[str]:
        """What an operator has to know, as sentences without full stops."""
        return [] if self._files is None else self._files.warnings()

    # Ports.

    def listening(
        self, listener: ListenerConfig, endpoint: IStreamServerEndpoint
    ) -> IStreamServerEndpoint:
        """
        The endpoint of a port: with TLS, if it is configured.

        @param endpoint: what listens below TLS.
        @raise ValueError: a file can't be read or used.
        """
        if listener.tls is None:
            return endpoint
        from sitio.net.tls import TLSServerEndpoint

        port = self.files.port(listener.name, serverTLS(listener.tls))
        self._ports[listener.address] = port
        return TLSServerEndpoint(self._reactor, endpoint, port)

    def forget(self, addresses: Iterable[str]) -> None:
        """Ports are closed."""
        for each in addresses:
            self._ports.pop(each, None)

    def prepare(self, config: Config) -> Callable[[], None]:
        """
        Make what the ports of another configuration need, without using it yet.

        Ports that are new, or had no TLS before, are left alone.

        @return: call it to use them.
        @raise ConfigErrors: files can't be read or used; all of them are told.
        """
        adopts: list[Callable[[], None]] = []
        mistakes = []
        for each in config.listeners:
            port = self._ports.get(each.address)
            if port is not None and each.tls is not None:
                try:
                    adopts.append(port.prepare(serverTLS(each.tls)))
                except ValueError as error:
                    mistakes.append(config.places.mistake(each.tls.place, str(error)))
        if mistakes:
            raise ConfigErrors(mistakes)

        def adopt() -> None:
            for each in adopts:
                each()
            if self._watcher is None:
                for tls in list(self._upstreams.values()):
                    tls.reload()

        return adopt

    # Upstreams.

    def connects(self, upstream: UpstreamConfig) -> Callable[[str], IStreamClientEndpoint]:
        """
        What connects to the addresses of an upstream: L{Connects<sitio.wiring.plan.Connects>}.

        @raise ValueError: a file can't be read or used.
        """
        if not upstream.isSecure:
            return lambda address: clientFromString(self._reactor, described(address))
        from sitio.net.tlsclient import TLSClientEndpoint

        settings = clientTLS(upstream.tls)
        found = self._upstreams.get((upstream.name, settings))
        tls = found or self.files.upstream(upstream.name, settings)
        self._upstreams[upstream.name, settings] = tls

        def connect(address: str) -> IStreamClientEndpoint:
            description = described(address)
            if upstream.tls is None and _hasOwnTLS(description):
                return clientFromString(self._reactor, description)
            below = clientFromString(self._reactor, _withoutTLS(description))
            return TLSClientEndpoint(self._reactor, below, tls, _nameOf(upstream, description))

        return connect


class Connecting:
    """
    What connects to upstreams: L{Connects<sitio.wiring.plan.Connects>}.  A connection with TLS
    is there when its handshake has ended.

    @ivar tls: for upstreams whose TLS is configured by a table.
    """

    def __init__(
        self, reactor: Any, tls: TLSPlan, demo: IStreamClientEndpoint | None = None
    ) -> None:
        """
        @param demo: the photo site, for an upstream without an address.
        """
        self._reactor = reactor
        self.tls = tls
        self._demo = demo

    def __call__(self, upstream: UpstreamConfig) -> Callable[[str], IStreamClientEndpoint]:
        connect = self._connect if upstream.tls is None else self.tls.connects(upstream)
        return lambda address: HandshakeEndpoint(
            self._demo if self._demo is not None and not address else connect(address)
        )

    def _connect(self, address: str) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = clientFromString(self._reactor, described(address))
        return endpoint


#: Endpoints, as opposed to C{HOST:PORT}.
_KINDS = ("tcp:", "tls:", "ssl:", "unix:")

#: The options of C{tls:} and C{ssl:} that say only where to connect.
_PLACE = frozenset(("host", "port"))


def described(address: str) -> str:
    """An address as an endpoint description; those of DNS are C{HOST:PORT}."""
    if address.startswith(_KINDS):
        return address
    host, _, port = address.rpartition(":")
    return f"tcp:{quoteStringArgument(host.strip('[]'))}:{port}"


def _hasOwnTLS(description: str) -> bool:
    """Whether a description says more of TLS than its place, such as C{trustRoots=/etc/roots}."""
    kind, _, options = parse(description)
    return kind in ("tls", "ssl") and not options.keys() <= _PLACE


def _withoutTLS(description: str) -> str:
    """Where to connect below TLS."""
    where = target(description)
    if parse(description).kind in ("tcp", "unix") or not isinstance(where, tuple):
        return description
    return f"tcp:{quoteStringArgument(where[0])}:{where[1]}"


def _nameOf(upstream: UpstreamConfig, description: str) -> str:
    """The name that a certificate must have, if the settings have none."""
    if upstream.dns is not None:
        return upstream.dns[0]
    if upstream.srv is not None:
        # Its domain is what the operator knows; the names in the records are DNS's word.
        labels = upstream.srv.split(".")
        return ".".join(labels[next(n for n, each in enumerate(labels) if each[:1] != "_") :])
    where = target(description)
    return where[0] if isinstance(where, tuple) else "localhost"
