"""
The upstream half, as an exchange uses it, as typing protocols: L{Upstream}, its L{Endpoint}s,
their L{Connections}, and each L{Connection}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred

from sitio.errors import SitioError
from sitio.http.head import Fields
from sitio.http.message import Request, Response

if TYPE_CHECKING:
    from sitio.proxy.download import Download
    from sitio.proxy.heldresponse import HeldResponse
    from sitio.proxy.tunnel import Tunnel
    from sitio.proxy.upload import Upload
    from sitio.proxy.visible import VisibleExchange


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
        receiver: Receiver,
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


class Receiver(Protocol):
    """Takes the response to a request; an L{Exchange}, or what stands for it."""

    def interimReceived(self, response: Response) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}, as all below."""

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None: ...

    def switched(self, response: Response, data: bytes) -> Tunnel: ...

    def upstreamFailed(self, error: SitioError) -> None: ...


class Slots(Protocol):
    """Bounds the connections that are held by requests with incomplete bodies."""

    def take(self) -> bool:
        """Take a slot if one is free."""

    def wait(self) -> Deferred[bool]:
        """Take a slot as soon as one is free.  Cancel the Deferred to stop waiting."""

    def skip(self, waiter: Deferred[bool]) -> None:
        """One that waits needs no slot any more."""

    def release(self) -> None:
        """Give a slot back."""


class Connections(Protocol):
    """
    A pool of connections to one endpoint.

    @ivar uploads: the slots for requests with incomplete bodies.
    """

    @property
    def uploads(self) -> Slots: ...

    def takeIdle(self) -> Connection | None:
        """Take an idle connection, or L{None}."""

    def acquire(self, fresh: bool = False) -> Deferred[Any]:
        """Get a L{Connection} as soon as one is free.  Cancel the Deferred to stop waiting."""


class Endpoint(Protocol):
    """
    One of the addresses of an upstream.

    @ivar address: as metrics and logs name it.
    """

    @property
    def address(self) -> str: ...

    @property
    def pool(self) -> Connections: ...

    def answered(self, status: int, seconds: float) -> None:
        """An attempt got the head of a response, after so many seconds."""

    def failed(self, error: SitioError) -> None:
        """An attempt failed."""


class Budget(Protocol):
    """
    Counts requests, and allows retries in proportion.

    @ivar requests: those that have begun in the current second.
    @ivar until: the end of that second.
    @ivar hedges: how many of the retries ran beside the first attempt.
    """

    requests: int
    until: float
    hedges: int

    def turn(self, now: float) -> None:
        """A second has ended."""

    def spend(self, now: float) -> bool:
        """Take one retry; returns whether there was one left."""

    def note(self, now: float) -> None:
        """Count a retry that happens in any case."""


class Retries(Protocol):
    """
    How sitio itself sends requests to an upstream again.

    @ivar attempts: of one request, the first included.
    @ivar perTryTimeout: seconds of one attempt to the head of its response, or L{None}.
    @ivar hedgeAfter: seconds after which a second attempt runs beside the first, or L{None}.
    """

    attempts: int
    perTryTimeout: float | None
    hedgeAfter: float | None

    def pause(self, attempts: int, response: Response) -> float | None:
        """
        Seconds until the next attempt; L{None} if the response asks for too long a pause.

        @param attempts: those that were made.
        """


class Upstream(Protocol):
    """
    A service behind sitio.

    @ivar name: as routes and policies name it.
    """

    @property
    def budget(self) -> Budget:
        """Allows each retry, whoever asks for it."""

    @property
    def retries(self) -> Retries | None:
        """
        How sitio itself sends requests again; L{None} if it does not.  An upstream that has them
        has no C{only}.
        """

    @property
    def name(self) -> str: ...

    @property
    def pools(self) -> Sequence[Any]:
        """The pools of all endpoints."""

    def start(self) -> None:
        """Begin to look for endpoints, and at them.  Called once."""

    def stop(self) -> Deferred[None]:
        """
        End that, and close all connections.  Called once no exchange needs it any more.

        @return: fires when all connections are closed.
        """

    @property
    def only(self) -> Endpoint | None:
        """
        The endpoint, if there is one that never changes and that nothing judges: then exchanges
        take its pool without a choice, and tell it nothing.
        """

    def choose(self, exchange: VisibleExchange, tried: Sequence[Endpoint]) -> Endpoint | None:
        """
        The endpoint for the next attempt.

        @param tried: those of this exchange so far, which are avoided if there are others.

        @return: L{None} if there is none at all.
        """
