"""
Step 4 of a request (docs/request.md): how an attempt gets a connection to an endpoint.

An upstream with one endpoint that never changes is not asked for it; see
L{Upstream<sitio.proxy.upstream.Upstream>}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.python.failure import Failure

from sitio.errors import ConnectFailed, NoEndpoint, NoRoute, SitioError, asSitioError
from sitio.http.message import Response
from sitio.interfaces import ExchangeState
from sitio.net.deadlines import NEVER
from sitio.proxy.retries import mayRetry, pauseBefore, takeRetry
from sitio.proxy.upstream import Connection, Connections, Endpoint
from sitio.proxy.visible import VisibleExchange
from sitio.proxy.waiting import Waiting

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange

#: Methods of which a second attempt may run beside the first: they are safe, and most requests.
HEDGED_METHODS = ("GET", "HEAD")

#: Endpoints that are tried for one attempt if they can't be connected to.  Each may take the
#: whole connect timeout.
MAX_TRIED = 3


class Connecting(VisibleExchange, Waiting):
    """
    The part of an exchange that gets a connection for an attempt, and gives it up.

    @ivar connection: that connection, until all of the response has arrived.
    """

    deadline = NEVER
    upload: Any
    connection: Connection | None

    def _connectToOne(self, fresh: bool) -> None:
        """Get a connection to one of several endpoints."""
        pool = self._choosePool()
        if pool is not None:
            self._acquire(pool, fresh)
            self._setDeadline()

    def _setDeadline(self) -> None:
        """The upstream may have a timeout of its own for an attempt."""
        if self.state is ExchangeState.WAITING:
            self.progress()

    def _rested(self, result: None) -> None:
        self.addWaitedTime()
        route, self.routeOfRetry = self.routeOfRetry, None
        if route is not None and route is not self.route:
            # Another upstream, which a response policy has chosen: its endpoints are others.
            self.route, self.endpoint, self.tried = route, None, ()
        self._connect()

    def _choosePool(self) -> Connections | None:
        """
        Choose the endpoint of a new attempt.

        @return: its connections; L{None} if there is none, and the exchange goes on without.
        """
        upstream = self.route.upstream
        if upstream is None:
            self.attempts -= 1
            self.refuse(NoRoute())
            return None
        endpoint = upstream.choose(self, self.tried)
        self.endpoint = endpoint
        if endpoint is None:
            self.fail(NoEndpoint(f"the upstream {upstream.name} has no endpoint"))
            return None
        self.tried = (*self.tried, endpoint)
        return self._poolOf(endpoint)

    def _poolOf(self, endpoint: Endpoint) -> Connections:
        """The connections to an endpoint; those of a race if a second attempt may run beside."""
        upstream, request = self.route.upstream, self.request
        retries = None if upstream is None else upstream.retries
        after = None if retries is None else retries.hedgeAfter
        if after is None or self.hedged or self.upload is not None or request.content != b"":
            return endpoint.pool
        if request.method not in HEDGED_METHODS or request.upgrade is not None:
            return endpoint.pool
        # Imported here, as few upstreams have it.
        from sitio.proxy.hedge import Race

        return Race(cast("Exchange", self), endpoint, after)

    def leaveUpstream(self) -> None:
        """Give up the rest of the upstream's response."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.leave()

    def mayRetry(self) -> bool:
        """For L{Chain}: whether the request is sent again; that takes a retry of the budget."""
        may = mayRetry(self.attempts, self._reached, self.request, self.upload)
        return may and self.context.seconds() < self.lateAt and takeRetry(self)

    def repeats(self, response: Response) -> bool:
        """
        Send the request again after this response, if the upstream is configured so.

        @return: whether it will be sent again; else the response counts.
        """
        if self.state not in (ExchangeState.CONNECTING, ExchangeState.WAITING):
            # Policies decide about a response whose body has broken off.
            return False
        pause = pauseBefore(self, response, self.upload)
        if pause is None:
            return False
        self.leaveUpstream()
        self.rest(pause)
        return True

    def beginBeside(self, endpoint: Endpoint) -> None:
        """Count a second attempt, beside the one under way.  The time of an attempt begins anew."""
        self.attempts += 1
        self.hedged = True
        self.tried = (*self.tried, endpoint)
        self.route.budget.hedges += 1
        self.progress()

    def follow(self, endpoint: Endpoint, began: float) -> None:
        """
        Describe the attempt at this endpoint, of two beside each other.

        @param began: when it began.
        """
        if self.endpoint is not endpoint:
            self.endpoint = endpoint
            self.upstreamTime += began - self._since
            self._since = began
            self._told = self.connectTime + self.upstreamTime

    def _chooseOther(self, error: SitioError) -> Connections | None:
        """
        Choose another endpoint for the same attempt, as there is no connection to the first.

        @return: its connections; L{None} if there is no other, or if no endpoint is to blame.
        """
        upstream, endpoint, tried = self.route.upstream, self.endpoint, self.tried
        if upstream is None or endpoint is None or not isinstance(error, ConnectFailed):
            return None
        if len(tried) % MAX_TRIED == 0:
            return None
        other = upstream.choose(self, tried)
        if other is None or other in tried:
            return None
        endpoint.failed(error)
        self.endpoint = other
        self.tried = (*tried, other)
        return self._poolOf(other)

    def _acquire(self, pool: Connections, fresh: bool = False) -> None:
        self.pool = pool
        connections = self.upload or pool
        connection = None if fresh else connections.takeIdle()
        if connection is None:
            self.deadline = NEVER  # The pool has its own timeout.
            self._since = self.context.seconds()
            self.wait(connections.acquire(fresh), self._connected)
        else:
            self._sendRequest(connection)

    def _connected(self, result: Any) -> None:
        self.connectTime += self.context.seconds() - self._since
        if not isinstance(result, Failure):
            self._sendRequest(result)
            if self.endpoint is not None:
                self._setDeadline()
            return
        error = asSitioError(result, "no connection to the upstream")
        other = None if self.endpoint is None else self._chooseOther(error)
        if other is None:
            self.fail(error)
        else:
            self._acquire(other)

    # What an exchange does next.

    def _connect(self, fresh: bool = False) -> None:
        raise NotImplementedError

    def _sendRequest(self, connection: Connection) -> None:
        raise NotImplementedError

    def refuse(self, error: SitioError) -> None:
        raise NotImplementedError

    def fail(self, error: SitioError) -> None:
        raise NotImplementedError

    def progress(self) -> None:
        raise NotImplementedError

    def rest(self, seconds: float) -> None:
        raise NotImplementedError
