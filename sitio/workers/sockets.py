"""
The listening sockets that several processes share.

L{SharedPort} is the supervisor's.  It opens what an endpoint description says and accepts
no connection.  L{InheritingReactor} is a worker's.  On it the same description listens on
the inherited sockets.  So what a description adds to the port (TLS, the PROXY protocol)
is made anew in each worker, and the port itself is opened once.

A TCP port has one socket for each worker (C{SO_REUSEPORT}), and the kernel distributes
connections among them.  A UNIX port, and a port that another process has opened, have one
socket; the first worker to accept gets the connection.  The reasons are in
docs/decisions/0012.

Contract: reactors are passed in; POSIX only.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.errors import CannotStart
from sitio.net.endpoints import ReactorProxy
from sitio.net.families import boundSocket, socketOfBoth
from sitio.net.listening import Listening
from sitio.net.portreactor import PortReactor, portFromString
from sitio.net.room import NO_LIMIT, PausingPort, Room

_log = Logger(namespace="sitio")


class OpeningReactor(ReactorProxy):
    """
    The supervisor's reactor for an endpoint: it opens sockets and accepts no connection.

    Its methods that listen return no port.

    @ivar sockets: the listening sockets.
    @ivar port: Twisted's port, if Twisted has opened one.
    """

    def __init__(self, reactor: Any, count: int) -> None:
        """
        @param count: the number of workers.
        """
        ReactorProxy.__init__(self, reactor)
        self.sockets: list[socket.socket] = []
        self.port: Any = None
        # Other systems know SO_REUSEPORT, but give all connections to the last socket.
        self._count = count if sys.platform == "linux" else 1

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> None:
        """
        See C{IReactorTCP}.

        @raise CannotListenError: the address can't be bound.
        """
        try:
            sockets = self._opened(port, interface)
            for each in sockets:
                each.listen(backlog)
        except OSError as error:
            raise CannotListenError(interface, port, error) from error
        self.sockets += sockets

    def _opened(self, port: int, interface: str) -> list[socket.socket]:
        both = None if interface else socketOfBoth(port)
        if both is not None:
            sockets = [both]
        else:
            family = socket.AF_INET6 if ":" in interface else socket.AF_INET
            kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
            [(*_, address), *_] = socket.getaddrinfo(
                interface or None, port, family, kind, 0, flags
            )
            sockets = [boundSocket(address, family)]
        if self._count == 1:
            return sockets
        # The first socket shows that the address is free.  With SO_REUSEPORT, the kernel would
        # also let us in beside the sockets of another sitio.
        with sockets.pop() as first:
            address, family = first.getsockname(), first.family
        for _ in range(self._count):
            again = socketOfBoth(address[1], reusePort=True) if both is not None else None
            sockets.append(again or boundSocket(address, family, reusePort=True))
        return sockets

    def listenUNIX(self, *arguments: Any, **options: Any) -> None:
        """See C{IReactorUNIX}."""
        self._keep(self.reactor.listenUNIX(*arguments, **options))

    def adoptStreamPort(self, *arguments: Any, **options: Any) -> None:
        """See C{IReactorSocket}."""
        self._keep(self.reactor.adoptStreamPort(*arguments, **options))

    def _keep(self, port: Any) -> None:
        # The port begins to accept on the next turn of the reactor.  So it has not yet.
        port.stopReading()
        self.port = port
        self.sockets.append(port.socket)


class _UnusedFactory(Factory):
    """The factory of a port that accepts no connection."""

    noisy = False

    def logPrefix(self) -> str:
        """What Twisted calls the port in its own log lines."""
        return "sitio"


class SharedPort:
    """
    The port of all workers, in the supervisor.

    The supervisor holds all its sockets.  So connections that wait to be accepted are
    not lost when a worker ends.
    """

    def __init__(self, reactor: Any, description: str, count: int) -> None:
        """
        @param description: an endpoint description.
        @param count: the number of workers.
        """
        self._opening = OpeningReactor(reactor, count)
        self._endpoint = portFromString(self._opening, description)
        self._listening = Listening(
            _UnusedFactory(), log=_log, consequence="sitio takes no requests"
        )

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets: one for each worker, in their order, or a single one."""
        return self._opening.sockets

    @property
    def counts(self) -> list[int]:
        """The number of sockets, as of L{SharedPorts}."""
        return [len(self.sockets)]

    def open(self) -> None:
        """
        Open the port, unless it is open.

        @raise CannotStart: the port can't be listened on, or its endpoint has no socket
            that processes could share.
        """
        if self.sockets:
            return
        self._listening.listen(self._endpoint)
        if not self.sockets:
            raise CannotStart(
                "sitio: --port can't be shared by several processes with this kind of endpoint;"
                " --workers 1 can use it"
            )

    def close(self) -> Deferred[Any]:
        """Close the sockets.  Workers go on listening on theirs."""
        while self.sockets:
            # Twisted would shut the socket down first, and with it all its copies.
            self.sockets.pop().close()
        port, self._opening.port = self._opening.port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)


