"""
What an operator has told sitio, without what others must not read.

Descriptions of endpoints and policies are shown to whoever asks for them, and may
hold passwords, tokens and keys.  Where it can't be known, nothing is shown.

Contract: pure; text in, text out.
"""

from __future__ import annotations

import re

#: What stands in the place of a secret.
HIDDEN = "***"

#: Policies that are told nothing secret.
_OPEN = frozenset(("deny", "error-page", "file", "last-good", "retry"))

_userinfo = re.compile(r"(?<=//)[^/@\s]*(?=@)")
_query = re.compile(r"(?<=\?).+", re.DOTALL)
# Names of files, as ssl: wants them, are no secrets.
_named = re.compile(
    r"\b(?!privateKey=|certKey=)([\w-]*(?:pass|pwd|secret|token|key|cred|auth)[\w-]*)"
    r"=(?:\\.|[^:\\])*",
    re.IGNORECASE,
)
_value = re.compile(r"(?<=:)((?:request )?(?:set|add) [^\s:]+ )(?:\\.|[^:\\])*", re.IGNORECASE)


def endpointWithoutSecrets(text: str) -> str:
    """An endpoint description, a URL or any other option."""
    text = _userinfo.sub(HIDDEN, text)
    text = _named.sub(rf"\1={HIDDEN}", text)
    return _query.sub(HIDDEN, text)


def policyWithoutSecrets(description: str) -> str:
    """
    A policy's description.  Only those that come with sitio are known well enough to
    be shown; of headers the values are left out, of strangers everything.
    """
    name, _, rest = description.partition(":")
    if name in _OPEN:
        return description
    if name == "headers":
        return _value.sub(rf"\1{HIDDEN}", description)
    return f"{name}:{HIDDEN}" if rest else name
