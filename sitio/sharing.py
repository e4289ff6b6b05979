"""
One port for several processes.

L{SharedPort} is the parent's: it binds what an endpoint description says, as its
own endpoint does, and accepts nobody.  L{Inheriting} is a worker's: a reactor on
which the same description listens on a socket that was inherited.  So whatever
stands around the port in a description (TLS, the PROXY protocol) is made anew in
each worker, and the port itself only once.

Of a TCP port that is sitio's own to open there is one socket for each worker
(C{SO_REUSEPORT}), and the kernel deals clients out to them.  Any other has one
socket, and clients go to whoever is first.  Why so is in docs/decisions/0012.

Contract: reactors are passed in; POSIX only.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from sitio.errors import CannotStart


def whyNoPort(error: BaseException | None) -> str:
    """Why a port can't be listened on."""
    cause = getattr(error, "socketError", error)
    port = getattr(error, "port", None)
    where = f"port {port}" if port else "the address"
    reason = getattr(cause, "strerror", None) or str(cause)
    return f"can't listen on {where}: {reason}"


class _Ports:
    """A reactor, but for its ports."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """TLS is no matter of the port: see C{IReactorSSL}."""
        wrapped = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self.listenTCP(port, wrapped, backlog, interface)


class _Opening(_Ports):
    """The parent's, on which ports are opened and nobody is accepted."""

    def __init__(self, reactor: Any) -> None:
        _Ports.__init__(self, reactor)
        self.ports: list[Any] = []
        self.dealt = False

    def listenTCP(self, *arguments: Any, **options: Any) -> Any:
        """See C{IReactorTCP}."""
        self.dealt = sys.platform == "linux"
        return self._opened(self._reactor.listenTCP(*arguments, **options))

    def listenUNIX(self, *arguments: Any, **options: Any) -> Any:
        """See C{IReactorUNIX}."""
        return self._opened(self._reactor.listenUNIX(*arguments, **options))

    def adoptStreamPort(self, *arguments: Any, **options: Any) -> Any:
        """See C{IReactorSocket}."""
        return self._opened(self._reactor.adoptStreamPort(*arguments, **options))

    def _opened(self, port: Any) -> Any:
        # It has begun to read, but no turn of the loop has come in which it would.
        port.stopReading()
        self.ports.append(port)
        return port


class _Nobody(Factory):
    """For a port that accepts nobody."""

    noisy = False

    def logPrefix(self) -> str:
        """What Twisted calls the port in its own lines."""
        return "sitio"


class SharedPort:
    """
    The port of all workers, as their parent holds it.

    As the parent holds all its sockets, whoever waits to be accepted is not lost
    with a worker.

    @ivar sockets: those that listen, in the order of the workers; or a single one.
    """

    def __init__(self, reactor: Any, description: str, count: int) -> None:
        self.sockets: list[socket.socket] = []
        self._count = count
        self._description = description
        self._opening = _Opening(reactor)
        self._endpoint = serverFromString(self._opening, description)

    def open(self) -> None:
        """Bind it; raises L{CannotStart}."""
        if self.sockets:
            return
        failures: list[Failure] = []
        self._endpoint.listen(_Nobody()).addErrback(failures.append)
        if failures:
            raise CannotStart(f"sitio: {whyNoPort(failures[0].value)}")
        if len(self._opening.ports) != 1:
            raise CannotStart(
                f"sitio: --port {self._description!r} can't be shared by several processes;"
                " --workers 1 can use it"
            )
        [port] = self._opening.ports
        self.sockets = [port.socket]
        if self._opening.dealt:
            try:
                self.sockets = _deal(port.socket, self._count, port.backlog)
            except OSError as error:
                raise CannotStart(f"sitio: {whyNoPort(error)}") from error

    def close(self) -> Deferred[Any]:
        """Listen no more; the workers' copies of the sockets are not touched."""
        for each in self.sockets:
            # Twisted would shut it down, and with it every copy, before it closes it.
            each.close()
        ports, self._opening.ports = self._opening.ports, []
        return gatherResults([maybeDeferred(each.stopListening) for each in ports])


