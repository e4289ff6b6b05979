"""
The interfaces that a connection to the upstream calls, as typing protocols.

  - L{ResponseReceiver}: takes the response to a request.
  - L{BodyReceiver}: takes the body of the response.
  - L{SpliceReceiver}: takes a body that the kernel may move.
  - L{BodySender}: sends the body of a request, and can be paused.
  - L{TunnelEnd}: takes the bytes after an upgrade.
  - L{ConnectionOwner}: the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IReactorTime

from sitio.errors import SitioError
from sitio.http.head import Fields
from sitio.http.message import Response

if TYPE_CHECKING:
    from sitio.upstream.client import ProxyClient


class BodyReceiver(Protocol):
    """Takes the body of a response, piece by piece."""

    def responseBody(self, data: bytes) -> None:
        """More of the body has arrived."""

    def responseEnded(self, trailers: Fields) -> None:
        """The body is complete.  The receiver must not use the connection any more."""


class ResponseReceiver(Protocol):
    """Takes the response to a request."""

    def interimReceived(self, response: Response) -> None:
        """An interim response has arrived (RFC 9110, section 15.2)."""

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None:
        """
        The head of the response has arrived, with this much of its body.

        @param ended: whether that is the whole response.  If so, the receiver must not
            use the connection any more.  If not, the receiver names a L{BodyReceiver}
            or leaves the connection before it returns.
        """

    def switched(self, response: Response, data: bytes) -> TunnelEnd:
        """
        The upstream has switched protocols (RFC 9110, section 7.8).

        @param data: the first bytes of the new protocol.

        @return: takes the bytes that follow.
        """

    def upstreamFailed(self, error: SitioError) -> None:
        """The response will not arrive, or stays incomplete; the connection is closed."""


class BodySender(Protocol):
    """Sends the body of a request, piece by piece."""

    def pause(self) -> None:
        """The upstream reads the body more slowly than it is sent."""

    def resume(self) -> None:
        """The upstream has caught up."""


class TunnelEnd(Protocol):
    """
    Takes the upstream's bytes after an upgrade.

    @ivar clientSide: sends the client's bytes; paused while the upstream reads too slowly.
    """

    @property
    def clientSide(self) -> BodySender: ...

    def fromUpstream(self, data: bytes) -> None:
        """Bytes have arrived from the upstream."""

    def upstreamEnded(self) -> None:
        """The upstream sends no more; it may still read."""

    def upstreamLost(self) -> None:
        """The connection to the upstream has closed."""


class SpliceReceiver(BodyReceiver, Protocol):
    """Takes a body whose rest the kernel may move (L{sitio.net.splice})."""

    def spliced(self, size: int) -> None:
        """The kernel has moved so many bytes of the body."""

    def sinkLost(self) -> None:
        """The client's connection has failed: the kernel can't send any more."""


class ConnectionOwner(Protocol):
    """
    The pool, as its connections see it.

    @ivar clock: measures their waits.
    """

    @property
    def clock(self) -> IReactorTime: ...

    def released(self, client: ProxyClient) -> None:
        """The connection is idle and may be used again."""

    def discarding(self, client: ProxyClient) -> None:
        """The connection drops an unwanted response.  C{released} or C{lost} follows."""

    def lost(self, client: ProxyClient) -> None:
        """The connection will not be used again; called once."""

    def closed(self, client: ProxyClient) -> None:
        """The connection's transport has closed; called once, after C{lost}."""
