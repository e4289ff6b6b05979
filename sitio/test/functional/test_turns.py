"""
Tests of fairness: what one connection makes sitio do in one turn of the reactor is bounded,
and the rest is done in later turns, whole and in order.

A test hands all bytes to a protocol at once, as a reactor does, and looks before the next
turn.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, onRequest
from sitio.http.framing import MAX_CHUNKS
from sitio.net.flow import LONG_READ_BYTES
from sitio.proxy.server import MAX_ANSWERS
from sitio.settings import Settings
from sitio.test.helpers.rows import Row, eachRow
from sitio.testing import RESET, Harness, Peer, readRequests, readResponses
from sitio.upstream.client import MAX_INTERIM_IN_TURN

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPLOAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

LARGE = b"".join(b"X-%d: %b\r\n" % (each, b"v" * 300) for each in range(90))
TRAILERS = b"".join(b"X-%d: %d\r\n" % (each, each) for each in range(90))

#: Chunks, requests or interim responses of a flood: the bound several times over.
MANY = 3 * MAX_CHUNKS + 1


@onRequest
def answer(exchange: Any) -> Response | None:
    """A policy that answers some requests itself."""
    return Response(200, text="here") if exchange.request.path == "/answered" else None


#: A request that sitio answers itself, and the status of its answer.
ANSWERED: list[Row] = [
    ("OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n", 204),
    ("TRACE", b"TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n", 200),
    ("a denied request", b"GET /denied HTTP/1.1\r\nHost: h\r\n\r\n", 403),
    ("a policy's answer", b"GET /answered HTTP/1.1\r\nHost: h\r\n\r\n", 200),
    ("a large head", b"GET /denied HTTP/1.1\r\nHost: h\r\n%b\r\n" % LARGE, 403),
    ("empty lines", b"\r\n\r\nGET /denied HTTP/1.1\r\nHost: h\r\n\r\n", 403),
    ("a body", b"PUT /denied HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 403),
    (
        "trailers",
        UPLOAD.replace(b"/ ", b"/denied ", 1) + b"1\r\na\r\n0\r\n%b\r\n" % TRAILERS,
        403,
    ),
]

HOPS: bytes = ANSWERED[0][1]

#: A chunk, and its data.
CHUNKS: list[Row] = [
    ("one byte", b"1\r\na\r\n", b"a"),
    ("an extension", b"1;%b\r\na\r\n" % (b"e" * 200), b"a"),
    ("leading zeros", b"000000000001\r\na\r\n", b"a"),
    ("a hundred bytes", b"64\r\n%b\r\n" % (b"c" * 100), b"c" * 100),
]

CHUNK: bytes = CHUNKS[0][1]


class TurnsCase(SynchronousTestCase):
    """A sidecar with one client.  The test hands bytes to its protocols."""

    def setUp(self) -> None:
        self.sidecar = Harness(["deny:*:/denied", answer])
        self.client = self.sidecar.connect()

    def hand(self, peer: Peer, data: bytes) -> None:
        """Hand bytes of this peer to sitio, and stay in the same turn."""
        self.assertFalse(peer.paused)
        peer.transport.protocol.dataReceived(data)

    def written(self, peer: Peer) -> bytes:
        """What sitio has written for this peer in this turn."""
        return b"".join(peer.transport.outgoing)


@eachRow(ANSWERED)
class AnsweredTests(TurnsCase):
    """Requests that sitio answers itself."""

    def check(self, request: bytes, status: int) -> None:
        """A few are answered in one turn, and all of them in the end; reading goes on."""
        count = 10 * MAX_ANSWERS + 1
        self.hand(self.client, request * count)
        method = request.split(b" ")[0].decode()
        first = list(readResponses(self.written(self.client), method))
        self.assertEqual([each.status for each in first], [status] * MAX_ANSWERS)
        rest = list(readResponses(self.client.got(), method))
        self.assertEqual([each.status for each in rest], [status] * count)
        self.assertFalse(self.client.paused)
        self.client.sends(GET)
        self.assertTrue(self.sidecar.upstream().got().startswith(b"GET / "))


class RequestTests(TurnsCase):
    """The bound of answered requests beside all else that a connection does."""

    def test_inPieces(self) -> None:
        """The bound is for all reads of one turn, as TLS delivers many short ones."""
        for _ in range(10 * MAX_ANSWERS):
            self.client.transport.protocol.dataReceived(HOPS)
        first = self.written(self.client)
        self.assertEqual(first.count(b"HTTP/1.1 204"), MAX_ANSWERS)
        self.assertEqual(self.client.got().count(b"HTTP/1.1 204"), 10 * MAX_ANSWERS)

    def test_othersBetween(self) -> None:
        """A request of another client goes out while most of the flood still waits."""
        other = self.sidecar.connect()
        self.hand(self.client, HOPS * 1000)
        self.hand(other, GET)
        self.assertLess(self.written(self.client).count(b"HTTP/1.1 204"), 1000)
        self.sidecar.upstream().sends(OK)
        self.assertEqual(other.got(), OK)
        self.assertEqual(self.client.got().count(b"HTTP/1.1 204"), 1000)

    def test_behindOne(self) -> None:
        """So it is for requests behind one that the upstream has answered."""
        self.client.sends(GET + HOPS * 100)
        upstream = self.sidecar.upstream()
        self.hand(upstream, OK)
        self.assertEqual(self.written(self.client).count(b"HTTP/1.1 204"), MAX_ANSWERS)
        self.assertEqual(self.client.got().count(b"HTTP/1.1 204"), 100)

    def test_closedMeanwhile(self) -> None:
        """If the client disconnects meanwhile, no other request is begun."""
        self.hand(self.client, HOPS * 100)
        self.client.resets()
        self.assertEqual(len(self.sidecar.exchanges), MAX_ANSWERS)
        self.sidecar.assertQuiet()

    def test_last(self) -> None:
        """C{Connection: close} ends the requests behind it in a later turn too."""
        last = HOPS.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        self.client.sends(HOPS * 20 + last)
        self.assertEqual(self.client.got().count(b"HTTP/1.1 204"), 21)
        self.assertTrue(self.client.closed)


@eachRow(CHUNKS)
class UploadTests(TurnsCase):
    """Uploads of tiny chunks."""

    def check(self, chunk: bytes, data: bytes) -> None:
        """Some chunks of an upload are passed on in one turn, and all of them in the end."""
        self.client.sends(UPLOAD)
        upstream = self.sidecar.upstream()
        upstream.got()
        self.hand(self.client, chunk * MANY + b"0\r\nX: y\r\n\r\n" + GET)
        body = data * MAX_CHUNKS
        self.assertEqual(self.written(upstream), b"%x\r\n%b\r\n" % (len(body), body))
        (request,) = readRequests(UPLOAD + upstream.got())
        self.assertEqual(request.body, data * MANY)
        upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertTrue(upstream.got().startswith(b"GET / "))
        self.assertFalse(self.client.paused)


@eachRow(CHUNKS)
class UploadWithItsHeadTests(TurnsCase):
    """Uploads of tiny chunks that arrive together with the head."""

    def check(self, chunk: bytes, data: bytes) -> None:
        """So it is if they arrive together with the head."""
        self.hand(self.client, UPLOAD + chunk * MANY + b"0\r\n\r\n")
        (request,) = readRequests(self.sidecar.upstream().got())
        self.assertEqual(request.body, data * MANY)
        self.sidecar.upstream().sends(OK)
        self.assertEqual(self.client.got(), OK)


@eachRow(CHUNKS)
class ResponseTests(TurnsCase):
    """Responses of tiny chunks."""

    def check(self, chunk: bytes, data: bytes) -> None:
        """So it is for a response, with its head or after it."""
        for start in (0, len(CHUNKED)):
            self.client.sends(GET)
            upstream = self.sidecar.upstream()
            wire = CHUNKED + chunk * MANY + b"0\r\nX: y\r\n\r\n"
            upstream.sends(wire[:start])
            self.hand(upstream, wire[start:])
            self.assertEqual(
                self.written(self.client)[-len(data) * MAX_CHUNKS - 2 : -2],
                data * MAX_CHUNKS,
            )
            response = self.client.gotResponse()
            self.assertEqual(response.body, data * MANY)
        self.assertEqual(len(self.sidecar.upstreams), 1)


class BodyTests(TurnsCase):
    """Bodies of tiny chunks, when something happens between two turns."""

    def test_lostMeanwhile(self) -> None:
        """If the upstream's connection is lost meanwhile, what it sent before is whole."""
        for end, isWhole in ((b"0\r\n\r\n", True), (b"", False)):
            self.client = self.sidecar.connect()
            self.client.sends(GET)
            upstream = self.sidecar.upstreams[-1]
            self.hand(upstream, CHUNKED + CHUNK * MANY + end)
            upstream.transport._lost(Failure(ConnectionLost()))
            got = self.client.got()
            if isWhole:
                (response,) = readResponses(got)
                self.assertEqual(response.body, b"a" * MANY)
            else:
                self.assertEqual(got.count(b"a" * MAX_CHUNKS), 3)
                self.assertIs(self.client.state, RESET)
        self.sidecar.assertQuiet()

    def test_clientGoneMeanwhile(self) -> None:
        """If the client disconnects meanwhile, the upstream's connection is closed."""
        self.client.sends(GET)
        upstream = self.sidecar.upstream()
        self.hand(upstream, CHUNKED + CHUNK * MANY)
        self.client.resets()
        self.assertTrue(upstream.reset)
        self.sidecar.assertQuiet()

    def test_slowUpstream(self) -> None:
        """A pause that the upstream asks for in between lasts until it reads again."""
        self.client.sends(UPLOAD)
        upstream = self.sidecar.upstream()
        upstream.stopsReading()
        self.hand(self.client, b"64\r\n%b\r\n" % (b"c" * 100) * MANY)
        self.sidecar.settle()
        self.assertTrue(self.client.paused)
        upstream.resumesReading()
        self.assertFalse(self.client.paused)
        self.client.sends(b"0\r\n\r\n")
        upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)

    def test_slowClient(self) -> None:
        """So does a pause that the client asks for."""
        self.client.sends(GET)
        upstream = self.sidecar.upstream()
        self.client.stopsReading()
        self.hand(upstream, CHUNKED + CHUNKS[3][1] * MANY)
        self.sidecar.settle()
        self.assertTrue(upstream.paused)
        self.client.resumesReading()
        self.assertFalse(upstream.paused)
        upstream.sends(b"0\r\n\r\n")
        self.assertEqual(self.client.gotResponse().body, CHUNKS[3][2] * MANY)


