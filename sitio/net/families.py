"""
Ports of both families of IP: a port that is given as a number takes clients of IPv4 and IPv6.

One socket of IPv6 does that, if the host has IPv6.  The system shows it an IPv4 client with an
address such as C{::ffff:192.0.2.1}; L{unmapped} makes an IPv4 address of that again.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any

#: What a host without IPv6, or one whose sockets have a single family, says to such a socket.
_SINGLE_FAMILY = frozenset(
    (
        *(errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT),
        *(errno.ENOPROTOOPT, errno.EINVAL),
    )
)

_MAPPED = "::ffff:"


def boundSocket(address: Any, family: int, reusePort: bool = False) -> socket.socket:
    """
    A socket that is bound to an address.

    @param reusePort: whether others may bind to the same address (C{SO_REUSEPORT}).

    @raise OSError: it can't be bound.
    """
    return _bound(address, family, reusePort, None)


def socketOfBoth(port: int, reusePort: bool = False) -> socket.socket | None:
    """
    The same for a port on all addresses of both families; L{None} if this host can't.

    @raise OSError: the port can't be bound.
    """
    if not socket.has_ipv6:
        return None
    try:
        return _bound(("::", port), socket.AF_INET6, reusePort, False)
    except OSError as error:
        if error.errno in _SINGLE_FAMILY:
            return None
        raise


def _bound(address: Any, family: int, reusePort: bool, onlyIPv6: bool | None) -> socket.socket:
    skt = socket.socket(family, socket.SOCK_STREAM)
    try:
        skt.setblocking(False)
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reusePort:
            skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if onlyIPv6 is not None:
            skt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, onlyIPv6)
        skt.bind(address)
    except OSError:
        skt.close()
        raise
    return skt


def unmappedIP(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IP address; of one that stands for an IPv4 address, that one."""
    return getattr(address, "ipv4_mapped", None) or address


def unmapped(name: Any) -> Any:
    """An address of the C{socket} module, of an IPv4 client as its own family writes it."""
    if len(name) == 4 and name[0].startswith(_MAPPED) and "." in name[0]:
        return name[0].removeprefix(_MAPPED), name[1]
    return name
