"""
Tests of what policies see of a response's body: it does not depend on how the body arrives.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio import ISelectivePolicy, onRequest, onResponse
from sitio.settings import Settings
from sitio.testing import Harness, Runner, request, response, runPolicy

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_CHUNKS = b"0\r\n\r\n"
CHUNKS = b"2\r\nhe\r\n3\r\nllo\r\n" + NO_CHUNKS

#: The pieces of a response, and its body.
WAYS: dict[str, tuple[tuple[bytes, ...], bytes]] = {
    "in one read": ((LENGTH + b"hello",), b"hello"),
    "head, then body": ((LENGTH, b"hello"), b"hello"),
    "in two parts": ((LENGTH + b"he", b"llo"), b"hello"),
    "chunks in one read": ((CHUNKED + CHUNKS,), b"hello"),
    "chunks": ((CHUNKED, CHUNKS), b"hello"),
    "no chunks in one read": ((CHUNKED + NO_CHUNKS,), b""),
    "no chunks": ((CHUNKED, NO_CHUNKS), b""),
}

#: A response that has no body, as its head tells: the method of the request, and the response.
NONE = (
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ("HEAD", LENGTH),
    ("HEAD", CHUNKED),
)


@implementer(ISelectivePolicy)
class Chooser:
    """Notes what it sees of a body when it is asked whether it needs it, and when it has it."""

    buffered = True

    def __init__(self, seen: list[Any], statuses: Any = range(100, 1000)) -> None:
        self.seen = seen
        self.statuses = statuses

    def isInterested(self, exchange: Any, response: Any) -> bool:
        self.seen.append(response.body)
        return True

    def responseReceived(self, exchange: Any, response: Any) -> None:
        self.seen.append(response.body)


class ArrivalTests(SynchronousTestCase):
    """A policy gets the body because it asks for it, or not at all."""

    def ask(self, policies: list[Any], pieces: tuple[bytes, ...], method: str = "GET") -> bytes:
        """The body that the client gets, if the upstream's response comes in these pieces."""
        harness = Harness(policies)
        client = harness.connect()
        client.sends(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        for each in pieces:
            harness.upstream().sends(each)
        got = client.gotResponse(method).body
        harness.assertQuiet()
        return got or b""

    def test_ways(self) -> None:
        """Without C{buffered} there is none; behind a policy with it, all see the whole."""
        for name, (pieces, body) in WAYS.items():
            seen: list[Any] = []
            look = onResponse(lambda exchange, response, seen=seen: seen.append(response.body))
            whole = onResponse(buffered=True)(look.function)
            for policies, expected in (
                ([look], [None]),
                ([whole], [body]),
                ([look, whole, look], [None, body, body]),
                ([Chooser(seen)], [None, body]),
                ([look, Chooser(seen), look], [None, None, body, body]),
            ):
                del seen[:]
                self.assertEqual(self.ask(policies, pieces), body, name)
                self.assertEqual(seen, expected, name)

    def test_none(self) -> None:
        """A head that says that there is no body is enough to know it."""
        for method, head in NONE:
            seen: list[Any] = []
            look = onResponse(lambda exchange, response, seen=seen: seen.append(response.body))
            self.assertEqual(self.ask([look], (head,), method), b"")
            self.assertEqual(seen, [b""], head)

    def test_meaning(self) -> None:
        """The kit shows the same in all pieces: to read what streams is an error."""
        reads = onResponse(lambda exchange, response: response.text and None)
        for pieces in (None, 0, 2):
            outcome = runPolicy(
                reads, request(), response(text="hi"), pieces=pieces, raiseErrors=False
            )
            self.assertEqual((outcome.text, len(outcome.errors)), ("hi", 1))
            self.assertIn("buffered=True", str(outcome.errors[0]))

    def test_retried(self) -> None:
        """A HEAD that a policy has made a GET has the body of GET."""
        seen: list[Any] = []

        @onRequest
        def get(exchange: Any) -> None:
            exchange.request.method = "GET"

        self.ask([get, Chooser(seen)], (LENGTH + b"hello",), "HEAD")
        self.assertEqual(seen, [None, b"hello"])

    def test_tooLong(self) -> None:
        """A body over the limit is none for any policy, however it arrives."""
        for pieces in (0, 2):
            seen: list[Any] = []
            look = onResponse(lambda exchange, response, seen=seen: seen.append(response.body))
            policies = [onResponse(buffered=True)(look.function), look]
            with Runner(policies, settings=Settings(bufferLimit=4)) as runner:
                outcome = runner.run(request(), response(text="hello"), pieces=pieces)
            self.assertEqual((outcome.text, seen), ("hello", [None]))


class TakenTests(SynchronousTestCase):
    """C{response.body = None} does not bring the upstream's body back."""

    def test_closed(self) -> None:
        """It is a mistake, so that a policy that fails closed withholds the response."""
        for policies in (
            [onResponse(buffered=True, failOpen=False)],
            [onResponse(buffered=True), onResponse(failOpen=False)],
        ):
            made = [
                each(lambda exchange, response: setattr(response, "body", None))
                for each in policies
            ]
            outcome = runPolicy(made, request(), response(text="secret"), raiseErrors=False)
            self.assertEqual(outcome.status, 502)
            self.assertIn('write b"" for none', str(outcome.errors[-1]))

    def test_open(self) -> None:
        """One that fails open leaves the response as it was."""

        @onResponse(buffered=True)
        def takes(exchange: Any, response: Any) -> None:
            response.headers["X-Left"] = "1"
            response.body = None

        outcome = runPolicy(takes, request(), response(text="hi"), raiseErrors=False)
        self.assertEqual((outcome.text, "X-Left" in outcome.headers), ("hi", False))


class LengthTests(SynchronousTestCase):
    """The length of a body that streams is what its sender says, whatever policies set."""

    def test_responses(self) -> None:
        """A policy that sets it has failed, however the body arrives."""
        for value in (0, 3, 9, None, -1, -7, "x"):
            for pieces in (0, 2):
                sets = onResponse(
                    lambda exchange, response, value=value: setattr(response, "length", value)
                )
                outcome = runPolicy(
                    sets, request(), response(text="hello"), pieces=pieces, raiseErrors=False
                )
                self.assertEqual((outcome.text, outcome.whole), ("hello", True))
                self.assertEqual([type(each) for each in outcome.errors], [ValueError], value)

    def test_leftOut(self) -> None:
        """For HEAD it is a number, which the client gets, or unknown."""
        for value, expected, errors in (
            (3, 3, 0),
            (None, None, 0),
            (-1, None, 0),
            (-7, 5, 1),
            ("3", 5, 1),
        ):
            sets = onResponse(
                lambda exchange, response, value=value: setattr(response, "length", value)
            )
            outcome = runPolicy(
                sets, request("/", "HEAD"), response(text="hello"), raiseErrors=False
            )
            fields = dict(outcome.headers.rawFields)
            length = fields.get(b"Content-Length")
            self.assertEqual(length and int(length), expected, value)
            self.assertEqual(len(outcome.errors), errors)

    def test_requests(self) -> None:
        """The upstream must not take a part of a body for another request."""
        for failOpen, status in ((False, 500), (True, 200)):
            for value in (3, 9, None, "x"):
                for pieces in (0, 2):
                    sets = onRequest(failOpen=failOpen)(
                        lambda exchange, value=value: setattr(exchange.request, "length", value)
                    )
                    asked = request("/", "POST", body=b"hello")
                    outcome = runPolicy(sets, asked, pieces=pieces, raiseErrors=False)
                    self.assertEqual((outcome.status, len(outcome.errors)), (status, 1), value)
                    self.assertEqual([each.body for each in outcome.requests],
                                     [b"hello"] * failOpen)  # fmt: skip
