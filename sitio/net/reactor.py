"""
A Twisted reactor with uvloop's transports.

L{UVReactor} is Twisted's asyncio reactor on a uvloop loop.  uvloop itself, in C, accepts,
reads and writes TCP and UNIX connections.  So all that uses endpoints gets its speed,
treq and twisted.web included.  TLS, datagrams, processes, threads and timers are Twisted's.

  - L{sitio.net.transport}: a connection, and how it differs from Twisted's own.
  - L{sitio.net.ports}: listening ports.
  - L{sitio.net.connectors}: outgoing connections.

C{twistd --reactor uv} and C{trial --reactor uv} install this reactor.
"""

from __future__ import annotations

import signal
import socket
from asyncio import AbstractEventLoop, set_event_loop
from collections.abc import Callable
from functools import partial
from time import monotonic, time
from typing import Any, ClassVar

import uvloop
from twisted.internet._signals import SignalHandling, _MultiSignalHandling
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.main import installReactor
from twisted.internet.process import reapAllProcesses
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.net.connectors import TCPConnector, UNIXConnector
from sitio.net.lookups import Lookups
from sitio.net.ports import AdoptedUNIXPort, Server, TCPPort, UNIXPort, resultOf
from sitio.net.transport import Connection, StayPaused

_log = Logger()


class ChildSignals:
    """
    Reaps child processes on SIGCHLD.

    Twisted waits for the byte that Python writes to its wake-up descriptor.  While
    uvloop runs, that descriptor is uvloop's.
    """

    def __init__(self, reactor: UVReactor) -> None:
        self._reactor = reactor

    def install(self) -> None:
        def ended(number: int, frame: object) -> None:
            self._reactor.callFromThread(reapAllProcesses)

        signal.signal(signal.SIGCHLD, ended)
        # Some may have ended before.
        reapAllProcesses()

    def uninstall(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _logException(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    """uvloop's exception callback: log exceptions of connections and calls as Twisted does."""
    error = context.get("exception")
    if error is None or context.keys().isdisjoint(("transport", "handle")):
        loop.default_exception_handler(context)
    elif not isinstance(error, StayPaused):
        _log.failure("{message}", Failure(error), message=context["message"])


def steadyClock() -> Callable[[], float]:
    """
    A clock that begins with the time of day and runs on evenly, whoever sets that.

    For programs that take C{reactor.seconds()} for the time of day, as the access log of
    twisted.web does.
    """
    ahead = time() - monotonic()
    return lambda: monotonic() + ahead


class UVReactor(AsyncioSelectorReactor):
    """
    Twisted's asyncio reactor with the TCP and UNIX transports of uvloop.

    @ivar loop: uvloop's loop.
    @ivar callSoon: calls a function on the next turn; what it returns can be cancelled.
    @cvar unixPortClass: the class of its UNIX ports.
    """

    unixPortClass: ClassVar[type[UNIXPort]] = UNIXPort

    def __init__(self, loop: uvloop.Loop | None = None) -> None:
        self.loop: Any = uvloop.new_event_loop() if loop is None else loop
        self.loop.set_exception_handler(_logException)
        set_event_loop(self.loop)
        # uvloop's own method, as it is called for each response by TLS.
        self.callSoon: Callable[[Callable[[], object]], Any] = self.loop.call_soon
        self._open: set[Any] = set()
        self._stopping = False
        self.seconds = steadyClock()
        AsyncioSelectorReactor.__init__(self, self.loop)
        self.installNameResolver(Lookups(self))

    # For connections, connectors and ports.

    def opened(self, thing: Any) -> None:
        """Add a connection or a port to those that the reactor knows."""
        self._open.add(thing)

    def closed(self, thing: Any) -> None:
        """Remove a connection or a port that has closed."""
        self._open.discard(thing)

    def adopt(self, connection: Connection, skt: socket.socket) -> None:
        """Give a connected socket to uvloop, with this connection as its protocol."""
        # No function of Python, as this runs for each connection.
        coroutine = self.loop.connect_accepted_socket([connection].pop, skt)
        coroutine.send(None).add_done_callback(partial(resultOf, coroutine))

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
            listening = AdoptedUNIXPort(skt, factory, self)
        else:
            raise UnsupportedAddressFamily(addressFamily)
        listening.startListening()
        return listening

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """See C{IReactorSocket}.  An adopted UNIX connection has Twisted's own transport."""
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
            self.callSoon(lambda: self._watchAgain(selectable))

    def _watchAgain(self, reader: Any) -> None:
        """
        Register a reader anew.

        When a descriptor has an error, uvloop calls its reader once and drops it.  That
        call may have read only the bytes that came before the error.
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
            if self._started:  # Otherwise crash() was called meanwhile.
                self._runLoop()
        finally:
            self._justStopped = False
            self._signals.uninstall()

    def iterate(self, delay: float = 0) -> None:
        """Run for so many seconds; with 0, handle once what is ready."""
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
        # uvloop queues a stop: a second one would end the next run.
        if self.loop.is_running() and not self._stopping:
            self._stopping = True
            self.loop.stop()

    def _signalsFactory(self) -> SignalHandling:
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), ChildSignals(self)))


def install(loop: uvloop.Loop | None = None) -> None:
    """Make this the reactor of the process, on this loop or on a new one."""
    installReactor(UVReactor(loop))
