"""
Flow control that both halves of the proxy share: L{FlowControlled}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer


@implementer(IHalfCloseableProtocol, IPushProducer)
class FlowControlled(Protocol):
    """
    A protocol that pauses its own transport, and is paused by it.

    It is the producer of its own transport: when the write buffer is full, the
    transport calls it, wherever the bytes come from.

    @ivar isBacklogged: whether the transport has asked for a pause in writing.
    @ivar isReading: whether the transport reads.
    """

    #: Reads skip a Python frame on uvloop: see L{sitio.net.transport}.
    receivesDirectly = True

    # An ITCPTransport that can be paused, or what TLS makes of one.
    transport: Any

    def __init__(self) -> None:
        self.isBacklogged = False
        self.isReading = True

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        setNoDelay = getattr(self.transport, "setTcpNoDelay", None)
        if setNoDelay is not None:
            setNoDelay(True)

    def pause(self) -> None:
        """Read no more, until L{resume}."""
        if self.isReading:
            self.isReading = False
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if not self.isReading:
            self.isReading = True
            self.transport.resumeProducing()

    # For subclasses.

    def writingPaused(self) -> None:
        """What is written piles up."""

    def writingResumed(self) -> None:
        """It has left."""

    # IPushProducer

    def pauseProducing(self) -> None:
        self.isBacklogged = True
        self.writingPaused()

    def resumeProducing(self) -> None:
        self.isBacklogged = False
        self.writingResumed()

    def stopProducing(self) -> None:
        """The connection is lost, which C{connectionLost} deals with."""

    # IHalfCloseableProtocol

    def readConnectionLost(self) -> None:
        raise NotImplementedError

    def writeConnectionLost(self) -> None:
        """Our own half has been closed, which needs nothing more."""
