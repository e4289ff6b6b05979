"""
Whether the upstream is there, for the page /ready.

L{Connecting} tries a connection when it is asked, L{Asking} asks a page of the
upstream's again and again.  Both tell what is wrong as a sentence for the operator,
without its end, or L{None}; and neither waits or holds a connection for long.

Contract: clock, endpoint and HTTP client are passed in.
"""

from __future__ import annotations

from typing import Any, Protocol as Typing

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.net.periodic import Periodic
from sitio.net.singleflight import SingleFlight

#: Seconds for a connection: who asks, as Kubernetes does, often waits for one.
CONNECT_TIMEOUT = 0.75

#: Seconds for which the outcome counts, however often somebody asks.
REMEMBERED = 1.0

#: Seconds from one answer of the page to the next question, and for that answer.
INTERVAL = 2.0
ANSWER_TIMEOUT = 5.0

#: Seconds after which a connection is broken, whatever has become of it.
LIFE = 2 * ANSWER_TIMEOUT


class Health(Typing):
    """Whether the upstream is there."""

    def trouble(self) -> Deferred[str | None]:
        """What keeps it from taking requests, or L{None}.  Never fails."""


@implementer(IStreamClientEndpoint)
class Brief:
    """An endpoint whose connections last for L{LIFE} at most."""

    def __init__(self, clock: IReactorTime, endpoint: IStreamClientEndpoint) -> None:
        self._clock = clock
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}."""
        return self._endpoint.connect(protocolFactory).addCallback(self._bounded)

    def _bounded(self, protocol: Any) -> IProtocol:
        # A TLS peer that does not say goodbye would hold it for ever.
        self._clock.callLater(LIFE, protocol.transport.abortConnection)
        return protocol


class _Knock(Protocol):
    """Leaves as soon as somebody opens."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class _Knocking(Factory):
    """Makes one each time, and no line in the log."""

    protocol = _Knock
    noisy = False


class Connecting:
    """The upstream is there when it accepts a connection at the moment of asking."""

    def __init__(self, clock: IReactorTime, endpoint: IStreamClientEndpoint) -> None:
        self._clock = clock
        self._endpoint = Brief(clock, endpoint)
        self._until = float("-inf")
        self._trouble: str | None = None
        self._attempt: SingleFlight[str | None] = SingleFlight(self._connect)

    def trouble(self) -> Deferred[str | None]:
        """See L{Health}."""
        if self._clock.seconds() < self._until:
            return succeed(self._trouble)
        return self._attempt.run()

    def _connect(self) -> Deferred[str | None]:
        connecting: Deferred[Any] = self._endpoint.connect(_Knocking())
        connecting.addCallbacks(lambda _: None, _whyNot)
        connecting.addTimeout(CONNECT_TIMEOUT, self._clock, _tooLate)
        return connecting.addCallback(self._known)

    def _known(self, trouble: str | None) -> str | None:
        self._trouble = trouble
        self._until = self._clock.seconds() + REMEMBERED
        return trouble


def _whyNot(why: Failure) -> str:
    return f"the upstream can't be reached: {why.getErrorMessage()}"


def _tooLate(result: object, timeout: float) -> str:
    return f"the upstream accepted no connection within {timeout:g} seconds"


class Asking(Service):
    """The upstream is there when a page of its own says so."""

    def __init__(self, clock: IReactorTime, client: Any, host: str, path: str) -> None:
        """
        @param client: a L{treq.client.HTTPClient} that reaches nobody else.
        @param host: what the upstream is told as Host.
        @param path: of the page; a status of 200 to 399 is good.
        """
        self._client = client
        self._host = host
        self._path = path
        self._clock = clock
        self._trouble: str | None = "the upstream has not been asked yet"
        self._asking = Periodic(
            clock,
            INTERVAL,
            self._ask,
            log=Logger(namespace="sitio.admin.health"),
            whenFails="The upstream's health can't be asked for",
            now=True,
        )

    def startService(self) -> None:
        """Begin to ask."""
        Service.startService(self)
        self._asking.startService()

    def stopService(self) -> None:
        """Ask no more."""
        Service.stopService(self)
        self._asking.stopService()

    def trouble(self) -> Deferred[str | None]:
        """See L{Health}."""
        return succeed(self._trouble)

    def _ask(self) -> Deferred[None]:
        # Its name may be none that fits into a URL, as those of containers.
        asked: Deferred[Any] = maybeDeferred(
            self._client.get,
            f"http://localhost{self._path}",
            headers={"Connection": "close", "Host": self._host, "User-Agent": "sitio"},
            allow_redirects=False,
            unbuffered=True,
        )
        asked.addCallback(self._answered).addErrback(self._unasked)
        asked.addTimeout(ANSWER_TIMEOUT, self._clock, self._silent)
        return asked.addCallback(self._known)

    def _answered(self, response: Any) -> str | None:
        # Its body is nobody's business, however long it is.
        rest = Protocol()
        response.deliverBody(rest)
        assert rest.transport is not None
        rest.transport.loseConnection()
        if 200 <= response.code < 400:
            return None
        return f"the upstream says {response.code} when asked for its health"

    def _unasked(self, why: Failure) -> str:
        return f"the upstream can't be asked for its health: {why.getErrorMessage()}"

    def _silent(self, result: object, timeout: float) -> str:
        return f"the upstream says nothing of its health within {timeout:g} seconds"

    def _known(self, trouble: str | None) -> None:
        self._trouble = trouble


def asking(reactor: Any, endpoint: IStreamClientEndpoint, host: str, path: str) -> Asking:
    """
    Ask the upstream for this path.

    @param host: what it is told as Host.
    """
    # Not above: it takes memory, and most ask no page.
    from treq.client import HTTPClient

    from sitio.net.httpclient import agentFor

    agent = agentFor(reactor, Brief(reactor, endpoint))
    return Asking(reactor, HTTPClient(agent), host, path)
