"""
A request body that a policy wants whole: L{BufferedRequest}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from sitio.errors import BodyTooLong, BuffersFull, SitioError
from sitio.http.message import Response
from sitio.net.deadlines import NEVER
from sitio.proxy.downstream import Downstream

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange
    from sitio.proxy.upload import Upload

#: What keeps policies from a body, or L{None}; it may still have to come.
Collected = SitioError | Deferred[SitioError | None] | None


class BufferedRequest:
    """
    Collects a request's body for the policies, while they wait for it.

    The body is collected to its end or to the limit of one, as far as all that is buffered
    leaves room (L{Buffers<sitio.proxy.buffers.Buffers>}).  A client that waits for 100
    (Continue) gets it from here (RFC 9110, section 10.1.1).

    The bytes stay until the exchange ends: they are what is sent, and sent again.
    """

    __slots__ = ("_body", "_exchange", "_reserved", "_upload", "_waiter")

    def __init__(self, exchange: Exchange, upload: Upload) -> None:
        self._exchange = exchange
        self._upload = upload
        # Not a list of pieces: a client may send its body byte by byte.
        self._body = bytearray()
        self._reserved = 0
        self._waiter: Deferred[SitioError | None] | None = None

    @property
    def isCollecting(self) -> bool:
        """Whether policies wait for the rest of the body."""
        return self._waiter is not None

    def collect(self, first: bytes, ended: bool) -> Collected:
        """
        Collect the body.

        @param first: the part that has arrived.
        @param ended: whether that is all of it.

        @return: L{None}, or why policies can't have the body, now or later.
        """
        error = self._add(first)
        if error is not None:
            return error
        if ended:
            self._fill()
            return None
        # The canceller: the exchange has ended meanwhile, and fires nothing.
        waiter: Deferred[SitioError | None] = Deferred(self._givenUp)
        self._waiter = waiter
        self._exchange.progress()
        return waiter

    def _givenUp(self, waiter: Deferred[SitioError | None]) -> None:
        self._waiter = None

    def receive(self, data: bytes) -> None:
        """More of the body has arrived."""
        error = self._add(data)
        if error is None:
            self._exchange.progress()
        else:
            self._settle(error)

    def finish(self) -> None:
        """The whole body has arrived."""
        self._fill()
        self._settle(None)

    def _add(self, data: bytes) -> SitioError | None:
        """Count a piece, as far as the length is not known before, and store it."""
        body = self._body
        body += data
        expected = max(self._exchange.request.length or 0, len(body))
        context = self._exchange.context
        limit = self._exchange.route.settings.requestBufferLimit
        if expected > limit:
            self._leave()
            return BodyTooLong(f"a body of more than {limit} bytes")
        more = expected - self._reserved
        if more > 0:
            if not context.buffers.reserve(more):
                self._leave()
                return BuffersFull("no room for the request's body in --buffer-total")
            self._reserved += more
        return None

    def _leave(self) -> None:
        """The body streams: a policy that fails open is skipped."""
        self.release()
        body, self._body = bytes(self._body), bytearray()
        self._upload.stream(body)

    def _fill(self) -> None:
        body, self._body = bytes(self._body), bytearray()
        self._exchange.request.content = body
        self._upload.hold(body)

    def _settle(self, error: SitioError | None) -> None:
        # From here on the policies have their own timeout.
        self._exchange.deadline = NEVER
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(error)

    def release(self) -> None:
        """The exchange needs the body no more."""
        reserved, self._reserved = self._reserved, 0
        self._exchange.context.buffers.release(reserved)


def wholeRequest(exchange: Exchange, downstream: Downstream) -> Collected:
    """
    Put the whole body of a request into C{request.body}.

    @return: L{None}, or why policies can't have it, now or later.
    """
    upload = exchange.upload
    request = exchange.request
    if upload is not None:
        collected = upload.collect()
        if (
            upload.isCollecting
            and not upload.hasArrived
            and _expectsContinue(request.version, request.headers.get("Expect"))
        ):
            # sitio answers what the client waits for, so the upstream must not.
            del request.headers["Expect"]
            upload.continued = True
            downstream.sendInterim(Response.fromWire(100, "Continue", []))
        return collected
    limit = exchange.route.settings.requestBufferLimit
    if len(request.arrived) > limit:
        return BodyTooLong(f"a body of more than {limit} bytes")
    request.content = request.arrived
    return None


def _expectsContinue(version: str, value: str | None) -> bool:
    # An expectation in HTTP/1.0 is ignored (RFC 9110, section 10.1.1).
    return version != "1.0" and value is not None and value.strip().lower() == "100-continue"
