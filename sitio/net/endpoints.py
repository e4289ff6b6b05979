"""
The ports that endpoint descriptions stand for: L{serverEndpoint}.

Contract: reactors are passed in.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from sitio.net.proxyprotocol import ProxyProtocolEndpoint


def serverEndpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    The endpoint of a description, like Twisted's C{serverFromString}.

    Of its parts, C{haproxy:} is sitio's own.

    @raise Exception: the description is wrong; many kinds.
    """
    name, colon, rest = description.partition(":")
    if colon and name.lower() == "haproxy":
        return ProxyProtocolEndpoint(reactor, serverEndpoint(reactor, rest))
    return serverFromString(reactor, description)
