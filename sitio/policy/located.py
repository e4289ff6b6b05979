"""
Paths of files in the options of policies, relative to a folder: L{located}, L{locatedPlain}.

On the command line such paths are relative to the working directory, in a configuration file to
the folder of that.  Only options whose types are paths or secrets are changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sitio.policy.declaration import Declaration
from sitio.policy.options import Option, dashed

#: How a secret in a configuration file names a file; on the command line it is C{@}.
FILE = "file:"


def located(
    declaration: Declaration,
    arguments: Sequence[str],
    options: Mapping[str, Sequence[str]],
    folder: Path,
) -> tuple[list[str], dict[str, list[str]]]:
    """The arguments and the options of a description, with paths in this folder."""
    places = [each for each in declaration.options if not each.isNamed]
    rest = places[-1] if places and places[-1].isRest else None
    found = []
    for at, text in enumerate(arguments):
        option = places[at] if at < len(places) else rest
        found.append(text if option is None else _within(option, text, folder))
    named = {each.key: each for each in declaration.options}
    return found, {
        name: [_within(named[dashed(name)], each, folder) for each in texts]
        if dashed(name) in named
        else list(texts)
        for name, texts in options.items()
    }


def locatedPlain(
    declaration: Declaration, options: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """The same for plain data, where C{file:PATH} is a secret in a file, too."""
    named = {each.key: each for each in declaration.options}

    def within(option: Option | None, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [within(option, each) for each in value]
        if option is None or not isinstance(value, str):
            return value
        if option.kind.names == "secret" and value.startswith(FILE):
            value = f"@{value.removeprefix(FILE)}"
        return _within(option, value, folder)

    return {name: within(named.get(name), value) for name, value in options.items()}


def _within(option: Option, text: str, folder: Path) -> str:
    if option.kind.names == "path" and text:
        return ",".join(str(folder / each.strip()) for each in text.split(",") if each.strip())
    if option.kind.names == "secret" and text[:1] == "@" and text[1:]:
        return f"@{folder / text[1:]}"
    return text
