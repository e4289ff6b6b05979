"""
Finds an upstream that is sitio's own port: L{NoLoopEndpoint}.

It looks when the port listens, so that it sees the address itself, however the port was
described.  It asks no name server: a name that leads back to this host, as a service of a
cluster may, is left to the mark on each request (L{sitio.proxy.forwarding}).

Contract: endpoints are passed in.  Nothing is sent.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from sitio.errors import CannotStart
from sitio.net.families import unmappedIP

_Address = IPv4Address | IPv6Address

_LOOPBACK: list[_Address] = [IPv4Address("127.0.0.1"), IPv6Address("::1")]


def leadsTo(target: tuple[str, int] | str, host: Any) -> bool:
    """
    Whether who connects to this target comes to the port with this address.

    @param target: a host and a port, or the path of a UNIX socket.
    @param host: what the port's C{getHost} returns.
    """
    if isinstance(host, UNIXAddress):
        return isinstance(target, str) and _sameFile(os.fsencode(target), host.name or b"")
    if isinstance(target, str) or target[1] != getattr(host, "port", None):
        return False
    listening = unmappedIP(ip_address(host.host.partition("%")[0]))
    return any(_covers(listening, each) for each in _addresses(target[0]))


def _sameFile(target: bytes, name: bytes) -> bool:
    if target.startswith(b"\0") or name.startswith(b"\0"):
        return target == name
    try:
        return os.path.samefile(target, name)
    except OSError:
        return os.path.abspath(target) == os.path.abspath(name)


def _addresses(host: str) -> list[_Address]:
    """The addresses of a host, if it is known without a name server that they are its."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost") or name == _ownName():
        return _LOOPBACK
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [unmappedIP(ip_address(str(each[4][0]).partition("%")[0])) for each in found]


def _ownName() -> str:
    return socket.gethostname().lower()


def _covers(listening: _Address, target: _Address) -> bool:
    if not listening.is_unspecified:
        # The kernel connects to the unspecified address as to the loopback one.
        return target == listening or (target.is_unspecified and listening.is_loopback)
    if listening.version == 4 and target.version == 6:
        return False
    return target.is_loopback or target.is_unspecified or _isOwn(target)


def _isOwn(address: _Address) -> bool:
    """
    Whether this host has the address: then it is also the one to send from.  A connected
    datagram socket sends nothing.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ip_address(probe.getsockname()[0].partition("%")[0]) == address
    except OSError:
        return False


@implementer(IStreamServerEndpoint)
class NoLoopEndpoint:
    """Listens like another endpoint, unless the upstream would be that port itself."""

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        target: tuple[str, int] | str,
        leads: Callable[[tuple[str, int] | str, Any], bool] = leadsTo,
        option: str = "--port",
        consequence: str = "so each request would come back for ever",
    ) -> None:
        """
        @param target: where the upstream is, see L{leadsTo}.
        @param leads: L{leadsTo}.
        @param option: the option that names the endpoint.
        @param consequence: what would come of it, as a clause.
        """
        self._endpoint = endpoint
        self._target = target
        self._leads = leads
        self._option = option
        self._consequence = consequence

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See L{IStreamServerEndpoint}.  Fails with L{CannotStart} for the upstream itself."""
        listening: Deferred[Any] = self._endpoint.listen(protocolFactory)
        return listening.addCallback(self._check)

    def _check(self, port: Any) -> Any:
        # The parent of workers has no port of its own; the workers look.
        if port is not None and self._leads(self._target, port.getHost()):
            port.stopListening()
            inUse = OSError(errno.EADDRINUSE, "it is the port of --upstream")
            raise CannotStart(
                f"sitio: --upstream is sitio's own port, {self._consequence}; name the port of the"
                f" service, or choose another {self._option}"
            ) from CannotListenError("", getattr(port.getHost(), "port", ""), inUse)
        return port
