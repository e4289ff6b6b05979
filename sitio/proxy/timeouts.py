"""
How long an exchange may wait in each state, and what happens on a timeout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sitio.errors import Reached, RequestTimeout, SitioError, Stalled, UpstreamTimeout
from sitio.interfaces import ExchangeState
from sitio.net.deadlines import NEVER

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange


def timeoutOf(exchange: Exchange) -> float | None:
    """
    The timeout of the exchange's state, in seconds.  L{None} if another object keeps the
    timeout: the pool while the exchange waits for a connection, the chain while a
    policy decides.
    """
    settings = exchange.route.settings
    state = exchange.state
    if state is ExchangeState.SENDING:
        return settings.stallTimeout
    if state is ExchangeState.WAITING:
        upload = exchange.upload
        return _timeForHead(exchange) if upload is None or upload.ended else upload.timeLeft()
    if state is ExchangeState.TUNNELLING:
        return settings.tunnelTimeout
    if state is ExchangeState.DECIDING:
        upload = exchange.upload
        return upload.timeLeft() if upload is not None and upload.isCollecting else None
    if state is ExchangeState.JUDGING and exchange.held is not None and exchange.held.isCollecting:
        return settings.stallTimeout
    return None


def _timeForHead(exchange: Exchange) -> float:
    """
    Seconds until the head of a response must have come.  Where the upstream has retries of its
    own, the timeout is that of all attempts together, from the end of the request.
    """
    upstream = exchange.route.upstream
    retries = None if upstream is None else upstream.retries
    if retries is None:
        return exchange.timeout
    now = exchange.context.seconds()
    if exchange.lateAt is NEVER:
        exchange.lateAt = now + exchange.timeout
    left = max(0.0, exchange.lateAt - now)
    return left if retries.perTryTimeout is None else min(left, retries.perTryTimeout)


def _tooLate(exchange: Exchange) -> str:
    """What a missing head means, for the operator."""
    upstream = exchange.route.upstream
    retries = None if upstream is None else upstream.retries
    limit = exchange.timeout
    if retries is not None and exchange.context.seconds() < exchange.lateAt:
        limit = retries.perTryTimeout or limit
    return f"no response in {limit:g} seconds"


def _lateError(exchange: Exchange) -> SitioError | None:
    """
    The failure that a timeout means in the exchange's state.  L{None} for a tunnel: an
    idle tunnel is closed without a failure.
    """
    settings = exchange.route.settings
    state = exchange.state
    upload = exchange.upload
    stalled = f"in {settings.stallTimeout:g} seconds"
    if state is ExchangeState.WAITING:
        if upload is None or upload.ended:
            return UpstreamTimeout(_tooLate(exchange), Reached.SENT)
        if upload.paused:
            return UpstreamTimeout(f"no response {stalled}", Reached.SENT)
    if upload is not None and state in (ExchangeState.WAITING, ExchangeState.DECIDING):
        if upload.isTooSlow:
            rate = settings.minBodyRate
            return RequestTimeout(f"the request's body came slower than {rate} bytes per second")
        return RequestTimeout(f"no byte of the request's body {stalled}")
    if state is ExchangeState.JUDGING:
        return UpstreamTimeout(f"no byte of the response's body {stalled}", Reached.ANSWERED)
    if state is ExchangeState.TUNNELLING:
        return None
    return Stalled(f"no byte moved {stalled}")


def timeOut(exchange: Exchange) -> None:
    """Handle a timeout: answer the client, judge the failure, or break off."""
    exchange.deadline = NEVER
    error = _lateError(exchange)
    if exchange.held is not None and error is not None:
        exchange.leaveUpstream()
        exchange.held.failed(error)
    elif isinstance(error, RequestTimeout):
        exchange.refuse(error)
    elif isinstance(error, UpstreamTimeout):
        exchange.leaveUpstream()
        exchange.addWaitedTime()
        exchange.fail(error)
    else:
        exchange.abort(error)
