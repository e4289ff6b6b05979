"""Tests of L{sitio.net.flow}."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.net.flow import FlowControlled


class Half(FlowControlled):
    """Notes down what the transport asks for."""

    def __init__(self) -> None:
        FlowControlled.__init__(self, Clock())
        self.opened = True
        self.asked: list[str] = []

    def writingPaused(self) -> None:
        self.asked.append("pause")

    def writingResumed(self) -> None:
        self.asked.append("resume")

    def isOpen(self) -> bool:
        return self.opened

    def turnCame(self) -> None:
        self.asked.append("turn")

    def readConnectionLost(self) -> None:
        """Nothing."""


class FlowTests(SynchronousTestCase):
    """A protocol pauses its transport, and is paused by it."""

    def setUp(self) -> None:
        self.half = Half()
        self.transport = StringTransport()
        self.half.makeConnection(self.transport)

    def test_interfaces(self) -> None:
        """It is a push producer that may be closed half."""
        verifyObject(IPushProducer, self.half)
        verifyObject(IHalfCloseableProtocol, self.half)

    def test_reading(self) -> None:
        """It pauses and resumes the transport once, however often it is asked to."""
        calls: list[str] = []
        self.patch(self.transport, "pauseProducing", lambda: calls.append("pause"))
        self.patch(self.transport, "resumeProducing", lambda: calls.append("resume"))
        self.half.resume()
        for _ in range(2):
            self.half.pause()
            self.assertFalse(self.half.isReading)
        for _ in range(2):
            self.half.resume()
            self.assertTrue(self.half.isReading)
        self.assertEqual(calls, ["pause", "resume"])

    def test_writing(self) -> None:
        """It is the producer of its transport, and hears when what it writes piles up."""
        self.assertIs(self.transport.producer, self.half)
        self.assertTrue(self.transport.streaming)
        self.half.pauseProducing()
        self.assertTrue(self.half.isBacklogged)
        self.half.resumeProducing()
        self.assertFalse(self.half.isBacklogged)
        self.assertEqual(self.half.asked, ["pause", "resume"])


class TurnTests(SynchronousTestCase):
    """A connection yields its turn of the reactor."""

    def setUp(self) -> None:
        self.half = Half()
        self.clock: Any = self.half.clock
        self.transport = StringTransport()
        self.half.makeConnection(self.transport)

    def test_yields(self) -> None:
        """It does not read until the next turn, in which it goes on."""
        self.half.yieldTurn()
        self.assertEqual(self.transport.producerState, "paused")
        self.assertEqual(self.half.asked, [])
        self.clock.advance(0)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.half.asked, ["turn"])

    def test_once(self) -> None:
        """A turn is yielded once, however often it is asked to."""
        self.half.yieldTurn()
        self.half.yieldTurn()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_staysPaused(self) -> None:
        """If reading is paused before or meanwhile, it stays paused."""
        self.half.pause()
        self.half.yieldTurn()
        self.clock.advance(0)
        self.assertEqual(self.transport.producerState, "paused")
        self.half.resume()
        self.half.yieldTurn()
        self.half.pause()
        self.clock.advance(0)
        self.assertEqual(self.transport.producerState, "paused")

    def test_resumedMeanwhile(self) -> None:
        """If reading is resumed meanwhile, it begins in the next turn."""
        self.half.pause()
        self.half.yieldTurn()
        self.half.resume()
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.advance(0)
        self.assertEqual(self.transport.producerState, "producing")

    def test_again(self) -> None:
        """What is left in the next turn can be left to the turn after it."""
        states = []

        def turnCame() -> None:
            states.append(self.transport.producerState)
            if len(states) < 3:
                self.half.yieldTurn()

        self.patch(self.half, "turnCame", turnCame)
        self.half.yieldTurn()
        self.clock.advance(0)
        self.assertEqual(states, ["paused"] * 3)
        self.assertEqual(self.transport.producerState, "producing")

    def test_closed(self) -> None:
        """A connection that has closed is neither paused nor resumed."""
        self.half.yieldTurn()
        self.half.opened = False
        self.transport.loseConnection()
        self.clock.advance(0)
        self.half.yieldTurn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
