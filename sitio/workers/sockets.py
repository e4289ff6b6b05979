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
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from sitio.errors import CannotStart
from sitio.net.listening import Listening

_log = Logger(namespace="sitio")


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


def _bound(address: Any, family: int, dealt: bool = False) -> socket.socket:
    skt = socket.socket(family, socket.SOCK_STREAM)
    skt.setblocking(False)
    skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if dealt:
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    skt.bind(address)
    return skt


class _Opening(_Ports):
    """
    The parent's, on which a port is opened and nobody is accepted; so who listens
    there gets no port.

    @ivar sockets: what listens.
    @ivar port: Twisted's port, where it has opened one.
    """

    def __init__(self, reactor: Any, count: int) -> None:
        _Ports.__init__(self, reactor)
        self.sockets: list[socket.socket] = []
        self.port: Any = None
        # Other systems have the option, and give all clients to the last socket.
        self._count = count if sys.platform == "linux" else 1

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> None:
        """See C{IReactorTCP}."""
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
        try:
            [(*_, address), *_] = socket.getaddrinfo(
                interface or None, port, family, kind, 0, flags
            )
            sockets = [_bound(address, family)]
            if self._count > 1:
                # That it could be bound alone shows that nobody else is there: sockets
                # that are to be dealt to would be let in beside those of another sitio.
                address = sockets.pop().getsockname()
                sockets = [_bound(address, family, dealt=True) for _ in range(self._count)]
            for each in sockets:
                each.listen(backlog)
        except OSError as error:
            raise CannotListenError(interface, port, error) from error
        self.sockets += sockets

    def listenUNIX(self, *arguments: Any, **options: Any) -> None:
        """See C{IReactorUNIX}."""
        self._opened(self._reactor.listenUNIX(*arguments, **options))

    def adoptStreamPort(self, *arguments: Any, **options: Any) -> None:
        """See C{IReactorSocket}."""
        self._opened(self._reactor.adoptStreamPort(*arguments, **options))

    def _opened(self, port: Any) -> None:
        # It has begun to read, but no turn of the loop has come in which it would.
        port.stopReading()
        self.port = port
        self.sockets.append(port.socket)


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
    """

    def __init__(self, reactor: Any, description: str, count: int) -> None:
        self._description = description
        self._opening = _Opening(reactor, count)
        self._endpoint = serverFromString(self._opening, description)
        self._listening = Listening(_Nobody(), log=_log, consequence="sitio takes no requests")

    @property
    def sockets(self) -> list[socket.socket]:
        """Those that listen, in the order of the workers; or a single one."""
        return self._opening.sockets

    def open(self) -> None:
        """Bind it; raises L{CannotStart}."""
        if self.sockets:
            return
        self._listening.listen(self._endpoint)
        if not self.sockets:
            raise CannotStart(
                f"sitio: --port {self._description!r} can't be shared by several processes;"
                " --workers 1 can use it"
            )

    def close(self) -> Deferred[Any]:
        """Listen no more; the workers' copies of the sockets are not touched."""
        while self.sockets:
            # Twisted would shut it down, and with it every copy, before it closes it.
            self.sockets.pop().close()
        port, self._opening.port = self._opening.port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)


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
        for each, port in self._ports.items():
            # One that was just accepted may have no protocol yet, and would get none
            # from a port that is closed.
            if each in wanted:
                port.startReading()
            else:
                port.stopReading()
        for each in wanted - self._ports.keys():
            skt = self._sockets[each]
            self._ports[each] = self._reactor.adoptStreamPort(
                skt.fileno(), skt.family, self._factory
            )

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
        base = getattr(self._reactor, "unixPortClass", unix.Port)
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
