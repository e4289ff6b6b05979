"""
Policies that rewrite bodies, with a client and an upstream: what is said of the new body.
"""

from __future__ import annotations

import gzip
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest, onResponse
from sitio.testing import Runner, request, response, runPolicy

OLD = gzip.compress(b'{"name": "Ada", "pin": 1234}')
FIELDS = {
    "Content-Type": "application/json",
    "Content-Encoding": "gzip",
    "ETag": '"old"',
    "Repr-Digest": "sha-256=:b2xk:",
    "Vary": "Accept-Encoding",
}


@onResponse(200, 304, buffered=True)
def redact(exchange: Any, response: Any) -> None:
    """Removes a member from JSON, if there is a body."""
    response.json = {"name": response.json()["name"]} if response.body else None


@onResponse(200)
def replace(exchange: Any, response: Any) -> None:
    response.text = exchange.request.headers.get("X-Text", "")


@onResponse(200)
def fails(exchange: Any, response: Any) -> None:
    response.text = "new"
    raise KeyError("a bug")


@onRequest(buffered=True)
def upper(exchange: Any) -> None:
    exchange.request.text = exchange.request.text.upper()


def lengthIn(outcome: Any) -> int | None:
    """The Content-Length that the client got."""
    fields = {name.lower(): value for name, value in outcome.headers.rawFields}
    return int(fields[b"content-length"]) if b"content-length" in fields else None


class RewritingTests(SynchronousTestCase):
    """The client gets the new body, and no field about the old one."""

    def test_get(self) -> None:
        """The new body is sent plain, with its own length."""
        for pieces in (0, 3):
            outcome = runPolicy(redact, request(), response(200, body=OLD, headers=FIELDS),
                                pieces=pieces or None)  # fmt: skip
            self.assertEqual(outcome.json(), {"name": "Ada"})
            self.assertEqual({*outcome.headers}, {"Content-Type", "Vary"})

    def test_twins(self) -> None:
        """HEAD and 304 have no length and no validators that GET would not have."""
        for method, status in (("HEAD", 200), ("GET", 304)):
            with Runner(redact) as runner:
                theirs = response(status, body=OLD, headers=FIELDS)
                outcome = runner.run(request("/", method), theirs)
            self.assertEqual((outcome.status, outcome.body), (status, b""))
            self.assertEqual(lengthIn(outcome), None)
            self.assertEqual({*outcome.headers}, {"Content-Type", "Vary"})

    def test_sameForHead(self) -> None:
        """A body that does not depend on the old one has the same length for HEAD, even 0."""
        for text in ("a new body", ""):
            for method in ("GET", "HEAD"):
                asked = request("/", method, {"X-Text": text})
                outcome = runPolicy(replace, asked, response(200, body=OLD, headers=FIELDS))
                self.assertEqual(lengthIn(outcome), len(text), (text, method))
                self.assertNotIn("ETag", outcome.headers)

    def test_undone(self) -> None:
        """What a policy set before it failed is undone, the length of HEAD included."""
        for method in ("GET", "HEAD"):
            theirs = response(200, body=OLD, headers=FIELDS)
            outcome = runPolicy(fails, request("/", method), theirs, raiseErrors=False)
            self.assertEqual(lengthIn(outcome), len(OLD))
            self.assertEqual(outcome.headers["ETag"], '"old"')

    def test_part(self) -> None:
        """A policy that would rewrite a part fails: the error says what to do."""
        part = response(206, body=b"abc", headers={"Content-Range": "bytes 0-2/9"})
        rewrite = onResponse(206)(replace.function)
        outcome = runPolicy(rewrite, request(), part, raiseErrors=False)
        self.assertEqual((outcome.body, len(outcome.errors)), (b"abc", 1))

    def test_request(self) -> None:
        """The upstream gets the new body of a request plain, with its length."""
        fields = {"Content-Encoding": "gzip", "Content-Digest": "sha-256=:b2xk:"}
        asked = request("/", "POST", fields, body=gzip.compress(b"hello"))
        got = runPolicy(upper, asked, response(200)).requests[0]
        self.assertEqual((got.body, got.length), (b"HELLO", 5))
        self.assertEqual({*got.headers} & {"Content-Encoding", "Content-Digest"}, set())
