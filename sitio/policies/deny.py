"""
C{deny}: refuses requests by method and path.

C{deny:METHOD[,METHOD...]:PATTERN[:PATTERN...][:status=403][:case=ignore]}, where C{*} stands
for all methods::

    deny:*:/admin*             /admin, all below it, and /administrator
    deny:*:/admin/*            /admin and all below it
    deny:PUT,DELETE:*          read only
    deny:GET:/*.bak:/.git/*:status=404

B{Patterns} are those of shells: C{*} is any text, slashes included, C{?} any one character,
C{[ab]} one of these.  They match the whole path, percent-decoded and without its query.  Case
counts, unless C{case=ignore} is given.  A pattern that ends in C{/*} also matches the folder
itself.  A path that ends in a slash is also tried without it.

B{Methods} are compared without case, as some services do.  GET includes HEAD, which would
disclose all but the body.  A method in a field such as X-HTTP-Method-Override
(L{METHOD_FIELDS<sitio.http.overrides.METHOD_FIELDS>}), or in a parameter C{_method} of the
query, counts as one more method of the request.

B{Paths} in a field such as X-Original-URL
(L{PATH_FIELDS<sitio.http.overrides.PATH_FIELDS>}) count as more paths; so does what is left of
the path without a prefix such as X-Script-Name.  The names of all these fields count in any
spelling, as C{X_Original_URL}.

B{Spellings}: a path can be written so that the service understands it and a plain comparison
does not: C{/%61dmin}, C{//admin}, C{/x/..;/admin}, C{/admin.}.  All
L{readings<sitio.http.paths.readings>} that services are known to use are tried, in any
combination.  If one of them matches, the request is refused.

B{Unreadable} requests get 400, whatever the patterns are: paths with a NUL, with C{%uXXXX} for
an ASCII character, or with too many readings, and more methods than anyone means.  No service
should decode them, and there is no honest use for them.  Overlong UTF-8 is only one more
reading, as paths in GBK, EUC-KR and Shift JIS have the same bytes.

Only the service knows whether it reads paths in yet other ways: C{/admin.json} or
C{/admin/anything} for C{/admin}, or a method in the body of a form.  There an allow list in the
service is safer than any deny list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate
from itertools import chain, islice
from typing import Annotated, Literal
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

from zope.interface import implementer

from sitio.http.grammar import isToken
from sitio.http.message import Request, Response, reasonFor
from sitio.http.overrides import (
    METHOD_FIELDS,
    PATH_FIELDS,
    PREFIX_FIELDS,
    foldedName,
    overridesOf,
)
from sitio.http.paths import UnreadablePath, isDecoded, readings
from sitio.interfaces import IExchange, IRequestPolicy
from sitio.policy.kinds import Kind
from sitio.policy.options import About

# Parameters of a query that frameworks take for the method: C{_method}, C{$method}.
_METHOD_PARAMETERS = METHOD_FIELDS | {b"-method", b"-http-method", b"-method-override"}

# Statuses that need a field which only the service knows (RFC 9110, sections 15.5.2, 15.5.6
# and 15.5.8).
_INCOMPLETE = frozenset((401, 405, 407))

#: The most methods in fields and parameters of one request.  An honest one has one.
MAX_METHODS = 64

_words = re.compile(r"[^\s,;]+").finditer
_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:").match


def _encoded(word: str) -> str:
    return "".join(f"(?:{each}|%{ord(each):x}|%{ord(each) - 32:x})" for each in word)


# Names that may be one of these, in any encoding; few letters tell that one is not.
_mark = "(?:%..|[^a-z0-9%&;=])"
_kinds = "|".join(map(_encoded, ("http", "original", "forwarded", "request")))
_parameters = re.compile(
    rf"(?:\A|[&;])((?:{_encoded('x')})?{_mark}(?:(?:{_kinds}){_mark})?{_encoded('method')}"
    rf"(?:{_mark}{_encoded('override')})?)=([^&;]*)",
    re.IGNORECASE,
).finditer


def _methodsInQuery(query: str) -> Iterator[str]:
    for name, value in (each.groups() for each in _parameters(query)):
        if foldedName(unquote_to_bytes(name)) in _METHOD_PARAMETERS:
            yield unquote_to_bytes(value).decode("latin-1")


def _pathsIn(value: str) -> Iterator[str]:
    """The paths that a service may find in the value of a field."""
    path = value.partition("?")[0]
    yield path
    if not path.startswith(("/", "*")) and not _scheme(path):
        yield "/" + path


class TooManyMethods(ValueError):
    """A request that names more methods than anyone means."""


@implementer(IRequestPolicy)
class Deny:
    """Refuses requests by method and path; see the module's docstring."""

    def __init__(
        self,
        methods: Iterable[str] | None,
        patterns: Iterable[str],
        status: int = 403,
        ignoreCase: bool = False,
    ) -> None:
        """
        @param methods: the methods, in any case; L{None} for all.
        @param patterns: the patterns, at least one.
        @param status: that of the responses; unreadable paths get 400.
        @param ignoreCase: whether patterns match letters of the other case, too.
        """
        self._methods = None if methods is None else {each.upper() for each in methods}
        if self._methods is not None and "GET" in self._methods:
            self._methods.add("HEAD")
        patterns = {form for each in patterns for form in (each, normalize("NFKC", each))}
        covered = {form for each in patterns for form in (each, each.removesuffix("/*")) if form}
        self._covers = re.compile(
            "|".join(translate(each) for each in sorted(covered)),
            re.IGNORECASE if ignoreCase else 0,
        ).match
        self._status = status

    def requestReceived(self, exchange: IExchange) -> Response | None:
        """Return a refusal, or L{None} if no pattern matches."""
        request = exchange.request
        overrides = overridesOf(request.rawFields)
        try:
            methods = self._methods
            if methods is not None and methods.isdisjoint(_methods(request, overrides)):
                return None
            denied = self._covered(request.path, overrides)
        except (TooManyMethods, UnreadablePath):
            return _refusal(400)
        return _refusal(self._status) if denied else None

    def _covered(self, path: str, overrides: list[tuple[bytes, bytes]]) -> bool:
        paths, prefixes = [path], []
        for name, value in overrides:
            text = value.strip(b" \t").decode("utf-8", "surrogateescape")
            if name in PATH_FIELDS:
                paths += _pathsIn(text)
            elif name in PREFIX_FIELDS and text.strip("/"):
                prefixes.append(text)
        for each in readings(*paths, prefixes=prefixes):
            # For most services a slash at the end makes no difference.
            if self._covers(each) or (each[-1:] == "/" and self._covers(each.rstrip("/"))):
                return True
        return False


