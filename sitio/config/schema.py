"""
The documents about the configuration file, made of its model: L{reference}, for people, and
L{jsonSchema}, for editors.

C{python -m sitio.config.schema FOLDER} writes both; C{make config-docs} calls it.

Contract: only L{main} does I/O.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from sitio.config.keys import keyOf
from sitio.config.model import Config
from sitio.config.policies import PolicyConfig
from sitio.config.structure import allTables, isSeveral, keysOf, kindOf, tableOf
from sitio.config.upstreams import EndpointConfig
from sitio.policy.kinds import writeDuration, writeSize
from sitio.settings import BYTES, SECONDS

#: Between these lines of docs/configuration.md stands what is made.
BEGIN = "<!-- The keys, made by `make config-docs`. -->"
END = "<!-- The end of the keys. -->"

#: The names of the documents.
REFERENCE = "configuration.md"
SCHEMA = "sitio.schema.json"

#: A text with an environment variable, which may stand for any single value.
_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"}

# What values of a unit are called; the document explains them once.
_NAMES = {SECONDS: "a duration", BYTES: "a size"}

_NO_VALUE = (None, attrs.NOTHING, (), "")


def reference() -> str:
    """All tables and keys, as Markdown."""
    return "\n\n".join(_section(header, table) for header, table in allTables())


def _section(header: str, table: type) -> str:
    isTop = table is Config
    title = "The top of the file" if isTop else f"`{header}`"
    lines = [f"### {title}", "", *_intro(header, table), "| key | value | default | |"]
    lines.append("|---|---|---|---|")
    for each in keysOf(table):
        if isTop and kindOf(each) is None and tableOf(each) is not PolicyConfig:
            continue
        lines.append(f"| `{keyOf(each)}` | {_value(each)} | {_default(each)} | {_help(each)} |")
    return "\n".join(lines)


def _intro(header: str, table: type) -> Iterator[str]:
    """What a table is for, and how it is written if there are several."""
    names = {keyOf(each): each for each in keysOf(Config)}
    for name, each in names.items():
        single = each.metadata.get("single")
        if single and header == f"[{single}]":
            yield f"A {each.metadata['help']}. For several of them, write `[{name}.NAME]` for each."
            yield ""
            return
    if table is not Config:
        about = " ".join((table.__doc__ or "").split("@ivar")[0].split("C{")[0].split())
        sentence = about.split(". ")[0].rstrip(".")
        if sentence:
            yield f"{sentence}."
            yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _value(key: attrs.Attribute[Any]) -> str:
    """What a key may be, with an example."""
    kind = kindOf(key)
    if kind is None:
        what = "a list of policies" if tableOf(key) is PolicyConfig else "a table, see below"
        if isSeveral(key) and tableOf(key) is not PolicyConfig:
            what = "a list of tables, see below"
    else:
        what = _NAMES.get(kind.unit) or kind.expected
        if key.metadata.get("example"):
            # The example shows it.
            what = what.split(" such as ")[0].rstrip(",")
    example = key.metadata.get("example")
    return _cell(f"{what}: `{example}`" if example else what)


def _help(key: attrs.Attribute[Any]) -> str:
    # Units stand beside the value.
    help: str = key.metadata["help"]
    return _cell(help.replace(", in seconds,", "").replace(", in bytes,", ""))


def _default(key: attrs.Attribute[Any]) -> str:
    if key.default is attrs.NOTHING:
        return "needed"
    if key.default in _NO_VALUE or kindOf(key) is None:
        return ""
    return _cell(f"`{_written(key)}`")


def _written(key: attrs.Attribute[Any]) -> str:
    """A default as it would stand in the file."""
    kind, value = kindOf(key), key.default
    unit = "" if kind is None else kind.unit
    if unit == SECONDS and value:
        return json.dumps(writeDuration(value))
    if unit == BYTES and value:
        return json.dumps(writeSize(value))
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value)


def jsonSchema() -> dict[str, Any]:
    """The JSON schema of the file (draft 7, which editors know best)."""
    tables = {table.__name__: _object(table) for _, table in allTables() if table is not Config}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "sitio.toml, the configuration of sitio",
        **_object(Config),
        "definitions": dict(sorted(tables.items())),
    }


def _object(table: type) -> dict[str, Any]:
    """The schema of a table."""
    properties: dict[str, Any] = {}
    needed = []
    for each in keysOf(table):
        key, single = keyOf(each), each.metadata.get("single")
        about = {"description": each.metadata["help"]}
        kind = kindOf(each)
        if kind is not None:
            default = each.default
            shown = {} if default in _NO_VALUE else {"default": default}
            properties[key] = {**about, **shown, **_orVariable(dict(kind.schema))}
        elif tableOf(each) is PolicyConfig:
            properties[key] = {**about, **_policies()}
        elif single:
            properties[single] = {**about, **_reference(tableOf(each))}
            named = {"type": "object", "additionalProperties": _reference(tableOf(each))}
            properties[key] = {"description": f"{each.metadata['help']}, by name", **named}
        elif isSeveral(each):
            properties[key] = {**about, "type": "array", "items": _element(tableOf(each))}
        else:
            properties[key] = {**about, **_reference(tableOf(each))}
        if each.default is attrs.NOTHING:
            needed.append(key)
    made = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**made, "required": needed} if needed else made


def _reference(table: type) -> dict[str, Any]:
    # Beside a $ref, draft 7 ignores all else.
    return {"allOf": [{"$ref": f"#/definitions/{table.__name__}"}]}


def _element(table: type) -> dict[str, Any]:
    found = _reference(table)
    if table is EndpointConfig:
        return {"anyOf": [{"type": ["string", "integer"]}, found]}
    return found


def _orVariable(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema, or a text with an environment variable."""
    if schema == {"type": "string"} or schema.get("type") == "object":
        return schema
    if "anyOf" in schema:
        return {"anyOf": [*schema["anyOf"], _VARIABLE]}
    return {"anyOf": [schema, _VARIABLE]}


def _policies() -> dict[str, Any]:
    name = {"type": "string"}
    table = {"type": "object", "properties": {"name": name}, "required": ["name"]}
    one = {"anyOf": [{"type": "string"}, table]}
    return {"anyOf": [*one["anyOf"], {"type": "array", "items": one}]}


def documents(folder: Path) -> dict[Path, str]:
    """The documents of a folder, as they should be."""
    path = folder / REFERENCE
    text = path.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        path: f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}",
        folder / SCHEMA: json.dumps(jsonSchema(), indent=2) + "\n",
    }


def main(folder: str) -> None:
    """Write the documents of a folder anew."""
    for path, text in documents(Path(folder)).items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
