"""
A connection of L{sitio.net.reactor}: a Twisted transport on top of uvloop.

L{Connection} is the transport of a Twisted protocol and at the same time the protocol
of a uvloop transport.  It adds no Python frame to a read or a write:

  - C{transport.write} is the bound method of uvloop's transport.  It is replaced when
    the connection ends, when TLS starts, and while a pull producer is registered.
  - uvloop calls C{dataReceived} of the protocol.  It reads C{Connection.data_received}
    once, when a protocol is attached.

The second holds for protocols whose class says C{receivesDirectly = True}.  That is a
promise: no instance replaces its C{dataReceived}, and none passes file descriptors.
Without the promise each read looks up C{dataReceived} anew, which costs one frame; and
on a UNIX socket the protocol gets Twisted's own transport, as uvloop can't pass file
descriptors.

Other differences from Twisted's own transports:

  - C{write} goes to the kernel at once, not on the next turn of the reactor.
  - After C{loseConnection} nothing more is written, unless earlier bytes still wait.
  - A bound C{write} that was kept raises C{RuntimeError} after C{connectionLost}.
    C{transport.write} does nothing then, as everywhere in Twisted.
  - TCP_NODELAY is on from the start: a small write does not wait for an ACK.
  - The calls of a protocol have no log context.
"""

from __future__ import annotations

import contextlib
import socket
from asyncio import BaseProtocol
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet._newtls import _BypassTLS
from twisted.internet.endpoints import _WrappingProtocol
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from sitio.net.consumer import Consumer, Direction
from sitio.net.lastread import LastRead
from sitio.net.socketoptions import SocketOptions

_log = Logger()

_DONE = Failure(ConnectionDone())
_LOST = Failure(ConnectionLost())


class StayPaused(Exception):
    """
    Raised from C{connection_made} so that uvloop does not begin to read.

    It is not an error.  uvloop would begin to read even if the protocol has paused its
    transport.
    """


def _unwrapped(protocol: Any) -> Any:
    """The protocol inside the wrapper that client endpoints add, which only forwards."""
    while type(protocol) is _WrappingProtocol:
        protocol = protocol._wrappedProtocol
    return protocol


def _receivesDirectly(protocol: Any) -> bool:
    # Of the class: wrappers pass on every attribute of an instance.
    return getattr(type(protocol), "receivesDirectly", False)


def _discard(data: object) -> None:
    """C{write} and C{writeSequence} when nothing can be written any more."""


