"""
Twisted's TLS with the record layer of L{sitio.net.recordlayer}: L{TLSTransport}.

Contract: the reactor is passed in.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from sitio.net.recordlayer import Buffer, RecordLayer


def _discard(data: object) -> None:
    """C{write} and C{writeSequence} when nothing can be written any more."""


class TLSTransport(TLSMemoryBIOProtocol):
    """
    A connection by TLS.  L{adopt} prepares its factory.

    @ivar layer: reads and writes for it from C{makeConnection} on.
    """

    #: Reads skip a Python frame on uvloop: see L{sitio.net.transport}.
    receivesDirectly = True

    factory: Any
    transport: Any
    wrappedProtocol: Any
    layer: RecordLayer

    def makeConnection(self, transport: Any) -> None:
        """Like Twisted's, which registers itself and its interfaces twice."""
        factory = self.factory
        connection = self._tlsConnection = factory.createConnection(self)
        self._appSendBuffer: list[bytes] = []
        layer = self.layer = RecordLayer(self, connection, transport, factory.buffer)
        self.dataReceived = layer.receive  # type: ignore[method-assign]
        self.write, self.writeSequence = layer.write, layer.writeSequence  # type: ignore
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        factory.registerProtocol(self)
        if self._connectWrapped:
            self.wrappedProtocol.makeConnection(self)
        self._checkHandshakeStatus()

    def dataReceived(self, data: bytes) -> None:
        """Bytes came.  Most transports call the layer directly."""
        self.layer.receive(data)

    # For the record layer.

    def receive(self, data: bytes) -> None:
        """Receive bytes the long way."""
        TLSMemoryBIOProtocol.dataReceived(self, data)

    def isEstablished(self) -> bool:
        """Whether the handshake is over, and bytes come and go freely."""
        return (
            self._handshakeDone
            and not self.disconnecting
            and not self._lostTLSConnection
            and not self._appSendBuffer
        )

    def isWritable(self) -> bool:
        """Whether bytes may still be written, be it later."""
        return not self._lostTLSConnection and (
            not self.disconnecting or self._producer is not None
        )

    def readFailed(self, ssl: Any, result: int) -> None:
        """The peer has closed, or TLS has failed."""
        try:
            self._tlsConnection._raise_ssl_error(ssl, result)
        except SSL.ZeroReturnError:
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        except SSL.Error:
            self._tlsShutdownFinished(Failure())

    def writeFailed(self, data: bytes) -> None:
        """The handshake is not over, or TLS has failed: Twisted tries again, and sees why."""
        TLSMemoryBIOProtocol._write(self, data)

    # What Twisted's protocol calls.

    def _flushReceiveBIO(self) -> None:
        self.layer.open()

    def _flushSendBIO(self) -> None:
        self.layer.sendAlerts()

    def _write(self, data: bytes) -> None:
        if not self._lostTLSConnection:
            self.layer.seal(data)

    def _bufferedWrite(self, data: bytes) -> None:
        self.layer.isReady = False
        super()._bufferedWrite(data)

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        self.layer.isReady = False
        super()._tlsShutdownFinished(reason)

    # The end.

    def loseConnection(self) -> None:
        """Close when all that was written has left."""
        self.layer.flush()
        self.layer.isReady = False
        super().loseConnection()

    def abortConnection(self) -> None:
        """Close at once.  As with TCP, a closed connection can be aborted: it stays closed."""
        self.layer.isReady = False
        if self._tlsConnection is not None:
            super().abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport below is closed."""
        self.write = self.writeSequence = _discard  # type: ignore
        super().connectionLost(reason)
        self.layer.close()


def adopt(
    factory: TLSMemoryBIOFactory,
    reactor: Any,
    protocol: type[TLSTransport],
    buffer: Buffer | None = None,
) -> None:
    """
    Let a factory make connections of this class.

    @param buffer: one that factories of the same reactor share.
    """
    adopted: Any = factory
    adopted.protocol = protocol
    adopted.reactor = reactor
    adopted.buffer = buffer or Buffer(reactor)
    # The latter is the name in Twisted 24.
    adopted.createConnection = (
        getattr(factory, "_creatorCallable", None) or adopted._createConnection
    )
