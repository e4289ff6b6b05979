"""
C{deny}: refuses requests by method and path.

C{deny:METHOD[,METHOD...]:PATTERN[:PATTERN...][:status=403]}, where C{*} stands for all
methods::

    deny:*:/admin*             /admin, all below it, and /administrator
    deny:*:/admin/*            /admin and all below it
    deny:PUT,DELETE:*          read only
    deny:GET:/*.bak:/.git/*:status=404

B{Patterns} are those of shells: C{*} is any text, slashes included, C{?} any one character,
C{[ab]} one of these.  They are case-sensitive, and match the whole path, percent-decoded and
without its query.  A pattern that ends in C{/*} also matches the folder itself.  A path that
ends in a slash is also tried without it.

B{Methods} are compared without case, as some services do.  GET includes HEAD, which would
disclose all but the body.  A method in one of L{METHOD_FIELDS}, which some services obey,
counts as one more method of the request; a path in one of L{PATH_FIELDS} as one more path.

B{Spellings}: a path can be written so that the service understands it and a plain comparison
does not: C{/%61dmin}, C{//admin}, C{/x/../admin}, C{/x/..;/admin}, C{/x\\admin}.  All readings
that services are known to use are tried, in any combination.  If one of them matches, the
request is refused.  A path with too many readings is refused in any case: there is no honest
use for it.  Only the service knows whether it reads paths in yet other ways, such as without
case; there an allow list in the service is safer than any deny list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate

from zope.interface import implementer

from sitio.http.grammar import isToken
from sitio.http.message import Response, reasonFor
from sitio.interfaces import IExchange, IRequestPolicy

#: Fields in which some services accept the method of a POST.
METHOD_FIELDS = frozenset((b"x-http-method", b"x-http-method-override", b"x-method-override"))

#: Fields in which some services accept another path.
PATH_FIELDS = frozenset((b"x-original-uri", b"x-original-url", b"x-rewrite-url"))

#: The work for one path, in characters that are rewritten; it takes some milliseconds.  The
#: longest path that is only percent-encoded needs a quarter of it.
MAX_REWRITTEN_CHARACTERS = 128 * 1024

_FIELDS = METHOD_FIELDS | PATH_FIELDS

# Statuses that need a field which only the service knows (RFC 9110, sections 15.5.2, 15.5.6
# and 15.5.8).
_INCOMPLETE = frozenset((401, 405, 407))

_authority = re.compile(r"\A(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/]*")
_escape = re.compile(b"%([0-9A-Fa-f]{2})").sub


def _resolved(path: str) -> str:
    """Without dot segments (RFC 3986, section 5.2.4)."""
    segments = [""]
    for each in path.split("/")[1:]:
        if each == "..":
            # The parent of the root is the root.
            del segments[max(1, len(segments) - 1) :]
        elif each != ".":
            segments.append(each)
    if path.endswith(("/.", "/..")):
        segments.append("")
    return "/".join(segments)


def _decoded(path: str) -> str:
    # Bytes that are not UTF-8 stay as they are.
    data = path.encode("utf-8", "surrogateescape")
    data = _escape(lambda found: bytes((int(found[1], 16),)), data)
    return data.decode("utf-8", "surrogateescape")


# What can be read in another way, and that way; applied in any order, any number of times.
_READINGS: list[tuple[Callable[[str], object], Callable[[str], str]]] = [
    (re.compile("%").search, _decoded),
    (re.compile(r"\\").search, lambda path: path.replace("\\", "/")),
    # Parameters of a segment: servlet containers remove them first.
    (re.compile(";").search, lambda path: re.sub(";[^/]*", "", path)),
    (re.compile("//").search, lambda path: re.sub("//+", "/", path)),
    (re.compile(r"/\.\.?(?:/|\Z)").search, _resolved),
    # These end a path in services that parse it twice, or in C.
    (re.compile("[?#\0]").search, lambda path: re.split("[?#\0]", path)[0]),
    (re.compile(r"\s\Z").search, str.rstrip),
    # Some services take what follows two slashes for an authority.
    (_authority.match, lambda path: _authority.sub("", path) or "/"),
]
_odd = re.compile(r"[%\\;?#\s\0]|//|/\.|\A[^/]").search


def readings(path: str) -> set[str] | None:
    """All readings of a path, or L{None} if there are too many (see the module's docstring)."""
    found = {path}
    if not _odd(path):
        return found
    todo = [path]
    left = MAX_REWRITTEN_CHARACTERS
    while todo:
        each = todo.pop()
        for applies, rewritten in _READINGS:
            if applies(each):
                left -= len(each)
                if left < 0:
                    return None
                other = rewritten(each)
                if other not in found:
                    found.add(other)
                    todo.append(other)
    return found


@implementer(IRequestPolicy)
class Deny:
    """Refuses requests by method and path; see the module's docstring."""

    def __init__(
        self, methods: Iterable[str] | None, patterns: Iterable[str], status: int = 403
    ) -> None:
        """
        @param methods: the methods, in any case; L{None} for all.
        @param patterns: the patterns, at least one.
        @param status: that of the responses.
        """
        self._methods = None if methods is None else {each.upper() for each in methods}
        if self._methods is not None and "GET" in self._methods:
            self._methods.add("HEAD")
        covered = {form for each in patterns for form in (each, each.removesuffix("/*")) if form}
        self._covers = re.compile("|".join(translate(each) for each in sorted(covered))).match
        self._status = status
        self._text = f"{status} {reasonFor(status)}".strip() + "\n"

    def requestReceived(self, exchange: IExchange) -> Response | None:
        """Return a refusal, or L{None} if no pattern matches."""
        request = exchange.request
        methods = [request.method.upper()]
        paths = [request.path]
        for line, value in request.headers.rawFields:
            name = line.lower()
            if name in _FIELDS:
                text = value.decode("latin-1").strip(" \t")
                if name in METHOD_FIELDS:
                    methods.append(text.upper())
                else:
                    paths.append(text.partition("?")[0])
        if self._methods is not None and self._methods.isdisjoint(methods):
            return None
        for path in paths:
            if self._denied(path):
                return Response(self._status, text=self._text)
        return None

    def _denied(self, path: str) -> bool:
        read = readings(path)
        if read is None:
            return True
        for each in read:
            # For most services a slash at the end makes no difference.
            if self._covers(each) or (each[-1:] == "/" and self._covers(each.rstrip("/"))):
                return True
        return False


def makePolicy(methods: str, *patterns: str, status: str = "403") -> Deny:
    """
    Make the policy of C{deny:METHOD[,METHOD...]:PATTERN[:PATTERN...][:status=403]}.

    @raise ValueError: there is no pattern, one can never match, a method is malformed, or the
        status does not fit a refusal.
    """
    named = [each.strip() for each in methods.split(",")]
    for each in named:
        if not isToken(each):
            raise ValueError(f"{each!r} is not a method: write GET, or GET,POST, or * for all")
    if not patterns:
        raise ValueError("deny needs the paths to refuse, such as deny:*:/admin/*")
    for each in patterns:
        if each[:1] not in ("/", "*"):
            raise ValueError(f"{each!r} is not a pattern for paths: it must begin with / or *")
        # A pattern with two readings would not match the paths that it seems to match.
        if len(readings(each.replace("?", "x")) or ()) != 1:
            raise ValueError(
                f"{each!r}: write a pattern decoded, with single slashes, without .. and ;"
            )
    if not re.fullmatch("[45][0-9]{2}", status) or int(status) in _INCOMPLETE:
        raise ValueError(f"status={status}: write 400 to 599, except 401, 405 and 407")
    return Deny(None if "*" in named else named, patterns, int(status))
