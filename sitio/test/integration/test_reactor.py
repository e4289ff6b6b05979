"""
Tests of L{sitio.net.reactor} and its modules: transport, consumer, socketoptions, ports and
connectors.

First come the tests that Twisted has for all its reactors, without L{NOT_RUN}.  Then come
tests of what only this reactor promises.  Each test runs on a reactor and a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
import struct
import sys
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from select import select
from typing import Any

import uvloop
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IResolverSimple,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.internet.test import (
    test_core,
    test_fdset,
    test_newtls,
    test_process,
    test_socket,
    test_stdio,
    test_tcp,
    test_threads,
    test_time,
    test_tls,
    test_udp,
    test_unix,
)
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sitio.net.accepting import MAX_ACCEPTS
from sitio.net.reactor import UVReactor
from sitio.test.helpers.loopback import LOCALHOST
from sitio.test.helpers.loops import close

#: Where Twisted's tests of reactors are.
MODULES = (
    test_core,
    test_fdset,
    test_newtls,
    test_process,
    test_socket,
    test_stdio,
    test_tcp,
    test_threads,
    test_time,
    test_tls,
    test_udp,
    test_unix,
)

#: Tests of Twisted's that are not run, and why.  None tests something that sitio uses.
NOT_RUN = {
    "TCP4ClientTestsBuilder.test_logPrefix": (
        "the calls of a protocol have no log context: it would cost a Python frame each"
    ),
    "TCP6ClientTestsBuilder.test_logPrefix": "as the one before",
    "UNIXTestsBuilder.test_logPrefix": "as the one before",
    "DirectUNIXTestsBuilder.test_logPrefix": "as the one before",
    **dict.fromkeys(
        (
            f"{name}.test_closePeerOnEMFILE"
            for name in (
                "TCPPortTestsBuilder",
                "TCPFDPortTestsBuilder",
                "TLSPortTestsBuilder",
                "UNIXPortTestsBuilder",
                "UNIXFDPortTestsBuilder",
                "DirectUNIXPortTestsBuilder",
                "DirectUNIXFDPortTestsBuilder",
            )
        ),
        "expects that all who wait are disconnected when there are no descriptors left; here they"
        " go on waiting, as a test below shows",
    ),
    "SSLClientTestsMixin.test_logPrefix": "as the one before",
    "StartTLSClientTestsMixin.test_logPrefix": "as the one before",
    "TCPTransportTestsBuilder.test_streamingProducer": (
        "expects 1000 bytes to wait for the next turn; uvloop sends them at once.  Back pressure"
        " has tests below"
    ),
    "TCPTransportTestsBuilder.test_writeSequenceWithUnicodeRaisesException": (
        "expects Twisted's message in the TypeError that uvloop raises"
    ),
    "TCPTransportTestsBuilder.test_serverAddressTCP4": (
        "compares repr and logstr, which no interface has.  Addresses have a test below"
    ),
    "TCPTransportTestsBuilder.test_serverAddressTCP6": "as test_serverAddressTCP4",
    "AdoptStreamConnectionTestsBuilder": (
        "adopts and closes the descriptor of another connection; contains the five above as well. "
        " A free descriptor is adopted in a test below"
    ),
    "UNIXAdoptStreamConnectionTestsBuilder": (
        "as the one before.  A UNIX connection that is adopted has Twisted's own transport"
    ),
    "DirectUNIXTestsBuilder.test_avoidLeakingFileDescriptors": (
        "expects a log line for a descriptor that arrives unasked; uvloop does not ask for any, and"
        " the kernel closes it"
    ),
    "DirectUNIXTestsBuilder.test_sendFileDescriptor": (
        "its protocol sends a descriptor: it must not say receivesDirectly"
    ),
    "DirectUNIXTestsBuilder.test_sendFileDescriptorTriggersPauseProducing": "as the one before",
    "DirectUNIXTestsBuilder.test_fileDescriptorOverrun": "as the one before",
    "DirectUNIXTestsBuilder.test_descriptorDeliveredBeforeBytes": "as the one before",
    "ProcessTestsBuilder.test_changeUID": (
        "runs the interpreter as another user, who may not read it; it fails on any reactor"
    ),
    "PTYProcessTestsBuilder.test_changeUID": "as the one before",
}

#: Tests that run twice, the second time with protocols that receive directly.  The first
#: time UNIX connections have Twisted's own transport.
DIRECT_AS_WELL = (
    "UNIXFDPortTestsBuilder",
    "UNIXPortTestsBuilder",
    "UNIXTestsBuilder",
    "UnixClientTestsBuilder",
)

#: Seconds that a test may take; it takes much less.
LIMIT_SECONDS = 20


def uvReactor(case: Any) -> UVReactor:
    """A reactor on a loop that is closed when the test is over."""
    loop = uvloop.new_event_loop()
    case.addCleanup(close, loop)
    return UVReactor(loop)


def _notRun(reason: str) -> Callable[..., None]:
    def test(self: object) -> None:
        raise AssertionError("this is skipped")

    test.skip = reason  # type: ignore[attr-defined]
    return test


def _receiveDirectly(case: SynchronousTestCase) -> None:
    """C{setUp} of tests in which all protocols receive directly."""
    Protocol.receivesDirectly = True  # type: ignore[attr-defined]
    case.addCleanup(delattr, Protocol, "receivesDirectly")


def _twistedsTests() -> Iterator[tuple[str, type]]:
    """Twisted's tests of reactors, as test cases for this reactor."""
    for case in (case for module in MODULES for case in vars(module).values()):
        # A test case that a builder has made for one of Twisted's reactors.
        if (
            isinstance(case, type)
            and issubclass(case, ReactorBuilder)
            and issubclass(case, SynchronousTestCase)
        ):
            builder = case.__mro__[1]
            # A builder that names reactors is only for those.
            if "_reactors" not in vars(builder):
                name = builder.__name__
                yield name, _testCase(name, builder)
                if name in DIRECT_AS_WELL:
                    name = f"Direct{name}"
                    yield name, _testCase(name, builder, setUp=_receiveDirectly)


def _testCase(name: str, builder: type, **members: Any) -> type:
    members |= {"reactorFactory": uvReactor, "timeout": LIMIT_SECONDS, "__module__": __name__}
    for listed, reason in NOT_RUN.items():
        where, _, test = listed.partition(".")
        if where == name:
            members.update({test: _notRun(reason)} if test else {"skip": reason})
    return type(name, (builder, SynchronousTestCase), members)


