"""
Health checks of the upstream, for the page /ready.

L{ConnectionCheck} opens a connection when it is asked.  L{HttpCheck} requests a page of
the upstream every few seconds.  Both return what is wrong as a sentence for the operator,
without a full stop, or L{None}.  Neither waits for long or keeps a connection.

Contract: clock, endpoint and HTTP client are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol as Typing

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.net.handshake import HandshakeEndpoint
from sitio.net.periodic import Periodic
from sitio.net.singleflight import SingleFlight

#: Seconds for a connection.  Probes of Kubernetes wait for a second, by default.
CONNECT_SECONDS = 0.75

#: Seconds for which the result of a connection is used again.
CACHE_SECONDS = 1.0

#: Seconds from one request of the page to the next, and for its response.
INTERVAL_SECONDS = 2.0
RESPONSE_SECONDS = 5.0

#: Seconds after which a connection is aborted, whatever its state.
MAX_CONNECTION_SECONDS = 2 * RESPONSE_SECONDS


class HealthCheck(Typing):
    """Finds out whether the upstream accepts requests."""

    def problem(self) -> Deferred[str | None]:
        """What keeps the upstream from accepting requests, or L{None}.  Never fails."""


@implementer(IStreamClientEndpoint)
class ShortLivedEndpoint:
    """
    An endpoint that aborts its connections after L{MAX_CONNECTION_SECONDS}.

    With TLS, it connects when the handshake has ended.
    """

    def __init__(self, clock: IReactorTime, endpoint: IStreamClientEndpoint) -> None:
        self._clock = clock
        self._endpoint = HandshakeEndpoint(endpoint)

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}."""
        return self._endpoint.connect(protocolFactory).addCallback(self._limit)

    def _limit(self, protocol: Any) -> IProtocol:
        # A TLS peer that never answers close_notify would hold the connection for ever.
        self._clock.callLater(MAX_CONNECTION_SECONDS, protocol.transport.abortConnection)
        return protocol


#: Endpoints that are connected to for one check.
MAX_ENDPOINTS = 16


