"""
Tests of L{sitio.testing.outcomes}: what an assertion accepts, and the difference that it shows.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import onResponse
from sitio.testing import Outcome, connectionReset, incompleteResponse, request, response, runPolicy


@onResponse()
def nothing(exchange: Any, response: Any) -> None:
    pass


def got(asked: Any = None, answer: Any = None) -> Outcome:
    """The outcome of a request that nothing changes."""
    answer = answer or response(404, json={"b": 1, "a": [True]}, headers={"X-A": "1"})
    return runPolicy(nothing, asked or request("/x"), answer)


class ResponseTests(SynchronousTestCase):
    """L{Outcome.assertResponse}."""

    def differs(self, outcome: Outcome, *arguments: Any, **wanted: Any) -> list[str]:
        """The lines of the message."""
        with self.assertRaises(AssertionError) as caught:
            outcome.assertResponse(*arguments, **wanted)
        return str(caught.exception).splitlines()

    def test_same(self) -> None:
        """What the test says is compared, and nothing else; names of fields have no case."""
        outcome = got()
        outcome.assertResponse(404)
        outcome.assertResponse(404, headers={"x-a": "1", "X-B": None})
        outcome.assertResponse(404, json={"a": [True], "b": 1})
        outcome.assertResponse(404, text=outcome.text)
        outcome.assertResponse(404, body=outcome.body)
        twice = got(answer=response(headers=[("Set-Cookie", "a"), ("Set-Cookie", "b")]))
        twice.assertResponse(200, headers={"Set-Cookie": "a, b"}, text="")

    def test_head(self) -> None:
        """A difference in the head shows its lines, with what is near to them."""
        wanted = {"X-A": "2", "X-B": "3", "Content-Type": None}
        lines = self.differs(got(), 403, headers=wanted)
        self.assertEqual(lines[:3], ["the client got another response:", "--- wanted", "+++ got"])
        fields = ["+404 Not Found", "+X-A: 1", "+Content-Type: application/json"]
        self.assertEqual(lines[3:9], ["-403 Forbidden", "-X-A: 2", "-X-B: 3", *fields])
        self.assertNotIn("{", "".join(self.differs(got(), 403)[:6]))

    def test_json(self) -> None:
        """JSON is compared by its value, where 1 is not true, and shown member by member."""
        lines = self.differs(got(), 404, json={"a": [1], "b": 1})
        self.assertEqual(lines[4:], JSON_DIFFERENCE)

    def test_noJson(self) -> None:
        """A body that is no JSON is shown as it is."""
        lines = self.differs(got(answer=response(text="oops")), 200, json={})
        self.assertEqual(lines[-2:], ["-{}", "+oops"])

    def test_text(self) -> None:
        """Text is shown line by line; the end of the last line counts, and what is invisible."""
        outcome = got(answer=response(text="a\nb\r\n"))
        self.assertEqual(self.differs(outcome, 200, text="a\nb")[-4:], [" a", "-b", "+b\\r", "+"])

    def test_long(self) -> None:
        """Long lines and long texts show where they begin to differ, and not all the rest."""
        outcome = got(answer=response(text="x" * 1000 + "y" + "z" * 100_000))
        lines = self.differs(outcome, 200, text="x" * 1001 + "z" * 100_000)
        self.assertLess(len("\n".join(lines)), 8000)
        self.assertTrue(any("xxy" in each for each in lines), lines)
        outcome = got(answer=response(text="x" * 88 + "\ny"))
        self.assertNotEqual(self.differs(outcome, 200, text="x" * 88 + "y")[3:], [])

    def test_bytes(self) -> None:
        """A body that is no text is shown as bytes."""
        lines = self.differs(got(answer=response(body=b"\xff\x00")), 200, body=b"\xff\x01")
        self.assertEqual(lines[-2:], ["-b'\\xff\\x01'", "+b'\\xff\\x00'"])

    def test_incomplete(self) -> None:
        """A response that breaks off is not the one that the test wants, whatever has come."""
        outcome = got(answer=incompleteResponse(response(text="hello")))
        lines = self.differs(outcome, 200, text="he")
        self.assertEqual(lines[-1], "+(the response is incomplete)")

    def test_onlyOne(self) -> None:
        """A test wants a body in one way, as the others would not be looked at."""
        outcome = got(answer=response(text="{}"))
        for each in ({"text": "{}", "json": {}}, {"json": {}, "body": b"{}"}):
            self.assertRaises(ValueError, outcome.assertResponse, 200, **each)

    def test_raised(self) -> None:
        """The message has what policies raised, where that is not raised itself."""

        @onResponse(failOpen=False)
        def broken(exchange: Any, response: Any) -> None:
            raise KeyError("who?")

        outcome = runPolicy(broken, request(), raiseErrors=False)
        self.assertIn("A policy raised KeyError('who?').", self.differs(outcome, 200))


JSON_DIFFERENCE = [" {", '   "a": [', "-    1", "+    true", "   ],", '   "b": 1', " }"]


class RequestTests(SynchronousTestCase):
    """L{Outcome.assertRequest}."""

    def test_same(self) -> None:
        """The last request is compared, or that of a number."""
        outcome = got(request("/x?a", "PUT", {"X-A": "1"}, json=[1]), connectionReset())
        outcome.assertRequest("/x?a", "PUT", headers={"X-A": "1", "X-B": None}, json=[1])
        outcome.assertRequest("/x?a", "PUT", text="[1]", number=0)

    def test_differs(self) -> None:
        """The message shows the lines that differ."""
        with self.assertRaises(AssertionError) as caught:
            got(request("/x", "POST", body=b"a")).assertRequest("/y", text="b")
        lines = str(caught.exception).splitlines()
        self.assertEqual(
            lines[:4], ["the upstream got another request:", "--- wanted", "+++ got", "-GET /y"]
        )
        self.assertEqual(lines[-2:], ["-b", "+a"])

    def test_none(self) -> None:
        """Without a request the message has what the client got."""
        outcome = runPolicy("deny:GET:/*", request("/x"))
        error = self.assertRaises(AssertionError, outcome.assertRequest, "/x")
        self.assertIn("the upstream got no request; the client got:\n403 Forbidden\n", str(error))
        error = self.assertRaises(AssertionError, got().assertRequest, "/x", number=3)
        self.assertIn("the upstream got 1 request;", str(error))


class ComparedTests(SynchronousTestCase):
    """Outcomes themselves."""

    def test_equal(self) -> None:
        """Outcomes are equal if client and upstream got the same, in different exchanges."""
        self.assertEqual(got(), got())
        self.assertNotEqual(got(), got(request("/y")))
        self.assertNotEqual(got(), got(answer=response(404)))

    def test_shown(self) -> None:
        """The repr is one short line; the text has all."""
        outcome = got(answer=response(200, text="one\ntwo"))
        self.assertEqual(repr(outcome), "<Outcome 200 OK one two>")
        self.assertEqual(str(outcome).splitlines()[-3:], ["", "one", "two"])
        self.assertLess(len(repr(got(answer=response(text="x" * 1000)))), 80)
