"""
The upstream half, as an exchange uses it: L{Connections} and L{Connection}, typing
protocols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred

from sitio.http.head import Fields
from sitio.http.message import Request

if TYPE_CHECKING:
    from sitio.proxy.download import Download
    from sitio.proxy.exchange import Exchange
    from sitio.proxy.heldresponse import HeldResponse
    from sitio.proxy.upload import Upload


class Connection(Protocol):
    """
    One connection to the upstream, with one request in flight at a time.

    @ivar carried: how many requests it has carried, with the current one.
    @ivar left: bytes of the response's body still to come; 0 if unknown.
    @ivar transport: its transport.
    """

    carried: int
    transport: Any

    @property
    def left(self) -> int: ...

    def sendRequest(
        self,
        receiver: Exchange,
        request: Request,
        body: bytes,
        ended: bool,
        extra: bytes,
        sender: Upload | None = None,
    ) -> None:
        """Send a request: its head, and the part of its body that has arrived."""

    def sendBody(self, data: bytes) -> None:
        """Send more of the body."""

    def endRequest(self, trailers: Fields) -> None:
        """The request's body has ended."""

    def deliverTo(self, bodyReceiver: HeldResponse | Download) -> None:
        """Pass the rest of the response's body to this receiver."""

    def splice(self, sink: int, receiver: Download) -> bool:
        """Let the kernel move the rest of the body; returns whether it does."""

    def pause(self) -> None:
        """Stop reading until C{resume}."""

    def resume(self) -> None:
        """Resume reading."""

    def leave(self) -> None:
        """Give up the rest of this response."""

    def close(self, orderly: bool = False) -> None:
        """Close the connection without another call to the receiver."""


class Connections(Protocol):
    """A pool of connections to the upstream."""

    def takeIdle(self) -> Connection | None:
        """Take an idle connection, or L{None}."""

    def acquire(self, fresh: bool = False) -> Deferred[Any]:
        """Get a L{Connection} as soon as one is free.  Cancel the Deferred to stop waiting."""
