"""
The ways in which services read the path of a request: L{readings}.

RFC 3986 has one way: percent-encoded bytes of UTF-8, and dot segments that are resolved once.
Services and the libraries in them do more: they decode twice, take backslashes for slashes,
cut off C{;parameters}, merge slashes, drop dots and spaces at the end of names as Windows
does, or replace characters by similar ones.  So a plain comparison of paths is passed by
another spelling.

Nothing here changes a path that is forwarded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import unquote_to_bytes

#: The work for one request, in characters that are rewritten; it takes some milliseconds.  The
#: longest path that is only percent-encoded needs a quarter of it.
MAX_REWRITTEN_CHARACTERS = 128 * 1024

#: The most readings of the paths of one request.  An honest one has a handful.
MAX_READINGS = 512

#: Combining characters in a row; text has fewer (Unicode Standard Annex 15, section 13), and
#: the time to normalize them is quadratic.
MAX_COMBINING = 30

# Bytes that are not UTF-8 are lone surrogates, U+DC80 to U+DCFF (Python's surrogateescape).
_TAIL = "[\udc80-\udcbf]"

# NUL, and ASCII in more bytes than one (RFC 3629, section 10) or any other overlong form.
_unreadable = re.compile(
    f"\0|[\udcc0\udcc1]{_TAIL}|\udce0[\udc80-\udc9f]{_TAIL}|\udcf0[\udc80-\udc8f]{_TAIL}{{2}}"
    f"|[\udcf8-\udcfb]{_TAIL}{{4}}|[\udcfc\udcfd]{_TAIL}{{5}}"
).search

_authority = re.compile(r"\A(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/]*")
_unicodeEscape = re.compile("%[uU]([0-9A-Fa-f]{4})")

# All but slashes, and what RFC 3986, section 2.3, calls unreserved.
_NO_SLASH = re.compile(b"%(?!2[Ff]|5[Cc])[0-9A-Fa-f]{2}").sub
_UNRESERVED = re.compile(b"%(?:2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])").sub
# Other characters with a meaning, where it makes a difference to decode some and not all.
_encodedMeaning = re.compile("%(?:2[35Ff]|3[BbFf]|5[Cc])").search

# Any of these can be read in another way; all else is plain.
_odd = re.compile(r"[%\\;?#$\s\0-\x20\x7f-\U0010ffff]|//|\.(?:/|\Z)|\A[^/]").search


class UnreadablePath(ValueError):
    """A path that no service should decode, as nobody could tell what it means."""


def _decodedBy(decoder: Callable[[bytes], bytes]) -> Callable[[str], str]:
    def decoded(path: str) -> str:
        data = decoder(path.encode("utf-8", "surrogateescape"))
        return data.decode("utf-8", "surrogateescape")

    return decoded


def _byte(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[0][1:], 16),))


def _character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    if 0xD800 <= code < 0xE000:
        return "\ufffd"
    character = chr(code)
    if unicodedata.normalize("NFKC", character).isascii():
        raise UnreadablePath(f"{found[0]} stands for an ASCII character")
    return character


def _resolved(path: str) -> str:
    """Without dot segments (RFC 3986, section 5.2.4)."""
    segments = [""]
    for each in path.split("/")[1:]:
        if each == "..":
            # The parent of the root is the root.
            del segments[max(1, len(segments) - 1) :]
        elif each != ".":
            segments.append(each)
    if path.endswith(("/.", "/..")):
        segments.append("")
    return "/".join(segments)


def _bySegment(rewritten: Callable[[str], str]) -> Callable[[str], str]:
    # Expressions such as C{\s*/\s*} would take quadratic time.
    return lambda path: "/".join(map(rewritten, path.split("/")))


def _withoutDotsAtEnd(name: str) -> str:
    return name if name in (".", "..") else name.rstrip(". ")


def _withoutStream(name: str) -> str:
    before, _, stream = name.partition(":")
    return before if "$" in stream else name


# Windows reads these as slashes and dots, too ("best fit" of its code pages).
_SIMILAR = str.maketrans({0x2044: "/", 0x2215: "/", 0x2216: "\\", 0x3002: ".", 0xFF61: "."})

# Characters that no one sees (general category Cf, and variation selectors).
_invisible = re.compile(
    "[\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]+"
).sub


def _similar(path: str) -> str:
    """With ASCII in place of characters that are compatible with it."""
    if not unicodedata.is_normalized("NFKC", path):
        run = 0
        for each in path:
            run = run + 1 if unicodedata.combining(each) else 0
            if run > MAX_COMBINING:
                raise UnreadablePath("too many combining characters in a row")
        path = unicodedata.normalize("NFKC", path)
    return _invisible("", path.translate(_SIMILAR))


# What can be read in another way, and that way; applied in any order, any number of times.
_Reading = tuple[Callable[[str], object], Callable[[str], str]]
_SPELLINGS: list[_Reading] = [
    (re.compile("%[0-9A-Fa-f]{2}").search, _decodedBy(unquote_to_bytes)),
    # Gateways decode what has no meaning for them, and resolve dots before the service does.
    (_encodedMeaning, _decodedBy(partial(_UNRESERVED, _byte))),
    (_encodedMeaning, _decodedBy(partial(_NO_SLASH, _byte))),
    # Not a standard; IIS and the escape function of browsers have it.
    (_unicodeEscape.search, lambda path: _unicodeEscape.sub(_character, path)),
    (re.compile(r"\\").search, lambda path: path.replace("\\", "/")),
    # Parameters of a segment: servlet containers remove them first.
    (re.compile(";").search, lambda path: re.sub(";[^/]*", "", path)),
    (re.compile("//").search, lambda path: re.sub("//+", "/", path)),
    (re.compile(r"/\.\.?(?:/|\Z)").search, _resolved),
    # These end a path in services that parse it twice.
    (re.compile("[?#]").search, lambda path: re.split("[?#]", path)[0]),
    (re.compile(r"\s(?:/|\Z)|(?:/|\A)\s").search, _bySegment(str.strip)),
    # Parsers of URLs remove line ends and tabs, wherever they are.
    (re.compile("[\1-\x1f\x7f-\x9f]").search, partial(re.sub, "[\1-\x1f\x7f-\x9f]+", "")),
    # Some services take what follows two slashes for an authority.
    (_authority.match, lambda path: _authority.sub("", path) or "/"),
]
_READINGS: list[_Reading] = [
    *_SPELLINGS,
    # Names of files on Windows: no dots and spaces at the end, and streams after a colon.
    (re.compile(r"[. ](?:/|\Z)").search, _bySegment(_withoutDotsAtEnd)),
    (re.compile(r"\$").search, _bySegment(_withoutStream)),
    (re.compile("[\x80-\udc7f\udd00-\U0010ffff]").search, _similar),
    # Bytes that are not UTF-8 are dropped, are Latin-1, or take the next byte with them.
    (re.compile("[\udc80-\udcff]").search, lambda path: re.sub("[\udc80-\udcff]+", "", path)),
    (
        re.compile("[\udc80-\udcff]").search,
        lambda path: re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), path),
    ),
    (
        re.compile("[\udcc0\udcc1][\1-\x7f]").search,
        lambda path: re.sub(
            "([\udcc0\udcc1])([\1-\x7f])",
            lambda two: chr((ord(two[1]) & 1) << 6 | (ord(two[2]) & 0x3F)),
            path,
        ),
    ),
]


def readings(*paths: str) -> set[str]:
    """
    All readings of these paths, themselves included.

    @param paths: those of one request, without a query, as received.  Bytes beyond ASCII that
        are not UTF-8 are lone surrogates, as C{surrogateescape} makes them.

    @raise UnreadablePath: a reading has a NUL, or a character in an overlong form of UTF-8;
        C{%uXXXX} stands for an ASCII character; or there are too many readings.  There is no
        honest use for such a path.
    """
    for each in paths:
        if _odd(each):
            return _all(paths, _READINGS)
    return set(paths)


def isDecoded(path: str) -> bool:
    """Whether a path is written without encoding, detours and other disguises."""
    try:
        return len(_all((path,), _SPELLINGS)) == 1
    except UnreadablePath:
        return False


def _all(paths: Iterable[str], ways: list[_Reading]) -> set[str]:
    found: set[str] = set()
    todo = list(paths)
    left = MAX_REWRITTEN_CHARACTERS
    while todo:
        each = todo.pop()
        if each in found:
            continue
        if _unreadable(each):
            raise UnreadablePath("NUL, or an overlong form of UTF-8")
        found.add(each)
        for applies, rewritten in ways:
            if applies(each):
                left -= len(each)
                if left < 0 or len(found) > MAX_READINGS:
                    raise UnreadablePath("too many readings")
                todo.append(rewritten(each))
    return found
