"""
The client's side of the exchanges on an HTTP/1.1 connection: L{HTTP1Downstream}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ISSLTransport

from sitio.http import codec
from sitio.http.framing import ENDED
from sitio.http.head import Fields
from sitio.http.message import Request, Response
from sitio.http.peer import PeerCertificate, peerOf
from sitio.http.writer import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, framingFor
from sitio.net.splice import descriptorOf
from sitio.proxy.forwarding import Forwarding

if TYPE_CHECKING:
    from sitio.proxy.download import Download
    from sitio.proxy.server import ProxyServer
    from sitio.proxy.tunnel import Tunnel


_CLOSE = b"Connection: close\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n"


def isDated(response: Response) -> bool:
    """Whether a response has a Date."""
    headers = response.fields
    # The first search is the faster one, and finds most.  By find: to ask whether bytes are in
    # others raises and catches a TypeError within Python.
    return headers.lines.find(b"\nDate:") >= 0 or headers.lowered().find(b"\ndate:") >= 0


class HTTP1Downstream:
    """
    A L{Downstream<sitio.proxy.downstream.Downstream>} for one exchange after another.
    It frames each response for the client's version of HTTP.

    @ivar peerAddress: the address of the connection's other end, without its port.
    @ivar secure: whether the client came by TLS.
    @ivar forwarding: the fields that are added to this client's requests; L{None}
        before the first request, and when the settings have changed.
    @ivar kept: see L{Downstream<sitio.proxy.downstream.Downstream>}.
    @ivar isLast: whether the connection closes after the current response.
    @ivar source: sends the rest of the bytes; paused while the client reads too slowly.
    @ivar transport: the client's transport.
    """

    __slots__ = (
        "_certificate",
        "_framing",
        "_isHTTP11",
        "_method",
        "_server",
        "_settings",
        "exchangeEnded",
        "forwarding",
        "isLast",
        "kept",
        "peerAddress",
        "secure",
        "source",
        "transport",
    )

    def __init__(self, server: ProxyServer) -> None:
        self.isLast = False
        self.source: Download | Tunnel | None = None
        self.transport: Any = server.transport
        self._server = server
        self._framing = NO_BODY
        self._method = ""
        self._isHTTP11 = True
        # Bound here, as it is called at the end of each exchange.
        self.exchangeEnded = server.exchangeEnded
        self.peerAddress = "unknown"
        self.secure = False
        # Of the client: OpenSSL's, until somebody wants to know what is in it.
        self._certificate: Any = None
        self.forwarding: Forwarding | None = None
        self.kept: dict[Any, Any] | None = None

    def identifyClient(self) -> Forwarding:
        """
        Find out who the client is, and which fields its requests get.

        Call it with the first request: a connection without one does not need them.
        """
        self.peerAddress = getattr(self.transport.getPeer(), "host", None) or "unknown"
        self.secure = ISSLTransport.providedBy(self.transport)
        if self.secure and self._certificate is None:
            # Now, as TLS forgets it when the connection ends.
            self._certificate = self.transport.getPeerCertificate()
        self.forwarding = forwarding = Forwarding(
            self._server.context, self.peerAddress, self.secure
        )
        self._settings = forwarding.settings
        return forwarding

    def clientOf(self, request: Request) -> str:
        """The address of the client of this request, without its port."""
        return self._settings.clientOf(self.peerAddress, request.received)

    def ends(self) -> tuple[Any, Any]:
        """The addresses of both ends of the client's connection: the client's, and sitio's."""
        return self.transport.getPeer(), self.transport.getHost()

    @property
    def peer(self) -> PeerCertificate | None:
        """What the client's certificate says; L{None} if it has shown none."""
        found = self._certificate
        if found is not None and not isinstance(found, PeerCertificate):
            found = self._certificate = peerOf(found.to_cryptography())
        return found

    def expect(self, request: Request, isLast: bool) -> None:
        """
        Set the request that the next response answers.

        Its method and version are saved now, as a policy may change the request later.

        @param isLast: whether the connection must close after the response.
        """
        self._method = request.line.method
        self._isHTTP11 = request.version == "1.1"
        self.isLast = isLast

    def sendInterim(self, response: Response) -> None:
        """Send an interim response, except to HTTP/1.0 clients (RFC 9110, section 15.2)."""
        if self._isHTTP11:
            self.transport.write(codec.responseHead(response, None))

    def sendResponse(self, response: Response, body: bytes, download: Download | None) -> int:
        """Send the head of the response, and all or the first part of its body."""
        filters = response.filters
        framing, length = framingFor(
            self._method,
            response.status,
            self._isHTTP11,
            response.length,
            len(body) if download is None else None,
            filters is not None and not all(each.keepsLength for each in filters),
        )
        self._framing = framing
        server = self._server
        extra = b"" if self._isHTTP11 else _KEEP_ALIVE
        if (
            self.isLast
            or framing is UNTIL_CLOSE
            or server.reader.state is not ENDED  # The request is not complete.
            or server.factory.draining
        ):
            self.isLast = True
            extra = _CLOSE
        if not isDated(response):
            extra += server.context.date()
        if framing is NO_BODY:
            body = b""
        head = codec.responseHead(response, length, chunked=framing is CHUNKED, extra=extra)
        size = len(body)
        if framing is CHUNKED:
            body = codec.chunk(body)
        if size < codec.LONG_BODY_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writeSequence((head, body))
            if download is None and server.isBacklogged:
                server.holdUntilSent(size)
        if download is not None:
            self._take(download)
        return size

    def _take(self, source: Download | Tunnel) -> None:
        self.source = source
        if self._server.isBacklogged:
            # Some transports ask for a pause only once.
            source.pause()

    def sendBody(self, data: bytes) -> None:
        """Send more of the body."""
        if self._framing is not NO_BODY:
            self.transport.write(codec.chunk(data) if self._framing is CHUNKED else data)

    @property
    def endsByClose(self) -> bool:
        """Whether the end of the connection is the end of the response."""
        return self._framing is UNTIL_CLOSE

    def sink(self) -> int | None:
        """A file descriptor for the rest of a body of known length, or L{None}."""
        if self._framing is not LENGTH or self._server.isBacklogged:
            return None
        return descriptorOf(self.transport, written=True)

    def endBody(self, trailers: Fields) -> None:
        """The body has ended."""
        if self._framing is CHUNKED:
            self.transport.write(codec.lastChunk(trailers))

    def switch(self, response: Response, tunnel: Tunnel, data: bytes) -> None:
        """Send the head of a 101 and the first bytes of the tunnel, both ways."""
        self.transport.write(codec.responseHead(response, None))
        if data:
            tunnel.fromUpstream(data)
        self._take(tunnel)
        self._server.switched(tunnel)

    def pauseUpload(self) -> None:
        """Stop reading the request's body."""
        self._server.pause()

    def resumeUpload(self) -> None:
        """Resume reading, unless the buffer of pipelined requests is full."""
        self._server.readOn()

    def endSending(self) -> None:
        """Tell the client that no more comes, and read on.  No producer is registered."""
        if not self.secure:
            self.transport.loseWriteConnection()
        elif (notifyClose := getattr(self.transport, "notifyClose", None)) is not None:
            # TLS of sitio's own ports.  Twisted's has no half-close.
            notifyClose()

    def breakOff(self) -> None:
        """Break the response off: the end of the connection comes too early."""
        self._server.breakOff()

    def abortExchange(self) -> None:
        """Break the response off by a reset."""
        self._server.abort()
