"""
Step 4 of a request (docs/request.md): how an attempt gets a connection to an endpoint.

An upstream with one endpoint that never changes is not asked for it; see
L{Upstream<sitio.proxy.upstream.Upstream>}.
"""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure

from sitio.errors import ConnectFailed, NoEndpoint, NoRoute, SitioError, asSitioError
from sitio.net.deadlines import NEVER
from sitio.proxy.upstream import Connection, Connections
from sitio.proxy.visible import VisibleExchange
from sitio.proxy.waiting import Waiting

#: Endpoints that are tried for one attempt if they can't be connected to.  Each may take the
#: whole connect timeout.
MAX_TRIED = 3


class Connecting(VisibleExchange, Waiting):
    """The part of an exchange that waits for a connection."""

    deadline = NEVER
    upload: Any

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
        return endpoint.pool

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
        return other.pool

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
            return
        error = asSitioError(result, "no connection to the upstream")
        other = None if self.endpoint is None else self._chooseOther(error)
        if other is None:
            self.fail(error)
        else:
            self._acquire(other)

    # What an exchange does next.

    def _sendRequest(self, connection: Connection) -> None:
        raise NotImplementedError

    def refuse(self, error: SitioError) -> None:
        raise NotImplementedError

    def fail(self, error: SitioError) -> None:
        raise NotImplementedError
