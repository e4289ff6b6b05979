"""
The record layer of TLS (RFC 8446, section 5) once a handshake is over: L{RecordLayer}.

What is written in one turn of the reactor leaves as one record, if it fits into one, and in
one write of the transport below.  A read that is one whole record, as most requests are, is
one call of OpenSSL: Twisted asks until OpenSSL raises that there is no more, and then for
bytes to send.

OpenSSL's functions are called directly, as the wrappers of pyOpenSSL took 7 us of a request
and a response of 1 KB.  pyOpenSSL keeps the connection and explains errors.  Handshakes,
errors and closing stay with Twisted's protocol.  See docs/decisions/0045-records.md.

Contract: the reactor is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from OpenSSL import SSL

from sitio.net.records import HEADER_BYTES, BoundedRecords

_openssl: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]
_bioRead, _bioWrite = _openssl.BIO_read, _openssl.BIO_write
_sslRead, _sslWrite = _openssl.SSL_read, _openssl.SSL_write
_sslError, _WANT_READ = _openssl.SSL_get_error, _openssl.SSL_ERROR_WANT_READ
_pointer = _ffi.from_buffer

#: Bytes that may be written in one turn before they are sealed without waiting for its end.
MAX_UNSENT_BYTES = 64_000

#: Bytes of a L{Buffer}.
_BUFFER_BYTES = 128 * 1024

#: The most that one record adds to what OpenSSL wants to send: 16 KiB and its overhead.
_MAX_RECORD_BYTES = 18 * 1024


class Buffer:
    """
    A buffer that all connections of a factory, which share a thread, use one after the other.

    @ivar start: where it begins, for OpenSSL.
    @ivar view: its bytes; a slice is a copy of them.
    @ivar soon: calls a function in the next turn of the reactor; what it returns can be
        cancelled.
    """

    def __init__(self, reactor: Any) -> None:
        self.start = _ffi.new("char[]", _BUFFER_BYTES)
        self.view = _ffi.buffer(self.start)
        self.soon: Callable[[Callable[[], object]], Any] = getattr(reactor, "callSoon", None) or (
            lambda function: reactor.callLater(0, function)
        )


class RecordLayer:
    """
    Opens and seals the records of one connection.

    It is no part of the transport, as Twisted's wrappers of protocols define C{__getattr__},
    which makes each look-up of an attribute slow.

    @ivar isReady: whether the handshake is over, nothing waits for the peer to be written, and
        neither side closes.  Otherwise bytes go the way of Twisted's protocol.
    @ivar bounds: bounds the records of a turn; L{None} for a protocol that does not want it.
    """

    __slots__ = (
        "_below",
        "_buffer",
        "_flushing",
        "_into",
        "_out",
        "_ssl",
        "_tls",
        "_unsent",
        "_unsentBytes",
        "bounds",
        "isReady",
    )

    def __init__(self, tls: Any, connection: Any, below: Any, buffer: Buffer) -> None:
        """
        @param tls: the transport that this belongs to.
        @param connection: OpenSSL's.
        @param below: the transport below.
        """
        self._tls = tls
        self._below = below
        self._buffer = buffer
        # The latter two belong to the first, which frees them.
        self._ssl = connection._ssl
        self._into, self._out = connection._into_ssl, connection._from_ssl
        self.isReady = False
        self.bounds: BoundedRecords | None = None
        # What was written in this turn, its size, and the call that seals it in the next.
        self._unsent: list[bytes] = []
        self._unsentBytes = 0
        self._flushing: Any = None

    # From the peer.

    def receive(self, data: bytes) -> None:
        """C{dataReceived} of the transport."""
        size = len(data)
        bounds = self.bounds
        if (
            self.isReady
            and size > HEADER_BYTES
            and size == HEADER_BYTES + (data[3] << 8 | data[4])
            and bounds is not None
            and not bounds.rest
            and not bounds.held
        ):
            # One whole record, behind which nothing waits.  It is the only one of its turn, as
            # a reactor reads on within a turn only if a read has filled its buffer.
            _bioWrite(self._into, data, size)
            buffer = self._buffer
            size = _sslRead(self._ssl, buffer.start, _BUFFER_BYTES)
            if size > 0:
                self._tls.wrappedProtocol.dataReceived(buffer.view[:size])
            else:
                self._isEmpty(size)
                self.sendAlerts()
        else:
            tls = self._tls
            tls.receive(data)
            self.isReady = tls.isEstablished()

    def open(self) -> None:
        """Deliver the content of all the records that OpenSSL has."""
        tls, buffer = self._tls, self._buffer
        while not tls._lostTLSConnection:
            size = _sslRead(self._ssl, buffer.start, _BUFFER_BYTES)
            if size > 0:
                if not tls._aborted:
                    tls.wrappedProtocol.dataReceived(buffer.view[:size])
            elif self._isEmpty(size):
                break
        if not tls._aborted:
            self.sendAlerts()

    def _isEmpty(self, result: int) -> bool:
        """
        Deal with a read that has returned no content.

        @return: whether it only has to wait for more records.
        """
        if _sslError(self._ssl, result) == _WANT_READ:
            return True
        self._tls.readFailed(self._ssl, result)
        return False

    # To the peer.

    def write(self, data: bytes) -> None:
        """C{write} of the transport: send this by the end of the turn."""
        if type(data) is not bytes:
            data = b"".join((data,))
        self._unsent.append(data)
        self._unsentBytes += len(data)
        if self._unsentBytes > MAX_UNSENT_BYTES:
            self.flush()
        elif self._flushing is None:
            self._flushing = self._buffer.soon(self._turnEnded)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """C{writeSequence} of the transport."""
        self.write(b"".join(iovec))

    def _turnEnded(self) -> None:
        self._flushing = None
        self.flush()

    def flush(self) -> None:
        """Send what was written."""
        unsent = self._unsent
        if unsent:
            data = unsent[0] if len(unsent) == 1 else b"".join(unsent)
            unsent.clear()
            self._unsentBytes = 0
            if self.isReady or self._tls.isWritable():
                self.seal(data)

    def seal(self, data: bytes) -> None:
        """Send this now."""
        below, buffer, ssl, out = self._below, self._buffer, self._ssl, self._out
        start, view = buffer.start, buffer.view
        size = len(data)
        at = ready = 0
        while at < size:
            sent = _sslWrite(ssl, _pointer(data) + at if at else data, size - at)
            if sent <= 0:
                break
            at += sent
            ready += _bioRead(out, start + ready if ready else start, _BUFFER_BYTES - ready)
            if ready > _BUFFER_BYTES - _MAX_RECORD_BYTES:
                below.write(view[:ready])
                ready = 0
        if ready:
            below.write(view[:ready])
        if at < size:
            self._tls.writeFailed(data[at:])

    def sendAlerts(self) -> None:
        """Send what OpenSSL wants to send of its own: handshakes, key updates, alerts."""
        size = _bioRead(self._out, self._buffer.start, _BUFFER_BYTES)
        if size > 0:
            self._below.write(self._buffer.view[:size])

    def close(self) -> None:
        """The connection is lost: let go of everything."""
        self.isReady = False
        if self._flushing is not None:
            self._flushing.cancel()
        if self.bounds is not None:
            self.bounds.release()
        self._unsent.clear()
        self._tls = self._below = self.bounds = self._flushing = None
        self._ssl = self._into = self._out = None
