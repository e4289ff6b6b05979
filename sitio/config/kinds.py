"""
What the keys of the configuration file may be: L{Kind}.

Each takes plain data, as TOML has it, and makes a plain value of it.  A text is taken for a
number or a boolean too, as the value of C{${NAME}} is always a text.

Contract: pure, but L{WORKERS}, which counts the cores.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from sitio.config.addresses import (
    adminDescription,
    connectDescription,
    hostAndPort,
    listenDescription,
)
from sitio.config.values import (
    ACCESS_LOG_FORMATS,
    MAX_COUNT,
    MAX_SECONDS,
    MAX_WORKERS,
    accessLogTarget,
    hostNames,
    portNumber,
    trustedProxies,
    workerCount,
)
from sitio.http.grammar import isPath
from sitio.settings import BYTES, SECONDS

_TEXT: dict[str, Any] = {"type": "string"}


def _same(value: Any, folder: str) -> Any:
    return value


@frozen
class Kind:
    """
    What a key may be.

    @ivar expected: after "it must be": C{a duration such as 30s}.
    @ivar parse: makes a value of plain data.  It raises C{ValueError}: without a message if the
        data is not what is expected, or with one that begins with the value.
    @ivar schema: the same as JSON schema.
    @ivar isSecret: whether the value may have a password: it is not repeated in messages, and
        C{file:PATH} is the text of a file.
    @ivar resolve: the value with its paths relative to a folder; called with both.
    @ivar unit: C{seconds} or C{bytes}, if it is of one.
    """

    expected: str
    parse: Callable[[Any], Any]
    schema: Mapping[str, Any] = field(factory=lambda: _TEXT)
    isSecret: bool = False
    resolve: Callable[[Any, str], Any] = _same
    unit: str = ""


def plainText(value: Any) -> str:
    """
    A text of one line.

    @raise ValueError: it is no text, or has control characters.
    """
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise ValueError
    return value


def _number(value: Any) -> str:
    """A number as the text that people write; a text as it is."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    if isinstance(value, float):
        # nan and inf are numbers of TOML.
        if not 0 <= value <= MAX_COUNT:
            raise ValueError
        return f"{value:.9f}".rstrip("0").rstrip(".")
    return str(value)


def _described(name: str) -> Any:
    """A kind of the options of policies; they are imported with the first value of one."""
    from sitio.policy import kinds

    return kinds.kindOf(getattr(kinds, name))


def _quantity(name: str, most: int, zero: bool) -> Callable[[Any], Any]:
    """Reads a number with its unit, from 0 or above it, up to a bound."""

    def parse(value: Any) -> Any:
        written = _number(value)
        try:
            found = _described(name).parse(written)
        except ValueError as error:
            raise ValueError(f"{value!r}; {error}" if str(error) else "") from None
        if found > most:
            raise ValueError(f"{value!r}; it must be at most {most}")
        if not (found or zero):
            raise ValueError(f"{value!r}; it must be more than 0")
        return found

    return parse


def seconds(zero: bool = False) -> Kind:
    """A duration, in seconds."""
    return Kind(
        "a number of seconds, or a duration such as 500ms, 30s, 5m or 1h",
        _quantity("Duration", MAX_SECONDS, zero),
        {
            "anyOf": [
                {"type": "number", "minimum" if zero else "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)?$"},
            ]
        },
        unit=SECONDS,
    )


def size(zero: bool = False) -> Kind:
    """A number of bytes."""
    return Kind(
        "a number of bytes, or a size such as 64KiB or 1MiB",
        _quantity("Size", MAX_COUNT, zero),
        {
            "anyOf": [
                {"type": "integer", "minimum" if zero else "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([KMGT]iB|[kMGT]?B)?$"},
            ]
        },
        unit=BYTES,
    )


