"""
The test kit keeps its own promises: connections in memory behave as real ones
do, a harness finds what is left behind, and L{runPolicy} shows what a
client and an upstream would have seen.
"""

from __future__ import annotations

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
    brokenOff,
    readRequests,
    readResponses,
    refused,
    request,
    reset,
    response,
    runPolicy,
    silence,
)
from sitio.testing.network import TRANSPORT_BUFFER, MemoryEndpoint

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
    """Notes down what its transport tells it."""

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
    """A connection in memory is one of TCP to the protocol at its end, and stricter."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connect()

    def connect(self, secure: bool = False) -> None:
        """Make a connection of its own for what follows."""
        self.peer = Peer(self.clock, secure=secure)
        self.protocol = Noted()
        self.peer.connect(self.protocol)
        self.transport = self.protocol.transport

    def told(self) -> list[Any]:
        """What the protocol was told since the last call."""
        self.clock.advance(0)
        told, self.protocol.told = self.protocol.told, []
        return told

    def test_interface(self) -> None:
        """It provides what TCP transports do, and says where the client comes from."""
        verifyObject(ITCPTransport, self.transport)
        self.assertEqual(self.transport.getPeer().host, "192.0.2.1")
        self.assertFalse(ISSLTransport.providedBy(self.transport))

    def test_pieces(self) -> None:
        """What a peer sends arrives piece by piece, a long piece as several."""
        self.peer.sends(b"a", b"bc")
        self.assertEqual(self.told(), [b"a", b"bc"])
        self.peer.sends(b"x" * (TRANSPORT_BUFFER + 1))
        self.assertEqual([len(each) for each in self.told()], [TRANSPORT_BUFFER, 1])

    def test_paused(self) -> None:
        """While a transport is paused nothing is delivered, not even the end; then all is."""
        self.transport.pauseProducing()
        self.assertTrue(self.peer.paused)
        self.peer.sends(b"a", b"b")
        self.peer.halfCloses()
        self.assertEqual(self.told(), [])
        self.transport.resumeProducing()
        # In a later turn, as a reactor would have it.
        self.assertEqual(self.protocol.told, [])
        self.assertEqual(self.told(), [b"a", b"b", "read lost"])

    def test_writesPileUp(self) -> None:
        """A peer that doesn't read has the producer paused, at every write, until it reads."""
        self.transport.registerProducer(self.protocol, True)
        self.peer.stopsReading()
        self.transport.write(b"a")
        self.transport.write(b"b")
        self.assertEqual(self.told(), ["pause", "pause"])
        self.assertEqual((self.peer.backlog, self.peer.got()), (2, b""))
        self.peer.readsOn()
        self.assertEqual(self.told(), ["resume"])
        self.assertEqual((self.peer.backlog, self.peer.got()), (0, b"ab"))

    def test_longWrite(self) -> None:
        """A write longer than the transport's buffer asks for a pause even of a quick peer."""
        self.transport.registerProducer(self.protocol, True)
        self.transport.write(b"x" * TRANSPORT_BUFFER)
        self.assertEqual(self.told(), [])
        self.transport.write(b"x" * (TRANSPORT_BUFFER + 1))
        self.assertEqual(self.protocol.told, ["pause"])
        self.assertEqual(self.told(), ["pause", "resume"])

    def test_writesApart(self) -> None:
        """How many writes there were can be seen."""
        self.transport.write(b"a")
        self.transport.writeSequence([b"b", b"c"])
        self.clock.advance(0)
        self.assertEqual(self.peer.pieces, [b"a", b"bc"])

    def test_loseConnection(self) -> None:
        """A close lets out what was written first, and is told in a later turn."""
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.assertEqual(self.protocol.told, [])
        self.assertEqual(self.peer.got(), b"bye")
        self.assertEqual(self.told(), [ConnectionDone])
        self.assertEqual((self.peer.state, self.peer.closed, self.peer.reset), (CLOSED, 1, 0))

    def test_loseConnectionWaits(self) -> None:
        """A close waits for a peer that doesn't read, and a broken connection does not."""
        self.peer.stopsReading()
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.assertEqual((self.told(), self.peer.state), ([], OPEN))
        self.transport.abortConnection()
        self.assertEqual((self.told(), self.peer.state), ([ConnectionAborted], RESET))
        self.assertEqual(self.peer.got(), b"")

    def test_abortConnection(self) -> None:
        """A connection that sitio breaks is told apart from one that it closes."""
        self.transport.registerProducer(self.protocol, True)
        self.transport.abortConnection()
        self.transport.abortConnection()
        self.assertEqual(self.told(), ["stop", ConnectionAborted])
        self.assertEqual((self.peer.state, self.peer.closed, self.peer.reset), (RESET, 0, 1))
        self.transport.unregisterProducer()

    def test_closeWithUnreadBytes(self) -> None:
        """To close while the peer's bytes lie unread breaks the connection, as TCP does."""
        self.transport.pauseProducing()
        self.peer.sends(b"unread")
        self.transport.loseConnection()
        self.told()
        self.assertEqual(self.peer.state, RESET)

    def test_sendToClosed(self) -> None:
        """A peer that goes on sending to a closed connection gets a reset."""
        self.transport.loseConnection()
        self.told()
        self.peer.sends(b"too late")
        self.assertEqual((self.told(), self.peer.state), ([], RESET))

    def test_halfCloses(self) -> None:
        """Each half ends on its own; once sitio's has, a close is told at once."""
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
        """A peer that has closed looks as one that sends no more, until it is written to."""
        self.peer.closes()
        self.assertEqual(self.told(), ["read lost"])
        self.transport.write(b"anybody there?")
        self.assertEqual(self.told(), [ConnectionLost])

    def test_resets(self) -> None:
        """A peer's reset takes along what had not been read."""
        self.transport.pauseProducing()
        self.peer.sends(b"unread")
        self.peer.resets()
        self.assertEqual(self.told(), [])
        self.transport.resumeProducing()
        self.assertEqual(self.told(), [ConnectionLost])

    def test_secure(self) -> None:
        """Over TLS there is no half-close: the end of one half is that of both."""
        self.connect(secure=True)
        self.assertTrue(ISSLTransport.providedBy(self.transport))
        self.assertRaises(AssertionError, self.transport.loseWriteConnection)
        self.peer.halfCloses()
        self.assertEqual(self.told(), [ConnectionDone])

    def test_strict(self) -> None:
        """What real transports pass over in silence, or never end, raises here."""
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
        """Nothing can be written once sitio has said that it writes no more."""
        self.transport.loseWriteConnection()
        self.assertRaises(AssertionError, self.transport.write, b"x")


