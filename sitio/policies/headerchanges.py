"""
What may be shown of the changes of C{headers}, as their values may be secrets: L{CHANGE}.
"""

from __future__ import annotations

import re

from sitio.policy.kinds import Kind
from sitio.redact import HIDDEN

#: The words of a change that are never a value.
_VERBS = frozenset(("request", "set", "add", "remove"))

# RFC 9110, section 5.1.
_fieldName = re.compile(r"[\w!#$%&'*+.^`|~-]+")


def changeWithoutValue(change: str) -> str:
    """One change: the words before the value."""
    words = change.split()
    first = words[:1] if words[:1] == ["request"] else []
    match words[len(first) :]:
        case ["remove", name] if _fieldName.fullmatch(name):
            return " ".join((*first, "remove", name))
        case ["set" | "add" as verb, name, _, *_] if _fieldName.fullmatch(name):
            return " ".join((*first, verb, name, HIDDEN))
    return HIDDEN


def valuesOf(change: str) -> list[str]:
    """What one change has beside the words that are shown."""
    shown = changeWithoutValue(change).split()
    if shown == [HIDDEN]:
        return [change.strip(), *(each for each in change.split() if each not in _VERBS)]
    known = len(shown) - shown.count(HIDDEN)
    return [*change.split(None, known)[known:], *change.split()[known:]]


#: The type of one change; L{makePolicy<sitio.policies.headers.makePolicy>} reads it.
CHANGE = Kind(
    "set NAME VALUE, add NAME VALUE or remove NAME",
    "CHANGE",
    str,
    shown=changeWithoutValue,
    secrets=valuesOf,
)
