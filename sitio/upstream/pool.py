"""
The connections to the upstream: L{UpstreamPool}.

The pool hands out idle connections first, the most recently used one of them, so that
the others expire.  It opens new ones up to a limit.  Beyond the limit, requests wait in
a bounded queue, each for a bounded time.  It knows neither messages nor exchanges.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NoReturn, TypedDict

from twisted.internet import error
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from sitio.errors import ConnectFailed, ConnectTimeout, PoolExhausted, Stopped
from sitio.http.framing import Limits
from sitio.net.deadlines import Deadlines
from sitio.settings import Settings
from sitio.upstream.client import ProxyClient, ProxyClientFactory

#: Seconds to read the rest of an unwanted response, and to send what was written before
#: a connection is closed.
CLOSE_TIMEOUT_SECONDS = 5.0


class PoolCounts(TypedDict):
    """What a pool has done so far; C{waitedSeconds} is the sum of all waits."""

    opened: int
    failed: int
    waited: int
    waitedSeconds: float


class UpstreamPool:
    """
    Connections to one upstream.

    @ivar size: connections open or being opened, idle ones included; at most
        C{settings.poolSize}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        settings: Settings,
        deadlines: Deadlines,
    ) -> None:
        self.size = 0
        self._clock = clock
        self._endpoint = endpoint
        self._settings = settings
        self._deadlines = deadlines
        # The bodies of responses have no limit: they stream.
        self._limits = Limits(head=settings.maxHead, fields=settings.maxFields)
        # All whose transports are not closed yet, also those that do not count any more.
        self._alive: set[ProxyClient] = set()
        self._idle: list[ProxyClient] = []
        self._opening: set[Deferred[ProxyClient]] = set()
        # Requests that wait, the longest wait first, and whether each needs a fresh one.
        self._waiting: OrderedDict[Deferred[ProxyClient], bool] = OrderedDict()
        # How many connections are being opened for those, and whether a caller further
        # up the stack is opening them.
        self._coming = 0
        self._serving = False
        self._stopped: Deferred[None] | None = None
        self._counts: PoolCounts = {"opened": 0, "failed": 0, "waited": 0, "waitedSeconds": 0.0}

    def __repr__(self) -> str:
        return (
            f"<UpstreamPool {self.size} open, {len(self._idle)} idle, {len(self._waiting)} waiting>"
        )

    def snapshot(self) -> dict[str, int]:
        """How many connections are open and idle, how many requests wait, as plain data."""
        return {"open": self.size, "idle": len(self._idle), "waiting": len(self._waiting)}

    def counts(self) -> PoolCounts:
        """What it has done so far, as plain data."""
        return {**self._counts}

    def takeIdle(self) -> ProxyClient | None:
        """An idle connection, or L{None}.  The caller sends a request on it or closes it."""
        return self._idle.pop() if self._idle else None

    def acquire(self, fresh: bool = False) -> Deferred[ProxyClient]:
        """
        A connection as soon as there is one.  Cancel the Deferred to stop waiting.

        @param fresh: whether it must be one that has carried no request yet.

        @return: fires with a L{ProxyClient}, or fails with L{PoolExhausted},
            L{ConnectTimeout} or L{ConnectFailed}; with L{Stopped} after L{stop}.
        """
        if self._stopped is not None:
            return fail(Stopped())
        if not fresh and self._idle:
            return succeed(self._idle.pop())
        if self.size >= self._settings.poolSize and self._idle:
            self._idle[0].close(orderly=True)
        if self.size < self._settings.poolSize:
            return self._open().addErrback(self._notOpened)
        if len(self._waiting) >= self._settings.poolQueue:
            return fail(PoolExhausted(f"{self._settings.poolQueue} requests wait already"))
        waiter: Deferred[ProxyClient] = Deferred(self._waiting.__delitem__)
        self._waiting[waiter] = fresh
        waiter.addTimeout(self._settings.poolTimeout, self._clock, self._waitedTooLong)
        return waiter.addBoth(self._waited, self._clock.seconds())

    def _waited(self, result: Any, since: float) -> Any:
        self._counts["waited"] += 1
        self._counts["waitedSeconds"] += self._clock.seconds() - since
        return result

    def _waitedTooLong(self, result: object, timeout: float) -> NoReturn:
        raise PoolExhausted(f"no upstream connection was free for {timeout:g} seconds")

    def _open(self) -> Deferred[ProxyClient]:
        self.size += 1
        factory = ProxyClientFactory(self, self._limits)
        opening: Deferred[Any] = maybeDeferred(self._endpoint.connect, factory)
        self._opening.add(opening)

        def settled(result: ProxyClient | Failure) -> ProxyClient | Failure:
            self._opening.discard(opening)
            # Not every endpoint can be cancelled: it may connect later, when the
            # connection is not wanted any more.
            factory.wanted = False
            return result

        opening.addTimeout(self._settings.connectTimeout, self._clock, self._openedTooLate)
        opening.addBoth(settled)
        return opening.addCallbacks(self._opened, self._failed)

    def _openedTooLate(self, result: object, timeout: float) -> NoReturn:
        raise ConnectTimeout(f"no connection to the upstream within {timeout:g} seconds")

    def _opened(self, client: ProxyClient) -> ProxyClient:
        self._counts["opened"] += 1
        self._alive.add(client)
        self._deadlines.watch(client)
        return client

    def _failed(self, failure: Failure) -> NoReturn:
        self.size -= 1
        self._counts["failed"] += 1
        cause = failure.value
        if isinstance(cause, ConnectFailed):
            raise cause
        kind = ConnectTimeout if isinstance(cause, error.TimeoutError) else ConnectFailed
        raise kind("no connection to the upstream", cause=cause)

    def _notOpened(self, failure: Failure) -> Failure:
        self._serve()
        return failure

    def _serve(self) -> None:
        """Open connections for the requests that wait, up to the limit."""
        if self._stopped is not None:
            self._checkStopped()
        elif not self._serving:
            self._serving = True
            # In a loop, as connections may fail at once.
            while self._coming < len(self._waiting) and self.size < self._settings.poolSize:
                self._coming += 1
                self._open().addCallbacks(self._came, self._refuse)
            self._serving = False

    def _came(self, client: ProxyClient) -> None:
        self._coming -= 1
        self.released(client)

    def _refuse(self, failure: Failure) -> None:
        self._coming -= 1
        # It was not opened for one request, so the one that waits longest fails.
        if self._waiting:
            self._waiting.popitem(last=False)[0].errback(failure)
        self._serve()

    # --- ConnectionOwner: what connections call

    def released(self, client: ProxyClient) -> None:
        """It is idle: the request that waits longest gets it, or it is kept for a while."""
        if self._stopped is not None:
            client.close(orderly=True)
        elif self._waiting:
            waiter, fresh = next(iter(self._waiting.items()))
            if fresh and client.carried:
                # That makes room for another, which is opened at once.
                client.close(orderly=True)
            else:
                del self._waiting[waiter]
                waiter.callback(client)
        else:
            client.deadline = self._clock.seconds() + self._settings.upstreamIdleTimeout
            self._idle.append(client)

    def discarding(self, client: ProxyClient) -> None:
        """It reads the rest of an unwanted response, in bounded time."""
        client.deadline = self._clock.seconds() + CLOSE_TIMEOUT_SECONDS

    def lost(self, client: ProxyClient) -> None:
        """It will not be used again.  It does not count any more, but still has to close."""
        client.deadline = self._clock.seconds() + CLOSE_TIMEOUT_SECONDS
        if client in self._idle:
            self._idle.remove(client)
        self.size -= 1
        self._serve()

    def closed(self, client: ProxyClient) -> None:
        """Its transport is closed."""
        self._alive.discard(client)
        self._deadlines.forget(client)
        self._checkStopped()

    # --- The end

    def stop(self) -> Deferred[None]:
        """
        Close idle connections and refuse waiting requests; fires once all are closed.

        A connection in use is closed when its exchange ends.
        """
        if self._stopped is None:
            self._stopped = Deferred()
            while self._idle:
                self._idle[-1].close(orderly=True)
            while self._waiting:
                self._waiting.popitem(last=False)[0].errback(Stopped())
            for each in list(self._opening):
                each.cancel()
            self._checkStopped()
        done: Deferred[None] = Deferred()
        self._stopped.chainDeferred(done)
        return done

    def _checkStopped(self) -> None:
        if self._stopped is None or self._stopped.called:
            return
        if not self.size and not self._alive:
            self._stopped.callback(None)
