"""
Values of a file that stand elsewhere: environment variables, and files of secrets.

In any text, C{${NAME}} is the value of an environment variable, and C{$${NAME}} is C{${NAME}}
itself.  The text of a key that is secret may be C{file:PATH}.

Contract: L{secretText} reads a file; nothing else here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from sitio.config.places import Path

#: The longest file of a secret, in bytes; more is taken for a mistake.
MAX_SECRET_BYTES = 64 * 1024

#: The most characters of a text with its variables.  A few variables could make a text of any
#: length.
MAX_TEXT = 64 * 1024

#: How a secret names its file.
FILE = "file:"

_variable = re.compile(r"(\$?)\$\{([^{}]*)\}").sub
_isName = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch


class Substituted(str):
    """
    A text with values of the environment, which may be secrets.

    @ivar raw: as it stands in the file.
    """

    raw: str


def substituted(
    value: Any, environ: Mapping[str, str], mistakes: list[tuple[Path, str]], path: Path = ()
) -> Any:
    """
    The data of a file with the values of variables.

    @param mistakes: gets the path of each text that can't be replaced, and a sentence.
    """
    if isinstance(value, dict):
        return {
            key: substituted(held, environ, mistakes, (*path, key)) for key, held in value.items()
        }
    if isinstance(value, list):
        return [substituted(held, environ, mistakes, (*path, at)) for at, held in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        try:
            return _replaced(value, environ)
        except ValueError as error:
            mistakes.append((path, str(error)))
    return value


def _replaced(text: str, environ: Mapping[str, str]) -> str:
    def replacement(found: re.Match[str]) -> str:
        escape, name = found.groups()
        if escape:
            return found[0][1:]
        if not _isName(name):
            raise ValueError(
                f"{found[0]!r} names no environment variable; write ${{NAME}}, or $${{ for a text"
            )
        if name not in environ:
            raise ValueError(f"there is no environment variable {name}; set it, or write the value")
        return environ[name]

    made = _variable(replacement, text)
    if len(made) > MAX_TEXT:
        raise ValueError(f"with its environment variables it has more than {MAX_TEXT} characters")
    result = Substituted(made)
    result.raw = text
    return result


def plain(value: Any) -> Any:
    """The same data with plain texts."""
    if isinstance(value, dict):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, list):
        return [plain(held) for held in value]
    return str(value) if isinstance(value, Substituted) else value


def rawText(value: Any) -> str:
    """The first text in a value that has values of the environment, as in the file; else C{""}."""
    return next(_raws(value), "")


def _raws(value: Any) -> Iterator[str]:
    if isinstance(value, Substituted):
        yield value.raw
    elif isinstance(value, dict | list):
        for held in value.values() if isinstance(value, dict) else value:
            yield from _raws(held)


def secretText(path: str, folder: str) -> str:
    """
    The text of a file with a secret, without the end of its line.

    @raise ValueError: it can't be read, or holds none.
    """
    place = FilePath(folder, path)
    try:
        # A named pipe would block for ever.
        if not place.is_file():
            raise ValueError(f"there is no file {place}; write file: and its path")
        if place.stat().st_size > MAX_SECRET_BYTES:
            raise ValueError(f"{place} has more than {MAX_SECRET_BYTES} bytes; a secret has less")
        text = place.read_text("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{place} is no text in UTF-8; write the secret to it as text") from None
    except OSError as error:
        raise ValueError(f"can't read {place}: {error.strerror}") from None
    if not text:
        raise ValueError(f"{place} is empty; write the secret to it")
    return text
