"""
Removes secrets from the options that the admin pages show.

Descriptions of endpoints and policies may hold passwords, tokens and keys.  If it is
unknown whether a part is secret, it is not shown.

Of policies and endpoints it sees what is parsed, not the text: there are many ways to
write the same.

Contract: pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Shown instead of a secret.
HIDDEN = "***"

#: Policies whose options are never secret.
_OPEN = frozenset(("deny", "error-page", "file", "last-good", "retry"))

#: Endpoints whose parts without a name are never secret: those of Twisted.
_OPEN_ENDPOINTS = frozenset(("", "fd", "ssl", "stdio", "systemd", "tcp", "tcp6", "tls", "unix"))

#: Their options that are never secret.  Of keys, they name the files.
_OPEN_OPTIONS = frozenset(
    (
        *("address", "backlog", "bindAddress", "bindPort", "caCertsDir", "certKey"),
        *("certificate", "checkPID", "dhParameters", "domain", "extraCertChain", "fileno"),
        *("host", "index", "interface", "lockfile", "mode", "name", "path", "port"),
        *("privateKey", "sslmethod", "timeout", "trustRoots"),
    )
)

# To the last @, as URLs are read.
_userinfo = re.compile(r"(?<=//)[^/?#]*(?=@)")
_query = re.compile(r"(?<=\?).+", re.DOTALL)
_named = re.compile(
    r"\b([\w-]*(?:pass|pwd|secret|token|key|cred|auth)[\w-]*)=(?:\\.|[^:\\])*", re.IGNORECASE
)
# The parts of an endpoint description, and the name and the value of a part.
_parts = re.compile(r":((?:\\.|[^:\\])*)", re.DOTALL)
_option = re.compile(r"((?:\\.|[^=\\])*)=", re.DOTALL)


def textWithoutSecrets(text: str) -> str:
    """A URL, a path or another option, without its secrets."""
    text = _userinfo.sub(HIDDEN, text)
    text = _named.sub(rf"\1={HIDDEN}", text)
    return _query.sub(HIDDEN, text)


def endpointWithoutSecrets(description: str) -> str:
    """
    An endpoint description without its secrets.

    Of an endpoint of a plugin only the name is shown, and of the others the options that
    are known.
    """
    kind, colon, rest = description.partition(":")
    if colon and kind.lower() == "haproxy":
        return f"{kind}:{endpointWithoutSecrets(rest)}"
    kind, *parts = _parts.findall(f":{description}")
    if _unescaped(kind).lower() in _OPEN_ENDPOINTS:
        return ":".join((kind, *map(_partWithoutSecrets, parts)))
    return f"{kind}:{HIDDEN}" if parts else kind


def _partWithoutSecrets(part: str) -> str:
    option = _option.match(part)
    if option is None or _unescaped(option[1]) in _OPEN_OPTIONS:
        return part
    return f"{option[1]}={HIDDEN}"


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


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
