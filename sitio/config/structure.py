"""
Makes the model of the data of a file: L{structured}.

cattrs makes the classes, and gathers what is wrong with their keys.  A mistake does not hide
others: what is wrong is left out, and the rest is made, so that it can be checked further.

Contract: reads the files of secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from sitio.config import listeners, model, tables, upstreams
from sitio.config.environment import FILE, plain, rawText, secretText
from sitio.config.keys import keyOf, limitKind
from sitio.config.kinds import Kind
from sitio.config.model import Config
from sitio.config.places import Path, placeOf
from sitio.config.policies import PolicyConfig
from sitio.config.upstreams import EndpointConfig
from sitio.policy.kinds import nearest
from sitio.redact import textWithoutSecrets

#: Characters of a wrong value that are repeated.
MAX_SHOWN_VALUE = 60

# Stands for a value that is wrong, and was told.
_BROKEN: Any = object()

# What other proxies call a key; the first that a table has is meant.
_ELSEWHERE = {
    "backend": ("upstream",),
    "cert": ("certificate",),
    "domain": ("host",),
    "headers": ("fields",),
    "lb_policy": ("balance",),
    "listen": ("address", "listener"),
    "port": ("address", "listener"),
    "proxy_pass": ("upstream",),
    "server": ("address",),
    "servers": ("endpoints",),
    "target": ("address",),
    "url": ("address",),
}

# Generic types with arguments that are known when this runs.
_TUPLE: Any = tuple
_DICT: Any = dict

#: A mistake: the path of the value, and a sentence.
Told = tuple[Path, str]


class _Wrong(ValueError):
    """A value is wrong; the message is the whole sentence about it."""


def keysOf(table: type) -> tuple[attrs.Attribute[Any], ...]:
    """The attributes of a class of the model that are keys of the file, with their types."""
    names = {**vars(listeners), **vars(upstreams), **vars(tables), **vars(model)}
    # Some of the types are imported for type checkers only.
    attrs.resolve_types(table, names, names)
    return tuple(each for each in attrs.fields(table) if "help" in each.metadata)


def kindOf(attribute: attrs.Attribute[Any]) -> Kind | None:
    """What the value of a key may be; L{None} for a table."""
    if "unit" in attribute.metadata:
        return limitKind(attribute)
    kind: Kind | None = attribute.metadata.get("kind")
    return kind


def tableOf(attribute: attrs.Attribute[Any]) -> type:
    """The class of a table, or of each of several."""
    found = [
        each
        for each in (attribute.type, *get_args(attribute.type))
        if isinstance(each, type) and attrs.has(each)
    ]
    return found[0]


def isSeveral(attribute: attrs.Attribute[Any]) -> bool:
    """Whether an attribute holds several tables."""
    return get_origin(attribute.type) is tuple


def structured(data: dict[str, Any], folder: str) -> tuple[Config, list[Told]]:
    """
    The model of a file, and what is wrong in it.

    @param data: as C{tomllib} reads it; it is changed.
    @param folder: what paths are relative to.
    """
    reading = _Reading(folder)
    reading.gather(data)
    converter = reading.converter()
    try:
        config = converter.structure(data, Config)
    except BaseValidationError as error:
        wrong = list(_leaves(error, ()))
        reading.told += _sentences(wrong)
        for path, cause, _ in wrong:
            _leaveOut(data, path, cause)
        config = converter.structure(data, Config)
    told = [(reading.shown(path), sentence) for path, sentence in reading.told]
    return attrs.evolve(reading.placed(config, ()), folder=folder), told


class _Reading:
    """Reads one file."""

    def __init__(self, folder: str) -> None:
        self.told: list[Told] = []
        self._folder = folder
        # Names of tables of several whose only one stands alone: listeners: listener.
        self._alone: dict[str | int, str] = {}

    def gather(self, data: dict[str, Any]) -> None:
        """Put C{[listener]} among C{[listeners.NAME]}, as the only one."""
        for each in keysOf(Config):
            name, single = keyOf(each), each.metadata.get("single")
            if not single or single not in data:
                continue
            only = data.pop(single)
            if name in data:
                sentence = f"there is [{name}], too; write [{name}.NAME] for each of them"
                self.told.append(((single,), sentence))
            else:
                data[name] = {single: only}
                self._alone[name] = single

    def shown(self, path: Path) -> Path:
        """The path in the file of one in the data."""
        if len(path) > 1 and self._alone.get(path[0]) == path[1]:
            return path[1:]
        return path

    def placed(self, value: Any, path: Path) -> Any:
        """A part of the model, in which each part knows its place."""
        changes: dict[str, Any] = {}
        for each in keysOf(type(value)):
            held, key = getattr(value, each.name), (*path, keyOf(each))
            if attrs.has(type(held)):
                changes[each.name] = self.placed(held, key)
            elif isinstance(held, tuple) and held and attrs.has(type(held[0])):
                named = each.metadata.get("single")
                changes[each.name] = tuple(
                    self.placed(one, (*key, one.name if named else at))
                    for at, one in enumerate(held)
                )
        if "place" in attrs.fields_dict(type(value)):
            changes["place"] = placeOf(self.shown(path))
        return attrs.evolve(value, **changes)

    def converter(self) -> Converter:
        """What makes the model."""
        converter = Converter(detailed_validation=True)

        @converter.register_structure_hook_factory(attrs.has)
        def made(table: type) -> Callable[[Any, Any], Any]:
            hooks: dict[str, Any] = {
                each.name: override(rename=keyOf(each), struct_hook=self._hook(each, converter))
                for each in keysOf(table)
            }
            for each in attrs.fields(table):
                hooks.setdefault(each.name, override(omit=True))
            make: Any = make_dict_structure_fn(
                table, converter, _cattrs_forbid_extra_keys=True, **hooks
            )
            return lambda value, _: _madeTable(table, value, make)

        folder = self._folder
        converter.register_structure_hook(PolicyConfig, lambda value, _: _policy(value, folder))
        return converter

    def _hook(
        self, attribute: attrs.Attribute[Any], converter: Converter
    ) -> Callable[[Any, Any], Any]:
        """What makes the value of one key."""
        kind, default = kindOf(attribute), attribute.default
        missing = None if default is attrs.NOTHING else default
        if kind is not None:
            return lambda value, _: missing if value is _BROKEN else self._value(kind, value)
        table, isNamed = tableOf(attribute), bool(attribute.metadata.get("single"))

        def make(value: Any, _: Any) -> Any:
            if value is _BROKEN:
                return missing
            if isNamed:
                return _named(value, keyOf(attribute), table, converter)
            if isSeveral(attribute):
                several = _listed(value, table, keyOf(attribute))
                return converter.structure(several, _TUPLE[table, ...])
            return converter.structure(value, table)

        return make

    def _value(self, kind: Kind, value: Any) -> Any:
        try:
            if kind.isSecret and isinstance(value, str) and value.startswith(FILE):
                return secretText(value.removeprefix(FILE), self._folder)
            return kind.resolve(kind.parse(plain(value)), self._folder)
        except ValueError as error:
            raise _Wrong(_sentence(kind, value, str(error))) from None


def _madeTable(table: type, value: Any, make: Callable[[Any, Any], Any]) -> Any:
    if value is _BROKEN:
        needed = [each for each in keysOf(table) if each.default is attrs.NOTHING]
        return table(**{each.name: None for each in needed})
    if table is EndpointConfig and isinstance(value, str | int):
        value = {"address": value}
    if not isinstance(value, dict):
        raise _Wrong(f"{_shownValue(value)}; it must be a table with {_listOf(_names(table))}")
    return make(value, table)


def _named(value: Any, name: str, table: Any, converter: Converter) -> Any:
    """Tables by name."""
    if not isinstance(value, dict):
        raise _Wrong(f"{_shownValue(value)}; it must be tables: write [{name}.NAME] for each")
    made = converter.structure(value, _DICT[str, table])
    return tuple(attrs.evolve(each, name=key) for key, each in made.items())


def _listed(value: Any, table: type, name: str) -> list[Any]:
    """Tables, or a single one."""
    if isinstance(value, list):
        return value
    if table is PolicyConfig or (table is EndpointConfig and not isinstance(value, dict)):
        return [value]
    raise _Wrong(f"{_shownValue(value)}; it must be a list of tables: write [[{name}]] for each")


def _policy(value: Any, folder: str) -> PolicyConfig:
    """A policy is a description, or a table with its name and its options."""
    if isinstance(value, str):
        return PolicyConfig(str(value), folder=folder)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        options = plain(value)
        return PolicyConfig(options.pop("name"), options, folder)
    if value is _BROKEN:
        return PolicyConfig("")
    raise _Wrong(
        f"{_shownValue(value)}; it must be a description such as error-page:404, or a table such"
        ' as { name = "last-good", max-age = "60s" }'
    )


def _leaves(error: BaseValidationError, path: Path) -> Iterator[tuple[Path, BaseException, type]]:
    """Each single thing that is wrong, with its path and the class of the table."""
    for each in error.exceptions:
        place = path
        for note in getattr(each, "__notes__", ()):
            if isinstance(note, AttributeValidationNote):
                place = (*path, keyOf(attrs.fields_dict(error.cl)[note.name]))
            elif isinstance(note, IterableValidationNote):
                place = (*path, note.index)
        if isinstance(each, BaseValidationError):
            yield from _leaves(each, place)
        elif isinstance(each, ForbiddenExtraKeysError):
            for key in sorted(each.extra_fields):
                yield (*place, key), each, error.cl
        else:
            yield place, each, error.cl


def _sentences(wrong: Iterable[tuple[Path, BaseException, type]]) -> Iterator[Told]:
    """What is said of all mistakes."""
    meant: set[Path] = set()
    for path, cause, table in wrong:
        if isinstance(cause, ForbiddenExtraKeysError):
            key = str(path[-1])
            meant |= {(*path[:-1], each) for each in _names(table) if _near(key, [each])}
            yield path, _unknown(key, table)
    for path, cause, table in wrong:
        if isinstance(cause, KeyError):
            [attribute] = [each for each in keysOf(table) if keyOf(each) == path[-1]]
            # Who has misspelled a key has not forgotten it.
            if path not in meant:
                yield path, f"it is missing: write {path[-1]} = {attribute.metadata['example']}"
        elif not isinstance(cause, ForbiddenExtraKeysError):
            yield path, str(cause)


def _leaveOut(data: dict[str, Any], path: Path, cause: BaseException) -> None:
    """Put a mark in the place of a wrong value; an unknown key is removed."""
    places: list[tuple[Any, Any]] = []
    inner: Any = data
    for name in path:
        holder: Any = list if isinstance(name, int) else dict
        if not isinstance(inner, holder):
            # A single value in the place of a list or of a table.
            break
        places.append((inner, name))
        inner = inner[name] if isinstance(name, int) else inner.get(name)
    around, name = places[-1]
    if isinstance(cause, ForbiddenExtraKeysError) and len(places) == len(path):
        around.pop(name, None)
    else:
        around[name] = _BROKEN


def _sentence(kind: Kind, value: Any, why: str) -> str:
    """What is said of a wrong value; C{why} begins with it, or is empty."""
    raw = rawText(value)
    if kind.isSecret:
        return why or f"it must be {kind.expected}"
    if raw:
        return f"{raw!r} has a wrong value in the environment; it must be {kind.expected}"
    return why or f"{_shownValue(value)}; it must be {kind.expected}"


def _shownValue(value: Any) -> str:
    """A value as it may be repeated in a sentence."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return str(value).lower()
    raw = rawText(value)
    text = repr(textWithoutSecrets(raw or value)) if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_SHOWN_VALUE else f"{text[:MAX_SHOWN_VALUE]}..."


