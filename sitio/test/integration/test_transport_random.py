"""
Random programs on L{sitio.net.reactor} and on one of Twisted's own reactors: both ends of a
connection see the same.

A program is a list of steps.  An end takes a step when the effects of the step before have
settled.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings as profile, strategies as st
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IPushProducer
from twisted.internet.pollreactor import PollReactor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, implementer

from sitio.net.reactor import UVReactor
from sitio.test.helpers.loopback import LOCALHOST
from sitio.test.helpers.loops import close

#: Bytes of the kernel's buffers.  What exceeds both waits in the transport.
BUFFER = 32 * 1024

#: Bytes of one write: a few, and so many that producers are paused.
SIZES = (1, 150, 1024 * 1024)

#: What each end sends again and again, so that lost or misplaced bytes are noticed.
PATTERN = bytes(range(251))

#: How many turns without an event mean that nothing more happens, and seconds for each
#: turn.  The later pairs are for a kernel that delays: an ACK may take 40 ms.
QUIET = (6, 0.0), (6, 0.01), (30, 0.01)

#: Turns within which the effects of each step have settled.
TURNS = 5000

STEPS = (
    "write",
    "sequence",
    "pause",
    "resume",
    "push",
    "pull",
    "unregister",
    "lose",
    "loseWrite",
    "abort",
)

programs = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(STEPS), st.sampled_from(SIZES)), max_size=20
)


def pattern(start: int, size: int) -> bytes:
    """The bytes that an end sends, from this position on."""
    first = start % len(PATTERN)
    return (PATTERN * ((first + size) // len(PATTERN) + 1))[first : first + size]


class End(Protocol):
    """
    One end of a connection.

    @ivar happened: events, in order.
    @ivar got: the number of bytes that have come; their content is checked.
    @ivar sent: the number of bytes that were written.
    @ivar deaf: whether it no longer reads, or did not when it ended.
    """

    receivesDirectly = True
    transport: Any

    def __init__(self, case: SynchronousTestCase, halves: bool) -> None:
        self._case = case
        self.got = self.sent = 0
        self.happened: list[str] = []
        self.reason: Failure | None = None
        self.producer: Producer | None = None
        self.halfClosed = self.deaf = False
        if halves:
            directlyProvides(self, IHalfCloseableProtocol)

    def connectionMade(self) -> None:
        handle = self.transport.getHandle()
        for each in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            handle.setsockopt(socket.SOL_SOCKET, each, BUFFER)

    def dataReceived(self, data: bytes) -> None:
        self._case.assertIsNone(self.reason)
        self._case.assertEqual(data, pattern(self.got, len(data)))
        self.got += len(data)

    def readConnectionLost(self) -> None:
        self.deaf = True
        self.happened.append("read lost")

    def writeConnectionLost(self) -> None:
        self.happened.append("write lost")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._case.assertIsNone(self.reason)
        self.reason = reason
        self.happened.append(type(reason.value).__name__)

    def piece(self, size: int) -> bytes:
        """The next bytes to send."""
        self.sent += size
        return pattern(self.sent - size, size)

    @property
    def state(self) -> Any:
        """All that changes as long as something happens."""
        producer = self.producer
        return self.got, self.sent, tuple(self.happened), producer and producer.paused

    def take(self, step: str, size: int) -> None:
        """Take a step, if its effect on Twisted's own transports is defined."""
        transport = self.transport
        if step in ("pause", "resume") and "read lost" not in self.happened and not self.reason:
            self.deaf = step == "pause"
        if step == "write":
            if not self.halfClosed:
                transport.write(self.piece(size))
        elif step == "sequence":
            if not self.halfClosed:
                transport.writeSequence([self.piece(each) for each in (size, 1, 3)])
        elif step in ("push", "pull"):
            self._register(step, size)
        elif step == "unregister":
            self.release()
        elif step == "loseWrite":
            # Twisted's own transports forget to close if a producer comes in between.
            if self.producer is None and self.reason is None and not self.halfClosed:
                self.halfClosed = True
                transport.loseWriteConnection()
        elif step == "resume" and "read lost" in self.happened:
            pass  # Twisted's own transports would report the end once more.
        else:
            {
                "pause": transport.pauseProducing,
                "resume": transport.resumeProducing,
                "lose": transport.loseConnection,
                "abort": transport.abortConnection,
            }[step]()

    def _register(self, step: str, size: int) -> None:
        # When bytes wait, Twisted's own transports pause a new producer later than ours.
        writing = self.transport in self.transport.reactor.getWriters()
        if self.producer is None and not self.halfClosed and not writing:
            kind = Push if step == "push" else Pull
            self.producer = kind(self, size)
            self.transport.registerProducer(self.producer, step == "push")

    def release(self) -> None:
        """Unregister the producer."""
        if self.producer is not None:
            self.producer = None
            self.transport.unregisterProducer()


