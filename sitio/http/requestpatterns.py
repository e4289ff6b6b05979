"""
Which requests a service may take for one of a method and a path: L{RequestPattern}.

B{Patterns} are those of shells: C{*} is any text, slashes included, C{?} any one character,
C{[ab]} one of these.  They match the whole path, percent-decoded and without its query.  Case
counts, unless C{ignoreCase} is set.  A pattern that ends in C{/*} also matches the folder
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
combination.

Contract: pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate
from itertools import chain, islice
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

from sitio.http.message import Request
from sitio.http.overrides import (
    METHOD_FIELDS,
    PATH_FIELDS,
    PREFIX_FIELDS,
    foldedName,
    mayOverride,
    overridesOf,
)
from sitio.http.paths import UnreadablePath, isDecoded, readings

# Parameters of a query that frameworks take for the method: C{_method}, C{$method}.
_METHOD_PARAMETERS = METHOD_FIELDS | {b"-method", b"-http-method", b"-method-override"}

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


def checkPattern(text: str) -> str:
    """
    Return the pattern.

    @raise ValueError: it is not a pattern, or would not match the paths that it seems to match.
    """
    if text[:1] not in ("/", "*"):
        raise ValueError(f"{text!r} is not a pattern for paths: it must begin with / or *")
    if not isDecoded(text.replace("?", "x")):
        raise ValueError(
            f"{text!r}: write a pattern decoded, with single slashes, without .. and ;"
        )
    return text


class RequestPattern:
    """
    Methods and patterns of paths.

    A rule that opens for what matches is passed by a spelling; so a guard asks whether a
    request B{may} match, and is strict if it may::

        hooks = RequestPattern("POST", "/hooks/*")

        @onRequest
        def guard(exchange):
            if hooks.mayMatch(exchange.request): ...
    """

    def __init__(
        self,
        methods: str | Iterable[str] | None,
        paths: str | Iterable[str],
        *,
        ignoreCase: bool = False,
    ) -> None:
        """
        @param methods: one or several, in any case; L{None} for all.
        @param paths: one pattern or several, such as C{/hooks/*}.
        @param ignoreCase: whether patterns match letters of the other case, too.

        @raise ValueError: a text is not a pattern, or no pattern is given.
        """
        methods = (methods,) if isinstance(methods, str) else methods
        self._methods = None if methods is None else {each.upper() for each in methods}
        if self._methods is not None and "GET" in self._methods:
            self._methods.add("HEAD")
        given = [checkPattern(each) for each in ((paths,) if isinstance(paths, str) else paths)]
        if not given:
            raise ValueError("there is no pattern for paths: write one such as /hooks/*")
        patterns = {form for each in given for form in (each, normalize("NFKC", each))}
        covered = {form for each in patterns for form in (each, each.removesuffix("/*")) if form}
        self._covers = re.compile(
            "|".join(translate(each) for each in sorted(covered)),
            re.IGNORECASE if ignoreCase else 0,
        ).match

    def mayMatch(self, request: Request) -> bool:
        """
        Whether a service may read the request as a matching one.  A path that no service should
        read, such as C{/%00}, may be any path: it matches if the method does.
        """
        try:
            return self.matches(request)
        except (TooManyMethods, UnreadablePath):
            return True

    def matches(self, request: Request) -> bool:
        """
        The same, but raises for a request that no service should read.

        @raise UnreadablePath: it has a path that no service should decode.
        @raise TooManyMethods: it names more than L{MAX_METHODS} methods.
        """
        headers = request.headers
        mayHave = mayOverride(headers.lineKeys(), headers.isPlain)
        overrides = overridesOf(request.rawFields) if mayHave else []
        methods = self._methods
        if methods is not None and methods.isdisjoint(_methods(request, overrides)):
            return False
        return self._covered(request.path, overrides)

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
