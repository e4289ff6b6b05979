"""
A Twisted reactor on the transports of uvloop.

L{UVReactor} is Twisted's reactor for asyncio on a loop of uvloop, and its TCP and
UNIX connections are accepted, read and written by uvloop itself, in C.  So every
endpoint, treq and twisted.web get uvloop's speed.  L{sitio.net.transport} tells how a
connection works, and what differs from Twisted's own.

Ports are Twisted's own up to the listening socket, and connectors up to an address;
the rest is uvloop's.  TLS, datagrams, processes, threads and timers are Twisted's.

C{twistd --reactor uv} and C{trial --reactor uv} take this reactor.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from asyncio import AbstractEventLoop, set_event_loop
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from twisted.internet import tcp, unix
from twisted.internet._signals import SignalHandling, _MultiSignalHandling
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.error import UnsupportedAddressFamily, getConnectError
from twisted.internet.main import installReactor
from twisted.internet.process import reapAllProcesses
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure

from sitio.net.transport import Connection, StayPaused, addressOf

_log = Logger()

#: Connections that a port accepts on one turn, as many as Twisted's own: a burst is
#: served at once, and others have to wait for some milliseconds.
ACCEPTS = 100


def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine of uvloop's returns that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("uvloop waits where it had nothing to wait for")


class Server(Connection):
    """A connection that a port accepted, or that was adopted for a factory."""

    def __init__(self, reactor: Any, isUNIX: bool, factory: Any, port: Any = None) -> None:
        Connection.__init__(self, reactor, isUNIX)
        self._factory = factory
        self._port = port

    def __repr__(self) -> str:
        return f"<{self.logPrefix()} on {self._port}, from {self._peer}>"

    def _buildProtocol(self) -> Any:
        if self._port is not None and (self._port.disconnecting or not self._port.connected):
            return None
        name = self._uv.get_extra_info("peername")
        if name is None and not self._isUNIX:
            return None  # The peer reset the connection before anyone saw it.
        self._peer = addressOf(name)
        return self._factory.buildProtocol(self._peer)

    def _passDescriptors(self, skt: socket.socket, protocol: Any) -> None:
        own = unix.Server(skt, protocol, self._peer.name, self._port, 0, self.reactor)
        protocol.makeConnection(own)


class Client(Connection):
    """A connection that was asked for."""

    _tlsClientDefault = True

    def __init__(self, pending: Any, isUNIX: bool) -> None:
        Connection.__init__(self, pending.reactor, isUNIX)
        self._pending = pending
        self.addr = pending.addr
        self.connector = pending.connector

    def __repr__(self) -> str:
        return f"<{type(self)} to {self.addr} at {id(self):x}>"

    def connection_made(self, uv: Any) -> None:
        if not hasattr(self._pending, "connector"):
            # On the turn since the socket was connected somebody has lost patience.
            uv.abort()
            return
        Connection.connection_made(self, uv)
        # What connectionMade put off to the next turn happens before the first byte
        # comes: ClientCreator tells that way whom it has connected.
        self.reactor.callSoon(self._begin)
        raise StayPaused

    def _begin(self) -> None:
        if self.isReading():
            self._uv.resume_reading()

    def _buildProtocol(self) -> Any:
        self.connector.transport = self
        name = None if self._isUNIX else self._uv.get_extra_info("peername")
        self._peer = self._pending.getPeer() if name is None else addressOf(name)
        return self.connector.buildProtocol(self._peer)

    def _passDescriptors(self, skt: socket.socket, protocol: Any) -> None:
        own = self.connector.transport = self._pending
        own.socket, own.fileno = skt, skt.fileno
        own.protocol, own.connected = protocol, 1
        own.startReading()
        protocol.makeConnection(own)

    def _ended(self, protocol: Any, reason: Failure) -> None:
        try:
            protocol.connectionLost(reason)
        finally:
            self.connector.connectionLost(reason)
            # Unless it has connected again: both would wait for the garbage collector.
            if self.connector.transport is self:
                self.connector.transport = None


class _Attempt:
    """
    A TCP connection that uvloop is making; a connector of Twisted's takes it for its
    client.  C{connector} is there as long as it may come to something.
    """

    def __init__(self, connector: Any, reactor: Any) -> None:
        self.connector = connector
        self.reactor = reactor
        self.addr = self._found = (connector.host, connector.port)
        self._connecting: Any = None
        if isIPAddress(connector.host) or isIPv6Address(connector.host):
            self._connect(connector.host)
        else:
            reactor.resolve(connector.host).addCallbacks(self._connect, self._failSoon)

    def _connect(self, host: str) -> None:
        if hasattr(self, "connector"):
            self._found = (host, self.addr[1])
            self._connecting = self.reactor.loop.create_connection(
                lambda: Client(self, isUNIX=False), *self._found
            )
            self._go()

    def _go(self, waited: Any = None) -> None:
        if self._connecting is None:
            waited.exception()  # It was let go, and nobody else will look.
            return
        try:
            self._connecting.send(None).add_done_callback(self._go)
        except StopIteration:
            self._connecting = None
        except Exception as error:
            self._connecting = None
            self._failSoon(getConnectError(error))

    def _failSoon(self, error: Any) -> None:
        # It may fail before its factory was told that it was begun.
        self.reactor.callSoon(lambda: self.failIfNotConnected(error))

    def getPeer(self) -> Any:
        return self.connector._addressType("TCP", *self._found)

    def failIfNotConnected(self, error: Any) -> None:
        """Whatever is under way, give it up and tell the connector why."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.close()
        if hasattr(self, "connector"):
            connector = self.connector
            del self.connector
            connector.connectionFailed(Failure(error))