globals().update(_twistedsTests())


class NotRunTests(SynchronousTestCase):
    """The list of tests that are not run is right."""

    def test_listed(self) -> None:
        """Each entry is the name of a test of Twisted's."""
        present = {
            each
            for name, case in _twistedsTests()
            for test in dir(case.__bases__[0])
            for each in (name, f"{name}.{test}")
        }
        self.assertEqual(set(NOT_RUN) - present, set())


class End(Protocol):
    """
    One end of a connection.

    @ivar data: the bytes that it has received.
    @ivar happened: other events, in order.
    @ivar reason: why the connection was lost, or L{None}.
    """

    receivesDirectly = True
    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.happened: list[str] = []
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason

    # As producers.

    def pauseProducing(self) -> None:
        self.happened.append("pause")

    def resumeProducing(self) -> None:
        self.happened.append("resume")

    def stopProducing(self) -> None:
        self.happened.append("stop")


@implementer(IHalfCloseableProtocol)
class HalfEnd(End):
    """An end that can be half closed."""

    def readConnectionLost(self) -> None:
        self.happened.append("read lost")

    def writeConnectionLost(self) -> None:
        self.happened.append("write lost")


@implementer(IResolverSimple)
class NoNames:
    """A resolver that knows one address for all names, or none, or never answers."""

    def __init__(self, address: str | None = None, answers: bool = True) -> None:
        self._address = address
        self._answers = answers

    def getHostByName(self, name: str, timeout: Any = ()) -> Deferred[str]:
        if not self._answers:
            return Deferred()
        return fail(DNSLookupError(name)) if self._address is None else succeed(self._address)