@implementer(IStreamClientEndpoint)
class AnyEndpoint:
    """
    Connects to several endpoints at once: the first connection counts, others are closed.

    @ivar isKnown: whether there are any: those of an upstream that only DNS knows are not.
    """

    def __init__(self, endpoints: Callable[[], Sequence[IStreamClientEndpoint]]) -> None:
        """
        @param endpoints: asked at each connection; of many, the first L{MAX_ENDPOINTS} are used.
        """
        self._endpoints = endpoints

    @property
    def isKnown(self) -> bool:
        return bool(self._endpoints())

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See L{IStreamClientEndpoint}.  Fails as the last of them does."""
        endpoints = self._endpoints()[:MAX_ENDPOINTS]
        if len(endpoints) == 1:
            return endpoints[0].connect(protocolFactory)
        if not endpoints:
            return fail(ConnectError(string="no endpoint of it is known"))
        attempts: list[Deferred[Any]] = []

        def giveUp(_: object) -> None:
            for each in attempts:
                each.cancel()

        first: Deferred[Any] = Deferred(giveUp)
        left = len(endpoints)

        def connected(protocol: Any) -> None:
            if first.called:
                protocol.transport.abortConnection()
                return
            first.callback(protocol)
            giveUp(None)

        def failed(why: Failure) -> None:
            nonlocal left
            left -= 1
            if not left and not first.called:
                first.errback(why)

        for each in endpoints:
            attempts.append(each.connect(protocolFactory).addCallbacks(connected, failed))
        return first


class _SilentFactory(Factory):
    """Makes protocols that do nothing, without log lines."""

    protocol = Protocol
    noisy = False


class ConnectionCheck:
    """
    The upstream is healthy if it accepts a connection at the moment of the request.

    With TLS that includes the handshake, so its certificate must be trusted.
    """

    def __init__(self, clock: IReactorTime, endpoint: IStreamClientEndpoint) -> None:
        """
        @param endpoint: of an L{AnyEndpoint} that knows none, nothing is wrong.
        """
        self._clock = clock
        self._target = endpoint
        self._endpoint = ShortLivedEndpoint(clock, endpoint)
        self._until = float("-inf")
        self._problem: str | None = None
        self._attempt: SingleFlight[str | None] = SingleFlight(self._connect)

    def problem(self) -> Deferred[str | None]:
        """See L{HealthCheck}."""
        if isinstance(self._target, AnyEndpoint) and not self._target.isKnown:
            return succeed(None)
        if self._clock.seconds() < self._until:
            return succeed(self._problem)
        return self._attempt.run()

    def _connect(self) -> Deferred[str | None]:
        connecting: Deferred[Any] = self._endpoint.connect(_SilentFactory())
        connecting.addCallbacks(_close, _connectFailed)
        connecting.addTimeout(CONNECT_SECONDS, self._clock, _connectTimedOut)
        return connecting.addCallback(self._remember)

    def _remember(self, problem: str | None) -> str | None:
        self._problem = problem
        self._until = self._clock.seconds() + CACHE_SECONDS
        return problem


def _close(protocol: Any) -> None:
    protocol.transport.loseConnection()


def _connectFailed(reason: Failure) -> str:
    return f"the upstream can't be reached: {reason.getErrorMessage()}"


def _connectTimedOut(result: object, timeout: float) -> str:
    return f"the upstream accepted no connection within {timeout:g} seconds"


class HttpCheck(Service):
    """The upstream is healthy if a page of its own answers with 200 to 399."""

    def __init__(self, clock: IReactorTime, client: Any, host: str, path: str) -> None:
        """
        @param client: a L{treq.client.HTTPClient} that reaches only the upstream.
        @param host: for the Host field of the requests.
        @param path: of the page.
        """
        self._client = client
        self._host = host
        self._path = path
        self._clock = clock
        self._problem: str | None = "the upstream's health has not been checked yet"
        self._checks = Periodic(
            clock,
            INTERVAL_SECONDS,
            self._check,
            log=Logger(namespace="sitio.admin.health"),
            whenFails="The upstream's health can't be checked",
            now=True,
        )

    def startService(self) -> None:
        """Begin to request the page."""
        Service.startService(self)
        self._checks.startService()

    def stopService(self) -> None:
        """Stop."""
        Service.stopService(self)
        self._checks.stopService()

    def problem(self) -> Deferred[str | None]:
        """See L{HealthCheck}."""
        return succeed(self._problem)

    def _check(self) -> Deferred[None]:
        # Not the upstream's name: names of containers may not be valid in a URL.
        check: Deferred[Any] = maybeDeferred(
            self._client.get,
            f"http://localhost{self._path}",
            headers={"Connection": "close", "Host": self._host, "User-Agent": "sitio"},
            allow_redirects=False,
            unbuffered=True,
        )
        check.addCallback(self._responded).addErrback(self._failed)
        check.addTimeout(RESPONSE_SECONDS, self._clock, self._timedOut)
        return check.addCallback(self._remember)

    def _responded(self, response: Any) -> str | None:
        # The body is not read: it may be long.
        body = Protocol()
        response.deliverBody(body)
        assert body.transport is not None
        body.transport.loseConnection()
        if 200 <= response.code < 400:
            return None
        return f"the upstream's health check answered {response.code}"

    def _failed(self, reason: Failure) -> str:
        return f"the upstream's health check failed: {reason.getErrorMessage()}"

    def _timedOut(self, result: object, timeout: float) -> str:
        return f"the upstream's health check did not answer within {timeout:g} seconds"

    def _remember(self, problem: str | None) -> None:
        self._problem = problem


def makeHttpCheck(reactor: Any, endpoint: IStreamClientEndpoint, host: str, path: str) -> HttpCheck:
    """
    Make the check that C{--health-path} asks for.

    @param host: for the Host field of the requests.
    @param path: of the page.
    """
    # Imported here, as it takes memory and few use this check.
    from treq.client import HTTPClient

    from sitio.net.httpclient import agentFor

    agent = agentFor(reactor, ShortLivedEndpoint(reactor, endpoint))
    return HttpCheck(reactor, HTTPClient(agent), host, path)
