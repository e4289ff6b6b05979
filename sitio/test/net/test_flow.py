"""Tests of L{sitio.net.flow}."""

from __future__ import annotations

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.net.flow import FlowControlled


class Half(FlowControlled):
    """Notes down what the transport asks for."""

    def __init__(self) -> None:
        FlowControlled.__init__(self)
        self.asked: list[str] = []

    def writingPaused(self) -> None:
        self.asked.append("pause")

    def writingResumed(self) -> None:
        self.asked.append("resume")

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
