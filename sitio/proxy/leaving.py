"""
How a client's connection ends: L{Leaving}, a part of L{ProxyServer}.

A connection ends in one of three ways:

  - in good order: what was written leaves, then sitio closes;
  - after a linger: the rest of a request is dropped first (L{sitio.proxy.lingering});
  - by a reset, so that the client sees an incomplete response.

A client that has closed its sending half never sees a reset before the end of sitio's
own half, except within a response whose end is the end of the connection.

L{TRANSITIONS} defines the states and the allowed transitions.  Any other transition is
a bug in sitio and raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sitio.http import framing
from sitio.http.codec import RequestReader
from sitio.interfaces import ExchangeState
from sitio.net.deadlines import NEVER
from sitio.net.flow import FlowControlled
from sitio.net.statemachine import Transitions
from sitio.proxy.http1 import HTTP1Downstream
from sitio.proxy.lingering import Lingering
from sitio.proxy.tunnel import Tunnel
from sitio.proxy.unsent import CountsUnsent
from sitio.settings import CLOSE_SECONDS, DRAIN_IDLE_SECONDS, Settings

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange

HANDSHAKE = "handshake"  # the handshake of TLS has not ended
IDLE = "idle"  # no byte of the next request has arrived
HEAD = "head"  # a part of its head has arrived
EXCHANGE = "exchange"  # an exchange is under way; pipelined requests wait
TUNNEL = "tunnel"  # bytes of another protocol, both ways
LINGERING = "lingering"  # the last response is sent, the rest of its request is dropped
CLOSING = "closing"  # the write buffer is flushed, then the connection closes
CLOSED = "closed"  # the connection is closed

_OPEN = (HANDSHAKE, IDLE, HEAD, EXCHANGE, TUNNEL, LINGERING)

TRANSITIONS = Transitions(
    "ProxyServer",
    {
        (IDLE, "secure"): HANDSHAKE,
        (HANDSHAKE, "secured"): IDLE,
        (IDLE, "data"): HEAD,
        (IDLE, "request"): EXCHANGE,
        (HEAD, "request"): EXCHANGE,
        (EXCHANGE, "next"): IDLE,
        (EXCHANGE, "switch"): TUNNEL,
        (EXCHANGE, "linger"): LINGERING,
        **{(each, "close"): CLOSING for each in _OPEN},
        **{(each, "lost"): CLOSED for each in (*_OPEN, CLOSING)},
    },
)
_LINGER = TRANSITIONS.on("linger")
_CLOSE = TRANSITIONS.on("close")


class Leaving(CountsUnsent):
    """
    The part of a client's connection that ends it.

    @ivar state: one of the states above.
    @ivar reader: reads the requests.
    @ivar deadline: the time at which C{deadlinePassed} is called; C{NEVER} during an
        exchange, which has its own deadline.
    """

    state: str
    reader: RequestReader
    deadline: float
    _downstream: HTTP1Downstream
    _exchange: Exchange | None
    _tunnel: Tunnel | None
    _settings: Settings
    _lingering: Lingering | None = None
    # For a client that has closed its sending half: until when it waits for responses.
    _patience: float

    def _within(self, seconds: float) -> None:
        self.deadline = self.context.seconds() + seconds

    def resume(self) -> None:
        """Read on, unless the client has closed its sending half."""
        if not self.isReading and self._patience is NEVER:
            FlowControlled.resume(self)

    def _linger(self) -> None:
        if self._patience is not NEVER:
            # Nothing more can come.
            self.leave()
            return
        self.state = _LINGER[self.state]
        self.resume()
        # First: a transport does not half-close while a producer is registered.
        self.transport.unregisterProducer()
        self._downstream.endSending()
        self._lingering = Lingering(self)

    def isOpen(self) -> bool:
        return self.state is not CLOSING and self.state is not CLOSED

    def leave(self) -> None:
        """
        Flush the write buffer, in bounded time, and close the connection.

        The time is short if the client has closed its sending half: it may be gone.
        """
        if not self.isOpen():
            return
        if self.state is not LINGERING:
            self.transport.unregisterProducer()
        self.state = _CLOSE[self.state]
        ended = self._patience is not NEVER
        self._within(CLOSE_SECONDS if ended else self._settings.stallTimeout)
        self.transport.loseConnection()

    def abort(self) -> None:
        """Reset the connection, so that the client sees an incomplete response."""
        if self.state is CLOSED:
            return
        if self.state is EXCHANGE and self._patience is not NEVER:
            # The end of its bytes tells such a client enough, except where that end
            # would make its response complete.
            if not self._downstream.endsByClose:
                self.leave()
                return
        if self.state not in (LINGERING, CLOSING):
            self.transport.unregisterProducer()
        if self.state is not CLOSING:
            self.state = _CLOSE[self.state]
        self.transport.abortConnection()

    def breakOff(self) -> None:
        """
        End the connection within a response, so that the client sees that it lacks its end.

        A client that still sends its request gets what there is of the response: a reset
        might drop it.
        """
        isEarly = self.state is EXCHANGE and self.reader.state is not framing.ENDED
        # A client that does not read has no use for more time.
        if isEarly and not self.isBacklogged and not self._downstream.endsByClose:
            self._linger()
        else:
            self.abort()

    def drain(self) -> None:
        """Close soon: after the current exchange, or after a short wait for a request."""
        if self.state is IDLE or self.state is HANDSHAKE:
            self._within(DRAIN_IDLE_SECONDS)
        elif self._lingering is not None:
            self._lingering.hurry()

    # --- A client that has closed its sending half

    def readConnectionLost(self) -> None:
        """
        The client has closed its sending half.

        A tunnel ends one direction at a time.  Outside a tunnel, sitio can't tell such
        a client from a client that has disconnected.  So it is taken for gone, unless
        C{halfClose} gives it time for the responses to its whole requests.
        """
        if self._tunnel is not None:
            self._tunnel.clientEnded()
            return
        halfClose = self._settings.halfClose
        if self._patience is NEVER:
            self._patience = self.context.seconds() + halfClose
            self.isReading = False
        if self.state is not EXCHANGE:
            if not (halfClose and self.isBacklogged and self.reader.held):
                self.leave()
        elif halfClose and self.reader.state is framing.ENDED:
            self.deadline = self._patience
        else:
            self._clientGone()

    def _leaveIfIdle(self) -> None:
        if self.state is IDLE or self.state is HEAD:
            self.leave()

    def _patienceEnded(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.state is not ExchangeState.SENDING:
            self._clientGone()
        else:
            # The response has come in time; the exchange bounds its transfer.
            self.deadline = NEVER

    def _clientGone(self) -> None:
        self.abort()
        # At once: nothing more may be written in this reactor turn.
        if self._exchange is not None:
            self._exchange.clientGone()
