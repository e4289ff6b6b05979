"""
Ports that accept connections only while they can be served.

L{AcceptingPort} replaces how Twisted's ports accept.  Both Twisted's and uvloop's own way
throw away all connections that wait when the process has no file descriptors left.  This one
pauses: the connections wait in the kernel, and are accepted when there is room again.

See L{sitio.net.room} for how many there may be.
"""

from __future__ import annotations

import errno
from socket import SOCK_STREAM, socket as Socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.net.descriptors import LACKING
from sitio.net.families import unmapped
from sitio.net.loglimit import LogLimit
from sitio.net.room import NO_LIMIT, PausingPort, Room
from sitio.net.socketoptions import AcceptedSocket, addressOf

_log = Logger(namespace="sitio")

#: Connections that a port accepts on one turn of the reactor, as many as Twisted's own.
#: A burst is served at once, and other connections wait a few milliseconds for it.  A port
#: tries for twice as many as it got on its last turn: to try in vain costs a tenth of what a
#: connection costs.
MAX_ACCEPTS = 100

#: Seconds until a port tries again for which there were no descriptors.
LACK_SECONDS = 0.1


class AcceptingPort(PausingPort):
    """
    How a port accepts; mixed into Twisted's ports.

    The reactor's own way to watch a port, and what becomes of an accepted socket, are left
    to subclasses.

    """

    reactor: Any
    factory: Any
    socket: Socket

    _family: int
    _burst = MAX_ACCEPTS
    _wanted = False
    _pause: IDelayedCall | None = None
    _paused = False
    _logLimit: LogLimit | None = None

    # For subclasses.

    def watch(self) -> None:
        """Make the reactor call L{doRead} when connections wait."""
        raise NotImplementedError

    def unwatch(self) -> None:
        """Make it stop."""
        raise NotImplementedError

    def accepted(self, skt: Socket, address: Any) -> None:
        """Make a connection.  It calls C{room.leave} when it has closed."""
        raise NotImplementedError

    # For the reactor and for callers.

    def startReading(self) -> None:
        """Accept connections, unless the port pauses; then when it goes on."""
        if not hasattr(self, "room"):
            self.room = Room(NO_LIMIT)
        self._family = int(self.socket.family)
        if not self._wanted:
            self._wanted = True
            if not self._paused:
                self.watch()

    def stopReading(self) -> None:
        """Accept no more connections."""
        if self._wanted:
            self._wanted = False
            if self._paused:
                self._endPause()
            else:
                self.unwatch()

    def isReading(self) -> bool:
        """Whether connections are accepted."""
        return self._wanted and not self._paused

    def doRead(self) -> None:
        """Accept the connections that wait, as many as there is room for."""
        if self.spare is not None:
            self.spare.keep()
        for number in range(self._burst):
            if not self.isReading():
                return
            if self.room.taken >= self.room.limit:
                self._hold("{limit} clients are connected", limit=self.room.limit)
                return
            try:
                skt, address = self._accept()
            except BlockingIOError:
                self._burst = number or 1
                return
            except OSError as error:
                if not self._failed(error):
                    return
            else:
                self.room.take()
                self.accepted(skt, address)
        self._burst = min(2 * self._burst, MAX_ACCEPTS)

    def _accept(self) -> tuple[Socket, Any]:
        """Accept one connection; see C{socket.accept}, which makes enums and costs more."""
        descriptor, address = self.socket._accept()  # type: ignore[attr-defined]
        return AcceptedSocket(self._family, SOCK_STREAM, 0, descriptor), address

    def _failed(self, error: OSError) -> bool:
        """Whether to try again at once."""
        if error.errno in LACKING:
            if error.errno == errno.EMFILE and self.spare is not None and self.spare.give():
                return True
            self._pause = self.reactor.callLater(LACK_SECONDS, self.resume)
            self._hold("there are no file descriptors left ({why})", why=str(error.strerror))
            return False
        # The peer has gone already, or a filter of the kernel has refused it.
        return True

    # Pauses.

    def _hold(self, cause: str, **fields: Any) -> None:
        self._paused = True
        self.room.waitFor(self)
        self.unwatch()
        self._logLimit = self._logLimit or LogLimit(self.reactor)
        if self._logLimit.due() is not None:
            text = f"New connections wait: {cause}"
            _log.warn(text, **fields)

    def _endPause(self) -> None:
        self._paused = False
        self.room.forget(self)
        if self._pause is not None and self._pause.active():
            self._pause.cancel()
        self._pause = None

    def resume(self) -> None:
        """Go on after a pause."""
        if self._paused:
            self._endPause()
            if self._wanted:
                self.watch()


class _Counted:
    """
    A connection of Twisted's that leaves the room of its port at its end.

    Then it also frees what it has not sent: it is part of a cycle, which is seldom collected.
    """

    server: Any

    def connectionLost(self, reason: Failure) -> None:
        """See C{tcp.Connection}, which may be called twice."""
        isFirst = hasattr(self, "socket")
        try:
            super().connectionLost(reason)  # type: ignore[misc]
        finally:
            self.dataBuffer, self.offset = b"", 0
            self._tempDataBuffer: list[bytes] = []
            self._tempDataLen = 0
            if isFirst and self.server is not None:
                self.server.room.leave()


class CountedServer(_Counted, tcp.Server):
    """Twisted's connection of a TCP port."""

    def getHost(self) -> Any:
        """See C{ITCPTransport}.  Twisted takes its family from the client's."""
        return addressOf(self.socket.getsockname())


class CountedUNIXServer(_Counted, unix.Server):
    """Twisted's connection of a UNIX port."""


class _PlainPort(AcceptingPort):
    """Twisted's own port on Twisted's own reactors."""

    transport: Any
    sessionno: int
    addressFamily: Any

    def watch(self) -> None:
        self.reactor.addReader(self)

    def unwatch(self) -> None:
        self.reactor.removeReader(self)

    def accepted(self, skt: Socket, address: Any) -> None:
        protocol = None
        with _log.failuresHandled("A protocol failed to begin"):
            protocol = self.factory.buildProtocol(self._addressOf(address))
        if protocol is None:
            skt.close()
            self.room.leave()
            return
        self.sessionno += 1
        server = self.transport(skt, protocol, address, self, self.sessionno, self.reactor)
        with _log.failuresHandled("A protocol failed to begin"):
            protocol.makeConnection(server)

    def _addressOf(self, address: Any) -> Any:
        raise NotImplementedError


class PlainTCPPort(_PlainPort, tcp.Port):
    """Twisted's TCP port; it pauses at the limit."""

    transport = CountedServer

    def accepted(self, skt: Socket, address: Any) -> None:
        _PlainPort.accepted(self, skt, unmapped(address))

    def _addressOf(self, address: Any) -> Any:
        return addressOf(address)


class PlainUNIXPort(_PlainPort, unix.Port):
    """Twisted's UNIX port; it pauses at the limit."""

    transport = CountedUNIXServer

    def _addressOf(self, address: Any) -> Any:
        return self._buildAddr(address)