def count(least: int = 0, most: int = MAX_COUNT) -> Kind:
    """A whole number."""

    def parse(value: Any) -> int:
        text = _number(value)
        if not re.fullmatch("[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    end = f" to {most}" if most < MAX_COUNT else " or more"
    bounds = {"minimum": least} | ({"maximum": most} if most < MAX_COUNT else {})
    return Kind(f"a whole number, {least}{end}", parse, {"type": "integer", **bounds})


def choice(*words: str) -> Kind:
    """One of some words."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f'{value}; write "{value}"' if str(value) in words else "")
        if value not in words:
            from sitio.policy.kinds import nearest

            raise ValueError(f"{value!r}; it must be {expected}{nearest(value, words)}")
        return value

    expected = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    return Kind(expected, parse, {"enum": list(words)})


def several(one: Kind, expected: str, least: int = 0) -> Kind:
    """A list, or a single value."""

    def parse(value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        if len(values) < least:
            raise ValueError
        return tuple(_elementOf(one, each) for each in values)

    def resolve(value: Any, folder: str) -> Any:
        return tuple(one.resolve(each, folder) for each in value)

    schema = {"anyOf": [one.schema, {"type": "array", "items": one.schema, "minItems": least}]}
    return Kind(expected, parse, schema, one.isSecret, resolve)


def _elementOf(one: Kind, value: Any) -> Any:
    try:
        return one.parse(value)
    except ValueError as error:
        raise ValueError(str(error) or f"{value!r}; it must be {one.expected}") from None


def _share(value: Any) -> float:
    return float(_described("Share").parse(_number(value)))


def matching(grammar: Callable[[str], object]) -> Callable[[Any], str]:
    """Reads a text of a grammar."""

    def parse(value: Any) -> str:
        text = plainText(value)
        if not grammar(text):
            raise ValueError
        return text

    return parse


def _file(value: Any) -> str:
    text = plainText(value)
    # What elsewhere names a file would be a strange path.
    return text.removeprefix("file:")


def _join(value: str, folder: str) -> str:
    # Imported late: most starts have no file.
    from os.path import join

    return join(folder, value)


def _log(value: Any) -> tuple[str, str | None] | None:
    if not isinstance(value, str):
        raise ValueError
    return accessLogTarget(value)


def _joinLog(value: Any, folder: str) -> Any:
    return (value[0], _join(value[1], folder)) if value and value[1] else value


def _workers(value: Any) -> int:
    return workerCount(_number(value))


def _hosts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise ValueError
    return tuple(name for each in values for name in hostNames(each))


def _trusted(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise ValueError
    return tuple(name for each in values for name in trustedProxies(each))


def _adminAddress(value: Any) -> str:
    return "" if value == "" else adminDescription(value)


def _server(value: Any) -> str:
    # Imported with the first address.
    from ipaddress import ip_address

    text = plainText(value)
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    host, _, port = text.rpartition(":")
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError from None
    if not portNumber(port) or (":" in host and host[:1] != "["):
        raise ValueError
    return text


def _weight(value: Any) -> float:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_COUNT:
        raise ValueError
    return float(value)


TEXT = Kind("a text", plainText)
SECRET = Kind("a text, or file:PATH", plainText, isSecret=True)
FLAG = Kind("true or false", _flag, {"type": "boolean"})
FILE = Kind("the path of a file", _file, resolve=_join)
SHARE = Kind(
    "a share from 0 to 1, or a text such as 20%",
    _share,
    {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$"},
        ]
    },
)
WORKERS = Kind(
    f"1 to {MAX_WORKERS}, or auto for one on each core",
    _workers,
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}, {"const": "auto"}]},
)
ACCESS_LOG = Kind(
    "json, common, off, or one with a path as in json:access.log",
    _log,
    {"type": "string", "pattern": rf"^(off|({'|'.join(ACCESS_LOG_FORMATS)})(:.+)?)$"},
    resolve=_joinLog,
)
LISTEN = Kind(
    "a port such as 8080, an address such as 127.0.0.1:8080, or an endpoint description",
    listenDescription,
    {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 65535}, _TEXT]},
)
CONNECT = Kind(
    "an address such as localhost:8087 or https://api.example, or an endpoint description",
    connectDescription,
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, _TEXT]},
)
HOST_AND_PORT = Kind("a name with a port, such as photos.default.svc:8087", hostAndPort)
HOSTNAME = Kind(
    "a name such as _http._tcp.photos.default.svc",
    matching(re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?").fullmatch),
)
HOSTS = Kind(
    "names of hosts without ports, as in sitio.example.com",
    _hosts,
    {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
)
TRUSTED = Kind(
    "networks such as 10.0.0.0/8 or ::1, or unix",
    _trusted,
    {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
)
PATH = Kind("a path such as /healthz", matching(isPath))
ADMIN = Kind(
    "a port such as 9901, an address such as 127.0.0.1:9901, an endpoint description, or empty",
    _adminAddress,
    {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 65535}, _TEXT]},
)
SERVER = Kind("an IP address such as 10.0.0.10 or 10.0.0.10:53", _server)
WEIGHT = Kind("a number, 0 or more", _weight, {"type": "number", "minimum": 0})
