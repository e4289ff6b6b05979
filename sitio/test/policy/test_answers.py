"""
Tests of L{sitio.policy.answers}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import Request, Response
from sitio.http.bodyfilters import AddedFilter
from sitio.policy.answers import (
    checkRequest,
    checkResponse,
    copied,
    restoreResponse,
    savedResponse,
)
from sitio.proxy.filters import Filters


class Hostile(bytes):
    """Bytes whose methods raise."""

    def fails(self, *given: object) -> Any:
        """Stands for each method that sitio might use."""
        raise SystemExit

    __len__ = __add__ = __radd__ = __iter__ = __getitem__ = __bool__ = __eq__ = fails
    __bytes__ = fails
    __hash__ = bytes.__hash__


class CheckTests(SynchronousTestCase):
    """What can't be sent is refused, with a sentence."""

    def test_subclasses(self) -> None:
        """Of a subclass of C{bytes} only the bytes are taken, and no method is called."""
        response, request = Response(200), Request("GET", "/")
        response.body = request.body = Hostile(b"hi")
        checkResponse(response, mayStream=True)
        checkRequest(request)
        exchange: Any = None
        filters = Filters(exchange, [AddedFilter(lambda data: Hostile(b"ab"), True, True)])
        for body in (response.body, request.body, filters.apply(b"hi")):
            self.assertIs(type(body), bytes)
        self.assertEqual((response.body, request.body), (b"hi", b"hi"))

    def test_response(self) -> None:
        """A response has a body of bytes, a final status and a reason of C{str}."""
        checkResponse(Response(200), mayStream=False)
        streams = Response.fromWire(200, "OK", [])
        checkResponse(streams, mayStream=True)
        self.assertRaises(TypeError, checkResponse, streams, mayStream=False)
        bad: tuple[tuple[str, Any], ...] = (
            ("body", "text"),
            ("status", 100),
            ("status", 1000),
            ("status", "200"),
            ("reason", b"OK"),
        )
        for name, value in bad:
            response = Response(200)
            setattr(response, name, value)
            error = self.assertRaises(
                (TypeError, ValueError), checkResponse, response, mayStream=True
            )
            self.assertIn(name, str(error))

    def test_filters(self) -> None:
        """Filters are a list of what addFilter makes: functions, each with its terms."""
        function = bytes.upper
        good: tuple[Any, ...] = (
            None,
            [],
            [AddedFilter(function, True, True)],
            [AddedFilter(function, False, False), AddedFilter(function, True, False, print)],
        )
        for filters in good:
            response = Response(200)
            response.filters = filters
            checkResponse(response, mayStream=False)
        bad: tuple[Any, ...] = (
            *(5, function, (), {1: 2}, iter([(function, True)])),
            *([function], [None], [()], [(function,)], [(function, True, True)], ["ab"]),
            *([AddedFilter(None, True, True)], [AddedFilter(function, True, True), 5]),  # type: ignore[arg-type]
        )
        for filters in bad:
            response = Response(200)
            response.filters = filters
            error = self.assertRaises(TypeError, checkResponse, response, mayStream=True)
            self.assertIn("filter", str(error))

    def test_addFilter(self) -> None:
        """What addFilter makes of any truth value is right."""
        for keepsLength in (True, False, 1, 0, "yes", None):
            response = Response(200)
            response.addFilter(bytes.upper, keepsLength=keepsLength)  # type: ignore[arg-type]
            checkResponse(response, mayStream=False)

    def test_request(self) -> None:
        """A request has a body of bytes, or one that streams."""
        request = Request("GET", "/")
        for body in (None, b""):
            request.content = body
            checkRequest(request)
        request.body = "text"  # type: ignore[assignment]
        self.assertRaises(TypeError, checkRequest, request)


class CopyTests(SynchronousTestCase):
    """A copy shares nothing that can be changed."""

    def test_copied(self) -> None:
        """A change of the copy does not change the original, nor the other way round."""
        one = Response(404, text="no", headers={"X-A": "b"})
        one.addFilter(bytes.upper)
        two = copied(one)
        two.headers["X-A"] = "c"
        one.addFilter(bytes.lower)
        self.assertEqual((one.headers["X-A"], two.headers["X-A"]), ("b", "c"))
        self.assertEqual((two.status, two.body, len(two.filters or ())), (404, b"no", 1))

    def test_restored(self) -> None:
        """All changes since a response was saved are undone."""
        response = Response.fromWire(200, "OK", [(b"X-A", b"b")])
        saved = savedResponse(response)
        response.headers["X-A"] = "c"
        response.status, response.reason, response.body = 500, "No", b"no"
        response.addFilter(bytes.upper)
        restoreResponse(response, saved)
        self.assertEqual(
            (response.status, response.reason, response.body, response.filters),
            (200, "OK", None, None),
        )
        self.assertEqual(response.headers.allItems(), [("X-A", "b")])
