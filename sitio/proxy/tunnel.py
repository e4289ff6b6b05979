"""
Two transports after an upgrade: L{Tunnel}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport

from sitio.proxy.downstream import Downstream
from sitio.proxy.upstream import Connection

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange


class ClientSide:
    """
    The direction from the client to the upstream, as the upstream's connection sees
    it.  Reading from the client pauses while the upstream reads too slowly.
    """

    __slots__ = ("_downstream", "_exchange")

    def __init__(self, exchange: Exchange, downstream: Downstream) -> None:
        self._exchange = exchange
        self._downstream = downstream

    def pause(self) -> None:
        """The upstream reads too slowly: stop reading from the client."""
        self._downstream.pauseUpload()

    def resume(self) -> None:
        """The upstream has caught up."""
        self._downstream.resumeUpload()
        self._exchange.progress()


class Tunnel:
    """
    Copies bytes between the client's and the upstream's transport after the upstream
    has answered 101 (RFC 9110, section 7.8).

    Each side may end its direction first (half-close).  TLS has no half-close: there the
    end of one direction ends both.
    """

    __slots__ = ("_client", "_connection", "_exchange", "_halfEnded", "_upstream", "clientSide")

    def __init__(self, exchange: Exchange, downstream: Downstream, connection: Connection) -> None:
        """@param exchange: counts the bytes, and ends with the tunnel."""
        self._exchange = exchange
        self._client = downstream.transport
        self._connection = connection
        self._upstream = connection.transport
        self.clientSide = ClientSide(exchange, downstream)
        # Whether one direction has ended.
        self._halfEnded = False

    def fromClient(self, data: bytes) -> None:
        """Bytes have arrived from the client."""
        self._exchange.bytesIn += len(data)
        self._exchange.progress()
        self._upstream.write(data)

    def fromUpstream(self, data: bytes) -> None:
        """Bytes have arrived from the upstream."""
        self._exchange.bytesOut += len(data)
        self._exchange.progress()
        self._client.write(data)

    def clientEnded(self) -> None:
        """The client sends no more; the upstream still may."""
        self._endWriting(self._upstream)

    def upstreamEnded(self) -> None:
        """The upstream sends no more; the client still may."""
        self._endWriting(self._client)

    def _endWriting(self, transport: Any) -> None:
        # A transport with both halves closed must still be closed explicitly.
        if self._halfEnded or ISSLTransport.providedBy(transport):
            self._exchange.end()
        else:
            self._halfEnded = True
            transport.loseWriteConnection()

    def upstreamLost(self) -> None:
        """The connection to the upstream has closed."""
        self._exchange.end()

    # The direction from the upstream to the client, as the client's half sees it.

    def pause(self) -> None:
        """The client reads too slowly: stop reading from the upstream."""
        self._connection.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._connection.resume()
        self._exchange.progress()
