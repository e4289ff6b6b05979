"""
A request body that streams: L{Upload}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from sitio.errors import BodyTooLong, SitioError
from sitio.http.framing import NO_TRAILERS
from sitio.http.grammar import IDEMPOTENT_METHODS
from sitio.http.head import Fields
from sitio.interfaces import ExchangeState
from sitio.net.deadlines import NEVER
from sitio.proxy.bufferedrequest import BufferedRequest, Collected
from sitio.proxy.downstream import Downstream
from sitio.proxy.filters import Filters
from sitio.proxy.upstream import Connection, Connections
from sitio.settings import BODY_GRACE_SECONDS

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange


class Upload:
    """
    Passes a request body that did not arrive whole with its head from the client to the
    upstream's connection.

    It buffers the bytes that arrive before there is a connection.  It keeps a copy of a
    short body, so that the request can be sent again.

    It has a time for its next bytes, which a slow client uses up: L{BODY_GRACE_SECONDS}
    from the first byte that it passes on, and one second for each C{minBodyRate} bytes.
    Pauses that the upstream asks for do not count.

    @ivar ended: whether the whole body has arrived.
    @ivar trailers: the trailer fields after the body, once it has ended.
    @ivar paused: whether the upstream has asked for a pause.
    @ivar continued: whether sitio itself has sent 100 (Continue).
    """

    __slots__ = ("_buffered", "_copy", "_downstream", "_due", "_exchange", "_filters", "_hasSlot",
                 "_isSent", "_last", "_limit", "_most", "_pausedAt", "_pool", "_slot", "_waiting",
                 "continued", "ended", "paused", "trailers")  # fmt: skip

    def __init__(self, exchange: Exchange, downstream: Downstream, first: bytes) -> None:
        """
        @param first: the part of the body that arrived with the head.
        """
        self.ended = self.paused = self.continued = False
        self.trailers = NO_TRAILERS
        # What the body goes through, for policies.
        self._buffered: BufferedRequest | None = None
        self._filters: Filters | None = None
        self._exchange = exchange
        self._downstream = downstream
        self._limit = exchange.route.settings.replayLimit
        self._most = exchange.route.maxBody
        self._pool: Connections | None = None
        self._waiting = first
        # The end of a filtered body of known length, until the filters have seen the end.
        self._last = b""
        self._isSent = False  # Whether a connection has got the request's beginning.
        self._due = NEVER
        self._pausedAt = 0.0
        self._hasSlot = False
        self._slot: Deferred[bool] | None = None
        # Only if the request's method allows a second attempt.
        keepsCopy = exchange.request.line.method in IDEMPOTENT_METHODS
        self._copy: bytes | None = first if keepsCopy else None

    @property
    def isRepeatable(self) -> bool:
        """Whether the whole body has arrived and can be sent again."""
        return self.ended and self._copy is not None

    # For policies.

    @property
    def hasArrived(self) -> bool:
        """Whether a byte of the body has arrived."""
        return self.ended or bool(self._waiting)

    @property
    def isCollecting(self) -> bool:
        """Whether policies wait for the whole body."""
        return self._buffered is not None and self._buffered.isCollecting

    def collect(self) -> Collected:
        """Collect the whole body; see L{BufferedRequest.collect}."""
        self._buffered = buffered = BufferedRequest(self._exchange, self)
        if not self.ended:
            self._downstream.resumeUpload()
        return buffered.collect(self._waiting, self.ended)

    def hold(self, body: bytes) -> None:
        """The whole body has been collected.  It is held anyway, so it can be sent again."""
        self._waiting = body
        if self._exchange.request.line.method in IDEMPOTENT_METHODS:
            self._copy = body

    def stream(self, body: bytes) -> None:
        """This much was collected, and the rest streams."""
        self._buffered = None
        self._waiting = body
        if self._copy is not None:
            self._copy = body if len(body) <= self._limit else None
        if len(body) > self._limit and not self.ended:
            self._downstream.pauseUpload()

    def replace(self, body: bytes) -> None:
        """Send a policy's body instead.  The rest of the client's is read and dropped."""
        if self.ended and body is self._waiting:
            # What was collected for a policy.
            return
        self._waiting = body
        if self._copy is not None:
            self._copy = body
        self.trailers = NO_TRAILERS
        if not self.ended:
            self.ended = True
            self._downstream.resumeUpload()
            self.giveUpSlot()

    def filterBy(self, filters: Filters) -> None:
        """
        Send what filters make of the body, from its beginning.

        @raise SitioError: one has failed.
        """
        self._waiting = filters.first(self._waiting, self.ended)
        if self._copy is not None:
            self._copy = self._waiting
        if not self.ended:
            self._filters = filters

    def close(self) -> None:
        """The exchange has ended."""
        self.giveUpSlot()
        if self._buffered is not None:
            self._buffered.release()
            self._buffered = None

    # Connections, for the exchange: an upload needs a slot until it has ended.

    def takeIdle(self) -> Connection | None:
        """Take an idle connection, or L{None}."""
        pool = self._itsPool()
        if not self.ended and not self._hasSlot:
            self._hasSlot = pool.uploads.take()
            if not self._hasSlot:
                return None
        return pool.takeIdle()

    def acquire(self, fresh: bool = False) -> Deferred[Any]:
        """Get a connection as soon as there are a slot and a connection."""
        pool = self._itsPool()
        if self.ended or self._hasSlot:
            return pool.acquire(fresh)
        self._slot = waiting = pool.uploads.wait()
        return waiting.addCallback(self._gotSlot, fresh)

    def _gotSlot(self, isTaken: bool, fresh: bool) -> Deferred[Any]:
        self._hasSlot = isTaken
        assert self._pool is not None
        return self._pool.acquire(fresh)

    def _itsPool(self) -> Connections:
        """The pool of the current attempt, in which it may have a slot."""
        pool = self._exchange.pool
        assert pool is not None
        if self._pool is not pool:
            self.giveUpSlot()
            self._pool = pool
        return pool

    def giveUpSlot(self) -> None:
        """The body is complete, or the exchange has ended."""
        if self._pool is None:
            return
        if self._hasSlot:
            self._hasSlot = False
            self._pool.uploads.release()
        elif self._slot is not None:
            self._pool.uploads.skip(self._slot)
            self._slot = None

    def sendBy(self, connection: Connection, extra: bytes) -> None:
        """
        Send the request: its head, and the part of its body that has arrived.

        @param extra: lines to add to the head.
        """
        if not self.ended:
            # Before the write, which may pause it again.
            self._downstream.resumeUpload()
        ended = self.ended and not self.trailers
        body, self._waiting = self._waiting, b""
        self._isSent = True
        connection.sendRequest(self._exchange, self._exchange.request, body, ended, extra, self)
        if self.ended and not ended:
            connection.endRequest(self.trailers)

    def rewind(self) -> None:
        """Prepare the next attempt: it sends the body from its beginning."""
        if self._copy is not None:
            self._waiting = self._copy

    # Called by the client's half.

    def receive(self, data: bytes) -> None:
        """More of the body has arrived."""
        exchange = self._exchange
        exchange.bytesIn += len(data)
        if self.ended:
            return
        if self._most is not None and exchange.bytesIn > self._most:
            exchange.refuse(BodyTooLong(f"a body of more than {self._most} bytes"))
            return
        if self._buffered is not None:
            self._extendTime(len(data))
            self._buffered.receive(data)
        elif self._filters is None:
            self._pass(data)
        else:
            try:
                data = self._filters.apply(data)
            except SitioError as error:
                exchange.refuse(error)
            else:
                if exchange.bytesIn == exchange.request.length:
                    # The upstream would take it for the whole request.
                    self._last = data
                else:
                    self._pass(data)

    def _pass(self, data: bytes) -> None:
        """Send a piece, or keep it until there is a connection."""
        exchange = self._exchange
        if self._copy is not None:
            fits = len(self._copy) + len(data) <= self._limit
            self._copy = self._copy + data if fits else None
        if exchange.connection is not None:
            self._extendTime(len(data))
            exchange.connection.sendBody(data)
            exchange.progress()
        elif not self._isSent:
            # In any state: also while policies judge a failure to connect.
            self._waiting += data
            # Not earlier: sitio notices a disconnect only while it reads.
            if len(self._waiting) > self._limit:
                self._downstream.pauseUpload()

    def finish(self, trailers: Fields) -> None:
        """The whole body has arrived."""
        if self.ended:
            return
        exchange = self._exchange
        if self._filters is not None:
            try:
                last = self._last + self._filters.apply(b"")
            except SitioError as error:
                exchange.refuse(error)
                return
            if last:
                self._pass(last)
        self.ended = True
        self.trailers = trailers
        # The pause was for the body.  Pipelined requests after it have their own limit.
        self.paused = False
        self._downstream.resumeUpload()
        if exchange.connection is not None:
            exchange.connection.endRequest(trailers)
            if exchange.state is ExchangeState.WAITING:
                exchange.progress()
        self.giveUpSlot()
        if self._buffered is not None:
            self._buffered.finish()

    # The time for the next bytes.

    def _extendTime(self, size: int) -> None:
        settings = self._exchange.route.settings
        if settings.minBodyRate:
            now = self._exchange.context.seconds()
            if self._due is NEVER:
                self._due = now + BODY_GRACE_SECONDS
            # Not more than for a pause: a fast beginning pays for no slow end.
            most = now + max(settings.stallTimeout, BODY_GRACE_SECONDS)
            self._due = min(self._due + size / settings.minBodyRate, most)

    def timeLeft(self) -> float:
        """Seconds until more of the body must have moved."""
        exchange = self._exchange
        stall = exchange.route.settings.stallTimeout
        if self.paused or self._due is NEVER:
            return stall
        return min(stall, max(0.0, self._due - exchange.context.seconds()))

    @property
    def isTooSlow(self) -> bool:
        """Whether the client has used up its time."""
        return not self.paused and self._due <= self._exchange.context.seconds()

    # Called by the upstream's connection.

    def pause(self) -> None:
        """The upstream reads the body more slowly than the client sends it."""
        if not self.ended:
            self.paused = True
            self._pausedAt = self._exchange.context.seconds()
            self._downstream.pauseUpload()

    def resume(self) -> None:
        """The upstream has caught up."""
        if not self.ended:
            self.paused = False
            self._downstream.resumeUpload()
            if self._due is not NEVER:
                self._due += self._exchange.context.seconds() - self._pausedAt
            # Bytes have moved: the client's timeout for the next bytes starts now.
            self._exchange.progress()