class EndpointTests(SynchronousTestCase):
    """Connections to the upstream are made, refused or left pending, in a later turn."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(self.clock)
        self.connected = self.endpoint.connect(Factory.forProtocol(Noted))

    def test_accept(self) -> None:
        """The Deferred fires with the protocol, whose connection is made by then."""
        verifyObject(IStreamClientEndpoint, self.endpoint)
        self.assertNoResult(self.connected)
        self.clock.advance(0)
        protocol: Any = self.successResultOf(self.connected)
        protocol.transport.write(b"hello")
        self.assertEqual(self.endpoint.peers[0].got(), b"hello")

    def test_refuse(self) -> None:
        """What is to be refused fails."""
        self.endpoint.verdict = self.endpoint.refuse
        self.clock.advance(0)
        self.failureResultOf(self.connected)
        self.assertEqual((self.endpoint.peers, self.endpoint.pending), ([], 0))

    def test_cancel(self) -> None:
        """A pending connection can be given up, and is then accepted no more."""
        self.endpoint.verdict = None
        self.clock.advance(0)
        self.assertEqual(self.endpoint.pending, 1)
        self.connected.cancel()
        self.failureResultOf(self.connected)
        self.assertEqual(self.endpoint.pending, 0)


class ReadingTests(SynchronousTestCase):
    """Bytes are read as messages, and what is no whole one is an assertion's failure."""

    def test_responses(self) -> None:
        """Several responses, interim ones and those without a body are told apart."""
        data = INTERIM + OK + TO_HEAD + OK
        found = [(each.status, each.body) for each in readResponses(data, "GET", "HEAD", "GET")]
        self.assertEqual(found, [(100, b""), (200, b"ok"), (200, b""), (200, b"ok")])

    def test_tunnel(self) -> None:
        """What follows a 101 is its body: bytes of something else."""
        data = b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nrest"
        self.assertEqual([each.body for each in readResponses(data)], [b"rest"])

    def test_untilClose(self) -> None:
        """A response without a length is whole when its connection has closed."""
        data = b"HTTP/1.0 200 OK\r\n\r\nall"
        self.assertRaises(AssertionError, list, readResponses(data))
        self.assertEqual([each.body for each in readResponses(data, closed=True)], [b"all"])

    def test_requests(self) -> None:
        """Several requests are told apart, their bodies complete."""
        found = [(each.method, each.body) for each in readRequests(GET + POST)]
        self.assertEqual(found, [("GET", b""), ("POST", b"z")])

    def test_incomplete(self) -> None:
        """A message that lacks some of its head or body is none."""
        for data in (OK[:-1], OK[:9]):
            self.assertRaises(AssertionError, list, readResponses(data))
        for data in (GET[:-1], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"):
            self.assertRaises(AssertionError, list, readRequests(data))

    def test_oneWanted(self) -> None:
        """Who wants one message is told what has come instead."""
        harness = Harness()
        client = harness.connect()
        error = self.assertRaises(AssertionError, client.gotResponse)
        self.assertIn("one response was wanted", str(error))
        client.sends(GET)
        upstream = harness.upstream()
        self.assertEqual(upstream.gotRequest().target, "/x")
        self.assertRaises(AssertionError, upstream.gotRequest)


class ConversationTests(SynchronousTestCase):
    """A harness is the real core, and knows whether anything of it is left."""

    def test_exchange(self) -> None:
        """A request goes to the upstream and its response comes back; both are seen as bytes."""
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
        """To ask for a connection that was not opened is a failure that says so."""
        error = self.assertRaises(AssertionError, Harness().upstream)
        self.assertEqual(str(error), "sitio has opened 0 connections so far")

    def test_held(self) -> None:
        """Connections can be held, accepted one by one, and all from then on."""
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
        """A refused connection is the exchange's failure, and kept for the test to see."""
        harness = Harness()
        harness.refuseConnections()
        client = harness.connect()
        client.sends(GET)
        self.assertEqual(client.gotResponse().status, 502)
        self.assertEqual([each.status for each in harness.failures], [502])
        harness.assertQuiet()

    def test_tunnel(self) -> None:
        """A tunnel ends one half at a time, in either order, and with both it is closed."""
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
        """Time passes in the steps in which something is due, and by no more than asked."""
        harness = Harness()
        called: list[float] = []

        def due() -> None:
            called.append(harness.clock.seconds())
            harness.clock.callLater(1, due)

        due()
        harness.advance(2.5)
        self.assertEqual((called, harness.clock.seconds()), ([0, 1, 2], 2.5))

    def test_leftDelayedCall(self) -> None:
        """A delayed call that nobody cancelled is not quiet."""
        harness = Harness()
        harness.clock.callLater(5, list)
        error = self.assertRaises(AssertionError, harness.assertQuiet)
        self.assertIn("delayed calls", str(error))

    def test_leftConnection(self) -> None:
        """A connection that sitio keeps though its client has gone is not quiet."""
        harness = Harness()
        client = harness.connect()
        self.patch(harness.factory, "closed", lambda server: None)
        client.resets()
        error = self.assertRaises(AssertionError, harness.assertQuiet)
        self.assertIn("connections of the server: 1", str(error))

    def test_errors(self) -> None:
        """What policies raise is contained and logged as ever, and kept for the test to see."""
        failing = onResponse(200)(lambda exchange, response: [][0])
        harness = Harness([("failing", failing)])
        client = harness.connect()
        client.sends(GET)
        harness.upstream().sends(OK)
        self.assertEqual(client.gotResponse().status, 200)
        self.assertEqual([type(each) for each in harness.errors], [IndexError])
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)


