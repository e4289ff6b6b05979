"""
C{error-page}: replaces the service's error responses by a page.

C{error-page:404} or C{error-page:404,410:5xx:file=sorry.html}.  Status and reason stay, so
that metrics, crawlers and retries are not misled.  The body is the file, or the built-in
page: HTML, or JSON for a client that prefers it (L{formatFor}).  With C{json=pass}, the
service's own errors in JSON pass unchanged.

The fields of the message stay, as they tell the client what the status means and what to do
next; see L{errorfields<sitio.http.errorfields>}.  C{keep=NAME} keeps others: one field,
several with commas, or all that begin with a prefix, as in C{keep=X-App-*}.  All other fields
describe a body that is not sent, or disclose details of the service.
"""

from __future__ import annotations

import json
import mimetypes
import re
import time
from collections.abc import Callable, Container
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated, Literal

from attrs import define, field, frozen
from zope.interface import implementer

from sitio.http.dates import formatDate
from sitio.http.errorfields import REPLACED, REPRESENTATION, isOfMessage
from sitio.http.grammar import isToken
from sitio.http.headers import FRAMING_NAMES, Headers
from sitio.http.lines import keyOf, spansOf, wireForm
from sitio.http.message import Request, Response, reasonFor
from sitio.http.negotiation import ANY, NAMED, isJSON, mediaRanges, weightOf
from sitio.interfaces import IExchange, IResponsePolicy
from sitio.policy.kinds import Kind, Statuses
from sitio.policy.options import About

#: The longest file, as it stays in memory while sitio runs; a longer one is taken for a
#: mistake.
MAX_FILE_BYTES = 1024 * 1024

#: Characters of a path or a reason on the page; clients can send thousands.
MAX_SHOWN_CHARACTERS = 256

#: Bytes of the longest Accept that is looked at; browsers send about 130, clients of APIs some
#: hundreds.  A longer one counts as none.
MAX_ACCEPT_BYTES = 2048

#: Members of such a field; each takes some microseconds.  With more it counts as none.
MAX_ACCEPT_MEMBERS = 100

