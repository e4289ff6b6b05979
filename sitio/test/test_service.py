"""
Tests of L{sitio.service}: a sidecar starts, drains and stops, without a socket.
"""

from __future__ import annotations

import json
import os
from typing import Any, ClassVar, cast

from attrs import define, field
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import (
    IListeningPort,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer
from zope.interface.verify import verifyObject

from sitio import Response, onRequest, onResponse
from sitio.errors import CannotStart
from sitio.interfaces import IExchangeObserver
from sitio.service import SidecarService
from sitio.settings import Settings
from sitio.telemetry.sidecar import DRAINING, SERVING, STARTING, IDropCounts, ISidecar


class Wire(StringTransport):
    """
    A transport that closes later, as that of a socket does.

    @ivar lost: whether C{connectionLost} has been called.
    """

    def __init__(self, clock: Clock, protocol: Any) -> None:
        StringTransport.__init__(self, lenient=True)
        self.lost = False
        self._clock = clock
        self._protocol = protocol
        protocol.makeConnection(self)

    def loseWriteConnection(self) -> None:
        """The peer has closed too, as soon as it sees the end."""
        self.loseConnection()

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._clock.callLater(0, self.close)

    def close(self) -> None:
        """Close the connection."""
        if not self.lost:
            self.lost = True
            self._protocol.connectionLost(Failure(ConnectionDone()))

    def receive(self, data: bytes) -> None:
        """Receive bytes from the peer."""
        self._protocol.dataReceived(data)


@implementer(IListeningPort)
@define
class Port:
    """A port that closes when the test says so."""

    closing: Deferred[None] | None = None

    def startListening(self) -> None:
        """Do nothing: the port listens from the start."""

    def stopListening(self) -> Deferred[None]:
        self.closing = Deferred()
        return self.closing

    def getHost(self) -> Any:
        return StringTransport().getHost()


@implementer(IStreamServerEndpoint)
@define
class Listen:
    """
    The endpoint for clients.

    @ivar result: the Deferred that C{listen} returns.
    """

    result: Deferred[Any]
    factory: Factory | None = None

    def listen(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.result


@implementer(IStreamClientEndpoint)
@define
class Upstream:
    """An upstream whose connections are L{Wire}s."""

    clock: Clock
    wires: list[Wire] = field(factory=list)

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        self.wires.append(Wire(self.clock, protocol))
        return succeed(protocol)


@implementer(IExchangeObserver)
class Watcher(Service):
    """An observer that is also a service."""

    started = 0
    stopped = 0
    seen = 0
    dropped: ClassVar = {"accessLogLines": 7}

    def startService(self) -> None:
        self.started += 1
        Service.startService(self)

    def stopService(self) -> None:
        self.stopped += 1
        Service.stopService(self)

    def exchangeFinished(self, exchange: Any) -> None:
        self.seen += 1


REQUEST = b"GET /x HTTP/1.1\r\nHost: here\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class SidecarTestCase(SynchronousTestCase):
    """A sidecar service with clients and an upstream in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = Port()
        self.listen = Listen(succeed(self.port))
        self.upstream = Upstream(self.clock)

    def sidecar(self, *policies: Any, **arguments: Any) -> SidecarService:
        """A sidecar with these policies and arguments."""
        return SidecarService(self.clock, self.listen, self.upstream, policies, **arguments)

    def client(self) -> Wire:
        """Connect another client."""
        factory = self.listen.factory
        assert factory is not None
        return Wire(self.clock, factory.buildProtocol(None))

    def logged(self) -> list[LogEvent]:
        """The list of events that are logged from now on."""
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return events


class StartTests(SidecarTestCase):
    """A sidecar starts."""

    def test_once(self) -> None:
        """It listens once, with or without a privileged start, and logs its address."""
        events = self.logged()
        service = self.sidecar()
        service.privilegedStartService()
        service.startService()
        self.assertIs(service.port, self.port)
        [said] = [each["address"] for each in events if "address" in each]
        self.assertEqual(said, "10.0.0.1:12345")

    def test_inRunningTree(self) -> None:
        """Added to a running service, it listens at once."""
        application = MultiService()
        application.startService()
        self.sidecar().setServiceParent(application)
        self.assertIsNotNone(self.listen.factory)

    def test_cannotListen(self) -> None:
        """A port in use ends the start with one sentence, which names it."""
        cause = OSError(98, "Address already in use")
        self.listen.result = fail(CannotListenError("127.0.0.1", 8080, cause))
        end = self.assertRaises(CannotStart, self.sidecar().startService)
        self.assertIn("sitio: can't listen on port 8080: Address already in use (", str(end))

    def test_cannotListenElsewhere(self) -> None:
        """The error for a UNIX socket says that its address can't be used."""
        self.listen.result = fail(FileNotFoundError(2, "No such file or directory"))
        end = self.assertRaises(CannotStart, self.sidecar().startService)
        self.assertEqual(str(end), "sitio: can't listen on the address: No such file or directory")

    def test_listensLate(self) -> None:
        """An endpoint may begin to listen later."""
        self.listen.result = Deferred()
        service = self.sidecar()
        service.startService()
        self.assertIsNone(service.port)
        self.listen.result.callback(self.port)
        self.assertIs(service.port, self.port)

    def test_failsLate(self) -> None:
        """An endpoint that fails later is logged, as the start can't raise any more."""
        events = self.logged()
        self.listen.result = Deferred()
        self.sidecar().startService()
        self.listen.result.errback(OSError(13, "Permission denied"))
        [event] = [each for each in events if "why" in each]
        self.assertEqual(event["log_level"].name, "critical")
        self.assertEqual(event["why"], "can't listen on the address: Permission denied")

    def test_stoppedBefore(self) -> None:
        """An endpoint that does not listen yet is cancelled when the service stops."""
        cancelled: list[Deferred[Any]] = []
        self.listen.result = Deferred(cancelled.append)
        events = self.logged()
        service = self.sidecar()
        service.startService()
        self.successResultOf(service.stopService())
        self.assertEqual(cancelled, [self.listen.result])
        self.assertEqual([each for each in events if "why" in each], [])

    def test_policiesAreServices(self) -> None:
        """A policy that is a service starts and stops with the sidecar."""
        watcher = Watcher()
        service = self.sidecar(watcher, statsInterval=0)
        self.assertEqual(watcher.started, 0)
        service.startService()
        self.assertEqual((watcher.started, watcher.stopped), (1, 0))
        client = self.client()
        client.receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE)
        self.assertEqual(watcher.seen, 1)
        stopped = service.stopService()
        client.close()
        assert self.port.closing is not None
        self.port.closing.callback(None)
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual((watcher.started, watcher.stopped), (1, 1))

    def test_metrics(self) -> None:
        """The metrics are a child service, with the given interval."""
        service = self.sidecar(statsInterval=5)
        service.startService()
        self.assertEqual([each.getTime() for each in self.clock.getDelayedCalls()], [5])
        self.assertIs(IService(service.stats).parent, service)

    def test_snapshot(self) -> None:
        """Its snapshot has the same content as that of several processes."""
        log = Watcher()
        alsoProvides(log, IDropCounts)
        service = self.sidecar(("seen", Watcher()), ("access-log", log))
        self.assertTrue(verifyObject(ISidecar, service))
        service.startService()
        self.client().receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE)
        told = self.successResultOf(service.snapshot())
        self.assertEqual(told["metrics"], service.stats.snapshot())
        self.assertEqual(told["metrics"]["total"]["hits"], 1)
        self.assertEqual([each["name"] for each in told["policies"]], ["seen", "access-log"])
        self.assertEqual(told["pool"], {"open": 1, "idle": 1, "waiting": 0})
        self.assertEqual(told["poolCounts"]["opened"], 1)
        self.assertEqual((told["clients"], told["inFlight"], told["overlongResponses"]), (1, 0, 0))
        self.assertEqual(told["dropped"], {"accessLogLines": 7, "fleetEntries": 0})
        [worker] = told["workers"]
        self.assertEqual((worker["pid"], worker["hits"]), (os.getpid(), 1))
        self.assertEqual(json.loads(json.dumps(told)), told)

    def test_state(self) -> None:
        """The state is starting until it listens, then serving, and draining after C{drain}."""
        service = self.sidecar()
        self.assertEqual(service.state, STARTING)
        service.startService()
        self.assertEqual(service.state, SERVING)
        service.drain()
        service.drain()
        self.assertEqual(service.state, DRAINING)

    def test_drain(self) -> None:
        """While it drains it accepts clients, and closes each connection after its response."""
        service = self.sidecar()
        service.startService()
        before = self.client()
        service.drain()
        for client in (before, self.client()):
            client.receive(REQUEST)
            self.upstream.wires[0].receive(RESPONSE)
            self.assertIn(b"\r\nConnection: close\r\n", client.value())
            self.assertTrue(client.disconnecting)

    def test_exchanges(self) -> None:
        """It reports failed exchanges and exchanges in flight."""
        service = self.sidecar()
        service.startService()
        self.client().receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE.replace(b"200 OK", b"500 No"))
        self.client().receive(REQUEST)
        told = self.successResultOf(service.exchanges())
        self.assertEqual([each["upstreamStatus"] for each in told["failed"]], [500])
        [exchange] = told["open"]
        self.assertEqual(exchange["state"], "waiting for the response")
        self.assertTrue(exchange["key"].startswith(f"{os.getpid()}-"))

    def test_policies(self) -> None:
        """Functions are policies with their own names, in order."""

        @onRequest
        def answered(exchange: Any) -> Any:
            return Response(200, text="mine") if exchange.request.path == "/mine" else None

        @onResponse(404)
        def friendly(exchange: Any, response: Any) -> Any:
            return Response(404, text="sorry")

        service = self.sidecar(answered, ("kind", friendly))
        service.startService()
        names = [each["name"] for each in service.context.chain.snapshot()]
        self.assertEqual(names[:2], ["answered", "kind"])
        client = self.client()
        client.receive(REQUEST.replace(b"/x", b"/mine"))
        self.assertTrue(client.value().endswith(b"\r\n\r\nmine"))

    def test_noPolicy(self) -> None:
        """An object that is no policy is refused when the sidecar is made."""
        why = self.assertRaises(ValueError, self.sidecar, object())
        self.assertIn("is not a policy", str(why))


