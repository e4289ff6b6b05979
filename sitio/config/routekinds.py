"""
What the keys of routes, and those about balancing, may be.

Contract: pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sitio.config.kinds import Kind, plainText, several
from sitio.config.values import MAX_COUNT
from sitio.http.grammar import isHostname, isPath, isToken
from sitio.http.routes import Routes

_TEXT: dict[str, Any] = {"type": "string"}
_STRINGS = {"type": "object", "additionalProperties": {"type": ["string", "boolean"]}}


def _template(value: Any) -> str:
    text = plainText(value)
    Routes((text,))
    return text


def _rewrite(value: Any) -> str:
    text = plainText(value)
    if not isPath(text) or "?" in text:
        raise ValueError
    return text


def _prefix(value: Any) -> str:
    text = _rewrite(value)
    if "{" in text or "}" in text:
        raise ValueError
    return text


def _conditions(isName: Callable[[str], object]) -> Callable[[Any], tuple[tuple[str, Any], ...]]:
    """Reads names and what they must be."""

    def parse(value: Any) -> tuple[tuple[str, Any], ...]:
        if not isinstance(value, dict):
            raise ValueError
        for name, wanted in value.items():
            if not isName(name):
                raise ValueError(f"{name!r}; it must be the name of a field such as X-Beta")
            if not isinstance(wanted, str | bool):
                raise ValueError(f"{name} is {wanted!r}; it must be a text, true or false")
        return tuple(value.items())

    return parse


def _keyed(value: Any) -> tuple[str, str]:
    """Reads C{field:X-User} or C{cookie:group}."""
    kind, _, name = plainText(value).partition(":")
    if kind not in ("cookie", "field") or not isToken(name):
        raise ValueError
    return kind, name


def _hashOn(value: Any) -> str:
    return value if value in ("path", "client") else ":".join(_keyed(value))


def _weights(value: Any) -> tuple[tuple[str, float], ...]:
    if not isinstance(value, dict) or not value:
        raise ValueError
    found = []
    for name, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
            raise ValueError(f"{name} is {weight!r}; it must be a number, 0 or more")
        if weight > MAX_COUNT:
            raise ValueError(f"{name} is {weight!r}; it must be at most {MAX_COUNT}")
        found.append((name, float(weight)))
    if not any(weight for _, weight in found):
        raise ValueError("all weights are 0; give one upstream more")
    return tuple(found)


def _method(value: Any) -> str:
    text = plainText(value)
    if not isToken(text):
        raise ValueError
    if text.islower():
        # Case counts (RFC 9110, section 9.1): the route would take no request.
        raise ValueError(f"{text!r}; case counts: write {text.upper()}")
    return text


def _hostPattern(value: Any) -> str:
    text = plainText(value)
    if not isHostname(text.removeprefix("*.")) and not re.fullmatch(r"\[[0-9A-Fa-f:.]+\]", text):
        raise ValueError
    return text.lower()


def _hostForUpstream(value: Any) -> str:
    text = plainText(value)
    name, _, port = text.partition(":") if text[:1] != "[" else (text, "", "")
    if not (isHostname(name) or text[:1] == "[") or (port and not port.isdecimal()):
        raise ValueError
    return text


def _hostOfRoute(value: Any) -> str:
    host = _hostForUpstream(value)
    if host in ("client", "upstream"):
        raise ValueError(f"{host!r} is said of an upstream; for a route write a host")
    return host


TEMPLATE = Kind("a path such as /users/{id} or /files/{path...}", _template)
REWRITE = Kind("a path such as /v2/{id}, without a query", _rewrite)
PREFIX = Kind("a path such as /api, without a query and without names in braces", _prefix)
METHOD = Kind("a method such as GET", _method)
FIELDS = Kind(
    "a table of names of fields, with a text, true for any value or false for none",
    _conditions(isToken),
    _STRINGS,
)
QUERY = Kind(
    "a table of parameters, with a text, true for any value or false for none",
    _conditions(bool),
    _STRINGS,
)
STICKY = Kind(
    "cookie:NAME or field:NAME",
    _keyed,
    {"type": "string", "pattern": "^(cookie|field):.+"},
)
HASH_ON = Kind(
    "field:NAME, cookie:NAME, path or client",
    _hashOn,
    {"type": "string", "pattern": "^((cookie|field):.+|path|client)$"},
)
WEIGHTS = Kind(
    "a table of upstreams and their weights, such as { photos = 90, canary = 10 }",
    _weights,
    {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
)
HOST_PATTERN = Kind("a host such as api.example.com or *.example.com", _hostPattern)
HOST_PATTERNS = several(HOST_PATTERN, "hosts such as api.example.com or *.example.com")
HOST = Kind("client, upstream, or a host such as api.example.com", _hostForUpstream)
HOST_OF_ROUTE = Kind("a host such as api.example.com", _hostOfRoute)