_HTML = b"text/html; charset=utf-8"
_JSON = b"application/json"
_PROBLEM = b"application/problem+json"
_BUILT_IN: dict[bytes, list[tuple[bytes, bytes]]] = {
    # A browser may apply the page's own style, and must load nothing else.
    _HTML: [
        (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'"),
        (b"Vary", b"Accept"),
    ],
    _JSON: [(b"Vary", b"Accept")],
    _PROBLEM: [(b"Vary", b"Accept")],
}

_TEMPLATE = Template(files(__package__).joinpath("errorpage.html").read_text("utf-8"))
_SENTENCES = {
    401: "Please log in to see this page.",
    403: "You may not see this page.",
    404: "There is no such page here.",
    410: "This page was removed.",
    429: "There were too many requests. Please wait a moment.",
    503: "The service is not available. Please try again in a moment.",
    504: "The service took too long to answer. Please try again in a moment.",
}
_SERVER_ERROR = "Something went wrong on our side. Please try again in a moment."
_CLIENT_ERROR = "This request could not be served."

# Only a whole name keeps these.
_NOT_BY_PREFIX = REPRESENTATION | FRAMING_NAMES

_CHARSET = frozenset((("charset", "utf-8"),))

# Responses of which is remembered which of their fields stay, by the names of all of them, and
# bytes of these names: a service sends a few for each status.
_MAX_LISTS = 16
_MAX_LIST_BYTES = 1024

# Pages that are made at once, by status and type.
_MAX_PAGES = 128

_ACCEPT = keyOf(b"accept")

# An Accept without any of these has no wish between HTML and JSON.
_isChoice = re.compile(rb"text/|application/|json").search

_isMarkup = re.compile("[&<>\"']").search


def formatFor(accept: bytes) -> bytes | None:
    """
    The Content-Type that an Accept field prefers (RFC 9110, section 12.5.1).

    HTML, JSON, or a problem (RFC 9457).  If the weights are equal, a named type wins over one
    that only C{*} covers, as scripts send C{application/json, */*}; after that HTML wins.  A
    type such as C{application/vnd.api+json} is a wish for JSON.

    @param accept: in lower case.

    @return: L{None} if the field names none of them and does not prefer one.
    """
    if len(accept) > MAX_ACCEPT_BYTES or accept.count(b",") >= MAX_ACCEPT_MEMBERS:
        return None
    # Most begin with what they want most, as those of browsers do, or name neither.
    first, _, rest = accept.partition(b",")
    if (first == b"text/html" or first == b"application/json") and rest.find(b"text/html") < 0:
        return _HTML if first == b"text/html" else _JSON
    return None if _isChoice(accept) is None else negotiated(accept)


def negotiated(accept: bytes) -> bytes | None:
    """As L{formatFor}, by all of the field's members."""
    ranges = mediaRanges(accept.decode("latin-1"))
    html = weightOf("text/html", ranges, _CHARSET)
    plain = weightOf("application/json", ranges, _CHARSET)
    problem = weightOf("application/problem+json", ranges, _CHARSET)
    if problem[1] < NAMED:
        # Nobody is sent a problem who does not ask for one.
        problem = (0.0, ANY)
    json = plain
    if plain != (0.0, NAMED):
        # Unless JSON itself is not acceptable.
        others = [
            (each.weight, NAMED)
            for each in ranges
            if isJSON(each.kind) and each.kind != "application/json"
        ]
        json = max(plain, *others) if others else plain
    json = max(json, problem)
    if json[0] > 0 and json > html:
        return _PROBLEM if problem > plain else _JSON
    return None if json == html and html[1] < NAMED else _HTML


def _isJSONError(response: Response) -> bool:
    """Whether the service itself has sent JSON."""
    kind = response.headers.bytesOf(b"content-type") or b""
    return isJSON(kind.partition(b";")[0].strip(b" \t").lower().decode("latin-1"))


def _linesOf(keys: list[bytes], headers: Headers) -> bytes:
    """The lines with these keys, in order."""
    lowered, lines = headers.lowered(), headers.lines
    spans: list[tuple[int, int]] = []
    for each in keys:
        spans += spansOf(each, lowered)
    spans.sort()
    kept = b""
    for start, end in spans:
        kept += lines[start:end]
    return kept


@frozen
class _Made:
    """
    The page for a status, made for one second.

    @ivar reason: that of the response for which it was made.
    @ivar lines: its fields in wire form.
    @ivar before: the body before the path, and C{after}; all of it if it is a file.
    @ivar stay: the keys of fields that stay, by the keys of all lines in a row.
    """

    reason: str
    lines: bytes
    before: bytes
    after: bytes = b""
    stay: dict[bytes, list[bytes]] = field(factory=dict)


def _builtIn(status: int, reason: str, kind: bytes) -> tuple[bytes, bytes]:
    """The built-in page before and after the path."""
    reason = reason[:MAX_SHOWN_CHARACTERS] or reasonFor(status) or "Error"
    if kind is _HTML:
        before, _, after = _TEMPLATE.substitute(
            status=status,
            reason=escape(reason),
            sentence=_SENTENCES.get(status, _SERVER_ERROR if status >= 500 else _CLIENT_ERROR),
            path="\0",
        ).partition("\0")
        return before.encode(), after.encode()
    data: dict[str, object] = {"status": status, "error": reason, "path": ""}
    if kind is _PROBLEM:
        data = {"type": "about:blank", "title": reason, "status": status, "instance": ""}
    return json.dumps(data, separators=(",", ":")).removesuffix('""}').encode(), b"}"


@define(frozen=True)
class Page:
    """
    A page from a file.

    @ivar kind: its Content-Type.
    """

    body: bytes
    kind: bytes

    @classmethod
    def fromFile(cls, path: str) -> Page:
        """
        Read the file.

        @raise ValueError: the file does not exist, can't be read or is too long, or its name
            does not tell its type.
        """
        kind, coding = mimetypes.guess_type(path)
        if kind is None or coding is not None:
            raise ValueError(
                f"the name of {path!r} doesn't tell its type: end it in .html, .txt or .json"
            )
        try:
            # A named pipe would block for ever.
            if not Path(path).is_file():
                raise ValueError(f"there is no file {path!r} for the error page")
            with open(path, "rb") as page:
                body = page.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ValueError(f"the error page {path!r} can't be read: {error.strerror}") from error
        if len(body) > MAX_FILE_BYTES:
            raise ValueError(f"the error page {path!r} is larger than {MAX_FILE_BYTES} bytes")
        if kind.startswith("text/"):
            try:
                body.decode("utf-8")
                kind += "; charset=utf-8"
            except UnicodeDecodeError:
                # Without the parameter a browser uses the encoding that the page declares.
                pass
        return cls(body, kind.encode())


@implementer(IResponsePolicy)
@define(eq=False)
class ErrorPage:
    """
    Replaces responses with some statuses by an error page.

    @ivar statuses: the statuses.
    @ivar page: the page from a file, or L{None} for the built-in page.
    @ivar kept: names of fields to keep beside those of the message, in lower case.
    @ivar keptPrefixes: the beginnings of such names.
    @ivar passesJSON: whether responses that are JSON are not replaced.
    @ivar seconds: the time, in seconds since 1970.
    """

    statuses: Container[int]
    page: Page | None = None
    kept: frozenset[bytes] = frozenset()
    keptPrefixes: tuple[bytes, ...] = ()
    passesJSON: bool = False
    seconds: Callable[[], float] = time.time
    buffered: bool = field(default=False, init=False)
    _second: int = field(default=-1, init=False)
    _made: dict[tuple[int, bytes], _Made] = field(factory=dict, init=False)

    def responseReceived(self, exchange: IExchange, response: Response) -> Response | None:
        """Return the page, with the status and the reason of the response."""
        if self.passesJSON and _isJSONError(response):
            return None
        page = self.page
        kind = self._kindFor(exchange.request, response) if page is None else page.kind
        second = int(self.seconds())
        if second != self._second:
            self._second = second
            self._made.clear()
        status, reason = response.status, response.reason
        made = self._made.get((status, kind))
        if made is None or made.reason != reason:
            made = self._make(status, reason, kind)
        lines = made.lines
        theirs = response.fields
        keys = b"".join(theirs.lineKeys())
        stay = made.stay.get(keys)
        if stay is None:
            stay = self._staying(keys, status, made)
        if stay:
            lines += _linesOf(stay, theirs)
        # A 426 names the protocols to upgrade to; sitio frames them.
        headers = Headers.fromLines(lines, None)
        answer = Response.fromHead(status, reason, headers, upgrade=response.upgrade)
        body = made.before
        if page is None:
            # Without the query, which may hold secrets.
            path: str = exchange.request.receivedLine.path[:MAX_SHOWN_CHARACTERS]
            if kind is not _HTML:
                path = json.dumps(path)
            elif _isMarkup(path) is not None:
                path = escape(path)
            body = b"".join((body, path.encode(), made.after))
        answer.body = body
        return answer

    def _kindFor(self, request: Request, response: Response) -> bytes:
        """The type of the built-in page."""
        headers = request.fields
        lowered = headers.lowered()
        _, found, rest = lowered.partition(_ACCEPT)
        if found:
            accept, _, rest = rest.partition(b"\r")
            if rest.find(_ACCEPT) >= 0:
                accept = (headers.bytesOf(b"accept") or b"").lower()
            kind = formatFor(accept.strip(b" \t"))
            if kind is not None:
                return kind
        # The client takes all alike: it gets the kind that the service has chosen.
        return _JSON if _isJSONError(response) else _HTML

    def _make(self, status: int, reason: str, kind: bytes) -> _Made:
        """The page of this type, path apart, for this second."""
        date = formatDate(self._second).encode()
        fields = [(b"Server", b"Sitio"), (b"Date", date), (b"Content-Type", kind)]
        if self.page is None:
            lines = wireForm(fields + _BUILT_IN[kind])
            made = _Made(reason, lines, *_builtIn(status, reason, kind))
        else:
            made = _Made(reason, wireForm(fields), self.page.body)
        if len(self._made) >= _MAX_PAGES:
            self._made.clear()
        self._made[status, kind] = made
        return made

    def _staying(self, keys: bytes, status: int, made: _Made) -> list[bytes]:
        """The keys of fields that stay with this status, among the keys of all lines in a row."""
        names = frozenset(each[1:] for each in keys.split(b":")[:-1])
        stay = [keyOf(each) for each in names if self._keeps(each, status)]
        if len(keys) <= _MAX_LIST_BYTES and len(made.stay) < _MAX_LISTS:
            made.stay[keys] = stay
        return stay

    def _keeps(self, name: bytes, status: int) -> bool:
        if name in self.kept or isOfMessage(name, status):
            return True
        return name.startswith(self.keptPrefixes) and name not in _NOT_BY_PREFIX


@frozen
class _Kept:
    """
    Fields to keep, in lower case.

    @ivar names: whole names.
    @ivar prefixes: the beginnings of names.
    """

    names: frozenset[bytes] = frozenset()
    prefixes: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names or self.prefixes)


