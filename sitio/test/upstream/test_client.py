"""
Promises of L{sitio.upstream.client}: one connection to the upstream, in exact bytes.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import BadResponse, Reached, UpstreamLost
from sitio.http import framing
from sitio.http.message import Request
from sitio.net.statemachine import IllegalTransition
from sitio.test.helpers.messages import OK, get
from sitio.test.helpers.receivers import Heard
from sitio.testing import HALF_CLOSED, Peer
from sitio.upstream import client as states
from sitio.upstream.client import MAX_DISCARD, MAX_INTERIM, ProxyClient, ProxyClientFactory


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


GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


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
    """When a response is whole, and what becomes of its connection."""

    def test_trailersOfAnUnwantedResponse(self) -> None:
        """
        A response with trailers that came whole, and that the exchange wants no more
        of, leaves its connection free for the next request.
        """
        self.heard.onResponse = self.client.leave
        self.ask()
        self.upstream.sends(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n"
        )
        self.assertEqual(self.kept.said, ["discarding", "released"])
        self.assertIs(self.client.state, states.IDLE)

    def test_unwantedResponseOfAClosingUpstream(self) -> None:
        """
        A short rest that nobody wants is read from an upstream that closes behind
        it as well: a reset would be an error in its log for each replaced response.
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
        """A response without framing ends where the upstream closes in order."""
        self.ask()
        self.upstream.sends(b"HTTP/1.1 200 OK\r\n\r\n", b"all of it")
        self.upstream.closes()
        self.assertEqual(
            self.heard.said,
            [("response", 200, b"", False), ("body", b"all of it"), ("ended", [])],
        )

    def test_untilReset(self) -> None:
        """A response without framing is broken, and not ended, by a reset."""
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

    def test_responsesWithoutReading(self) -> None:
        """
        A connection whose upstream has responded without reading the request is not
        used again: what it does not read would pile up behind the next one.
        """
        self.upstream.stopsReading()
        self.ask(get(method="PUT", length=3), b"abc")
        self.assertEqual(self.heard.said, [("pause",)])
        self.upstream.sends(OK)
        self.assertEqual(self.heard.said[1:], [("response", 200, b"ok", True)])
        self.assertEqual(self.kept.said, ["lost"])
        self.upstream.readsOn()
        self.assertTrue(self.upstream.got().endswith(b"abc"))
        self.assertEqual(self.kept.said, ["lost", "gone"])


