"""
The Host of requests for an upstream: L{hostFor}.

Contract: pure.
"""

from __future__ import annotations

from sitio.http.addressing import hostOf
from sitio.net.descriptions import target

#: What an operator writes for the Host of the client, and for that of the upstream.
CLIENT, UPSTREAM = "client", "upstream"

#: How the descriptions of endpoints with TLS begin.
_TLS = ("ssl:", "tls:")


def hostFor(mode: str, description: str, secure: bool = False) -> str:
    """
    The Host of requests for an endpoint.

    @param mode: L{CLIENT}, L{UPSTREAM}, or a Host.
    @param description: of the endpoint.
    @param secure: whether it has TLS that the description does not tell of.

    @return: empty for the client's; that is so, too, if the endpoint has no name, as a UNIX socket.
    """
    if mode == CLIENT:
        return ""
    if mode != UPSTREAM:
        return mode
    found = target(description)
    if not isinstance(found, tuple):
        return ""
    secure = secure or description.lower().startswith(_TLS)
    return hostOf(*found, "https" if secure else "http")
