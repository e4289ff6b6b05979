"""
Tests of L{sitio.upstream.client}: one connection to the upstream, in exact bytes.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import InterimTooLong, Reached, UpstreamLost
from sitio.http.limits import Limits
from sitio.http.message import Request
from sitio.net.statemachine import IllegalTransition
from sitio.test.helpers.messages import OK, get
from sitio.test.helpers.receivers import Receiver
from sitio.testing import Peer
from sitio.upstream import client as states
from sitio.upstream.client import MAX_DISCARD, ProxyClient, ProxyClientFactory


@define
class Owner:
    """A pool that records the calls of its connections."""

    clock: Any
    calls: list[str] = field(factory=list)

    def released(self, client: ProxyClient) -> None:
        self.calls.append("released")

    def discarding(self, client: ProxyClient) -> None:
        self.calls.append("discarding")

    def lost(self, client: ProxyClient) -> None:
        self.calls.append("lost")

    def closed(self, client: ProxyClient) -> None:
        self.calls.append("closed")


GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class ClientCase(SynchronousTestCase):
    """One L{ProxyClient}; the test plays the upstream."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = Owner(self.clock)
        self.receiver = Receiver()
        self.open()

    def open(self, secure: bool = False) -> None:
        """Open a connection to the upstream."""
        self.upstream = Peer(self.clock, "192.0.2.87", secure)
        factory = ProxyClientFactory(self.owner, Limits())
        self.client = self.receiver.client = factory.buildProtocol(None)
        self.upstream.connect(self.client)

    def ask(self, request: Request | None = None, body: bytes = b"", ended: bool = True) -> None:
        self.client.sendRequest(self.receiver, request or get(), body, ended, b"", self.receiver)

    def settle(self) -> None:
        self.clock.advance(0)


class EndOfBodies(ClientCase):
    """When a response is complete, and whether its connection is reused."""

    def test_trailersOfAnUnwantedResponse(self) -> None:
        """A complete response with trailers that the exchange has left frees its connection."""
        self.receiver.onResponse = self.client.leave
        self.ask()
        self.upstream.sends(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n"
        )
        self.assertEqual(self.owner.calls, ["discarding", "released"])
        self.assertIs(self.client.state, states.IDLE)

    def test_unwantedResponseOfAClosingUpstream(self) -> None:
        """
        A short unwanted rest is read even if the upstream closes after it: a reset would
        put an error into its log for each replaced response.
        """
        self.ask()
        self.upstream.sends(b"HTTP/1.0 404 Not Found\r\nContent-Length: 9\r\n\r\n")
        self.client.leave()
        self.assertFalse(self.upstream.reset)
        self.upstream.sends(b"not here\n")
        self.settle()
        self.assertTrue(self.upstream.closed)
        self.assertFalse(self.upstream.reset)
        self.assertEqual(self.owner.calls[:2], ["discarding", "lost"])

    def test_untilClose(self) -> None:
        """A response without framing is complete when the upstream closes in order."""
        self.ask()
        self.upstream.sends(b"HTTP/1.1 200 OK\r\n\r\n", b"all of it")
        self.upstream.closes()
        self.assertEqual(
            self.receiver.calls,
            [("response", 200, b"", False), ("body", b"all of it"), ("ended", [])],
        )

    def test_untilReset(self) -> None:
        """A response without framing is incomplete after a reset."""
        self.ask()
        self.upstream.sends(b"HTTP/1.1 200 OK\r\n\r\n", b"some of it")
        self.upstream.resets()
        self.assertEqual(self.receiver.calls[-1], ("failed", UpstreamLost, Reached.ANSWERED))
        self.assertNotIn(("ended", []), self.receiver.calls)
        self.assertEqual(self.owner.calls, ["lost", "closed"])


