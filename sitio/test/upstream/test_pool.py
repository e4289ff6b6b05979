"""
Tests of L{sitio.upstream.pool}: the connections to the upstream.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field
from hypothesis import given, settings, strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    DNSLookupError,
    NoProtocol,
    TimeoutError,
)
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio.errors import ConnectFailed, ConnectTimeout, PoolExhausted, Reached, Stopped
from sitio.net.deadlines import PERIOD_SECONDS, Deadlines
from sitio.settings import Settings
from sitio.test.helpers.messages import OK, get
from sitio.test.helpers.receivers import Receiver
from sitio.testing import MemoryEndpoint, Peer
from sitio.upstream import client as states, pool
from sitio.upstream.client import ProxyClient
from sitio.upstream.pool import (
    CLOSE_NOTIFY_SECONDS,
    CLOSE_TIMEOUT_SECONDS,
    LACK_SECONDS,
    UpstreamPool,
)


@implementer(IStreamClientEndpoint)
@define
class Answering:
    """An endpoint that returns these Deferreds and ignores their cancellation."""

    connecting: list[Deferred[Any]] = field(factory=list)
    factory: Any = None
    make: Callable[[], Deferred[Any]] = Deferred

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        self.factory = factory
        self.connecting.append(self.make())
        return self.connecting[-1]


@implementer(IStreamClientEndpoint)
@define
class Failing:
    """An endpoint that fails at once, for example because of a malformed name."""

    tries: int = 0

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        self.tries += 1
        return fail(ValueError("no such name"))


class PoolCase(SynchronousTestCase):
    """A pool; the test plays the upstream."""

    def setUp(self) -> None:
        self.open()

    def open(self, **settings: Any) -> None:
        """Make a new pool with these settings."""
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(self.clock)
        self.sweep = Deadlines(self.clock)
        self.pool = UpstreamPool(self.clock, self.endpoint, Settings(**settings), self.sweep)

    def settle(self) -> None:
        self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps of one sweep."""
        while seconds > 0:
            self.clock.advance(min(seconds, PERIOD_SECONDS))
            seconds -= PERIOD_SECONDS

    def acquire(self, fresh: bool = False) -> ProxyClient:
        """Acquire a connection, which must be available at once."""
        acquired = self.pool.acquire(fresh)
        self.settle()
        return self.successResultOf(acquired)

    def peer(self, client: ProxyClient) -> Peer:
        """The upstream's end of this connection."""
        return next(each for each in self.endpoint.peers if each.transport.protocol is client)

    def use(self, client: ProxyClient) -> None:
        """Send one request and its response on a connection."""
        client.sendRequest(Receiver(), get(), b"", True)
        self.peer(client).sends(OK)

    def used(self) -> ProxyClient:
        """An idle connection that has carried one request."""
        client = self.acquire()
        self.use(client)
        return client

    def holdConnections(self) -> None:
        """The upstream leaves new connections pending."""
        self.endpoint.decision = None

    def assertQuiet(self) -> None:
        """Check that nothing is open or waiting, and that no delayed call is left."""
        self.settle()
        self.assertEqual(self.state(), (0, 0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def state(self) -> tuple[int, int, int]:
        """The numbers of open and idle connections, and of waiting requests."""
        return tuple(self.pool.snapshot().values())  # type: ignore[return-value]


class Counting(PoolCase):
    """The totals of a pool."""

    def test_opened(self) -> None:
        """Opened and failed connections are counted."""
        self.used()
        self.used()
        self.acquire()
        self.endpoint.decision = self.endpoint.refuse
        refused = self.pool.acquire(fresh=True)
        self.settle()
        self.failureResultOf(refused, ConnectFailed)
        counts = self.pool.counts()
        self.assertEqual((counts["opened"], counts["failed"]), (1, 1))
        self.assertEqual((counts["waited"], counts["waitedSeconds"]), (0, 0))

    def test_outstanding(self) -> None:
        """Requests with a connection, and those that wait for one, are outstanding."""
        self.open(poolSize=2)
        self.holdConnections()
        for _ in range(3):
            self.pool.acquire()
        self.assertEqual(self.pool.outstanding, 3)
        self.endpoint.decision = self.endpoint.accept
        self.endpoint.decide()
        self.settle()
        self.assertEqual(self.pool.outstanding, 3)

    def test_notOutstanding(self) -> None:
        """An idle connection is none, nor is one that is opened for a request that has one."""
        self.used()
        self.assertEqual(self.pool.outstanding, 0)
        self.open(poolSize=2)
        one, _ = self.acquire(), self.acquire()
        self.pool.acquire()
        self.holdConnections()
        one.close()
        self.assertEqual(self.pool.outstanding, 2)

    def test_sent(self) -> None:
        """Requests are counted whether their connection is open or closed."""
        self.used()
        client = self.used()
        self.assertEqual(self.pool.sent, 2)
        client.close()
        self.settle()
        self.assertEqual(self.pool.sent, 2)

    def test_waited(self) -> None:
        """Waits and their seconds are counted, with the waits that failed."""
        self.open(poolSize=1, poolTimeout=2.0)
        client = self.acquire()
        waits = [self.pool.acquire() for _ in range(3)]
        waits[2].addErrback(lambda reason: None)
        self.assertEqual(self.pool.counts()["waited"], 0)
        self.clock.advance(0.5)
        waits[2].cancel()
        self.use(client)
        self.successResultOf(waits[0])
        self.clock.advance(1.5)
        self.failureResultOf(waits[1], PoolExhausted)
        counts = self.pool.counts()
        self.assertEqual((counts["waited"], counts["waitedSeconds"]), (3, 3.0))


class Reusing(PoolCase):
    """Connections are reused."""

    def test_mostRecentlyUsedFirst(self) -> None:
        """The most recently used connection is handed out first, so that the others expire."""
        clients = [self.acquire() for _ in range(3)]
        for each in (clients[1], clients[2], clients[0]):
            self.use(each)
        self.assertEqual(self.state(), (3, 3, 0))
        self.assertEqual(repr(self.pool), "<UpstreamPool 3 open, 3 idle, 0 waiting>")
        self.assertIs(self.pool.takeIdle(), clients[0])
        self.assertIs(self.successResultOf(self.pool.acquire()), clients[2])
        self.assertIs(self.pool.takeIdle(), clients[1])
        self.assertIs(self.pool.takeIdle(), None)
        self.assertEqual(self.state(), (3, 0, 0))
        self.assertEqual(len(self.endpoint.peers), 3)

    def test_freshBesideIdle(self) -> None:
        """A request for a fresh connection gets one; idle connections stay idle."""
        idle = self.used()
        fresh = self.acquire(fresh=True)
        self.assertIsNot(fresh, idle)
        self.assertEqual(fresh.carried, 0)
        self.assertEqual(self.state(), (2, 1, 0))

    def test_freshAtTheCeiling(self) -> None:
        """At the size limit, the connection that is idle for longest is closed for a fresh one."""
        self.open(poolSize=2)
        old, new = self.acquire(), self.acquire()
        self.use(old)
        self.use(new)
        fresh = self.acquire(fresh=True)
        self.assertEqual(fresh.carried, 0)
        self.assertTrue(self.endpoint.peers[0].closed)
        self.assertIs(old.state, states.CLOSED)
        self.assertIs(self.pool.takeIdle(), new)
        self.assertEqual(self.state(), (2, 0, 0))

    def test_idleNotLongerThanThat(self) -> None:
        """
        An idle connection is closed in order at most one sweep after its timeout.  Each
        use restarts the timeout.
        """
        self.open(upstreamIdleTimeout=3.0)
        client = self.used()
        self.advance(2.75)
        self.assertIs(self.pool.takeIdle(), client)
        self.use(client)
        self.advance(2.75)
        self.assertEqual(self.state(), (1, 1, 0))
        self.advance(2 * PERIOD_SECONDS)
        self.assertTrue(self.endpoint.peers[0].closed)
        self.assertQuiet()

    def test_busyNeverExpires(self) -> None:
        """The pool never closes a connection in use."""
        client = self.used()
        self.assertIs(self.pool.takeIdle(), client)
        client.sendRequest(Receiver(), get(), b"", True)
        self.advance(100.0)
        self.assertEqual(self.state(), (1, 0, 0))
        self.peer(client).sends(OK)
        self.assertEqual(self.state(), (1, 1, 0))

    def test_idleAndUnasked(self) -> None:
        """
        Bytes, an end or an error on an idle connection close it.  It is not handed out
        again, and the bytes are not taken for a response.
        """
        happenings: tuple[Callable[[Peer], None], ...] = (
            lambda peer: peer.sends(OK),
            lambda peer: peer.sends(b"x"),
            Peer.closes,
            Peer.halfCloses,
            Peer.resets,
        )
        for what in happenings:
            self.open()
            client = self.used()
            what(self.peer(client))
            self.settle()
            self.assertIs(client.state, states.CLOSED)
            self.assertIs(self.pool.takeIdle(), None)
            self.assertFalse(self.endpoint.peers[0].transport.connected)
            self.assertQuiet()

    def test_bytesBehindTheResponse(self) -> None:
        """A connection with bytes after its response is not reused."""
        client = self.acquire()
        client.sendRequest(Receiver(), get(), b"", True)
        self.peer(client).sends(OK + b"H")
        self.assertIs(client.state, states.CLOSED)
        self.assertQuiet()

    def test_unwantedRest(self) -> None:
        """
        A connection that drops an unwanted rest counts as open until it is idle.  It is
        closed if the rest takes too long.
        """
        self.open(poolSize=1)
        for rest in (b"rest", None):
            client = self.acquire()
            receiver = Receiver(client=client, onResponse=client.leave)
            client.sendRequest(receiver, get(), b"", True)
            peer = self.peer(client)
            peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
            self.assertEqual(self.state(), (1, 0, 0))
            self.advance(CLOSE_TIMEOUT_SECONDS - PERIOD_SECONDS)
            if rest is not None:
                peer.sends(rest)
                self.assertEqual(self.state(), (1, 1, 0))
            else:
                self.assertEqual(self.state(), (1, 0, 0))
                self.advance(2 * PERIOD_SECONDS)
                self.assertTrue(peer.reset)
        self.assertQuiet()


class Opening(PoolCase):
    """New connections."""

    def test_ceiling(self) -> None:
        """The number of open and opening connections stays within the limit."""
        self.open(poolSize=3)
        self.holdConnections()
        acquired = [self.pool.acquire() for _ in range(5)]
        self.assertEqual(self.state(), (3, 0, 2))
        self.assertEqual(self.endpoint.pending, 3)
        self.endpoint.decision = self.endpoint.accept
        self.settle()
        self.assertEqual(self.state(), (3, 0, 2))
        for each in acquired[:3]:
            self.successResultOf(each)
        for each in acquired[3:]:
            self.assertNoResult(each)

    def test_refused(self) -> None:
        """A refused connection fails at once, with its cause, and does not count as open."""
        self.endpoint.decision = self.endpoint.refuse
        acquired = self.pool.acquire()
        self.settle()
        error = self.failureResultOf(acquired, ConnectFailed).value
        self.assertEqual(error.status, 502)
        self.assertRegex(str(error), "^no connection to the upstream: Connection was refused")
        self.assertIs(error.reached, Reached.NOTHING)
        self.assertQuiet()

    def test_takesTooLong(self) -> None:
        """A connection that is not accepted in time fails exactly at the timeout."""
        self.open(connectTimeout=3.0)
        self.holdConnections()
        acquired = self.pool.acquire()
        self.clock.advance(2.9)
        self.assertNoResult(acquired)
        self.clock.advance(0.1)
        error = self.failureResultOf(acquired, ConnectTimeout).value
        self.assertEqual(str(error), "no connection to the upstream within 3 seconds")
        self.assertEqual((error.status, self.endpoint.pending), (504, 0))
        self.assertQuiet()

    def test_saysItTookTooLong(self) -> None:
        """An endpoint's own timeout is a ConnectTimeout; any other error is a ConnectFailed."""
        for cause, kind in ((TimeoutError(), ConnectTimeout), (DNSLookupError(), ConnectFailed)):
            self.pool._endpoint = Answering(make=partial(fail, cause))
            error = self.failureResultOf(self.pool.acquire()).value
            self.assertIs(type(error), kind)
            self.assertIs(error.cause, cause)
            self.assertQuiet()

    def test_raises(self) -> None:
        """An endpoint that raises is handled like one that fails."""

        def broken() -> Deferred[Any]:
            raise ValueError("no such name")

        self.open(poolSize=1)
        client = self.acquire()
        waiters = [self.pool.acquire() for _ in range(2)]
        self.pool._endpoint = Answering(make=broken)
        client.close()
        for each in [*waiters, self.pool.acquire()]:
            self.failureResultOf(each, ConnectFailed)
        self.assertQuiet()

    def test_cancelled(self) -> None:
        """Cancelling the Deferred cancels the connection attempt."""
        self.holdConnections()
        acquired = self.pool.acquire()
        acquired.cancel()
        self.failureResultOf(acquired, ConnectFailed)
        self.assertEqual(self.endpoint.pending, 0)
        self.assertQuiet()

    def test_lateSuccess(self) -> None:
        """
        A connection that opens after a cancellation or timeout is closed at once and not
        counted.
        """
        for seconds in (None, 5.0):
            self.open()
            self.pool._endpoint = answering = Answering()
            acquired = self.pool.acquire()
            if seconds is None:
                acquired.cancel()
            else:
                self.clock.advance(seconds)
            self.failureResultOf(acquired, ConnectFailed)
            # This makes the endpoint close it.
            self.assertIs(answering.factory.buildProtocol(None), None)
            answering.connecting[0].errback(NoProtocol())
            self.assertQuiet()


class Lacking(PoolCase):
    """This process has no file descriptors left."""

    #: Errors of a lack, as the reactors report them.
    LACKS = (
        OSError(errno.EMFILE, "Too many open files"),
        ConnectError(errno.EMFILE, "Too many open files"),
        ConnectBindError(errno.EMFILE, "Too many open files"),
        ConnectError(errno.ENFILE, "Too many open files in system"),
        ConnectError(errno.ENOBUFS, "No buffer space available"),
        ConnectError(errno.ENOMEM, "Cannot allocate memory"),
    )

    def lack(self, cause: Exception, **settings: Any) -> None:
        """The next connections fail with this."""
        self.open(**settings)
        self.failing = Answering(make=partial(fail, cause))
        self.pool._endpoint = self.failing

    def test_waits(self) -> None:
        """
        A request waits as with a full pool.  The pool tries again four times a second, not
        once for each request.
        """
        for cause in self.LACKS:
            self.lack(cause)
            waiters = [self.pool.acquire() for _ in range(20)]
            self.assertEqual(self.state(), (0, 0, 20))
            self.assertEqual(len(self.failing.connecting), 1)
            self.clock.advance(LACK_SECONDS)
            self.assertEqual(len(self.failing.connecting), 2)
            self.pool._endpoint = self.endpoint
            self.clock.advance(LACK_SECONDS)
            self.settle()
            for each in waiters:
                self.use(self.successResultOf(each))
            self.advance(Settings().upstreamIdleTimeout + PERIOD_SECONDS)
            self.assertQuiet()

    def test_anotherBecomesFree(self) -> None:
        """A connection that becomes free meanwhile serves the oldest request."""
        self.open()
        client = self.acquire()
        client.sendRequest(Receiver(), get(), b"", True)
        self.pool._endpoint = Answering(make=partial(fail, self.LACKS[0]))
        waiter = self.pool.acquire()
        self.peer(client).sends(OK)
        self.assertIs(self.successResultOf(waiter), client)

    def test_idleMakesRoom(self) -> None:
        """An idle connection is closed for a request that needs a fresh one."""
        self.open()
        self.used()
        self.pool._endpoint = Answering(make=partial(fail, self.LACKS[0]))
        self.pool.acquire(fresh=True)
        waiter = self.pool.acquire(fresh=True)
        self.settle()
        self.assertTrue(self.endpoint.peers[0].closed)
        self.pool._endpoint = self.endpoint
        self.clock.advance(LACK_SECONDS)
        self.settle()
        self.assertEqual(self.successResultOf(waiter).carried, 0)

    def test_tooLong(self) -> None:
        """The wait has the pool's timeout, and the error names the cause."""
        self.lack(self.LACKS[0], poolTimeout=3.0)
        waiter = self.pool.acquire()
        for _ in range(12):
            self.clock.advance(0.25)
        error = self.failureResultOf(waiter, PoolExhausted).value
        self.assertEqual(
            str(error),
            "no upstream connection was free for 3 seconds; there are no file descriptors left",
        )
        self.assertEqual((error.status, error.reached), (503, Reached.NOTHING))
        self.clock.advance(LACK_SECONDS)
        self.assertQuiet()

    def test_noQueue(self) -> None:
        """With a queue of length 0, no request waits."""
        self.lack(self.LACKS[0], poolQueue=0)
        self.failureResultOf(self.pool.acquire(), PoolExhausted)

    def test_unnamed(self) -> None:
        """A failure that does not name its cause is a lack if no socket can be opened."""
        self.patch(pool, "areLacking", lambda error: True)
        self.lack(DNSLookupError())
        self.assertNoResult(self.pool.acquire())
        self.assertEqual(self.state(), (0, 0, 1))

    def test_cancelled(self) -> None:
        """A request that is given up while its connection opens does not wait."""
        self.patch(pool, "areLacking", lambda error: True)
        self.lack(DNSLookupError())
        self.failing.make = Deferred
        acquired = self.pool.acquire()
        acquired.cancel()
        self.failureResultOf(acquired, ConnectFailed)
        self.assertEqual(self.state(), (0, 0, 0))
        waiting = self.pool.acquire()
        self.failing.connecting[-1].errback(DNSLookupError())
        self.assertEqual(self.state(), (0, 0, 1))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.clock.advance(LACK_SECONDS)
        self.assertQuiet()

    def test_stop(self) -> None:
        """To stop refuses those that wait, and leaves no timer."""
        self.lack(self.LACKS[0])
        waiter = self.pool.acquire()
        self.successResultOf(self.pool.stop())
        self.failureResultOf(waiter, Stopped)
        self.assertQuiet()


class Waiting(PoolCase):
    """More requests than connections."""

    def fill(self, **settings: Any) -> ProxyClient:
        """A pool of one connection, which is in use."""
        self.open(poolSize=1, **settings)
        client = self.acquire()
        client.sendRequest(Receiver(), get(), b"", True)
        return client

    def test_inOrder(self) -> None:
        """A free connection goes to the oldest waiting request."""
        client = self.fill()
        waiters = [self.pool.acquire() for _ in range(3)]
        for number, each in enumerate(waiters):
            self.assertEqual(self.state(), (1, 0, 3 - number))
            self.assertNoResult(each)
            self.peer(client).sends(OK)
            self.assertIs(self.successResultOf(each), client)
            client.sendRequest(Receiver(), get(), b"", True)
        self.peer(client).sends(OK)
        self.assertEqual(self.state(), (1, 1, 0))
        self.assertEqual(len(self.endpoint.peers), 1)

    def test_newInPlaceOfALostOne(self) -> None:
        """When a connection is lost, another is opened for the oldest waiting request."""
        client = self.fill()
        first, second = self.pool.acquire(), self.pool.acquire()
        self.peer(client).resets()
        self.settle()
        other = self.successResultOf(first)
        self.assertIsNot(other, client)
        self.assertEqual(other.carried, 0)
        self.assertNoResult(second)
        self.assertEqual(self.state(), (1, 0, 1))

    def test_newInPlaceOfAFailedOne(self) -> None:
        """A connection that failed to open frees its place for a waiting request."""
        self.open(poolSize=1)
        self.holdConnections()
        first, second = self.pool.acquire(), self.pool.acquire()
        self.settle()
        self.endpoint.refuse()
        self.failureResultOf(first, ConnectFailed)
        self.assertNoResult(second)
        self.settle()
        self.endpoint.accept()
        self.assertEqual(self.successResultOf(second).carried, 0)
        self.assertEqual(self.state(), (1, 0, 0))

    def test_notMoreThanAreWanted(self) -> None:
        """When many connections break, only one per waiting request is opened."""
        self.open(poolSize=5)
        clients = [self.acquire() for _ in range(5)]
        for each in clients:
            each.sendRequest(Receiver(), get(), b"", True)
        waiters = [self.pool.acquire() for _ in range(2)]
        for each in clients:
            each.close()
        self.settle()
        self.assertEqual(len(self.endpoint.peers), 7)
        for waiter in waiters:
            self.successResultOf(waiter)
        self.assertEqual(self.state(), (2, 0, 0))

    def test_tooLong(self) -> None:
        """Each request waits at most for the timeout, from its own start."""
        self.fill(poolTimeout=3.0)
        first = self.pool.acquire()
        self.clock.advance(1.0)
        second = self.pool.acquire()
        self.clock.advance(1.9)
        self.assertNoResult(first)
        self.clock.advance(0.125)
        error = self.failureResultOf(first, PoolExhausted).value
        self.assertEqual(str(error), "no upstream connection was free for 3 seconds")
        self.assertEqual((error.status, error.reached), (503, Reached.NOTHING))
        self.assertEqual(self.state(), (1, 0, 1))
        self.clock.advance(1.0)
        self.failureResultOf(second, PoolExhausted)
        self.assertEqual(self.state(), (1, 0, 0))

    def test_queueIsFull(self) -> None:
        """A request beyond the limit of the queue fails at once."""
        client = self.fill(poolQueue=2)
        waiters = [self.pool.acquire() for _ in range(2)]
        error = self.failureResultOf(self.pool.acquire(), PoolExhausted).value
        self.assertEqual(str(error), "2 requests wait already")
        self.assertEqual(self.state(), (1, 0, 2))
        self.peer(client).sends(OK)
        self.assertIs(self.successResultOf(waiters[0]), client)
        self.assertNoResult(self.pool.acquire())

    def test_coldBurst(self) -> None:
        """
        With the defaults, 5,000 requests at once on a cold proxy are all served in their
        order, as connections become free.
        """
        self.open()
        waiters = [self.pool.acquire() for _ in range(5000)]
        self.settle()
        size = Settings().poolSize
        self.assertEqual(self.state(), (size, 0, 5000 - size))
        client, *_ = [self.successResultOf(each) for each in waiters[:size]]
        for waiter in waiters[size:]:
            self.assertNoResult(waiter)
            self.use(client)
            self.assertIs(self.successResultOf(waiter), client)
        self.assertEqual(self.state(), (size, 0, 0))

    def test_queueDefault(self) -> None:
        """With the defaults, each client that may be connected can wait."""
        self.assertGreaterEqual(Settings().poolQueue, Settings().maxClients)

    def test_noQueue(self) -> None:
        """With a queue of length 0, no request waits."""
        self.fill(poolQueue=0)
        self.failureResultOf(self.pool.acquire(), PoolExhausted)

    def test_cancelled(self) -> None:
        """A cancelled request leaves the queue and is skipped."""
        client = self.fill()
        first, second = self.pool.acquire(), self.pool.acquire()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.state(), (1, 0, 1))
        self.peer(client).sends(OK)
        self.assertIs(self.successResultOf(second), client)
        client.close()
        self.assertQuiet()

    def test_cancelledWhileOpening(self) -> None:
        """A connection that opens after its waiting request was cancelled becomes idle."""
        client = self.fill()
        waiter = self.pool.acquire()
        self.holdConnections()
        client.close()
        self.settle()
        waiter.cancel()
        self.failureResultOf(waiter, CancelledError)
        self.endpoint.accept()
        self.assertEqual(self.state(), (1, 1, 0))
        self.advance(Settings().upstreamIdleTimeout + PERIOD_SECONDS)
        self.assertQuiet()

    def test_failuresAtOnce(self) -> None:
        """If connections fail at once, each waiting request gets one failure."""
        self.open(poolSize=1)
        client = self.acquire()
        waiters = [self.pool.acquire() for _ in range(300)]
        failing = Failing()
        self.pool._endpoint = failing
        client.close()
        for each in waiters:
            error = self.failureResultOf(each, ConnectFailed).value
            self.assertEqual(str(error), "no connection to the upstream: no such name")
        self.assertEqual(failing.tries, 300)
        self.assertEqual(self.state(), (0, 0, 0))

    def test_freshInTheQueue(self) -> None:
        """
        A request for a fresh connection keeps its place in the queue: a used connection
        that becomes free is closed, and a fresh one is opened.
        """
        self.open(poolSize=1)
        client = self.acquire()
        self.use(client)
        self.assertIs(self.pool.takeIdle(), client)
        client.sendRequest(Receiver(), get(), b"", True)
        first = self.pool.acquire(fresh=True)
        second = self.pool.acquire()
        self.peer(client).sends(OK)
        self.settle()
        fresh = self.successResultOf(first)
        self.assertIsNot(fresh, client)
        self.assertEqual(fresh.carried, 0)
        self.assertNoResult(second)
        self.assertTrue(self.endpoint.peers[0].closed)
        self.use(fresh)
        self.assertIs(self.successResultOf(second), fresh)


class Stopping(PoolCase):
    """The stop of a pool."""

    def test_untilTheLastHasGone(self) -> None:
        """The stop waits until every transport has closed, even with a slow upstream."""
        client = self.acquire()
        self.peer(client).stopsReading()
        client.sendRequest(Receiver(), get(), b"", True)
        other = self.acquire()
        self.use(other)
        client.close(orderly=True)
        stopped = self.pool.stop()
        self.settle()
        self.assertTrue(self.peer(other).closed)
        self.assertNoResult(stopped)
        self.advance(CLOSE_TIMEOUT_SECONDS + PERIOD_SECONDS)
        self.successResultOf(stopped)
        self.assertTrue(self.peer(client).reset)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silentTLS(self) -> None:
        """An idle connection whose upstream sends no close_notify is reset after a second."""
        client = self.acquire()
        self.use(client)
        peer = self.peer(client)
        self.patch(peer.transport, "loseConnection", lambda: None)
        stopped = self.pool.stop()
        self.advance(CLOSE_NOTIFY_SECONDS - PERIOD_SECONDS)
        self.assertNoResult(stopped)
        self.advance(2 * PERIOD_SECONDS)
        self.successResultOf(stopped)
        self.assertTrue(peer.reset)
        self.assertQuiet()

    def test_nothing(self) -> None:
        """A pool without connections stops at once, also when stopped again."""
        self.successResultOf(self.pool.stop())
        self.successResultOf(self.pool.stop())
        self.assertQuiet()

    def test_toldToEach(self) -> None:
        """Each call of C{stop} returns a Deferred that fires when the pool has stopped."""
        client = self.acquire()
        client.sendRequest(Receiver(), get(), b"", True)
        first, second = self.pool.stop(), self.pool.stop()
        self.assertNoResult(first)
        self.peer(client).sends(OK)
        self.settle()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertTrue(self.peer(client).closed)
        self.assertQuiet()

    def test_everySituation(self) -> None:
        """
        Idle connections close in order, opening ones are cancelled and waiting requests
        are refused.  A connection in use ends with its exchange.
        """
        self.open(poolSize=3)
        busy, idle = self.acquire(), self.used()
        busy.sendRequest(Receiver(), get(), b"", True)
        self.assertIs(self.pool.takeIdle(), idle)
        idle.sendRequest(Receiver(), get(), b"", True)
        self.holdConnections()
        opening = self.pool.acquire()
        waiting = self.pool.acquire(), self.pool.acquire(fresh=True)
        idle.close(orderly=True)
        self.settle()
        self.assertEqual(self.state(), (3, 0, 2))
        self.assertEqual(self.endpoint.pending, 2)
        stopped = self.pool.stop()
        self.settle()
        self.failureResultOf(opening, ConnectFailed)
        for each in waiting:
            self.assertEqual(self.failureResultOf(each, Stopped).value.status, 503)
        self.assertEqual((self.state(), self.endpoint.pending), ((1, 0, 0), 0))
        self.assertNoResult(stopped)
        busy.close()
        self.settle()
        self.successResultOf(stopped)
        self.assertQuiet()

    def test_notAfterwards(self) -> None:
        """A stopping pool opens no connection and queues no request."""
        client = self.used()
        self.assertIs(self.pool.takeIdle(), client)
        self.pool.stop()
        for fresh in (False, True):
            self.failureResultOf(self.pool.acquire(fresh), Stopped)
        client.close()
        self.settle()
        self.assertEqual(len(self.endpoint.peers), 1)
        self.assertQuiet()


class Sequences(PoolCase):
    """Random sequences of events."""

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(
        st.integers(1, 3),
        st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=40),
    )
    def test_bounds(self, size: int, steps: list[tuple[int, int]]) -> None:
        """
        The limits of connections and queue hold at every moment.  Each request gets a
        result, no connection is used twice at once, and nothing is left at the end.
        """
        self.open(poolSize=size, poolQueue=3)
        self.holdConnections()
        asked: list[Deferred[ProxyClient]] = []
        taken: list[ProxyClient] = []
        failed: list[Any] = []

        def ask(fresh: bool) -> None:
            acquired = self.pool.acquire(fresh)
            asked.append(acquired)
            acquired.addCallbacks(take, failed.append)

        def take(client: ProxyClient) -> None:
            self.assertNotIn(client, taken)
            self.assertIs(client.state, states.IDLE)
            taken.append(client)
            client.sendRequest(Receiver(), get(), b"", True)

        for what, which in steps:
            alive = [each for each in taken if each.state is states.WAITING]
            if what < 3:
                ask(fresh=what == 0)
            elif what == 3:
                client = self.pool.takeIdle()
                if client is not None:
                    take(client)
            elif what == 4 and asked:
                asked[which % len(asked)].cancel()
            elif what in (5, 6) and self.endpoint.pending:
                self.endpoint.accept() if what == 5 else self.endpoint.refuse()
            elif what in (7, 8, 9, 10) and alive:
                client = alive[which % len(alive)]
                taken.remove(client)
                if what < 9:
                    self.peer(client).sends(OK)
                elif what == 9:
                    self.peer(client).resets()
                else:
                    client.close()
            elif what == 11 and self.endpoint.peers:
                peer = self.endpoint.peers[which % len(self.endpoint.peers)]
                if not peer.gone:
                    peer.closes()
            elif what == 12:
                self.clock.advance(which)
            self.settle()
            taken = [each for each in taken if each.state is states.WAITING]
            open, idle, waiting = self.state()
            self.assertEqual(open, len(taken) + idle + self.endpoint.pending)
            self.assertLessEqual(open, size)
            self.assertLessEqual(waiting, 3)
            self.assertLessEqual(idle, open)
            # If the limit allows it, one connection is being opened for each waiting request.
            self.assertTrue(open == size or waiting <= self.endpoint.pending)
        stopped = self.pool.stop()
        for each in list(taken):
            each.close()
        self.advance(CLOSE_TIMEOUT_SECONDS + 2 * PERIOD_SECONDS)
        self.successResultOf(stopped)
        self.assertTrue(all(each.called for each in asked))
        self.assertQuiet()


class Retiring(PoolCase):
    """A pool whose endpoint gets no new requests."""

    def test_idle(self) -> None:
        """Idle connections are closed at once."""
        peer = self.peer(self.used())
        self.pool.retire()
        self.settle()
        self.assertTrue(peer.closed)
        self.assertQuiet()

    def test_busy(self) -> None:
        """A connection in use is closed after its response."""
        client = self.acquire()
        peer = self.peer(client)
        self.pool.retire()
        self.use(client)
        self.settle()
        self.assertTrue(peer.closed)
        self.assertQuiet()

    def test_waiting(self) -> None:
        """A request that waits gets the connection that becomes free."""
        self.open(poolSize=1)
        client = self.acquire()
        waiting = self.pool.acquire()
        self.pool.retire()
        self.use(client)
        self.assertIs(self.successResultOf(waiting), client)
        self.use(client)
        self.assertQuiet()

    def test_late(self) -> None:
        """A request that comes later gets a connection, which is closed after its response."""
        self.pool.retire()
        self.use(self.acquire())
        self.assertQuiet()
