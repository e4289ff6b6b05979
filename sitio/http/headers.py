"""
The fields of a message: L{Headers}.

They are held in wire form (L{sitio.http.lines}).

Names and values are C{str} for policies.  Values are decoded as latin-1, which loses no byte
(RFC 9110, section 5.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Self, overload

from sitio.http.grammar import VALUE_BYTES, fieldNames, isToken
from sitio.http.lines import NO_LINES, Pairs, keyOf, keysIn, pairsOf, spansOf, wireForm, without
from sitio.http.memo import Memo
from sitio.http.overrides import foldedName

#: Fields about one connection, or about the framing of one message (RFC 9110, section 7.6.1;
#: RFC 9112, section 6).  sitio sets them on each side; a policy neither sees nor sets them.
FRAMING_NAMES = fieldNames(
    "connection content-length keep-alive proxy-connection te transfer-encoding upgrade"
)

#: The same as text.
FRAMING_FIELDS = frozenset(name.decode() for name in FRAMING_NAMES)

#: Fields as a program gives them.
FieldsLike = Mapping[str, str] | Iterable[tuple[str, str]]

# Two line feeds are nowhere in wire form.
_NOWHERE = b"\n\n"

_LENGTH = b"\ncontent-length:"


class _Names(Memo[str, tuple[bytes | None, bytes, bool]]):
    """
    What a line begins with, its key, and whether its name is plain, by the name as a policy
    spells it.

    For what is no name, and for a field of L{FRAMING_FIELDS}: L{None}, and a key that nothing
    has.
    """

    # Policies use a few hundred at most.
    most = 1024
    longest = 64

    def __missing__(self, name: str) -> tuple[bytes | None, bytes, bool]:
        found: tuple[bytes | None, bytes, bool] = (None, _NOWHERE, True)
        if isToken(name) and name.lower() not in FRAMING_FIELDS:
            wire = name.encode("ascii")
            found = (wire + b": ", keyOf(wire.lower()), wire.replace(b"-", b"").isalnum())
        return self.keep(name, found)


_names = _Names()


def _unsendable(name: str) -> ValueError:
    if not isToken(name):
        return ValueError(f"{name!r} is not a field name: it must be a token (RFC 9110, 5.6.2)")
    return ValueError(f"the field {name} can't be set: sitio sets it for each connection")


def _line(name: str, value: str) -> tuple[bytes, bytes, bool]:
    """
    A line with its end, its key, and whether its name is plain; C{ValueError} if it can't be
    sent.
    """
    begin, key, isPlain = _names[name]
    if begin is None:
        raise _unsendable(name)
    if not isinstance(value, str):
        raise TypeError(f"the value of the field {name} is str, not {type(value).__name__}")
    try:
        text = value.strip(" \t").encode("latin-1")
        if not text.translate(None, VALUE_BYTES):
            return b"%b%b\r\n" % (begin, text), key, isPlain
    except UnicodeEncodeError:
        pass
    # Logs get this text, and the value may be a secret, such as a token with its file's line end.
    stripped = value.strip(" \t")
    at, found = next((at, each) for at, each in enumerate(stripped) if not _isSendable(each))
    raise ValueError(
        f"the text can't be the value of the field {name}: its character {at + 1} is {found!r}; no"
        " line ends, control characters or characters beyond latin-1"
    )


def _isSendable(character: str) -> bool:
    return ord(character) < 256 and ord(character) in VALUE_BYTES


def _lowered(items: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    return [(name.lower() if isinstance(name, str) else name, value) for name, value in items]


def _pairs(fields: FieldsLike) -> Iterable[tuple[str, str]]:
    if isinstance(fields, Headers):
        return fields.allItems()
    return fields.items() if isinstance(fields, Mapping) else fields


class Headers(MutableMapping[str, str]):
    """
    The fields of a message, in order: a mapping of names to values, both C{str}.  Names are
    compared without case.

    C{headers["Name"]} is the value; repeated lines are joined with C{", "} (RFC 9110, section
    5.3).  Assigning replaces all lines of the name, at the place of the first.  C{del} removes
    them; other than with a C{dict}, a missing name is no error.  L{add} appends one more line.

    As in any mapping, a repeated name counts once: iteration, C{keys}, C{items} and C{len} have
    it at the place and in the spelling of its first line, with its lines joined.  L{getAll} and
    L{allItems} have each line by itself.  Set-Cookie needs that: its lines can't be joined.

    The fields in L{FRAMING_FIELDS} are hidden.  Setting one of them, or a name or a value
    that can't be sent, raises C{ValueError}.

    @ivar lines: all lines in wire form.  Others that hold the same bytes don't see a change.
    @ivar isPlain: whether all names are known to have only letters, digits and hyphens.
    @ivar length: the value of the line Content-Length; L{None} if there is none, -1 if that is
        not known.
    """

    __slots__ = ("_keys", "_lowered", "isPlain", "length", "lines")

    def __init__(self, fields: FieldsLike = ()) -> None:
        self.lines = NO_LINES
        self.length: int | None = None
        self.isPlain = True
        # Of these lines, if they were needed since the last change.
        self._lowered: bytes | None = None
        self._keys: list[bytes] | None = None
        for name, value in _pairs(fields):
            self.add(name, value)

    @classmethod
    def fromWire(cls, fields: Iterable[tuple[bytes, bytes]]) -> Self:
        """Headers of names and values that were checked."""
        return cls.fromLines(wireForm(fields))

    @classmethod
    def fromLines(
        cls, lines: bytes, length: int | None = -1, keys: list[bytes] | None = None
    ) -> Self:
        """
        Headers of lines in wire form that were checked.

        @param length: the value of Content-Length, as in C{length}.
        @param keys: as L{lineKeys} has them, if they are known.
        """
        headers = cls.__new__(cls)
        headers.lines = lines
        headers.length = length
        headers.isPlain = False
        headers._lowered = None
        headers._keys = keys
        return headers

    def lowered(self) -> bytes:
        """The lines in lower case."""
        lowered = self._lowered
        if lowered is None:
            lowered = self._lowered = self.lines.lower()
        return lowered

    def lineKeys(self) -> list[bytes]:
        """
        The key of each line.  Those of lines about the connection may be among them, though
        the lines are not forwarded.
        """
        keys = self._keys
        if keys is None:
            keys = self._keys = keysIn(self.lowered())
        return keys

    @property
    def rawFields(self) -> Pairs:
        """Name and value of each line as C{bytes}, in a new list."""
        return pairsOf(self.lines)

    def valuesOf(self, key: bytes) -> list[bytes]:
        """The value of each line with this key, in order."""
        lines = self.lines
        size = len(key) - 1
        found = spansOf(key, self.lowered())
        return [lines[start + size : end - 2].strip(b" \t") for start, end in found]

    def valueOf(self, key: bytes) -> bytes | None:
        """
        All lines with this key as one value (RFC 9110, section 5.3), also of a field that is
        hidden; or L{None}.
        """
        lowered = self._lowered
        if lowered is None:
            lowered = self._lowered = self.lines.lower()
        at = lowered.find(key)
        if at < 0:
            return None
        at += len(key)
        end = lowered.find(b"\r", at)
        if lowered.find(key, end) >= 0:
            return b", ".join(self.valuesOf(key))
        return self.lines[at:end].strip(b" \t")

    def bytesOf(self, name: bytes) -> bytes | None:
        """As L{valueOf}, by a name in lower case."""
        return self.valueOf(b"\n%b:" % name)

    def encoded(self, length: int | None) -> bytes:
        """
        The lines as they are sent, in wire form.

        @param length: the value of Content-Length, or L{None} for no such line.  The line
            stays where it was.  Its old value does not count: a policy may have copied
            the fields of another message.
        """
        lines = self.lines
        if length == self.length:
            return lines
        spans = [] if self.length is None else spansOf(_LENGTH, self.lowered())
        start = spans[0][0] if spans else len(lines)
        name = lines[start : start + 14] or b"Content-Length"
        line = b"" if length is None else b"%b: %d\r\n" % (name, length)
        lines = without(lines, spans)
        return lines[:start] + line + lines[start:]

    def _set(self, lines: bytes) -> None:
        self.lines = lines
        self._lowered = self._keys = None

    def append(self, lines: bytes, isPlain: bool = True) -> None:
        """
        Append lines that were checked.

        @param lines: each with its line end.
        @param isPlain: as that of these lines.
        """
        self.lines += lines
        self._lowered = self._keys = None
        if not isPlain:
            self.isPlain = False

    def replace(self, key: bytes, line: bytes) -> None:
        """
        Put a line that was checked, with its line end, in place of all lines with this key; at
        the end if there are none.  C{b""} removes them.
        """
        lines = self.lines
        lowered = self.lowered()
        at = lowered.find(key) + 1
        if not at:
            if line:
                self._set(lines + line)
            return
        end = lowered.find(b"\n", at) + 1
        if lowered.find(key, end - 1) >= 0:
            lines = without(lines, spansOf(key, lowered)[1:])
        self._set(lines[:at] + line + lines[end:])

    def getAll(self, name: str) -> list[str]:
        """The values of all lines of this name, in order; an empty list if there are none."""
        return [each.decode("latin-1") for each in self.valuesOf(_names[name][1])]

    # As a mapping's, but for the default, which is text or nothing.
    @overload  # type: ignore[override]
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: str) -> str: ...

    @overload
    def get(self, name: str, default: None) -> str | None: ...

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of this name, repeated lines joined with C{", "}; else the default."""
        value = self.valueOf(_names[name][1])
        return default if value is None else value.decode("latin-1")

    def add(self, name: str, value: str) -> None:
        """Append one line.  Raises C{ValueError} if name or value can't be sent."""
        line, _, isPlain = _line(name, value)
        self.append(line, isPlain)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        line, key, isPlain = _line(name, value)
        self.replace(key, line)
        if not isPlain:
            self.isPlain = False

    def __delitem__(self, name: str) -> None:
        """Remove all lines of this name; it is no error if there are none."""
        begin, key, _ = _names[name]
        if begin is None:
            raise _unsendable(name)
        self.replace(key, b"")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.lowered().find(_names[name][1]) >= 0

    def _visible(self) -> list[tuple[bytes, str, str]]:
        """Name in lower case, name and value of each line that is not hidden."""
        return [
            (key, name.decode("latin-1"), value.decode("latin-1").rstrip(" \t"))
            for name, value in pairsOf(self.lines)
            if (key := name.lower()) not in FRAMING_NAMES
        ]

    def allItems(self) -> list[tuple[str, str]]:
        """Name and value of each line, in order; a repeated name has several."""
        return [(name, value) for _, name, value in self._visible()]

    def __iter__(self) -> Iterator[str]:
        """The names, each once: in the order and the spelling of their first lines."""
        names: dict[bytes, str] = {}
        for key, name, _ in self._visible():
            names.setdefault(key, name)
        return iter(names.values())

    def __len__(self) -> int:
        return len({key for key, _, _ in self._visible()})

    def update(self, other: FieldsLike = (), /, **more: str) -> None:  # type: ignore[override]
        """
        Set the fields of a mapping or of pairs: each name replaces all its lines.

        Lines that are repeated in other L{Headers} stay apart.  Of pairs with the same name the
        last counts, as with a C{dict}.

        @raise ValueError: a name or a value can't be sent; nothing is changed then.
        """
        update = Headers(other) if isinstance(other, Headers) else Headers()
        for name, value in () if isinstance(other, Headers) else _pairs(other):
            update[name] = value
        for name, value in more.items():
            update[name] = value
        for name in update:
            first, *others = update.getAll(name)
            self[name] = first
            for value in others:
                self.add(name, value)

    def popitem(self) -> tuple[str, str]:
        """Remove the last name, and return it with its value; C{KeyError} if there is none."""
        names = list(self)
        if not names:
            raise KeyError("there are no fields")
        return names[-1], self.pop(names[-1])

    def clear(self) -> None:
        """Remove all fields but the hidden ones."""
        self._set(wireForm([e for e in pairsOf(self.lines) if e[0].lower() in FRAMING_NAMES]))

    def __eq__(self, other: object) -> bool:
        """
        Whether the same lines are in the same order; the case of names does not count.  Any
        other mapping is equal if it has the same names and joined values, in any order.
        """
        if isinstance(other, Headers):
            return _lowered(self.allItems()) == _lowered(other.allItems())
        if isinstance(other, Mapping):
            return dict(_lowered(self.items())) == dict(_lowered(other.items()))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Headers {', '.join(name for name, _ in self.allItems())}>"

    def copy(self) -> Self:
        """A copy with the same lines."""
        headers = self.fromLines(self.lines, self.length, self._keys)
        headers.isPlain = self.isPlain
        return headers


class RequestHeaders(Headers):
    """
    The fields of a request.  Setting or removing a name also removes its other spellings.

    A service behind CGI or WSGI reads C{X_User} as C{X-User} (L{foldedName}): otherwise a client
    could still send what a policy has set or removed.  A name with an underscore is taken as
    written.
    """

    __slots__ = ()

    def __setitem__(self, name: str, value: str) -> None:
        Headers.__setitem__(self, name, value)
        if not self.isPlain:
            self._removeSpellings(name)

    def __delitem__(self, name: str) -> None:
        Headers.__delitem__(self, name)
        if not self.isPlain:
            self._removeSpellings(name)

    def pop(self, name: str, *default: Any) -> Any:
        """As that of a C{dict}; with a default, other spellings are removed in each case."""
        value = self.get(name)
        if value is not None or default:
            del self[name]
        if value is None and not default:
            raise KeyError(name)
        return default[0] if value is None else value

    def _removeSpellings(self, name: str) -> None:
        key = _names[name][1]
        for each in frozenset(self.lineKeys()):
            if each != key and keyOf(foldedName(each[1:-1])) == key:
                self.replace(each, b"")