class Tunnels(ClientCase):
    """After a 101 the connection carries another protocol."""

    def switch(self) -> None:
        """Ask the upstream for another protocol, and get it."""
        self.ask(get(upgrade=b"echo"))
        self.upstream.sends(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        self.assertIs(self.client.state, states.TUNNEL)
        self.upstream.got()

    def test_bytes(self) -> None:
        """The upstream's bytes, and their end, go to the tunnel."""
        self.switch()
        self.upstream.sends(b"answer")
        self.assertEqual(self.receiver.calls[-1], ("tunnel", b"answer"))
        self.upstream.halfCloses()
        self.assertEqual(self.receiver.calls[-1], ("tunnel ended",))

    def test_lost(self) -> None:
        """A lost connection ends the tunnel and is reported to the pool."""
        self.switch()
        self.upstream.resets()
        self.assertEqual(self.receiver.calls[-1], ("tunnel lost",))
        self.assertEqual(self.owner.calls, ["lost", "closed"])


class FlowControl(ClientCase):
    """An upstream that does not read."""

    def test_responsesWithoutReading(self) -> None:
        """
        If the upstream responds without reading the request, the connection is closed:
        unread bytes would pile up before the next request.
        """
        self.upstream.stopsReading()
        self.ask(get(method="PUT", length=3), b"abc")
        self.assertEqual(self.receiver.calls, [("pause",)])
        self.upstream.sends(OK)
        self.assertEqual(self.receiver.calls[1:], [("response", 200, b"ok", True)])
        self.assertEqual(self.owner.calls, ["lost"])
        self.upstream.resumesReading()
        self.assertTrue(self.upstream.got().endswith(b"abc"))
        self.assertEqual(self.owner.calls, ["lost", "closed"])


class Asking(ClientCase):
    """Each request is one write, and one request is in flight at a time."""

    def test_framings(self) -> None:
        """A body of known length has a Content-Length, any other is sent in chunks."""
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
        """Each piece of the body is sent at once, and the end once."""
        self.ask(get(method="PUT"), b"", False)
        self.upstream.got()
        self.client.sendBody(b"first")
        self.client.sendBody(b"second")
        self.client.endRequest([(b"X", b"y")])
        self.client.endRequest([])
        self.assertEqual(self.upstream.got(), b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\nX: y\r\n\r\n")
        self.upstream.sends(OK)
        self.assertEqual(self.owner.calls, ["released"])

    def test_oneAtATime(self) -> None:
        """A second request before the response raises, as it is a bug in sitio."""
        self.ask()
        error = self.assertRaises(IllegalTransition, self.ask)
        self.assertEqual(str(error), "ProxyClient: request while waiting")

    def test_oneAfterTheOther(self) -> None:
        """After a complete response the connection takes the next request."""
        for count in (1, 2, 3):
            self.ask()
            self.assertEqual(self.upstream.got(), GET)
            self.upstream.sends(*(OK[at : at + 1] for at in range(len(OK))))
            self.assertEqual(self.receiver.calls[-1], ("ended", []))
            self.assertEqual((self.client.carried, self.owner.calls), (count, ["released"] * count))

    def test_responseBeforeTheRequestsEnd(self) -> None:
        """A response that is complete before its request closes the connection."""
        self.ask(get(method="PUT", length=9), b"abc", False)
        self.upstream.sends(OK)
        self.assertEqual(self.receiver.calls, [("response", 200, b"ok", True)])
        self.client.sendBody(b"def")
        self.client.endRequest([])
        self.assertEqual(self.owner.calls, ["lost", "closed"])
        self.assertTrue(self.upstream.closed)


class Responses(ClientCase):
    """What the receiver of a response gets."""

    def test_interim(self) -> None:
        """Interim responses are passed separately.  Too many of them fail the response."""
        interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        most = Limits().interim // len(interim)
        self.ask()
        self.upstream.sends(interim * most)
        self.assertEqual(self.receiver.calls, [("interim", 103)] * most)
        self.upstream.sends(interim)
        self.assertEqual(self.receiver.calls[-1], ("failed", InterimTooLong, Reached.ANSWERED))
        self.assertTrue(self.upstream.reset)

    def test_reached(self) -> None:
        """A broken connection reports whether a byte of the response had arrived."""
        for some, reached in ((b"", Reached.SENT), (b"H", Reached.ANSWERED)):
            self.open()
            self.ask()
            if some:
                self.upstream.sends(some)
            self.upstream.closes()
            self.assertEqual(self.receiver.calls[-1], ("failed", UpstreamLost, reached))

    def test_unasked(self) -> None:
        """Unrequested bytes close an idle connection and reach no receiver."""
        for early in (True, False):
            self.open()
            self.owner.calls.clear()
            self.receiver.calls.clear()
            if early:
                self.upstream.sends(OK)
            else:
                self.ask()
                self.upstream.sends(OK, OK)
                self.assertEqual(self.receiver.calls, [("response", 200, b"ok", True)])
            self.assertEqual(self.owner.calls[-2:], ["lost", "closed"])

    def test_behindTheResponse(self) -> None:
        """The same for bytes that arrive with the end of a response."""
        self.ask()
        self.upstream.sends(OK + b"H")
        self.assertEqual(self.receiver.calls, [("response", 200, b"ok", True)])
        self.assertEqual(self.owner.calls, ["lost", "closed"])

    def test_paused(self) -> None:
        """A paused connection resumes reading when it becomes idle."""
        self.ask()
        self.upstream.sends(OK[:-2])
        self.client.pause()
        self.assertTrue(self.upstream.paused)
        self.client.dataReceived(OK[-2:])
        self.assertEqual(self.owner.calls, ["released"])
        self.assertFalse(self.upstream.paused)
        self.upstream.closes()
        self.assertEqual(self.owner.calls, ["released", "lost", "closed"])


class Unwanted(ClientCase):
    """The rest of a response that the exchange has left."""

    def leave(self, head: bytes, body: bytes = b"") -> None:
        """Leave a response after these bytes have arrived."""
        self.ask()
        self.upstream.sends(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body)
        self.client.leave()
        self.settle()

    def test_short(self) -> None:
        """A short rest is read and dropped; then the connection is free."""
        self.leave(b"Content-Length: 9", b"abc")
        self.upstream.sends(b"defghi")
        self.assertEqual(self.owner.calls, ["discarding", "released"])
        self.assertEqual(self.receiver.calls, [("response", 200, b"abc", False)])

    def test_long(self) -> None:
        """A rest whose Content-Length is too long is not read."""
        self.leave(b"Content-Length: %d" % (MAX_DISCARD + 1))
        self.assertEqual(self.owner.calls, ["lost", "closed"])

    def test_endless(self) -> None:
        """A rest of unknown length that grows too long is given up."""
        self.leave(b"Transfer-Encoding: chunked")
        self.upstream.sends(b"%x\r\n" % MAX_DISCARD + b"x" * MAX_DISCARD + b"\r\n")
        self.assertEqual(self.owner.calls, ["discarding"])
        self.upstream.sends(b"1\r\nx\r\n")
        self.assertEqual(self.owner.calls, ["discarding", "lost", "closed"])

    def test_malformed(self) -> None:
        """A malformed rest closes the connection and reaches no receiver."""
        self.leave(b"Transfer-Encoding: chunked")
        self.upstream.sends(b"no chunk\r\n")
        self.assertEqual(self.owner.calls, ["discarding", "lost", "closed"])
        self.assertEqual(self.receiver.calls, [("response", 200, b"", False)])
