"""
Tests of L{sitio.net.accepting}: a port accepts what can be served, and pauses otherwise.
L{sitio.test.system.test_descriptors} tests whole processes.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from socket import socketpair
from typing import Any, cast

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.accepting import (
    LACK_SECONDS,
    MAX_ACCEPTS,
    AcceptingPort,
    CountedServer,
    CountedUNIXServer,
    PlainTCPPort,
)
from sitio.net.loglimit import LOG_SECONDS
from sitio.net.room import Room, SpareDescriptors


class Socket:
    """A listening socket with a queue of clients and errors."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.queue: list[Any] = []

    def accept(self) -> tuple[Any, Any]:
        """The next client, or the next error; an error of a lack stays."""
        if not self.queue:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        if isinstance(self.queue[0], OSError):
            error = self.queue[0]
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                del self.queue[0]
            raise error
        return self.queue.pop(0), ("127.0.0.1", 1)


class Port(AcceptingPort):
    """A port on a clock."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.socket: Any = Socket()
        self.watched = False
        self.clients: list[Any] = []

    def _accept(self) -> tuple[Any, Any]:
        """See L{AcceptingPort}."""
        accepted: tuple[Any, Any] = self.socket.accept()
        return accepted

    def watch(self) -> None:
        """See L{AcceptingPort}."""
        assert not self.watched
        self.watched = True

    def unwatch(self) -> None:
        """See L{AcceptingPort}."""
        assert self.watched
        self.watched = False

    def accepted(self, skt: Any, address: Any) -> None:
        """See L{AcceptingPort}."""
        self.clients.append(skt)

    def wait(self, *queue: Any) -> None:
        """Clients wait, and errors; the reactor calls the port if it watches it."""
        self.socket.queue += queue
        self.turn()

    def turn(self) -> None:
        """A turn of the reactor."""
        if self.watched:
            self.doRead()


def lack(number: int = errno.EMFILE) -> OSError:
    """The error of a process without descriptors."""
    return OSError(number, "Too many open files")


class AcceptingTests(SynchronousTestCase):
    """When a port accepts, and when it pauses."""

    def setUp(self) -> None:
        self.port = Port()
        self.port.startReading()
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(cast(Any, self.events.append))
        self.addCleanup(globalLogPublisher.removeObserver, cast(Any, self.events.append))

    def logged(self) -> list[str]:
        """The log lines since the last call."""
        lines = [formatEvent(each) for each in self.events]
        self.events.clear()
        return lines

    def test_limit(self) -> None:
        """With as many connections as there is room for, it pauses until one closes."""
        self.port.room = Room(3)
        self.port.wait(*"abcde")
        self.assertEqual(self.port.clients, ["a", "b", "c"])
        self.assertEqual((self.port.watched, self.port.isReading()), (False, False))
        self.assertEqual(self.logged(), ["New connections wait: 3 clients are connected"])
        self.port.room.leave()
        self.assertTrue(self.port.isReading())
        self.port.turn()
        self.assertEqual(self.port.clients, ["a", "b", "c", "d"])
        self.assertFalse(self.port.isReading())
        self.assertEqual(self.port.reactor.getDelayedCalls(), [])

    def test_shared(self) -> None:
        """Two ports share the room; both go on when a connection closes."""
        other = Port()
        other.startReading()
        self.port.room = other.room = Room(2)
        self.port.wait("a")
        other.wait(*"bc")
        self.port.wait("d")
        self.assertEqual((self.port.clients, other.clients), (["a"], ["b"]))
        self.port.room.leave()
        self.port.turn()
        other.turn()
        self.assertEqual((self.port.clients, other.clients), (["a", "d"], ["b"]))

    def test_turn(self) -> None:
        """On one turn it accepts a bounded number."""
        self.port.wait(*range(2 * MAX_ACCEPTS + 1))
        self.assertEqual(len(self.port.clients), MAX_ACCEPTS)
        self.port.turn()
        self.port.turn()
        self.assertEqual(len(self.port.clients), 2 * MAX_ACCEPTS + 1)

    def test_lack(self) -> None:
        """Without descriptors it pauses, and tries again after a while."""
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            self.setUp()
            self.port.wait("a", lack(number), "b")
            self.assertEqual((self.port.clients, self.port.watched), (["a"], False))
            self.assertEqual(
                self.logged(),
                ["New connections wait: there are no file descriptors left (Too many open files)"],
            )
            self.port.reactor.advance(LACK_SECONDS)
            self.port.turn()
            self.assertFalse(self.port.watched)
            del self.port.socket.queue[0]
            self.port.reactor.advance(LACK_SECONDS)
            self.port.turn()
            self.assertEqual((self.port.clients, self.port.watched), (["a", "b"], True))
            self.assertEqual(self.port.reactor.getDelayedCalls(), [])

    def test_lackEnds(self) -> None:
        """A connection that closes ends the pause at once."""
        self.port.wait("a", lack(), "b")
        self.port.room.leave()
        self.assertTrue(self.port.watched)
        self.assertEqual(self.port.reactor.getDelayedCalls(), [])

    def test_logged(self) -> None:
        """A pause is logged once a minute."""
        self.port.wait(lack())
        self.assertEqual(len(self.logged()), 1)
        for _ in range(3):
            self.port.reactor.advance(LACK_SECONDS)
            self.port.turn()
        self.assertEqual(self.logged(), [])
        self.port.reactor.advance(LOG_SECONDS)
        self.port.turn()
        self.assertEqual(len(self.logged()), 1)

    def test_otherErrors(self) -> None:
        """A client that has gone before it was accepted does not keep others waiting."""
        for number in (errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR):
            self.setUp()
            self.port.wait(OSError(number, "gone"), "a")
            self.assertEqual((self.port.clients, self.port.watched), (["a"], True))

    def test_errorsForEver(self) -> None:
        """Errors without end take a bounded number of attempts on a turn."""
        self.port.wait(*(OSError(errno.EPERM, "no") for _ in range(MAX_ACCEPTS)), "a")
        self.assertEqual(self.port.clients, [])
        self.port.turn()
        self.assertEqual(self.port.clients, ["a"])

    def test_stoppedInAPause(self) -> None:
        """A port that is stopped while it pauses stays stopped, and leaves no timer."""
        for queue in (["a", "b"], [lack()]):
            self.setUp()
            self.port.room = Room(1)
            self.port.wait(*queue)
            self.assertFalse(self.port.watched)
            self.port.stopReading()
            self.port.stopReading()
            self.port.room.leave()
            self.port.reactor.advance(1)
            self.assertFalse(self.port.watched or self.port.isReading())
            self.assertEqual(self.port.reactor.getDelayedCalls(), [])
            self.port.startReading()
            self.assertTrue(self.port.watched)

    def test_startedInAPause(self) -> None:
        """To start a port that pauses does not end the pause."""
        self.port.room = Room(1)
        self.port.wait("a", "b")
        self.port.startReading()
        self.assertFalse(self.port.watched)

    def test_stoppedByAClient(self) -> None:
        """A port that is stopped while it accepts leaves the others waiting."""
        self.patch(self.port, "accepted", lambda skt, address: self.port.stopReading())
        self.port.wait("a", "b")
        self.assertEqual(self.port.socket.queue, ["b"])

    def test_spare(self) -> None:
        """A port with descriptors of its own uses them one by one, then pauses."""

        class Spare(SpareDescriptors):
            kept = 2

            def keep(spare) -> None:
                """Nothing can be opened."""

            def give(spare) -> bool:
                spare.kept -= 1
                if spare.kept >= 0:
                    del self.port.socket.queue[0]
                return spare.kept >= 0

        self.port.spare = Spare(2)
        self.port.wait(lack(), "a", lack(), "b", lack(), "c")
        self.assertEqual((self.port.clients, self.port.watched), (["a", "b"], False))


class Ending(Protocol):
    """Notes its end, and may fail."""

    ended = 0
    fails = False

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Note it."""
        self.ended += 1
        if self.fails:
            raise ZeroDivisionError


