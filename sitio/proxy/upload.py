"""
A request body that streams: L{Upload}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sitio.http.framing import NO_TRAILERS
from sitio.http.head import Fields
from sitio.interfaces import ExchangeState
from sitio.proxy.downstream import Downstream
from sitio.proxy.upstream import Connection

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange

#: The states in which there is no connection to the upstream yet.
_BEFORE_CONNECTION = (ExchangeState.DECIDING, ExchangeState.CONNECTING, ExchangeState.RESTING)


class Upload:
    """
    Passes a request body that did not arrive whole with its head from the client to the
    upstream's connection.

    It buffers the bytes that arrive before there is a connection.  It keeps a copy of a
    short body, so that the request can be sent again.

    @ivar ended: whether the whole body has arrived.
    @ivar trailers: the trailer fields after the body, once it has ended.
    @ivar paused: whether the upstream has asked for a pause.
    """

    __slots__ = ("_copy", "_downstream", "_exchange", "_limit", "_waiting", "ended", "paused",
                 "trailers")  # fmt: skip

    def __init__(
        self, exchange: Exchange, downstream: Downstream, first: bytes, keepCopy: bool
    ) -> None:
        """
        @param first: the part of the body that arrived with the head.
        @param keepCopy: whether the request's method allows a second attempt.
        """
        self.ended = False
        self.paused = False
        self.trailers = NO_TRAILERS
        self._exchange = exchange
        self._downstream = downstream
        self._limit = exchange.context.settings.replayLimit
        self._waiting = first
        self._copy: bytes | None = first if keepCopy else None

    @property
    def isRepeatable(self) -> bool:
        """Whether the whole body has arrived and can be sent again."""
        return self.ended and self._copy is not None

    def replace(self, body: bytes) -> None:
        """Send a policy's body instead.  The rest of the client's is read and dropped."""
        self._waiting = body
        if self._copy is not None:
            self._copy = body
        self.trailers = NO_TRAILERS
        if not self.ended:
            self.ended = True
            self._downstream.resumeUpload()

    def sendBy(self, connection: Connection, extra: bytes) -> None:
        """
        Send the request: its head, and the part of its body that has arrived.

        @param extra: lines to add to the head.
        """
        if not self.ended:
            # Before the write, which may pause it again.
            self._downstream.resumeUpload()
        ended = self.ended and not self.trailers
        body, self._waiting = self._waiting, b""
        connection.sendRequest(self._exchange, self._exchange.request, body, ended, extra, self)
        if self.ended and not ended:
            connection.endRequest(self.trailers)

    def rewind(self) -> None:
        """Prepare the next attempt: it sends the body from its beginning."""
        if self._copy is not None:
            self._waiting = self._copy

    # Called by the client's half.

    def receive(self, data: bytes) -> None:
        """More of the body has arrived."""
        exchange = self._exchange
        exchange.bytesIn += len(data)
        if self.ended:
            return
        if self._copy is not None:
            fits = len(self._copy) + len(data) <= self._limit
            self._copy = self._copy + data if fits else None
        if exchange.connection is not None:
            exchange.connection.sendBody(data)
            exchange.progress()
        elif exchange.state in _BEFORE_CONNECTION:
            self._waiting += data
            # Not earlier: sitio notices a disconnect only while it reads.
            if len(self._waiting) > self._limit:
                self._downstream.pauseUpload()

    def finish(self, trailers: Fields) -> None:
        """The whole body has arrived."""
        if self.ended:
            return
        exchange = self._exchange
        self.ended = True
        self.trailers = trailers
        # The pause was for the body.  Pipelined requests after it have their own limit.
        self.paused = False
        self._downstream.resumeUpload()
        if exchange.connection is not None:
            exchange.connection.endRequest(trailers)
            if exchange.state is ExchangeState.WAITING:
                exchange.progress()

    # Called by the upstream's connection.

    def pause(self) -> None:
        """The upstream reads the body more slowly than the client sends it."""
        if not self.ended:
            self.paused = True
            self._downstream.pauseUpload()

    def resume(self) -> None:
        """The upstream has caught up."""
        if not self.ended:
            self.paused = False
            self._downstream.resumeUpload()
            # Bytes have moved: the client's timeout for the next bytes starts now.
            self._exchange.progress()
