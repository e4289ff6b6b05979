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
from binascii import a2b_qp
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from attrs import define

#: The work for the paths of one request, in characters that are compared or rewritten; it takes
#: two or three milliseconds.  8 KiB of percent-encoded letters, the longest that most servers take,
#: need half of it; some hundred encoded separators may need more.
MAX_WORK = 80 * 1024

#: The most readings of the paths of one request.  An honest one has a handful.
MAX_READINGS = 256

#: The most prefixes that are cut off the paths of one request.
MAX_PREFIXES = 8

#: Combining characters in a row; text has fewer (Unicode Standard Annex 15, section 13), and
#: the time to normalize them is quadratic.
MAX_COMBINING = 30

#: Characters that stand for whole words or sentences: normalized, they are up to 18 times as long.
MAX_LIGATURES = 64

# The work to make or compare a reading, for a match that C code replaces, and for one that
# Python code does.
_READING = 64
_MATCH = 8
_CALL = 24

# Bytes that are not UTF-8 are lone surrogates, U+DC80 to U+DCFF (Python's surrogateescape).
_TAIL = "[\udc80-\udcbf]"

# ASCII in more bytes than one (RFC 3629, section 10), or any other overlong form.
_overlong = re.compile(
    f"[\udcc0\udcc1]{_TAIL}|\udce0[\udc80-\udc9f]{_TAIL}|\udcf0[\udc80-\udc8f]{_TAIL}{{2}}"
    f"|\udcf8[\udc80-\udc87]{_TAIL}{{3}}|\udcfc[\udc80-\udc83]{_TAIL}{{4}}"
)
_swallows = re.compile("([\udcc0\udcc1])([\1-\x7f])")

# Some parsers take several slashes for two.
_authority = re.compile(r"\A(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/]*")
_slashedAuthority = re.compile(r"\A(?:[A-Za-z][A-Za-z0-9+.-]*:)?///+[^/]*")
_unicodeEscape = re.compile("%[uU]([0-9A-Fa-f]{4})")

# Of percent-encoding.
_malformed = re.compile(b"%(?![0-9A-Fa-f]{2})").sub
# All but what RFC 3986, section 2.3, calls unreserved.
_reserved = re.compile(
    b"%(?!2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])(?=[0-9A-Fa-f]{2})"
).sub
_slashes = re.compile(b"%(?=2[Ff]|5[Cc])").sub
# Other characters with a meaning, where it makes a difference to decode some and not all.
_encodedMeaning = re.compile("%(?:2[35Ff]|3[BbFf]|5[Cc])").search

_controls = re.compile("[\1-\x1f\x7f-\x9f]+")
_spaceBeforeSlash = re.compile(
    "[\\t-\\r\\x1c-\\x20\\x85\\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000](?:/|\\Z)"
).search
_spaceAfterSlash = re.compile(r"/\s").search
_undecoded = re.compile("[\udc80-\udcff]+")

# Any of these can be read in another way; all else is plain.
_odd = re.compile(r"[%\\;?#$\s\0-\x20\x7f-\U0010ffff]|//|\.(?:/|\Z)|\A[^/]").search

#: Matches paths that can be read in one way only, if they have no C{//} and no dot at the end of
#: a segment; L{isPlain} knows all others, and takes longer.
PLAIN = re.compile(r"/[A-Za-z0-9_~!@&'()*+,=:./-]*").fullmatch


class UnreadablePath(ValueError):
    """A path that no service should decode, as nobody could tell what it means."""


def unquoted(data: bytes) -> bytes:
    """Percent-decoded bytes: C{urllib.parse.unquote_to_bytes}, many times as fast."""
    if b"%" not in data:
        return data
    data = _malformed(b"%25", data)
    # The decoder of quoted-printable is C code, and has the same escapes with another mark.
    # It would drop line ends after the mark, which none follows here.
    return a2b_qp(data.replace(b"=", b"%3D").replace(b"%", b"="))


def _decodedBy(decoder: Callable[[bytes], bytes]) -> Callable[[str], str]:
    def decoded(path: str) -> str:
        data = decoder(path.encode("utf-8", "surrogateescape"))
        return data.decode("utf-8", "surrogateescape")

    return decoded


def _character(code: int) -> str:
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    if code < 0x80:
        raise UnreadablePath(f"{found[0]} stands for an ASCII character")
    return _character(code)


def _shortened(found: re.Match[str]) -> str:
    """The character of an overlong form of UTF-8."""
    first, *rest = [ord(each) - 0xDC00 for each in found[0]]
    code = first & 0x7F >> len(rest) + 1
    for each in rest:
        code = code << 6 | each & 0x3F
    return _character(code)


