"""
What a connection to the upstream calls: interfaces, as typing protocols.

  - L{ResponseReceiver}: whoever sent a request on it.
  - L{BodyReceiver}: whoever takes the body of the response.
  - L{TunnelEnd}: whoever takes the bytes after an upgrade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sitio.errors import SitioError
from sitio.http.head import Fields
from sitio.http.message import Response

if TYPE_CHECKING:
    from sitio.upstream.client import ProxyClient


class BodyReceiver(Protocol):
    """Takes the body of a response, piece by piece."""

    def responseBody(self, data: bytes) -> None:
        """More of the body has come."""

    def responseEnded(self, trailers: Fields) -> None:
        """The body has come to its end, and the connection is no longer the caller's."""


class ResponseReceiver(Protocol):
    """Takes the response to a request."""

    def interimReceived(self, response: Response) -> None:
        """An interim response has come (RFC 9110, section 15.2)."""

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None:
        """
        The head of the response has come, and this much of its body with it.

        @param ended: whether that is the whole response; then the connection is no
            longer the receiver's.  If it is not, and the receiver does not leave the
            connection, it names a L{BodyReceiver} before it returns.
        """

    def switched(self, response: Response, data: bytes) -> TunnelEnd:
        """
        The upstream has switched protocols (RFC 9110, section 7.8).

        @param data: the first bytes of the new protocol.

        @return: who takes what follows.
        """

    def upstreamFailed(self, error: SitioError) -> None:
        """No response, or no more of it, will come; the connection is closed."""


class BodySender(Protocol):
    """Sends the body of a request, piece by piece."""

    def pause(self) -> None:
        """The upstream reads the body more slowly than it is sent."""

    def resume(self) -> None:
        """The upstream has caught up."""


class TunnelEnd(Protocol):
    """
    Takes the upstream's bytes after an upgrade.

    @ivar clientSide: sends the client's bytes, and is paused while they pile up.
    """

    @property
    def clientSide(self) -> BodySender: ...

    def fromUpstream(self, data: bytes) -> None:
        """Bytes have come."""

    def upstreamEnded(self) -> None:
        """The upstream sends no more; it may still read."""

    def upstreamLost(self) -> None:
        """The connection has closed altogether."""


class SpliceReceiver(BodyReceiver, Protocol):
    """Takes a body of which the kernel may move the rest (L{sitio.net.splice})."""

    def spliced(self, size: int) -> None:
        """The kernel has moved so many bytes of the body."""

    def sinkLost(self) -> None:
        """The kernel can't send any more of it: the client's connection has failed."""


class ConnectionOwner(Protocol):
    """What a connection tells its pool."""

    def released(self, client: ProxyClient) -> None:
        """It is idle and may be used again."""

    def discarding(self, client: ProxyClient) -> None:
        """It reads the rest of an unwanted response, and will be released or lost."""

    def lost(self, client: ProxyClient) -> None:
        """It will not be used again; called once."""

    def closed(self, client: ProxyClient) -> None:
        """Its transport has closed; called once, after C{lost}."""
