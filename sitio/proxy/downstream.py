"""
The client's half, as an exchange uses it: L{Downstream}, a typing protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sitio.http.head import Fields
from sitio.http.message import Request, Response
from sitio.http.peer import PeerCertificate

if TYPE_CHECKING:
    from sitio.proxy.download import Download
    from sitio.proxy.tunnel import Tunnel


class Downstream(Protocol):
    """
    The client's side of one exchange.

    Each method concerns this exchange only.  An HTTP/1.1 connection carries one
    exchange at a time and closes when an exchange is aborted.  Other versions carry
    many exchanges on one connection.

    @ivar peerAddress: the address of the connection's other end, without its port.
    @ivar secure: whether the client uses TLS.
    @ivar peer: what the client's certificate says; L{None} if it has shown none.
    @ivar transport: the client's transport, for a L{Tunnel}.
    @ivar kept: what the upstream's half keeps for the client's connection; L{None} for nothing.
    """

    transport: Any
    kept: dict[Any, Any] | None

    @property
    def peerAddress(self) -> str: ...

    @property
    def secure(self) -> bool: ...

    @property
    def peer(self) -> PeerCertificate | None: ...

    def clientOf(self, request: Request) -> str:
        """The address of the client of this request, without its port."""

    def ends(self) -> tuple[Any, Any]:
        """The addresses of both ends of the client's connection: the client's, and sitio's."""

    def sendInterim(self, response: Response) -> None:
        """Send an interim response."""

    def sendResponse(self, response: Response, body: bytes, download: Download | None) -> int:
        """
        Send the head of the response, and all or the first part of its body.

        @param download: sends the rest of the body; L{None} if C{body} is the whole.
            Paused while the client reads too slowly.

        @return: how many bytes of the body were sent.
        """

    def sendBody(self, data: bytes) -> None:
        """Send more of the body."""

    def endBody(self, trailers: Fields) -> None:
        """The body has ended."""

    def sink(self) -> int | None:
        """A file descriptor for the rest of the body; L{None} if the kernel can't move it."""

    def switch(self, response: Response, tunnel: Tunnel, data: bytes) -> None:
        """
        Send the head of a 101, and the first bytes of the new protocol.  From then on
        the tunnel gets the client's bytes.
        """

    def pauseUpload(self) -> None:
        """Stop reading the request's body."""

    def resumeUpload(self) -> None:
        """Resume reading the request's body."""

    def breakOff(self) -> None:
        """
        Break the response off, so that the client sees that it is incomplete.  A client
        that still sends sees what there is of it.
        """

    def abortExchange(self) -> None:
        """Break the response off at once: the client is gone, or its request is malformed."""

    def exchangeEnded(self) -> None:
        """The exchange is over; called once."""
