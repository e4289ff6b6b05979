"""
Bounds the TLS records of one turn of the reactor: L{BoundedRecords}.

Twisted hands all records of a read to OpenSSL at once, and delivers what comes of them.  One
read may hold ten thousand records: of one byte, each of which costs a call of the protocol, or
of TLS's own, such as KeyUpdate (RFC 8446, section 4.6.3), each of which costs new keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Records that are handed on before the connection yields its turn.  Those of a long stream
#: have 16 KiB: 256 KiB in all, more than one read.
MAX_RECORDS = 16

#: Records that are handed on at the end of a connection, when there is no later turn.
MAX_LAST_RECORDS = 512

#: Bytes before the content of a record; the last two are its length.
HEADER_BYTES = 5


def _nothing(*arguments: object) -> None:
    """Stands for what is no longer called."""


class BoundedRecords:
    """
    Stands before the C{bio_write} of OpenSSL's connection: after L{MAX_RECORDS} it keeps what
    comes until L{deliver}.

    @ivar held: what it keeps.
    @ivar rest: bytes to come of a record that has begun.
    """

    def __init__(self, transport: Any, yieldTurn: Callable[[], None]) -> None:
        """
        @param transport: a C{TLSMemoryBIOProtocol} that has received nothing yet.
        @param yieldTurn: pauses the transport and calls L{deliver} in the next turn.
        """
        self._transport = transport
        self._yieldTurn = yieldTurn
        self._left = MAX_RECORDS
        self.held = b""
        self.rest = 0
        layer = getattr(transport, "layer", None)
        if layer is not None:
            layer.bounds = self
        connection = transport._tlsConnection
        self._write, self._shutdown = connection.bio_write, connection.bio_shutdown
        connection.bio_write, connection.bio_shutdown = self._receive, self._end

    def _receive(self, data: bytes) -> None:
        held = self.held + data if self.held else data
        at = self.rest
        size = len(held)
        while at + HEADER_BYTES <= size and self._left:
            self._left -= 1
            at += HEADER_BYTES + (held[at + 3] << 8 | held[at + 4])
        if at >= size:
            self.held, self.rest = b"", at - size
            if held:
                self._write(held)
            return
        self.held, self.rest = held[at:], 0
        if at:
            self._write(held[:at])
        if not self._left:
            self._yieldTurn()

    def _end(self) -> None:
        # The connection is lost.  What it has received is delivered now or never.
        self._left = MAX_LAST_RECORDS
        self._yieldTurn = _nothing
        self._receive(b"")
        self._shutdown()
        self.release()

    def release(self) -> None:
        """The connection is lost: leave no cycle to the garbage collector."""
        self._write = self._shutdown = self._yieldTurn = _nothing

    def deliver(self) -> None:
        """Deliver more of the records that were received."""
        if not self._left and self.isOpen():
            self._left = MAX_RECORDS
            self._transport.dataReceived(b"")

    def isOpen(self) -> bool:
        """Whether the connection below is open.  It may be so while the one above closes."""
        transport = self._transport
        return transport._tlsConnection is not None and not transport.transport.disconnecting
