"""
Endpoint descriptions as the operator writes them: their parts, and what is wrong with them.

Twisted reads a description with the signature of a Python function, and what it raises are
that function's complaints.  L{checkServer} and L{checkClient} find the same mistakes first, and
say them in words.  L{explain} has the words for what is found only when the endpoint is made:
files that can't be read, certificates that can't be used.

Contract: L{explain} reads files that a description names; nothing else here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from sitio.errors import inOneLine

_MAX_PORT = 65535

# A part of a description, the name of an option, and an escaped character, as Twisted has them.
_parts = re.compile(r":((?:\\.|[^:\\])*)", re.DOTALL)
_option = re.compile(r"((?:\\.|[^=\\])*)=(.*)", re.DOTALL)
_escaped = re.compile(r"\\(.)", re.DOTALL)


class BadDescription(ValueError):
    """An endpoint description is wrong.  The message is a clause, and repeats no value of it."""


class Description(NamedTuple):
    """
    The parts of an endpoint description, without backslashes.

    @ivar kind: its first word, in small letters: C{tcp}.
    @ivar arguments: the parts after it that have no name.
    @ivar options: the others, by name.
    """

    kind: str
    arguments: list[str]
    options: dict[str, str]


def parse(description: str) -> Description:
    """
    Take a description apart, whether its kind is known or not.

    @raise BadDescription: it does not begin with a kind.
    """
    kind, *parts = _parts.findall(f":{description}")
    if not kind or _option.match(kind):
        raise BadDescription("it does not begin with a kind of endpoint, such as tcp")
    arguments, options = [], {}
    for part in parts:
        named = _option.fullmatch(part)
        if named is None:
            arguments.append(_unescaped(part))
        else:
            options[_unescaped(named[1])] = _unescaped(named[2])
    return Description(_unescaped(kind).lower(), arguments, options)


def _unescaped(text: str) -> str:
    return _escaped.sub(r"\1", text)


class _Kind(NamedTuple):
    """
    What a kind of endpoint takes.

    @ivar needed: the options that it needs, which come first.
    @ivar more: those that it takes.
    @ivar places: how many of them may stand without their names; L{None} for all.
    """

    needed: tuple[str, ...]
    more: tuple[str, ...]
    places: int | None = None


_PORT = _Kind(("port",), ("interface", "backlog"))
_SERVERS = {
    "ssl": _Kind(
        ("port",),
        (
            *("privateKey", "certKey", "sslmethod", "interface", "backlog"),
            *("extraCertChain", "dhParameters"),
        ),
    ),
    "systemd": _Kind(("domain",), ("index", "name")),
    "tcp": _PORT,
    "tcp6": _PORT,
    "unix": _Kind(("address",), ("mode", "backlog", "lockfile")),
}
_CLIENTS = {
    "ssl": _Kind(
        ("host", "port"),
        ("timeout", "bindAddress", "certKey", "privateKey", "caCertsDir", "hostname"),
        2,
    ),
    "tcp": _Kind(("host", "port"), ("timeout", "bindAddress"), 2),
    "tls": _Kind(
        ("host", "port"),
        (
            *("timeout", "bindAddress", "certificate", "privateKey", "trustRoots", "endpoint"),
            *("bindPort", "attemptDelay"),
        ),
    ),
    "unix": _Kind(("path",), ("timeout", "lockfile", "checkPID"), 1),
}


def _number(what: str, least: int, most: int | None = None) -> Callable[[str], str | None]:
    """A check of a number."""
    limits = f"from {least} to {most}" if most is not None else f"of {least} or more"

    def check(text: str) -> str | None:
        right = re.fullmatch("[0-9]{1,18}", text) and int(text) >= least
        if right and (most is None or int(text) <= most):
            return None
        return f"its {what} is not a number {limits}"

    return check


def _path(text: str) -> str | None:
    return None if text else "it has no path"


def _host(text: str) -> str | None:
    if re.fullmatch(r"[^\s/@\[\]]+", text):
        return None
    return "its host is neither a name nor an IP address without brackets"


_CHECKS: dict[str, Callable[[str], str | None]] = {
    "address": _path,
    "backlog": _number("backlog", 1),
    "domain": lambda text: (
        None if text in ("INET", "INET6", "UNIX") else "its domain is not INET, INET6 or UNIX"
    ),
    "host": _host,
    "index": _number("index", 0),
    "mode": lambda text: (
        None if re.fullmatch("[0-7]{1,4}", text) else "its mode is not an octal number such as 660"
    ),
    "path": _path,
    "port": _number("port", 0, _MAX_PORT),
    "timeout": _number("timeout", 1),
}


def checkServer(description: str) -> None:
    """
    Check the description of a port.

    What is not known here, such as an endpoint of a plugin, passes.

    @raise BadDescription: it is wrong.
    """
    kind, _, rest = description.partition(":")
    if kind.lower() == "haproxy":
        if not rest:
            raise BadDescription("it names no port; write for example haproxy:tcp:8080")
        checkServer(rest)
    else:
        _check(description, _SERVERS)


def checkClient(description: str) -> None:
    """The same for an endpoint to connect to."""
    found = _check(description, _CLIENTS)
    if found.get("port") == "0":
        raise BadDescription("its port is not a number from 1 to 65535")


def _check(description: str, kinds: Mapping[str, _Kind]) -> dict[str, str]:
    """The options of a description whose kind is known, with their values."""
    kind, arguments, options = parse(description)
    known = kinds.get(kind)
    if known is None:
        return {}
    names = known.needed + known.more
    places = len(names) if known.places is None else known.places
    if len(arguments) > places:
        raise BadDescription(
            "it has too many parts; a colon within a value needs a backslash, as in \\:\\:1"
        )
    found = dict(zip(names, arguments))
    for name, value in options.items():
        if name not in names:
            raise BadDescription(f"it has an option that {kind} does not have: {', '.join(names)}")
        if name in found:
            raise BadDescription(f"its {name} is given twice")
        found[name] = value
    for name in known.needed:
        if name not in found:
            raise BadDescription(f"it has no {name}")
    for name, value in found.items():
        wrong = _CHECKS[name](value) if name in _CHECKS else None
        if wrong is not None:
            raise BadDescription(wrong)
    return found


def target(description: str) -> tuple[str, int] | str | None:
    """
    Where an endpoint of Twisted connects to: a host and a port, or the path of a UNIX socket.

    @return: L{None} for an endpoint of another kind.

    @raise BadDescription: it is wrong.
    """
    found = _check(description, _CLIENTS)
    if "path" in found:
        return found["path"]
    return (found["host"], int(found["port"])) if found else None


#: What a file of PEM must hold, by the option that names it.
_PEM = {
    "privateKey": ("PRIVATE KEY-----", "private key"),
    "certKey": ("BEGIN CERTIFICATE-----", "certificate"),
    "certificate": ("BEGIN CERTIFICATE-----", "certificate"),
    "extraCertChain": ("BEGIN CERTIFICATE-----", "certificate"),
    "dhParameters": ("BEGIN DH PARAMETERS-----", "Diffie-Hellman parameters"),
}
_FOLDERS = ("caCertsDir", "trustRoots")


def explain(error: BaseException, description: str, isClient: bool = False) -> str:
    """
    Why an endpoint could not be made of a description, as a clause.

    @param isClient: whether it was to be one that connects.
    """
    text = str(error)
    if isinstance(error, BadDescription):
        return text
    if isinstance(error, OSError) and error.strerror:
        name = error.filename if error.filename is not None else "a file"
        return f"can't read {name}: {error.strerror}"
    if text.startswith("Unknown endpoint type"):
        return text
    kind, arguments, options = parse(description.removeprefix("haproxy:"))
    if kind == "systemd":
        if ("index" in options) == ("name" in options):
            return "it needs either index= or name="
        return "systemd has passed no such socket"
    if isinstance(error, TypeError):
        return f"its options are not those of {kind}"
    if isinstance(error, AttributeError) and "sslmethod" in options:
        return "its sslmethod is unknown; leave it out for the best that both sides have"
    if "do not match" in text:
        return "the certificate and the private key don't belong together"
    if isinstance(error, UnicodeError):
        return "its host is not a name of a host"
    names = (_CLIENTS if isClient else _SERVERS).get(kind, _PORT)
    files = {**dict(zip(names.needed + names.more, arguments)), **options}
    if "privateKey" in files:
        files.setdefault("certificate" if kind == "tls" else "certKey", files["privateKey"])
    return _wrongFile(files) or inOneLine(error, name=False) or "one of its values can't be used"


def _wrongFile(files: Mapping[str, str]) -> str | None:
    """What is wrong with one of these files, by the options that name them."""
    for option, (mark, what) in _PEM.items():
        if option not in files:
            continue
        path = Path(files[option])
        try:
            held = path.read_bytes()
        except OSError as error:
            return f"can't read {path}: {error.strerror}"
        if mark.encode() not in held:
            return f"{path} holds no {what} in PEM format"
    for option in _FOLDERS:
        if option in files:
            path = Path(files[option])
            if not path.is_dir():
                return f"{path} is not a folder with certificates"
            return f"a certificate in {path} can't be used"
    if files.keys() & _PEM.keys():
        return "its key or certificate is damaged, or its key needs a passphrase"
    return None
