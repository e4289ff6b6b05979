"""
Content negotiation: what an Accept field wants (RFC 9110, section 12.5.1).

A field is a list of media ranges with parameters and weights.  The weight of a type is that of
the most specific range that covers it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import define

#: How precisely a range names a type.
ANY, FAMILY, NAMED, EXACT = range(4)

# Quoted strings may have commas and semicolons in them; one that does not end takes the rest.
_QUOTED = r'"(?:[^"\\]|\\.)*"?'
_members = re.compile(rf'(?:[^",]|{_QUOTED})+', re.DOTALL).findall
_parts = re.compile(rf'(?:[^";]|{_QUOTED})+', re.DOTALL).findall
_weight = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?", re.ASCII).fullmatch
_unquoted = re.compile(r"\\(.)", re.DOTALL).sub


@define(frozen=True)
class MediaRange:
    """
    One member of an Accept field.

    @ivar kind: such as C{text/html}, C{text/*} or C{*/*}, in lower case.
    @ivar parameters: names and values, in lower case, without the weight.
    @ivar weight: 0 to 1; 0 is "not acceptable".
    """

    kind: str
    parameters: frozenset[tuple[str, str]]
    weight: float


def mediaRanges(accept: str) -> list[MediaRange]:
    """
    The media ranges of an Accept field.

    A member that is malformed, or has a malformed weight, is left out.  C{*} alone, which
    some clients send, is C{*/*}.
    """
    found = []
    for member in _members(accept.lower()):
        kind, *rest = (each.strip(" \t") for each in _parts(member) or [""])
        kind = "*/*" if kind == "*" else kind
        parameters, weights = set(), ["1"]
        for each in rest:
            name, _, value = each.partition("=")
            if value[:1] == '"':
                value = _unquoted(r"\1", value[1:].removesuffix('"'))
            if name == "q":
                weights.append(value)
            elif name:
                parameters.add((name, value))
        # With two weights nobody knows which one is meant.
        if kind.count("/") == 1 and len(weights) < 3 and _weight(weights[-1]):
            found.append(MediaRange(kind, frozenset(parameters), float(weights[-1])))
    return found


def weightOf(
    kind: str, ranges: Iterable[MediaRange], parameters: frozenset[tuple[str, str]] = frozenset()
) -> tuple[float, int]:
    """
    The weight of a type, and how precisely it is named; a greater pair is preferred.

    A range with parameters that the type does not have is about another type, such as
    C{text/html;level=1}.  But a client that names only such ones of a type, and wants them,
    is best served by the type itself.

    @param kind: in lower case.
    @param parameters: those of the type.
    """
    named: list[tuple[int, float]] = []
    near = [0.0]
    for each in ranges:
        if each.kind == kind:
            if not each.parameters:
                named.append((NAMED, each.weight))
            elif each.parameters <= parameters:
                named.append((EXACT, each.weight))
            else:
                near.append(each.weight)
        elif each.kind == "*/*":
            named.append((ANY, each.weight))
        elif each.kind == kind.partition("/")[0] + "/*":
            named.append((FAMILY, each.weight))
    precision, weight = max(named, default=(ANY, 0.0))
    if precision < NAMED and max(near) > 0:
        return max(near), NAMED
    return weight, min(precision, NAMED)


def isJSON(kind: str) -> bool:
    """Whether a media type, in lower case, without parameters, is JSON (RFC 6839, section 3.1)."""
    return kind in ("application/json", "text/json") or kind.endswith("+json")