def _names(table: type) -> list[str]:
    """The keys of a table, as an operator writes them."""
    names: list[str] = []
    for each in keysOf(table):
        single: str = each.metadata.get("single") or ""
        names += [single] * bool(single) + [keyOf(each)]
    return names


def _unknown(key: str, table: type) -> str:
    """What is said of a key that does not exist."""
    known = _names(table)
    if key in _homes():
        return f"there is no such key here; it belongs to {_homes()[key]}"
    return f"there is no such key{_near(key, known) or f'; write one of {_listOf(known)}'}"


def _near(key: str, known: Iterable[str]) -> str:
    """Which key is meant by an unknown one: what other proxies call so, or one that is near."""
    elsewhere = [each for each in _ELSEWHERE.get(key.replace("-", "_"), ()) if each in known]
    return f"; did you mean {elsewhere[0]}?" if elsewhere else nearest(key, known)


def _listOf(words: Iterable[str]) -> str:
    return ", ".join(words)


@cache
def _homes() -> dict[str, str]:
    """The table that each key belongs into, by its name; of several tables, the first."""
    homes: dict[str, str] = {}
    for header, table in allTables():
        for each in _names(table):
            homes.setdefault(each, header)
    return homes


def allTables() -> Iterator[tuple[str, type]]:
    """The header of each table of the file, and its class; those within one follow it."""
    yield "the top of the file", Config
    yield from _tablesIn(Config, "")


def _tablesIn(table: type, around: str) -> Iterator[tuple[str, type]]:
    for each in keysOf(table):
        if kindOf(each) is None and tableOf(each) is not PolicyConfig:
            name = f"{around}{each.metadata.get('single') or keyOf(each)}"
            isArray = isSeveral(each) and not each.metadata.get("single")
            yield (f"[[{name}]]" if isArray else f"[{name}]"), tableOf(each)
            yield from _tablesIn(tableOf(each), f"{name}.")