class SharedPorts:
    """Several of them, in the order of the listeners."""

    def __init__(self, reactor: Any, descriptions: Iterable[str], count: int) -> None:
        """
        @param descriptions: endpoint descriptions.
        @param count: the number of workers.
        """
        self._ports = [SharedPort(reactor, each, count) for each in descriptions]

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets of all."""
        return [skt for each in self._ports for skt in each.sockets]

    @property
    def counts(self) -> list[int]:
        """The number of sockets of each."""
        return [len(each.sockets) for each in self._ports]

    def open(self) -> None:
        """
        Open those that are not open.

        @raise CannotStart: as L{SharedPort.open} does.
        """
        for each in self._ports:
            each.open()

    def close(self) -> Deferred[Any]:
        """Close the sockets.  Workers go on listening on theirs."""
        return gatherResults([each.close() for each in self._ports])


class _InheritedUNIXPort:
    """
    A UNIX port whose socket file belongs to another process.

    This is mixed into a reactor's own class of UNIX ports, which would set the file's
    mode at the start and remove the file at the end.
    """

    def listenOn(self: Any, inherited: socket.socket) -> None:
        """Listen on this socket."""
        self.socket = inherited
        self.fileno = inherited.fileno
        self.connected = True
        # As many as Twisted's ports accept on one turn of the reactor.
        self.numberAccepts = 100
        self.factory.doStart()
        self.startReading()

    def connectionLost(self: Any, reason: Failure) -> None:
        # Closed before Twisted can shut it down: see SharedPort.close.
        self.socket.close()
        tcp.Port.connectionLost(self, reason)


@implementer(IListeningPort)
class _WorkerPort(PausingPort):
    """
    A worker's TCP port: its own socket, and those of absent workers.
    """

    def __init__(self, reactor: Any, sockets: list[socket.socket], own: int, factory: Any) -> None:
        """
        @param sockets: those of all workers.
        @param own: the index of this worker's.
        """
        self._reactor = reactor
        self._sockets = [each.dup() for each in sockets]
        self._own = own
        self._factory = factory
        self._ports: dict[int, Any] = {}
        self._room = Room(NO_LIMIT)

    @property
    def room(self) -> Room:
        """How many connections there may be, on all sockets together."""
        return self._room

    @room.setter
    def room(self, room: Room) -> None:
        self._room = room
        for each in self._ports.values():
            each.room = room

    def startListening(self) -> None:
        """Accept on the worker's own socket."""
        self.acceptFor(())

    def acceptFor(self, others: Iterable[int]) -> None:
        """
        Accept on the worker's own socket and on these; do nothing after the end.

        @param others: indices of sockets.
        """
        if not self._sockets:
            return
        wanted = {self._own, *others} & set(range(len(self._sockets)))
        for each, port in self._ports.items():
            # A port is paused and not closed.  A connection that it has just accepted may
            # have no protocol yet, and would get none from a closed port.
            if each in wanted:
                port.startReading()
            else:
                port.stopReading()
        for each in wanted - self._ports.keys():
            skt = self._sockets[each]
            port = self._reactor.adoptStreamPort(skt.fileno(), skt.family, self._factory)
            port.room = self._room
            self._ports[each] = port

    def getHost(self) -> Any:
        """See L{IListeningPort}."""
        return self._ports[self._own].getHost()

    def stopListening(self) -> Deferred[Any]:
        """See L{IListeningPort}."""
        while self._sockets:
            self._sockets.pop().close()
        return gatherResults([maybeDeferred(each.stopListening) for each in self._ports.values()])


class InheritingReactor(ReactorProxy):
    """
    A worker's reactor for an endpoint: it listens on inherited sockets.
    """

    def __init__(self, reactor: Any, sockets: list[socket.socket], own: int) -> None:
        """
        @param sockets: those of the L{SharedPort}.  The caller closes them.
        @param own: the index of this worker's socket.
        """
        ReactorProxy.__init__(self, PortReactor(reactor))
        for each in sockets:
            # Python takes an inherited socket for a blocking one.  A copy of it would
            # block, and with it the socket of every process.
            each.setblocking(False)
        self._sockets = sockets
        self._own = min(own, len(sockets) - 1)
        self._port: _WorkerPort | None = None

    def acceptFor(self, others: Iterable[int]) -> None:
        """
        Accept connections in place of these workers too, and of no others.

        A port with a single socket ignores this: all workers accept on it anyway.

        @param others: indices of their sockets.

        @raise OSError: the process has no descriptors left.
        """
        if self._port is not None:
            self._port.acceptFor(others)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See C{IReactorTCP}."""
        return self.adoptStreamPort(-1, self._sockets[0].family, factory)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: Any = 0
    ) -> Any:
        """See C{IReactorUNIX}."""
        base = self.reactor.unixPortClass
        kind: Any = type("InheritedUNIXPort", (_InheritedUNIXPort, base), {})
        port = kind(address, factory, backlog, mode, self.reactor.reactor)
        port.listenOn(self._sockets[0].dup())
        return port

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """See C{IReactorSocket}.  The descriptor is ignored."""
        first = self._sockets[0]
        if first.family == socket.AF_UNIX:
            return self.listenUNIX(first.getsockname(), factory, socket.SOMAXCONN)
        self._port = _WorkerPort(self.reactor, self._sockets, self._own, factory)
        self._port.startListening()
        return self._port
