"""
A port that is opened when a service starts: it listens, or the start fails.

Contract: endpoints, factory and log are passed in.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from socket import gaierror
from typing import Any

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.errors import CannotStart, inOneLine
from sitio.net.room import PausingPort, Room, SpareDescriptors


def explainListenError(error: BaseException | None) -> str:
    """
    Why a port cannot be listened on, as a clause: C{can't listen on port 80: ...}.  It
    names the file of a UNIX socket.
    """
    cause = getattr(error, "socketError", error)
    port = getattr(error, "port", None)
    interface = getattr(error, "interface", None)
    if isinstance(port, (bytes, str)):
        where = os.fsdecode(port)
    else:
        where = f"port {port}" if port else "the address"
        if interface and (isinstance(cause, gaierror) or _errno(cause) == errno.EADDRNOTAVAIL):
            # The port has no part in it.
            where = f"{interface}, which must be an address of this host"
    reason = getattr(cause, "strerror", None)
    if not reason and cause is not None:
        reason = (
            inOneLine(cause, name=False)
            or "its key, certificate or Diffie-Hellman parameters can't be used"
        )
    return f"can't listen on {where}: {reason}"


def _errno(error: Any) -> int | None:
    return getattr(error, "errno", None)


#: What an operator does about a port that can't be opened, by the number of the error.
_ADVICE = {
    errno.EADDRINUSE: "another process listens there; stop it, or choose another port",
    errno.EACCES: "this user may not; choose a port above 1023, or another folder for a socket",
}


def _advice(error: BaseException | None) -> str:
    number = _errno(getattr(error, "socketError", error))
    return f" ({_ADVICE[number]})" if number in _ADVICE else ""


class Listening:
    """
    Listens on an endpoint until it is closed.

    @ivar port: the L{IListeningPort}, while it listens.
    """

    def __init__(
        self,
        factory: IProtocolFactory,
        onListening: Callable[[Any], object] = lambda port: None,
        *,
        log: Logger,
        consequence: str,
        name: str = "sitio",
        room: Room | None = None,
        spare: SpareDescriptors | None = None,
    ) -> None:
        """
        @param factory: builds a protocol for each connection.
        @param onListening: is called with the port once it listens.
        @param log: where a failure goes that comes after the start.
        @param consequence: what such a failure means for the operator, as the first
            half of the log line: C{sitio takes no requests}.
        @param name: the first words of the error that ends the start.
        @param room: how many connections there may be; L{None} for no limit.  A port that
            can't pause ignores it.
        @param spare: descriptors that are kept for this port.
        """
        self.port: IListeningPort | None = None
        self._factory = factory
        self._onListening = onListening
        self._log = log
        self._consequence = consequence
        self._name = name
        self._room = room
        self._spare = spare
        self._listening: Deferred[Any] | None = None

    @property
    def begun(self) -> bool:
        """Whether it listens, or waits for an endpoint that needs time."""
        return self._listening is not None

    def listen(self, endpoint: IStreamServerEndpoint) -> None:
        """
        Listen on this endpoint, unless this object listens already.

        An endpoint may need time.  A failure that comes later can't be raised; it is
        logged as critical.

        @raise CannotStart: the endpoint failed at once; its C{__cause__} is the error.
        """
        if self.begun:
            return
        failures: list[Failure] = []
        listening: Deferred[Any] = endpoint.listen(self._factory)
        listening.addCallbacks(self._opened, failures.append)
        if failures:
            error = failures[0].value
            if isinstance(error, CannotStart):
                raise error
            raise CannotStart(
                f"{self._name}: {explainListenError(error)}{_advice(error)}"
            ) from error
        self._listening = listening.addCallback(lambda _: self._failedLater(failures))

    def _opened(self, port: Any) -> None:
        self.port = port
        if isinstance(port, PausingPort):
            if self._room is not None:
                port.room = self._room
            if self._spare is not None:
                port.spare = self._spare
                self._spare.keep()
        self._onListening(port)

    def _failedLater(self, failures: list[Failure]) -> None:
        for each in failures:
            if not each.check(CancelledError):
                self._log.critical(
                    "{consequence}: {why}",
                    consequence=self._consequence,
                    why=explainListenError(each.value),
                )

    def close(self) -> Deferred[Any]:
        """
        Stop listening, also on an endpoint that still needs time.

        @return: fires when the port is closed.
        """
        listening, self._listening = self._listening, None
        if self._spare is not None:
            self._spare.giveAll()
        if listening is not None:
            listening.cancel()
        port, self.port = self.port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)


class Ports:
    """Several ports, by name; there may be more or fewer of them while they are open."""

    def __init__(
        self, make: Callable[[], Listening], endpoints: Mapping[str, IStreamServerEndpoint]
    ) -> None:
        """
        @param make: makes a L{Listening} for one of them.
        @param endpoints: by name, the first one first.
        """
        self._make = make
        self._closed = False
        self._ports = {name: (make(), endpoint) for name, endpoint in endpoints.items()}

    @property
    def names(self) -> set[str]:
        """The names of all."""
        return set(self._ports)

    @property
    def begun(self) -> bool:
        """Whether all listen, or wait for endpoints that need time."""
        return all(listening.begun for listening, _ in self._ports.values())

    @property
    def first(self) -> IListeningPort | None:
        """The first of them; L{None} while it is not open."""
        return next((each.port for each, _ in self._ports.values()), None)

    def listen(self) -> None:
        """
        Open those that are not open.

        @raise CannotStart: one can't be opened.
        """
        for listening, endpoint in self._ports.values():
            listening.listen(endpoint)

    def add(self, endpoints: Mapping[str, IStreamServerEndpoint]) -> None:
        """
        Open more ports.

        @raise CannotStart: one can't be opened; none of them is open then.
        """
        if self._closed and endpoints:
            raise CannotStart("sitio: no port can be opened any more")
        for name, endpoint in endpoints.items():
            self._ports[name] = self._make(), endpoint
        try:
            self.listen()
        except BaseException:
            self.remove(endpoints)
            raise

    def remove(self, names: Iterable[str]) -> Deferred[Any]:
        """Close some of them; fires when they are closed.  Their connections stay."""
        closing = [self._ports.pop(each)[0] for each in list(names) if each in self._ports]
        return gatherResults([each.close() for each in closing])

    def close(self) -> Deferred[Any]:
        """Close all of them, for good; fires when they are closed."""
        self._closed = True
        return gatherResults([listening.close() for listening, _ in self._ports.values()])
