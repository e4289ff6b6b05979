"""
Tests of L{sitio.net.splice}.

The kernel moves the bytes, so the tests use pairs of real sockets.  The reactor is a fake,
and no test waits.
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

from sitio.net import splice
from sitio.net.splice import PIPE_BYTES, Splice, descriptorOf

HERE = hasattr(os, "splice")
NOT_HERE = "there is no splice on this system"

#: Seconds that a test waits for bytes, which is much more than they take.
LIMIT = 30.0


class Reactor:
    """An C{IReactorFDSet} that records its readers and writers."""

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
        """Begin to move this number of bytes."""
        splice = Splice(
            self.reactor, self.ours[0], self.ours[1], size, self.moved.append, self.ended
        )
        self.addCleanup(splice.stop)
        return splice

    def ended(self, left: int, sinkFailed: bool) -> None:
        self.ends.append((left, sinkFailed))

    def turn(self) -> None:
        """Do what a reactor does when both sockets are ready."""
        for each in list(self.reactor.readers):
            each.doRead()
        for each in list(self.reactor.writers):
            each.doWrite()

    def assertClosed(self) -> None:
        """It has closed its descriptors, and the reactor watches none of them."""
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), set()))
        for each in self.ours:
            self.assertRaises(OSError, os.fstat, each)

    def test_interfaces(self) -> None:
        """What the reactor gets provides the interfaces that it needs."""
        splice = self.splice(PIPE_BYTES * 100)
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
        """All bytes arrive in order and are counted; at the end it closes its descriptors."""
        self.splice(11)
        self.upstream.send(b"hello ")
        self.turn()
        self.upstream.send(b"world")
        self.turn()
        self.assertEqual(self.client.recv(100), b"hello world")
        self.assertEqual((sum(self.moved), self.ends), (11, [(0, False)]))
        self.assertClosed()

    def test_noMore(self) -> None:
        """Bytes after the body stay in the source."""
        [source] = [socket.socket(fileno=os.dup(self.ours[0]))]
        self.addCleanup(source.close)
        self.splice(5)
        self.upstream.send(b"helloHTTP/1.1")
        self.turn()
        self.assertEqual((self.client.recv(100), self.ends), (b"hello", [(0, False)]))
        self.assertEqual(source.recv(100), b"HTTP/1.1")

    def test_nothingYet(self) -> None:
        """A read before any bytes have arrived does nothing."""
        self.splice(5)
        self.turn()
        self.assertEqual((self.moved, self.ends), ([], []))

    def test_slowSink(self) -> None:
        """While the sink takes nothing, the source is not read; then both go on."""
        self.fillUp(self.splice(PIPE_BYTES * 100))
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
        """If the source ends early, it reports the number of missing bytes."""
        self.splice(10)
        self.upstream.send(b"hello")
        self.turn()
        self.upstream.close()
        self.turn()
        self.assertEqual((self.client.recv(100), self.ends), (b"hello", [(5, False)]))
        self.assertClosed()

    def test_sinkFails(self) -> None:
        """If the sink can no longer be written, it reports that."""
        self.splice(10)
        self.client.close()
        self.upstream.send(b"hello")
        self.turn()
        self.assertEqual(self.ends, [(5, True)])
        self.assertClosed()

    def test_stop(self) -> None:
        """C{stop} closes the descriptors and reports nothing; a second call does nothing."""
        splice = self.splice(10)
        splice.stop()
        self.assertClosed()
        splice.stop()
        self.assertEqual(self.ends, [])

    def test_stopWhenTold(self) -> None:
        """The C{moved} callback may stop it."""
        splice = self.splice(10)
        splice._moved = lambda size: splice.stop()
        self.upstream.send(b"hello")
        self.turn()
        self.assertClosed()
        self.assertEqual(self.ends, [])

    def test_reactorEmptied(self) -> None:
        """It closes its descriptors when the reactor removes all of its own."""
        self.splice(10)
        for each in list(self.reactor.readers):
            each.connectionLost(Failure(Exception()))
        self.assertClosed()

    def test_noDescriptors(self) -> None:
        """When the process has no descriptors left, it raises, and closes nothing."""
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

    def test_fewDescriptors(self) -> None:
        """It does not take the descriptors that are reserved; it raises, and closes nothing."""
        before = set(os.listdir("/proc/self/fd"))
        self.patch(splice, "isScarce", lambda descriptor: True)
        self.assertRaises(OSError, self.splice, 10)
        self.assertEqual(set(os.listdir("/proc/self/fd")), before)
        for each in self.ours:
            os.close(each)

    def test_descriptorOf(self) -> None:
        """Only a transport has a descriptor: a wrapper has other bytes on the wire."""

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
