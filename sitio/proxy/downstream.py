"""
What an exchange needs of its client's half, as a typing protocol: L{Downstream}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sitio.http.head import Fields
from sitio.http.message import Response

if TYPE_CHECKING:
    from sitio.proxy.download import Download
    from sitio.proxy.tunnel import Tunnel


class Downstream(Protocol):
    """
    The client's side of one exchange.

    Each method speaks of this exchange only: a connection of HTTP/1.1 carries one
    exchange at a time, and closes when an exchange is aborted; other versions have
    many on one connection.

    @ivar clientAddress: the client's address without its port.
    @ivar secure: whether the client came by TLS.
    @ivar transport: the client's transport, for a L{Tunnel}.
    """

    transport: Any

    @property
    def clientAddress(self) -> str: ...

    @property
    def secure(self) -> bool: ...

    def sendInterim(self, response: Response) -> None:
        """Send an interim response."""

    def sendResponse(self, response: Response, body: bytes, download: Download | None) -> int:
        """
        Send the head of the response, and all or the first of its body.

        @param download: where the rest comes from; L{None} if there is none.  It is
            paused while the client reads too slowly.

        @return: bytes of the body that were sent.
        """

    def sendBody(self, data: bytes) -> None:
        """Send more of the body."""

    def endBody(self, trailers: Fields) -> None:
        """The body has ended."""

    def sink(self) -> int | None:
        """A descriptor for the rest of the body, or L{None} if the kernel can't move it."""

    def switch(self, response: Response, tunnel: Tunnel, data: bytes) -> None:
        """
        Send the head of a 101, and the first bytes of the new protocol.  From here on
        the tunnel takes what the client sends.
        """

    def pauseUpload(self) -> None:
        """Read no more of the request."""

    def resumeUpload(self) -> None:
        """Read on."""

    def abortExchange(self) -> None:
        """Break the response off, so that the client can't take it for a whole one."""

    def exchangeEnded(self) -> None:
        """The exchange is over; called once."""