class Asking(ClientCase):
    """Requests go out in one write each, and one at a time."""

    def test_framings(self) -> None:
        """A body is announced by its length where that is known, else by chunks."""
        for length, body, ended, said in (
            (None, b"", True, b"\r\n"),
            (0, b"", True, b"Content-Length: 0\r\n\r\n"),
            (None, b"abc", True, b"Content-Length: 3\r\n\r\nabc"),
            (9, b"abc", True, b"Content-Length: 3\r\n\r\nabc"),
            (9, b"abc", False, b"Content-Length: 9\r\n\r\nabc"),
            (9, b"", False, b"Content-Length: 9\r\n\r\n"),
            (None, b"abc", False, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
            (None, b"", False, b"Transfer-Encoding: chunked\r\n\r\n"),
        ):
            self.open()
            self.ask(get(method="PUT", length=length), body, ended)
            self.settle()
            self.assertEqual(self.upstream.pieces, [b"PUT / HTTP/1.1\r\nHost: h\r\n" + said])

    def test_bodyInPieces(self) -> None:
        """What follows the head goes out as it comes, and the end is said once."""
        self.ask(get(method="PUT"), b"", False)
        self.upstream.got()
        self.client.sendBody(b"first")
        self.client.sendBody(b"second")
        self.client.endRequest([(b"X", b"y")])
        self.client.endRequest([])
        self.assertEqual(self.upstream.got(), b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\nX: y\r\n\r\n")
        self.upstream.sends(OK)
        self.assertEqual(self.kept.said, ["released"])

    def test_oneAtATime(self) -> None:
        """A second request before the response is a mistake, and named as one."""
        self.ask()
        error = self.assertRaises(IllegalTransition, self.ask)
        self.assertEqual(str(error), "ProxyClient: ask while asked")

    def test_oneAfterTheOther(self) -> None:
        """Once its response is whole, a connection is ready for another request."""
        for count in (1, 2, 3):
            self.ask()
            self.assertEqual(self.upstream.got(), GET)
            self.upstream.sends(*(OK[at : at + 1] for at in range(len(OK))))
            self.assertEqual(self.heard.said[-1], ("ended", []))
            self.assertEqual((self.client.asked, self.kept.said), (count, ["released"] * count))

    def test_responseBeforeTheRequestsEnd(self) -> None:
        """A response that is whole first ends the connection: it can't carry another request."""
        self.ask(get(method="PUT", length=9), b"abc", False)
        self.upstream.sends(OK)
        self.assertEqual(self.heard.said, [("response", 200, b"ok", True)])
        self.client.sendBody(b"def")
        self.client.endRequest([])
        self.assertEqual(self.kept.said, ["lost", "gone"])
        self.assertTrue(self.upstream.reset)


class Responses(ClientCase):
    """What the exchange is told."""

    def test_interim(self) -> None:
        """Interim responses are told apart, up to a limit; beyond it the response is malformed."""
        interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        self.ask()
        self.upstream.sends(interim * MAX_INTERIM)
        self.assertEqual(self.heard.said, [("informed", 103)] * MAX_INTERIM)
        self.upstream.sends(interim)
        self.assertEqual(self.heard.said[-1], ("failed", BadResponse, Reached.ANSWERED))
        self.assertTrue(self.upstream.reset)

    def test_reached(self) -> None:
        """A connection that breaks says whether a byte of the response had come."""
        for some, reached in ((b"", Reached.SENT), (b"H", Reached.ANSWERED)):
            self.open()
            self.ask()
            if some:
                self.upstream.sends(some)
            self.upstream.closes()
            self.assertEqual(self.heard.said[-1], ("failed", UpstreamLost, reached))

    def test_unasked(self) -> None:
        """Bytes that nobody asked for close an idle connection, and are told to nobody."""
        for early in (True, False):
            self.open()
            self.kept.said.clear()
            self.heard.said.clear()
            if early:
                self.upstream.sends(OK)
            else:
                self.ask()
                self.upstream.sends(OK, OK)
                self.assertEqual(self.heard.said, [("response", 200, b"ok", True)])
            self.assertEqual(self.kept.said[-2:], ["lost", "gone"])

    def test_behindTheResponse(self) -> None:
        """The same for bytes that come with the end of a response."""
        self.ask()
        self.upstream.sends(OK + b"H")
        self.assertEqual(self.heard.said, [("response", 200, b"ok", True)])
        self.assertEqual(self.kept.said, ["lost", "gone"])

    def test_paused(self) -> None:
        """A connection that was paused for its response is read from again when it is idle."""
        self.ask()
        self.upstream.sends(OK[:-2])
        self.client.pause()
        self.assertTrue(self.upstream.paused)
        self.client.dataReceived(OK[-2:])
        self.assertEqual(self.kept.said, ["released"])
        self.assertFalse(self.upstream.paused)
        self.upstream.closes()
        self.assertEqual(self.kept.said, ["released", "lost", "gone"])


class Buffered(ClientCase):
    """Responses that are held back until they are whole."""

    HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    def buffer(self, limit: int) -> None:
        """Begin a response of which the first two bytes were handed out, and hold it."""
        self.heard.onResponse = lambda: self.client.buffer(b"ab", limit)
        self.ask()
        self.upstream.sends(self.HEAD + b"2\r\nab\r\n")

    def test_whole(self) -> None:
        """Within the limit it is handed out at its end, and the connection is free by then."""
        self.buffer(6)
        self.upstream.sends(b"2\r\ncd\r\n2\r\nef\r\n", b"0\r\n\r\n")
        self.assertEqual(
            self.heard.said, [("response", 200, b"ab", False), ("grew",), ("buffered", b"abcdef")]
        )
        self.assertEqual(self.kept.said, ["released"])

    def test_tooLong(self) -> None:
        """Beyond it, what was held is handed out, in order, and the rest as it comes."""
        self.buffer(5)
        self.upstream.sends(b"2\r\ncd\r\n", b"2\r\nef\r\n", b"2\r\ngh\r\n", b"0\r\n\r\n")
        self.assertEqual(
            self.heard.said,
            [
                ("response", 200, b"ab", False),
                ("grew",),
                ("buffered", None),
                ("body", b"ab"),
                ("body", b"cd"),
                ("body", b"ef"),
                ("body", b"gh"),
                ("ended", []),
            ],
        )

    def test_breaksOff(self) -> None:
        """One that breaks off is a failure, and none of it is handed out."""
        self.buffer(100)
        self.upstream.closes()
        self.assertEqual(
            self.heard.said,
            [("response", 200, b"ab", False), ("failed", UpstreamLost, Reached.ANSWERED)],
        )


class Unwanted(ClientCase):
    """The rest of a response that the exchange has left."""

    def leave(self, head: bytes, body: bytes = b"") -> None:
        """Leave a response of which this much has come."""
        self.ask()
        self.upstream.sends(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body)
        self.client.leave()
        self.settle()

    def test_short(self) -> None:
        """A short one is read and dropped, and its connection is free then."""
        self.leave(b"Content-Length: 9", b"abc")
        self.upstream.sends(b"defghi")
        self.assertEqual(self.kept.said, ["discarding", "released"])
        self.assertEqual(self.heard.said, [("response", 200, b"abc", False)])

    def test_long(self) -> None:
        """One that says that it is long is not waited for."""
        self.leave(b"Content-Length: %d" % (MAX_DISCARD + 1))
        self.assertEqual(self.kept.said, ["lost", "gone"])

    def test_endless(self) -> None:
        """One that turns out to be long is given up."""
        self.leave(b"Transfer-Encoding: chunked")
        self.upstream.sends(b"%x\r\n" % MAX_DISCARD + b"x" * MAX_DISCARD + b"\r\n")
        self.assertEqual(self.kept.said, ["discarding"])
        self.upstream.sends(b"1\r\nx\r\n")
        self.assertEqual(self.kept.said, ["discarding", "lost", "gone"])

    def test_malformed(self) -> None:
        """One that turns out to be malformed is told to nobody."""
        self.leave(b"Transfer-Encoding: chunked")
        self.upstream.sends(b"no chunk\r\n")
        self.assertEqual(self.kept.said, ["discarding", "lost", "gone"])
        self.assertEqual(self.heard.said, [("response", 200, b"", False)])
