"""
What came of a request: L{Outcome}, with assertions that show a difference line by line.
"""

from __future__ import annotations

import json as _json
from collections.abc import Mapping, Sequence
from difflib import unified_diff
from typing import Any

from attrs import field, frozen
from twisted.trial.unittest import FailTest

from sitio.http.message import Headers, Request, reasonFor
from sitio.proxy.exchange import Exchange

# L{FailTest} is an AssertionError that trial, too, counts as a failure and not as an error.

#: Characters of a line of a body in a difference; longer lines are broken.
_WIDTH = 88

#: Lines of each message in a difference: some before the first that differs, and some after.
_BEFORE, _AFTER = 3, 30

#: Characters of a body in the repr of an outcome.
_SHOWN = 60

#: The value of an argument that is not given.
_ANY: Any = object()


@frozen(repr=False)
class Outcome:
    """
    The result of a request.

    Outcomes are equal if the client and the upstream got the same.

    @ivar status: the status that the client got; L{None} if it got no response.
    @ivar reason: the reason phrase that the client got.
    @ivar headers: the fields that the client got.
    @ivar body: the body that the client got.
    @ivar whole: whether the response was complete.
    @ivar attempts: the number of attempts, with those whose connection was refused.
    @ivar requests: the requests that the upstream got.
    @ivar exchange: the L{IExchange<sitio.interfaces.IExchange>}, which has ended.
    @ivar errors: what policies raised; see L{Runner.run<sitio.testing.Runner.run>}.
    """

    status: int | None
    reason: str
    headers: Headers
    body: bytes
    whole: bool
    attempts: int
    requests: list[Request] = field(eq=lambda requests: [_lines(each) for each in requests])
    exchange: Exchange = field(eq=False)
    errors: list[BaseException] = field(eq=False)

    @property
    def text(self) -> str:
        """The body, decoded as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, parsed as JSON."""
        return _json.loads(self.body)

    def __repr__(self) -> str:
        shown = " ".join([self._firstLine(), *_bodyLines(self.body)])
        return f"<Outcome {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}>"

    def __str__(self) -> str:
        """The response as text: its status, its fields, and its body."""
        return "\n".join(self._allLines())

    def assertResponse(
        self,
        status: int,
        *,
        headers: Mapping[str, str | None] | None = None,
        text: str = _ANY,
        json: Any = _ANY,
        body: bytes = _ANY,
    ) -> None:
        """
        Check that the client got this response, and all of it.

        @param headers: some fields, with their values; L{None} for a field that must be missing.
            Other fields may have any value.
        @param text: the body as text; or C{json}, the value that it means, or C{body}, the
            bytes.  Without any the body may be any.

        @raise AssertionError: it differs.  The message shows both, line by line.
        @raise ValueError: there are several of C{text}, C{json} and C{body}.
        """
        __tracebackhide__ = True  # For pytest: the test is what the reader wants to see.
        wanted = _Wanted(headers or {}, text, json, body)
        if status == self.status and self.whole and wanted.fits(self.headers, self.body):
            return
        first = f"{status} {reasonFor(status)}".rstrip()
        if status == self.status:
            first = self._firstLine()  # The reason phrase has no meaning.
        lines = [first, *wanted.lines(self.headers, self.body)]
        notes = [f"A policy raised {error!r}." for error in self.errors]
        got = self._allLines(wanted.isJson)
        raise FailTest(_difference("the client got another response", lines, got, notes))

    def assertRequest(
        self,
        target: str,
        method: str = "GET",
        *,
        headers: Mapping[str, str | None] | None = None,
        text: str = _ANY,
        json: Any = _ANY,
        body: bytes = _ANY,
        number: int = -1,
    ) -> None:
        """
        Check that the upstream got this request.

        @param number: which of C{requests}; by default the last one.  All other parameters are
            those of L{assertResponse}.

        @raise AssertionError: it differs, or the upstream has got no such request.
        """
        __tracebackhide__ = True
        try:
            request = self.requests[number]
        except IndexError:
            have = len(self.requests)
            raise FailTest(
                f"the upstream got {have or 'no'} request{'s' * (have > 1)};"
                f" the client got:\n{self}"
            ) from None
        wanted = _Wanted(headers or {}, text, json, body)
        sent = request.body or b""
        isLine = (method, target) == (request.method, request.target)
        if isLine and wanted.fits(request.headers, sent):
            return
        lines = [f"{method} {target}", *wanted.lines(request.headers, sent)]
        got = _lines(request, wanted.isJson)
        raise FailTest(_difference("the upstream got another request", lines, got))

    def _firstLine(self) -> str:
        return "no response" if self.status is None else f"{self.status} {self.reason}".rstrip()

    def _allLines(self, readable: bool = False) -> list[str]:
        lines = [self._firstLine(), *_fieldLines(self.headers)]
        lines += _bodyLines(self.body, readable)
        if not self.whole and self.status is not None:
            lines.append("(the response is incomplete)")
        return lines


