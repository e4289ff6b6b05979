"""
A reactor for listening ports: what an endpoint description leaves open gets sitio's values.

L{portFromString} makes the endpoint for a description, as L{sitio.net.endpoints} does.  The
endpoint listens on a L{PortReactor}.  So all kinds of endpoints that listen through a reactor
are covered, those of plugins included.

Contract: reactors are passed in.
"""

from __future__ import annotations

import re
from socket import AF_INET6, AF_UNIX
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.posixbase import PosixReactorBase

from sitio.net.accepting import PlainTCPPort, PlainUNIXPort
from sitio.net.endpoints import ReactorProxy, serverEndpoint
from sitio.net.families import socketOfBoth
from sitio.net.unixsockets import claiming

#: The longest queue of connections that the kernel holds before they are accepted.
#: Twisted's default is soon full when many clients connect at the same time, and a client
#: that finds it full tries again only after a second, then after two more.
BACKLOG = 1024

#: Twisted's default, in each of its endpoints.
_TWISTED_BACKLOG = 50

#: An argument C{backlog=} of an endpoint, also within a nested description.
_NAMES_BACKLOG = re.compile(r"backlog\\*=")


class PortReactor(ReactorProxy):
    """
    Listens with a longer backlog, on ports that pause at the limit of descriptors, and
    replaces the file of a UNIX socket on which nothing listens any more.
    """

    def __init__(self, reactor: Any, backlog: int | None = BACKLOG) -> None:
        """
        @param backlog: replaces Twisted's default; with L{None} it does not.
        """
        ReactorProxy.__init__(self, reactor)
        self._backlog = backlog

    def _longer(self, backlog: int) -> int:
        return self._backlog or backlog if backlog == _TWISTED_BACKLOG else backlog

    @property
    def _isTwisteds(self) -> bool:
        """Whether the reactor has Twisted's own ports, which don't pause at the limit."""
        return isinstance(self.reactor, PosixReactorBase) and not hasattr(
            self.reactor, "unixPortClass"
        )

    @property
    def unixPortClass(self) -> Any:
        """The class of the reactor's UNIX ports."""
        return PlainUNIXPort if self._isTwisteds else self.reactor.unixPortClass

    def listenTCP(
        self, port: int, factory: Any, backlog: int = _TWISTED_BACKLOG, interface: str = ""
    ) -> Any:
        """
        See C{IReactorTCP}.

        Without an interface the port has both families, if the host has both.

        @raise CannotListenError: the address can't be bound.
        """
        backlog = self._longer(backlog)
        if not interface and isinstance(self.reactor, PosixReactorBase):
            both = self._listenBoth(port, factory, backlog)
            if both is not None:
                return both
        if not self._isTwisteds:
            return self.reactor.listenTCP(port, factory, backlog, interface)
        return _listening(PlainTCPPort(port, factory, backlog, interface, self.reactor))

    def _listenBoth(self, port: int, factory: Any, backlog: int) -> Any:
        try:
            skt = socketOfBoth(port)
            if skt is None:
                return None
            with skt:
                skt.listen(backlog)
                return self.adoptStreamPort(skt.fileno(), AF_INET6, factory)
        except OSError as error:
            raise CannotListenError("", port, error) from error

    def listenUNIX(
        self,
        address: Any,
        factory: Any,
        backlog: int = _TWISTED_BACKLOG,
        mode: int = 0o666,
        wantPID: Any = 0,
    ) -> Any:
        """
        See C{IReactorUNIX}.

        @raise CannotListenError: something listens on this socket, the file is no socket,
            or the file can't be replaced.
        """
        backlog = self._longer(backlog)
        with claiming(address):
            if not self._isTwisteds:
                return self.reactor.listenUNIX(address, factory, backlog, mode, wantPID)
            port = PlainUNIXPort(address, factory, backlog, mode, self.reactor, wantPID)
            return _listening(port)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """See C{IReactorSocket}."""
        if not self._isTwisteds:
            return self.reactor.adoptStreamPort(fileDescriptor, addressFamily, factory)
        if addressFamily == AF_UNIX:
            return _listening(
                PlainUNIXPort._fromListeningDescriptor(self.reactor, fileDescriptor, factory)
            )
        return _listening(
            PlainTCPPort._fromListeningDescriptor(
                self.reactor, fileDescriptor, addressFamily, factory
            )
        )


def _listening(port: Any) -> Any:
    port.startListening()
    return port


def portFromString(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    The endpoint that listens on what a description says.

    Without C{backlog=} in the description, L{BACKLOG} connections can wait.

    @raise Exception: the description is wrong; many kinds.
    """
    backlog = None if _NAMES_BACKLOG.search(description) else BACKLOG
    return serverEndpoint(PortReactor(reactor, backlog), description)
