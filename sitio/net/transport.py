"""
One connection of L{sitio.net.reactor}: Twisted's transport above, uvloop below.

A L{Connection} is the transport of a Twisted protocol, and the protocol of a
transport of uvloop's.  On the way of the bytes it does not stand:
C{transport.write} I{is} the bound method of uvloop's transport, an attribute of
the connection, and another one when nothing can be written any more, when TLS was
started or while a pull producer is registered.  The other way uvloop calls
C{dataReceived} of the Twisted protocol, which it found in L{Connection.data_received}
when the protocol was attached.

What differs for it from Twisted's own transports:

  - C{write} goes to the kernel at once, and not on the next turn of the reactor.
    After C{loseConnection} nothing more is written, unless something waits to leave.
  - A bound C{write} that was kept raises C{RuntimeError} after C{connectionLost};
    C{transport.write} is silent then, as everywhere in Twisted.
  - C{dataReceived} is looked up when a protocol is attached, not for each piece.  A
    class with a method that assigns C{dataReceived} is noticed, and it is looked up
    each time.  Who assigns it from outside later says so with
    C{transport.protocol = protocol}.
  - TCP_NODELAY is set from the start: a small piece does not wait for an ACK.
  - There is no log context around the calls of a protocol.
  - uvloop can't pass file descriptors.  Protocols that do have Twisted's own UNIX
    transport: those that provide L{IFileDescriptorReceiver}, and those with a method
    that says C{sendFileDescriptor}.
"""

from __future__ import annotations

import contextlib
import dis
import os
import socket
import struct
from asyncio import BaseProtocol
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import lru_cache
from inspect import unwrap
from types import CodeType, FunctionType
from typing import Any

from twisted.internet._newtls import _BypassTLS
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
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

_log = Logger()

_DONE = Failure(ConnectionDone())
_LOST = Failure(ConnectionLost())

#: Protocol classes of which it is remembered what their methods do: an
#: application has a few dozen, and to look again costs a millisecond.
KNOWN_CLASSES = 256

#: SO_LINGER on, for no time: to close sends RST and drops what waits.
_NO_LINGER = struct.pack("ii", 1, 0)


class _Half(Enum):
    """How it stands with one direction of a connection."""

    OPEN = "open"
    #: Reading: paused.  Writing: to be ended once a producer has finished.
    HELD = "held"
    ENDED = "ended"


class StayPaused(Exception):
    """
    Raised to uvloop by C{connection_made}, and no error: don't begin to read.  It
    would, even when the protocol has paused its transport.
    """


def addressOf(name: Any) -> IPv4Address | IPv6Address | UNIXAddress:
    """Twisted's address for what the socket module calls one."""
    if not isinstance(name, tuple):
        return UNIXAddress(name or None)
    if len(name) == 2:
        return IPv4Address("TCP", *name)
    # Only getnameinfo tells the scope of a link-local address.
    host, _ = socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return IPv6Address("TCP", host, *name[1:])


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _methodsOf(kind: type) -> Iterator[CodeType]:
    """The code of all methods of a class, and of what is defined inside them."""
    for base in kind.__mro__:
        for value in vars(base).values():
            function = unwrap(value) if callable(value) else None
            if isinstance(function, FunctionType):
                yield from _codes(function.__code__)


@lru_cache(maxsize=KNOWN_CLASSES)
def _replacesReceiver(kind: Any) -> bool:
    """Whether methods of a class assign C{dataReceived}, as those of HTTPChannel do."""
    return any(
        step.opname == "STORE_ATTR" and step.argval == "dataReceived"
        for code in _methodsOf(kind)
        if "dataReceived" in code.co_names
        for step in dis.get_instructions(code)
    )


@lru_cache(maxsize=KNOWN_CLASSES)
def _sendsDescriptors(kind: Any) -> bool:
    """Whether methods of a class say C{sendFileDescriptor}."""
    return any("sendFileDescriptor" in code.co_names for code in _methodsOf(kind))


def _unwrapped(protocol: Any) -> Any:
    """The protocol inside the wrapper that client endpoints make, which only passes on."""
    while type(protocol) is _WrappingProtocol:
        protocol = protocol._wrappedProtocol
    return protocol


def _discard(data: object) -> None:
    """What C{write} and C{writeSequence} are when nothing can be written any more."""