class UVTestCase(ReactorBuilder, SynchronousTestCase):
    """Runs coroutines, each on a reactor of its own."""

    reactorFactory = uvReactor
    timeout = LIMIT_SECONDS
    reactor: UVReactor

    def run_(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine to its end; an exception fails the test."""
        self.reactor = self.buildReactor()
        failed: list[Failure] = []

        def start() -> None:
            done = Deferred.fromCoroutine(test())
            done.addErrback(failed.append)
            done.addCallback(lambda _: self.reactor.stop())

        self.reactor.callWhenRunning(start)
        self.runReactor(self.reactor)
        for each in failed:
            each.raiseException()

    async def turn(self) -> None:
        """Wait for the next turn of the reactor."""
        await deferLater(self.reactor, 0, lambda: None)

    async def until(self, true: Callable[[], Any]) -> None:
        """Wait until this is true."""
        while not true():
            await self.turn()

    def listen(self, kind: Callable[[], Protocol] = End, **options: Any) -> tuple[Any, list[Any]]:
        """A port, and the ends that it has accepted."""
        accepted: list[Any] = []

        class Accepting(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Any:
                accepted.append(end := kind())
                return end

        port = self.reactor.listenTCP(0, Accepting(), interface=LOCALHOST, **options)
        return port, accepted

    async def pair(
        self, server: Callable[[], Protocol] = End, client: Callable[[], Protocol] = End
    ) -> tuple[Any, Any]:
        """The two ends of a connection; the client's is made by an endpoint."""
        port, accepted = self.listen(server)
        endpoint = TCP4ClientEndpoint(self.reactor, LOCALHOST, port.getHost().port)
        end = await endpoint.connect(Factory.forProtocol(client))
        await self.until(lambda: accepted)
        await port.stopListening()
        return accepted[0], end

    async def raw(
        self, server: Callable[[], Protocol] = End, buffer: int | None = None
    ) -> tuple[Any, socket.socket]:
        """An end, and a socket that is connected to it."""
        port, accepted = self.listen(server)
        peer = socket.socket()
        self.addCleanup(peer.close)
        if buffer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        peer.connect((LOCALHOST, port.getHost().port))
        peer.setblocking(False)
        await self.until(lambda: accepted)
        await port.stopListening()
        return accepted[0], peer

    async def read(self, peer: socket.socket, size: int | None = None) -> bytes:
        """This number of bytes from a socket, or all until its end."""
        data = bytearray()
        while size is None or len(data) < size:
            try:
                piece = peer.recv(65536)
            except BlockingIOError:
                await self.turn()
            else:
                if not piece:
                    break
                data += piece
        return bytes(data)


class PathTests(UVTestCase):
    """Reads and writes pass no Python frame of the transport."""

    def test_write(self) -> None:
        """C{transport.write} is the method of uvloop's transport, on both sides."""

        async def test() -> None:
            for end in await self.pair():
                self.assertEqual(type(end.transport.write.__self__).__module__, "uvloop.loop")
                self.assertEqual(end.transport.write.__name__, "write")
                self.assertEqual(end.transport.writeSequence.__name__, "writelines")

        self.run_(test)

    def test_dataReceived(self) -> None:
        """
        On both sides there is no Python frame between C{dataReceived} and the loop.  The wrapper
        of endpoints is skipped.
        """
        callers = []

        class Looking(End):
            def dataReceived(self, data: bytes) -> None:
                caller = sys._getframe(1)
                callers.append((caller.f_code.co_name, caller.f_globals["__name__"]))

        async def test() -> None:
            for end in (ends := await self.pair(Looking, Looking)):
                end.transport.write(b"x")
            await self.until(lambda: len(callers) == len(ends))
            # _runLoop is the frame that runs the loop.
            self.assertEqual(callers, [("_runLoop", "sitio.net.reactor")] * 2)

        self.run_(test)

    def test_protocolAssigned(self) -> None:
        """After C{transport.protocol} is assigned, the new protocol gets the bytes."""

        class Next(End):
            pass

        following = Next()

        class First(End):
            def dataReceived(self, data: bytes) -> None:
                End.dataReceived(self, data)
                self.transport.protocol = following
                following.makeConnection(self.transport)

        async def test() -> None:
            server, client = await self.pair(First)
            client.transport.write(b"one")
            await self.until(lambda: following.transport)
            self.assertIs(server.transport.protocol, following)
            client.transport.write(b"two")
            client.transport.loseConnection()
            await self.until(lambda: following.reason)
            self.assertEqual((server.data, following.data), (b"one", b"two"))
            self.assertIsNone(server.reason)

        self.run_(test)

    def test_receiverReplaced(self) -> None:
        """A protocol may assign its C{dataReceived}, unless it receives directly."""

        class Replacing(End):
            receivesDirectly = False

            def dataReceived(self, data: bytes) -> None:
                def second(data: bytes) -> None:
                    self.happened.append(data.decode())

                self.dataReceived = second  # type: ignore[method-assign]

        async def test() -> None:
            server, client = await self.pair(Replacing)
            client.transport.write(b"one")
            await self.until(lambda: "dataReceived" in vars(server))
            client.transport.write(b"two")
            await self.until(lambda: server.happened)
            self.assertEqual(server.happened, ["two"])

        self.run_(test)

    def test_receiverReplacedFromOutside(self) -> None:
        """
        Other code may assign C{dataReceived} of a protocol.  If that receives directly, the
        protocol must be assigned again.
        """

        class Plain(End):
            receivesDirectly = False

        async def test() -> None:
            for kind in (Plain, End):
                server, client = await self.pair(kind)
                got: list[bytes] = []
                server.dataReceived = got.append
                if kind is End:
                    server.transport.protocol = server
                client.transport.write(b"x")
                client.transport.loseConnection()
                await self.until(partial(getattr, server, "reason"))
                self.assertEqual(got, [b"x"])

        self.run_(test)

    def test_receivesDirectly(self) -> None:
        """
        Only the attribute of the class counts: a wrapper that passes on the attributes of
        a protocol does not itself promise to receive directly.
        """

        class Wrapper(Protocol):
            def __init__(self) -> None:
                self.wrapped = End()

            def __getattr__(self, name: str) -> Any:
                return getattr(vars(self)["wrapped"], name)

        async def test() -> None:
            server, client = await self.pair(Wrapper)
            got: list[bytes] = []
            server.dataReceived = got.append
            client.transport.write(b"x")
            await self.until(lambda: got)

        self.run_(test)

    def test_writeSequence(self) -> None:
        """Many pieces arrive in order, also more than C{writev} takes at a time."""
        pieces = [b"%d," % each for each in range(3000)]

        async def test() -> None:
            server, client = await self.pair()
            client.transport.writeSequence(pieces)
            client.transport.loseConnection()
            await self.until(lambda: server.reason)
            self.assertEqual(server.data, b"".join(pieces))

        self.run_(test)

    def test_notBytes(self) -> None:
        """Other types than bytes are refused, and the connection goes on."""

        async def test() -> None:
            server, client = await self.pair()
            self.assertRaises(TypeError, client.transport.write, "x")
            self.assertRaises(TypeError, client.transport.writeSequence, ["x"])
            client.transport.write(b"y")
            await self.until(lambda: server.data == b"y")

        self.run_(test)


class TransportTests(UVTestCase):
    """A connection behaves as Twisted's own transports do."""

    def test_interfaces(self) -> None:
        """It provides its interfaces."""

        async def test() -> None:
            for end in await self.pair():
                for interface in (ITCPTransport, ITLSTransport, ISystemHandle):
                    verifyObject(interface, end.transport)

        self.run_(test)

    def test_addresses(self) -> None:
        """Each side knows both addresses, also after the end."""

        async def test() -> None:
            server, client = await self.pair()
            self.assertEqual(server.transport.getPeer(), client.transport.getHost())
            self.assertEqual(client.transport.getPeer(), server.transport.getHost())
            self.assertEqual(client.transport.getPeer().host, LOCALHOST)
            peer = server.transport.getPeer()
            client.transport.loseConnection()
            await self.until(lambda: server.reason)
            self.assertEqual(server.transport.getPeer(), peer)

        self.run_(test)

    def test_handle(self) -> None:
        """The handle is the connection's socket; it is detached at the end."""

        async def test() -> None:
            server, client = await self.pair()
            handle = server.transport.getHandle()
            self.assertEqual(handle.fileno(), server.transport.fileno())
            self.assertEqual(handle.getpeername()[1], server.transport.getPeer().port)
            client.transport.loseConnection()
            await self.until(lambda: server.reason)
            self.assertEqual((handle.fileno(), server.transport.fileno()), (-1, -1))

        self.run_(test)

    def test_duplicate(self) -> None:
        """
        A second descriptor of the socket is available until the end, unless the process
        has none left.
        """

        async def test() -> None:
            server, peer = await self.raw()
            own = server.transport.duplicate()
            os.write(own, b"past it")
            os.close(own)
            self.assertEqual(await self.read(peer, 7), b"past it")
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
            self.assertIsNone(server.transport.duplicate())
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            server.transport.abortConnection()
            self.assertIsNone(server.transport.duplicate())
            await self.until(lambda: server.reason)
            self.assertIsNone(server.transport.duplicate())

        self.run_(test)

    def test_options(self) -> None:
        """TCP_NODELAY is on from the start; it and SO_KEEPALIVE can be set."""

        async def test() -> None:
            for end in await self.pair():
                transport = end.transport
                transport.setTcpNoDelay(True)
                self.assertTrue(transport.getTcpNoDelay())
                transport.setTcpNoDelay(False)
                self.assertFalse(transport.getTcpNoDelay())
                transport.setTcpNoDelay(True)
                self.assertTrue(transport.getTcpNoDelay())
                self.assertFalse(transport.getTcpKeepAlive())
                transport.setTcpKeepAlive(True)
                self.assertTrue(transport.getTcpKeepAlive())

        self.run_(test)

    def test_optionsWithTLS(self) -> None:
        """Options can be set when TLS was started."""

        async def test() -> None:
            server, _ = await self.raw()
            transport = server.transport
            transport.startTLS(optionsForClientTLS("name.invalid"), normal=False)
            transport.setTcpNoDelay(False)
            self.assertFalse(transport.getTcpNoDelay())
            transport.setTcpKeepAlive(True)
            self.assertTrue(transport.getTcpKeepAlive())

        self.run_(test)

    def test_released(self) -> None:
        """A protocol is freed when its connection is lost, without garbage collection."""

        ends = [End()]
        seen: Any = weakref.ref(ends[0])
        factory = Factory.forProtocol(ends.pop)

        async def test() -> None:
            port = self.reactor.listenTCP(0, factory, interface=LOCALHOST)
            with socket.create_connection((LOCALHOST, port.getHost().port)):
                await self.until(lambda: seen().transport)
                transport = seen().transport
            await self.until(lambda: transport.disconnected)
            self.assertIsNone(transport.protocol)
            self.assertIsNone(seen())
            await port.stopListening()

        gc.disable()
        self.addCleanup(gc.enable)
        self.run_(test)

    def test_releasedClient(self) -> None:
        """A client's transport and its connector are freed as well."""
        seen: Any = []

        class Asking(ClientFactory):
            noisy = False

            def startedConnecting(self, connector: Any) -> None:
                seen.append(weakref.ref(connector))

        async def test() -> None:
            port, accepted = self.listen()
            factory = Asking.forProtocol(End)
            self.reactor.connectTCP(LOCALHOST, port.getHost().port, factory)
            await self.until(lambda: accepted and accepted[0].transport)
            seen.append(weakref.ref(seen[0]().transport))
            accepted[0].transport.loseConnection()
            await self.until(lambda: [each() for each in seen] == [None, None])
            await port.stopListening()

        gc.disable()
        self.addCleanup(gc.enable)
        self.run_(test)

    def test_connectAgain(self) -> None:
        """A connector may connect again when it learns that its connection was lost."""
        lost: list[Any] = []

        class Again(ClientFactory):
            noisy = False

            def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
                lost.append(connector)
                if len(lost) == 1:
                    connector.connect()

        async def test() -> None:
            port, accepted = self.listen()
            factory = Again.forProtocol(End)
            self.reactor.connectTCP(LOCALHOST, port.getHost().port, factory)
            for number in (1, 2):
                while len(accepted) < number or accepted[-1].transport is None:
                    await self.turn()
                accepted[-1].transport.loseConnection()
            await self.until(lambda: len(lost) == 2)
            self.assertIs(lost[0], lost[1])
            await port.stopListening()

        self.run_(test)

    def test_lostWhenConnected(self) -> None:
        """A protocol that closes its transport in C{connectionMade} receives nothing."""

        class Closing(End):
            def connectionMade(self) -> None:
                self.transport.registerProducer(self, False)
                self.transport.loseConnection()

        async def test() -> None:
            server, client = await self.pair(Closing)
            client.transport.write(b"x")
            for _ in range(10):
                await self.turn()
            self.assertEqual((server.data, server.reason), (b"", None))
            server.transport.unregisterProducer()
            await self.until(lambda: server.reason)

        self.run_(test)

    def test_pausedWhenConnected(self) -> None:
        """
        A protocol that pauses its transport in C{connectionMade} receives nothing until it
        resumes.
        """

        class Pausing(End):
            def connectionMade(self) -> None:
                self.transport.pauseProducing()

        async def test() -> None:
            server, client = await self.pair(Pausing, Pausing)
            server.transport.write(b"x")
            client.transport.write(b"x")
            for _ in range(10):
                await self.turn()
            self.assertEqual((server.data, client.data), (b"", b""))
            server.transport.resumeProducing()
            client.transport.resumeProducing()
            await self.until(lambda: server.data and client.data)

        self.run_(test)

    def test_pauseTwice(self) -> None:
        """It is no error to pause or resume twice, or after the end."""

        async def test() -> None:
            server, client = await self.pair()
            transport = server.transport
            for method in (transport.pauseProducing, transport.resumeProducing):
                method()
                method()
            client.transport.write(b"x")
            await self.until(lambda: server.data)
            transport.pauseProducing()
            transport.abortConnection()
            transport.resumeProducing()
            await self.until(lambda: server.reason)
            transport.pauseProducing()
            transport.resumeProducing()
            transport.loseConnection()
            transport.loseWriteConnection()
            transport.abortConnection()

        self.run_(test)

    def test_port(self) -> None:
        """A port that stops reading accepts no client until it starts again."""

        async def test() -> None:
            port, accepted = self.listen()
            port.stopReading()
            self.assertNotIn(port, self.reactor.getReaders())
            with socket.create_connection((LOCALHOST, port.getHost().port)):
                for _ in range(10):
                    await self.turn()
                self.assertEqual(accepted, [])
                port.startReading()
                self.assertIn(port, self.reactor.getReaders())
                await self.until(lambda: accepted)
            await port.stopListening()
            self.assertNotIn(port, self.reactor.getReaders())

        self.run_(test)

    def waiting(self, port: Any, number: int) -> list[socket.socket]:
        """Sockets that wait to be accepted by a port that does not read."""
        port.stopReading()
        peers = []
        for _ in range(number):
            peers.append(peer := socket.create_connection((LOCALHOST, port.getHost().port)))
            self.addCleanup(peer.close)
            peer.setblocking(False)
        return peers

    def test_burst(self) -> None:
        """Many clients that wait are accepted within a few turns."""

        async def test() -> None:
            port, accepted = self.listen(backlog=MAX_ACCEPTS)
            peers = self.waiting(port, MAX_ACCEPTS)
            port.startReading()
            for _ in range(5):
                await self.turn()
            self.assertEqual(len(accepted), MAX_ACCEPTS)
            for peer in peers:
                peer.send(b"x")
            await self.until(lambda: all(each.data for each in accepted))
            self.assertEqual(
                {each.transport.getPeer().port for each in accepted},
                {each.getsockname()[1] for each in peers},
            )
            self.assertTrue(all(each.transport.getTcpNoDelay() for each in accepted))
            await port.stopListening()

        self.run_(test)

    def test_burstStopped(self) -> None:
        """A port that stops reading during a burst leaves the other clients waiting."""

        async def test() -> None:
            port, accepted = self.listen(backlog=3 * MAX_ACCEPTS)
            self.waiting(port, 3 * MAX_ACCEPTS)
            port.startReading()
            await self.until(lambda: accepted)
            port.stopReading()
            for _ in range(5):
                await self.turn()
            self.assertLess(len(accepted), 3 * MAX_ACCEPTS)
            port.startReading()
            await self.until(lambda: len(accepted) == 3 * MAX_ACCEPTS)
            await port.stopListening()

        self.run_(test)

    def test_burstClosed(self) -> None:
        """A port that is closed during a burst makes no further protocol."""

        class Last(End):
            def connectionMade(self) -> None:
                port.stopListening()

        port: Any = None

        async def test() -> None:
            nonlocal port
            port, accepted = self.listen(Last)
            peers = self.waiting(port, 20)
            port.startReading()
            await self.until(lambda: accepted)
            accepted[0].transport.loseConnection()
            for peer in peers:
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(await self.read(peer), b"")
            self.assertEqual(len(accepted), 1)

        self.run_(test)

    def test_noDescriptors(self) -> None:
        """When descriptors run out, clients wait, and are accepted when there are some again."""

        async def test() -> None:
            port, accepted = self.listen()
            self.waiting(port, 20)
            await self.turn()  # The loop opens descriptors of its own when it begins.
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
            free = [os.dup(0) for _ in range(8)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1] + 1, limits[1]))
            for each in free:
                os.close(each)
            port.startReading()
            # libuv takes one for its first stream.
            await self.until(lambda: len(accepted) == 7)
            await self.until(lambda: not port.isReading())
            accepted[0].transport.abortConnection()
            accepted[1].transport.abortConnection()
            await self.until(lambda: len(accepted) == 9)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            await self.until(lambda: len(accepted) == 20)
            await port.stopListening()

        self.run_(test)

    def test_stopListening(self) -> None:
        """A client that is accepted while the port stops is disconnected, without a protocol."""

        async def test() -> None:
            port, accepted = self.listen()
            peer = socket.create_connection((LOCALHOST, port.getHost().port))
            self.addCleanup(peer.close)
            peer.setblocking(False)
            await port.stopListening()
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(await self.read(peer), b"")
            self.assertEqual(accepted, [])

        self.run_(test)

    def test_resetBeforeAccept(self) -> None:
        """A client that disconnects before it is accepted does not harm the port."""

        async def test() -> None:
            port, accepted = self.listen()
            for _ in range(3):
                peer = socket.create_connection((LOCALHOST, port.getHost().port))
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()
            with socket.create_connection((LOCALHOST, port.getHost().port)) as peer:
                peer.send(b"x")
                await self.until(lambda: any(each.data for each in accepted))
            await port.stopListening()

        self.run_(test)

    def test_adopt(self) -> None:
        """A connection that is adopted has a descriptor of its own."""

        async def test() -> None:
            with socket.create_server((LOCALHOST, 0)) as listening:
                peer = socket.create_connection(listening.getsockname())
                self.addCleanup(peer.close)
                peer.setblocking(False)
                skt, _ = listening.accept()
            end = End()
            factory = Factory.forProtocol(lambda: end)
            with skt:
                self.reactor.adoptStreamConnection(skt.fileno(), skt.family, factory)
            peer.send(b"x")
            await self.until(lambda: end.data)
            end.transport.write(b"y")
            end.transport.loseConnection()
            self.assertEqual(await self.read(peer), b"y")
            self.assertEqual(end.transport.getPeer().port, peer.getsockname()[1])

        self.run_(test)

    async def told(self, happened: list[Any], times: int) -> None:
        """Wait until a factory has noted this number of events."""
        await self.until(lambda: len(happened) >= times)

    def asking(self, happened: list[Any], kind: Callable[[], Any] = End) -> ClientFactory:
        """A client factory that records the events of its connection."""

        class Asking(ClientFactory):
            noisy = False

            def startedConnecting(self, connector: Any) -> None:
                happened.append("started")

            def buildProtocol(self, addr: Any) -> Any:
                happened.append("built")
                return kind()

            def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
                happened.append(reason.type)

            def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
                happened.append("lost")

        return Asking()

    def test_stopConnecting(self) -> None:
        """
        C{stopConnecting}, at whatever moment, is reported once as a failure, and no protocol is
        made.  Later it does nothing.
        """
        ends = set()

        async def test() -> None:
            port, accepted = self.listen()
            for bindAddress in (None, (LOCALHOST, 0)):
                for turns in range(8):
                    happened: list[Any] = []
                    connector = self.reactor.connectTCP(
                        LOCALHOST,
                        port.getHost().port,
                        self.asking(happened),
                        bindAddress=bindAddress,
                    )
                    for _ in range(turns):
                        await self.turn()
                    connector.disconnect()
                    await self.told(happened, 3 if "built" in happened else 2)
                    ends.add(tuple(happened))
            await self.until(lambda: all(each.reason for each in accepted))
            await port.stopListening()

        self.run_(test)
        self.assertEqual(ends, {("started", UserError), ("started", "built", "lost")})

    def test_stopConnectingLast(self) -> None:
        """The same when Twisted has connected the socket and uvloop already has it."""
        happened: list[Any] = []

        async def test() -> None:
            port, accepted = self.listen()
            adopt = self.reactor.adopt

            def adoptAndStop(*arguments: Any) -> None:
                adopt(*arguments)
                connector.stopConnecting()

            self.patch(self.reactor, "adopt", adoptAndStop)
            connector = self.reactor.connectTCP(
                LOCALHOST,
                port.getHost().port,
                self.asking(happened),
                bindAddress=(LOCALHOST, 0),
            )
            await self.until(lambda: accepted and accepted[0].reason)
            self.assertEqual(happened, ["started", UserError])
            await port.stopListening()

        self.run_(test)

    def test_refused(self) -> None:
        """A connection that is refused, or whose name has no address, fails after its start."""

        async def test() -> None:
            with socket.create_server((LOCALHOST, 0)) as taken:
                free = taken.getsockname()[1]
            for host, error in (
                (LOCALHOST, ConnectionRefusedError),
                ("::1", ConnectionRefusedError),
                ("name.invalid", DNSLookupError),
            ):
                happened: list[Any] = []
                self.reactor.installResolver(NoNames())
                self.reactor.connectTCP(host, free, self.asking(happened))
                self.assertEqual(happened, ["started"])
                await self.told(happened, 2)
                self.assertEqual(happened, ["started", error])

        self.run_(test)

    def test_timeout(self) -> None:
        """A connection that takes too long fails with a timeout."""
        happened: list[Any] = []

        async def test() -> None:
            self.reactor.installResolver(NoNames(answers=False))
            self.reactor.connectTCP("name.invalid", 80, self.asking(happened), timeout=0.001)
            await self.told(happened, 2)
            self.assertEqual(happened, ["started", TimeoutError])

        self.run_(test)

    def test_name(self) -> None:
        """The reactor's resolver resolves names; the peer has the resolved address."""

        async def test() -> None:
            port, _ = self.listen()
            self.reactor.installResolver(NoNames(LOCALHOST))
            endpoint = TCP4ClientEndpoint(self.reactor, "name.invalid", port.getHost().port)
            client: Any = await endpoint.connect(Factory.forProtocol(End))
            self.assertEqual(client.transport.getPeer(), port.getHost())
            await port.stopListening()

        self.run_(test)

    def test_putOff(self) -> None:
        """
        Calls that a client's C{connectionMade} delays to the next turn run before the
        first byte is received, even if the server has sent some already.
        """
        happened: list[str] = []

        class Greeting(End):
            def connectionMade(self) -> None:
                self.transport.write(b"hello")
                self.transport.loseConnection()

        class Greeted(End):
            def connectionMade(self) -> None:
                self.factory.reactor.callLater(0, happened.append, "put off")

            def dataReceived(self, data: bytes) -> None:
                happened.append("data")

        async def test() -> None:
            port, _ = self.listen(Greeting)
            factory = ClientFactory.forProtocol(Greeted)
            factory.reactor = self.reactor  # type: ignore[attr-defined]
            self.reactor.connectTCP(LOCALHOST, port.getHost().port, factory)
            await self.until(lambda: len(happened) > 1)
            self.assertEqual(happened, ["put off", "data"])
            await port.stopListening()

        self.run_(test)

    def test_seen(self) -> None:
        """The reactor lists the connections that read, or have bytes to send, and no others."""

        async def test() -> None:
            server, _ = await self.raw(HalfEnd, buffer=4096)
            transport = server.transport
            self.assertIn(transport, self.reactor.getReaders())
            self.assertNotIn(transport, self.reactor.getWriters())
            transport.pauseProducing()
            self.assertNotIn(transport, self.reactor.getReaders())
            self.assertNotIn(transport, self.reactor.removeAll())
            transport.write(b"x" * 20_000_000)
            self.assertIn(transport, self.reactor.getWriters())
            self.assertIn(transport, self.reactor.removeAll())

        self.run_(test)


