"""
Tests of L{sitio.testing}: its connections behave like real ones, a harness finds what is left
behind, and L{runPolicy} returns what a client and an upstream got.
"""

from __future__ import annotations

import asyncio
from typing import Any

from attrs import define
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, TimeoutError as WaitedTooLong
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sitio import Response, Retry, onFinish, onRequest, onResponse
from sitio.interfaces import IExchange, IResponsePolicy
from sitio.settings import Settings
from sitio.testing import (
    CLOSED,
    HALF_CLOSED,
    OPEN,
    RESET,
    Harness,
    Peer,
    Runner,
    connectionRefused,
    connectionReset,
    incompleteResponse,
    noResponse,
    readRequests,
    readResponses,
    request,
    response,
    runPolicy,
)
from sitio.testing.network import TRANSPORT_BUFFER_BYTES, MemoryEndpoint

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
SWITCH = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello",
)
NOTHING: dict[str, Any] = {}
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
TO_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
POST = b"POST /y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@implementer(IHalfCloseableProtocol, IPushProducer)
class Noted(Protocol):
    """Records the events of its transport."""

    transport: Any

    def __init__(self) -> None:
        self.told: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self.told.append(data)

    def readConnectionLost(self) -> None:
        self.told.append("read lost")

    def writeConnectionLost(self) -> None:
        self.told.append("write lost")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.told.append(reason.type)

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class TransportTests(SynchronousTestCase):
    """A connection in memory behaves like one of TCP, and is stricter."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connect()

    def connect(self, secure: bool = False) -> None:
        """Connect again, with a new transport and peer."""
        self.peer = Peer(self.clock, secure=secure)
        self.protocol = Noted()
        self.peer.connect(self.protocol)
        self.transport = self.protocol.transport

    def told(self) -> list[Any]:
        """The events of the protocol since the last call."""
        self.clock.advance(0)
        told, self.protocol.told = self.protocol.told, []
        return told

    def test_interface(self) -> None:
        """The transport provides the interface of TCP transports, and the client's address."""
        verifyObject(ITCPTransport, self.transport)
        self.assertEqual(self.transport.getPeer().host, "192.0.2.1")
        self.assertFalse(ISSLTransport.providedBy(self.transport))

    def test_pieces(self) -> None:
        """Bytes of a peer arrive piece by piece; a long piece arrives as several."""
        self.peer.sends(b"a", b"bc")
        self.assertEqual(self.told(), [b"a", b"bc"])
        self.peer.sends(b"x" * (TRANSPORT_BUFFER_BYTES + 1))
        self.assertEqual([len(each) for each in self.told()], [TRANSPORT_BUFFER_BYTES, 1])

    def test_paused(self) -> None:
        """A paused transport delivers nothing, not even the end, until it is resumed."""
        self.transport.pauseProducing()
        self.assertTrue(self.peer.paused)
        self.peer.sends(b"a", b"b")
        self.peer.halfCloses()
        self.assertEqual(self.told(), [])
        self.transport.resumeProducing()
        # Delivered in a later turn, as by a reactor.
        self.assertEqual(self.protocol.told, [])
        self.assertEqual(self.told(), [b"a", b"b", "read lost"])

    def test_writesPileUp(self) -> None:
        """While a peer does not read, each write pauses the producer."""
        self.transport.registerProducer(self.protocol, True)
        self.peer.stopsReading()
        self.transport.write(b"a")
        self.transport.write(b"b")
        self.assertEqual(self.told(), ["pause", "pause"])
        self.assertEqual((self.peer.backlog, self.peer.got()), (2, b""))
        self.peer.resumesReading()
        self.assertEqual(self.told(), ["resume"])
        self.assertEqual((self.peer.backlog, self.peer.got()), (0, b"ab"))

    def test_longWrite(self) -> None:
        """A write longer than the transport's buffer pauses the producer even if the peer reads."""
        self.transport.registerProducer(self.protocol, True)
        self.transport.write(b"x" * TRANSPORT_BUFFER_BYTES)
        self.assertEqual(self.told(), [])
        self.transport.write(b"x" * (TRANSPORT_BUFFER_BYTES + 1))
        self.assertEqual(self.protocol.told, ["pause"])
        self.assertEqual(self.told(), ["pause", "resume"])

    def test_writesApart(self) -> None:
        """The peer has one piece for each write."""
        self.transport.write(b"a")
        self.transport.writeSequence([b"b", b"c"])
        self.clock.advance(0)
        self.assertEqual(self.peer.pieces, [b"a", b"bc"])

    def test_loseConnection(self) -> None:
        """A close sends what was written before, and is delivered in a later turn."""
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.assertEqual(self.protocol.told, [])
        self.assertEqual(self.peer.got(), b"bye")
        self.assertEqual(self.told(), [ConnectionDone])
        self.assertEqual((self.peer.state, self.peer.closed, self.peer.reset), (CLOSED, 1, 0))

    def test_loseConnectionWaits(self) -> None:
        """A close waits for a peer that does not read; an abort does not."""
        self.peer.stopsReading()
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.assertEqual((self.told(), self.peer.state), ([], OPEN))
        self.transport.abortConnection()
        self.assertEqual((self.told(), self.peer.state), ([ConnectionAborted], RESET))
        self.assertEqual(self.peer.got(), b"")

    def test_abortConnection(self) -> None:
        """The peer can tell an abort from a close."""
        self.transport.registerProducer(self.protocol, True)
        self.transport.abortConnection()
        self.transport.abortConnection()
        self.assertEqual(self.told(), ["stop", ConnectionAborted])
        self.assertEqual((self.peer.state, self.peer.closed, self.peer.reset), (RESET, 0, 1))
        self.transport.unregisterProducer()

    def test_writtenBeforeAbort(self) -> None:
        """What was written has left before an abort, if the peer reads: it may act on it."""
        self.transport.write(b"whole")
        self.transport.abortConnection()
        self.told()
        self.assertEqual((self.peer.got(), self.peer.state), (b"whole", RESET))

    def test_closeWithUnreadBytes(self) -> None:
        """A close with unread bytes of the peer is a reset, as in TCP."""
        self.transport.pauseProducing()
        self.peer.sends(b"unread")
        self.transport.loseConnection()
        self.told()
        self.assertEqual(self.peer.state, RESET)

    def test_sendToClosed(self) -> None:
        """A peer that sends on a closed connection gets a reset."""
        self.transport.loseConnection()
        self.told()
        self.peer.sends(b"too late")
        self.assertEqual((self.told(), self.peer.state), ([], RESET))

    def test_halfCloses(self) -> None:
        """Each direction ends by itself; once sitio's has ended, a close is delivered at once."""
        self.peer.halfCloses()
        self.assertEqual(self.told(), ["read lost"])
        self.transport.write(b"still")
        self.transport.loseWriteConnection()
        self.assertEqual(self.peer.got(), b"still")
        self.assertEqual((self.told(), self.peer.state), (["write lost"], HALF_CLOSED))
        self.transport.loseConnection()
        self.assertEqual(self.protocol.told, [ConnectionDone])
        self.assertEqual(self.peer.state, CLOSED)

    def test_closes(self) -> None:
        """A peer that has closed looks half-closed until sitio writes."""
        self.peer.closes()
        self.assertEqual(self.told(), ["read lost"])
        self.transport.write(b"anybody there?")
        self.assertEqual(self.told(), [ConnectionLost])

    def test_resets(self) -> None:
        """A peer's reset drops bytes that sitio has not read."""
        self.transport.pauseProducing()
        self.peer.sends(b"unread")
        self.peer.resets()
        self.assertEqual(self.told(), [])
        self.transport.resumeProducing()
        self.assertEqual(self.told(), [ConnectionLost])

    def test_secure(self) -> None:
        """TLS has no half-close: the end of one direction ends both."""
        self.connect(secure=True)
        self.assertTrue(ISSLTransport.providedBy(self.transport))
        self.assertRaises(AssertionError, self.transport.loseWriteConnection)
        self.peer.halfCloses()
        self.assertEqual(self.told(), [ConnectionDone])

    def test_strict(self) -> None:
        """Mistakes that real transports ignore, or that make them wait for ever, raise here."""
        self.transport.registerProducer(self.protocol, True)
        self.assertRaises(RuntimeError, self.transport.registerProducer, self.protocol, True)
        self.assertRaises(AssertionError, self.transport.loseConnection)
        self.assertRaises(TypeError, self.transport.write, "text")
        self.transport.unregisterProducer()
        self.assertRaises(RuntimeError, self.transport.unregisterProducer)
        self.transport.loseConnection()
        self.assertRaises(AssertionError, self.transport.write, b"x")
        self.assertRaises(RuntimeError, self.transport.resumeProducing)
        self.assertEqual(self.told(), [ConnectionDone])
        self.peer.halfCloses()
        self.assertRaises(AssertionError, self.peer.sends, b"x")

    def test_strictHalf(self) -> None:
        """A write after C{loseWriteConnection} raises."""
        self.transport.loseWriteConnection()
        self.assertRaises(AssertionError, self.transport.write, b"x")


