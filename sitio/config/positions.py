"""
The lines on which the keys of a TOML document stand: L{keyLines}.

C{tomllib} tells the values and no lines, and so do the libraries that keep comments and layout.
This reads only as much of TOML 1.0 as it takes to follow the keys: strings, comments, brackets.
What a document means, and whether it is one, is C{tomllib}'s part.  Both find the same keys in
a valid document; of another one, those before the first mistake are found.

It is the first to read a file, and bounds it: C{tomllib} takes a time that grows with the square
of the parts of a dotted key, and a level of the stack for each bracket.

Contract: pure.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from typing import NamedTuple

from attrs import define

from sitio.config.places import Path

#: Keys and elements of lists; ten times those of a file with as many routes as there may be.
MAX_KEYS = 20_000

#: Keys within keys.  The model has five levels, and options of policies some more.
MAX_DEPTH = 20

_token = re.compile(
    r"""
    (?P<blank> (?: [ \t\r\n]+ | \#[^\n]* )+ )
  | (?P<string>
        \"\"\" (?: \\. | [^\\] )*? \"{3,5}
      | ''' .*? '{3,5}
      | \" (?: \\. | [^"\\\n] )* \"
      | ' [^'\n]* '
    )
  | (?P<mark> [\[\]{}=,] )
    # A time may stand behind its date with a space between them.
  | (?P<bare> [^\s#"'\[\]{}=,]+ (?: [ ] [0-9]{2}:[0-9:.Z+-]* )? )
    """,
    re.VERBOSE | re.DOTALL,
).match


class TooLarge(ValueError):
    """
    A document with more keys, or deeper ones, than a configuration has.

    @ivar line: where that becomes clear.
    """

    def __init__(self, sentence: str, line: int) -> None:
        super().__init__(sentence)
        self.line = line


class _Broken(Exception):
    """The document is not TOML."""


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


@define
class _Open:
    """An array or an inline table that has not ended; C{count} is that of an array's elements."""

    path: Path
    isArray: bool
    count: int = 0


def keyLines(text: str) -> dict[Path, int]:
    """
    The line of each key and of each element of a list, from 1, by its path.

    A table that is named only as a part of another one, as C{a} in C{[a.b]}, has the line of
    the first of these.

    @raise TooLarge: there are more than L{MAX_KEYS}, or deeper ones than L{MAX_DEPTH}.
    """
    reader = _Reader(text)
    with suppress(_Broken):
        reader.read()
    return reader.lines


class _Reader:
    """Reads one document."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        # The number of tables in each array of tables.
        self._arrays: dict[Path, int] = {}

    def _next(self) -> _Token | None:
        """The next token that is neither blank nor comment; L{None} at the end."""
        while self._at < len(self._text):
            found = _token(self._text, self._at)
            if found is None:
                raise _Broken
            kind, text, line = str(found.lastgroup), found[0], self._line
            self._at = found.end()
            self._line += text.count("\n")
            if kind != "blank":
                return _Token(kind, text, line)
        return None

    def _need(self) -> _Token:
        token = self._next()
        if token is None:
            raise _Broken
        return token

    def read(self) -> None:
        """Read all statements."""
        table: Path = ()
        while (token := self._next()) is not None:
            if token.text == "[" and token.kind == "mark":
                table = self._readHeader(token.line)
            else:
                path = self._readKeys(token, table)
                self._note(path, token.line)
                self._readValue(path)

    def _note(self, path: Path, line: int) -> None:
        """Note the line of a key, and of the tables around it that have none yet."""
        if len(path) > MAX_DEPTH:
            raise TooLarge(f"there are keys within more than {MAX_DEPTH} others", line)
        self.lines[path] = line
        # All around a known one are known.
        for length in range(len(path) - 1, 0, -1):
            if path[:length] in self.lines:
                break
            self.lines[path[:length]] = line
        if len(self.lines) > MAX_KEYS:
            raise TooLarge(f"there are more than {MAX_KEYS} keys", line)

    def _readKeys(self, token: _Token, table: Path) -> Path:
        """Read a key up to its equals sign; the token is its first part."""
        parts: list[str] = []
        while token.text != "=" or token.kind != "mark":
            self._add(token, parts)
            token = self._need()
        if not parts:
            raise _Broken
        return self._resolved(table, parts)

    def _readHeader(self, line: int) -> Path:
        """Read C{[table]} or C{[[table]]}, behind its first bracket."""
        token, isArray = self._need(), False
        parts: list[str] = []
        if token.text == "[" and token.kind == "mark":
            isArray, token = True, self._need()
        while token.text != "]" or token.kind != "mark":
            self._add(token, parts)
            token = self._need()
        if not parts or (isArray and self._need().text != "]"):
            raise _Broken
        if not isArray:
            path = self._resolved((), parts)
        else:
            array = (*self._resolved((), parts[:-1]), parts[-1])
            if array not in self.lines:
                self._note(array, line)
            self._arrays[array] = self._arrays.get(array, 0) + 1
            path = (*array, self._arrays[array] - 1)
        self._note(path, line)
        return path

    def _add(self, token: _Token, parts: list[str]) -> None:
        """Add the parts of a key."""
        if token.kind == "string":
            parts.append(_decoded(token.text))
        elif token.kind == "bare":
            parts += filter(None, token.text.split("."))
        else:
            raise _Broken
        if len(parts) > MAX_DEPTH:
            raise TooLarge(f"there are keys within more than {MAX_DEPTH} others", token.line)

    def _resolved(self, table: Path, parts: list[str]) -> Path:
        """The path of a key; of an array of tables, that of its last table."""
        path = table
        for each in parts:
            path = (*path, each)
            if path in self._arrays:
                path = (*path, self._arrays[path] - 1)
        return path

    def _readValue(self, path: Path) -> None:
        """Read the value of a key, with all that is in it."""
        inside: list[_Open] = []
        token = self._need()
        while True:
            if token.kind == "mark":
                if token.text not in "[{":
                    raise _Broken
                inside.append(_Open(path, token.text == "["))
            while inside:
                around = inside[-1]
                token = self._need()
                if token.text == ("]" if around.isArray else "}") and token.kind == "mark":
                    inside.pop()
                elif token.text != "," or token.kind != "mark":
                    break
            if not inside:
                return
            line = token.line
            if around.isArray:
                path = (*around.path, around.count)
                around.count += 1
            else:
                path = self._readKeys(token, around.path)
                token = self._need()
            self._note(path, line)


def _decoded(text: str) -> str:
    """The text of a quoted key."""
    if text[0] == "'" or "\\" not in text:
        return text[1:-1]
    try:
        decoded: str = tomllib.loads(f"key = {text}")["key"]
    except tomllib.TOMLDecodeError:
        raise _Broken from None
    return decoded