class PlainTests(SynchronousTestCase):
    """Twisted's own connections count as long as they have a descriptor."""

    def test_failingFactory(self) -> None:
        """A connection without a protocol is closed, and makes room; a failure is logged."""

        class Socket:
            closed = False

            def close(self) -> None:
                self.closed = True

        for outcome in (lambda address: None, lambda address: 1 / 0):
            factory = Factory()
            factory.buildProtocol = outcome  # type: ignore[assignment]
            port = PlainTCPPort(0, cast(Any, factory), 5, "", cast(Any, Clock()))
            port.room = Room(1)
            port.room.take()
            skt: Any = Socket()
            port.accepted(skt, ("127.0.0.1", 1))
            self.assertEqual((skt.closed, port.room.taken), (True, 0))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_onlyOnce(self) -> None:
        """A connection leaves the room once, also if its end is reported twice or fails."""
        for fails in (False, True):
            port: Any = Port()
            port.room = Room(5)
            port.room.take()
            server: Any = CountedServer.__new__(CountedServer)
            server.server, server.protocol, server.reactor = port, Ending(), Fake()
            server.protocol.fails = fails
            server.socket, server.fileno = Fake(), lambda: 5
            if fails:
                self.assertRaises(ZeroDivisionError, server.connectionLost, Failure(OSError()))
            else:
                server.connectionLost(Failure(OSError()))
            server.connectionLost(Failure(OSError()))
            self.assertEqual(port.room.taken, 0)

    def test_unsent(self) -> None:
        """
        What a connection has not sent is freed at its end, and not when the garbage collector
        finds the connection.
        """
        for kind in (CountedServer, CountedUNIXServer):
            for fails in (False, True):
                near, far = socketpair()
                self.addCleanup(far.close)
                near.setblocking(False)
                port: Any = Port()
                port.room = Room(5)
                port.room.take()
                server: Any = kind.__new__(kind)
                server.server, server.protocol, server.reactor = port, Ending(), Fake()
                server.protocol.fails = fails
                Connection.__init__(server, near, server.protocol, server.reactor)
                server._sendmsgQueue = []
                server.connected = 1
                server.write(bytes(2**24))
                server.doWrite()
                server.writeSequence([bytes(1000), bytes(1000)])
                self.assertGreater(len(server.dataBuffer), 2**22)
                with contextlib.suppress(ZeroDivisionError):
                    server.connectionLost(Failure(OSError()))
                self.assertEqual((len(server.dataBuffer), server.offset), (0, 0))
                self.assertEqual((server._tempDataBuffer, server._tempDataLen), ([], 0))
                self.assertEqual(port.room.taken, 0)


class Fake:
    """Does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None
