"""
Templates of paths, such as C{/users/{id}}, and which of them a path matches: L{Routes}.

A template is a path whose segments are literal text or names in braces:

  - literal text matches itself, as the client sent it: percent-encoding is not decoded, case
    matters, and a slash at the end is a segment, which is empty;
  - C{{name}} matches one segment that is not empty;
  - C{{name...}}, as the last segment only, matches the rest of the path, which may be empty or
    have slashes: C{/files/{path...}} matches C{/files/} and C{/files/a/b}, not C{/files}.

The most specific template wins, in whatever order they are given: segment by segment from the
left, literal text is before C{{name}}, and that before C{{name...}}.

Contract: pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from sitio.http.grammar import isPath

#: Templates of one sitio: more than most services have, so that what is counted for each of
#: them stays bounded.
MAX_ROUTES = 200

#: Characters of a template; as many as a path has that is an endpoint of its own.
MAX_TEMPLATE = 256

#: Matches a segment that is a name in braces; the groups are the name, and three dots if there
#: are any.
NAMED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}").fullmatch

_ONE = "{}"
_REST = "{...}"

_HOW = "write a path such as /users/{id} or /files/{path...}"


class _Node:
    """
    What may follow some first segments.

    @ivar route: the template that ends here.
    @ivar rest: the template whose last segment matches all that follows.
    """

    __slots__ = ("literal", "one", "rest", "route")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.one: _Node | None = None
        self.rest: str | None = None
        self.route: str | None = None


def _shape(template: str) -> list[str]:
    """
    The segments of a template, without names.

    @raise ValueError: the template is wrong.
    """
    shown = repr(template)
    if len(template) > MAX_TEMPLATE:
        raise ValueError(
            f"{repr(template[:40])[:-1]}...' has {len(template)} characters; it may have"
            f" {MAX_TEMPLATE}"
        )
    if not isPath(template):
        raise ValueError(f"{shown} is no path; {_HOW}")
    if "?" in template:
        raise ValueError(f"{shown} has a query, which is no part of a route; {_HOW}")
    segments, names = template[1:].split("/"), set()
    shape = []
    for index, segment in enumerate(segments):
        if "{" not in segment and "}" not in segment:
            if segment[:1] == ":" or segment in ("*", "**"):
                raise ValueError(f"{shown} has the segment {segment!r}, which is literal; {_HOW}")
            shape.append(segment)
            continue
        found = NAMED(segment)
        if found is None:
            raise ValueError(
                f"{shown} has the segment {segment!r}; a name in braces is a whole segment, of"
                " letters, digits and underscores: {name} or {name...}"
            )
        name, rest = found.groups()
        if name in names:
            raise ValueError(f"{shown} has the name {name!r} twice; use two names")
        if rest and index < len(segments) - 1:
            raise ValueError(
                f"{shown} has {segment!r} before its end; only the last segment can be"
            )
        names.add(name)
        shape.append(_REST if rest else _ONE)
    return shape


class Routes:
    """
    A set of templates.

    To match costs one look-up for each segment; where templates begin alike, at most one for
    each segment of the templates.

    @ivar templates: as given, in order.
    """

    def __init__(self, templates: Iterable[str] = ()) -> None:
        """
        @raise ValueError: a template is wrong, matches the same paths as another, or there are
            more than L{MAX_ROUTES}.  The sentence begins with the template.
        """
        self.templates: tuple[str, ...] = ()
        self._root = _Node()
        self._depth = 0
        for each in templates:
            self._add(each)

    @classmethod
    def first(cls, templates: Iterable[str]) -> Routes:
        """
        The same set, but without templates that can't be in it: that are wrong, that match the
        same paths as an earlier one, or that are too many.
        """
        routes = cls()
        for each in templates:
            with suppress(ValueError):
                routes._add(each)
        return routes

    def _add(self, template: str) -> None:
        if len(self.templates) >= MAX_ROUTES:
            raise ValueError(f"{template!r} is one too many; there may be {MAX_ROUTES}")
        shape = _shape(template)
        node = self._root
        for segment in shape:
            if segment == _ONE:
                node.one = node = node.one or _Node()
            elif segment != _REST:
                node = node.literal.setdefault(segment, _Node())
        rest = shape[-1] == _REST
        other = node.rest if rest else node.route
        if other is not None:
            raise ValueError(f"{template!r} matches the same paths as {other!r}; leave out one")
        if rest:
            node.rest = template
        else:
            node.route = template
        self._depth = max(self._depth, len(shape))
        self.templates = (*self.templates, template)

    def match(self, path: str) -> str | None:
        """
        The template that a path matches; L{None} if there is none.

        @param path: without the query.
        """
        if path[:1] != "/" or not self._depth:
            return None
        # What is deeper than all templates stays one piece: it can't match but with a rest.
        return _find(self._root, path[1:].split("/", self._depth), 0)


def _find(node: _Node, segments: list[str], index: int) -> str | None:
    """The most specific template below a node that matches the segments from this one on."""
    if index == len(segments):
        return node.route
    segment = segments[index]
    literal = node.literal.get(segment)
    found = None if literal is None else _find(literal, segments, index + 1)
    if found is None and node.one is not None and segment:
        found = _find(node.one, segments, index + 1)
    return node.rest if found is None else found