class InterimTests(TurnsCase):
    """Interim responses."""

    def test_bounded(self) -> None:
        """A few are passed on in one turn, and all of them, in order, in the end."""
        self.client.sends(GET)
        upstream = self.sidecar.upstream()
        self.hand(upstream, HINTS * 30 + OK)
        self.assertEqual(self.written(self.client), HINTS * MAX_INTERIM_IN_TURN)
        self.assertEqual(self.client.got(), HINTS * 30 + OK)

    def test_lostMeanwhile(self) -> None:
        """If the upstream's connection is lost meanwhile, the response still passes."""
        self.client.sends(GET)
        upstream = self.sidecar.upstream()
        self.hand(upstream, HINTS * 30 + OK)
        upstream.transport._lost(Failure(ConnectionLost()))
        self.assertEqual(self.client.got(), HINTS * 30 + OK)


class LongReadTests(TurnsCase):
    """A long read is the only one of its turn: libuv would read on, up to 32 times."""

    data = b"#" * LONG_READ_BYTES

    def check(self, peer: Peer) -> None:
        """Hand a long read to sitio: it pauses for one turn, and no longer."""
        self.hand(peer, self.data)
        self.assertTrue(peer.paused)
        self.sidecar.settle()
        self.assertFalse(peer.paused)

    def test_upload(self) -> None:
        """A body of known length goes up."""
        length = b"Content-Length: %d" % (3 * len(self.data))
        self.client.sends(UPLOAD.replace(b"Transfer-Encoding: chunked", length))
        self.check(self.client)
        self.check(self.client)
        self.assertEqual(self.sidecar.upstream().got().count(b"#"), 2 * len(self.data))

    def test_response(self) -> None:
        """A body of known length comes down, with its head or after it."""
        self.client.sends(GET)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (3 * len(self.data))
        upstream = self.sidecar.upstream()
        self.hand(upstream, head + self.data)
        self.assertTrue(upstream.paused)
        self.sidecar.settle()
        self.check(upstream)
        self.hand(upstream, self.data)
        self.assertEqual(self.client.gotResponse().body, 3 * self.data)

    def test_tunnel(self) -> None:
        """A tunnel passes bytes both ways."""
        self.client.sends(UPGRADE)
        upstream = self.sidecar.upstream()
        upstream.sends(SWITCH)
        self.check(self.client)
        self.check(upstream)
        self.assertTrue(upstream.got().endswith(self.data))
        self.assertTrue(self.client.got().endswith(self.data))

    def test_slowTunnel(self) -> None:
        """A pause that the other side of a tunnel asks for outlasts the turn."""
        self.client.sends(UPGRADE)
        upstream = self.sidecar.upstream()
        upstream.sends(SWITCH)
        for one, other in ((self.client, upstream), (upstream, self.client)):
            other.stopsReading()
            self.hand(one, self.data)
            self.sidecar.settle()
            self.assertTrue(one.paused)
            other.resumesReading()
            self.assertFalse(one.paused)

    def test_beforeAConnection(self) -> None:
        """What an upload buffers before it has a connection stays bounded."""
        self.sidecar = Harness(settings=Settings(replayLimit=1024))
        self.sidecar.holdConnections()
        self.client = self.sidecar.connect()
        self.client.sends(UPLOAD)
        self.hand(self.client, b"20000\r\n" + self.data)
        self.sidecar.settle()
        self.assertTrue(self.client.paused)
