"""
Whether a response is one that its request may get.

Three kinds of responses come: those of the service, whose bytes must be the ones that this
number has; those that a policy or sitio has made, whose status must have a reason; and
those that break off, which must have a reason too.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.soak.plan import BREAKS, SHARED, Answer, Request, sharedBody, swapped
from bench.soak.wire import Expected, Head, Wrong

#: The longest body that a policy of sitio gets whole, by default.
MOST_BUFFERED = 1024 * 1024

#: Bytes of the longest page of sitio.
MOST_PAGE = 16 * 1024


class Unexpected(Exception):
    """A response, or the end of a connection, for which there is no reason."""


class Page:
    """The body of a response that sitio has made."""

    complete = True

    def __init__(self) -> None:
        self.data = b""

    def add(self, piece: bytes) -> None:
        """
        Get a piece.

        @raise Wrong: the page is too long.
        """
        self.data += piece
        if len(self.data) > MOST_PAGE:
            raise Wrong(f"a page of more than {MOST_PAGE} bytes")

    def end(self) -> None:
        """All has come."""


class Verdict:
    """
    Checks the response to one request.

    @ivar answer: what the service does.
    @ivar excused: whether a failure has a reason that lies outside of this request.
    @ivar by: who has made the response: C{service} or C{sitio}; empty before its head.
    """

    def __init__(self, seed: str, request: Request, excused: Callable[[], bool]) -> None:
        self._seed = seed
        self.request = request
        self.answer = Answer.choose(seed, request.number, request.kind, request.method)
        self.by = ""
        self.excused = excused
        self.body: Expected | Page = Page()

    @property
    def bodiless(self) -> bool:
        """Whether the response has no body by its request."""
        return self.request.method == "HEAD"

    @property
    def breaks(self) -> bool:
        """Whether the service breaks off."""
        return self.answer.course in BREAKS

    def begin(self, head: Head) -> Expected | Page:
        """
        Judge the head of the response.

        @return: what checks its body.
        @raise Wrong: it belongs to another request, or sitio has damaged it.
        @raise Unexpected: its status has no reason.
        """
        request, fields = self.request, head.fields
        if request.old and "transfer-encoding" in fields:
            raise Wrong("chunks for a client with HTTP/1.0")
        if "date" not in fields and head.status != 101:
            raise Unexpected(f"{head.line!r} without a date")
        if "x-number" in fields:
            self.by = "service"
            self._own(head)
            data = self.answer.body(self._seed, request.number, False)
        elif "x-key" in fields:
            self.by = "service"
            if request.kind != "shared" or fields["x-key"] != str(request.number % SHARED):
                raise Wrong(f"the response for {fields['x-key']} of all clients")
            data = sharedBody(self._seed, request.number % SHARED)
        else:
            self.by = "sitio"
            self._reason(head)
            self.body = Page()
            return self.body
        if fields.get("x-soak") != "passed" and head.status != 101:
            raise Unexpected("the policy headers has not acted")
        self.body = Expected(data, self._change(head))
        if self.bodiless or head.status in (204, 304):
            self.body = Expected(b"")
        return self.body

    def _own(self, head: Head) -> None:
        """Judge a response that has the number of its request."""
        request, answer = self.request, self.answer
        if head.fields["x-number"] != str(request.number):
            raise Wrong(f"the response for number {head.fields['x-number']}")
        if head.status != answer.status:
            raise Wrong(f"status {head.status}, where the service said {answer.status}")

    def _change(self, head: Head) -> Callable[[bytes], bytes] | None:
        """What a policy has done to the body."""
        kind, changed = self.request.kind, head.fields.get("x-changed")
        short = self.answer.length <= MOST_BUFFERED
        due = {"whole": "reversed" if short else None, "filtered": "swapped"}.get(kind)
        if head.status != 200:
            due = None
        if changed != due:
            raise Unexpected(f"the body is {changed}, not {due}")
        if due == "reversed":
            return lambda data: data[::-1]
        return swapped if due else None

    def _reason(self, head: Head) -> None:
        """Judge the status of a response that sitio has made."""
        status, request = head.status, self.request
        due = {"denied": 403, "bad": 400, "answered": 200}.get(request.kind)
        if due is not None:
            good = status == due
        elif status == 404:
            good = request.kind == "missing"
        elif self.excused():
            good = status in (502, 503, 504)
        else:
            good = status == 502 and self.breaks
        if not good:
            raise Unexpected(f"{head.line!r} by sitio")

    def end(self, head: Head) -> None:
        """
        Judge a whole response.

        @raise Wrong: it is not whole, or the page names another request.
        """
        self.body.end()
        trail = head.fields.get("trailer x-trail")
        if trail is not None and trail != str(self.request.number):
            raise Wrong(f"the trailer of {trail}")
        named = self.request.path.encode()
        if isinstance(self.body, Page) and self.request.kind in ("missing", "answered"):
            if named not in self.body.data and not self.bodiless and head.status in (200, 404):
                raise Wrong(f"a page for another path: {self.body.data[:80]!r}")

    def broken(self, what: str) -> None:
        """
        The connection has ended before the response has.

        @raise Unexpected: that has no reason.
        """
        if not self.excused() and not self.answer.resets:
            raise Unexpected(what)
