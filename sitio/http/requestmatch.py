"""
Which of several routes a request takes: L{RequestMatch} and L{MatchTable}.

The first match in the operator's order wins.  A path is matched as the client sent it:
percent-encoding is not decoded, and case matters.  A path that services may read in another
way (L{sitio.http.paths}) is ambiguous if that reading takes another route: such as
C{/%61dmin} where C{/admin} has a route.

Contract: pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from attrs import field, frozen

from sitio.errors import AmbiguousPath
from sitio.http.grammar import isHostname, isPath, isToken
from sitio.http.message import Request
from sitio.http.paths import PLAIN, UnreadablePath, isPlain, readings
from sitio.http.routes import MAX_ROUTES, NAMED, Routes

#: Matches of one table: as many as templates of paths.
MAX_MATCHES = MAX_ROUTES

#: What a field or a parameter must be: this text, or any (C{True}), or absent (C{False}).
Wanted = str | bool

#: Names of fields or parameters, and what they must be.
Conditions = tuple[tuple[str, Wanted], ...]


def hostOf(request: Request) -> str:
    """The host that a request asks for: in small letters, without port and last dot."""
    value = request.headers.valueOf(b"\nhost:") or b""
    host = value.decode("latin-1").lower()
    if host[:1] == "[":
        return host.partition("]")[0][1:]
    return host.partition(":")[0].removesuffix(".")


def checkHost(text: str) -> str:
    """
    A host to match: a name, an address, or C{*.} and a name for all names below it.

    @return: as L{hostOf} writes it.

    @raise ValueError: it is none of these.  The sentence begins with the text.
    """
    host = text.lower().removesuffix(".")
    name = host.removeprefix("*.")
    if host[:1] == "[" and host[-1:] == "]":
        return host[1:-1]
    isAddress = name.count(":") > 1 and not set(name) - set("0123456789abcdef:.")
    if not (isHostname(name) or isAddress):
        raise ValueError(
            f"{text!r} is not a host: write a name without a port, such as api.example.com or"
            " *.example.com"
        )
    return host


def checkPrefix(text: str) -> str:
    """
    The first segments of a path.

    @return: without the slash at the end, which makes no difference.

    @raise ValueError: it is no path.  The sentence begins with the text.
    """
    if not isPath(text) or "?" in text:
        raise ValueError(f"{text!r} is not the beginning of a path: write for example /api")
    if "{" in text or "}" in text:
        raise ValueError(f"{text!r} has names in braces: write it as a path, not as a prefix")
    return text.rstrip("/")


def _exactly(template: str) -> str:
    """The regular expression of a template, with a group for each name."""
    pieces = []
    for segment in template[1:].split("/"):
        named = NAMED(segment)
        if named is None:
            pieces.append(re.escape(segment))
        else:
            pieces.append(f"(?P<{named[1]}>{'.*' if named[2] else '[^/]+'})")
    return "/" + "/".join(pieces)


def _hosts(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(checkHost, given))


def _conditions(given: Iterable[tuple[str, Wanted]]) -> Conditions:
    return tuple(given)


def _methods(given: Iterable[str]) -> frozenset[str]:
    return frozenset(given)


@frozen
class RequestMatch:
    """
    What a request must be to take a route.  All of it must be so; what is not given is not
    asked for.

    @ivar hosts: as L{checkHost} makes them; one of them.
    @ivar path: a template (L{sitio.http.routes}); exact if it has no names.
    @ivar prefix: the first segments of the path, as L{checkPrefix} makes it; not with C{path}.
    @ivar methods: one of them; GET includes HEAD.
    @ivar fields: of the request.  The value of repeated lines is joined with C{", "}.
    @ivar query: its parameters; of repeated ones, any may be equal.
    """

    hosts: tuple[str, ...] = field(default=(), converter=_hosts)
    path: str | None = field(default=None)
    prefix: str | None = field(default=None)
    methods: frozenset[str] = field(default=frozenset(), converter=_methods)
    fields: Conditions = field(default=(), converter=_conditions)
    query: Conditions = field(default=(), converter=_conditions)

    @path.validator
    def _checkPath(self, attribute: object, path: str | None) -> None:
        if path is not None:
            Routes((path,))

    @methods.validator
    def _checkMethods(self, attribute: object, methods: frozenset[str]) -> None:
        for each in methods:
            if not isToken(each):
                raise ValueError(f"{each!r} is not a method: write for example GET")

    @fields.validator
    def _checkFields(self, attribute: object, fields: Conditions) -> None:
        for name, _ in fields:
            if not isToken(name):
                raise ValueError(f"{name!r} is not the name of a field: write for example X-Beta")

    def __attrs_post_init__(self) -> None:
        if self.path is not None and self.prefix is not None:
            raise ValueError(f"{self.path!r} and the prefix {self.prefix!r}: write one of them")

    @property
    def hasPath(self) -> bool:
        """Whether it asks for certain paths."""
        return self.path is not None or bool(self.prefix)

    @property
    def matchesAll(self) -> bool:
        """Whether each request matches."""
        return not (self.hasPath or self.isConditional)

    @property
    def isConditional(self) -> bool:
        """Whether it asks for anything beside the path."""
        return bool(self.hosts or self.methods or self.fields or self.query)

    @property
    def expression(self) -> str:
        """The regular expression that the whole path must match."""
        if self.path is not None:
            return _exactly(self.path)
        return f"{re.escape(self.prefix)}(?:/.*)?" if self.prefix else ".*"

    def accepts(self, request: Request) -> bool:
        """Whether a request is as this asks for, its path aside."""
        method = request.line.method
        if self.methods and method not in self.methods:
            if method != "HEAD" or "GET" not in self.methods:
                return False
        if self.hosts and not self._acceptsHost(hostOf(request)):
            return False
        if any(not _isWanted(wanted, request.headers.getAll(n)) for n, wanted in self.fields):
            return False
        if self.query:
            query = request.query
            return all(_isWanted(wanted, query.getAll(name)) for name, wanted in self.query)
        return True

    def _acceptsHost(self, host: str) -> bool:
        for each in self.hosts:
            if host == each or (each[:2] == "*." and host.endswith(each[1:])):
                return True
        return False


def _isWanted(wanted: Wanted, values: list[str]) -> bool:
    if isinstance(wanted, bool):
        return bool(values) is wanted
    return wanted in values or ", ".join(values) == wanted


class MatchTable:
    """
    Matches in the operator's order.

    Most requests need one call of one regular expression, however many matches there are.
    """

    def __init__(self, matches: Iterable[RequestMatch]) -> None:
        """
        @raise ValueError: there are more than L{MAX_MATCHES}.
        """
        self.matches = tuple(matches)
        if len(self.matches) > MAX_MATCHES:
            raise ValueError(f"{len(self.matches)} routes are too many; there may be {MAX_MATCHES}")
        # Names of groups can't be repeated in one expression, and are not needed to find one.
        whole = [_unnamed(each.expression) for each in self.matches]
        self._single = [_compiled(each) for each in whole]
        # The groups are empty and stand last, so that each alternative begins with its text:
        # most are passed over by their first letters.
        self._all = _compiled("|".join(f"{each}()" for each in whole) or "(?!)")
        self._isConditional = [each.isConditional for each in self.matches]
        self._hasPaths = any(each.hasPath for each in self.matches)

    def find(self, request: Request) -> int:
        """
        The place of the first match; -1 if there is none.

        @raise AmbiguousPath: services may read the path so that it takes another route.
        """
        path = request.line.path
        matched = self._all(path)
        found = -1 if matched is None or matched.lastindex is None else matched.lastindex - 1
        if found >= 0 and self._isConditional[found]:
            found = self._accepting(path, request, found)
        if self._hasPaths and (PLAIN(path) is None or "//" in path or "." in path):
            if not isPlain(path):
                self._checkReadings(path, found, request)
        return found

    def _accepting(self, path: str, request: Request, first: int) -> int:
        """The first match from this place on; -1 if there is none."""
        for at in range(first, len(self.matches)):
            if self._single[at](path) and self.matches[at].accepts(request):
                return at
        return -1

    def _checkReadings(self, path: str, found: int, request: Request) -> None:
        """Raise if a reading of the path takes another route that asks for certain paths."""
        try:
            others = readings(path)
        except UnreadablePath as error:
            raise AmbiguousPath(f"a path that nobody can read in one way ({error})") from error
        # An encoded slash is honest in the text that a template asks for.  Steps up are not: they
        # leave the paths that the route is for.
        stepsUp = any("/../" in f"{each}/" for each in others)
        for each in others:
            other = self._accepting(each, request, 0)
            if other != found and (stepsUp or (other >= 0 and self.matches[other].hasPath)):
                raise AmbiguousPath("a path that can be read in two ways")


def _unnamed(expression: str) -> str:
    return re.sub(r"\(\?P<\w+>", "(?:", expression)


def _compiled(expression: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(expression, re.DOTALL).fullmatch


def hiddenBy(match: RequestMatch, earlier: Sequence[RequestMatch]) -> int | None:
    """
    The place of an earlier match that takes every request of this one; L{None} if none does.

    It finds what can be seen from the texts: equal conditions, and paths below a prefix.
    """
    for at, each in enumerate(earlier):
        if _covers(each, match):
            return at
    return None


def _covers(wide: RequestMatch, narrow: RequestMatch) -> bool:
    if wide.hosts and not (narrow.hosts and all(map(wide._acceptsHost, narrow.hosts))):
        return False
    if wide.methods and not (narrow.methods and narrow.methods <= wide.methods):
        return False
    if not set(wide.fields) <= set(narrow.fields) or not set(wide.query) <= set(narrow.query):
        return False
    if not wide.hasPath:
        return True
    path = narrow.path if narrow.path is not None else narrow.prefix
    if not path:
        return False
    if wide.path is not None:
        if narrow.path is None:
            return False
        return _unnamed(_exactly(wide.path)) == _unnamed(_exactly(narrow.path))
    prefix = wide.prefix or ""
    return path == prefix or path.startswith(f"{prefix}/")


@frozen
class PathRewrite:
    """
    Another path for the upstream; the query stays.

    @ivar _match: finds the parts of a path.
    @ivar _made: what they are put into, as C{re.Match.expand} takes it.
    """

    _match: Callable[[str], re.Match[str] | None]
    _made: str

    @classmethod
    def ofTemplate(cls, path: str, rewrite: str) -> PathRewrite:
        """
        The named parts of a template in another one: C{/users/{id}} to C{/v2/user/{id}}.

        @raise ValueError: C{rewrite} is wrong, or has a name that C{path} does not have.  The
            sentence begins with C{rewrite}.
        """
        if not isPath(rewrite) or "?" in rewrite:
            raise ValueError(f"{rewrite!r} is not a path: write for example /v2/{{id}}")
        known = set(re.compile(_exactly(path)).groupindex)
        segments = []
        for segment in rewrite.split("/"):
            named = NAMED(segment)
            if named is None:
                if "{" in segment or "}" in segment:
                    raise ValueError(
                        f"{rewrite!r} has the segment {segment!r}; a name in braces is a whole"
                        " segment"
                    )
                segments.append(segment.replace("\\", r"\\"))
                continue
            if named[1] not in known:
                has = f"has {', '.join(sorted(known))}" if known else "has no names"
                raise ValueError(f"{rewrite!r} has the name {named[1]!r}; the path {path} {has}")
            segments.append(rf"\g<{named[1]}>")
        return cls(_compiled(_exactly(path)), "/".join(segments))

    @classmethod
    def ofPrefix(cls, prefix: str, made: str) -> PathRewrite:
        """
        Another prefix: C{/api} to C{/v2}, or to C{""} to cut it off.

        @param prefix: as L{checkPrefix} makes it; so is C{made}.
        """
        escaped = made.replace("\\", r"\\")
        return cls(_compiled(f"{re.escape(prefix)}(?:/(?P<rest>.*))?"), rf"{escaped}/\g<rest>")

    def apply(self, target: str) -> str:
        """The target with another path; the same if the path does not match."""
        path, mark, query = target.partition("?")
        found = self._match(path)
        if found is None:
            return target
        made = found.expand(self._made)
        if made[:2] == "//":
            # Some services take what follows for a host.
            made = "/" + made.lstrip("/")
        return made + mark + query
