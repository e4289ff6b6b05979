"""Tests of L{sitio.proxy.retries}."""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import Reached
from sitio.http.message import Request
from sitio.proxy.retries import MAX_ATTEMPTS, isRepeatable, mayRetry, repeatsByItself


@define
class Body:
    """An upload or a connection, with the attributes that the rules read."""

    isRepeatable: bool = True
    carried: int = 1


class RuleTests(SynchronousTestCase):
    """When a request may be sent again."""

    def test_methods(self) -> None:
        """Only idempotent methods are repeatable, and methods are case-sensitive."""
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"):
            self.assertTrue(isRepeatable(Request(method, "/"), None), method)
        for method in ("POST", "PATCH", "get", "PROPFIND"):
            self.assertFalse(isRepeatable(Request(method, "/"), None), method)

    def test_bodies(self) -> None:
        """A streaming body is repeatable only if sitio has all of it."""
        put = Request("PUT", "/")
        for repeatable in (True, False):
            upload: Any = Body(isRepeatable=repeatable)
            self.assertEqual(isRepeatable(put, upload), repeatable)

    def test_reached(self) -> None:
        """A request that did not reach the upstream may be repeated, with any method."""
        for method, reached, wanted in (
            ("POST", Reached.NOTHING, True),
            ("POST", Reached.SENT, False),
            ("POST", Reached.ANSWERED, False),
            ("GET", Reached.NOTHING, True),
            ("GET", Reached.SENT, True),
            ("GET", Reached.ANSWERED, True),
        ):
            self.assertEqual(mayRetry(1, reached, Request(method, "/"), None), wanted, method)

    def test_attempts(self) -> None:
        """The number of attempts is limited."""
        get = Request("GET", "/")
        self.assertTrue(mayRetry(MAX_ATTEMPTS - 1, Reached.NOTHING, get, None))
        self.assertFalse(mayRetry(MAX_ATTEMPTS, Reached.NOTHING, get, None))

    def test_byItself(self) -> None:
        """sitio itself repeats only after an idle connection failed before the response."""
        for method, carried, reached, wanted in (
            ("GET", 2, Reached.SENT, True),
            ("GET", 1, Reached.SENT, False),
            ("GET", 2, Reached.ANSWERED, False),
            ("POST", 2, Reached.SENT, False),
        ):
            connection: Any = Body(carried=carried)
            self.assertEqual(
                repeatsByItself(reached, connection, Request(method, "/"), None), wanted
            )
        self.assertFalse(repeatsByItself(Reached.SENT, None, Request("GET", "/"), None))
