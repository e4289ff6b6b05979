"""
Content-Length of responses whose body is left out: for HEAD, and with status 304 (RFC 9110,
section 8.6).
"""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, Retry, onResponse
from sitio.testing.harness import Harness


@onResponse(buffered=True)
def looks(exchange: Any, response: Any) -> None:
    """Reads the body only."""
    len(response.body)


@onResponse(buffered=True)
def appends(exchange: Any, response: Any) -> None:
    """Changes the body in place."""
    response.body += b" and more"


@onResponse(buffered=True)
def replaces(exchange: Any, response: Any) -> Response:
    """Makes another response of the body."""
    return Response(200, body=b"<%b>" % response.body)


@onResponse(buffered=True)
def knows(exchange: Any, response: Any) -> Response:
    """Sends another body, whose length it knows."""
    other = Response(200, body=b"another")
    other.length = 7
    return other


@onResponse(buffered=True)
def fails(exchange: Any, response: Any) -> None:
    """Raises after a change."""
    response.body = b"x"
    raise KeyError


@onResponse(buffered=True)
def asksAgain(exchange: Any, response: Any) -> Retry | None:
    """Asks for one more attempt."""
    return Retry() if exchange.attempts < 2 else None


@onResponse()
def streams(exchange: Any, response: Any) -> None:
    """Does not look at the body."""
    response.headers["X-Passed"] = "1"


@onResponse()
def answers(exchange: Any, response: Any) -> Response:
    """Sends its own page."""
    return Response(200, text="page")


#: Policies, and the Content-Length that HEAD may say: that of GET, or none.
POLICIES: tuple[tuple[list[Any], set[int | None]], ...] = (
    ([], {5}),
    ([streams], {5}),
    ([answers], {4}),
    ([looks], {None}),
    ([appends], {None}),
    ([replaces], {None}),
    ([fails], {None}),
    ([asksAgain], {None}),
    ([knows], {7}),
    ([streams, appends], {None}),
    ([appends, streams], {None}),
    ([appends, answers], {4}),
    ([answers, appends], {13}),
    ([replaces, appends], {None}),
    ([knows, appends], {None}),
    ([appends, knows], {7}),
)


class LengthTests(SynchronousTestCase):
    """What HEAD says is what GET would say."""

    def length(self, policies: list[Any], method: str, status: int = 200) -> int | None:
        """The Content-Length that a client gets; the upstream's is 5."""
        harness = Harness(policies)
        client = harness.connect()
        client.sends(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method.encode())
        body = b"hello" if (method, status) == ("GET", 200) else b""
        for _ in range(2 if asksAgain in policies else 1):
            harness.upstream().sends(
                b"HTTP/1.1 %d OK\r\nContent-Length: 5\r\n\r\n%b" % (status, body)
            )
            harness.clock.advance(1)
        self.flushLoggedErrors(KeyError)
        head = client.got()
        self.assertTrue(head.startswith(b"HTTP/1.1 "), head)
        found = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
        return None if found is None else int(found[1])

    def test_head(self) -> None:
        """
        HEAD says no other Content-Length than GET, and none where a policy would have to see
        the body first.
        """
        for policies, allowed in POLICIES:
            names = [each.function.__name__ for each in policies]
            said = self.length(policies, "HEAD")
            self.assertIn(said, allowed, names)
            self.assertIn(said, (None, self.length(policies, "GET")), names)

    def test_replacedByMore(self) -> None:
        """A policy that puts a response with a body in place of a 304 has it sent whole."""
        harness = Harness([replaces])
        client = harness.connect()
        client.sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        harness.upstream().sends(b"HTTP/1.1 304 OK\r\nContent-Length: 5\r\n\r\n")
        self.assertTrue(client.got().endswith(b"\r\nContent-Length: 2\r\n\r\n<>"))

    def test_notModified(self) -> None:
        """The same holds for a 304."""
        for policies, allowed in POLICIES:
            if not {replaces, answers, knows}.intersection(policies):
                names = [each.function.__name__ for each in policies]
                self.assertIn(self.length(policies, "GET", 304), allowed, names)
