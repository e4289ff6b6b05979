"""Tests of L{sitio.proxy.heldresponse}."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import UpstreamLost
from sitio.http.message import Response
from sitio.net.deadlines import NEVER
from sitio.proxy.buffers import Buffers
from sitio.proxy.heldresponse import HeldResponse
from sitio.settings import Settings


@define
class Connection:
    """A connection that records whether it is paused."""

    calls: list[str] = field(factory=list)

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")


@define
class Route:
    """The attributes of a route that a held response uses."""

    settings: Settings


@define
class Context:
    """The attributes of a context that a held response uses."""

    tooLong: int = 0
    buffers: Buffers = field(factory=lambda: Buffers(1000))


@define
class Exchange:
    """The attributes of an exchange that a held response uses."""

    route: Route
    context: Context = field(factory=Context)
    connection: Connection | None = field(factory=Connection)
    deadline: float = 0.0
    moved: int = 0

    def progress(self) -> None:
        self.moved += 1


class CollectTests(SynchronousTestCase):
    """A policy gets the whole body up to one limit."""

    def hold(self, limit: int = 6, length: int | None = None) -> HeldResponse:
        """A held response of which two bytes have arrived."""
        self.exchange = Exchange(Route(Settings(bufferLimit=limit)))
        assert self.exchange.connection is not None
        self.calls = self.exchange.connection.calls
        self.response = Response.fromWire(200, "OK", [], length)
        exchange: Any = self.exchange
        return HeldResponse(exchange, self.response, b"ab", None)

    def test_paused(self) -> None:
        """The connection is paused until a policy asks for the body."""
        held = self.hold()
        held.responseBody(b"cd")
        self.assertEqual(self.calls, ["pause"])
        self.assertFalse(held.isCollecting)

    def test_whole(self) -> None:
        """A body within the limit is collected and put into the response."""
        held = self.hold(limit=6)
        whole: Any = held.wholeBody()
        self.assertEqual((self.calls, held.isCollecting), (["resume"], True))
        held.responseBody(b"cd")
        held.responseBody(b"ef")
        self.assertNoResult(whole)
        self.assertEqual(self.exchange.moved, 3)
        held.responseEnded([])
        self.assertTrue(self.successResultOf(whole))
        self.assertEqual(self.response.body, b"abcdef")
        self.assertEqual((self.exchange.connection, self.exchange.deadline), (None, NEVER))

    def test_tooLong(self) -> None:
        """
        A body over the limit is not given to the policy.  The pieces stay for the client,
        and it counts once.
        """
        held = self.hold(limit=5)
        whole: Any = held.wholeBody()
        held.responseBody(b"cd")
        held.responseBody(b"ef")
        self.assertFalse(self.successResultOf(whole))
        self.assertEqual(self.calls, ["resume", "pause"])
        self.assertIs(self.response.body, None)
        self.assertIs(held.wholeBody(), False)
        self.assertEqual(self.exchange.context.tooLong, 1)

    def test_announcedTooLong(self) -> None:
        """A body with a Content-Length over the limit is not collected at all."""
        held = self.hold(limit=5, length=6)
        self.assertIs(held.wholeBody(), False)
        self.assertEqual(self.calls, [])

    def test_already(self) -> None:
        """A body that has already arrived is available at once."""
        held = self.hold()
        held.responseEnded([])
        self.assertIs(held.wholeBody(), True)
        self.assertEqual(self.response.body, b"ab")

    def test_breaksOff(self) -> None:
        """If the response breaks off, the current wait and each later one fail."""
        held = self.hold()
        whole: Any = held.wholeBody()
        held.failed(UpstreamLost())
        self.failureResultOf(whole, UpstreamLost)
        held = self.hold()
        held.failed(UpstreamLost())
        self.assertRaises(UpstreamLost, held.wholeBody)
