"""
Promises of L{sitio.client}: one connection to the upstream, in exact octets.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio import client as states, framing
from sitio.client import ProxyClient, ProxyClientFactory
from sitio.errors import Reached, SitioError, UpstreamLost
from sitio.message import Headers, Request, Response
from sitio.testing import HALF_CLOSED, Peer


@define
class Heard:
    """An exchange that notes down what it is told; C{onReply} may act on the head."""

    said: list[Any] = field(factory=list)
    onReply: Any = None

    def informed(self, response: Response) -> None:
        self.said.append(("informed", response.status))

    def replyReceived(self, response: Response, body: bytes, ended: bool) -> None:
        self.said.append(("reply", response.status, body, ended))
        if self.onReply is not None:
            self.onReply()

    def replyBody(self, data: bytes) -> None:
        self.said.append(("body", data))

    def replyEnded(self, trailers: framing.Fields) -> None:
        self.said.append(("ended", trailers))

    def bufferGrew(self) -> None:
        self.said.append(("grew",))

    def bufferEnded(self, body: bytes | None) -> None:
        self.said.append(("buffered", body))

    def switched(self, response: Response, data: bytes) -> None:
        self.said.append(("switched", response.upgrade, data))

    def tunnelReceived(self, data: bytes) -> None:
        self.said.append(("tunnel", data))

    def tunnelEnded(self) -> None:
        self.said.append(("tunnelEnded",))

    def tunnelLost(self) -> None:
        self.said.append(("tunnelLost",))

    def upstreamFailed(self, error: SitioError) -> None:
        self.said.append(("failed", type(error), error.reached))

    def pauseUpload(self) -> None:
        self.said.append(("pause",))

    def resumeUpload(self) -> None:
        self.said.append(("resume",))


@define
class Kept:
    """A pool that notes down what it is told."""

    said: list[str] = field(factory=list)

    def released(self, client: ProxyClient) -> None:
        self.said.append("released")

    def discarding(self, client: ProxyClient) -> None:
        self.said.append("discarding")

    def lost(self, client: ProxyClient) -> None:
        self.said.append("lost")

    def gone(self, client: ProxyClient) -> None:
        self.said.append("gone")


def get(target: str = "/", method: str = "GET", **more: Any) -> Request:
    """A request as a reader would have made it."""
    return Request(method, target, Headers({"Host": "h"}), **more)


GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class ClientCase(SynchronousTestCase):
    """A client whose upstream is played by the test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.kept = Kept()
        self.heard = Heard()
        self.open()

    def open(self, secure: bool = False) -> None:
        """A connection to the upstream is made."""
        self.upstream = Peer(self.clock, "192.0.2.87", secure)
        factory = ProxyClientFactory(self.kept, framing.Limits())
        self.client = factory.buildProtocol(None)
        self.upstream.connect(self.client)

    def ask(self, request: Request | None = None, body: bytes = b"", ended: bool = True) -> None:
        self.client.ask(self.heard, request or get(), body, ended)

    def settle(self) -> None:
        self.clock.advance(0)


class EndOfBodies(ClientCase):
    """When a reply is whole, and what becomes of its connection."""

    def test_trailersOfAnUnwantedReply(self) -> None:
        """
        A reply with trailers that came whole, and that the exchange wants no more
        of, leaves its connection free for the next request.
        """
        self.heard.onReply = self.client.leave
        self.ask()
        self.upstream.sends(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n"
        )
        self.assertEqual(self.kept.said, ["discarding", "released"])
        self.assertIs(self.client.state, states.IDLE)

    def test_unwantedReplyOfAClosingUpstream(self) -> None:
        """
        A short rest that nobody wants is read from an upstream that closes behind
        it as well: a reset would be an error in its log for each replaced reply.
        """
        self.ask()
        self.upstream.sends(b"HTTP/1.0 404 Not Found\r\nContent-Length: 9\r\n\r\n")
        self.client.leave()
        self.assertFalse(self.upstream.reset)
        self.upstream.sends(b"not here\n")
        self.settle()
        self.assertTrue(self.upstream.closed)
        self.assertFalse(self.upstream.reset)
        self.assertEqual(self.kept.said[:2], ["discarding", "lost"])

    def test_untilClose(self) -> None:
        """A reply without framing ends where the upstream closes in order."""
        self.ask()
        self.upstream.sends(b"HTTP/1.1 200 OK\r\n\r\n", b"all of it")
        self.upstream.closes()
        self.assertEqual(
            self.heard.said,
            [("reply", 200, b"", False), ("body", b"all of it"), ("ended", [])],
        )

    def test_untilReset(self) -> None:
        """A reply without framing is broken, and not ended, by a reset."""
        self.ask()
        self.upstream.sends(b"HTTP/1.1 200 OK\r\n\r\n", b"some of it")
        self.upstream.resets()
        self.assertEqual(self.heard.said[-1], ("failed", UpstreamLost, Reached.ANSWERED))
        self.assertNotIn(("ended", []), self.heard.said)
        self.assertEqual(self.kept.said, ["lost", "gone"])


class Tunnels(ClientCase):
    """After a 101 the connection carries another protocol."""

    def switch(self) -> None:
        """Ask for, and get, another protocol."""
        self.ask(get(upgrade=b"echo"))
        self.upstream.sends(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        self.assertIs(self.client.state, states.TUNNEL)
        self.upstream.got()

    def test_end(self) -> None:
        """The end of the client's half reaches the upstream, which may still send."""
        self.switch()
        self.client.tunnel(b"last words")
        self.client.endTunnel()
        self.assertEqual(self.upstream.got(), b"last words")
        self.assertIs(self.upstream.state, HALF_CLOSED)
        self.upstream.sends(b"answer")
        self.assertEqual(self.heard.said[-1], ("tunnel", b"answer"))

    def test_endOverTLS(self) -> None:
        """
        TLS has no half-close: the connection ends, after what was written, and
        the exchange is told.
        """
        self.open(secure=True)
        self.switch()
        self.client.tunnel(b"last words")
        self.client.endTunnel()
        self.settle()
        self.assertEqual(self.upstream.got(), b"last words")
        self.assertTrue(self.upstream.closed)
        self.assertEqual(self.heard.said[-1], ("tunnelLost",))


class FlowControl(ClientCase):
    """An upstream that does not read."""

    def test_repliesWithoutReading(self) -> None:
        """
        A connection whose upstream has replied without reading the request is not
        used again: what it does not read would pile up behind the next one.
        """
        self.upstream.stopsReading()
        self.ask(get(method="PUT", length=3), b"abc")
        self.assertEqual(self.heard.said, [("pause",)])
        self.upstream.sends(OK)
        self.assertEqual(self.heard.said[1:], [("reply", 200, b"ok", True)])
        self.assertEqual(self.kept.said, ["lost"])
        self.upstream.readsOn()
        self.assertTrue(self.upstream.got().endswith(b"abc"))
        self.assertEqual(self.kept.said, ["lost", "gone"])
