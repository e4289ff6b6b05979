"""
Producers of a L{Connection<sitio.net.transport.Connection>}: C{IConsumer} on uvloop.

A push producer (Twisted: C{streaming}) is paused while uvloop buffers more than its
high-water mark.  A pull producer is asked for more when all that was written has left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any


class Direction(Enum):
    """The state of one direction of a connection."""

    OPEN = "open"
    #: Reading is paused; or writing ends when the producer is unregistered.
    HELD = "held"
    ENDED = "ended"


class Consumer:
    """
    The part of a connection that takes bytes from a producer.

    While a pull producer is registered, C{write} and C{writeSequence} of the connection
    are methods of this class.  Otherwise they are uvloop's own.

    @ivar producer: the registered producer, or L{None}.
    """

    reactor: Any
    #: uvloop's transport.
    _uv: Any
    connected: bool
    disconnecting: bool
    disconnected: bool
    TLS: bool
    write: Callable[[bytes], Any]
    writeSequence: Callable[[Iterable[bytes]], Any]

    producer: Any = None
    streamingProducer = producerPaused = False

    _writing = Direction.OPEN
    #: Whether uvloop's buffer went above the high-water mark and is not yet sent.
    _full = False
    #: Whether the pull producer is asked on the next turn of the reactor.
    _pulling = False
    #: What to call when a write has failed; then the connection reads on.
    _writeFailed: Callable[[], None] | None = None

    # The connection has these.

    def loseConnection(self) -> None:
        raise NotImplementedError

    def _endWriting(self) -> None:
        raise NotImplementedError

    def _writeEnded(self) -> None:
        raise NotImplementedError

    def _call(self, method: Callable[[], object]) -> None:
        raise NotImplementedError

    # What uvloop calls.

    def pause_writing(self) -> None:
        """The buffer went above the high-water mark."""
        self._full = True
        if self.producer is not None and self.streamingProducer:
            self.producerPaused = True
            self._call(self.producer.pauseProducing)

    def resume_writing(self) -> None:
        """The buffer went below the low-water mark."""
        self._full = False
        if self._writing is Direction.ENDED:
            self.reactor.callSoon(self._writeEnded)
        if self._waitsForProducer():
            self.producerPaused = False
            self._call(self.producer.resumeProducing)

    # IConsumer.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        See C{IConsumer}.

        @raise RuntimeError: another producer is registered.
        """
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self.producer}"
                " was never unregistered."
            )
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer, self.streamingProducer = producer, streaming
        self.producerPaused = streaming and self._full
        if self.producerPaused:
            producer.pauseProducing()
        elif not streaming:
            # With a high-water mark of 0, resume_writing means that all has left.
            self._uv.set_write_buffer_limits(0)
            if not self.TLS:
                self.write = self._writePulled
                self.writeSequence = self._writeSequencePulled
            producer.resumeProducing()
            self._pullSoon()

    def unregisterProducer(self) -> None:
        """See C{IConsumer}.  Then do what C{loseConnection} has put off."""
        if self.producer is not None and not self.streamingProducer and self.connected:
            self._uv.set_write_buffer_limits()
            if self.write == self._writePulled:
                self.write, self.writeSequence = self._uv.write, self._uv.writelines
        self.producer = None
        if self.connected and self.disconnecting:
            self._uv.close()
        elif self.connected and self._writing is Direction.HELD:
            self._endWriting()

    def stopConsuming(self) -> None:
        """The producer has nothing more and wants the connection closed."""
        self.unregisterProducer()
        self.loseConnection()

    def readAfterFailedWrite(self, failed: Callable[[], None]) -> None:
        """See L{sitio.net.lastread.readAfterFailedWrite}."""
        self._writeFailed = failed

    def _waitsForProducer(self) -> bool:
        """Whether the producer waits until it is asked for more."""
        return self.producer is not None and (self.producerPaused or not self.streamingProducer)

    def _writePulled(self, data: bytes) -> None:
        """C{write} while a pull producer is registered: ask it for more afterwards."""
        self._uv.write(data)
        self._pullSoon()

    def _writeSequencePulled(self, iovec: Iterable[bytes]) -> None:
        """C{writeSequence} while a pull producer is registered."""
        self._uv.writelines(iovec)
        self._pullSoon()

    def _pullSoon(self) -> None:
        if not self._full and not self._pulling:
            self._pulling = True
            self.reactor.callSoon(self._pull)

    def _pull(self) -> None:
        self._pulling = False
        if self.producer is not None and not self.streamingProducer and not self._full:
            self._call(self.producer.resumeProducing)
