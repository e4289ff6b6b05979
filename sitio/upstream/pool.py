"""
The connections to the upstream: L{UpstreamPool}.

The pool hands out idle connections first, the most recently used of them, so that the
others expire.  It opens new ones up to a limit.  Beyond the limit, requests wait in a
bounded queue, each for a bounded time.  It knows neither messages nor exchanges.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NoReturn, TypedDict

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from sitio.errors import ConnectFailed, ConnectTimeout, PoolExhausted, Stopped
from sitio.http.limits import Limits
from sitio.http.writer import MakeWriter, RequestWriter
from sitio.net.deadlines import Deadlines
from sitio.net.descriptors import areLacking
from sitio.settings import Settings
from sitio.upstream.client import ProxyClient, ProxyClientFactory
from sitio.upstream.uploadslots import UploadSlots

#: Longest time, in seconds, to read the rest of an unwanted response, or to flush writes
#: before a connection closes.
CLOSE_TIMEOUT_SECONDS = 5.0

#: Longest time, in seconds, for the close of an idle connection when sitio stops.  Only TLS
#: takes any: it waits for the upstream's close_notify.
CLOSE_NOTIFY_SECONDS = 1.0

#: Seconds until the next attempt to open a connection when there are no descriptors left.
LACK_SECONDS = 0.25


class _DescriptorsLacking(Exception):
    """A connection was not opened, as this process has no descriptors left."""


class PoolCounts(TypedDict):
    """What a pool has done so far; C{waitedSeconds} is the sum of all waits."""

    opened: int
    failed: int
    waited: int
    waitedSeconds: float


NO_COUNTS: PoolCounts = {"opened": 0, "failed": 0, "waited": 0, "waitedSeconds": 0.0}


def addCounts(one: PoolCounts, two: PoolCounts) -> PoolCounts:
    """What two pools have done."""
    return {
        "opened": one["opened"] + two["opened"],
        "failed": one["failed"] + two["failed"],
        "waited": one["waited"] + two["waited"],
        "waitedSeconds": one["waitedSeconds"] + two["waitedSeconds"],
    }


class UpstreamPool:
    """
    Connections to one upstream.

    @ivar clock: measures the waits.
    @ivar uploads: bounds the connections that requests with incomplete bodies hold.
    @ivar size: connections open or being opened, idle ones included; at most
        C{settings.poolSize}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        settings: Settings,
        deadlines: Deadlines,
        makeWriter: MakeWriter = RequestWriter,
    ) -> None:
        """
        @param makeWriter: makes what writes the requests of a connection.
        """
        self.size = 0
        self.clock = clock
        self._endpoint = endpoint
        self._settings = settings
        self._deadlines = deadlines
        self._makeWriter = makeWriter
        # The bodies of responses have no limit: they stream.
        self._limits = Limits(
            head=settings.maxHead, fields=settings.maxFields, interim=settings.maxInterim
        )
        # All with an open transport, also those that no longer count in size.
        self._alive: set[ProxyClient] = set()
        self._idle: list[ProxyClient] = []
        self._opening: set[Deferred[ProxyClient]] = set()
        # Waiting requests, oldest first, and whether each needs a fresh connection.
        self._waiting: OrderedDict[Deferred[ProxyClient], bool] = OrderedDict()
        # How many connections are being opened for them, and whether _serve is running
        # further up the stack.
        self._coming = 0
        self._serving = False
        # While there are no descriptors left: the next attempt to open a connection.
        self._lack: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._keepsIdle = True
        # Requests that were sent on connections which have closed.
        self._sent = 0
        self.uploads = UploadSlots(clock, settings)
        self._counts: PoolCounts = {**NO_COUNTS}

    def __repr__(self) -> str:
        return (
            f"<UpstreamPool {self.size} open, {len(self._idle)} idle, {len(self._waiting)} waiting>"
        )

    @property
    def outstanding(self) -> int:
        """Requests that have a connection or wait for one."""
        return self.size - len(self._idle) - self._coming + len(self._waiting)

    @property
    def sent(self) -> int:
        """How many requests its connections have carried so far."""
        return self._sent + sum(each.carried for each in self._alive)

    def snapshot(self) -> dict[str, int]:
        """The current numbers of open and idle connections and of waiting requests."""
        return {"open": self.size, "idle": len(self._idle), "waiting": len(self._waiting)}

    def counts(self) -> PoolCounts:
        """A copy of the totals so far."""
        return {**self._counts}

    def takeIdle(self) -> ProxyClient | None:
        """Take an idle connection, or L{None}.  The caller sends a request or closes it."""
        return self._idle.pop() if self._idle else None

    def takeThis(self, client: ProxyClient) -> bool:
        """Take this connection, if it is idle; returns whether it was."""
        if client in self._idle:
            self._idle.remove(client)
            return True
        return False

    def acquire(self, fresh: bool = False) -> Deferred[ProxyClient]:
        """
        Get a connection as soon as one is free.  Cancel the Deferred to stop waiting.

        @param fresh: whether the connection must not have carried a request yet.

        @return: fires with a L{ProxyClient}, or fails with L{PoolExhausted},
            L{ConnectTimeout} or L{ConnectFailed}; with L{Stopped} after L{stop}.
        """
        if self._stopped is not None:
            return fail(Stopped())
        if not fresh and self._idle:
            return succeed(self._idle.pop())
        if self._idle and not self._mayOpen:
            self._idle[0].close(orderly=True)
        if self._mayOpen:
            opening: Deferred[Any] = self._open()
            return opening.addErrback(self._notOpened, fresh)
        return self._wait(fresh)

    @property
    def _mayOpen(self) -> bool:
        return self.size < self._settings.poolSize and self._lack is None

    def _wait(self, fresh: bool) -> Deferred[ProxyClient]:
        if len(self._waiting) >= self._settings.poolQueue:
            return fail(PoolExhausted(f"{self._settings.poolQueue} requests wait already"))
        waiter: Deferred[ProxyClient] = Deferred(self._waiting.__delitem__)
        self._waiting[waiter] = fresh
        waiter.addTimeout(self._settings.poolTimeout, self.clock, self._waitedTooLong)
        return waiter.addBoth(self._waited, self.clock.seconds())

    def _waited(self, result: Any, since: float) -> Any:
        self._counts["waited"] += 1
        self._counts["waitedSeconds"] += self.clock.seconds() - since
        return result

    def _waitedTooLong(self, result: object, timeout: float) -> NoReturn:
        why = "; there are no file descriptors left" if self._lack is not None else ""
        raise PoolExhausted(f"no upstream connection was free for {timeout:g} seconds{why}")

    def _open(self) -> Deferred[ProxyClient]:
        self.size += 1
        factory = ProxyClientFactory(self, self._limits, self._makeWriter)
        opening: Deferred[Any] = maybeDeferred(self._endpoint.connect, factory)
        self._opening.add(opening)

        def settled(result: ProxyClient | Failure) -> ProxyClient | Failure:
            self._opening.discard(opening)
            # Some endpoints ignore a cancel and connect later: such a connection must
            # be closed.
            factory.wanted = False
            return result

        opening.addTimeout(self._settings.connectTimeout, self.clock, self._openedTooLate)
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
        if self._stopped is None and not failure.check(CancelledError) and areLacking(cause):
            self._lack = self._lack or self.clock.callLater(LACK_SECONDS, self._lackEnds)
            raise _DescriptorsLacking
        kind = ConnectTimeout if isinstance(cause, error.TimeoutError) else ConnectFailed
        raise kind("no connection to the upstream", cause=cause)

    def _lackEnds(self) -> None:
        self._lack = None
        self._serve()

    def _notOpened(self, failure: Failure, fresh: bool) -> Any:
        if failure.check(_DescriptorsLacking):
            # As with a full pool: another connection may become free.
            return self._wait(fresh)
        self._serve()
        return failure

    def _serve(self) -> None:
        """Open connections for the requests that wait, up to the limit."""
        if self._stopped is not None:
            self._checkStopped()
        elif not self._serving:
            self._serving = True
            # A loop, as a connection may fail at once and free its place.
            while self._coming < len(self._waiting) and self._mayOpen:
                self._coming += 1
                self._open().addCallbacks(self._came, self._refuse)
            self._serving = False

    def _came(self, client: ProxyClient) -> None:
        self._coming -= 1
        self.released(client)

    def _refuse(self, failure: Failure) -> None:
        self._coming -= 1
        if failure.check(_DescriptorsLacking):
            return
        # It was not opened for a certain request: the oldest waiting request fails.
        if self._waiting:
            self._waiting.popitem(last=False)[0].errback(failure)
        self._serve()

    # --- ConnectionOwner: what connections call

    def released(self, client: ProxyClient) -> None:
        """An idle connection goes to the oldest waiting request, or is kept for a while."""
        if self._waiting:
            waiter, fresh = next(iter(self._waiting.items()))
            if fresh and client.carried:
                # Its place goes to a fresh connection, opened at once.
                client.close(orderly=True)
            else:
                del self._waiting[waiter]
                waiter.callback(client)
        elif self._keepsIdle:
            client.deadline = self.clock.seconds() + self._settings.upstreamIdleTimeout
            self._idle.append(client)
        else:
            client.close(orderly=True)

    def discarding(self, client: ProxyClient) -> None:
        """Bound the time in which a connection drops an unwanted response."""
        client.deadline = self.clock.seconds() + CLOSE_TIMEOUT_SECONDS

    def lost(self, client: ProxyClient) -> None:
        """Stop counting a connection that is closing, and bound the time of its close."""
        client.deadline = self.clock.seconds() + CLOSE_TIMEOUT_SECONDS
        if client in self._idle:
            self._idle.remove(client)
        self.size -= 1
        self._serve()

    def closed(self, client: ProxyClient) -> None:
        """Forget a connection whose transport has closed."""
        self._alive.discard(client)
        self._sent += client.carried
        self._deadlines.forget(client)
        self._checkStopped()

    # --- The end

    def retire(self) -> None:
        """
        Close idle connections, and from now on each connection after its response.

        Requests get connections as before: some may have chosen this pool already.
        """
        self._keepsIdle = False
        while self._idle:
            client = self._idle[-1]
            client.close(orderly=True)
            client.deadline = self.clock.seconds() + CLOSE_NOTIFY_SECONDS

    def stop(self) -> Deferred[None]:
        """
        Close idle connections and refuse waiting requests; fires when all are closed.

        A connection in use is closed when its exchange ends.
        """
        if self._stopped is None:
            self._stopped = Deferred()
            self.retire()
            while self._waiting:
                self._waiting.popitem(last=False)[0].errback(Stopped())
            for each in list(self._opening):
                each.cancel()
            if self._lack is not None:
                self._lack.cancel()
            self._checkStopped()
        done: Deferred[None] = Deferred()
        self._stopped.chainDeferred(done)
        return done

    def _checkStopped(self) -> None:
        if self._stopped is None or self._stopped.called:
            return
        if not self.size and not self._alive:
            self._stopped.callback(None)
