"""
Tests of the table in docs/policies.md: what can go wrong with a policy, and what then happens.

What fails open or closed is in C{test_failclosed}; these are the other rows.
"""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, onFinish, onRequest, onResponse, onSend
from sitio.settings import Settings
from sitio.testing import (
    Harness,
    Outcome,
    incompleteResponse,
    request,
    response,
    runPolicy,
)


class Statuses(list[Any]):
    """What an observer has seen."""

    def observer(self) -> Any:
        return onFinish(lambda exchange: self.append(exchange.status))


class LeavingTests(SynchronousTestCase):
    """The client goes away."""

    def leave(self, *policies: Any) -> tuple[Outcome, list[Any]]:
        """The outcome for a client that leaves after two seconds, and what an observer saw."""
        seen = Statuses()
        outcome = runPolicy([*policies, seen.observer()], request(), leavesAfter=2)
        return outcome, seen

    def test_waiting(self) -> None:
        """What a policy waits for is cancelled, which is no failure; the observer sees 499."""
        cancelled: list[str] = []

        async def wait(*arguments: Any) -> None:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                cancelled.append("yes")
                raise

        for policy, attempts in ((onRequest(wait), 0), (onResponse(wait), 1)):
            outcome, seen = self.leave(policy)
            self.assertEqual((outcome.status, outcome.attempts), (None, attempts))
            self.assertEqual((outcome.errors, seen), ([], [499]))
            self.assertEqual(cancelled.pop(), "yes")

    def test_notSent(self) -> None:
        """A send policy is not called where no head was sent."""
        called: list[Any] = []

        @onRequest
        async def wait(exchange: Any) -> None:
            await asyncio.sleep(10)

        self.leave(wait, onSend(lambda exchange, response: called.append(response)))
        self.assertEqual(called, [])

    def test_filter(self) -> None:
        """A filter gets no more pieces of a body that breaks off, and not its end."""
        pieces: list[bytes] = []

        @onResponse
        def look(exchange: Any, response: Any) -> None:
            def note(piece: bytes) -> bytes:
                pieces.append(piece)
                return piece

            response.addFilter(note)

        runPolicy(look, request(), incompleteResponse(response(text="hello!")))
        self.assertEqual((b"".join(pieces), b"" in pieces), (b"hel", False))
        del pieces[:]
        harness = Harness(look)
        client = harness.connect()
        client.sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        upstream = harness.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhel")
        harness.settle()
        client.resets()
        harness.settle()
        upstream.sends(b"lo!")
        harness.settle()
        self.assertEqual(pieces, [b"hel"])
        harness.assertQuiet()


class GarbageTests(SynchronousTestCase):
    """What comes in, or goes out, is not what it should be."""

    def test_readable(self) -> None:
        """Garbage in queries and cookies is never an error."""

        @onRequest
        def read(exchange: Any) -> Response:
            query, cookies = exchange.request.query, exchange.request.cookies
            return Response(200, json=[query.get("a", "none"), cookies.get("a", "none")])

        headers = {"Cookie": 'a; =; "; a b=c'}
        for target in ("/?%", "/?a", "/?&&=&%zz=%ff", "/?a=%ff"):
            outcome = runPolicy(read, request(target, headers=headers))
            self.assertEqual((outcome.status, outcome.errors), (200, []), target)

    def test_unreadable(self) -> None:
        """A body that is not what it says is as if the policy had raised."""

        @onRequest(buffered=True)
        def requested(exchange: Any) -> None:
            exchange.request.json()

        @onResponse(buffered=True)
        def responded(exchange: Any, response: Any) -> None:
            response.text += "!"

        bad = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        asked = request("/", "POST", bad, body=b"{")
        outcome = runPolicy(requested, asked, raiseErrors=False)
        self.assertEqual((outcome.status, len(outcome.errors)), (500, 1))
        answer = response(body=b"{", headers=bad)
        outcome = runPolicy(responded, request(), answer, raiseErrors=False)
        outcome.assertResponse(200, body=b"{", headers={"Content-Encoding": "gzip"})
        self.assertEqual(len(outcome.errors), 1)

    def test_results(self) -> None:
        """Another result than a kind allows is as if it had raised; an observer's is ignored."""

        def seven(*arguments: Any) -> Any:
            return 7

        for policy, status, errors in (
            (onRequest(seven), 500, 1),
            (onResponse(seven), 200, 1),
            (onSend(seven), 200, 1),
            (onFinish(seven), 200, 0),
        ):
            outcome = runPolicy(policy, request(), response(text="a"), raiseErrors=False)
            self.assertEqual((outcome.status, len(outcome.errors)), (status, errors))


class LimitsTests(SynchronousTestCase):
    """A body is longer than sitio keeps."""

    def test_total(self) -> None:
        """Where only the limit of all bodies is reached, a request gets 503 and not 413."""
        whole = onRequest(buffered=True)(lambda exchange: None)
        for settings, status in (
            (Settings(requestBufferLimit=4), 413),
            (Settings(bufferTotal=4), 503),
        ):
            asked = request("/", "POST", body=b"hello")
            runPolicy(whole, asked, settings=settings, raiseErrors=False).assertResponse(status)

    def test_none(self) -> None:
        """A filter has no limit: it has one piece at a time."""

        @onResponse
        def double(exchange: Any, response: Any) -> None:
            response.addFilter(lambda piece: piece * 2)

        small = Settings(bufferLimit=1, bufferTotal=1)
        outcome = runPolicy(double, request(), response(body=b"ab" * 100), settings=small, pieces=2)
        outcome.assertResponse(200, text="ab" * 200)
