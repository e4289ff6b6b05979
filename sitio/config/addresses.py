"""
Addresses as people type them, and the endpoint descriptions that they stand for.

L{connectDescription} is for upstreams: C{localhost:8087}, C{:8087}, C{8087},
C{http://localhost:8087}, C{https://api.example}, C{[::1]:8087}.  L{listenDescription} is for
ports: C{8080}, C{:8080}, C{127.0.0.1:8080}, C{[::1]:8080}.  An endpoint description stays as it
is: a kind of endpoint is before a host of the same name.

Errors are C{ValueError}s with one sentence that begins with the text, without secrets.

Contract: looks for installed kinds of endpoints; no other I/O.
"""

from __future__ import annotations

import re
from typing import Any

from sitio.config.values import MAX_PORT, portNumber
from sitio.redact import textWithoutSecrets

#: The ports of the schemes (RFC 9110, section 4.2).
PORTS = {"http": 80, "https": 443}

#: Kinds of endpoints that are known without a look at plugins.
_KINDS = frozenset(("fd", "haproxy", "ssl", "stdio", "systemd", "tcp", "tcp6", "tls", "unix"))

_hostPort = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):([0-9]{1,9})").fullmatch
_scheme = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL).fullmatch
_authority = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{0,9}))?").fullmatch

_HOW = "write for example localhost:8087, or https://api.example"


def _shown(text: str) -> str:
    return repr(textWithoutSecrets(text))


def _textOf(value: Any) -> str:
    """The text of an address, which may be a number."""
    if type(value) is int and value >= 0:
        return str(value)
    if not isinstance(value, str):
        raise ValueError
    return value


def _isKind(name: str, *, listens: bool) -> bool:
    """Whether there is a kind of endpoint of this name."""
    if name.lower() in _KINDS:
        return True
    if "." in name or name in ("", "localhost"):
        return False
    # Twisted looks for them too, if it is asked for a kind that is not its own.
    from twisted.internet.interfaces import (
        IStreamClientEndpointStringParserWithReactor as ClientParser,
        IStreamServerEndpointStringParser as ServerParser,
    )
    from twisted.plugin import getPlugins

    parser: Any = ServerParser if listens else ClientParser
    return any(each.prefix.lower() == name.lower() for each in getPlugins(parser))


def _port(text: str, given: str) -> int:
    if not 1 <= int(text) <= MAX_PORT:
        raise ValueError(f"{_shown(given)}; it must be a port from 1 to {MAX_PORT}")
    return int(text)


def _bare(host: str) -> str:
    return host[1:-1] if host[:1] == "[" else host


def _described(kind: str, host: str, port: int) -> str:
    """An endpoint description; colons of an IPv6 address get backslashes."""
    escaped = _bare(host).replace(":", "\\:")
    return f"{kind}:{escaped}:{port}"


def connectDescription(value: Any) -> str:
    """
    The endpoint description of an upstream.

    With C{https} the endpoint verifies the certificate for the host, and sends its name (SNI).

    @raise ValueError: it is a URL with more than scheme, host and port, or of another scheme.
        A wrong endpoint description passes: L{sitio.net.descriptions} has words for that.
    """
    text = _textOf(value)
    url = _scheme(text)
    if url is not None:
        return _ofURL(text, url[1].lower(), url[2])
    if text.isdecimal() and text.isascii():
        return _described("tcp", "localhost", _port(text[:9], text))
    found = _hostPort(text)
    if found is None or _isKind(found[1], listens=False):
        return text
    return _described("tcp", found[1] or "localhost", _port(found[2], text))


def _ofURL(text: str, scheme: str, rest: str) -> str:
    """The endpoint description of a URL, which may end in a slash."""
    shown = _shown(text)
    if scheme not in PORTS:
        raise ValueError(f"{shown}; its scheme is neither http nor https: {_HOW}")
    authority, mark, _ = rest.partition("?")[0].partition("#")[0].partition("/")
    if "@" in rest:
        # What stands before it is a password, most probably: it is not shown.
        raise ValueError(
            f"{scheme}://***@...; sitio sends no user and no password: write only scheme, host and"
            " port, and let a policy add what the service wants"
        )
    if rest not in (authority, f"{authority}/"):
        what = "a path" if mark else "a query" if "?" in rest else "a fragment"
        shown = repr(f"{scheme}://{authority}{mark and '/...'}{'?...' if '?' in rest else ''}")
        raise ValueError(
            f"{shown}; it has {what}, and an upstream is only scheme, host and port: write"
            f" {scheme}://{authority}"
        )
    found = _authority(authority)
    if found is None:
        raise ValueError(f"{shown}; it has no host and port that can be asked: {_HOW}")
    port = _port(found[2], text) if found[2] else PORTS[scheme]
    return _described("tls" if scheme == "https" else "tcp", found[1], port)


def listenDescription(value: Any) -> str:
    """
    The endpoint description of a port.

    @raise ValueError: it is a URL, or the address of a host's name; or its port is wrong.
        A wrong endpoint description passes.
    """
    text = _textOf(value)
    if text.isdecimal():
        return f"tcp:{portNumber(text)}"
    url = _scheme(text)
    if url is not None and url[1].lower() in PORTS:
        raise ValueError(
            f"{_shown(text)}; it is a URL, and a port has none: write for example 8080 or"
            " 127.0.0.1:8080"
        )
    found = _hostPort(text)
    if found is None or _isKind(found[1], listens=True):
        return text
    host, port = _bare(found[1]), portNumber(found[2])
    if host == "localhost":
        host = "127.0.0.1"
    if not host:
        return f"tcp:{port}"
    if ":" in host:
        escaped = host.replace(":", "\\:")
        return f"tcp6:{port}:interface={escaped}"
    if not re.fullmatch(r"[0-9.]+", host):
        raise ValueError(
            f"{_shown(text)}; it names a host: write an IP address of this one, such as"
            f" 127.0.0.1:{port}, or only the port"
        )
    return f"tcp:{port}:interface={host}"


def adminDescription(value: Any) -> str:
    """
    The same for the admin port, where a number is a port of this host only.

    @raise ValueError: as L{listenDescription}.
    """
    text = _textOf(value)
    if text.isdecimal():
        return f"tcp:{portNumber(text)}:interface=127.0.0.1"
    return listenDescription(text)


def hostAndPort(value: Any) -> tuple[str, int]:
    """
    A name with a port, as C{photos.default.svc:8087}.

    @raise ValueError: it is none.
    """
    found = _hostPort(value) if isinstance(value, str) else None
    if found is None or not found[1] or found[1][:1] == "[":
        raise ValueError
    return found[1], _port(found[2], value)
