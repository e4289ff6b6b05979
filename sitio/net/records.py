"""
Bounds the TLS records of one turn of the reactor: L{BoundedRecords}.

Twisted delivers all records of a read at once, and each costs a call of the protocol.  One
read may hold ten thousand records of one byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL.SSL import WantReadError

#: Records that are delivered before the connection yields its turn.  Those of a long stream
#: have 16 KiB: 1 MiB in all.
MAX_RECORDS = 64


class BoundedRecords:
    """
    Stands before the C{recv} of OpenSSL's connection: after L{MAX_RECORDS} it finds nothing
    more until L{deliver}.
    """

    def __init__(self, transport: Any, yieldTurn: Callable[[], None]) -> None:
        """
        @param transport: a C{TLSMemoryBIOProtocol}.
        @param yieldTurn: pauses the transport and calls L{deliver} in the next turn.
        """
        self._transport = transport
        self._yieldTurn = yieldTurn
        self._left = MAX_RECORDS
        connection = self._transport._tlsConnection
        self._recv, self._shutdown = connection.recv, connection.bio_shutdown
        connection.recv, connection.bio_shutdown = self._receive, self._end

    def _receive(self, size: int) -> bytes:
        if self._left <= 0:
            self._yieldTurn()
            raise WantReadError
        data: bytes = self._recv(size)
        self._left -= 1
        return data

    def _end(self) -> None:
        # The connection is lost.  What it has received is delivered now or never.
        self._receive = self._transport._tlsConnection.recv = self._recv  # type: ignore
        self._shutdown()

    def deliver(self) -> None:
        """Deliver more of the records that were received."""
        if self._left <= 0 and self.isOpen():
            self._left = MAX_RECORDS
            self._transport._flushReceiveBIO()

    def isOpen(self) -> bool:
        """Whether the connection below is open.  It may be so while the one above closes."""
        transport = self._transport
        return transport._tlsConnection is not None and not transport.transport.disconnecting