def _swallowed(two: re.Match[str]) -> str:
    return chr((ord(two[1]) & 1) << 6 | ord(two[2]) & 0x3F)


# In these two, a NUL may be part of a character of another encoding: where it is NUL, it ends
# the path.


def _withoutOverlong(path: str) -> str:
    return _overlong.sub(_shortened, path).partition("\0")[0]


def _withSwallowed(path: str) -> str:
    return _swallows.sub(_swallowed, path).partition("\0")[0]


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


def _hasDotsAtEnd(path: str) -> bool:
    return "./" in path or " /" in path or path[-1:] in (".", " ")


def _hasSpacesAround(path: str) -> bool:
    if path[:1].isspace() or " /" in path or "/ " in path or path[-1:] == " ":
        return True
    if path.isprintable():
        return False
    return bool(_spaceBeforeSlash(path) or _spaceAfterSlash(path))


def _bySegment(rewritten: Callable[[str], str]) -> Callable[[str], str]:
    return lambda path: "/".join(map(rewritten, path.split("/")))


def _withoutDotsAtEnd(name: str) -> str:
    return name if name in (".", "..") else name.rstrip(". ")


def _withoutStream(name: str) -> str:
    before, _, stream = name.partition(":")
    return before if "$" in stream else name


# Windows reads these as slashes and dots, too ("best fit" of its code pages).
_SIMILAR = (("\u2044", "/"), ("\u2215", "/"), ("\u2216", "\\"), ("\u3002", "."), ("\uff61", "."))

# Characters that no one sees (general category Cf, and variation selectors).
_invisible = re.compile(
    "[\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]+"
).sub

_ligatures = re.compile("[\u3300-\u33ff\ufdf0-\ufdff]").findall

# Combining characters are among these.
_noLetters = re.compile(rf"[^\w\0-\x7f]{{{MAX_COMBINING + 1},}}").findall


def _checkNormalizable(path: str) -> None:
    if len(_ligatures(path)) > MAX_LIGATURES:
        raise UnreadablePath("too many ligatures")
    for some in _noLetters(path):
        run = 0
        for each in some:
            run = run + 1 if unicodedata.combining(each) else 0
            if run > MAX_COMBINING:
                raise UnreadablePath("too many combining characters in a row")


def _similar(path: str) -> str:
    """With ASCII in place of characters that are compatible with it."""
    if not unicodedata.is_normalized("NFKC", path):
        _checkNormalizable(path)
        path = unicodedata.normalize("NFKC", path)
    for each, similar in _SIMILAR:
        path = path.replace(each, similar)
    return _invisible("", path)


def _similarWork(path: str) -> int:
    return (4 if unicodedata.is_normalized("NFKC", path) else 16) * len(path)


def _has(*marks: str) -> Callable[[str], object]:
    if len(marks) == 1:
        return re.compile(re.escape(marks[0])).search
    return lambda path: any(each in path for each in marks)


def _isBeyondASCII(path: str) -> bool:
    return not path.isascii()


def _hasUndecoded(path: str) -> bool:
    return not path.isascii() and _undecoded.search(path) is not None


def _hasControls(path: str) -> bool:
    return not path.isprintable() and _controls.search(path) is not None


def _each(mark: str, work: int) -> Callable[[str], int]:
    return lambda path: work * path.count(mark)


def _eachCharacter(work: int) -> Callable[[str], int]:
    return lambda path: work * len(path)


@define
class _Way:
    """
    One way to read a path.

    @ivar applies: whether it can change a path.
    @ivar rewritten: makes the reading.  It takes linear time.
    @ivar work: what that takes beside the work for each character, if that is much.
    @ivar next: the ways to read what it makes, if not those of all text.
    """

    applies: Callable[[str], object]
    rewritten: Callable[[str], str]
    work: Callable[[str], int] | None = None
    next: list[_Way] | None = None


