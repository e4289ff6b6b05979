"""
Active health checks: L{HealthCheck} asks one endpoint for a page, again and again.

It asks with the same client that carries requests, L{ProxyClient<sitio.upstream.client>}, on
connections that are made the same way.  So what it finds out holds for them: TLS, the
certificate, the name, the framing.

Contract: the clock, the source of random numbers and the pool are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.errors import BadResponse, Reached, SitioError
from sitio.http.head import Fields
from sitio.http.message import Headers, Request, Response
from sitio.upstream.client import ProxyClient
from sitio.upstream.endpoint import Endpoint
from sitio.upstream.pool import UpstreamPool
from sitio.upstream.receivers import TunnelEnd

#: The part of an interval by which checks come earlier or later, so that those of many
#: endpoints and many sidecars don't come together.
JITTER = 0.1


@frozen
class HealthSettings:
    """
    How endpoints are checked.

    @ivar path: of the page, with its query if it has one.  Its status must be 200 to 399.
    @ivar interval: seconds from the start of one check to the start of the next.
    @ivar timeout: seconds from the start of a check to the head of its response.
    @ivar healthy: successes in a row after which an unhealthy endpoint is healthy.
    @ivar unhealthy: failures in a row after which a healthy endpoint is unhealthy.
    @ivar host: for the Host field; empty for that of the endpoint.
    """

    path: str
    interval: float = 2.0
    timeout: float = 1.0
    healthy: int = 2
    unhealthy: int = 3
    host: str = ""


class _Response:
    """
    Takes the response to one check.

    @ivar ended: fires with L{None} if it is good, else with what is wrong.
    """

    def __init__(self, client: ProxyClient) -> None:
        self.ended: Deferred[str | None] = Deferred(lambda _: client.close())
        self._client = client

    def interimReceived(self, response: Response) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        if not ended and response.length is not None:
            # A short body is read, and dropped: the endpoint would log the reset of its
            # connection at each check.
            self._client.leave()
        elif not ended:
            self._client.close()
        if 200 <= response.status < 400:
            self.ended.callback(None)
        else:
            self.ended.callback(f"its health check answered {response.status}")

    def switched(self, response: Response, data: bytes) -> TunnelEnd:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        raise BadResponse("a health check asks for no other protocol", Reached.ANSWERED)

    def upstreamFailed(self, error: SitioError) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        self.ended.errback(error)

    # BodyReceiver: it is never named as one.

    def responseBody(self, data: bytes) -> None:
        """See L{BodyReceiver<sitio.upstream.receivers.BodyReceiver>}."""

    def responseEnded(self, trailers: Fields) -> None:
        """See L{BodyReceiver<sitio.upstream.receivers.BodyReceiver>}."""


class HealthCheck:
    """
    Checks one endpoint from L{start} to L{stop}.

    An endpoint is healthy until its first check has ended, which decides at once; later the
    thresholds do.  A check that lasts longer than an interval delays the next one.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: HealthSettings,
        clock: IReactorTime,
        random: Callable[[], float],
        pool: UpstreamPool,
        changed: Callable[[Endpoint], None],
        log: Logger,
    ) -> None:
        """
        @param pool: a pool of its own that connects as the endpoint's does.  So checks neither
            wait for requests nor take a connection from them.
        @param changed: called when the endpoint has become healthy or unhealthy.
        """
        self._endpoint = endpoint
        self._settings = settings
        self._clock = clock
        self._random = random
        self._pool = pool
        self._changed = changed
        self._log = log
        self._next: IDelayedCall | None = None
        self._check: Deferred[Any] | None = None
        self._isStopped = True
        self._hasEnded = False
        self._inARow = 0
        # Each connection is closed after its response: it says whether new ones are accepted.
        pool.retire()

    def start(self) -> None:
        """Begin, with a check within the tenth part of an interval."""
        self._isStopped = False
        self._plan(self._settings.interval * JITTER * self._random())

    def stop(self) -> Deferred[None]:
        """
        End, and give up a check under way.

        @return: fires when its connection has closed.
        """
        self._isStopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._check is not None:
            self._check.cancel()
        return self._pool.stop()

    def _plan(self, seconds: float) -> None:
        self._next = self._clock.callLater(max(seconds, 0), self._begin)

    def _begin(self) -> None:
        self._next = None
        began = self._clock.seconds()
        self._check = check = self._pool.acquire(fresh=True).addCallback(self._ask)
        check.addTimeout(self._settings.timeout, self._clock, self._tooLate)
        check.addErrback(_sentence)
        check.addCallback(self._ended, began)

    def _ask(self, client: ProxyClient) -> Deferred[str | None]:
        receiver = _Response(client)
        fields = {
            "Host": self._settings.host or "localhost",
            "User-Agent": "sitio",
            "Accept": "*/*",
        }
        client.sendRequest(
            receiver, Request("GET", self._settings.path, Headers(fields)), b"", True
        )
        return receiver.ended

    def _tooLate(self, result: object, timeout: float) -> str:
        return f"its health check was not answered within {timeout:g} seconds"

    def _ended(self, problem: str | None, began: float) -> None:
        self._check = None
        if self._isStopped:
            return
        self._count(problem)
        interval = self._settings.interval * (1 + JITTER * (2 * self._random() - 1))
        self._plan(began + interval - self._clock.seconds())

    def _count(self, problem: str | None) -> None:
        endpoint, isGood = self._endpoint, problem is None
        if problem is not None:
            endpoint.failing(problem)
        isFirst, self._hasEnded = not self._hasEnded, True
        if isGood is endpoint.isHealthy:
            self._inARow = 0
            return
        self._inARow += 1
        needed = self._settings.healthy if isGood else self._settings.unhealthy
        if not isFirst and self._inARow < needed:
            return
        self._inARow = 0
        endpoint.isHealthy = isGood
        if isGood:
            endpoint.warm()
            self._log.info("{address} is healthy again", address=endpoint.address)
        else:
            self._log.warn("{address} is unhealthy: {why}", address=endpoint.address, why=problem)
        self._changed(endpoint)


def _sentence(failure: Failure) -> str:
    return f"its health check failed: {failure.getErrorMessage()}"
