"""
Where things stand in the configuration file: L{Places}, and mistakes there: L{Mistake}.

A place is written as a path of keys: C{listener.tls.key}, C{routes[2].policies[0]}.

Contract: pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import field, frozen

#: Mistakes that are shown; who has more of them has another problem.
MAX_SHOWN = 100

#: The keys and indices that lead to a value.
Path = tuple[str | int, ...]

_isBare = re.compile(r"[A-Za-z0-9_-]+").fullmatch


def placeOf(path: Iterable[str | int]) -> str:
    """The text of a path; keys that need them have quotes."""
    text = ""
    for each in path:
        if isinstance(each, int):
            text += f"[{each}]"
        else:
            text += f"{'.' if text else ''}{each if _isBare(each) else _quoted(each)}"
    return text


def _quoted(name: str) -> str:
    shown = "".join(each if each.isprintable() else "?" for each in name)
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


@frozen
class Places:
    """
    The lines of a file, by place.

    @ivar file: its name, as the operator gave it; C{""} for none.
    @ivar lines: from 1.
    @ivar given: what else has given a value: an option or a variable, by place.
    """

    file: str = ""
    lines: Mapping[str, int] = field(factory=dict)
    given: Mapping[str, str] = field(factory=dict)

    def line(self, place: str) -> int:
        """
        The line of a place, or else of the nearest one around it; 0 if that is unknown.
        """
        return next((self.lines[each] for each in _around(place) if each in self.lines), 0)

    def option(self, place: str) -> str:
        """The option that has given what is at a place; C{""} if the file has."""
        return next((self.given[each] for each in _around(place) if each in self.given), "")

    def where(self, place: str) -> str:
        """A place for a message: C{sitio.toml:17: routes[2]}, or an option such as C{--port}."""
        option = self.option(place)
        if option:
            return option
        if not self.file:
            return place
        line = self.line(place)
        return f"{self.file}{f':{line}' if line else ''}{f': {place}' if place else ''}"

    def mistake(self, place: str, sentence: str) -> Mistake:
        """A mistake at a place, which may be what an option has given."""
        option = self.option(place)
        if option:
            return Mistake("", 0, option, sentence)
        return Mistake(self.file, self.line(place), place, sentence)


def _around(place: str) -> Iterator[str]:
    """A place, and those around it, the nearest first."""
    while place:
        yield place
        place = place[: max(place.rfind("."), place.rfind("["), 0)]


NO_PLACES = Places()


@frozen
class Mistake:
    """
    A mistake of the operator.

    @ivar file: the name of the file; C{""} if it is not in one.
    @ivar line: from 1; 0 if it is unknown.
    @ivar key: the place: C{routes[2].upstream}; or an option: C{--port}.
    @ivar sentence: what is wrong, and what would be right, without secrets.
    """

    file: str
    line: int
    key: str
    sentence: str

    def __str__(self) -> str:
        place = f"{self.file}{f':{self.line}' if self.line else ''}"
        return ": ".join(filter(None, (place, self.key, self.sentence)))


class ConfigErrors(ValueError):
    """
    A configuration that can't be used.

    @ivar mistakes: all of them, in the order of their lines.
    @ivar config: what is right of it, a L{Config<sitio.config.model.Config>}; L{None} if nothing
        could be read.
    """

    def __init__(self, mistakes: Iterable[Mistake], config: Any = None) -> None:
        self.config = config
        self.mistakes = tuple(sorted(set(mistakes), key=lambda each: (each.line, each.key)))
        super().__init__(self._text())

    def told(self, name: str) -> str:
        """All mistakes for a person: what is wrong with the file of this name."""
        if len(self.mistakes) == 1:
            return f"{name} has a mistake: {self}"
        return f"{name} has {len(self.mistakes)} mistakes:\n{self}"

    def _text(self) -> str:
        shown = [str(each) for each in self.mistakes[:MAX_SHOWN]]
        more = len(self.mistakes) - len(shown)
        if more:
            shown.append(f"and {more} more mistakes")
        return "\n".join(shown)
