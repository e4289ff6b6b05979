"""
Reads a configuration file: L{readConfig}, and L{loadConfig}, which raises for mistakes.

The file is TOML.  docs/configuration.md has all keys.

Contract: reads the file, and the files of secrets that it names.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import NoReturn

from attrs import evolve

from sitio.config.environment import substituted
from sitio.config.model import Config
from sitio.config.places import ConfigErrors, Mistake, Path, Places, placeOf
from sitio.config.positions import TooLarge, keyLines
from sitio.config.structure import structured

#: The largest file.  A file with as many routes as there may be has a tenth.
MAX_FILE_BYTES = 1024 * 1024

# Where a sentence of tomllib ends with a place.
_place = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")

#: What tomllib says, in other words.
_WORDS = {
    "Cannot overwrite a value": "a key is given twice; leave out one of them",
    "Invalid value": "there is no value behind the equals sign, or a text without quotes",
    "Invalid statement": "this is neither a key with a value nor a [table]",
    "Expected newline or end of document after a statement": (
        "there is more behind the value, or it is a text without quotes"
    ),
    r"Illegal character '\n'": "a text has no quote at its end",
    "Expected '=' after a key in a key/value pair": "behind a key, an equals sign is missing",
}


def loadConfig(path: str, environ: Mapping[str, str]) -> Config:
    """
    What a file says, without the command line.

    @param path: as the operator gave it.
    @param environ: environment variables.

    @raise ConfigErrors: the file can't be read, or has mistakes; it has all of them.
    """
    config, mistakes = readConfig(path, environ)
    if mistakes:
        raise ConfigErrors(mistakes)
    return config


def readConfig(
    path: str, environ: Mapping[str, str], text: str | None = None
) -> tuple[Config, list[Mistake]]:
    """
    The same, with the mistakes.  What is wrong is left out, so that the rest can be checked.

    @param text: of the file; L{None} to read it.

    @raise ConfigErrors: the file can't be read, or is not TOML.
    """
    text = readText(path) if text is None else text
    lines = _linesOf(path, text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        _refuseSyntax(path, text, str(error))
    except RecursionError:
        _refuse(path, 0, "there are brackets within too many others")
    told: list[tuple[Path, str]] = []
    data = substituted(data, environ, told)
    config, more = structured(data, os.path.dirname(os.path.abspath(path)))
    places = Places(path, {placeOf(each): line for each, line in lines.items()})
    # A variable that is missing is told once, and not again as a wrong value.
    missing = {each for each, _ in told}
    told += [(each, sentence) for each, sentence in more if each not in missing]
    return evolve(config, places=places), [
        places.mistake(placeOf(each), sentence) for each, sentence in told
    ]


def _refuse(path: str, line: int, sentence: str) -> NoReturn:
    raise ConfigErrors([Mistake(path, line, "", sentence)])


def readText(path: str) -> str:
    """
    The text of a file.

    @raise ConfigErrors: it can't be read.
    """
    place = FilePath(path)
    try:
        # A named pipe would block for ever.
        if not place.is_file():
            what = "it is no file" if place.exists() else "there is no such file"
            _refuse(path, 0, f"{what}; write the path of a configuration, such as sitio.toml")
        size = place.stat().st_size
        if size > MAX_FILE_BYTES:
            _refuse(path, 0, f"it has {size} bytes; a configuration has at most {MAX_FILE_BYTES}")
        data = place.read_bytes()
    except OSError as error:
        _refuse(path, 0, f"it can't be read: {error.strerror}")
    try:
        # Some editors begin a file with a mark of its encoding.
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _refuse(path, line, "this is not UTF-8; save the file in this encoding")


def _linesOf(path: str, text: str) -> dict[Path, int]:
    try:
        return keyLines(text)
    except TooLarge as error:
        _refuse(path, error.line, f"{error}; that is no configuration of sitio")


def _refuseSyntax(path: str, text: str, said: str) -> NoReturn:
    """Refuse what is not TOML."""
    found = _place.search(said)
    line = text.rstrip().count("\n") + 1 if found is None or not found[1] else int(found[1])
    what = _place.sub("", said)
    sentence = _WORDS.get(what) or f"{what[:1].lower()}{what[1:]}"
    if what.startswith("Cannot declare"):
        sentence = "this table is given twice; put its keys together"
    _refuse(path, line, f"{sentence} (this is not TOML)")
