"""
A response that policies decide about: L{HeldResponse}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sitio.errors import SitioError
from sitio.http.head import Fields
from sitio.http.message import Response, Retry
from sitio.net.deadlines import NEVER
from sitio.settings import Settings

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange


def fitsBuffer(size: int, settings: Settings) -> bool:
    """Whether a policy may buffer so many bytes.  The limit is checked only here."""
    return size <= settings.bufferLimit


def arrivedWhole(response: Response, body: bytes, method: str, settings: Settings) -> None:
    """
    Note a body that came in one read with its head.  Policies that do not ask for it don't get
    it by this chance: only that there is none, which the head tells.

    @param method: of the request, as the upstream got it.
    """
    if not body and (
        response.length is not None or method == "HEAD" or response.status in (204, 304)
    ):
        response.body = body
    elif fitsBuffer(len(body), settings):
        response.arrived = body


class HeldResponse:
    """
    A response that is held while policies decide about it: its head, and the part of its
    body that has arrived.

    The connection to the upstream is paused until a policy asks for the whole body.
    Then the body is collected to its end, or to the buffer limit.  No policy gets a
    body over the limit, or one that does not fit into what all exchanges may buffer
    together (L{Buffers<sitio.proxy.buffers.Buffers>}).

    @ivar isCollecting: whether a policy waits for the whole body.
    """

    # What most never change is on the class.
    _tooLong = False
    #: How many bytes are counted in the context's buffers.
    _reserved = 0
    _waiter: Deferred[bool] | None = None
    #: The reason if the rest will not arrive.
    _failure: SitioError | None = None

    def __init__(
        self, exchange: Exchange, response: Response, body: bytes, trailers: Fields | None
    ) -> None:
        """
        @param body: the part of the body that has arrived.
        @param trailers: an empty list if that is the whole body, else L{None}.
        """
        self._exchange = exchange
        self._response = response
        self._pieces = [body]
        self._size = len(body)
        self._trailers = trailers

    @property
    def isCollecting(self) -> bool:
        return self._waiter is not None

    def isAsReceived(self, response: Response) -> bool:
        """
        Whether policies have left status and body of the upstream's response as they are.

        For a response that stands for a failure it has no meaning.
        """
        if response is not self._response or response.status != self._exchange.upstreamStatus:
            return False
        if response.body is None:
            return True
        return self._trailers is not None and response.body == b"".join(self._pieces)

    # Step 7: the response policies.

    def judge(self, first: Any) -> None:
        """
        Run the policies and carry out their decision.

        @param first: the first interested policy, from C{Chain.firstInterested}.
        """
        exchange = self._exchange
        result = exchange.chain.responseReceived(exchange, self._response, first)
        if result is self._response or not isinstance(result, Deferred):
            self._judged(result)
            return
        if not self.isCollecting:
            self._pause()
            self._hold()
        # Also when the client leaves: the Deferred is cancelled then.
        result.addBoth(self._released)
        exchange.deadline = NEVER  # The chain has its own, except while collecting.
        exchange.progress()
        exchange.wait(result, self._judged)

    def _hold(self) -> None:
        """Count what has arrived: a policy takes its time."""
        more = self._size - self._reserved
        if more > 0:
            self._reserved += more
            self._exchange.context.buffers.hold(more)

    def _released(self, result: Any) -> Any:
        """Count nothing any more: the policies are done.  What is sent counts anew."""
        self._exchange.context.buffers.release(self._reserved)
        self._reserved = 0
        return result

    def _judged(self, judged: Any) -> None:
        exchange = self._exchange
        exchange.held = None
        if judged is self._response:
            self._pass()
            return
        exchange.leaveUpstream()
        if isinstance(judged, Failure):
            error = judged.value
            if not isinstance(error, SitioError):
                judged.raiseException()
            # The response broke off while its body was collected: the attempt failed.
            exchange.fail(error)
        elif isinstance(judged, Retry):
            exchange.rest(judged.after)
        else:
            exchange.respond(judged, judged.body or b"", True)

    def _pass(self) -> None:
        """Send this response, as no policy has replaced it."""
        exchange = self._exchange
        response = self._response
        if self._failure is not None:
            # The head is not sent yet, so that the client can still get an error.
            exchange.fail(self._failure)
        elif response.body is not None:
            # The whole body.  A policy may have changed it, or set it without collecting.
            exchange.leaveUpstream()
            exchange.respond(response, response.body, True)
        else:
            trailers = self._trailers
            exchange.respond(response, b"".join(self._pieces), trailers == [])
            if trailers and exchange.download is not None:
                exchange.download.responseEnded(trailers)

    # Collecting the whole body for a policy.

    def wholeBody(self) -> bool | Deferred[bool]:
        """
        Collect the whole body and put it into the response.

        @return: whether the body is within the limit, now or later.

        @raise SitioError: the response has broken off.  The Deferred fails with one if it does.
        """
        if self._failure is not None:
            raise self._failure
        if self._isTooLong():
            return False
        if self._trailers is not None:
            self._fill()
            return True
        if not self._mayCollect():
            return False
        waiter: Deferred[bool] = Deferred()
        self._waiter = waiter
        if self._exchange.connection is not None:
            self._exchange.connection.resume()
        self._exchange.progress()
        return waiter

    def _isTooLong(self) -> bool:
        if not self._tooLong and not fitsBuffer(self._expected(), self._exchange.route.settings):
            self._countTooLong()
        return self._tooLong

    def _expected(self) -> int:
        """Bytes of the body: as announced, or as arrived so far."""
        return max(self._response.length or 0, self._size)

    def _mayCollect(self) -> bool:
        """Reserve memory for the body, as far as its length is known."""
        more = self._expected() - self._reserved
        if more <= 0:
            return True
        if not self._exchange.context.buffers.reserve(more):
            self._countTooLong()
            return False
        self._reserved += more
        return True

    def _countTooLong(self) -> None:
        self._tooLong = True
        self._exchange.context.tooLong += 1

    def _fill(self) -> None:
        # Trailers of a collected body are dropped.
        self._trailers = []
        self._response.body = b"".join(self._pieces)
        self._pieces = [self._response.body]

    def _pause(self) -> None:
        if self._exchange.connection is not None:
            self._exchange.connection.pause()

    def _settle(self, isWhole: bool) -> None:
        # From here on the policies have their own timeout.
        self._exchange.deadline = NEVER
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(isWhole)

    # BodyReceiver: called by the connection to the upstream.

    def responseBody(self, data: bytes) -> None:
        """More of the body has arrived."""
        self._pieces.append(data)
        self._size += len(data)
        if self._waiter is None:
            self._pause()
            self._hold()
        elif self._isTooLong() or not self._mayCollect():
            self._pause()
            self._settle(False)
        else:
            self._exchange.progress()

    def responseEnded(self, trailers: Fields) -> None:
        """The body is complete."""
        self._trailers = trailers
        self._exchange.connection = None
        if self._waiter is not None:
            self._fill()
            self._settle(True)

    def failed(self, error: SitioError) -> None:
        """The rest of the response will not arrive."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.errback(error)
        else:
            self._failure = error
