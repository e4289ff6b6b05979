"""
What an exchange needs of the upstream half, as typing protocols: L{Connections}
and L{Connection}.
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

    @ivar carried: how many requests it has carried, the one at hand included.
    @ivar left: bytes of the response's body that have not come yet, where that is
        known; else 0.
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
        """Send a request, or its head and what has come of its body."""

    def sendBody(self, data: bytes) -> None:
        """Send more of the body."""

    def endRequest(self, trailers: Fields) -> None:
        """The body has ended."""

    def deliverTo(self, bodyReceiver: HeldResponse | Download) -> None:
        """The rest of the response's body goes to this receiver."""

    def splice(self, sink: int, receiver: Download) -> bool:
        """Let the kernel move the rest of the body; whether it does."""

    def pause(self) -> None:
        """Read no more, until C{resume}."""

    def resume(self) -> None:
        """Read on."""

    def leave(self) -> None:
        """The rest of this response is not wanted."""

    def close(self, orderly: bool = False) -> None:
        """Close it; nothing more is told to its receiver."""


class Connections(Protocol):
    """Where connections come from: a pool."""

    def takeIdle(self) -> Connection | None:
        """An idle connection, at once, or L{None}."""

    def acquire(self, fresh: bool = False) -> Deferred[Any]:
        """A L{Connection} as soon as there is one; cancel it to want it no more."""
