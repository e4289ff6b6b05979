"""
Removes secrets from the options that the admin pages show.

Descriptions of endpoints and policies may hold passwords, tokens and keys.  If it is
unknown whether a part is secret, it is not shown.

Contract: pure; text in, text out.
"""

from __future__ import annotations

import re

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
_value = re.compile(r"(?<=:)((?:request )?(?:set|add) [^\s:]+ )(?:\\.|[^:\\])*", re.IGNORECASE)


def endpointWithoutSecrets(text: str) -> str:
    """An endpoint description, a URL or another option, without its secrets."""
    text = _userinfo.sub(HIDDEN, text)
    text = _named.sub(rf"\1={HIDDEN}", text)
    return _query.sub(HIDDEN, text)


def policyWithoutSecrets(description: str) -> str:
    """
    A policy's description without its secrets.  Options are shown only of policies that
    come with sitio; the values of C{headers} are hidden.
    """
    name, _, rest = description.partition(":")
    if name in _OPEN:
        return description
    if name == "headers":
        return _value.sub(rf"\1{HIDDEN}", description)
    return f"{name}:{HIDDEN}" if rest else name