class _PendingTCP(tcp.Client):
    """A connection from an address that was asked for: Twisted makes it, uvloop gets it."""

    reactor: Any

    def _connectDone(self) -> None:
        self.reactor.adopt(Client(self, isUNIX=False), self.socket)


class _PendingUNIX(unix.Client):
    """As L{_PendingTCP}: uvloop takes no abstract names."""

    reactor: Any

    def _connectDone(self) -> None:
        self.reactor.adopt(Client(self, isUNIX=True), self.socket)


class TCPConnector(tcp.Connector):
    """Twisted's, for connections of uvloop's."""

    def _makeTransport(self) -> Any:
        # uvloop makes another port of one that is none.
        if self.bindAddress is None and self.port in range(65536):
            return _Attempt(self, self.reactor)
        return _PendingTCP(self.host, self.port, self.bindAddress, self, self.reactor)


class UNIXConnector(unix.Connector):
    """Twisted's, for connections of uvloop's."""

    def _makeTransport(self) -> Any:
        return _PendingUNIX(self.address, self, self.reactor, self.checkPID)


class _Accepting:
    """
    What a port does while it reads: uvloop accepts, on a descriptor of its own for
    the same socket (not by dup(), which makes both block), and closes it at the end.

    uvloop accepts one connection a turn; those who wait behind it are accepted here.
    """

    reactor: Any
    factory: Any
    socket: socket.socket
    backlog: Any
    _isUNIX = False
    _server: Any = None

    def startReading(self) -> None:
        if self._server is None:
            self._server = _result(
                self.reactor.loop.create_server(
                    self._accepted,
                    sock=socket.fromfd(self.socket.fileno(), self.socket.family, self.socket.type),
                    # A port that was adopted has none: as many as the kernel allows.
                    backlog=self.backlog or socket.SOMAXCONN,
                )
            )
            self.reactor.opened(self)

    def _accepted(self) -> Server:
        self.reactor.callSoon(self._acceptMore)
        return self._connection()

    def _acceptMore(self) -> None:
        # Nobody waits any more; or there are no descriptors left, and uvloop sheds load.
        with contextlib.suppress(OSError):
            for _ in range(ACCEPTS if self._server is not None else 0):
                skt, _ = self.socket.accept()
                self.reactor.adopt(self._connection(), skt)

    def _connection(self) -> Server:
        return Server(self.reactor, self._isUNIX, self.factory, self)

    def stopReading(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            self.reactor.closed(self)
            server.close()

    def isReading(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    def isWriting(self) -> bool:
        """A port writes nothing."""
        return False


class TCPPort(_Accepting, tcp.Port):
    """Twisted's, but uvloop accepts."""


class UNIXPort(_Accepting, unix.Port):
    """Twisted's, but uvloop accepts."""

    _isUNIX = True


class _AdoptedUNIXPort(UNIXPort):
    """
    One whose file is somebody else's, as is its mode: Twisted would set that anew,
    and shut the socket down and remove the file at the end.
    """

    _shouldShutdown = False

    def __init__(self, skt: socket.socket, factory: Any, reactor: Any) -> None:
        UNIXPort.__init__(self, skt.getsockname(), factory, backlog=0, reactor=reactor)
        self.socket = skt
        self.fileno = skt.fileno  # type: ignore[method-assign]

    def startListening(self) -> None:
        name = os.fsdecode(self.socket.getsockname())
        log.msg(f"{self._getLogPrefix(self.factory)} starting on {name!r}")
        self.factory.doStart()
        self.connected = True
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        tcp.Port.connectionLost(self, reason)


class _ChildSignals:
    """
    Reaps children on SIGCHLD.  Twisted waits for the byte that Python writes into
    its wake-up descriptor; while uvloop runs, that descriptor is uvloop's.
    """

    def __init__(self, reactor: UVReactor) -> None:
        self._reactor = reactor

    def install(self) -> None:
        def ended(number: int, frame: object) -> None:
            self._reactor.callFromThread(reapAllProcesses)

        signal.signal(signal.SIGCHLD, ended)
        # Those that ended before.
        reapAllProcesses()

    def uninstall(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _raised(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    """What uvloop calls when something that it called has raised."""
    error = context.get("exception")
    if error is None or context.keys().isdisjoint(("transport", "handle")):
        loop.default_exception_handler(context)
    elif not isinstance(error, StayPaused):
        _log.failure("{message}", Failure(error), message=context["message"])


class UVReactor(AsyncioSelectorReactor):
    """
    Asyncio's reactor, with the TCP and UNIX transports of uvloop.

    @ivar loop: uvloop's loop.
    """

    def __init__(self, loop: uvloop.Loop | None = None) -> None:
        self.loop: Any = uvloop.new_event_loop() if loop is None else loop
        self.loop.set_exception_handler(_raised)
        set_event_loop(self.loop)
        self._open: set[Any] = set()
        self._stopping = False
        AsyncioSelectorReactor.__init__(self, self.loop)

    # For connections and ports.

    def opened(self, thing: Any) -> None:
        """A connection or a port is there: one of what the reactor looks after."""
        self._open.add(thing)

    def closed(self, thing: Any) -> None:
        """It is no longer there."""
        self._open.discard(thing)

    def callSoon(self, function: Callable[[], object]) -> None:
        """Call this on the next turn."""
        self.loop.call_soon(function)

    def adopt(self, connection: Connection, skt: socket.socket) -> None:
        """Give a connected socket to uvloop, and what becomes of it to this connection."""
        coroutine = self.loop.connect_accepted_socket(lambda: connection, skt)
        made = coroutine.send(None)
        made.add_done_callback(lambda made: _result(coroutine))

    # IReactorTCP, IReactorUNIX and IReactorSocket.

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        listening = TCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: Any, port: Any, factory: Any, timeout: Any = 30, bindAddress: Any = None
    ) -> Any:
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: Any = 0
    ) -> Any:
        listening = UNIXPort(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def connectUNIX(self, address: Any, factory: Any, timeout: Any = 30, checkPID: Any = 0) -> Any:
        connector = UNIXConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        listening: Any
        if addressFamily in (socket.AF_INET, socket.AF_INET6):
            listening = TCPPort._fromListeningDescriptor(
                self, fileDescriptor, addressFamily, factory
            )
        elif addressFamily == socket.AF_UNIX:
            skt = socket.fromfd(fileDescriptor, addressFamily, socket.SOCK_STREAM)
            listening = _AdoptedUNIXPort(skt, factory, self)
        else:
            raise UnsupportedAddressFamily(addressFamily)
        listening.startListening()
        return listening

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """A UNIX connection that is adopted has Twisted's own transport."""
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            return AsyncioSelectorReactor.adoptStreamConnection(
                self, fileDescriptor, addressFamily, factory
            )
        connection = Server(self, False, factory)
        skt = socket.fromfd(fileDescriptor, addressFamily, socket.SOCK_STREAM)
        self.adopt(connection, skt)
        return connection

    # IReactorFDSet and IReactorCore.

    def _readOrWrite(self, selectable: Any, read: bool) -> None:
        AsyncioSelectorReactor._readOrWrite(self, selectable, read)
        if read and selectable in self._readers:
            self.callSoon(lambda: self._readOn(selectable))

    def _readOn(self, reader: Any) -> None:
        """
        Have it called again.  When a descriptor has an error, uvloop calls its reader
        once and drops it; that call may have read what came before the error.
        """
        fd = reader.fileno()
        if self._readers.get(reader) != fd:
            return
        del self._readers[reader]
        try:
            self.addReader(reader)
        except RuntimeError:
            self.loop.remove_reader(fd)
            self.addReader(reader)

    def getReaders(self) -> list[Any]:
        mine = [each for each in self._open if each.isReading()]
        return [*AsyncioSelectorReactor.getReaders(self), *mine]

    def getWriters(self) -> list[Any]:
        mine = [each for each in self._open if each.isWriting()]
        return [*AsyncioSelectorReactor.getWriters(self), *mine]

    def removeAll(self) -> list[Any]:
        mine = [each for each in self._open if each.isReading() or each.isWriting()]
        for each in mine:
            each.stopReading()
        self._open.difference_update(mine)
        return [*AsyncioSelectorReactor.removeAll(self), *mine]

    def run(self, installSignalHandlers: bool = True) -> None:
        self.startRunning(installSignalHandlers)
        try:
            if self._started:  # Nobody called crash() meanwhile.
                self._runLoop()
        finally:
            self._justStopped = False
            self._signals.uninstall()

    def iterate(self, delay: float = 0) -> None:
        """Run for so many seconds; with none, once over what is ready."""
        stop = self.loop.call_later(delay, self._stopLoop)
        self._runLoop()
        stop.cancel()

    def crash(self) -> None:
        ReactorBase.crash(self)
        self._stopLoop()

    def _runLoop(self) -> None:
        self._stopping = False
        self.loop.run_forever()

    def _stopLoop(self) -> None:
        # uvloop puts a stop in its queue: a second one would end the next run.
        if self.loop.is_running() and not self._stopping:
            self._stopping = True
            self.loop.stop()

    def _signalsFactory(self) -> SignalHandling:
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), _ChildSignals(self)))


def install(loop: uvloop.Loop | None = None) -> None:
    """Make this the reactor of the process, on this loop or on a new one."""
    installReactor(UVReactor(loop))
