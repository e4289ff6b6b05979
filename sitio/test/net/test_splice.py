"""
Tests of L{sitio.net.splice}, on pairs of sockets and a reactor that records who waits.

The kernel moves the bytes, so these tests need sockets; they wait for nothing.
"""

from __future__ import annotations

import contextlib
import os
import resource
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
)

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