@onResponse(404)
def friendly(exchange: Any, response: Response) -> Response:
    """The policy of the manual."""
    return Response(404, html=f"<h1>{exchange.request.path} is not here</h1>")


class RunPolicyTests(SynchronousTestCase):
    """L{runPolicy} tells what a client got and how often the upstream was asked."""

    def test_outcome(self) -> None:
        """The policy's response is what the client got; the upstream was asked once."""
        outcome = runPolicy(friendly, request("/x"), response(404))
        self.assertEqual((outcome.status, outcome.reason), (404, "Not Found"))
        self.assertEqual(outcome.text, "<h1>/x is not here</h1>")
        self.assertEqual(outcome.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual((outcome.attempts, outcome.whole, outcome.errors), (1, True, []))
        self.assertEqual([each.target for each in outcome.requests], ["/x"])
        self.assertTrue(verifyObject(IExchange, outcome.exchange))
        self.assertEqual(outcome.exchange.acted, ("friendly",))

    def test_untouched(self) -> None:
        """A response that no policy wants comes through; without any the upstream says 200."""
        outcome = runPolicy(friendly, request("/x"), response(200, json={"a": 1}))
        self.assertEqual((outcome.status, outcome.json()), (200, {"a": 1}))
        self.assertEqual(runPolicy(friendly, request()).status, 200)

    def test_request(self) -> None:
        """What the upstream got is the request as the client sent it, Host and body included."""
        sent = request("/x?y", "POST", {"X-A": "1"}, json=[1])
        [got] = runPolicy(friendly, sent).requests
        self.assertEqual((got.method, got.target, got.body), ("POST", "/x?y", b"[1]"))
        self.assertEqual(got.headers["X-A"], "1")
        self.assertEqual(got.headers["Host"], "localhost")
        self.assertEqual(got.headers["Content-Type"], "application/json")
        self.assertEqual(got.headers["X-Forwarded-For"], "192.0.2.1")

    def test_requestKept(self) -> None:
        """Headers that a test gives itself stand, and HTTP/1.0 needs no Host."""
        [got] = runPolicy(friendly, request(headers={"host": "a.example"})).requests
        self.assertEqual(got.headers.getAll("host"), ["a.example"])
        self.assertNotIn("host", request(version="1.0").headers)
        outcome = runPolicy(friendly, request(version="1.0"))
        self.assertEqual(outcome.exchange.request.version, "1.0")

    def test_badRequest(self) -> None:
        """A request that no client can send is refused where it is made."""
        for bad in ("x", "/a b", "/a\r\nb"):
            self.assertRaises(ValueError, request, bad)
        self.assertRaises(ValueError, request, "/", "GET /")

    def test_client(self) -> None:
        """Where the client comes from can be said, and that it came by TLS."""
        seen = []
        policy = onRequest(lambda exchange: seen.append((exchange.clientAddress, exchange.secure)))
        runPolicy(policy, request(), clientAddress="192.0.2.9", secure=True)
        self.assertEqual(seen, [("192.0.2.9", True)])

    def test_head(self) -> None:
        """A response to HEAD has no body, as on the wire."""
        outcome = runPolicy(friendly, request("/x", "HEAD"), response(200, text="four"))
        self.assertEqual((outcome.status, outcome.body, outcome.whole), (200, b"", True))
        self.assertEqual(runPolicy(friendly, request(), response(304)).status, 304)

    def test_mishaps(self) -> None:
        """Each way to fail looks to policies as it does in life, and waits as long."""
        statuses = []
        policy = onResponse(502, 504)(
            lambda exchange, response: statuses.append((response.status, exchange.began))
        )
        clock = Clock()
        for mishap in (refused(), reset(), silence()):
            outcome = runPolicy(policy, request(), mishap, clock=clock)
            self.assertEqual(outcome.attempts, 1)
            self.assertTrue(outcome.whole)
        self.assertEqual([status for status, _ in statuses], [502, 502, 504])
        self.assertGreater(clock.seconds(), Settings().responseTimeout - 1)

    def test_brokenOff(self) -> None:
        """A response that breaks off reaches the client in part, and differs from a whole one."""
        outcome = runPolicy(friendly, request(), brokenOff(response(200, text="abcdef")))
        self.assertEqual((outcome.status, outcome.body, outcome.whole), (200, b"abc", False))
        self.assertRaises(ValueError, brokenOff, response(200))

    def test_attempts(self) -> None:
        """Responses are given one to each attempt, the last one to all that follow."""
        again = onResponse(500, 502)(
            lambda exchange, response: Retry(20) if exchange.attempts < 5 else None
        )
        outcome = runPolicy(again, request(), reset(), refused(), response(500))
        self.assertEqual((outcome.status, outcome.attempts), (500, 5))
        # The second was refused, and so nothing of it was seen.
        self.assertEqual(len(outcome.requests), 4)
        self.assertEqual(outcome.exchange.duration, 80)

    def test_pieces(self) -> None:
        """Bodies can be made to arrive in pieces, of the request as of the response."""
        passed: list[bytes] = []

        def noting(data: bytes) -> bytes:
            passed.append(data)
            return data

        bodies = []
        policies = [
            onRequest(lambda exchange: bodies.append(exchange.request.body)),
            onResponse()(lambda exchange, response: response.addFilter(noting)),
        ]
        sent = request("/", "PUT", body=b"abc")
        outcome = runPolicy(policies, sent, response(200, text="12345"), pieces=2)
        self.assertEqual(bodies, [None])
        self.assertEqual(outcome.requests[0].body, b"abc")
        self.assertEqual(passed, [b"12", b"34", b"5", b""])
        self.assertEqual((outcome.text, outcome.whole), ("12345", True))

    def test_described(self) -> None:
        """A policy may be given as the operator would, in a pair with its name, or in a list."""
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
        """What a policy raises is raised at its author's test, and not logged as well."""
        for policy in (
            onRequest(lambda exchange: NOTHING["key"]),
            onResponse()(lambda exchange, response: NOTHING["key"]),
            onFinish(lambda exchange: NOTHING["key"]),
        ):
            self.assertRaises(KeyError, runPolicy, policy, request())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_contained(self) -> None:
        """On request it is contained as in life, so that what the client gets can be seen."""
        failing: Any = onRequest(lambda exchange: NOTHING["key"])
        outcome = runPolicy(failing, request(), contained=True)
        self.assertEqual((outcome.status, outcome.attempts), (500, 0))
        self.assertEqual([type(each) for each in outcome.errors], [KeyError])
        failing = onResponse()(lambda exchange, response: NOTHING["key"])
        outcome = runPolicy(failing, request(), contained=True)
        self.assertEqual((outcome.status, len(outcome.errors)), (200, 1))

    def test_filterRaised(self) -> None:
        """What a body filter raises comes out too, though the core alone has seen it."""

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
            outcome = runPolicy(policy, request(), response(200, text="x"), contained=True)
            self.assertEqual(outcome.status, 200 if keepsLength else None)
            self.assertEqual(outcome.whole, keepsLength)

    def test_coreRaised(self) -> None:
        """A mistake of sitio's own, logged for the operator, does not stay unseen either."""
        with Runner(onRequest(lambda exchange: deferLater(runner.clock, 1))) as runner:
            self.patch(runner.harness.pool, "takeIdle", lambda: NOTHING["key"])
            self.assertRaises(KeyError, runner.run, request())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_earlyAnswer(self) -> None:
        """An answer that comes before the body has, from a policy, is no mishap."""
        policy = onRequest(lambda exchange: Response(413, text="too long"))
        outcome = runPolicy(policy, request("/", "PUT", body=b"abc"), pieces=1)
        self.assertEqual((outcome.status, outcome.text), (413, "too long"))

    def test_coroutine(self) -> None:
        """Policies that wait on the kit's clock are waited for."""
        clock = Clock()

        async def slow(exchange: Any) -> Response:
            await deferLater(clock, 7)
            return Response(403)

        outcome = runPolicy(onRequest(slow), request(), clock=clock)
        self.assertEqual((outcome.status, outcome.attempts), (403, 0))
        self.assertEqual(outcome.exchange.duration, 7)

    def test_neverFired(self) -> None:
        """A policy that waits for what never comes meets the policy timeout, and says so."""
        never: Deferred[None] = Deferred()
        self.assertRaises(WaitedTooLong, runPolicy, onRequest(lambda exchange: never), request())

    def test_endless(self) -> None:
        """An exchange that does not end is a failure of the test, not an endless one."""
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
    """Remembers the last good body for ten seconds, on a time source of its own."""

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
    """A policy that runs a service, which it notes down."""

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
        """Of no interest."""


class RunnerTests(SynchronousTestCase):
    """A L{Runner} keeps one sidecar, and what its policies remember."""

    def test_remembers(self) -> None:
        """What a policy has seen in one request it knows in the next; metrics add up."""
        with Runner(friendly) as runner:
            for _ in range(3):
                runner.run(request(), response(404))
            [metrics] = runner.harness.context.chain.snapshot()
            self.assertEqual((metrics["name"], metrics["called"]), ("friendly", 3))
            self.assertEqual((metrics["acted"], metrics["failed"]), (3, 0))

    def test_seconds(self) -> None:
        """A policy that tells time by its C{seconds} does so by the clock of the test."""
        policy = Expiring(seconds=lambda: 0)
        with Runner(policy) as runner:
            runner.run(request(), response(200, text="good"))
            self.assertEqual(runner.run(request(), refused()).text, "good")
            runner.advance(9)
            self.assertEqual(runner.run(request(), refused()).text, "good")
            runner.clock.advance(2)
            self.assertEqual(runner.run(request(), refused()).status, 502)

    def test_apart(self) -> None:
        """Each run has its own outcome: connections, errors and responses of others are gone."""
        boom = onResponse(500)(lambda exchange, response: NOTHING["key"])
        with Runner(boom) as runner:
            self.assertEqual(len(runner.run(request(), response(500), contained=True).errors), 1)
            outcome = runner.run(request("/y"), response(200))
            self.assertEqual((outcome.errors, outcome.attempts), ([], 1))
            self.assertEqual([each.target for each in outcome.requests], ["/y"])
            runner.harness.assertQuiet()

    def test_services(self) -> None:
        """Policies that are services run while the runner is entered, and no longer."""
        policy = Served()
        runPolicy(policy, request())
        self.assertEqual(policy.told, ["started", "stopped"])

    def test_stopFails(self) -> None:
        """A service that can't stop does not go unnoticed."""
        policy = Served()
        with self.assertRaises(ZeroDivisionError), Runner(policy):
            policy.ends = Deferred()
            policy.ends.errback(ZeroDivisionError())
