"""
Removes secrets from options, wherever they are shown: on the admin pages, in log lines, and
in the sentence that ends a start.

Descriptions of endpoints and policies may hold passwords, tokens and keys.  If it is
unknown whether a part is secret, it is not shown.

Of policies and endpoints it sees what is parsed, not the text: there are many ways to
write the same.  L{messageWithoutSecrets} is for sentences of others, which may repeat
what they were given.

Contract: pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Shown instead of a secret.
HIDDEN = "***"

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

#: Letters of a part of a secret that is hidden by itself.  A shorter one tells little, and
#: may be an English word of the sentence.
_MIN_PART = 4

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


def endpointMessageWithoutSecrets(message: str, description: str) -> str:
    """What someone says of an endpoint description, without the secrets of that."""
    return messageWithoutSecrets(message, _hiddenParts(description))


def _hiddenParts(description: str) -> list[str]:
    """The values that L{endpointWithoutSecrets} hides."""
    kind, colon, rest = description.partition(":")
    if colon and kind.lower() == "haproxy":
        return _hiddenParts(rest)
    kind, *parts = _parts.findall(f":{description}")
    isOpen = _unescaped(kind).lower() in _OPEN_ENDPOINTS
    hidden = []
    for each in parts:
        if not isOpen or _partWithoutSecrets(each) != each:
            option = _option.match(each)
            hidden.append(_unescaped(each[option.end() :] if option is not None else each) or each)
    return hidden


def nameWithoutSecrets(name: str) -> str:
    """The name of a policy.  Without a colon, what follows it may be anything."""
    known = re.match(r"\s*[\w.-]*", name)
    shown = known[0] if known is not None else ""
    return name if shown == name else shown + HIDDEN


def policyWithoutSecrets(name: str, parts: Iterable[str]) -> str:
    """
    A policy's description of parts that are shown.

    The parts are those that the policy itself gets: spaces, tabs and backslashes of the
    operator's text can't change what is hidden.  The policy's declaration tells what may be
    shown (L{sitio.policy.declaration}); of a policy without one, nothing is.
    """
    words = (nameWithoutSecrets(name), *parts)
    return ":".join(each.replace("\\", "\\\\").replace(":", "\\:") for each in words)


def argumentWithoutSecrets(text: str) -> str:
    """A part of a policy that has no secrets of its own: it may be a misspelled option."""
    return _named.sub(rf"\1={HIDDEN}", _userinfo.sub(HIDDEN, text))


def messageWithoutSecrets(message: str, secrets: Iterable[str]) -> str:
    """
    Someone's sentence without these secrets: without each of them, as it is and as C{repr}
    writes it, and without each of its words.
    """
    texts = {form for each in secrets for form in _forms(each)}
    words = {word for each in texts for word in (*each.split(), *re.findall(r"\w+", each))}
    texts |= {each for each in words if len(each) >= _MIN_PART}
    longestFirst = sorted(filter(None, texts), key=len, reverse=True)
    if not longestFirst:
        return message
    hidden = "|".join(
        re.escape(each) if len(each) > _MIN_PART else rf"(?<!\w){re.escape(each)}(?!\w)"
        for each in longestFirst
    )
    return re.sub(hidden, HIDDEN, message, flags=re.IGNORECASE)


def _forms(text: str) -> tuple[str, ...]:
    """A text, and what C{repr} writes of it and of its bytes."""
    latin, utf = text.encode("latin-1", "replace"), text.encode("utf-8", "surrogateescape")
    return text, repr(text)[1:-1], repr(latin)[2:-1], repr(utf)[2:-1]
