"""
Tests of L{sitio.net.splice}: over pairs of sockets and a reactor that only notes what it
is asked, then with a sitio of its own.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from typing import Any
from unittest import skipUnless

from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.net.splice import PIPE, Splice, descriptorOf
from sitio.test.helpers.loopback import (
    LIMIT,
    LISTENS,
    LOCALHOST,
    TWISTD,
    LoopbackTestCase,
    Process,
    Upstream,
)
from sitio.test.helpers.streams import GET, MEBIBYTE, Flood, Sink, StreamTestCase, download

HERE = hasattr(os, "splice")
NOT_HERE = "there is no splice on this system"


class Reactor:
    """An C{IReactorFDSet} that notes who waits for what."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard


@skipUnless(HERE, NOT_HERE)
class SpliceTests(SynchronousTestCase):
    """Bytes from one socket to another."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.moved: list[int] = []
        self.ends: list[tuple[int, bool]] = []
        self.upstream, source = self.pair()
        self.client, sink = self.pair()
        self.ours = [os.dup(source.fileno()), os.dup(sink.fileno())]
        source.close()
        sink.close()
        self.client.settimeout(LIMIT)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two connected sockets, the second one not blocking."""
        there, here = socket.socketpair()
        self.addCleanup(there.close)
        here.setblocking(False)
        return there, here

    def splice(self, size: int) -> Splice:
        """Begin to move so much."""
        splice = Splice(
            self.reactor, self.ours[0], self.ours[1], size, self.moved.append, self.ended
        )
        self.addCleanup(splice.stop)
        return splice

    def ended(self, left: int, sinkFailed: bool) -> None:
        self.ends.append((left, sinkFailed))

    def turn(self) -> None:
        """What a reactor does when both sockets are ready."""
        for each in list(self.reactor.readers):
            each.doRead()
        for each in list(self.reactor.writers):
            each.doWrite()

    def assertClosed(self) -> None:
        """It has let go of its descriptors, and waits for nothing."""
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))
        for each in self.ours:
            self.assertRaises(OSError, os.fstat, each)

    def test_interfaces(self) -> None:
        """What a reactor is given is what it takes."""
        splice = self.splice(PIPE * 100)
        [source] = self.reactor.readers
        self.assertTrue(verifyObject(IReadDescriptor, source))
        self.fillUp(splice)
        [sink] = self.reactor.writers
        self.assertTrue(verifyObject(IWriteDescriptor, sink))

    def fillUp(self, splice: Splice) -> None:
        """Send until the sink takes no more."""
        self.upstream.setblocking(False)
        for _ in range(10_000):
            with contextlib.suppress(BlockingIOError):
                self.upstream.send(b"x" * 65536)
            if self.reactor.writers:
                return
            for each in list(self.reactor.readers):
                each.doRead()
        self.fail(f"it took all: {splice}")

    def test_all(self) -> None:
        """All bytes arrive, in order; it says how many, and ends once, having closed all."""
        self.splice(11)
        self.upstream.send(b"hello ")
        self.turn()
        self.upstream.send(b"world")
        self.turn()
        self.assertEqual(self.client.recv(100), b"hello world")
        self.assertEqual((sum(self.moved), self.ends), (11, [(0, False)]))
        self.assertClosed()

    def test_noMore(self) -> None:
        """What follows the body stays in the source, for whoever reads it."""
        [source] = [socket.socket(fileno=os.dup(self.ours[0]))]
        self.addCleanup(source.close)
        self.splice(5)
        self.upstream.send(b"helloHTTP/1.1")
        self.turn()
        self.assertEqual((self.client.recv(100), self.ends), (b"hello", [(0, False)]))
        self.assertEqual(source.recv(100), b"HTTP/1.1")

    def test_nothingYet(self) -> None:
        """To be asked to read where nothing has come does no harm."""
        self.splice(5)
        self.turn()
        self.assertEqual((self.moved, self.ends), ([], []))

    def test_slowSink(self) -> None:
        """While the sink takes nothing the source isn't read, and goes on when it does."""
        self.fillUp(self.splice(PIPE * 100))
        self.assertEqual(self.reactor.readers, set())
        self.turn()
        self.assertEqual(self.reactor.readers, set())
        before = sum(self.moved)
        taken = 0
        while not self.reactor.readers:
            taken += len(self.client.recv(65536))
            self.turn()
        self.assertGreater(sum(self.moved), before)
        self.assertEqual(self.reactor.writers, set())

    def test_sourceEnds(self) -> None:
        """A source that ends early: it says how much is missing."""
        self.splice(10)
        self.upstream.send(b"hello")
        self.turn()
        self.upstream.close()
        self.turn()
        self.assertEqual((self.client.recv(100), self.ends), (b"hello", [(5, False)]))
        self.assertClosed()

    def test_sinkFails(self) -> None:
        """A sink that can't be written any more: it says so."""
        self.splice(10)
        self.client.close()
        self.upstream.send(b"hello")
        self.turn()
        self.assertEqual(self.ends, [(5, True)])
        self.assertClosed()

    def test_stop(self) -> None:
        """Stopped it closes all and tells nobody; a second time does nothing."""
        splice = self.splice(10)
        splice.stop()
        self.assertClosed()
        splice.stop()
        self.assertEqual(self.ends, [])

    def test_stopWhenTold(self) -> None:
        """Whoever is told may want no more."""
        splice = self.splice(10)
        splice._moved = lambda size: splice.stop()
        self.upstream.send(b"hello")
        self.turn()
        self.assertClosed()
        self.assertEqual(self.ends, [])

    def test_reactorEmptied(self) -> None:
        """A reactor that lets go of all has it closed."""
        self.splice(10)
        for each in list(self.reactor.readers):
            each.connectionLost(Failure(Exception()))
        self.assertClosed()

    def test_noDescriptors(self) -> None:
        """With no descriptor left it can't begin, and has closed nothing."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(self.ours) + 1, hard))
        try:
            spare = []
            with contextlib.suppress(OSError):
                while True:
                    spare.append(os.dup(0))
            self.assertRaises(OSError, self.splice, 10)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for each in [*spare, *self.ours]:
                os.close(each)

    def test_descriptorOf(self) -> None:
        """Only a transport that says so itself: one that wraps it has others bytes."""

        class Transport:
            def duplicate(self) -> int:
                return 7

            def isWriting(self) -> bool:
                return True

        class Wrapper:
            def __init__(self, transport: Transport) -> None:
                self.transport = transport

            def __getattr__(self, name: str) -> Any:
                return getattr(self.transport, name)

        self.assertEqual(descriptorOf(Transport()), 7)
        self.assertEqual(descriptorOf(Transport(), written=True), None)
        self.assertEqual(Wrapper(Transport()).duplicate(), 7)
        self.assertEqual(descriptorOf(Wrapper(Transport())), None)


def pipes(process: Process) -> int:
    """How many ends of pipes a process has."""
    return len([each for each in process.descriptors() if each.startswith("pipe:")])


@skipUnless(HERE, NOT_HERE)
class SidecarTests(StreamTestCase):
    """A sitio of its own, that moves long bodies so."""

    size = 64 * MEBIBYTE

    async def begin(self, *arguments: str) -> None:
        """A response of which the client reads the first, and the kernel has begun to move it."""
        if arguments:
            self.process, self.port = await self.sitio(await self.listen(self.upstream), *arguments)
        self.pipes = pipes(self.process)
        self.open = len(self.process.descriptors())
        self.client = await self.connect(self.port, GET)
        self.asked = await self.upstream.connection(1)
        await self.asked.got.saw(b"\r\n\r\n")
        self.asked.send(download(self.size))
        self.flood = Flood(self.asked.transport, self.size)
        await self.client.got.saw(b"\r\n\r\n")
        self.client.transport.pauseProducing()
        await self.until(lambda: pipes(self.process) == self.pipes + 2)

    async def test_reused(self) -> None:
        """It is so; and both connections go on afterwards, with nothing left open."""
        self.size = 16 * MEBIBYTE
        client = await self.connect(self.port, GET)
        open = len(self.process.descriptors())
        for number in range(3):
            sink = Sink(client)
            asked = await self.upstream.connection(1)
            if number:
                # Both tell of the round before; the first request may have come already.
                asked.got.data = client.got.data = b""
                client.send(GET)
            await asked.got.saw(b"\r\n\r\n")
            asked.send(download(self.size))
            flood = Flood(asked.transport, self.size)
            await sink.has(self.size)
            self.assertEqual(sink.digest.digest(), flood.digest.digest())
        self.assertEqual(len(self.upstream.connections), 2)
        await self.until(lambda: len(self.process.descriptors()) <= open + 1)

    async def test_clientLeaves(self) -> None:
        """A client that goes: the service is let go of, and all is closed."""
        await self.begin()
        self.client.transport.abortConnection()
        await self.asked.got.over()
        await self.until(lambda: pipes(self.process) == self.pipes)
        await self.until(lambda: len(self.process.descriptors()) <= self.open)

    async def test_upstreamLeaves(self) -> None:
        """A service that breaks off: so is the client's connection, as the rest is missing."""
        await self.begin()
        self.asked.transport.abortConnection()
        self.client.transport.resumeProducing()
        await self.client.got.over()
        self.assertFalse(self.client.clean)
        await self.until(lambda: len(self.process.descriptors()) <= self.open)

    async def test_stalled(self) -> None:
        """A client that takes nothing for too long is let go of."""
        await self.begin("--stall-timeout", "1")
        await self.asked.got.over()
        await self.until(lambda: pipes(self.process) == self.pipes)

    async def test_grace(self) -> None:
        """sitio stops in the midst of it, after the grace."""
        await self.begin("--grace", "1")
        self.process.signal(signal.SIGTERM)
        self.assertEqual(await self.process.finish(), -signal.SIGTERM)
        self.assertIn("did not end within the grace", self.process.said())

    async def test_drained(self) -> None:
        """A response that is moved so comes through whole when sitio is told to stop."""
        await self.begin()
        self.process.signal(signal.SIGTERM)
        body = self.client.got.data.partition(b"\r\n\r\n")[2]
        sink = Sink(self.client)
        sink.take(sink.bodyReceived)
        sink.bodyReceived(body)
        self.client.transport.resumeProducing()
        await sink.has(self.size)
        self.assertEqual(sink.digest.digest(), self.flood.digest.digest())
        self.assertEqual(await self.process.finish(), -signal.SIGTERM)


class OtherTests(LoopbackTestCase):
    """Where it can't be done so, the bytes come by."""

    size = 16 * MEBIBYTE

    async def test_withoutUvloop(self) -> None:
        """On a reactor of Twisted's own."""
        upstream = Upstream()
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "--reactor", "select", "sitio", "--admin="),
            *("--port", f"tcp:0:interface={LOCALHOST}"),
            *("--upstream", f"tcp:{LOCALHOST}:{await self.listen(upstream)}"),
        )
        port = int((await process.out.saw(LISTENS))[1])
        client = await self.connect(port, GET)
        sink = Sink(client)
        asked = await upstream.connection(0)
        await asked.got.saw(b"\r\n\r\n")
        asked.send(download(self.size))
        flood = Flood(asked.transport, self.size)
        await sink.has(self.size)
        self.assertEqual(sink.digest.digest(), flood.digest.digest())
