"""
Two attempts that run beside each other: L{Race}.

If a response takes long, the reason is often one slow endpoint, not the request.  So after a
while a second attempt, the I{hedge}, is sent to another endpoint.  The first of the two answers
counts, and the other attempt is given up.  Only a failure that a retry may help against does
not count while the other attempt may still go well.

A L{Race} stands between an exchange and the connections of one attempt: the exchange gets a
connection from it and sends on it as on any other.  When an answer comes, the exchange gets the
connection that has it, and the race is over.  So an exchange, and all that follows the head of a
response, know nothing of hedges.

There is at most one hedge for an exchange, it needs a retry of the budget, and only requests with
GET and HEAD without a body have one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from sitio.errors import (
    BadResponse,
    Outrun,
    Reached,
    SitioError,
    UpstreamTimeout,
    asSitioError,
)
from sitio.http.message import Request, Response
from sitio.proxy.retries import FAILED, MAX_ATTEMPTS, takeRetry
from sitio.proxy.upstream import Connection, Endpoint, Slots

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange
    from sitio.proxy.tunnel import Tunnel


class Runner:
    """
    One of the two attempts: takes its response.

    @ivar endpoint: where it is sent.
    @ivar began: when it began; the wait for its connection is a part of it.
    @ivar connection: its connection, once there is one.
    @ivar waiting: fires when there is one.
    """

    def __init__(self, race: Race, endpoint: Endpoint, began: float) -> None:
        self.endpoint = endpoint
        self.began = began
        self.connection: Connection | None = None
        self.waiting: Deferred[Any] | None = None
        self._race = race

    def giveUp(self) -> None:
        """Close its connection, or stop waiting for one."""
        if self.waiting is not None:
            self.waiting.cancel()
        if self.connection is not None:
            self.connection.close()

    # Receiver: called by its connection.

    def interimReceived(self, response: Response) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        self._race.exchange.interimReceived(response)

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        self._race.answered(self, response, body, ended)

    def switched(self, response: Response, data: bytes) -> Tunnel:
        """Never called, as a request for another protocol has no hedge."""
        raise BadResponse("the upstream switched protocols unasked", Reached.ANSWERED)

    def upstreamFailed(self, error: SitioError) -> None:
        """See L{ResponseReceiver<sitio.upstream.receivers.ResponseReceiver>}."""
        self._race.failed(self, error)


class Race:
    """
    The connections of one attempt, and the connection that its exchange gets from them.

    @ivar exchange: the exchange.  It describes the first of the attempts that are under way.
    """

    def __init__(self, exchange: Exchange, endpoint: Endpoint, after: float) -> None:
        """
        @param endpoint: that of the first attempt.
        @param after: seconds from when it is sent to the hedge.
        """
        self.exchange = exchange
        self._endpoint = endpoint
        self._after = after
        self._connection: Connection | None = None
        self._timer: IDelayedCall | None = None
        # Attempts under way, and the one whose answer counts.
        self._runners: list[Runner] = []
        self._winner: Runner | None = None

    # --- Connections: where an exchange gets its connection

    @property
    def uploads(self) -> Slots:
        """The slots of the pool."""
        return self._endpoint.pool.uploads

    def takeIdle(self) -> Connection | None:
        """Take an idle connection, or L{None}."""
        connection = self._endpoint.pool.takeIdle()
        return None if connection is None else self._using(connection)

    def acquire(self, fresh: bool = False) -> Deferred[Any]:
        """Get a connection as soon as one is free.  Cancel the Deferred to stop waiting."""
        return self._endpoint.pool.acquire(fresh).addCallback(self._using)

    def _using(self, connection: Connection) -> Connection:
        self._connection = connection
        # As far as an exchange needs an attempt that waits for the head of a response.
        return cast(Connection, self)

    # --- Connection: until there is an answer

    def sendRequest(
        self, receiver: Any, request: Request, body: bytes, ended: bool, extra: bytes
    ) -> None:
        """Send a request without a body, and again when its answer is late."""
        exchange = self.exchange
        assert self._connection is not None
        runner = Runner(self, self._endpoint, exchange.context.seconds() - exchange.waited)
        self._runners.append(runner)
        clock = exchange.context.clock
        self._timer = clock.callLater(self._after, self._hedge, request, extra)
        self._send(self._connection, runner, request, extra)

    def _send(self, connection: Connection, runner: Runner, request: Request, extra: bytes) -> None:
        runner.waiting = None
        runner.connection = connection
        connection.sendRequest(runner, request, b"", True, extra)

    def leave(self) -> None:
        """No answer has come in time.  The exchange tells the endpoint that it describes."""
        late = UpstreamTimeout("no response in time, at the hedge", Reached.SENT)
        for each in self._runners[1:]:
            if each.connection is not None:
                each.endpoint.failed(late)
            self._note(each, None, late)
        self._stop()

    def close(self, orderly: bool = False) -> None:
        """The exchange has ended before there was an answer."""
        for each in self._runners[1:]:
            self._note(each, None, self.exchange.failure or Outrun())
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        runners, self._runners = self._runners, []
        for each in runners:
            each.giveUp()

    # --- The second attempt

    def _hedge(self, request: Request, extra: bytes) -> None:
        """The answer is late: begin a second attempt, if there are an endpoint and a retry."""
        self._timer = None
        exchange = self.exchange
        upstream, tried = exchange.route.upstream, exchange.tried
        other = None if upstream is None else upstream.choose(exchange, tried)
        if other is None or other in tried or exchange.attempts >= MAX_ATTEMPTS:
            return
        if not takeRetry(exchange):
            return
        exchange.beginBeside(other)
        runner = Runner(self, other, exchange.context.seconds())
        self._runners.append(runner)
        connection = other.pool.takeIdle()
        if connection is not None:
            self._send(connection, runner, request, extra)
            return
        runner.waiting = waiting = other.pool.acquire()
        waiting.addCallback(self._send, runner, request, extra)
        waiting.addErrback(self._notConnected, runner)
        waiting.addErrback(exchange.waitBroke)

    def _notConnected(self, failure: Failure, runner: Runner) -> None:
        runner.waiting = None
        if runner in self._runners:
            self.failed(runner, asSitioError(failure, "no connection to the upstream"))

    # --- Called by runners

    def answered(self, runner: Runner, response: Response, body: bytes, ended: bool) -> None:
        """An attempt has got the head of a response."""
        if len(self._runners) > 1 and response.status in FAILED:
            runner.endpoint.answered(response.status, self._timeOf(runner))
            if not ended and runner.connection is not None:
                runner.connection.leave()
            self._drop(runner, response.status, None)
        else:
            self._end(runner)
            self.exchange.responseReceived(response, body, ended)

    def failed(self, runner: Runner, error: SitioError) -> None:
        """An attempt has failed; or the rest of the response that counts will not arrive."""
        if len(self._runners) > 1:
            runner.endpoint.failed(error)
            self._drop(runner, None, error)
            return
        if runner is not self._winner:
            self._end(runner)
        self.exchange.upstreamFailed(error)

    def _drop(self, runner: Runner, status: int | None, failure: SitioError | None) -> None:
        """Wait for the other attempt only."""
        self._note(runner, status, failure)
        self._runners.remove(runner)
        self.exchange.follow(self._runners[0].endpoint, self._runners[0].began)

    def _end(self, winner: Runner) -> None:
        """This attempt counts: the exchange goes on with its connection."""
        self._winner = winner
        self._runners.remove(winner)
        for each in self._runners:
            self._note(each, None, Outrun())
        self._stop()
        self.exchange.follow(winner.endpoint, winner.began)
        self.exchange.connection = winner.connection

    def _note(self, runner: Runner, status: int | None, failure: SitioError | None) -> None:
        self.exchange.endBeside(status, failure, self._timeOf(runner))

    def _timeOf(self, runner: Runner) -> float:
        return self.exchange.context.seconds() - runner.began
