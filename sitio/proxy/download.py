"""
A response body that streams: L{Download}.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sitio.errors import SitioError
from sitio.http.head import Fields
from sitio.net.splice import MIN_SPLICE_BYTES
from sitio.proxy.downstream import Downstream
from sitio.proxy.filters import Filters

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange


class Download:
    """
    Passes the rest of a response's body from the upstream's connection to the client.

    Each piece goes through the response's filters, if it has any.  Without filters the
    kernel moves a long rest, if both transports allow it.
    """

    __slots__ = ("_downstream", "_exchange", "_filters", "_last", "_length")

    def __init__(self, exchange: Exchange, downstream: Downstream, filters: Filters | None) -> None:
        self._exchange = exchange
        self._downstream = downstream
        self._filters = filters
        # The end of a filtered body of known length, until the filters have seen the end.
        self._last = b""
        self._length: int | None = None
        if filters is not None and (response := exchange.response) is not None:
            if all(each.keepsLength for each in response.filters or ()):
                self._length = response.length

    # Called by the upstream's connection.

    def responseBody(self, data: bytes) -> None:
        """More of the body has arrived."""
        exchange = self._exchange
        filters = self._filters
        if filters is not None:
            try:
                data = filters.apply(data)
            except SitioError as error:
                exchange.abort(error)
                return
            if self._length is not None and exchange.bytesOut + len(data) == self._length:
                # The client would take it for the whole response.
                self._last, data = data, b""
        if data:
            exchange.bytesOut += len(data)
            self._downstream.sendBody(data)
        exchange.progress()
        connection = exchange.connection
        if connection is not None and not filters and connection.left >= MIN_SPLICE_BYTES:
            sink = self._downstream.sink()
            if sink is not None and not connection.splice(sink, self):
                os.close(sink)

    def responseEnded(self, trailers: Fields) -> None:
        """The body is complete."""
        exchange = self._exchange
        exchange.connection = None
        if self._filters is not None:
            try:
                last = self._last + self._filters.apply(b"")
            except SitioError as error:
                exchange.abort(error)
                return
            if last:
                exchange.bytesOut += len(last)
                self._downstream.sendBody(last)
        self._downstream.endBody(trailers)
        exchange.end()

    def spliced(self, size: int) -> None:
        """The kernel has moved so many bytes of the body."""
        self._exchange.bytesOut += size
        self._exchange.progress()

    def sinkLost(self) -> None:
        """The kernel reports that the client's connection has failed."""
        self._downstream.abortExchange()
        self._exchange.clientGone()

    # Called by the client's half.

    def pause(self) -> None:
        """The client reads more slowly than the response is sent."""
        if self._exchange.connection is not None:
            self._exchange.connection.pause()

    def resume(self) -> None:
        """The client has caught up."""
        if self._exchange.connection is not None:
            self._exchange.connection.resume()
            self._exchange.progress()
