"""
Removes secrets from the options that the admin pages show.

Descriptions of endpoints and policies may hold passwords, tokens and keys.  If it is
unknown whether a part is secret, it is not shown.

Of policies it sees what was parsed, not the text: there are many ways to write the same.

Contract: pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Shown instead of a secret.
HIDDEN = "***"

#: Policies whose options are never secret.
_OPEN = frozenset(("deny", "error-page", "file", "last-good", "retry"))

_userinfo = re.compile(r"(?<=//)[^/@\s]*(?=@)")
_query = re.compile(r"(?<=\?).+", re.DOTALL)
# The names of key files in ssl: descriptions are not secret.
_named = re.compile(
    r"\b(?!privateKey=|certKey=)([\w-]*(?:pass|pwd|secret|token|key|cred|auth)[\w-]*)"
    r"=(?:\\.|[^:\\])*",
    re.IGNORECASE,
)


def endpointWithoutSecrets(text: str) -> str:
    """An endpoint description, a URL or another option, without its secrets."""
    text = _userinfo.sub(HIDDEN, text)
    text = _named.sub(rf"\1={HIDDEN}", text)
    return _query.sub(HIDDEN, text)


def policyWithoutSecrets(name: str, arguments: Iterable[str], options: Mapping[str, str]) -> str:
    """
    A policy's description without its secrets.  Options are shown only of policies that
    come with sitio; the values of C{headers} are hidden.

    The parts are those that the policy itself gets: spaces, tabs and backslashes of the
    operator's text can't change what is hidden.

    @param arguments: as L{sitio.policy.loader.parseDescription} returns them.
    @param options: the same, C{maxAge} for C{max-age}.
    """
    parts = [*arguments, *(f"{_dashed(key)}={value}" for key, value in options.items())]
    if name == "headers":
        parts = [*map(_changeWithoutValue, arguments), *(HIDDEN for _ in options)]
    elif name not in _OPEN:
        parts = [HIDDEN] if parts else []
    return ":".join(each.replace("\\", "\\\\").replace(":", "\\:") for each in (name, *parts))


def _dashed(key: str) -> str:
    return re.sub("[A-Z]", lambda match: f"-{match[0].lower()}", key)


def _changeWithoutValue(change: str) -> str:
    """One change of C{headers}: the words before the value."""
    words = change.split()
    known = words[:1] if words[:1] == ["request"] else []
    match words[len(known) :]:
        case ["remove", name]:
            return " ".join((*known, "remove", name))
        case ["set" | "add" as verb, name, *_]:
            return " ".join((*known, verb, name, HIDDEN))
    return HIDDEN