class StopTests(SidecarTestCase):
    """A sidecar that stops finishes the exchanges in flight."""

    def started(self, grace: float = 30) -> SidecarService:
        """A running sidecar without a stats line."""
        service = self.sidecar(settings=Settings(grace=grace), statsInterval=0)
        service.startService()
        return service

    def stopped(self, service: SidecarService) -> Deferred[Any]:
        """Stop the sidecar and close its port."""
        stopped = service.stopService()
        assert self.port.closing is not None
        self.port.closing.callback(None)
        return stopped

    def test_idle(self) -> None:
        """Without clients it stops at once, and leaves no delayed call."""
        self.successResultOf(self.stopped(self.started()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_portFirst(self) -> None:
        """It has stopped only when its port is closed."""
        stopped = self.started().stopService()
        self.assertNoResult(stopped)
        assert self.port.closing is not None
        self.port.closing.callback(None)
        self.successResultOf(stopped)

    def test_inFlight(self) -> None:
        """A request in flight gets its response, with C{Connection: close}."""
        service = self.started()
        client = self.client()
        client.receive(REQUEST)
        stopped = self.stopped(service)
        self.clock.pump([0.25] * 40)
        self.assertNoResult(stopped)
        self.assertEqual(client.value(), b"")
        self.upstream.wires[0].receive(RESPONSE)
        self.assertIn(b"\r\nConnection: close\r\n", client.value())
        self.assertTrue(client.value().endswith(b"\r\n\r\nhi"))
        self.clock.advance(0)
        self.assertTrue(client.lost)
        self.assertTrue(self.upstream.wires[0].lost)
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_arrivesLate(self) -> None:
        """A request that arrives on an idle connection just after the stop is answered."""
        service = self.started()
        client = self.client()
        client.receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE)
        client.clear()
        stopped = self.stopped(service)
        self.clock.advance(0.5)
        client.receive(REQUEST)
        self.upstream.wires[0].receive(RESPONSE)
        self.assertIn(b"\r\nConnection: close\r\n", client.value())
        self.clock.pump([0, 0])
        self.successResultOf(stopped)

    def test_idleClients(self) -> None:
        """Idle connections are closed after a second."""
        service = self.started()
        clients = [self.client() for _ in range(3)]
        for each in clients:
            each.receive(REQUEST)
            self.upstream.wires[-1].receive(RESPONSE)
        stopped = self.stopped(service)
        self.clock.pump([0.25] * 8)
        self.assertEqual([each.lost for each in clients], [True] * 3)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_grace(self) -> None:
        """Exchanges that do not end within the grace are aborted, and that is logged."""
        events = self.logged()
        service = self.started(grace=3)
        client = self.client()
        client.receive(REQUEST)
        stopped = self.stopped(service)
        self.clock.pump([0.25] * 11)
        self.assertNoResult(stopped)
        self.assertFalse(client.disconnected)
        self.clock.advance(0.25)
        self.assertTrue(client.disconnected)
        self.clock.pump([0, 0])
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([each["connections"] for each in events if "connections" in each], [1])

    def test_abort(self) -> None:
        """C{abort} ends exchanges before the grace is over."""
        service = self.started()
        client = self.client()
        client.receive(REQUEST)
        stopped = self.stopped(service)
        service.abort()
        self.assertTrue(client.disconnected)
        self.clock.pump([0, 0])
        self.successResultOf(stopped)

    def test_upstreamLast(self) -> None:
        """It has stopped only when the last connection to the upstream is closed."""
        service = self.started()
        client = self.client()
        client.receive(REQUEST)
        [wire] = self.upstream.wires
        wire.receive(RESPONSE)
        client.close()
        wire.loseConnection = lambda: None  # type: ignore[method-assign]
        stopped = self.stopped(service)
        self.clock.pump([0.25] * 4)
        self.assertNoResult(stopped)
        wire.close()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_policiesLast(self) -> None:
        """Policies and metrics stop after the last exchange has ended."""
        watcher = Watcher()
        service = self.sidecar(watcher, statsInterval=0)
        service.startService()
        client = self.client()
        client.receive(REQUEST)
        stopped = self.stopped(service)
        self.assertEqual(watcher.stopped, 0)
        self.upstream.wires[0].receive(RESPONSE)
        self.assertEqual(watcher.seen, 1)
        self.clock.pump([0, 0])
        self.successResultOf(stopped)
        self.assertEqual(watcher.stopped, 1)

    def test_notAgain(self) -> None:
        """A stopped sidecar refuses to start again."""
        service = self.started()
        self.successResultOf(self.stopped(service))
        end = self.assertRaises(CannotStart, service.startService)
        self.assertIn("make another", str(end))
