"""
The client's side of the exchanges on a connection of HTTP/1.1: L{HTTP1Downstream}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport

from sitio.http.framing import ENDED
from sitio.http.head import Fields
from sitio.http.message import Response
from sitio.http.writer import LENGTH, NO_BODY, ResponseWriter
from sitio.net.splice import descriptorOf
from sitio.proxy.forwarding import Forwarding

if TYPE_CHECKING:
    from sitio.proxy.download import Download
    from sitio.proxy.server import ProxyServer
    from sitio.proxy.tunnel import Tunnel


class HTTP1Downstream:
    """
    A L{Downstream<sitio.proxy.downstream.Downstream>} for one exchange after the other:
    it writes each response as this client understands it.

    @ivar writer: frames the responses.
    @ivar forwarding: the fields that requests of this client get, once it is known.
    @ivar isLast: whether the connection closes after the response at hand.
    @ivar source: where the rest of the bytes comes from; paused while the client reads
        too slowly.
    @ivar transport: the client's.
    """

    __slots__ = ("_server", "forwarding", "isLast", "source", "transport", "writer")

    def __init__(self, server: ProxyServer) -> None:
        self.isLast = False
        self.source: Download | Tunnel | None = None
        self.transport: Any = server.transport
        self._server = server
        self.writer = ResponseWriter()
        # Made with the first request: behind a haproxy: endpoint the address is known
        # only then.
        self.forwarding: Forwarding | None = None

    def identifyClient(self) -> Forwarding:
        """Find out who the client is, and which fields its requests get."""
        address = getattr(self.transport.getPeer(), "host", None) or "unknown"
        secure = ISSLTransport.providedBy(self.transport)
        self.forwarding = Forwarding(self._server.context, address, secure)
        return self.forwarding

    @property
    def clientAddress(self) -> str:
        """The client's address without its port."""
        return (self.forwarding or self.identifyClient()).clientAddress

    @property
    def secure(self) -> bool:
        """Whether the client came by TLS."""
        return (self.forwarding or self.identifyClient()).secure

    def sendInterim(self, response: Response) -> None:
        """Send an interim response."""
        data = self.writer.interim(response)
        if data:
            self.transport.write(data)

    def sendResponse(self, response: Response, body: bytes, download: Download | None) -> int:
        """Send the head of the response, and all or the first of its body."""
        # No request can follow one that is not whole, or when sitio stops.
        server = self._server
        isLast = self.isLast or server.reader.state is not ENDED or server.factory.draining
        pieces, self.isLast = self.writer.begin(response, body, download is None, isLast)
        if len(pieces) == 1:
            self.transport.write(pieces[0])
        else:
            self.transport.writeSequence(pieces)
        if download is not None:
            self._take(download)
        return 0 if self.writer.framing is NO_BODY else len(body)

    def _take(self, source: Download | Tunnel) -> None:
        self.source = source
        if self._server.isBacklogged:
            # Some transports ask for a pause only once.
            source.pause()

    def sendBody(self, data: bytes) -> None:
        """Send more of the body."""
        data = self.writer.body(data)
        if data:
            self.transport.write(data)

    def sink(self) -> int | None:
        """A descriptor for the rest of a body of known length, or L{None}."""
        if self.writer.framing is not LENGTH or self._server.isBacklogged:
            return None
        return descriptorOf(self.transport, written=True)

    def endBody(self, trailers: Fields) -> None:
        """The body has ended."""
        tail = self.writer.end(trailers)
        if tail:
            self.transport.write(tail)

    def switch(self, response: Response, tunnel: Tunnel, data: bytes) -> None:
        """Send the head of a 101 and the first bytes of the tunnel, both ways."""
        self.transport.write(self.writer.interim(response))
        tunnel.fromUpstream(data)
        self._take(tunnel)
        self._server.switched(tunnel)

    def pauseUpload(self) -> None:
        """Read no more of the request."""
        self._server.pause()

    def resumeUpload(self) -> None:
        """Read on, unless too much is held of the requests that follow."""
        self._server.readOn()

    def abortExchange(self) -> None:
        """Break the response off, which a connection of HTTP/1.1 does not survive."""
        self._server.abort()

    def exchangeEnded(self) -> None:
        """The exchange is over."""
        self.source = None
        self._server.exchangeEnded(self.isLast)