def _keptOf(text: str) -> _Kept:
    """What a list such as C{X-A,X-App-*} keeps."""
    names, prefixes = set(), []
    for each in text.split(",") if text else ():
        word = each.strip().lower()
        name = word.removesuffix("*")
        if not isToken(word) or "*" in name:
            raise ValueError(f"{each!r}: write the name of a field, or a prefix such as X-App-*")
        key = name.encode("ascii")
        if name != word:
            prefixes.append(key)
        elif key in REPLACED or key in FRAMING_NAMES:
            raise ValueError(f"the page has its own {each.strip()}")
        else:
            names.add(key)
    return _Kept(frozenset(names), tuple(prefixes))


_Replaced = Annotated[Statuses, About("the statuses whose responses are replaced")]
_File = Annotated[
    Path | None, About("a page to send in place of the built-in one; it is read once, at the start")
]
_Keep = Annotated[
    _Kept,
    Kind("fields, or prefixes such as X-App-*", "NAME,...", _keptOf, many=True),
    About("more fields of the service's response to keep"),
]
_Json = Annotated[
    Literal["replace", "pass"], About("pass: the service's own errors in JSON are not replaced")
]


def makePolicy(
    *statuses: _Replaced, file: _File = None, keep: _Keep = _Kept(), json: _Json = "replace"
) -> ErrorPage:
    """
    Replace error responses by a page.

    @raise ValueError: there are no statuses, or the file can't be used.
    """
    if not statuses:
        raise ValueError("error-page needs the statuses it replaces, such as error-page:404")
    page = None if file is None else Page.fromFile(str(file))
    every = frozenset[int]().union(*statuses)
    return ErrorPage(every, page, keep.names, keep.prefixes, passesJSON=json == "pass")
