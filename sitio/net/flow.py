"""
Flow control that both halves of the proxy share: L{FlowControlled}.

It also shares the reactor out fairly.  What a connection does in one turn of the reactor is
bounded; the rest is left to a later turn, so that the other connections have theirs first.
See docs/decisions/0025-turns.md.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol
from zope.interface import implementer

#: Bytes of a read after which a connection yields its turn.  libuv reads into a buffer of
#: 256000 bytes, and again, up to 32 times, if a read has filled it.  Twisted's own transports
#: read 64 KiB in a turn.
LONG_READ_BYTES = 128 * 1024


@implementer(IHalfCloseableProtocol, IPushProducer)
class FlowControlled(Protocol):
    """
    A protocol that pauses its own transport, and is paused by it.

    It is the producer of its own transport: when the write buffer is full, the
    transport calls it, wherever the bytes come from.

    @ivar isBacklogged: whether the transport has asked for a pause in writing.
    @ivar clock: has the turns of the reactor.
    @ivar isReading: whether the transport reads, apart from a turn that was yielded.
    @ivar isYielding: whether this connection waits for the next turn of the reactor.
    """

    #: Reads skip a Python frame on uvloop: see L{sitio.net.transport}.
    receivesDirectly = True

    # An ITCPTransport that can be paused, or what TLS makes of one.
    transport: Any

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.isBacklogged = False
        self.isReading = True
        self.isYielding = False
        self._records: Any = None

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        if hasattr(self.transport, "_tlsConnection"):
            # Imported here, as it takes memory and most connections are plain.
            from sitio.net.records import BoundedRecords

            self._records = BoundedRecords(self.transport, self._pauseForTurn)
        setNoDelay = getattr(self.transport, "setTcpNoDelay", None)
        if setNoDelay is not None:
            setNoDelay(True)

    def pause(self) -> None:
        """Read no more, until L{resume}."""
        if self.isReading:
            self.isReading = False
            if not self.isYielding:
                self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if not self.isReading:
            self.isReading = True
            if not self.isYielding:
                self.transport.resumeProducing()

    def yieldTurn(self) -> None:
        """Read nothing more in this turn of the reactor.  L{turnCame} is called in the next."""
        if self.isOpen():
            self._pauseForTurn()

    def _pauseForTurn(self) -> None:
        if not self.isYielding:
            self.isYielding = True
            if self.isReading:
                self.transport.pauseProducing()
            self.clock.callLater(0, self._nextTurn)

    def _nextTurn(self) -> None:
        self.isYielding = False
        records = self._records
        if records is not None:
            records.deliver()
        self.turnCame()
        if self.isReading and not self.isYielding:
            # While a TLS connection closes, it reads the peer's close_notify.
            if self.isOpen() if records is None else records.isOpen():
                self.transport.resumeProducing()

    # For subclasses.

    def isOpen(self) -> bool:
        """Whether the transport may still be paused and resumed."""
        raise NotImplementedError

    def turnCame(self) -> None:
        """Go on with what was left to a later turn."""

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
