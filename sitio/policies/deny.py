"""
C{deny}: refuse requests by method and path.

C{deny:METHOD[,METHOD...]:PATTERN[:PATTERN...][:status=403]}, where C{*} as method
is any::

    deny:*:/admin*             nobody sees it, nor /administrator
    deny:*:/admin/*            nor /admin itself, but /administrator
    deny:PUT,DELETE:*          read only
    deny:GET:/*.bak:/.git/*:status=404

B{Patterns} are those of shells: C{*} is any text, slashes included, C{?} any one
character, C{[ab]} one of those.  They are case-sensitive, as paths are, and match
the whole path without its query, percent-decoded.  A pattern that ends in C{/*}
covers the folder itself, and a path that ends in a slash is also seen without.

B{Methods} are compared without case, as some services do.  GET covers HEAD, which
would tell the same but for the body.  A method override in a field that services
are known to obey (L{METHOD_FIELDS}) counts as one more method of the request, a
path in one of L{PATH_FIELDS} as one more path.

B{Spellings.}  A path can be written in ways that a service understands and a plain
comparison doesn't: C{/%61dmin}, C{//admin}, C{/x/../admin}, C{/x/..;/admin}, C{/x\\admin}.
All readings that services are known to take are tried, in any combination, and one
that matches is enough; a path that has no end of them is refused whatever it says.
What is refused in excess has no honest use.  What a service makes of a path beyond
that, such as ignoring case, only the service knows: an allow list there is safer
than any deny list before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate

from zope.interface import implementer

from sitio.http.grammar import isToken
from sitio.http.message import Response, reasonFor
from sitio.interfaces import IExchange, IRequestPolicy

#: Fields by which services let a POST stand for another method.
METHOD_FIELDS = frozenset((b"x-http-method", b"x-http-method-override", b"x-method-override"))

#: Fields by which services let a path be replaced.
PATH_FIELDS = frozenset((b"x-original-uri", b"x-original-url", b"x-rewrite-url"))

#: Characters rewritten to find the readings of one path: some milliseconds.  The
#: longest path that is only percent-encoded takes a quarter of it; one that takes
#: more is made of tricks, and its readings would multiply.
MAX_REWRITTEN = 128 * 1024

_FIELDS = METHOD_FIELDS | PATH_FIELDS

# Statuses that must come with a field that only the service could fill in (RFC
# 9110, sections 15.5.2, 15.5.6 and 15.5.8).
_INCOMPLETE = frozenset((401, 405, 407))

_authority = re.compile(r"\A(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/]*")
_escape = re.compile(b"%([0-9A-Fa-f]{2})").sub


def _resolved(path: str) -> str:
    """Without dot segments (RFC 3986, section 5.2.4)."""
    segments = [""]
    for each in path.split("/")[1:]:
        if each == "..":
            # Above the root is the root.
            del segments[max(1, len(segments) - 1) :]
        elif each != ".":
            segments.append(each)
    if path.endswith(("/.", "/..")):
        segments.append("")
    return "/".join(segments)


def _decoded(path: str) -> str:
    # Bytes that are no UTF-8 stay what they are.
    data = path.encode("utf-8", "surrogateescape")
    data = _escape(lambda found: bytes((int(found[1], 16),)), data)
    return data.decode("utf-8", "surrogateescape")


# What may be read in another way, and that way.  Applied in any order and number.
_READINGS: list[tuple[Callable[[str], object], Callable[[str], str]]] = [
    (re.compile("%").search, _decoded),
    (re.compile(r"\\").search, lambda path: path.replace("\\", "/")),
    # Parameters of a segment: servlet containers cut them before all else.
    (re.compile(";").search, lambda path: re.sub(";[^/]*", "", path)),
    (re.compile("//").search, lambda path: re.sub("//+", "/", path)),
    (re.compile(r"/\.\.?(?:/|\Z)").search, _resolved),
    # The end of a path, to those that parse twice, or in C.
    (re.compile("[?#\0]").search, lambda path: re.split("[?#\0]", path)[0]),
    (re.compile(r"\s\Z").search, str.rstrip),
    # An authority, to those that take all after two slashes for one.
    (_authority.match, lambda path: _authority.sub("", path) or "/"),
]
_odd = re.compile(r"[%\\;?#\s\0]|//|/\.|\A[^/]").search


def readings(path: str) -> set[str] | None:
    """
    Every way in which a service may read a path, L{None} where there are too many
    to be honest.
    """
    found = {path}
    if not _odd(path):
        return found
    todo = [path]
    left = MAX_REWRITTEN
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
    """
    Refuses requests by method and path; see the head of this module.
    """

    def __init__(
        self, methods: Iterable[str] | None, patterns: Iterable[str], status: int = 403
    ) -> None:
        """
        @param methods: in any case; L{None} for all.
        @param patterns: at least one.
        """
        self._methods = None if methods is None else {each.upper() for each in methods}
        if self._methods is not None and "GET" in self._methods:
            self._methods.add("HEAD")
        covered = {form for each in patterns for form in (each, each.removesuffix("/*")) if form}
        self._covers = re.compile("|".join(translate(each) for each in sorted(covered))).match
        self._status = status
        self._text = f"{status} {reasonFor(status)}".strip() + "\n"

    def requestReceived(self, exchange: IExchange) -> Response | None:
        """A refusal, or L{None} for a request that is none of its business."""
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
            # With a slash at its end and without, services mostly mean the same.
            if self._covers(each) or (each[-1:] == "/" and self._covers(each.rstrip("/"))):
                return True
        return False


def makePolicy(methods: str, *patterns: str, status: str = "403") -> Deny:
    """
    C{deny:METHOD[,METHOD...]:PATTERN[:PATTERN...][:status=403]}: see the head of
    this module.

    @raise ValueError: no pattern, one that could never match, no name of a
        method, or a status that is no refusal.
    """
    named = [each.strip() for each in methods.split(",")]
    for each in named:
        if not isToken(each):
            raise ValueError(f"{each!r} is no method: GET, GET,POST or * for all are")
    if not patterns:
        raise ValueError("deny needs the paths that it refuses, such as deny:*:/admin/*")
    for each in patterns:
        if each[:1] not in ("/", "*"):
            raise ValueError(f"{each!r} is no pattern for paths: they begin with / or *")
        # A pattern that can itself be read in two ways would not match what it says.
        if len(readings(each.replace("?", "x")) or ()) != 1:
            raise ValueError(
                f"{each!r}: write a pattern decoded, with single slashes, without .. and ;"
            )
    if not re.fullmatch("[45][0-9]{2}", status) or int(status) in _INCOMPLETE:
        raise ValueError(f"status={status}: 400 to 599 are refusals, but for 401, 405 and 407")
    return Deny(None if "*" in named else named, patterns, int(status))
