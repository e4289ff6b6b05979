"""
Ports for clients, and their TLS, as they are configured: L{ListenerConfig}.

Contract: pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from sitio.config import kinds
from sitio.config.keys import entry, place, table

if TYPE_CHECKING:
    from sitio.config.tables import ListenerTLSConfig

#: The name of the only listener, if it has none of its own.
LISTENER = "listener"


@frozen
class ListenerConfig:
    """
    A port for clients.

    @ivar name: as in C{[listeners.NAME]}.
    @ivar address: an endpoint description.
    """

    name: str = LISTENER
    address: str = entry(
        kinds.LISTEN,
        "port on all addresses, address with a port, or endpoint description; without it $PORT,"
        " else 8080",
        "",
        example="8080",
    )
    tls: ListenerTLSConfig | None = table("TLS for clients")
    place: str = place()
