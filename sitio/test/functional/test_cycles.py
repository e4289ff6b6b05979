"""
Tests that exchanges and connections leave no reference cycles: memory is freed when they end,
and the garbage collector has next to nothing to do.
"""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest, onResponse
from sitio.testing.harness import Harness

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"

#: Exchanges of each kind.
TIMES = 5


@onRequest
def _acts(exchange: Any) -> None:
    exchange.request.headers["X-A"] = "b"


@onRequest
async def _waits(exchange: Any) -> None:
    await deferLater(exchange.context.clock, 0, lambda: None)


@onRequest(buffered=True)
def _takesRequest(exchange: Any) -> None:
    exchange.request.body = exchange.request.body.upper()


@onResponse(buffered=True)
def _takesResponse(exchange: Any, response: Any) -> None:
    response.body = response.body.upper()


@onResponse
def _filters(exchange: Any, response: Any) -> None:
    response.addFilter(lambda data: data)


class CyclesTests(SynchronousTestCase):
    """What an exchange and its connections were made of is gone when they have ended."""

    def left(self, policies: Any, request: list[bytes], response: list[bytes]) -> list[str]:
        """The names of sitio's classes that only the collector can free."""
        harness = Harness(policies)
        harness.acceptConnections()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        gc.set_debug(gc.DEBUG_SAVEALL)
        self.addCleanup(gc.garbage.clear)
        self.addCleanup(gc.set_debug, 0)
        for _ in range(TIMES):
            client = harness.connect()
            for piece in request:
                client.sends(piece)
                harness.settle()
            for piece in response:
                harness.upstream(-1).sends(piece)
                harness.settle()
            client.closes()
            harness.advance(1)
            del client
            harness.clients.clear()
            harness.exchanges.clear()
            harness.failures.clear()
        gc.collect()
        found = [type(each) for each in gc.garbage]
        return sorted(
            {
                each.__qualname__
                for each in found
                if each.__module__.startswith(("sitio.proxy", "sitio.upstream", "sitio.policy"))
            }
        )

    def check(self, policies: Any, request: list[bytes], response: list[bytes]) -> None:
        """
        Nothing is left but connections, which the network in memory keeps in cycles of its
        own.
        """
        self.assertEqual(
            [each for each in self.left(policies, request, response) if each != "ProxyServer"], []
        )

    def test_plain(self) -> None:
        """A request without policies, whole and in pieces, with and without a body."""
        self.check([], [GET], [HEAD + b"hello"])
        self.check([], [GET], [HEAD + b"he", b"llo"])
        self.check([], [POST, b"def"], [HEAD + b"hello"])

    def test_brokenOff(self) -> None:
        """The client leaves before a response, and within one."""
        self.check([], [GET], [])
        self.check([], [GET], [HEAD + b"he"])
        self.check([], [POST], [])

    def test_policies(self) -> None:
        """Policies that act, wait, buffer and filter."""
        self.check([_acts], [GET], [HEAD + b"hello"])
        self.check([_waits], [GET], [HEAD + b"hello"])
        self.check([_takesRequest], [POST, b"def"], [HEAD + b"hello"])
        self.check([_takesResponse], [GET], [HEAD + b"he", b"llo"])
        self.check([_filters], [GET], [HEAD + b"he", b"llo"])
