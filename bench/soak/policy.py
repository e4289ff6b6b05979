"""
Policies of the soak, beside those that come with sitio: one of each kind.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from zope.interface import implementer

from bench.soak.plan import swapped
from sitio import Response, onFinish, onRequest, onResponse
from sitio.interfaces import ISelectivePolicy

#: Faults that the tests of the soak ask for: some of C{leak}, C{wrong}, C{log} and C{hang}.
FAULTS = os.environ.get("SITIO_SOAK_FAULT", "")

_held: list[Any] = []


def _number(exchange: Any) -> int:
    return int(exchange.request.headers.get("X-Number", "1"))


@onRequest
async def waits(exchange: Any) -> Response | None:
    """Answer, or wait a little, by the path."""
    kind = exchange.request.path.split("/")[1]
    if kind == "answered":
        return Response(200, text=f"answered {exchange.request.path}\n")
    if kind == "waits":
        await deferLater(reactor, (_number(exchange) % 5) * 0.002, lambda: None)
    return None


@implementer(ISelectivePolicy)
class Whole:
    """Gets the whole body, and reverses it."""

    statuses = (200,)
    buffered = True

    def isInterested(self, exchange: Any, response: Response) -> bool:
        """Responses to paths below C{/whole/}."""
        return bool(exchange.request.path.startswith("/whole/"))

    def responseReceived(self, exchange: Any, response: Response) -> None:
        """Reverse the body."""
        assert response.body is not None
        response.body = response.body[::-1]
        response.headers["X-Changed"] = "reversed"


whole = Whole()


@onResponse(200)
def changes(exchange: Any, response: Response) -> None:
    """Change each piece of the body, with and without the promise of an equal length."""
    if exchange.request.path.startswith("/filtered/"):
        keeps = _number(exchange) % 2 == 0
        response.addFilter(swapped, keepsLength=keeps)
        response.headers["X-Changed"] = "swapped"


@onResponse(200)
def faulty(exchange: Any, response: Response) -> Any:
    """Do what the soak must notice, if a test asks for it."""
    number = _number(exchange)
    if not FAULTS or number % 5:
        return None
    if "leak" in FAULTS and number > 100:
        _held.append((os.open("/dev/null", os.O_RDONLY), bytearray(b"x" * 2_000_000)))
    if "wrong" in FAULTS:
        response.addFilter(lambda piece: piece and piece[:-1] + b"?", keepsLength=True)
    if "log" in FAULTS and number % 10:
        raise RuntimeError("as the test wants it")
    if "hang" in FAULTS and number < 50:
        return deferLater(reactor, 25, lambda: None)
    return None


@onFinish
def ended(exchange: Any) -> None:
    """Read what an observer may read."""
    assert exchange.duration >= 0
    assert exchange.status or exchange.status is None