class EndTests(UVTestCase):
    """How connections end."""

    def test_loseConnection(self) -> None:
        """All written bytes are sent; both sides get C{ConnectionDone}."""
        data = b"x" * 20_000_000

        async def test() -> None:
            server, client = await self.pair()
            client.transport.write(data)
            client.transport.loseConnection()
            self.assertIsNone(client.reason)
            await self.until(lambda: server.reason and client.reason)
            self.assertEqual(len(server.data), len(data))
            for each in (server, client):
                each.reason.trap(ConnectionDone)
            self.assertEqual(self.reactor.getReaders(), [self.reactor.waker])

        self.run_(test)

    def test_unread(self) -> None:
        """Unread bytes do not turn an orderly end into a reset."""

        async def test() -> None:
            server, peer = await self.raw()
            server.transport.pauseProducing()
            peer.send(b"unread")
            server.transport.write(b"the rest")
            server.transport.loseConnection()
            await self.until(lambda: server.reason)
            self.assertEqual(await self.read(peer), b"the rest")

        self.run_(test)

    def test_abortConnection(self) -> None:
        """
        Unsent bytes are dropped, the peer sees a reset, and a saved C{write} no longer
        writes.
        """

        async def test() -> None:
            server, peer = await self.raw(buffer=4096)
            kept = server.transport.write
            kept(b"x" * 20_000_000)
            server.transport.abortConnection()
            self.assertIsNone(server.reason)
            await self.until(lambda: server.reason)
            server.reason.trap(ConnectionAborted)
            self.assertRaises(RuntimeError, kept, b"y")
            server.transport.write(b"y")
            server.transport.writeSequence([b"y"])
            with self.assertRaises(ConnectionResetError):
                await self.read(peer)

        self.run_(test)

    def test_reset(self) -> None:
        """A connection that the peer has reset ends with C{ConnectionLost}."""

        async def test() -> None:
            server, peer = await self.raw()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            await self.until(lambda: server.reason)
            server.reason.trap(ConnectionLost)

        self.run_(test)

    def test_writeToGone(self) -> None:
        """A write to a peer that is gone raises nothing; the connection is lost."""

        async def test() -> None:
            server, peer = await self.raw()
            server.transport.pauseProducing()
            peer.close()
            while server.reason is None:
                server.transport.write(b"x")
                await self.turn()
            server.reason.trap(ConnectionLost)

        self.run_(test)

    def test_endOfPeer(self) -> None:
        """A protocol without half-close ends when its peer ends, even with unsent bytes."""

        async def test() -> None:
            server, peer = await self.raw(buffer=4096)
            server.transport.write(b"x" * 20_000_000)
            peer.shutdown(socket.SHUT_WR)
            await self.until(lambda: server.reason)
            server.reason.trap(ConnectionDone)

        self.run_(test)

    def test_halfClose(self) -> None:
        """
        The end of the peer is reported once, and writing continues.  The end of writing
        is reported when all bytes are sent; later writes are dropped.
        """
        data = b"x" * 20_000_000

        async def test() -> None:
            server, peer = await self.raw(HalfEnd, buffer=4096)
            peer.shutdown(socket.SHUT_WR)
            await self.until(lambda: server.happened)
            for _ in range(10):
                server.transport.pauseProducing()
                server.transport.resumeProducing()
                await self.turn()
            server.transport.write(data)
            server.transport.loseWriteConnection()
            server.transport.write(b"too late")
            server.transport.writeSequence([b"too late"])
            self.assertEqual(server.happened, ["read lost"])
            self.assertEqual(len(await self.read(peer)), len(data))
            await self.until(lambda: "write lost" in server.happened)
            self.assertEqual(server.happened, ["read lost", "write lost"])
            self.assertIsNone(server.reason)
            server.transport.loseConnection()
            await self.until(lambda: server.reason)
            server.reason.trap(ConnectionDone)

        self.run_(test)

    def test_halfCloseAtOnce(self) -> None:
        """
        With nothing to send, the end of writing is reported in the next turn; reading
        continues.
        """

        async def test() -> None:
            server, peer = await self.raw(HalfEnd)
            server.transport.loseWriteConnection()
            self.assertEqual(server.happened, [])
            self.assertEqual(await self.read(peer), b"")
            await self.until(lambda: server.happened == ["write lost"])
            peer.send(b"x")
            await self.until(lambda: server.data)

        self.run_(test)

    def test_halfCloseUntold(self) -> None:
        """A protocol that does not receive half-closes may half-close its own side."""
        data = b"x" * 20_000_000

        async def test() -> None:
            server, peer = await self.raw(buffer=4096)
            server.transport.write(data)
            server.transport.loseWriteConnection()
            self.assertEqual(len(await self.read(peer)), len(data))
            for _ in range(5):
                await self.turn()
            peer.send(b"x")
            await self.until(lambda: server.data == b"x")

        self.run_(test)

    def test_halfCloseProducer(self) -> None:
        """The end of writing is reported also if a producer was registered."""

        async def test() -> None:
            server, peer = await self.raw(HalfEnd, buffer=4096)
            server.transport.registerProducer(server, True)
            while not server.transport.isWriting():
                server.transport.write(b"x" * 60_000)
            self.assertEqual(server.happened, [])
            server.transport.loseWriteConnection()
            await self.read(peer)
            await self.until(lambda: "write lost" in server.happened)

        self.run_(test)

    def test_reactorStops(self) -> None:
        """When the reactor stops, connections are lost and ports are closed."""
        ends: list[Any] = []

        async def test() -> None:
            ends.extend(await self.pair())
            self.listen()

        self.run_(test)
        for each in ends:
            each.reason.trap(ConnectionLost)
        self.assertEqual(self.reactor.removeAll(), [])


