"""
C{error-page}: an error page of ours in place of the service's.

C{error-page:404} or C{error-page:404,410:5xx:file=sorry.html}.  The status and
its reason stay what they were, so that no figure, no crawler and no retry is
misled; the body is the built-in page (HTML, or JSON for a client that prefers
it) or the file.

Of the fields of the original only those go on that tell the client what to do
next or whether it may read the response (L{KEPT}): the others describe a body
that is not sent, or a service that has just shown that it's better not named.
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

#: Bytes of a page read from a file.  It is held for as long as sitio runs and
#: sent whole each time; an error page of more than this is a mistake.
MAX_FILE = 1024 * 1024

#: Characters of a path or a reason shown on the page; they may have thousands.
MAX_SHOWN = 256

#: Bytes of an Accept field that are read: browsers send about 130.  A longer
#: one gets HTML, unread, so that what is remembered of it is bounded.
MAX_ACCEPT = 512

#: Fields of the original that stay.  WWW-Authenticate (RFC 9110, section
#: 15.5.2), Proxy-Authenticate (15.5.8) and Allow (15.5.6) must accompany their
#: statuses; Retry-After and Content-Range (of a 416) say what to ask next;
#: Cache-Control, Expires and Vary say for how long, and for whom, the status
#: holds; Set-Cookie ends or begins sessions; without Access-Control a script of
#: another origin sees no status at all.
KEPT = frozenset(
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
    # It may show its own style in a browser, and nothing else.
    _HTML: [
        (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'"),
        (b"Vary", b"Accept"),
    ],
    _JSON: [(b"Vary", b"Accept")],
}

_TEMPLATE = Template(files(__package__).joinpath("errorpage.html").read_text("utf-8"))
_SENTENCES = {
    401: "This page wants to know who you are.",
    403: "This page is not open to you.",
    404: "There is no such page here.",
    410: "This page was here once, and was taken down.",
    429: "That was a little fast. Please wait a moment.",
    503: "The service is having a rest. Please try again in a moment.",
    504: "The service took too long to answer. Please try again in a moment.",
}
_OURS = "Something went wrong on our side. Please try again in a moment."
_YOURS = "This request could not be served."

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
    Whether an Accept field asks for JSON rather than for HTML (RFC 9110, section 12.5.1).

    The most specific range that covers a type gives its weight.  Of two equal
    weights a type that is named wins over one that a C{*} covers, as scripts
    send C{application/json, */*}; and then HTML, as a browser is the likelier
    reader.  A range whose weight is malformed is left out.
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
    """The built-in page: HTML before the path and after it, JSON before it."""
    reason = reason or reasonFor(status) or "Error"
    before, _, after = _TEMPLATE.substitute(
        status=status,
        reason=escape(reason),
        sentence=_SENTENCES.get(status, _OURS if status >= 500 else _YOURS),
        path="\0",
    ).partition("\0")
    data = json.dumps({"status": status, "error": reason, "path": ""}, separators=(",", ":"))
    return before.encode(), after.encode(), data.removesuffix('""}').encode()


@define(frozen=True)
class Page:
    """
    What is sent whatever the request: a file, read once.

    @ivar kind: its Content-Type.
    """

    body: bytes
    kind: bytes

    @classmethod
    def fromFile(cls, path: str) -> Page:
        """
        @raise ValueError: no such file, too large a one, or one whose name
            doesn't tell what it holds.
        """
        kind, coding = mimetypes.guess_type(path)
        if kind is None or coding is not None:
            raise ValueError(
                f"the name of {path!r} doesn't tell what the page is: .html, .txt or .json would"
            )
        try:
            # A named pipe would block the start for ever.
            if not Path(path).is_file():
                raise ValueError(f"there is no file {path!r} to be the error page")
            with open(path, "rb") as page:
                body = page.read(MAX_FILE + 1)
        except OSError as error:
            raise ValueError(f"the error page {path!r} can't be read: {error.strerror}") from error
        if len(body) > MAX_FILE:
            raise ValueError(f"the error page {path!r} is larger than {MAX_FILE} bytes")
        if kind.startswith("text/"):
            try:
                body.decode("utf-8")
                kind += "; charset=utf-8"
            except UnicodeDecodeError:
                # Without the parameter a browser goes by what the page says itself.
                pass
        return cls(body, kind.encode())


@implementer(IResponsePolicy)
@define(eq=False)
class ErrorPage:
    """
    Replaces responses of some statuses by an error page.

    @ivar statuses: which.
    @ivar page: sent in place of the built-in page.
    @ivar seconds: the time, in seconds since 1970.
    """

    statuses: Container[int]
    page: Page | None = None
    seconds: Callable[[], float] = time.time
    buffered: bool = field(default=False, init=False)
    _second: int = field(default=-1, init=False)
    _made: dict[bytes, FieldLines] = field(factory=dict, init=False)

    def responseReceived(self, exchange: IExchange, response: Response) -> Response:
        """The page, with the status and the reason of the response."""
        if self.page is not None:
            body, kind = self.page.body, self.page.kind
        else:
            body, kind = self._builtIn(exchange.request, response)
        lines = self._lines(kind)
        kept = [each for each in response.rawFields if each[0].lower() in KEPT]
        if kept:
            lines = FieldLines.of([*lines.fields, *kept])
        answer = Response.fromHead(response.status, response.reason, lines)
        answer.body = body
        return answer

    def _builtIn(self, request: Request, response: Response) -> tuple[bytes, bytes]:
        """The built-in page for this path, and its Content-Type."""
        before, after, data = _pieces(response.status, response.reason[:MAX_SHOWN])
        # Without its query, which may hold secrets and says nothing here.
        path = request.path[:MAX_SHOWN]
        # The length is compared first: most names need no copy in lower case.
        fields = request.rawFields
        lines = [value for name, value in fields if len(name) == 6 and name.lower() == b"accept"]
        accept = b",".join(lines)
        if accept and len(accept) <= MAX_ACCEPT and prefersJSON(accept):
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
    C{error-page:STATUSES[:STATUSES...][:file=PATH]}

    @param statuses: such as C{404}, C{404,410}, C{500-599} or C{5xx}.
    @param file: the page to send in place of the built-in one; read now, once.

    @raise ValueError: no statuses, what is no error status, or a file that
        can't be used.
    """
    if not statuses:
        raise ValueError("error-page needs the statuses it replaces, such as error-page:404")
    page = None if file is None else Page.fromFile(file)
    return ErrorPage(parseStatuses(",".join(statuses)), page)
