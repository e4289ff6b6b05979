"""
C{error-page}: replaces the service's error responses by a page.

C{error-page:404} or C{error-page:404,410:5xx:file=sorry.html}.  Status and reason stay, so
that metrics, crawlers and retries are not misled.  The body is the file, or the built-in
page: HTML, or JSON for a client that prefers it.

Of the service's fields only those in L{KEPT_FIELDS} are sent: they tell the client what to do
next, or whether it may read the response.  The others describe a body that is not sent, or
disclose details of the service.
"""

from __future__ import annotations

import json
import mimetypes
import re
import time
from collections.abc import Callable, Container
from functools import lru_cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from attrs import define, field
from zope.interface import implementer

from sitio.http.dates import formatDate
from sitio.http.headers import FieldLines
from sitio.http.message import Request, Response, parseStatuses, reasonFor
from sitio.interfaces import IExchange, IResponsePolicy

#: The longest file, as it stays in memory while sitio runs; a longer one is taken for a
#: mistake.
MAX_FILE_BYTES = 1024 * 1024

#: Characters of a path or a reason on the page; clients can send thousands.
MAX_SHOWN_CHARACTERS = 256

#: Bytes of the longest Accept that is parsed, as results are cached; browsers send about 130.
#: A client with a longer one gets HTML.
MAX_ACCEPT_BYTES = 512

#: Fields of the original that are sent.  WWW-Authenticate (RFC 9110, section 15.5.2),
#: Proxy-Authenticate (15.5.8) and Allow (15.5.6) are required with their statuses.
#: Retry-After and Content-Range (of a 416) tell what to request next.  Cache-Control, Expires
#: and Vary tell for how long and for whom the status is valid.  Set-Cookie starts and ends
#: sessions.  Without Access-Control a script of another origin can't read the status.
KEPT_FIELDS = frozenset(
    (
        b"access-control-allow-credentials",
        b"access-control-allow-origin",
        b"access-control-expose-headers",
        b"allow",
        b"cache-control",
        b"content-range",
        b"expires",
        b"proxy-authenticate",
        b"retry-after",
        b"set-cookie",
        b"strict-transport-security",
        b"vary",
        b"www-authenticate",
    )
)

_HTML = b"text/html; charset=utf-8"
_JSON = b"application/json"
_BUILT_IN: dict[bytes, list[tuple[bytes, bytes]]] = {
    # A browser may apply the page's own style, and must load nothing else.
    _HTML: [
        (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'"),
        (b"Vary", b"Accept"),
    ],
    _JSON: [(b"Vary", b"Accept")],
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

_weight = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?", re.ASCII).fullmatch


def _weights(accept: str) -> dict[str, float]:
    weights = {}
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip(" \t") for part in each.split(";"))
        weight = "1"
        for parameter in parameters:
            if parameter.startswith("q="):
                weight = parameter[2:]
        if _weight(weight):
            weights[kind] = float(weight)
    return weights


@lru_cache(maxsize=128)
def prefersJSON(accept: bytes) -> bool:
    """
    Whether an Accept field prefers JSON to HTML (RFC 9110, section 12.5.1).

    The weight of a type is that of the most specific range that covers it.  If the weights
    are equal, a named type wins over a type that only C{*} covers, as scripts send
    C{application/json, */*}; after that HTML wins.  A range with a malformed weight is
    ignored.
    """
    weights = _weights(accept.decode("latin-1"))

    def weigh(*ranges: str) -> tuple[float, int]:
        for vagueness, each in enumerate(ranges):
            if each in weights:
                return weights[each], -vagueness
        return 0.0, 0

    json = weigh("application/json", "application/*", "*/*")
    return json[0] > 0 and json > weigh("text/html", "text/*", "*/*")


@lru_cache(maxsize=128)
def _pieces(status: int, reason: str) -> tuple[bytes, bytes, bytes]:
    """The parts of the built-in page: HTML before and after the path, JSON before the path."""
    reason = reason or reasonFor(status) or "Error"
    before, _, after = _TEMPLATE.substitute(
        status=status,
        reason=escape(reason),
        sentence=_SENTENCES.get(status, _SERVER_ERROR if status >= 500 else _CLIENT_ERROR),
        path="\0",
    ).partition("\0")
    data = json.dumps({"status": status, "error": reason, "path": ""}, separators=(",", ":"))
    return before.encode(), after.encode(), data.removesuffix('""}').encode()


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
    @ivar seconds: the time, in seconds since 1970.
    """

    statuses: Container[int]
    page: Page | None = None
    seconds: Callable[[], float] = time.time
    buffered: bool = field(default=False, init=False)
    _second: int = field(default=-1, init=False)
    _made: dict[bytes, FieldLines] = field(factory=dict, init=False)

    def responseReceived(self, exchange: IExchange, response: Response) -> Response:
        """Return the page, with the status and the reason of the response."""
        if self.page is not None:
            body, kind = self.page.body, self.page.kind
        else:
            body, kind = self._builtIn(exchange.request, response)
        lines = self._lines(kind)
        kept = [each for each in response.rawFields if each[0].lower() in KEPT_FIELDS]
        if kept:
            lines = FieldLines.of([*lines.fields, *kept])
        answer = Response.fromHead(response.status, response.reason, lines)
        answer.body = body
        return answer

    def _builtIn(self, request: Request, response: Response) -> tuple[bytes, bytes]:
        """The built-in page for this path, and its Content-Type."""
        before, after, data = _pieces(response.status, response.reason[:MAX_SHOWN_CHARACTERS])
        # Without the query, which may hold secrets.
        path = request.path[:MAX_SHOWN_CHARACTERS]
        # The length is compared first: most names need no copy in lower case.
        fields = request.rawFields
        lines = [value for name, value in fields if len(name) == 6 and name.lower() == b"accept"]
        accept = b",".join(lines)
        if accept and len(accept) <= MAX_ACCEPT_BYTES and prefersJSON(accept):
            return data + json.dumps(path).encode() + b"}", _JSON
        return before + escape(path).encode() + after, _HTML

    def _lines(self, kind: bytes) -> FieldLines:
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
            lines = self._made[kind] = FieldLines.of(fields)
        return lines


def makePolicy(*statuses: str, file: str | None = None) -> ErrorPage:
    """
    Make the policy of C{error-page:STATUSES[:STATUSES...][:file=PATH]}.

    @param statuses: such as C{404}, C{404,410}, C{500-599} or C{5xx}.
    @param file: the path of a page to send in place of the built-in one.  It is read now.

    @raise ValueError: there are no statuses, one is not an error status, or the file can't be
        used.
    """
    if not statuses:
        raise ValueError("error-page needs the statuses it replaces, such as error-page:404")
    page = None if file is None else Page.fromFile(file)
    return ErrorPage(parseStatuses(",".join(statuses)), page)