@implementer(ITCPTransport, ITLSTransport, ISystemHandle, IPushProducer, IConsumer)
class Connection:
    """
    A connection: to Twisted a transport, to uvloop a protocol.

    Methods with an underscore inside their names are asyncio's; uvloop calls them.

    @ivar data_received: what uvloop calls with bytes; C{set_protocol} reads it.
    @ivar producer: the registered producer, or L{None}.
    """

    connected = disconnecting = disconnected = False
    producer: Any = None
    streamingProducer = producerPaused = False
    TLS = False

    data_received: Callable[[bytes], object]

    _tlsClientDefault = False
    _uv: Any
    _protocol: Any = None
    _peer: Any = None
    _handle: socket.socket | None = None
    #: Why the connection ends, when it isn't uvloop who knows.
    _reason: Failure | None = None
    _reading = _writing = _Half.OPEN
    #: Whether uvloop held more than its mark, and has not yet sent it.
    _full = False
    #: Whether a pull producer is to be asked on the next turn.
    _pulling = False

    def __init__(self, reactor: Any, isUNIX: bool) -> None:
        self.reactor = reactor
        self._isUNIX = isUNIX

    # What a subclass says.

    def _buildProtocol(self) -> Any:
        """Ask whoever made this connection for a protocol; with L{None} it is closed."""
        raise NotImplementedError

    def _passDescriptors(self, skt: socket.socket, protocol: Any) -> None:
        """Connect the protocol to a transport of Twisted's own on this socket."""
        raise NotImplementedError

    def _ended(self, protocol: Any, reason: Failure) -> None:
        """Tell all whom it concerns that the connection is lost."""
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
            elif self._isUNIX and self._needsDescriptors():
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
        self._reading = _Half.ENDED
        protocol = IHalfCloseableProtocol(self._protocol, None)
        if protocol is None:
            self._reason = _DONE
            self._uv.abort()
        else:
            protocol.readConnectionLost()
        return True

    def pause_writing(self) -> None:
        self._full = True
        if self.producer is not None and self.streamingProducer:
            self.producerPaused = True
            self._call(self.producer.pauseProducing)

    def resume_writing(self) -> None:
        self._full = False
        if self._writing is _Half.ENDED:
            self.reactor.callSoon(self._writeEnded)
        if self._holdsProducer():
            self.producerPaused = False
            self._call(self.producer.resumeProducing)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.connected:
            return
        reason = self._reason
        if reason is None:
            reason = _DONE if error is None else _LOST
            # uvloop makes its own errors and does not raise them.
            if error is not None and error.__traceback__ is not None:
                reason = Failure(error)
                if isinstance(error, OSError):  # uvloop told nobody, taking it for its own.
                    _log.failure("a protocol failed", reason)
        if error is None and self._reading is not _Half.ENDED:
            self._endOrderly(reason)
        self.connected, self.disconnected = False, True
        self.write = self.writeSequence = _discard  # type: ignore
        self.reactor.closed(self)
        if self._handle is not None:
            self._handle.detach()
        producer, self.producer = self.producer, None
        protocol, self._protocol = self._protocol, None
        self._detach(protocol)
        if producer is not None:
            with _log.failuresHandled("a producer failed to stop"):
                producer.stopProducing()
        self._ended(protocol, reason)

    def _endOrderly(self, reason: Failure) -> None:
        """What has come and was not read would make a reset of the end."""
        if not reason.check(ConnectionAborted):
            with contextlib.suppress(OSError):
                self._socket().shutdown(socket.SHUT_RDWR)

    # The protocol.

    @property
    def protocol(self) -> Any:
        """The protocol; another one that is assigned gets what comes from now on."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._attach()

    def _attach(self) -> None:
        if self.connected:
            protocol = _unwrapped(self._protocol)
            if _replacesReceiver(protocol.__class__):
                self.data_received = lambda data: protocol.dataReceived(data)
            else:
                self.data_received = protocol.dataReceived
            self._uv.set_protocol(self)

    def _detach(self, protocol: Any) -> None:
        protocol = _unwrapped(protocol)
        receiver = self.__dict__.pop("data_received", protocol.dataReceived)
        if receiver != protocol.dataReceived and not _replacesReceiver(protocol.__class__):
            _log.warn(
                "dataReceived of {protocol} was replaced from outside while it was connected, and"
                " got nothing: say so by assigning transport.protocol again",
                protocol=protocol,
            )

    def _call(self, method: Callable[[], object]) -> None:
        """Call what is the application's; what it raises ends the connection."""
        try:
            method()
        except Exception:
            self._fail(Failure())

    def _fail(self, failure: Failure) -> None:
        _log.failure("a protocol failed", failure)
        self._reason = failure
        self._uv.abort()

    def _needsDescriptors(self) -> bool:
        protocol = _unwrapped(self._protocol)
        return IFileDescriptorReceiver.providedBy(protocol) or _sendsDescriptors(protocol.__class__)

    def _handOver(self) -> None:
        """Leave the connection, of which nothing was read, to a transport of Twisted's own."""
        skt = self._uv.get_extra_info("socket").dup()
        self._uv.set_protocol(BaseProtocol())
        self._uv.abort()
        self.connected = False
        self.reactor.closed(self)
        self._passDescriptors(skt, self._protocol)

    def logPrefix(self) -> str:
        return type(self._protocol).__name__

    # ITransport and ITCPTransport.

    def write(self, data: bytes) -> None:
        """Hidden by uvloop's method of that name; TLS comes here."""
        if self.connected and self._writing is not _Half.ENDED:
            self._uv.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Hidden by uvloop's C{writelines}; TLS comes here."""
        if self.connected and self._writing is not _Half.ENDED:
            self._uv.writelines(iovec)

    def loseConnection(self) -> None:
        """
        Close when all that was written has left.

        As on Twisted's own transports a pull producer, and a push producer that is
        paused, may go on until it is unregistered; one that isn't paused had its say.
        """
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self._holdsProducer():
                self._uv.pause_reading()
            else:
                self._uv.close()

    def abortConnection(self) -> None:
        if self.connected and self._reason is None:
            self._reason = Failure(ConnectionAborted())
            with contextlib.suppress(OSError):  # The peer may have been faster.
                skt = self._uv.get_extra_info("socket")
                skt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._uv.abort()

    def loseWriteConnection(self) -> None:
        if self.connected and not self.disconnecting and self._writing is _Half.OPEN:
            self._writing = _Half.HELD
            if not self._holdsProducer():
                self._endWriting()

    def _endWriting(self) -> None:
        self._writing = _Half.ENDED
        self.write = self.writeSequence = _discard  # type: ignore
        self._uv.write_eof()
        # With a mark of 0 resume_writing is called when the last byte has left.
        self._uv.set_write_buffer_limits(0)
        if not self._full:
            self.reactor.callSoon(self._writeEnded)

    def _writeEnded(self) -> None:
        protocol = IHalfCloseableProtocol(self._protocol, None)
        if protocol is not None:
            self._call(protocol.writeConnectionLost)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor lets go of everything: the connection ends now."""
        self._reason = reason
        self._uv.abort()
        self.connection_lost(None)

    def getHost(self) -> Any:
        return addressOf(self._uv.get_extra_info("sockname"))

    def getPeer(self) -> Any:
        return self._peer

    def fileno(self) -> int:
        return self._uv.get_extra_info("socket").fileno() if self.connected else -1

    def getHandle(self) -> Any:
        """
        A socket that is good for its options and its number, while connected.

        Hidden, with TLS, by one of another kind.
        """
        return self._socket()

    def _socket(self) -> socket.socket:
        if self._handle is None:
            self._handle = socket.socket(fileno=self.fileno())
        return self._handle

    def getTcpNoDelay(self) -> bool:
        if self._isUNIX:
            return False
        return bool(self._socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        # As long as nobody has asked for a handle it is on.
        if not self._isUNIX and not (enabled and self._handle is None):
            self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        return bool(self._socket().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

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
        # Below TLS are the methods of this class, which were just hidden.
        tls.makeConnection(_BypassTLS(Connection, self))
        if producer is not None:
            tls.registerProducer(producer, streaming)

    # IConsumer: where the bytes of a producer go.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
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
            # With a mark of 0 it is asked again when all has left, and no sooner.
            self._uv.set_write_buffer_limits(0)
            if not self.TLS:
                self.write = self._writePulled  # type: ignore[method-assign]
                self.writeSequence = self._writeSequencePulled  # type: ignore[method-assign]
            producer.resumeProducing()
            self._pullSoon()

    def unregisterProducer(self) -> None:
        if self.producer is not None and not self.streamingProducer and self.connected:
            self._uv.set_write_buffer_limits()
            if self.write == self._writePulled:
                self.write, self.writeSequence = self._uv.write, self._uv.writelines  # type: ignore
        self.producer = None
        if self.connected and self.disconnecting:
            self._uv.close()
        elif self.connected and self._writing is _Half.HELD:
            self._endWriting()

    def stopConsuming(self) -> None:
        """A producer has nothing more, and wants its consumer closed."""
        self.unregisterProducer()
        self.loseConnection()

    def _holdsProducer(self) -> bool:
        """Whether a producer waits to be asked for more."""
        return self.producer is not None and (self.producerPaused or not self.streamingProducer)

    def _writePulled(self, data: bytes) -> None:
        """C{write} while a pull producer is registered: it is asked for more after that."""
        self._uv.write(data)
        self._pullSoon()

    def _writeSequencePulled(self, iovec: Iterable[bytes]) -> None:
        """So C{writeSequence}."""
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

    # IPushProducer: where the bytes of a consumer come from.

    def pauseProducing(self) -> None:
        if self._reading is _Half.OPEN:
            self._reading = _Half.HELD
            self._uv.pause_reading()

    def resumeProducing(self) -> None:
        if self._reading is _Half.HELD and self.connected and not self.disconnecting:
            self._reading = _Half.OPEN
            self._uv.resume_reading()

    def stopProducing(self) -> None:
        self.loseConnection()

    def isReading(self) -> bool:
        """Whether what comes is read."""
        return self._reading is _Half.OPEN and not self.disconnecting

    def isWriting(self) -> bool:
        """Whether something waits to leave."""
        return self._uv.get_write_buffer_size() > 0

    def duplicate(self) -> int | None:
        """
        Another descriptor of this connection's socket, to move bytes past it; the
        caller closes it.  L{None} where that can't be: with TLS, at the end, or when
        there are no descriptors left.
        """
        if self.TLS or not self.connected or self.disconnecting or self._reason is not None:
            return None
        try:
            return os.dup(self.fileno())
        except OSError:
            return None

    # As descriptors of Twisted's call them.
    stopReading = pauseProducing
    startReading = resumeProducing
