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
import time
from collections.abc import Callable, Container
from functools import lru_cache
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
from sitio.http.headers import FRAMING_FIELDS, Headers
from sitio.http.lines import spansOf, wireForm
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

#: Bytes of the longest Accept that is parsed, as results are cached; browsers send about 130,
#: clients of APIs some hundreds.  A longer one counts as none.
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
_NOT_BY_PREFIX = REPRESENTATION | {each.encode() for each in FRAMING_FIELDS}

_CHARSET = frozenset((("charset", "utf-8"),))

# Names of fields, with a status, of which is remembered whether they are kept: a service sends
# the same few.  Longer names are looked at each time.
_MAX_REMEMBERED = 256
_MAX_REMEMBERED_BYTES = 64


@lru_cache(maxsize=128)
def formatFor(accept: bytes) -> bytes | None:
    """
    The Content-Type that an Accept field prefers (RFC 9110, section 12.5.1).

    HTML, JSON, or a problem (RFC 9457).  If the weights are equal, a named type wins over one
    that only C{*} covers, as scripts send C{application/json, */*}; after that HTML wins.  A
    type such as C{application/vnd.api+json} is a wish for JSON.

    @return: L{None} if the field names none of them and does not prefer one.
    """
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


@lru_cache(maxsize=128)
def _pieces(status: int, reason: str) -> tuple[bytes, bytes, bytes, bytes]:
    """
    The parts of the built-in page: HTML before and after the path, JSON and a problem before
    the path.
    """
    reason = reason or reasonFor(status) or "Error"
    before, _, after = _TEMPLATE.substitute(
        status=status,
        reason=escape(reason),
        sentence=_SENTENCES.get(status, _SERVER_ERROR if status >= 500 else _CLIENT_ERROR),
        path="\0",
    ).partition("\0")
    data = {"status": status, "error": reason, "path": ""}
    problem = {"type": "about:blank", "title": reason, "status": status, "instance": ""}
    texts = [json.dumps(each, separators=(",", ":")) for each in (data, problem)]
    plain, problem_ = [each.removesuffix('""}').encode() for each in texts]
    return before.encode(), after.encode(), plain, problem_


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
    _made: dict[bytes, bytes] = field(factory=dict, init=False)
    _remembered: Callable[[bytes, int], bool] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._remembered = lru_cache(maxsize=_MAX_REMEMBERED)(self._keeps)

    def responseReceived(self, exchange: IExchange, response: Response) -> Response | None:
        """Return the page, with the status and the reason of the response."""
        if self.passesJSON and _isJSONError(response):
            return None
        if self.page is not None:
            body, kind = self.page.body, self.page.kind
        else:
            body, kind = self._builtIn(exchange.request, response)
        lines = self._lines(kind)
        status = response.status
        headers = response.headers
        remembered, keeps = self._remembered, self._keeps
        kept = [
            key
            for key in headers.lineKeys
            if (remembered if len(key) <= _MAX_REMEMBERED_BYTES else keeps)(key, status)
        ]
        if kept:
            lowered, theirs = headers.lowered, headers.lines
            spans = sorted([at for key in set(kept) for at in spansOf(key, lowered)])
            lines += b"".join([theirs[start:end] for start, end in spans])
        # A 426 names the protocols to upgrade to; sitio frames them.
        headers = Headers.fromLines(lines, None)
        answer = Response.fromHead(status, response.reason, headers, upgrade=response.upgrade)
        answer.body = body
        return answer

    def _keeps(self, key: bytes, status: int) -> bool:
        name = key[1:-1]
        if name in self.kept or isOfMessage(name, status):
            return True
        return name.startswith(self.keptPrefixes) and name not in _NOT_BY_PREFIX

    def _builtIn(self, request: Request, response: Response) -> tuple[bytes, bytes]:
        """The built-in page for this path, and its Content-Type."""
        before, after, data, problem = _pieces(
            response.status, response.reason[:MAX_SHOWN_CHARACTERS]
        )
        # Without the query, which may hold secrets.
        path = request.path[:MAX_SHOWN_CHARACTERS]
        accept = request.headers.bytesOf(b"accept") or b""
        isParsed = len(accept) <= MAX_ACCEPT_BYTES and accept.count(b",") < MAX_ACCEPT_MEMBERS
        kind = formatFor(accept) if isParsed else None
        if kind is None:
            # The client takes all alike: it gets the kind that the service has chosen.
            kind = _JSON if _isJSONError(response) else _HTML
        if kind is not _HTML:
            data = problem if kind is _PROBLEM else data
            return data + json.dumps(path).encode() + b"}", kind
        return before + escape(path).encode() + after, _HTML

    def _lines(self, kind: bytes) -> bytes:
        """The field lines for a page of this type, made once a second, as only Date changes."""
        second = int(self.seconds())
        if self._second != second:
            self._second = second
            self._made = {}
        lines = self._made.get(kind)
        if lines is None:
            date = formatDate(second).encode()
            fields = [(b"Server", b"Sitio"), (b"Date", date), (b"Content-Type", kind)]
            if self.page is None:
                fields += _BUILT_IN[kind]
            lines = self._made[kind] = wireForm(fields)
        return lines


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
        elif key in REPLACED or name in FRAMING_FIELDS:
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