# Applied in any order, any number of times.
_STRUCTURE = [
    _Way(re.compile("%[0-9A-Fa-f]{2}").search, _decodedBy(unquoted)),
    # Gateways decode what has no meaning for them, and resolve dots before the service does.
    _Way(
        _encodedMeaning,
        _decodedBy(lambda data: unquoted(_reserved(b"%25", data))),
        _each("%", _MATCH),
    ),
    _Way(_encodedMeaning, _decodedBy(lambda data: unquoted(_slashes(b"%25", data))), _each("%", 3)),
    # Not a standard; IIS and the escape function of browsers have it.
    _Way(_unicodeEscape.search, partial(_unicodeEscape.sub, _unescaped), _each("%", _CALL)),
    _Way(_has("\\"), lambda path: path.replace("\\", "/")),
    # Parameters of a segment: servlet containers remove them first.
    _Way(_has(";"), partial(re.compile(";[^/]*").sub, ""), _each(";", _MATCH)),
    _Way(_has("//"), partial(re.compile("//+").sub, "/"), _each("//", _MATCH)),
    _Way(re.compile(r"/\.\.?(?:/|\Z)").search, _resolved, _each("/", 4)),
    # These end a path in services that parse it twice.
    _Way(_has("?", "#"), lambda path: re.split("[?#]", path, maxsplit=1)[0]),
    # Some services take what follows two slashes, or more, for an authority.
    _Way(_authority.match, lambda path: _authority.sub("", path, count=1) or "/"),
    _Way(_slashedAuthority.match, lambda path: _slashedAuthority.sub("", path, count=1) or "/"),
]
_SPELLINGS = [
    *_STRUCTURE,
    _Way(_hasSpacesAround, _bySegment(str.strip), _each("/", _MATCH)),
    # Parsers of URLs remove line ends and tabs, wherever they are.
    _Way(_hasControls, partial(_controls.sub, ""), _eachCharacter(3)),
]
_OF_LATIN1 = [
    *_SPELLINGS,
    # Names of files on Windows: no dots and spaces at the end, and streams after a colon.
    _Way(_hasDotsAtEnd, _bySegment(_withoutDotsAtEnd), _each("/", _MATCH)),
    _Way(_has("$"), _bySegment(_withoutStream), _each("/", _MATCH)),
]
_OF_TEXT = [*_OF_LATIN1, _Way(_isBeyondASCII, _similar, _similarWork)]
# While there are bytes that are not UTF-8, what is read first is where they are.
_OF_BYTES = [
    *_STRUCTURE,
    # Bytes that are not UTF-8 are overlong forms, are dropped, are Latin-1, or take the next
    # byte with them.  GBK, EUC-KR and Shift JIS have all such bytes, and honest uses.
    _Way(_overlong.search, _withoutOverlong, lambda path: _CALL * len(_overlong.findall(path))),
    _Way(_hasUndecoded, partial(_undecoded.sub, ""), _eachCharacter(2)),
    _Way(
        _hasUndecoded,
        lambda path: path.encode("utf-8", "surrogateescape").decode("latin-1"),
        _eachCharacter(2),
        next=_OF_LATIN1,
    ),
    _Way(
        _swallows.search,
        _withSwallowed,
        lambda path: _CALL * len(_swallows.findall(path)),
    ),
]


def readings(*paths: str, prefixes: Sequence[str] = ()) -> set[str]:
    """
    All readings of these paths, themselves included.

    @param paths: those of one request, without a query, as received.  Bytes beyond ASCII that
        are not UTF-8 are lone surrogates, as C{surrogateescape} makes them.
    @param prefixes: texts that services cut off at the start of a path, or wherever they are
        first.

    @raise UnreadablePath: a reading has a NUL; C{%uXXXX} stands for an ASCII character; or
        there are too many readings.  There is no honest use for such a path.
    """
    if not prefixes and not any(map(_odd, paths)):
        return set(paths)
    return _all(paths, _OF_TEXT, prefixes)


def isPlain(path: str) -> bool:
    """Whether a path can't be read in another way."""
    return _odd(path) is None


def isDecoded(path: str) -> bool:
    """Whether a path is written without encoding, detours and other disguises."""
    try:
        return len(_all((path,), _SPELLINGS)) == 1
    except UnreadablePath:
        return False


def _all(paths: Iterable[str], ways: list[_Way], prefixes: Sequence[str] = ()) -> set[str]:
    if len(prefixes) > MAX_PREFIXES:
        raise UnreadablePath("too many prefixes")
    # A text that was made in two ways has the next ways of both.
    found: set[tuple[str, int]] = set()
    todo = [(each, ways) for each in paths]
    left = MAX_WORK
    while todo:
        each, ways = todo.pop()
        if (each, id(ways)) in found:
            continue
        if "\0" in each:
            raise UnreadablePath("NUL")
        found.add((each, id(ways)))
        left -= _READING + len(each) + 2 * each.count("%")
        for way in _OF_BYTES if _hasUndecoded(each) else ways:
            if way.applies(each):
                left -= _READING + len(each)
                if way.work is not None:
                    left -= way.work(each)
                if left < 0 or len(found) > MAX_READINGS:
                    raise UnreadablePath("too many readings")
                todo.append((way.rewritten(each), way.next or ways))
        for prefix in prefixes:
            if prefix in each:
                todo.append(("/" + each.partition(prefix)[2].removeprefix("/"), ways))
    return {each for each, _ in found}