def _methods(request: Request, overrides: list[tuple[bytes, bytes]]) -> list[str]:
    """
    The method, and those that a service may take in its place; in upper case.

    @raise TooManyMethods: there are more than L{MAX_METHODS}.
    """
    found = [request.method.upper()]
    texts: Iterable[str] = (
        value.decode("latin-1") for name, value in overrides if name in METHOD_FIELDS
    )
    texts = chain(texts, _methodsInQuery(request.rawQuery) if request.rawQuery else ())
    for count, text in enumerate(texts):
        found += (word[0] for word in islice(_words(text.upper()), MAX_METHODS))
        if max(count, len(found)) > MAX_METHODS:
            raise TooManyMethods
    return found


def _refusal(status: int) -> Response:
    return Response(status, text=f"{status} {reasonFor(status)}".strip() + "\n")


def _methodsOf(text: str) -> frozenset[str]:
    named = [each.strip() for each in text.split(",")]
    for each in named:
        if not isToken(each):
            raise ValueError(f"{each!r} is not a method: write GET, or GET,POST, or * for all")
    return frozenset(named)


def _pattern(text: str) -> str:
    if text[:1] not in ("/", "*"):
        raise ValueError(f"{text!r} is not a pattern for paths: it must begin with / or *")
    # Another pattern would not match the paths that it seems to match.
    if not isDecoded(text.replace("?", "x")):
        raise ValueError(
            f"{text!r}: write a pattern decoded, with single slashes, without .. and ;"
        )
    return text


def _status(text: str) -> int:
    if not re.fullmatch("[45][0-9]{2}", text) or int(text) in _INCOMPLETE:
        raise ValueError("write 400 to 599, except 401, 405 and 407")
    return int(text)


_Methods = Annotated[
    frozenset[str],
    Kind(
        "methods, or * for all",
        "METHODS",
        _methodsOf,
        lambda each: ",".join(sorted(each)),
        many=True,
    ),
    About("the methods to refuse; GET includes HEAD"),
]
_Pattern = Annotated[
    str, Kind("patterns such as /admin/*", "PATTERN", _pattern), About("the paths to refuse")
]
_Status = Annotated[
    int,
    Kind("400 to 599, except 401, 405 and 407", "STATUS", _status),
    About("the status of the refusal"),
]
_Case = Annotated[
    Literal["exact", "ignore"], About("whether patterns match letters of the other case")
]


def makePolicy(
    methods: _Methods, *patterns: _Pattern, status: _Status = 403, case: _Case = "exact"
) -> Deny:
    """
    Refuse requests by method and path.

    @raise ValueError: there is no pattern.
    """
    if not patterns:
        raise ValueError("deny needs the paths to refuse, such as deny:*:/admin/*")
    return Deny(None if "*" in methods else methods, patterns, status, case == "ignore")
