"""
The fields of a message: L{Headers}, for people, and L{Lines}, as they travel.

Text is C{str} here, for people; values are decoded as latin-1, which loses no byte
(RFC 9110, section 5.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sitio.http.grammar import isToken, isValue

#: Fields that speak of one connection or of the framing of one message.
#: sitio sets them itself on each side; a policy neither sees nor sets them
#: (RFC 9110, section 7.6.1; RFC 9112, section 6).
FRAMING = frozenset(
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
_FRAMING = frozenset(name.encode() for name in FRAMING)

#: Bytes of lines that messages share, should they come again.  Longer ones are
#: each message's own; a browser's, with a few cookies, are not.
MAX_SHARED = 2048

#: What fields are made of.
Given = Mapping[str, str] | Iterable[tuple[str, str]]


def _name(name: str) -> bytes:
    if not isToken(name):
        raise ValueError(f"{name!r} is no field name: a token of RFC 9110, section 5.6.2, is")
    if name.lower() in FRAMING:
        raise ValueError(f"the field {name} is set by sitio alone: it belongs to one connection")
    return name.encode("ascii")


def _text(name: str, value: str) -> bytes:
    if not isValue(value):
        raise ValueError(
            f"{value!r} is no value for the field {name}:"
            " line ends, control characters and characters beyond latin-1 can't be sent"
        )
    return value.strip(" \t").encode("latin-1")


class Lines:
    """
    The lines of a head as they go on: never changed, and shared by all messages
    that came with the same.

    @ivar raw: the lines, C{name: value} and its end each.
    @ivar length: what their one Content-Length announces, if there is one.
    @ivar fields: name and value of each.
    """

    __slots__ = ("fields", "length", "raw")

    def __init__(
        self, raw: bytes, length: int | None, fields: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self.raw = raw
        self.length = length
        self.fields = tuple(fields)

    @classmethod
    def of(cls, fields: Sequence[tuple[bytes, bytes]], length: int | None = None) -> Lines:
        """Lines of fields that can be sent."""
        return cls(b"".join([b"%b: %b\r\n" % each for each in fields]), length, fields)


class Headers:
    """
    The fields of a message: ordered, repeats kept, names compared without case.

    C{headers["Name"]} is the value as C{str}, repeated lines joined with
    C{", "} (RFC 9110, section 5.3); assigning replaces all lines of the name
    where the first stood, C{del} removes them, L{add} appends one more line.
    Those of L{FRAMING} are not shown; setting one raises C{ValueError}, as does
    a name or value that can't be sent.

    Most messages pass without anybody looking, so what came is taken apart only
    for those who do.
    """

    __slots__ = ("_fields", "lines")

    def __init__(self, fields: Given = ()) -> None:
        #: The lines that came, until somebody may have changed something; not to be set.
        self.lines: Lines | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        for name, value in fields.items() if isinstance(fields, Mapping) else fields:
            self.add(name, value)

    @classmethod
    def fromWire(cls, fields: list[tuple[bytes, bytes]]) -> Headers:
        """Headers around fields that a reader has checked; the list is kept, not copied."""
        headers = cls.__new__(cls)
        headers.lines = None
        headers._fields = fields
        return headers

    @classmethod
    def fromLines(cls, lines: Lines) -> Headers:
        """Headers of lines that a reader has checked."""
        headers = cls.__new__(cls)
        headers.lines = lines
        return headers

    @property
    def seen(self) -> Sequence[tuple[bytes, bytes]]:
        """Name and value of each line as C{bytes}, for those who change nothing."""
        return self._fields if self.lines is None else self.lines.fields

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """As C{seen}, but the list itself, which may be changed."""
        if self.lines is not None:
            self._fields = list(self.lines.fields)
            self.lines = None
        return self._fields

    def encoded(self, length: int | None) -> bytes:
        """
        The lines as they are sent, with exactly the length that is given.

        Content-Length stays where it stood, but what stood there is not believed: a
        policy may have brought the fields from another message, or lost the line.
        """
        lines = self.lines
        if lines is not None and length == lines.length:
            return lines.raw
        parts: list[bytes] = []
        for name, value in self.seen:
            # By size first, as this is asked of every field.
            if len(name) == 14 and name.lower() == b"content-length":
                if length is None:
                    continue
                value, length = b"%d" % length, None
            parts += (name, b": ", value, b"\r\n")
        if length is not None:
            parts.append(b"Content-Length: %d\r\n" % length)
        return b"".join(parts)

    def getAll(self, name: str) -> list[str]:
        """The values of every line of this name, in order; an empty list if there is none."""
        key = name.lower().encode("latin-1", "replace")
        if key in _FRAMING:
            return []
        return [
            value.decode("latin-1").strip(" \t") for each, value in self.seen if each.lower() == key
        ]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of this name, repeated lines joined with C{", "}, or the default."""
        values = self.getAll(name)
        return ", ".join(values) if values else default

    def add(self, name: str, value: str) -> None:
        """Append one line, whatever stands there already.  Raises C{ValueError}."""
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
        """Remove every line of this name; none is no error."""
        key = _name(name).lower()
        fields = self.fields
        fields[:] = [each for each in fields if each[0].lower() != key]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.getAll(name))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for name, value in self.seen:
            if name.lower() not in _FRAMING:
                yield name.decode("latin-1"), value.decode("latin-1").strip(" \t")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        """Equal when the same lines are in the same order, case of names aside."""
        if not isinstance(other, Headers):
            return NotImplemented
        return [(name.lower(), value) for name, value in self] == [
            (name.lower(), value) for name, value in other
        ]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Headers {', '.join(name for name, _ in self)}>"

    def copy(self) -> Headers:
        """Headers of their own with the same lines."""
        if self.lines is not None:
            return Headers.fromLines(self.lines)
        return Headers.fromWire(list(self._fields))
