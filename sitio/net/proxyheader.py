"""
Writes headers of the PROXY protocol, version 2: who the client is, before its first byte.

L{headerFor} makes the header of a connection that carries a client's requests, L{LOCAL} is that
of a connection of sitio's own, such as a health check.  Numbers of sections are those of
https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.  L{sitio.net.proxyprotocol} reads
such headers.

Contract: pure, but for L{PrefacedEndpoint}, which is passed its endpoint.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

# Section 2.2: version and command; address family and protocol.
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6, _UNIX_STREAM = 0x00, 0x11, 0x21, 0x31

#: Bytes of the path of a UNIX socket.
_PATH_BYTES = 108

_Place = tuple[IPv4Address | IPv6Address, int]


def _header(command: int, kind: int, addresses: bytes = b"") -> bytes:
    size = len(addresses).to_bytes(2, "big")
    return _SIGNATURE + bytes((command, kind)) + size + addresses


#: For a connection that sitio has opened for itself.
LOCAL = _header(_LOCAL, _UNSPEC)


def headerFor(source: IAddress, destination: IAddress) -> bytes:
    """
    The header of a connection that carries the requests of one client.

    @param source: the client's address.
    @param destination: the address that it has connected to.

    @return: a header without addresses if they are neither both of IP nor both of UNIX sockets:
        the upstream takes sitio's own then (section 2.2, UNSPEC).
    """
    ends = source, destination
    if all(isinstance(each, UNIXAddress) for each in ends):
        paths = [_path(each).ljust(_PATH_BYTES, b"\0") for each in ends]
        return _header(_PROXY, _UNIX_STREAM, b"".join(paths))
    places = [_place(each) for each in ends]
    if None in places:
        return _header(_PROXY, _UNSPEC)
    hosts, ports = zip(*places, strict=True)
    kind = _TCP4
    if {each.version for each in hosts} != {4}:
        kind = _TCP6
        hosts = tuple(_asIPv6(each) for each in hosts)
    return _header(
        _PROXY,
        kind,
        b"".join([*(each.packed for each in hosts), *(each.to_bytes(2, "big") for each in ports)]),
    )


def _path(address: Any) -> bytes:
    name = address.name or b""
    return (name.encode() if isinstance(name, str) else name)[:_PATH_BYTES]


def _place(address: Any) -> Any:
    """Host and port; L{None} for what is no address of IP."""
    try:
        return ip_address(address.host.partition("%")[0]), address.port & 0xFFFF
    except (AttributeError, ValueError):
        return None


def _asIPv6(address: IPv4Address | IPv6Address) -> IPv6Address:
    if isinstance(address, IPv6Address):
        return address
    return IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)


@implementer(IStreamClientEndpoint)
class PrefacedEndpoint:
    """Connects like another endpoint, and writes some bytes before the protocol writes any."""

    def __init__(self, endpoint: IStreamClientEndpoint, preface: bytes) -> None:
        self._endpoint = endpoint
        self._preface = preface

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}."""
        connecting: Deferred[Any] = self._endpoint.connect(
            _PrefacedFactory(protocolFactory, self._preface)
        )
        return connecting


class _PrefacedFactory(Factory):
    """Makes the protocols of another factory; each begins with a preface."""

    noisy = False

    def __init__(self, wrapped: Any, preface: bytes) -> None:
        self._wrapped = wrapped
        self._preface = preface

    def doStart(self) -> None:
        """See L{Factory}."""
        self._wrapped.doStart()

    def doStop(self) -> None:
        """See L{Factory}."""
        self._wrapped.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The other factory's protocol, which writes the preface when it is connected."""
        protocol: Any = self._wrapped.buildProtocol(addr)
        if protocol is None:
            return None
        connect = protocol.makeConnection

        def makeConnection(transport: Any) -> None:
            del protocol.makeConnection
            transport.write(self._preface)
            connect(transport)

        protocol.makeConnection = makeConnection
        return protocol
