"""
The types of options: L{Duration}, L{Size}, L{Share}, L{Statuses}, L{Network}, L{Secret}, and
the plain types of Python.

To type checkers, each is the type of its values: C{Duration} is a C{float} of seconds.  A
L{Kind} tells how text becomes such a value.  A policy with another type makes its own kind::

    Color = Annotated[str, Kind("a color such as #fff", "COLOR", parseColor)]

Contract: pure.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from attrs import evolve, frozen

from sitio.http.message import parseStatuses
from sitio.redact import HIDDEN

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    _AnyNetwork = IPv4Network | IPv6Network
else:
    # The module is imported with the first network.
    _AnyNetwork = object


#: The longest file with a secret; more is taken for a mistake.
MAX_SECRET_BYTES = 64 * 1024


def _same(text: str) -> str:
    return text


@frozen
class Kind:
    """
    A type of options.

    @ivar name: what is expected, for error messages: C{a whole number}.
    @ivar metavar: stands for a value in the line of usage: C{N}.
    @ivar parse: makes a value of a text.  It raises C{ValueError}, with a sentence or without.
    @ivar write: makes a text of a value, for tables.
    @ivar example: values for error messages: C{250ms, 5s or 10m}.
    @ivar many: whether the option may be repeated; commas join its values.
    @ivar shown: makes a text without secrets of a text.  L{None} if texts are not shown at all.
    @ivar isText: whether it is of texts that C{About(shown=True)} shows.
    @ivar secrets: the parts of a text to remove from messages; L{None} for all that is not shown.
    @ivar names: C{path} for a text that is the path of a file, C{secret} for one that is with
        C{@}, else C{""}.
    """

    name: str
    metavar: str
    parse: Callable[[str], Any]
    write: Callable[[Any], str] = str
    example: str = ""
    many: bool = False
    shown: Callable[[str], str] | None = _same
    secrets: Callable[[str], list[str]] | None = None
    isText: bool = False
    names: Literal["", "path", "secret"] = ""


class HiddenText(str):
    """A text whose C{repr} does not show it, so that tracebacks and logs don't."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def nearest(word: str, known: Iterable[str]) -> str:
    """C{; did you mean times?} if one of the known words is near to this one, else C{""}."""
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
_number = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([A-Za-z%]*)").fullmatch


def _parts(text: str) -> tuple[float, str]:
    found = _number(text.strip())
    if found is None:
        raise ValueError
    return float(found[1]), found[2]


def _int(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError
    return int(text)


def _float(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,9})?", text):
        raise ValueError
    return float(text)


def _duration(text: str) -> float:
    number, unit = _parts(text)
    if unit and unit not in _UNITS:
        raise ValueError
    # 250ms are 0.25, and not 0.25000000000000001.
    return round(number * _UNITS[unit or "s"], 6)


def writeDuration(seconds: float) -> str:
    """C{5m} for 300.0 and C{100ms} for 0.1."""
    for unit, length in reversed(_UNITS.items()):
        count = round(seconds / length)
        if count and round(count * length - seconds, 6) == 0:
            return f"{count}{unit}"
    return f"{seconds:g}s"


def _size(text: str) -> int:
    number, unit = _parts(text)
    if unit in tuple("kKMGT"):
        whole = f"{number:g}"
        raise ValueError(f"write {whole}{unit.upper()}iB or {whole}{unit.replace('K', 'k')}B")
    size = number * _SIZES.get(unit, 0)
    if unit not in _SIZES or size != int(size):
        raise ValueError
    return int(size)