@implementer(ITCPTransport, ITLSTransport, ISystemHandle, IPushProducer, IConsumer)
class Connection(SocketOptions, Consumer):
    """
    A connection: to Twisted a transport, to uvloop a protocol.

    Methods with an underscore inside their names are asyncio's; uvloop calls them.
    Subclasses say where the protocol comes from.

    @ivar data_received: what uvloop calls with bytes; C{set_protocol} reads it.
    """

    connected = disconnecting = disconnected = False
    TLS = False

    data_received: Callable[[bytes], object]

    _tlsClientDefault = False
    _protocol: Any = None
    _reading = Direction.OPEN

    def __init__(self, reactor: Any, isUNIX: bool) -> None:
        self.reactor = reactor
        self._isUNIX = isUNIX

    # For subclasses.

    def _buildProtocol(self) -> Any:
        """Make the protocol; with L{None} the connection is closed."""
        raise NotImplementedError

    def _passDescriptors(self, skt: socket.socket, protocol: Any) -> None:
        """Connect the protocol to one of Twisted's own transports on this socket."""
        raise NotImplementedError

    def _ended(self, protocol: Any, reason: Failure) -> None:
        """Report the end of the connection."""
        protocol.connectionLost(reason)

    # What uvloop calls.

    def connection_made(self, uv: Any) -> None:
        self._uv = uv
        self.write, self.writeSequence = uv.write, uv.writelines  # type: ignore[method-assign]
        self.connected = True
        self.reactor.opened(self)
        try:
            self._protocol = self._buildProtocol()
            if self._protocol is None:
                self._protocol = Protocol()
                self.loseConnection()
            elif self._isUNIX and self._mayPassDescriptors():
                self._handOver()
            else:
                self._protocol.makeConnection(self)
                self._attach()
        except Exception:
            self._protocol = self._protocol or Protocol()
            self._fail(Failure())
        if not self.isReading():
            raise StayPaused

    def eof_received(self) -> bool:
        self._reading = Direction.ENDED
        protocol = IHalfCloseableProtocol(self._protocol, None)
        if protocol is None:
            self._reason = _DONE
            self._uv.abort()
        else:
            protocol.readConnectionLost()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if not self.connected or (self._writeFailed is not None and self._readsOn(error)):
            return
        reason = self._reason
        if reason is None:
            reason = _DONE if error is None else _LOST
            # An error with a traceback was raised; uvloop makes its own and raises none.
            if error is not None and error.__traceback__ is not None:
                reason = Failure(error)
                if isinstance(error, OSError):  # uvloop takes it for its own and logs nothing.
                    _log.failure("a protocol failed", reason)
        if error is None and self._reading is not Direction.ENDED:
            self._endOrderly(reason)
        self.connected, self.disconnected = False, True
        self.write = self.writeSequence = _discard  # type: ignore
        self.reactor.closed(self)
        self._releaseSocket()
        producer, self.producer = self.producer, None
        protocol, self._protocol = self._protocol, None
        self.__dict__.pop("data_received", None)
        if producer is not None:
            with _log.failuresHandled("a producer failed to stop"):
                producer.stopProducing()
        self._ended(protocol, reason)

    def _readsOn(self, error: Exception | None) -> bool:
        """Go on with reading after a failed write; see L{sitio.net.lastread}."""
        failed, self._writeFailed = self._writeFailed, None
        # An error with a traceback was raised by the protocol.
        if not isinstance(error, OSError) or error.__traceback__ is not None:
            return False
        if failed is None or not self.connected or self._reason or self.disconnecting:
            return False
        if self._reading is Direction.ENDED:
            return False
        try:
            skt = self._uv.get_extra_info("socket").dup()
        except OSError:
            return False
        self._releaseSocket()
        self._handle = None
        self._uv = LastRead(self, skt, error)
        if not self.TLS:
            self.write = self.writeSequence = _discard  # type: ignore
        self._call(failed)
        if self._full:
            self.resume_writing()
        if self._reading is Direction.OPEN:
            self._uv.resume_reading()
        return True

    def _endOrderly(self, reason: Failure) -> None:
        """Shut the socket down first: closing it with unread bytes would send a reset."""
        if not isinstance(reason.value, ConnectionAborted):
            try:  # noqa: SIM105  # This runs for each connection.
                self._socket().shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    # The protocol.

    @property
    def protocol(self) -> Any:
        """The protocol.  One that is assigned gets all bytes from then on."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._attach()

    def _attach(self) -> None:
        if not self.connected:
            return
        protocol = self._protocol
        if type(protocol) is _WrappingProtocol:
            protocol = _unwrapped(protocol)
        if _receivesDirectly(protocol):
            self.data_received = protocol.dataReceived
        else:
            self.data_received = lambda data: protocol.dataReceived(data)
        self._uv.set_protocol(self)

    def _call(self, method: Callable[[], object]) -> None:
        """Call a method of the application; an exception ends the connection."""
        try:
            method()
        except Exception:
            self._fail(Failure())

    def _fail(self, failure: Failure) -> None:
        _log.failure("a protocol failed", failure)
        self._reason = failure
        self._uv.abort()

    def _mayPassDescriptors(self) -> bool:
        protocol = _unwrapped(self._protocol)
        return IFileDescriptorReceiver.providedBy(protocol) or not _receivesDirectly(protocol)

    def _handOver(self) -> None:
        """Give the connection, of which nothing was read, to Twisted's own transport."""
        try:
            skt = self._uv.get_extra_info("socket").dup()
        except OSError as error:
            _log.warn("A connection is closed, as it needs one more descriptor: {why}", why=error)
            self._reason = _LOST
            self._uv.abort()
            return
        self._uv.set_protocol(BaseProtocol())
        self._uv.abort()
        self.connected = False
        self.reactor.closed(self)
        self._passDescriptors(skt, self._protocol)

    def logPrefix(self) -> str:
        return type(self._protocol).__name__

    # ITransport and ITCPTransport.

    def write(self, data: bytes) -> None:
        """Hidden by uvloop's method, except below TLS."""
        if self.connected and self._writing is not Direction.ENDED:
            self._uv.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Hidden by uvloop's method, except below TLS."""
        if self.connected and self._writing is not Direction.ENDED:
            self._uv.writelines(iovec)

    def loseConnection(self) -> None:
        """
        Close when all that was written has left.

        As with Twisted's own transports, a pull producer and a paused push producer may
        go on until they are unregistered.  A push producer that is not paused may not.
        """
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self._waitsForProducer():
                self._uv.pause_reading()
            else:
                self._uv.close()

    def abortConnection(self) -> None:
        if self.connected and self._reason is None:
            self._reason = Failure(ConnectionAborted())
            with contextlib.suppress(OSError):  # The peer may have been faster.
                self._dropUnsent()
            self._uv.abort()

    def loseWriteConnection(self) -> None:
        if self.connected and not self.disconnecting and self._writing is Direction.OPEN:
            self._writing = Direction.HELD
            if not self._waitsForProducer():
                self._endWriting()

    def _endWriting(self) -> None:
        self._writing = Direction.ENDED
        self.write = self.writeSequence = _discard  # type: ignore
        self._uv.write_eof()
        # With a high-water mark of 0, resume_writing means that all has left.
        self._uv.set_write_buffer_limits(0)
        if not self._full:
            self.reactor.callSoon(self._writeEnded)

    def _writeEnded(self) -> None:
        protocol = IHalfCloseableProtocol(self._protocol, None)
        if protocol is not None:
            self._call(protocol.writeConnectionLost)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removes all its connections: end this one now."""
        self._reason = reason
        self._uv.abort()
        self.connection_lost(None)

    # ITLSTransport.

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """Put Twisted's TLS between the protocol and this connection."""
        isClient = self._tlsClientDefault if normal else not self._tlsClientDefault
        producer, streaming = self.producer, self.streamingProducer
        if producer is not None:
            self.unregisterProducer()
        factory = TLSMemoryBIOFactory(contextFactory, isClient, None)  # type: ignore[arg-type]
        tls = factory.protocol(factory, self._protocol, False)
        self.protocol = tls
        for name in (
            "getHandle",
            "getPeerCertificate",
            "loseConnection",
            "registerProducer",
            "unregisterProducer",
            "write",
            "writeSequence",
        ):
            setattr(self, name, getattr(tls, name))
        self.TLS = True
        alsoProvides(self, ISSLTransport)
        # Below TLS are the methods of this class, which are hidden now.
        tls.makeConnection(_BypassTLS(Connection, self))
        if producer is not None:
            tls.registerProducer(producer, streaming)

    # IPushProducer.

    def pauseProducing(self) -> None:
        if self._reading is Direction.OPEN and self.connected:
            self._reading = Direction.HELD
            self._uv.pause_reading()

    def resumeProducing(self) -> None:
        if self._reading is Direction.HELD and self.connected and not self.disconnecting:
            self._reading = Direction.OPEN
            self._uv.resume_reading()

    def stopProducing(self) -> None:
        self.loseConnection()

    def isReading(self) -> bool:
        """Whether bytes of the peer are read."""
        return self._reading is Direction.OPEN and not self.disconnecting

    def isWriting(self) -> bool:
        """Whether written bytes still wait to leave."""
        return self._uv.get_write_buffer_size() > 0

    # The names that Twisted's own descriptors have for these.
    stopReading = pauseProducing
    startReading = resumeProducing
