"""
Name lookups that do not wait for calls of policies: L{Lookups}.

Twisted looks names up in the reactor's thread pool, where slow calls of policies would
delay them, and with them all requests that need a new connection.

Contract: the reactor is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from socket import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    AI_NUMERICHOST,
    SOCK_DGRAM,
    SOCK_STREAM,
    getaddrinfo,
)
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from twisted.logger import Logger
from zope.interface import implementer

from sitio.net.loglimit import LogLimit
from sitio.net.singleflight import SingleFlight
from sitio.net.threads import callInThread

#: Lookups at the same time, each in a thread; others wait.  sitio itself has two or three
#: names, and a name server that does not answer is given up after ten seconds or so.
MAX_LOOKUPS = 32

#: Seconds in which those who ask for a name share one lookup.  A later one is on its own: the
#: packet of the first may be lost, which costs five seconds.
SHARED_SECONDS = 1.0

#: The addresses of localhost (RFC 6761, section 6.3).  The first is what services listen
#: on that listen on one of them.
LOCALHOST = ((AF_INET, "127.0.0.1"), (AF_INET6, "::1"))

_TYPES: dict[int, Any] = {AF_INET: IPv4Address, AF_INET6: IPv6Address}

_KINDS = {"TCP": SOCK_STREAM, "UDP": SOCK_DGRAM}

_log = Logger(namespace="sitio.net")


@implementer(IHostResolution)
class Resolution:
    """A lookup under way, as its receiver sees it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """See L{IHostResolution}.  The lookup goes on, for others who wait for it."""


@implementer(IHostnameResolver)
class Lookups:
    """
    Looks names up in threads of their own.

      - Addresses and C{localhost} need no thread, and no name server.
      - Those who ask for a name within L{SHARED_SECONDS} share a lookup.  So there are few
        threads for a name, and at most L{MAX_LOOKUPS} for all.
      - The threads don't keep the process from ending.
    """

    def __init__(
        self,
        reactor: Any,
        inThread: Callable[..., Deferred[Any]] = callInThread,
        lookUp: Callable[..., Any] = getaddrinfo,
    ) -> None:
        """
        @param reactor: its clock, and C{callFromThread}.
        @param inThread: runs a call in a thread, as L{callInThread} does.
        @param lookUp: C{getaddrinfo}, which blocks.
        """
        self._seconds = reactor.seconds
        self._lookUp = lookUp
        self._logLimit = LogLimit(reactor)
        limit = DeferredSemaphore(MAX_LOOKUPS)

        def run(when: int, *question: Any) -> Deferred[Any]:
            return limit.run(inThread, reactor, lookUp, *question)

        self._lookups: SingleFlight[Any] = SingleFlight(run)

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """
        See L{IHostnameResolver}.

        A name that does not exist, or is none, has no addresses.  The receiver of one that
        needs no lookup is called before this returns.
        """
        resolution = Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        kinds = [each for each in _TYPES if not addressTypes or _TYPES[each] in addressTypes]
        family = kinds[0] if len(kinds) == 1 else AF_UNSPEC

        def found(addresses: Any) -> None:
            for each, address in addresses:
                if each in kinds:
                    kind = _TYPES[each](transportSemantics, *address)
                    resolutionReceiver.addressResolved(kind)
            resolutionReceiver.resolutionComplete()

        known = self._known(hostName, portNumber)
        if known is not None:
            found(known)
            return resolution
        when = int(self._seconds() / SHARED_SECONDS)
        question = (hostName, portNumber, family, _KINDS[transportSemantics])
        looking = self._lookups.run(when, *question)
        looking.addCallbacks(
            lambda results: [(each, address) for each, *_, address in results], self._failed
        )
        looking.addCallback(found)
        looking.addErrback(lambda why: _log.failure("The result of a lookup was not taken", why))
        return resolution

    def _known(self, name: str, port: int) -> list[tuple[int, Any]] | None:
        """The addresses that a name has without a lookup; L{None} if it needs one."""
        if name.lower().removesuffix(".") == "localhost":
            return [(family, (address, port)) for family, address in LOCALHOST]
        try:
            results = self._lookUp(name, port, AF_UNSPEC, SOCK_STREAM, 0, AI_NUMERICHOST)
        except (OSError, UnicodeError):
            return None
        return [(family, address) for family, *_, address in results]

    def _failed(self, why: Any) -> list[Any]:
        # OSError: the name server does not know the name, or is not there.  UnicodeError: no
        # name can look like this.
        # Others, as when no thread can be started, may happen for each request.
        if not why.check(OSError, UnicodeError) and self._logLimit.due() is not None:
            _log.failure("A name can't be looked up", why)
        return []