def _deal(alone: socket.socket, count: int, backlog: int) -> list[socket.socket]:
    """So many sockets in place of one, at the same address."""
    address = alone.getsockname()
    # That it could be bound alone shows that nobody else is there: sockets that want
    # to share would have been let in beside those of another sitio.
    alone.close()
    sockets = []
    for _ in range(count):
        each = socket.socket(alone.family, socket.SOCK_STREAM)
        each.setblocking(False)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        each.bind(address)
        sockets.append(each)
    for each in sockets:
        each.listen(backlog)
    return sockets


class _InheritedUNIX:
    """
    A UNIX port whose file is another process's: Twisted's would change its mode when
    it is adopted, and remove it at the end.
    """

    def take(self: Any, inherited: socket.socket) -> None:
        """Listen on this socket."""
        self.socket = inherited
        self.fileno = inherited.fileno
        self.connected = True
        self.numberAccepts = 100
        self.factory.doStart()
        self.startReading()

    def connectionLost(self: Any, reason: Failure) -> None:
        # As in SharedPort.close.
        self.socket.close()
        tcp.Port.connectionLost(self, reason)


@implementer(IListeningPort)
class _Dealt:
    """
    A worker's part of a port: a socket of its own, and those of workers that are
    not there.
    """

    def __init__(self, reactor: Any, sockets: list[socket.socket], own: int, factory: Any) -> None:
        self._reactor = reactor
        self._sockets = [each.dup() for each in sockets]
        self._own = own
        self._factory = factory
        self._ports: dict[int, Any] = {}

    def startListening(self) -> None:
        """Listen on the own one."""
        self.listenFor(())

    def listenFor(self, others: Iterable[int]) -> None:
        """Listen on the own one and on these; after the end, on none."""
        if not self._sockets:
            return
        wanted = {self._own, *others} & set(range(len(self._sockets)))
        for each in wanted - self._ports.keys():
            skt = self._sockets[each]
            self._ports[each] = self._reactor.adoptStreamPort(
                skt.fileno(), skt.family, self._factory
            )
        for each in self._ports.keys() - wanted:
            self._ports.pop(each).stopListening()

    def getHost(self) -> Any:
        """See L{IListeningPort}."""
        return self._ports[self._own].getHost()

    def stopListening(self) -> Deferred[Any]:
        """See L{IListeningPort}."""
        while self._sockets:
            self._sockets.pop().close()
        return gatherResults([maybeDeferred(each.stopListening) for each in self._ports.values()])


class Inheriting(_Ports):
    """
    A worker's reactor, on which whoever listens does so on inherited sockets.
    """

    def __init__(self, reactor: Any, sockets: list[socket.socket], own: int) -> None:
        """
        @param sockets: as L{SharedPort} has them; they stay the caller's to close.
        @param own: which of them is this worker's.
        """
        _Ports.__init__(self, reactor)
        for each in sockets:
            # Of a socket of which Python knows no better it makes a copy that blocks,
            # and with it the socket of every process.
            each.setblocking(False)
        self._sockets = sockets
        self._own = min(own, len(sockets) - 1)
        self._dealt: _Dealt | None = None

    def listenFor(self, others: Iterable[int]) -> None:
        """Accept clients in place of these workers too, and of no others."""
        if self._dealt is not None:
            self._dealt.listenFor(others)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See C{IReactorTCP}."""
        return self.adoptStreamPort(-1, self._sockets[0].family, factory)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: Any = 0
    ) -> Any:
        """See C{IReactorUNIX}."""
        # A reactor with a transport of its own has a port of its own beside it.
        base = getattr(sys.modules[type(self._reactor).__module__], "UNIXPort", unix.Port)
        kind: Any = type("InheritedUNIXPort", (_InheritedUNIX, base), {})
        port = kind(address, factory, backlog, mode, self._reactor)
        port.take(self._sockets[0].dup())
        return port

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """See C{IReactorSocket}."""
        first = self._sockets[0]
        if first.family == socket.AF_UNIX:
            return self.listenUNIX(first.getsockname(), factory, socket.SOMAXCONN)
        self._dealt = _Dealt(self._reactor, self._sockets, self._own, factory)
        self._dealt.startListening()
        return self._dealt
