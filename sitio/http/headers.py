"""
The fields of a message: L{Headers} for policies, L{FieldLines} for the wire.

Names and values are C{str}.  Values are decoded as latin-1, which loses no byte (RFC 9110,
section 5.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Self, overload

from sitio.http.grammar import isToken, isValue
from sitio.http.overrides import foldedName

#: Fields about one connection, or about the framing of one message (RFC 9110, section 7.6.1;
#: RFC 9112, section 6).  sitio sets them on each side; a policy neither sees nor sets them.
FRAMING_FIELDS = frozenset(
    (
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    )
)
_FRAMING_FIELDS = frozenset(name.encode() for name in FRAMING_FIELDS)

#: Bytes of the longest field lines that are cached, and shared by messages.  Those of
#: browsers are shorter, even with some cookies.
MAX_SHARED_BYTES = 2048

#: Characters of a value in an error.
MAX_SHOWN_CHARACTERS = 80

#: Fields as a program gives them.
FieldsLike = Mapping[str, str] | Iterable[tuple[str, str]]


def _name(name: str) -> bytes:
    if not isToken(name):
        raise ValueError(f"{name!r} is not a field name: it must be a token (RFC 9110, 5.6.2)")
    if name.lower() in FRAMING_FIELDS:
        raise ValueError(f"the field {name} can't be set: sitio sets it for each connection")
    return name.encode("ascii")


def _text(name: str, value: str) -> bytes:
    if not isValue(value):
        # Logs get this text, and a client may have sent the value.
        shown = (
            value if len(value) <= MAX_SHOWN_CHARACTERS else value[:MAX_SHOWN_CHARACTERS] + "..."
        )
        raise ValueError(
            f"{shown!r} can't be the value of the field {name}:"
            " no line ends, control characters or characters beyond latin-1"
        )
    return value.strip(" \t").encode("latin-1")


class FieldLines:
    """
    The field lines of a head as they are sent.

    They never change, and are shared by all messages received with the same lines.

    @ivar raw: the bytes: C{name: value} and a line end for each.
    @ivar length: the value of Content-Length, or L{None}.
    @ivar fields: name and value of each.
    @ivar isDated: whether they are a response's, and have a Date.
    """

    __slots__ = ("fields", "isDated", "length", "raw")

    def __init__(
        self, raw: bytes, length: int | None, fields: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self.raw = raw
        self.length = length
        self.fields = tuple(fields)
        self.isDated = False

    @classmethod
    def of(cls, fields: Sequence[tuple[bytes, bytes]], length: int | None = None) -> FieldLines:
        """Lines of fields that were checked."""
        return cls(b"".join([b"%b: %b\r\n" % each for each in fields]), length, fields)


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
    """

    __slots__ = ("_fields", "lines")

    def __init__(self, fields: FieldsLike = ()) -> None:
        # Most messages are forwarded unchanged: lines are split only when needed.
        #: The lines as received, or L{None} once they may have been changed.  Read only.
        self.lines: FieldLines | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        for name, value in _pairs(fields):
            self.add(name, value)

    @classmethod
    def fromWire(cls, fields: list[tuple[bytes, bytes]]) -> Self:
        """Headers of fields that were checked.  The list is not copied."""
        headers = cls.__new__(cls)
        headers.lines = None
        headers._fields = fields
        return headers

    @classmethod
    def fromLines(cls, lines: FieldLines) -> Self:
        """Headers of lines that were checked."""
        headers = cls.__new__(cls)
        headers.lines = lines
        return headers

    @property
    def rawFields(self) -> Sequence[tuple[bytes, bytes]]:
        """Name and value of each line as C{bytes}; read only, and the fastest way to read."""
        return self._fields if self.lines is None else self.lines.fields

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Name and value of each line as C{bytes}, in a list that may be changed."""
        if self.lines is not None:
            self._fields = list(self.lines.fields)
            self.lines = None
        return self._fields

    def encoded(self, length: int | None) -> bytes:
        """
        The lines as they are sent.

        @param length: the value of Content-Length, or L{None} for no such line.  The line
            stays where it was.  Its old value does not count: a policy may have copied
            the fields of another message.
        """
        lines = self.lines
        if lines is not None and length == lines.length:
            return lines.raw
        parts: list[bytes] = []
        for name, value in self.rawFields:
            # The size is compared first, as this runs for every field.
            if len(name) == 14 and name.lower() == b"content-length":
                if length is None:
                    continue
                value, length = b"%d" % length, None
            parts += (name, b": ", value, b"\r\n")
        if length is not None:
            parts.append(b"Content-Length: %d\r\n" % length)
        return b"".join(parts)

    def getAll(self, name: str) -> list[str]:
        """The values of all lines of this name, in order; an empty list if there are none."""
        key = name.lower().encode("latin-1", "replace")
        if key in _FRAMING_FIELDS:
            return []
        return [
            value.decode("latin-1").strip(" \t")
            for each, value in self.rawFields
            if each.lower() == key
        ]

    # As a mapping's, but for the default, which is text or nothing.
    @overload  # type: ignore[override]
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: str) -> str: ...

    @overload
    def get(self, name: str, default: None) -> str | None: ...

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of this name, repeated lines joined with C{", "}; else the default."""
        values = self.getAll(name)
        return ", ".join(values) if values else default

    def add(self, name: str, value: str) -> None:
        """Append one line.  Raises C{ValueError} if name or value can't be sent."""
        line = (_name(name), _text(name, value))
        self.fields.append(line)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        line = (_name(name), _text(name, value))
        key = line[0].lower()
        fields = self.fields
        kept: list[tuple[bytes, bytes]] = []
        placed = False
        for each in fields:
            if each[0].lower() != key:
                kept.append(each)
            elif not placed:
                kept.append(line)
                placed = True
        if not placed:
            kept.append(line)
        fields[:] = kept

    def __delitem__(self, name: str) -> None:
        """Remove all lines of this name; it is no error if there are none."""
        key = _name(name).lower()
        fields = self.fields
        fields[:] = [each for each in fields if each[0].lower() != key]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.getAll(name))

    def allItems(self) -> list[tuple[str, str]]:
        """Name and value of each line, in order; a repeated name has several."""
        return [
            (name.decode("latin-1"), value.decode("latin-1").strip(" \t"))
            for name, value in self.rawFields
            if name.lower() not in _FRAMING_FIELDS
        ]

    def __iter__(self) -> Iterator[str]:
        """The names, each once: in the order and the spelling of their first lines."""
        names: dict[bytes, bytes] = {}
        for name, _ in self.rawFields:
            names.setdefault(name.lower(), name)
        return iter(
            [name.decode("latin-1") for key, name in names.items() if key not in _FRAMING_FIELDS]
        )

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.rawFields} - _FRAMING_FIELDS)

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
        fields = self.fields
        fields[:] = [each for each in fields if each[0].lower() in _FRAMING_FIELDS]

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
        if self.lines is not None:
            return self.fromLines(self.lines)
        return self.fromWire(list(self._fields))


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
        self._removeSpellings(name)

    def __delitem__(self, name: str) -> None:
        Headers.__delitem__(self, name)
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
        key = name.lower().encode("ascii")
        size = len(key)
        fields = self.fields
        # The size is compared first, as this runs for every field.
        same = [n.lower() for n, _ in fields if len(n) == size and foldedName(n) == key]
        if same.count(key) != len(same):
            fields[:] = [(n, v) for n, v in fields if n.lower() == key or foldedName(n) != key]
