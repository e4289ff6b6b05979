"""
The fields of the configuration's model: L{entry} and L{table}.

Their metadata say what may stand in the file: L{sitio.config.structure} reads it with them, and
L{sitio.config.schema} writes the documents.  A field without metadata is no key of the file.

Contract: pure.
"""

from __future__ import annotations

from typing import Any

from attrs import NOTHING, field, fields

from sitio.config.kinds import Kind, count, seconds, size
from sitio.config.limits import MAY_BE_ZERO, optionName
from sitio.settings import BYTES, SECONDS, Settings


def entry(
    kind: Kind, help: str, default: Any = NOTHING, *, example: str = "", name: str = ""
) -> Any:
    """
    A key of the file.

    @param help: one sentence, without a capital and a full stop.
    @param example: its value, as TOML.
    @param name: the key; by default the name of the attribute, with hyphens.
    """
    metadata = {"kind": kind, "help": help, "example": example, "name": name}
    # A secret must not get into tracebacks.
    return field(default=default, repr=not kind.isSecret, metadata=metadata)


def table(help: str, default: Any = None, *, single: str = "", example: str = "") -> Any:
    """
    A table of the file, or a list of tables; the class that is the type of the field has the
    keys.

    @param single: of a table of named tables, the name of the table for the only one:
        C{listener}.
    """
    metadata = {"help": help, "example": example, "name": "", "single": single}
    return field(default=default, metadata=metadata)


def limitOf(name: str) -> Any:
    """A key for one of L{Settings<sitio.settings.Settings>}; L{None} if it is not given."""
    limit: Any = getattr(fields(Settings), name)
    return entry(limitKind(limit), limit.metadata["help"], None)


def limitKind(limit: Any) -> Kind:
    """What a limit or timeout may be."""
    zero = limit.name in MAY_BE_ZERO
    unit = limit.metadata["unit"]
    if unit == SECONDS:
        return seconds(zero)
    return size(zero) if unit == BYTES else count(0 if zero else 1)


def place() -> Any:
    """
    Where in the file something stands, such as C{routes[2]}, for
    L{Config.where<sitio.config.model.Config.where>}.
    """
    return field(default="", eq=False, repr=False, kw_only=True)


def keyOf(attribute: Any) -> str:
    """The key of an attribute: C{slow-start} for C{slowStart}."""
    name: str = attribute.metadata.get("name") or optionName(attribute.name)
    return name