class EndpointTests(SynchronousTestCase):
    """The endpoint accepts or refuses connections in a later turn, or leaves them pending."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(self.clock)
        self.connected = self.endpoint.connect(Factory.forProtocol(Noted))

    def test_accept(self) -> None:
        """The Deferred fires with a protocol that is connected."""
        verifyObject(IStreamClientEndpoint, self.endpoint)
        self.assertNoResult(self.connected)
        self.clock.advance(0)
        protocol: Any = self.successResultOf(self.connected)
        protocol.transport.write(b"hello")
        self.assertEqual(self.endpoint.peers[0].got(), b"hello")

    def test_refuse(self) -> None:
        """A refused connection fails the Deferred."""
        self.endpoint.decision = self.endpoint.refuse
        self.clock.advance(0)
        self.failureResultOf(self.connected)
        self.assertEqual((self.endpoint.peers, self.endpoint.pending), ([], 0))

    def test_cancel(self) -> None:
        """A pending connection can be cancelled, and is not accepted then."""
        self.endpoint.decision = None
        self.clock.advance(0)
        self.assertEqual(self.endpoint.pending, 1)
        self.connected.cancel()
        self.failureResultOf(self.connected)
        self.assertEqual(self.endpoint.pending, 0)


class ReadingTests(SynchronousTestCase):
    """Bytes are parsed as messages; an incomplete message is an C{AssertionError}."""

    def test_responses(self) -> None:
        """Several responses are separated, also interim ones and those without a body."""
        data = INTERIM + OK + TO_HEAD + OK
        found = [(each.status, each.body) for each in readResponses(data, "GET", "HEAD", "GET")]
        self.assertEqual(found, [(100, b""), (200, b"ok"), (200, b""), (200, b"ok")])

    def test_tunnel(self) -> None:
        """The bytes after a 101 are its body."""
        data = b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nrest"
        self.assertEqual([each.body for each in readResponses(data)], [b"rest"])

    def test_untilClose(self) -> None:
        """A response without a length is complete when its connection is closed."""
        data = b"HTTP/1.0 200 OK\r\n\r\nall"
        self.assertRaises(AssertionError, list, readResponses(data))
        self.assertEqual([each.body for each in readResponses(data, closed=True)], [b"all"])

    def test_requests(self) -> None:
        """Several requests are separated, with their bodies."""
        found = [(each.method, each.body) for each in readRequests(GET + POST)]
        self.assertEqual(found, [("GET", b""), ("POST", b"z")])

    def test_incomplete(self) -> None:
        """An incomplete head or body raises."""
        for data in (OK[:-1], OK[:9]):
            self.assertRaises(AssertionError, list, readResponses(data))
        for data in (GET[:-1], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"):
            self.assertRaises(AssertionError, list, readRequests(data))

    def test_oneWanted(self) -> None:
        """If there is not exactly one message, the error lists those that there are."""
        harness = Harness()
        client = harness.connect()
        error = self.assertRaises(AssertionError, client.gotResponse)
        self.assertIn("expected one response", str(error))
        client.sends(GET)
        upstream = harness.upstream()
        self.assertEqual(upstream.gotRequest().target, "/x")
        self.assertRaises(AssertionError, upstream.gotRequest)


class ConversationTests(SynchronousTestCase):
    """A harness runs the real proxy, and knows whether anything of it is left."""

    def test_exchange(self) -> None:
        """A request goes to the upstream, and its response comes back, as bytes."""
        harness = Harness()
        client = harness.connect("192.0.2.7")
        client.sends(GET)
        self.assertIn(b"X-Forwarded-For: 192.0.2.7\r\n", harness.upstream(0).got())
        harness.upstream(0).sends(OK)
        self.assertEqual(client.pieces, [OK])
        self.assertEqual(client.gotResponse().body, b"ok")
        self.assertEqual([each.status for each in harness.exchanges], [200])
        harness.assertQuiet()

    def test_noSuchUpstream(self) -> None:
        """Asking for a connection that was not opened raises."""
        error = self.assertRaises(AssertionError, Harness().upstream)
        self.assertEqual(str(error), "sitio has opened 0 connections so far")

    def test_held(self) -> None:
        """Connections can be left pending, accepted one by one, or all be accepted."""
        harness = Harness()
        self.assertRaises(AssertionError, harness.accept)
        harness.holdConnections()
        for _ in range(3):
            harness.connect().sends(GET)
        self.assertEqual(harness.upstreams, [])
        self.assertIn(b"GET /x", harness.accept().got())
        self.assertEqual(len(harness.upstreams), 1)
        harness.acceptConnections()
        self.assertEqual(len(harness.upstreams), 3)
        harness.assertQuiet()

    def test_refused(self) -> None:
        """A refused connection fails the exchange, and is listed in C{failures}."""
        harness = Harness()
        harness.refuseConnections()
        client = harness.connect()
        client.sends(GET)
        self.assertEqual(client.gotResponse().status, 502)
        self.assertEqual([each.status for each in harness.failures], [502])
        harness.assertQuiet()

    def test_tunnel(self) -> None:
        """A tunnel ends one direction at a time, in either order, and closes after both."""
        for clientFirst in (True, False):
            harness = Harness()
            client = harness.connect()
            client.sends(SWITCH[0])
            upstream = harness.upstream()
            self.assertIn(b"\r\nUpgrade: x\r\n", upstream.got())
            upstream.sends(SWITCH[1])
            self.assertTrue(client.got().endswith(b"\r\n\r\nhello"))
            first, second = (client, upstream) if clientFirst else (upstream, client)
            first.halfCloses()
            self.assertEqual((first.state, second.state), (OPEN, HALF_CLOSED))
            second.sends(b"still")
            self.assertEqual(first.got(), b"still")
            second.halfCloses()
            self.assertEqual((first.state, second.state), (CLOSED, CLOSED))
            self.assertEqual(harness.clock.getDelayedCalls(), [])
            self.assertEqual([each.status for each in harness.exchanges], [101])

    def test_advance(self) -> None:
        """Time advances from call to call that is due, and by no more than asked for."""
        harness = Harness()
        called: list[float] = []

        def due() -> None:
            called.append(harness.clock.seconds())
            harness.clock.callLater(1, due)

        due()
        harness.advance(2.5)
        self.assertEqual((called, harness.clock.seconds()), ([0, 1, 2], 2.5))

    def test_leftDelayedCall(self) -> None:
        """C{assertQuiet} finds a delayed call that was not cancelled."""
        harness = Harness()
        harness.clock.callLater(5, list)
        error = self.assertRaises(AssertionError, harness.assertQuiet)
        self.assertIn("delayed calls", str(error))

    def test_leftConnection(self) -> None:
        """C{assertQuiet} finds a connection that sitio keeps after its client closed."""
        harness = Harness()
        client = harness.connect()
        self.patch(harness.factory, "closed", lambda server: None)
        client.resets()
        error = self.assertRaises(AssertionError, harness.assertQuiet)
        self.assertIn("connections of the server: 1", str(error))

    def test_errors(self) -> None:
        """What policies raise is contained and logged as always, and listed in C{errors}."""
        failing: Any = onResponse(200)(lambda exchange, response: [][0])
        harness = Harness([("failing", failing)])
        client = harness.connect()
        client.sends(GET)
        harness.upstream().sends(OK)
        self.assertEqual(client.gotResponse().status, 200)
        self.assertEqual([type(each) for each in harness.errors], [IndexError])
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)


@onResponse(404)
def friendly(exchange: Any, response: Response) -> Response:
    """The policy of docs/policies.md."""
    return Response(404, html=f"<h1>{exchange.request.path} is not here</h1>")


class RunPolicyTests(SynchronousTestCase):
    """L{runPolicy} returns what the client and the upstream got."""

    def test_outcome(self) -> None:
        """The client gets the policy's response; the upstream is asked once."""
        outcome = runPolicy(friendly, request("/x"), response(404))
        self.assertEqual((outcome.status, outcome.reason), (404, "Not Found"))
        self.assertEqual(outcome.text, "<h1>/x is not here</h1>")
        self.assertEqual(outcome.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual((outcome.attempts, outcome.whole, outcome.errors), (1, True, []))
        self.assertEqual([each.target for each in outcome.requests], ["/x"])
        self.assertTrue(verifyObject(IExchange, outcome.exchange))
        self.assertEqual(outcome.exchange.acted, ("friendly",))

    def test_untouched(self) -> None:
        """A response that no policy changes is sent; without responses the upstream sends a 200."""
        outcome = runPolicy(friendly, request("/x"), response(200, json={"a": 1}))
        self.assertEqual((outcome.status, outcome.json()), (200, {"a": 1}))
        self.assertEqual(runPolicy(friendly, request()).status, 200)

    def test_request(self) -> None:
        """The upstream gets the client's request, with Host and body."""
        sent = request("/x?y", "POST", {"X-A": "1"}, json=[1])
        [got] = runPolicy(friendly, sent).requests
        self.assertEqual((got.method, got.target, got.body), ("POST", "/x?y", b"[1]"))
        self.assertEqual(got.headers["X-A"], "1")
        self.assertEqual(got.headers["Host"], "localhost")
        self.assertEqual(got.headers["Content-Type"], "application/json")
        self.assertEqual(got.headers["X-Forwarded-For"], "192.0.2.1")

    def test_requestKept(self) -> None:
        """A Host in the headers is kept, and a request in HTTP/1.0 gets none."""
        [got] = runPolicy(friendly, request(headers={"host": "a.example"})).requests
        self.assertEqual(got.headers.getAll("host"), ["a.example"])
        self.assertNotIn("host", request(version="1.0").headers)
        outcome = runPolicy(friendly, request(version="1.0"))
        self.assertEqual(outcome.exchange.request.version, "1.0")

    def test_badRequest(self) -> None:
        """A request that can't be sent raises when it is made."""
        for bad in ("x", "/a b", "/a\r\nb"):
            self.assertRaises(ValueError, request, bad)
        self.assertRaises(ValueError, request, "/", "GET /")
        self.assertRaises(ValueError, request, "/", "POST", body=b"", json={})
        self.assertRaises(ValueError, request, version="2")

    def test_client(self) -> None:
        """A test can set the client's address, and TLS."""
        seen = []
        policy = onRequest(lambda exchange: seen.append((exchange.clientAddress, exchange.secure)))
        runPolicy(policy, request(), clientAddress="192.0.2.9", secure=True)
        self.assertEqual(seen, [("192.0.2.9", True)])

    def test_head(self) -> None:
        """A response to HEAD has no body."""
        outcome = runPolicy(friendly, request("/x", "HEAD"), response(200, text="four"))
        self.assertEqual((outcome.status, outcome.body, outcome.whole), (200, b"", True))
        self.assertEqual(runPolicy(friendly, request(), response(304)).status, 304)

    def test_mishaps(self) -> None:
        """Each failure looks to policies like a real one, and takes as long on the clock."""
        statuses = []
        policy = onResponse(502, 504)(
            lambda exchange, response: statuses.append((response.status, exchange.began))
        )
        clock = Clock()
        for mishap in (connectionRefused(), connectionReset(), noResponse()):
            outcome = runPolicy(policy, request(), mishap, clock=clock)
            self.assertEqual(outcome.attempts, 1)
            self.assertTrue(outcome.whole)
        self.assertEqual([status for status, _ in statuses], [502, 502, 504])
        self.assertGreater(clock.seconds(), Settings().responseTimeout - 1)

    def test_incomplete(self) -> None:
        """The client gets a part of an incomplete response, and the outcome says so."""
        outcome = runPolicy(friendly, request(), incompleteResponse(response(200, text="abcdef")))
        self.assertEqual((outcome.status, outcome.body, outcome.whole), (200, b"abc", False))
        self.assertRaises(ValueError, incompleteResponse, response(200))

    def test_attempts(self) -> None:
        """Each attempt gets the next response; the last one is repeated."""
        again = onResponse(500, 502)(
            lambda exchange, response: Retry(20) if exchange.attempts < 5 else None
        )
        outcome = runPolicy(again, request(), connectionReset(), connectionRefused(), response(500))
        self.assertEqual((outcome.status, outcome.attempts), (500, 5))
        # The second attempt was refused, so the upstream got no request.
        self.assertEqual(len(outcome.requests), 4)
        self.assertEqual(outcome.exchange.duration, 80)

    def test_pieces(self) -> None:
        """Bodies arrive in pieces, after their heads, unless a test says otherwise."""
        passed: list[bytes] = []
        came: list[bytes] = []

        def noting(data: bytes) -> bytes:
            passed.append(data)
            return data

        def notingRequest(data: bytes) -> bytes:
            came.append(data)
            return data

        policies = [
            onRequest(lambda exchange: exchange.request.addFilter(notingRequest)),
            onResponse()(lambda exchange, response: response.addFilter(noting)),
        ]
        sent = request("/", "PUT", body=b"abc")
        outcome: Any = None
        for pieces, request_, response_ in (
            (2, [b"ab", b"c", b""], [b"12", b"34", b"5", b""]),
            (0, [b"abc", b""], [b"12345", b""]),
            (None, [b"a", b"b", b"c", b""], [b"12", b"34", b"5", b""]),
        ):
            came.clear()
            passed.clear()
            outcome = runPolicy(policies, sent, response(200, text="12345"), pieces=pieces)
            self.assertEqual((came, passed), (request_, response_))
            self.assertEqual(outcome.requests[0].body, b"abc")
            self.assertEqual((outcome.text, outcome.whole), ("12345", True))

    def test_described(self) -> None:
        """A policy may be a description, a pair with its name, or a list of policies."""
        self.assertEqual(
            runPolicy("error-page:404", request(), response(404)).exchange.acted, ("error-page",)
        )
        self.assertEqual(
            runPolicy(("kind", friendly), request(), response(404)).exchange.acted, ("kind",)
        )
        both = runPolicy(
            [("first", friendly), friendly, "error-page:404"], request(), response(404)
        )
        self.assertEqual(both.exchange.acted, ("first", "friendly", "error-page"))

    def test_raised(self) -> None:
        """What a policy raises is raised by C{runPolicy}, and not logged."""
        for policy in (
            onRequest(lambda exchange: NOTHING["key"]),
            onResponse()(lambda exchange, response: NOTHING["key"]),
            onFinish(lambda exchange: NOTHING["key"]),
        ):
            self.assertRaises(KeyError, runPolicy, policy, request())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_notRaised(self) -> None:
        """With C{raiseErrors=False} errors are contained, so that the client gets its response."""
        failing: Any = onRequest(lambda exchange: NOTHING["key"])
        outcome = runPolicy(failing, request(), raiseErrors=False)
        self.assertEqual((outcome.status, outcome.attempts), (500, 0))
        self.assertEqual([type(each) for each in outcome.errors], [KeyError])
        failing = onResponse()(lambda exchange, response: NOTHING["key"])
        outcome = runPolicy(failing, request(), raiseErrors=False)
        self.assertEqual((outcome.status, len(outcome.errors)), (200, 1))

    def test_filterRaised(self) -> None:
        """What a body filter raises is raised as well."""

        def broken(data: bytes) -> bytes:
            raise ArithmeticError(f"after {len(data)}")

        for keepsLength in (True, False):
            policy = onResponse()(
                lambda exchange, response, keeps=keepsLength: response.addFilter(
                    broken, keepsLength=keeps
                )
            )
            self.assertRaises(
                ArithmeticError, runPolicy, policy, request(), response(200, text="x")
            )
            for pieces, status in ((0, 502), (None, 200)):
                outcome = runPolicy(
                    policy, request(), response(200, text="x"), pieces=pieces, raiseErrors=False
                )
                self.assertEqual(outcome.status, 200 if keepsLength else status)
                self.assertEqual(outcome.whole, keepsLength or pieces == 0)
                self.assertEqual(len(outcome.errors), 1)

    def test_coreRaised(self) -> None:
        """A failure of sitio itself, which is logged, is raised as well."""
        runner: Runner
        with Runner(onRequest(lambda exchange: deferLater(runner.clock, 1))) as runner:
            self.patch(runner.harness.pool, "takeIdle", lambda: NOTHING["key"])
            self.assertRaises(KeyError, runner.run, request())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_earlyAnswer(self) -> None:
        """A policy may answer before the body of the request has arrived."""
        policy = onRequest(lambda exchange: Response(413, text="too long"))
        outcome = runPolicy(policy, request("/", "PUT", body=b"abc"), pieces=1)
        self.assertEqual((outcome.status, outcome.text), (413, "too long"))

    def test_coroutine(self) -> None:
        """The clock advances for policies that wait on it."""
        clock = Clock()

        async def slow(exchange: Any) -> Response:
            await deferLater(clock, 7)
            return Response(403)

        outcome = runPolicy(onRequest(slow), request(), clock=clock)
        self.assertEqual((outcome.status, outcome.attempts), (403, 0))
        self.assertEqual(outcome.exchange.duration, 7)

    def test_neverFired(self) -> None:
        """A policy that waits for ever meets the policy timeout."""
        never: Deferred[None] = Deferred()
        self.assertRaises(WaitedTooLong, runPolicy, onRequest(lambda exchange: never), request())

    def test_endless(self) -> None:
        """An exchange that does not end raises."""
        settings = Settings(policyTimeout=1e9)
        never: Deferred[None] = Deferred()
        error = self.assertRaises(
            AssertionError,
            runPolicy,
            onRequest(lambda exchange: never),
            request(),
            settings=settings,
        )
        self.assertIn("does not end", str(error))


@implementer(IResponsePolicy)
@define
class Expiring:
    """Stores the last good body for ten seconds; its C{seconds} is a real clock by default."""

    seconds: Any = None
    buffered = True
    statuses = range(100, 1000)
    kept: tuple[float, bytes] | None = None

    def responseReceived(self, exchange: Any, response: Response) -> Response | None:
        now = self.seconds()
        if response.status == 200:
            self.kept = now, response.body or b""
        elif self.kept is not None and now - self.kept[0] < 10:
            return Response(200, body=self.kept[1])
        return None


@implementer(IService, IResponsePolicy)
class Served(Service):
    """A policy that is a service, and records when it is started and stopped."""

    statuses = ()
    buffered = False

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ends: Any = None

    def startService(self) -> None:
        Service.startService(self)
        self.told.append("started")

    def stopService(self) -> Any:
        Service.stopService(self)
        self.told.append("stopped")
        return self.ends

    def responseReceived(self, exchange: Any, response: Response) -> None:
        """Does nothing."""


class RunnerTests(SynchronousTestCase):
    """A L{Runner} keeps one proxy, and the memory of its policies."""

    def test_remembers(self) -> None:
        """A policy remembers earlier requests, and its counters add up."""
        with Runner(friendly) as runner:
            for _ in range(3):
                runner.run(request(), response(404))
            [metrics] = runner.harness.context.chain.snapshot()
            self.assertEqual((metrics["name"], metrics["called"]), ("friendly", 3))
            self.assertEqual((metrics["acted"], metrics["failed"]), (3, 0))

    def test_seconds(self) -> None:
        """A policy with an attribute C{seconds} gets that of the test's clock."""
        policy = Expiring(seconds=lambda: 0)
        with Runner(policy) as runner:
            runner.run(request(), response(200, text="good"))
            self.assertEqual(runner.run(request(), connectionRefused()).text, "good")
            runner.advance(9)
            self.assertEqual(runner.run(request(), connectionRefused()).text, "good")
            runner.clock.advance(2)
            self.assertEqual(runner.run(request(), connectionRefused()).status, 502)

    def test_apart(self) -> None:
        """
        Each run has its own outcome, without connections, errors and responses of
        earlier runs.
        """
        boom = onResponse(500)(lambda exchange, response: NOTHING["key"])
        with Runner(boom) as runner:
            self.assertEqual(len(runner.run(request(), response(500), raiseErrors=False).errors), 1)
            outcome = runner.run(request("/y"), response(200))
            self.assertEqual((outcome.errors, outcome.attempts), ([], 1))
            self.assertEqual([each.target for each in outcome.requests], ["/y"])
            runner.harness.assertQuiet()

    def test_services(self) -> None:
        """Policies that are services run within the C{with} statement."""
        policy = Served()
        runPolicy(policy, request())
        self.assertEqual(policy.told, ["started", "stopped"])

    def test_stopFails(self) -> None:
        """A service that fails to stop raises."""
        policy = Served()
        with self.assertRaises(ZeroDivisionError), Runner(policy):
            policy.ends = Deferred()
            policy.ends.errback(ZeroDivisionError())

    def test_coroutines(self) -> None:
        """The methods of a service may await asyncio; the runner waits for the end of a stop."""
        policy = Served()

        async def ends() -> None:
            await asyncio.sleep(2)
            policy.told.append("ended")

        with Runner(policy):
            policy.ends = ends()
        self.assertEqual(policy.told, ["started", "stopped", "ended"])

    def test_stopHangs(self) -> None:
        """A service that does not stop raises, as sitio stops waiting for it."""
        policy = Served()
        with (
            self.assertRaisesRegex(WaitedTooLong, "stopService took longer than 5 s"),
            Runner(policy),
        ):
            policy.ends = Deferred()