@frozen
class _Wanted:
    """What a test wants of the fields and the body of a message."""

    headers: Mapping[str, str | None]
    text: str
    json: Any
    body: bytes

    def __attrs_post_init__(self) -> None:
        if sum(each is not _ANY for each in (self.text, self.json, self.body)) > 1:
            raise ValueError("write only one of text, json and body")

    @property
    def isJson(self) -> bool:
        return self.json is not _ANY

    def fits(self, headers: Headers, body: bytes) -> bool:
        """Whether a message has it."""
        if any(headers.get(name) != value for name, value in self.headers.items()):
            return False
        if self.isJson:
            try:
                return _canonical(_json.loads(body)) == _canonical(self.json)
            except ValueError:
                return False
        return body == self._body(body)

    def lines(self, headers: Headers, body: bytes) -> list[str]:
        """The lines of a message that has it, and is like this one in all else."""
        wanted = {name.lower(): (name, value) for name, value in self.headers.items()}
        lines = []
        for name in headers:
            _, value = wanted.pop(name.lower(), ("", headers[name]))
            if value == headers[name]:
                lines += [f"{name}: {each}" for each in headers.getAll(name)]
            elif value is not None:
                lines.append(f"{name}: {value}")
        lines += [f"{name}: {value}" for name, value in wanted.values() if value is not None]
        if self.isJson:
            body = _json.dumps(self.json).encode()
        return [*lines, "", *_bodyLines(self._body(body), self.isJson)]

    def _body(self, body: bytes) -> bytes:
        if self.text is not _ANY:
            return self.text.encode()
        return body if self.body is _ANY else self.body


def _lines(request: Request, readable: bool = False) -> list[str]:
    """A request as lines of text."""
    head = [f"{request.method} {request.target}", *_fieldLines(request.headers)]
    return head + _bodyLines(request.body or b"", readable)


def _fieldLines(headers: Headers) -> list[str]:
    return [*(f"{name}: {value}" for name, value in headers.allItems()), ""]


def _canonical(value: Any) -> str:
    return _json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


def _bodyLines(body: bytes, readable: bool = False) -> list[str]:
    """A body as lines: those of its text, of its JSON if C{readable}, or of its bytes."""
    try:
        text = body.decode()
        if readable:
            text = _canonical(_json.loads(text))
    except UnicodeDecodeError:
        return [repr(body[at : at + 32]) for at in range(0, len(body), 32)]
    except ValueError:
        pass  # JSON is wanted, and this is none: its text shows why.
    found = []
    for line in text.split("\n") if text else ():
        # What nobody can see is shown, such as a carriage return.
        plain = line if line.isprintable() and "\\" not in line else repr(line)[1:-1]
        while len(plain) > _WIDTH:
            found.append(plain[:_WIDTH] + "\\")
            plain = plain[_WIDTH:]
        found.append(plain)
    return found


def _difference(sentence: str, wanted: list[str], got: list[str], notes: Sequence[str] = ()) -> str:
    """A sentence, and the first lines that differ."""
    pairs = enumerate(zip(wanted, got))
    first = next((at for at, (one, other) in pairs if one != other), min(len(wanted), len(got)))
    # Not all of them, as difflib is slow with long texts.
    near = slice(max(0, first - _BEFORE), first + _AFTER)
    lines = unified_diff(wanted[near], got[near], "wanted", "got", n=_BEFORE, lineterm="")
    return "\n".join([f"{sentence}:", *(x for x in lines if not x.startswith("@@")), *notes])