class RaisingTests(UVTestCase):
    """An exception of a protocol is logged, and ends its connection with that reason."""

    def raising(self, kind: type[Exception], *where: str) -> type[HalfEnd]:
        """A class in which these methods raise this exception."""

        def method(self: Any, *arguments: Any) -> None:
            raise kind("on purpose")

        return type("Raising", (HalfEnd,), dict.fromkeys(where, method))

    def test_dataReceived(self) -> None:
        """C{dataReceived} raises; also an C{OSError}, which uvloop could take for its own."""
        for kind in (ZeroDivisionError, OSError):

            async def test(kind: Any = kind) -> None:
                server, client = await self.pair(self.raising(kind, "dataReceived"))
                client.transport.write(b"x")
                await self.until(lambda: server.reason and client.reason)
                self.assertEqual(server.reason.type, kind)
                self.assertEqual(len(self.flushLoggedErrors(kind)), 1)

            self.run_(test)

    def test_afterAbort(self) -> None:
        """After C{abortConnection} an exception is logged, and does not change the reason."""

        class Both(End):
            def dataReceived(self, data: bytes) -> None:
                self.transport.abortConnection()
                raise ZeroDivisionError

        async def test() -> None:
            server, client = await self.pair(Both)
            client.transport.write(b"x")
            await self.until(lambda: server.reason)
            server.reason.trap(ConnectionAborted)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

        self.run_(test)

    def test_connectionMade(self) -> None:
        """C{connectionMade} raises, on both sides."""
        kind = self.raising(ZeroDivisionError, "connectionMade")

        async def test() -> None:
            port, accepted = self.listen(kind)
            end = kind()
            factory = ClientFactory.forProtocol(lambda: end)
            self.reactor.connectTCP(LOCALHOST, port.getHost().port, factory)
            await self.until(lambda: end.reason and accepted and accepted[0].reason)
            self.assertEqual(end.reason.type, ZeroDivisionError)  # type: ignore[union-attr]
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
            await port.stopListening()

        self.run_(test)

    def test_buildProtocol(self) -> None:
        """A factory that raises closes the connection, and the port goes on."""
        good: list[Any] = []

        def build() -> Any:
            if not good:
                good.append(None)
                raise ZeroDivisionError
            good.append(End())
            return good[-1]

        async def test() -> None:
            port, _ = self.listen(build)
            with socket.create_connection((LOCALHOST, port.getHost().port)) as peer:
                peer.setblocking(False)
                self.assertEqual(await self.read(peer), b"")
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            with socket.create_connection((LOCALHOST, port.getHost().port)) as peer:
                peer.send(b"x")
                await self.until(lambda: len(good) > 1 and good[1].data)
            await port.stopListening()

        self.run_(test)

    def test_halfClose(self) -> None:
        """C{readConnectionLost} or C{writeConnectionLost} raises."""

        async def test() -> None:
            for where in ("readConnectionLost", "writeConnectionLost"):
                server, peer = await self.raw(self.raising(ZeroDivisionError, where))
                if where == "readConnectionLost":
                    peer.shutdown(socket.SHUT_WR)
                else:
                    server.transport.loseWriteConnection()
                await self.until(partial(getattr, server, "reason"))
                self.assertEqual(server.reason.type, ZeroDivisionError)
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

        self.run_(test)

    def test_producer(self) -> None:
        """A producer raises when it is paused, resumed or asked for more."""

        async def test() -> None:
            for where, streaming in (
                ("pauseProducing", True),
                ("resumeProducing", True),
                ("resumeProducing", False),
            ):
                server, peer = await self.raw(buffer=4096)
                producer = self.raising(ZeroDivisionError, where)()
                if streaming:
                    server.transport.registerProducer(producer, True)
                    server.transport.write(b"x" * 20_000_000)
                else:
                    self.assertRaises(
                        ZeroDivisionError, server.transport.registerProducer, producer, False
                    )
                    server.transport.write(b"x")
                reading = Deferred.fromCoroutine(self.read(peer))
                reading.addErrback(lambda _: None)
                await self.until(partial(getattr, server, "reason"))
                await reading
                self.assertEqual(server.reason.type, ZeroDivisionError)
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

        self.run_(test)

    def test_atTheEnd(self) -> None:
        """An exception at the end of a connection is logged, and all others are told of the end."""
        told: list[Failure] = []

        class Asking(ClientFactory):
            noisy = False

            def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
                told.append(reason)

        kind = self.raising(ZeroDivisionError, "connectionLost", "stopProducing")

        async def test() -> None:
            port, accepted = self.listen()
            end = kind()
            factory = Asking.forProtocol(lambda: end)
            self.reactor.connectTCP(LOCALHOST, port.getHost().port, factory)
            await self.until(lambda: accepted)
            end.transport.registerProducer(end, True)
            accepted[0].transport.abortConnection()
            await self.until(lambda: told)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
            await port.stopListening()

        self.run_(test)