def writeSize(size: int) -> str:
    """C{16MiB} for 16777216, and C{1000B} for 1000."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return f"{size}B"


def _share(text: str) -> float:
    number, unit = _parts(text)
    share = number / 100 if unit == "%" else number
    if unit not in ("", "%") or share > 1:
        raise ValueError
    return share


def _flag(text: str) -> bool:
    if text not in ("true", "yes", "false", "no"):
        raise ValueError
    return text in ("true", "yes")


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError
    return Path(text)


def _network(text: str) -> Any:
    from ipaddress import ip_network

    try:
        return ip_network(text)
    except ValueError:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            raise ValueError from None
        raise ValueError(f"the network of this address is {network}: write that") from None


def writeStatuses(statuses: frozenset[int]) -> str:
    """C{404,500-504} or C{5xx}: what L{parseStatuses} reads."""
    left, words = set(statuses), []
    for family in (4, 5):
        whole = set(range(family * 100, family * 100 + 100))
        if whole <= left:
            left -= whole
            words.append(f"{family}xx")
    for status in sorted(left):
        if status - 1 not in left:
            last = status
            while last + 1 in left:
                last += 1
            words.append(str(status) if last == status else f"{status}-{last}")
    return ",".join(words)


def choice(*words: str) -> Kind:
    """The kind of a C{Literal}: one of some words."""
    name = f"{', '.join(words[:-1])} or {words[-1]}" if words[1:] else words[0]

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"write {name}{nearest(text, words)}")
        return text

    return Kind(name, "|".join(words), parse)


def _collection(make: Callable[[list[Any]], Any], one: Kind) -> Kind:
    def parse(text: str) -> Any:
        return make([one.parse(each.strip()) for each in text.split(",") if each.strip()])

    def write(values: Any) -> str:
        texts = [one.write(each) for each in values]
        return ",".join(texts if isinstance(values, list | tuple) else sorted(texts))

    names = f"{one.name}, or several with commas"
    metavar = f"{one.metavar},..."
    return evolve(one, name=names, metavar=metavar, parse=parse, write=write, many=True)


def _secret(text: str) -> HiddenText:
    if not text.startswith("@"):
        if not text:
            # Perhaps a variable of the shell is not set; with an empty key anyone could sign.
            raise ValueError("it is empty")
        return HiddenText(text)
    return secretOf(Path(text[1:]), "the file after @")


def secretOf(path: Path, what: str) -> HiddenText:
    """
    The secret in a file: its text without the line end.

    @param what: the file, for the message of an error.

    @raise ValueError: there is none.  The message does not have its text.
    """
    try:
        # A named pipe would block for ever.
        if not path.is_file():
            raise ValueError(f"{what} is not there, or is no file")
        if path.stat().st_size > MAX_SECRET_BYTES:
            raise ValueError(f"{what} has more than {writeSize(MAX_SECRET_BYTES)}")
        secret = path.read_text("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{what} is no text in UTF-8") from None
    except OSError as error:
        raise ValueError(f"{what} can't be read: {error.strerror}") from None
    if not secret:
        raise ValueError(f"{what} is empty")
    return HiddenText(secret)


def _secretsIn(text: str) -> list[str]:
    try:
        return [str(_secret(text))]
    except ValueError:
        # The name of a file is no secret: its words may be those of a sentence.
        return [] if _namesFile(text) else [text]


def _namesFile(text: str) -> bool:
    try:
        return text == "@" or (text[:1] == "@" and Path(text[1:]).is_file())
    except OSError:
        return False


TEXT = Kind("a text", "TEXT", str, shown=None, isText=True)
SECRET = Kind(
    "a secret",
    "SECRET",
    _secret,
    lambda value: HIDDEN,
    shown=None,
    secrets=_secretsIn,
    names="secret",
)

#: Seconds: C{250ms}, C{5s}, C{10m}, C{2h}, C{7d}.  A number without a unit is in seconds.
Duration = Annotated[
    float, Kind("a duration", "DURATION", _duration, writeDuration, "250ms, 5s or 10m")
]
#: Bytes: C{64KiB}, C{1MiB}, C{1GiB}, C{10kB}.  A number without a unit is in bytes.
Size = Annotated[int, Kind("a size", "SIZE", _size, writeSize, "4096, 64KiB or 1MiB")]
#: A part of all, from 0.0 to 1.0: C{5%} or C{0.05}.
Share = Annotated[
    float, Kind("a share", "SHARE", _share, lambda value: f"{value * 100:g}%", "5% or 0.05")
]
#: Error statuses: C{404}, C{404,410}, C{500-504}, C{5xx}.
Statuses = Annotated[
    frozenset[int],
    Kind("error statuses", "STATUSES", parseStatuses, writeStatuses, "404 or 5xx", True),
]
#: A network or an address of IP: C{10.0.0.0/8}, C{::1}.
Network = Annotated[_AnyNetwork, Kind("a network", "NETWORK", _network, str, "10.0.0.0/8 or ::1")]
#: A text that is never shown: not in logs, not on the admin pages, not in error messages.
#: C{@PATH} is the text of a file without its line end, as all users of a host can read command
#: lines.
Secret = Annotated[str, SECRET]

_PLAIN: dict[Any, Kind] = {
    str: TEXT,
    int: Kind("a whole number", "N", _int),
    float: Kind("a number", "NUMBER", _float, lambda value: f"{value:g}"),
    bool: Kind("true or false", "true|false", _flag, lambda value: str(value).lower()),
    Path: Kind("a path", "PATH", _path, names="path"),
}
_COLLECTIONS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    tuple: tuple,
    frozenset: frozenset,
    set: set,
}


def kindOf(annotation: Any) -> Kind | None:
    """The kind of an annotation, or L{None} if it is not the type of an option."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        # The last one, as it is nearest to the option.
        kinds = [each for each in parts[1:] if isinstance(each, Kind)]
        return kinds[-1] if kinds else kindOf(parts[0])
    if origin in (Union, types.UnionType):
        rest = [each for each in parts if each is not types.NoneType]
        return kindOf(rest[0]) if len(rest) == 1 else None
    if origin is Literal and all(isinstance(each, str) for each in parts):
        return choice(*parts)
    if origin in _COLLECTIONS and parts and (origin is not tuple or parts[1:] == (...,)):
        one = kindOf(parts[0])
        return None if one is None or one.many else _collection(_COLLECTIONS[origin], one)
    return None
