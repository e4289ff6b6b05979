"""An id and a Server-Timing for each response: `--policy file:examples/requestid.py`."""

from sitio import Exchange, SentHead, onRequest, onSend


@onRequest
def passOn(exchange: Exchange) -> None:
    # The client's own, if it has sent a good one.
    exchange.request.headers["X-Request-Id"] = exchange.id


@onSend
def show(exchange: Exchange, response: SentHead) -> None:
    response.headers["X-Request-Id"] = exchange.id
    # The service may have times of its own: this line is one more.
    whole, upstream = exchange.now - exchange.began, exchange.upstreamTime
    times = f"app;dur={upstream * 1000:.1f}, proxy;dur={(whole - upstream) * 1000:.1f}"
    response.headers.add("Server-Timing", times)