class ProducerTests(UVTestCase):
    """Back pressure in both directions."""

    def test_push(self) -> None:
        """A push producer is paused when uvloop's buffer is full, and resumed when it is empty."""
        data = b"x" * 20_000_000

        async def test() -> None:
            server, peer = await self.raw(buffer=4096)
            server.transport.registerProducer(server, True)
            server.transport.write(b"little")
            self.assertEqual(server.happened, [])
            server.transport.write(data)
            self.assertEqual(server.happened, ["pause"])
            await self.read(peer, len(data) + 6)
            await self.until(lambda: len(server.happened) > 1)
            self.assertEqual(server.happened, ["pause", "resume"])

        self.run_(test)

    def test_bounded(self) -> None:
        """If the peer reads nothing, a producer that obeys pauses leaves little in the buffer."""
        written = 0

        async def test() -> None:
            nonlocal written
            server, _ = await self.raw(buffer=4096)
            server.transport.registerProducer(server, True)
            while not server.happened:
                server.transport.write(b"x" * 10_000)
                written += 10_000
            held = server.transport.write.__self__.get_write_buffer_size()
            self.assertLess(held, 65536 + 10_000 + 1)
            self.assertGreater(held, 65536)

        self.run_(test)

    def test_registeredLate(self) -> None:
        """A push producer that registers while the buffer is full is paused at once."""

        async def test() -> None:
            server, _ = await self.raw(buffer=4096)
            server.transport.write(b"x" * 20_000_000)
            server.transport.registerProducer(server, True)
            self.assertEqual(server.happened, ["pause"])

        self.run_(test)

    def test_pull(self) -> None:
        """
        A pull producer is called each time all bytes are sent.  Afterwards
        C{transport.write} is uvloop's again.
        """
        pieces = 30

        class Pulled(End):
            def resumeProducing(self) -> None:
                held = self.transport._uv.get_write_buffer_size()
                self.happened.append("resume" if not held else "too soon")
                self.transport.write(b"x" * 1_000_000)
                if self.happened.count("resume") == pieces:
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()

        async def test() -> None:
            server, peer = await self.raw(Pulled, buffer=4096)
            fast = server.transport.write
            server.transport.registerProducer(server, False)
            self.assertEqual(server.happened, ["resume"])
            self.assertEqual(len(await self.read(peer)), pieces * 1_000_000)
            self.assertEqual(server.happened, ["resume"] * pieces)
            self.assertEqual(server.transport._uv.write, fast)

        self.run_(test)

    def test_pullSequence(self) -> None:
        """A pull producer may write several pieces at a time."""

        class Pulled(End):
            def resumeProducing(self) -> None:
                self.happened.append("resume")
                self.transport.writeSequence([b"a", b"b"])
                if len(self.happened) == 30:
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()

        async def test() -> None:
            server, peer = await self.raw(Pulled)
            fast = server.transport.writeSequence
            server.transport.registerProducer(server, False)
            self.assertEqual(await self.read(peer), b"ab" * 30)
            self.assertEqual(server.transport._uv.writelines, fast)

        self.run_(test)

    def test_turns(self) -> None:
        """A pull producer lets other connections run, however much the peer reads."""
        turns = 0

        async def test() -> None:
            nonlocal turns
            server, peer = await self.raw(type("Pulled", (End,), {}))
            server.resumeProducing = lambda: server.transport.write(b"x")
            server.transport.registerProducer(server, False)
            while turns < 10:
                await self.turn()
                turns += 1
            server.transport.unregisterProducer()
            self.assertEqual(server.transport.write.__name__, "write")
            server.transport.loseConnection()
            self.assertGreater(len(await self.read(peer)), 5)

        self.run_(test)

    def test_loseConnection(self) -> None:
        """After C{loseConnection}, a paused producer continues until it is unregistered."""
        data = b"x" * 10_000_000

        async def test() -> None:
            server, peer = await self.raw(buffer=4096)
            server.transport.registerProducer(server, True)
            server.transport.write(data)
            server.transport.loseConnection()
            await self.read(peer, len(data))
            await self.until(lambda: server.happened == ["pause", "resume"])
            server.transport.write(b"the rest")
            self.assertIsNone(server.reason)
            server.transport.unregisterProducer()
            self.assertEqual(await self.read(peer), b"the rest")
            await self.until(lambda: server.reason)
            server.reason.trap(ConnectionDone)

        self.run_(test)

    def test_loseWriteConnection(self) -> None:
        """The same holds after C{loseWriteConnection}."""

        async def test() -> None:
            server, peer = await self.raw(HalfEnd)
            server.transport.registerProducer(server, False)
            server.transport.loseWriteConnection()
            server.transport.write(b"the rest")
            server.transport.unregisterProducer()
            self.assertEqual(await self.read(peer), b"the rest")
            await self.until(lambda: "write lost" in server.happened)

        self.run_(test)

    def test_second(self) -> None:
        """A second producer is refused; a producer that registers after the end is stopped."""

        async def test() -> None:
            server, client = await self.pair()
            server.transport.registerProducer(server, True)
            self.assertRaises(RuntimeError, server.transport.registerProducer, server, True)
            client.transport.loseConnection()
            await self.until(lambda: server.reason)
            self.assertEqual(server.happened, ["stop"])
            server.transport.registerProducer(server, True)
            self.assertEqual(server.happened, ["stop", "stop"])

        self.run_(test)

    def test_reading(self) -> None:
        """A paused transport makes its peer wait."""

        async def test() -> None:
            server, client = await self.pair()
            server.transport.pauseProducing()
            client.transport.registerProducer(client, True)
            while not client.happened:
                client.transport.write(b"x" * 100_000)
            for _ in range(10):
                await self.turn()
            self.assertEqual((server.data, client.happened), (b"", ["pause"]))
            server.transport.resumeProducing()
            await self.until(lambda: client.happened == ["pause", "resume"])

        self.run_(test)


