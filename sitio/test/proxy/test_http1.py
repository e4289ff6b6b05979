"""Tests of L{sitio.proxy.http1}."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from sitio.http import framing
from sitio.http.codec import LONG_BODY_BYTES
from sitio.http.message import Request, Response
from sitio.proxy.http1 import HTTP1Downstream
from sitio.proxy.trust import ForwardedSettings


@define
class Reader:
    """A reader that is at the end of a request, or not."""

    state: str = framing.ENDED


@define
class Factory:
    """A factory that is draining, or not."""

    draining: bool = False


@define
class Context:
    """A context that adds no Date."""

    date: Any = bytes
    markLine: bytes = b""
    forwarded: ForwardedSettings = field(factory=ForwardedSettings)


@define
class Server:
    """The attributes of a server that a downstream uses."""

    reader: Reader = field(factory=Reader)
    factory: Factory = field(factory=Factory)
    transport: Any = field(factory=StringTransport)
    context: Any = field(factory=Context)
    isBacklogged: bool = False

    def exchangeEnded(self) -> None:
        """The exchange is over."""


@define
class Download:
    """A download that records whether it is paused."""

    paused: int = 0

    def pause(self) -> None:
        self.paused += 1


class ResponseTests(SynchronousTestCase):
    """Responses are framed for the client's version of HTTP."""

    def open(self, version: str = "1.1", method: str = "GET", isLast: bool = False) -> None:
        """A downstream whose client has sent a request."""
        server: Any = Server()
        self.server = server
        self.downstream = HTTP1Downstream(self.server)
        self.downstream.expect(Request(method, "/", version=version), isLast)

    def send(self, body: bytes, download: Any = None) -> bytes:
        """Send a response with all or the first part of this body; return the client's bytes."""
        self.sent = self.downstream.sendResponse(Response(200), body, download)
        return self.got()

    def got(self) -> bytes:
        """The client's bytes since the last call."""
        transport = self.server.transport
        data: bytes = transport.value()
        transport.clear()
        return data

    def test_versions(self) -> None:
        """
        A Connection field is sent where close or keep-alive is not the default of the
        version.
        """
        for version, isLast, line in (
            ("1.1", False, b""),
            ("1.0", False, b"Connection: keep-alive\r\n"),
            ("1.1", True, b"Connection: close\r\n"),
            ("1.0", True, b"Connection: close\r\n"),
        ):
            self.open(version, isLast=isLast)
            wanted = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + line + b"\r\nhi"
            self.assertEqual(self.send(b"hi"), wanted, version)
            self.assertEqual((self.downstream.isLast, self.sent), (isLast, 2))

    def test_last(self) -> None:
        """The connection closes if the request is not complete, or if sitio stops."""
        for reading, draining in ((framing.LENGTH, False), (framing.ENDED, True)):
            self.open()
            self.server.reader.state = reading
            self.server.factory.draining = draining
            self.assertIn(b"Connection: close\r\n", self.send(b"hi"))
            self.assertTrue(self.downstream.isLast)

    def test_untilClose(self) -> None:
        """For HTTP/1.0 a body of unknown length ends with the connection."""
        self.open("1.0")
        got = self.send(b"hi", Download())
        self.assertEqual(got, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi")
        self.assertTrue(self.downstream.isLast)
        self.downstream.sendBody(b"more")
        self.downstream.endBody([])
        self.assertEqual(self.got(), b"more")

    def test_chunks(self) -> None:
        """For HTTP/1.1 it is sent in chunks; the size counts without the chunk framing."""
        self.open()
        got = self.send(b"hi", Download())
        self.assertEqual(got, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        self.assertEqual((self.downstream.isLast, self.sent), (False, 2))
        self.downstream.sendBody(b"more")
        self.downstream.endBody([(b"X", b"y")])
        self.assertEqual(self.got(), b"4\r\nmore\r\n0\r\nX: y\r\n\r\n")

    def test_noBody(self) -> None:
        """A response to HEAD has a Content-Length and no body."""
        self.open(method="HEAD")
        self.assertEqual(self.send(b"hi"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(self.sent, 0)
        self.downstream.sendBody(b"more")
        self.downstream.endBody([])
        self.assertEqual(self.got(), b"")

    def test_long(self) -> None:
        """A long body is written separately from its head, without a copy."""
        self.open()
        pieces: list[Any] = []
        self.patch(self.server.transport, "writeSequence", pieces.extend)
        body = bytes(LONG_BODY_BYTES)
        self.send(body)
        self.assertIs(pieces[1], body)

    def test_interim(self) -> None:
        """An HTTP/1.0 client gets no interim response."""
        for version, wanted in (("1.1", b"HTTP/1.1 103 Early Hints\r\n\r\n"), ("1.0", b"")):
            self.open(version)
            self.downstream.sendInterim(Response.fromWire(103, "Early Hints", []))
            self.assertEqual(self.got(), wanted)

    def test_requestChanged(self) -> None:
        """
        A policy that changes the request's method does not change the framing of the
        response.
        """
        self.open()
        request = Request("HEAD", "/")
        self.downstream.expect(request, False)
        request.method = "GET"
        self.assertNotIn(b"hi", self.send(b"hi"))

    def test_backlogged(self) -> None:
        """A source that starts while the write buffer is full is paused at once."""
        self.open()
        self.server.isBacklogged = True
        download = Download()
        self.send(b"hi", download)
        self.assertEqual(download.paused, 1)
        self.assertIs(self.downstream.sink(), None)

    def test_client(self) -> None:
        """The client's address comes from its transport."""
        self.open()
        self.server.transport.peerAddr = IPv4Address("TCP", "192.0.2.1", 4711)
        self.downstream.identifyClient()
        self.assertEqual(
            (self.downstream.peerAddress, self.downstream.secure), ("192.0.2.1", False)
        )
        self.open()
        self.server.transport.peerAddr = object()
        self.assertEqual(self.downstream.peerAddress, "unknown")
