"""
Two transports after an upgrade: L{Tunnel}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange


class ClientSide:
    """
    The direction from the client to the upstream, as the upstream's connection sees
    it: its bytes are read as fast as the upstream reads them.
    """

    __slots__ = ("_client", "_exchange")

    def __init__(self, exchange: Exchange, client: Any) -> None:
        self._exchange = exchange
        self._client = client

    def pause(self) -> None:
        """The upstream reads too slowly: read no more from the client."""
        self._client.pauseProducing()

    def resume(self) -> None:
        """The upstream has caught up."""
        self._client.resumeProducing()
        self._exchange.progress()


class Tunnel:
    """
    The client's and the upstream's transport of one exchange, once the upstream has
    answered 101 (RFC 9110, section 7.8): what one sends is written to the other.

    Each side may end its direction first (half-close), except by TLS, which has none:
    there the end of one direction ends both.
    """

    __slots__ = ("_client", "_exchange", "_halfEnded", "_upstream", "clientSide")

    def __init__(self, exchange: Exchange, client: Any, upstream: Any) -> None:
        """
        @param exchange: is told of bytes, and ended when the tunnel ends.
        @param client: the client's transport.
        @param upstream: the upstream's.
        """
        self._exchange = exchange
        self._client = client
        self._upstream = upstream
        self.clientSide = ClientSide(exchange, client)
        # Whether one direction has ended.
        self._halfEnded = False

    def fromClient(self, data: bytes) -> None:
        """Bytes have come from the client."""
        self._exchange.bytesIn += len(data)
        self._exchange.progress()
        self._upstream.write(data)

    def fromUpstream(self, data: bytes) -> None:
        """Bytes have come from the upstream."""
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
        # A transport whose halves have both ended closes only when it is told to.
        if self._halfEnded or ISSLTransport.providedBy(transport):
            self._exchange.end()
        else:
            self._halfEnded = True
            transport.loseWriteConnection()

    def upstreamLost(self) -> None:
        """The connection to the upstream has closed altogether."""
        self._exchange.end()

    # The direction from the upstream to the client, as the client's half sees it.

    def pause(self) -> None:
        """The client reads too slowly: read no more from the upstream."""
        self._upstream.pauseProducing()

    def resume(self) -> None:
        """The client has caught up."""
        self._upstream.resumeProducing()
        self._exchange.progress()