class ReactorTests(UVTestCase):
    """The reactor itself."""

    def test_lastWords(self) -> None:
        """A descriptor of Twisted's own is read to its end, even after an error."""

        async def test() -> None:
            skt, peer = socket.socketpair()
            skt.setblocking(False)
            end = End()
            factory = Factory.forProtocol(lambda: end)
            self.reactor.adoptStreamConnection(skt.fileno(), socket.AF_UNIX, factory)
            skt.close()
            end.transport.write(b"never read")
            await self.until(lambda: select([peer], [], [], 0)[0])
            await self.turn()
            peer.send(b"last words")
            peer.close()
            await self.until(lambda: end.reason)
            self.assertEqual(end.data, b"last words")

        self.run_(test)

    def test_iterate(self) -> None:
        """C{iterate} runs the calls that are due, and returns."""
        reactor = self.buildReactor()
        called: list[int] = []
        reactor.callLater(0, called.append, 1)
        reactor.iterate()
        self.assertEqual(called, [1])
        reactor.iterate(0.001)

    def test_asyncio(self) -> None:
        """Coroutines of asyncio run on the loop."""

        async def test() -> None:
            task = self.reactor.loop.create_task(asyncio.sleep(0, "slept"))
            self.assertEqual(await Deferred.fromFuture(task), "slept")

        self.run_(test)


class ClockTests(SynchronousTestCase):
    """The reactor's clock."""

    def test_steady(self) -> None:
        """It begins with the time of day; afterwards nobody sets it."""
        loop = uvloop.new_event_loop()
        self.addCleanup(loop.close)
        uv = UVReactor(loop)
        self.addCleanup(uv.removeAll)
        self.assertApproximates(uv.seconds(), time.time(), 1)
        self.patch(time, "time", lambda: 0.0)
        self.assertGreater(uv.seconds(), 1e9)
