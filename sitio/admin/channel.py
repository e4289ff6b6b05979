"""
The connections of the admin port: L{FairChannel}.

Contract: the clock is passed in, by the site.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

#: Bytes that are parsed before the connection yields its turn: some hundred lines or chunks.
MAX_BYTES = 4096

#: Bytes that are held while a request is answered before the connection reads no more.
MAX_HELD_BYTES = 16 * 1024


class FairChannel(HTTPChannel):
    """
    Twisted's connection of a web server, with a bounded amount of work for each turn of the
    reactor: one request, and L{MAX_BYTES} of what was received.

    Twisted parses all that it has received, which may be thousands of requests.  Meanwhile
    sitio would serve no client.  See docs/decisions/0025-turns.md.
    """

    # What was received and not parsed, apart from the part that LineReceiver holds.
    _held = b""
    _turn: IDelayedCall | None = None
    # LineReceiver stops at the next line while this is set.
    paused = False

    _buffer: bytes
    _handlingRequest: bool
    _waitingForTransport: bool
    _networkProducer: Any
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Parse some of it now, and the rest in later turns."""
        self._held += data
        if self._turn is None:
            self._take()

    def setLineMode(self, extra: bytes = b"") -> None:
        """Called at the end of a request, with what came after it."""
        self.line_mode = 1
        self._held = extra + self._held

    def requestDone(self, request: Any) -> None:
        """A request is answered: the next one begins in another turn."""
        self.paused = True
        super().requestDone(request)
        self._arrange()

    def resumeProducing(self) -> None:
        """What was written has left."""
        super().resumeProducing()
        self._arrange()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget what was not parsed."""
        self._held = self._buffer = b""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        super().connectionLost(reason)

    def _take(self) -> None:
        if not self._handlingRequest and not self._waitingForTransport:
            self.paused = False
            piece, self._held = self._held[:MAX_BYTES], self._held[MAX_BYTES:]
            super().dataReceived(piece)
        self._arrange()

    def _nextTurn(self) -> None:
        self._turn = None
        self._take()
        if self._turn is None and not self._waitingForTransport and self._isOpen():
            self._networkProducer.resumeProducing()

    def _arrange(self) -> None:
        """Go on in the next turn if there is something to parse, and read nothing before it."""
        if not self._isOpen():
            return
        if self._handlingRequest or self._waitingForTransport:
            if len(self._held) > MAX_HELD_BYTES:
                self._networkProducer.pauseProducing()
        elif self._turn is None and (self._held or (self.paused and self._buffer)):
            self._networkProducer.pauseProducing()
            self._turn = self.callLater(0, self._nextTurn)

    def _isOpen(self) -> bool:
        return self.transport is not None and not self.transport.disconnecting