class Producer:
    """
    A producer that an end registers.

    @ivar paused: whether it is paused.
    """

    def __init__(self, end: End, size: int) -> None:
        self.paused = False
        self.end = end
        self.size = size
        self.left = 5

    def stopProducing(self) -> None:
        """The connection is lost."""
        self.end.happened.append("stop")


@implementer(IPushProducer)
class Push(Producer):
    """A push producer; the steps of the program produce."""

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


@implementer(IPullProducer)
class Pull(Producer):
    """A pull producer of some pieces."""

    def resumeProducing(self) -> None:
        if self.left:
            self.left -= 1
            if self.left % 2:
                self.end.transport.writeSequence([self.end.piece(self.size), self.end.piece(1)])
            else:
                self.end.transport.write(self.end.piece(self.size))
        elif self.end.producer is self:
            self.end.release()


class RandomTests(SynchronousTestCase):
    """Connections on both reactors behave the same."""

    maxDiff = None

    def settle(self, reactor: Any, ends: list[End], quiet: tuple[int, float]) -> None:
        """Run until nothing happens any more."""
        still, before = 0, None
        for _ in range(TURNS):
            reactor.iterate(quiet[1])
            now = [each.state for each in ends]
            still = still + 1 if now == before else 0
            if still == quiet[0]:
                return
            before = now
        self.fail("the effects of a step do not settle")

    def told(self, end: End, peer: End) -> list[str]:
        """The recorded events of one end."""
        if end.deaf and end.reason is not None and peer.reason is not None:
            # An end that does not read notices a reset only by chance.
            chance = ("write lost", "ConnectionDone", "ConnectionLost")
            return [each for each in end.happened if each not in chance]
        return list(end.happened)

    def seen(self, ends: list[End]) -> list[Any]:
        """All that the two ends have seen."""
        happened = [self.told(*each) for each in (ends, ends[::-1])]
        # Bytes that are on their way when a connection breaks may arrive or not.
        whole = not {"ConnectionLost", "ConnectionAborted"} & {*happened[0], *happened[1]}
        producers = [None if each.reason else each.producer for each in ends]
        paused = [each is not None and each.paused for each in producers]
        return [happened, [each.got for each in ends] if whole else None, paused]

    def played(
        self, reactor: Any, halves: tuple[bool, bool], program: list[Any], quiet: tuple[int, float]
    ) -> Iterator[Any]:
        """What is seen after each step."""
        ends = [End(self, each) for each in halves]
        port = reactor.listenTCP(0, Factory.forProtocol(lambda: ends[0]), interface=LOCALHOST)
        endpoint = TCP4ClientEndpoint(reactor, LOCALHOST, port.getHost().port)
        endpoint.connect(Factory.forProtocol(lambda: ends[1])).addErrback(self.fail)
        while not all(each.connected for each in ends):
            reactor.iterate(0.001)
        for end, step, size in program:
            ends[end].take(step, size)
            self.settle(reactor, ends, quiet)
            yield end, step, size, self.seen(ends)
        for last in ("resume", "unregister", "lose"):
            for each in ends:
                each.take(last, 0)
            self.settle(reactor, ends, quiet)
            yield last, self.seen(ends)
        port.stopListening()
        self.settle(reactor, ends, quiet)
        self.assertTrue(all(each.reason for each in ends))
        left = {*reactor.getReaders(), *reactor.getWriters()}
        self.assertEqual(left - {reactor.waker}, set())

    def play(self, halves: tuple[bool, bool], program: list[Any], quiet: Any) -> list[Any]:
        """What is seen on both reactors."""
        uv = UVReactor()
        reactors: list[Any] = [PollReactor(), uv]
        try:
            return [list(self.played(each, halves, program, quiet)) for each in reactors]
        finally:
            for reactor in reactors:
                for each in (*reactor.removeAll(), reactor.waker):
                    each.connectionLost(connectionDone)
            close(uv.loop)

    @profile(deadline=None, max_examples=60, derandomize=True)
    @given(halves=st.tuples(st.booleans(), st.booleans()), program=programs)
    def test_same(self, halves: tuple[bool, bool], program: list[Any]) -> None:
        """Both ends see the same on both reactors."""
        for quiet in QUIET:
            twisteds, ours = self.play(halves, program, quiet)
            if twisteds == ours:
                return
        self.assertEqual(twisteds, ours, f"{halves}, {program}")
