"""
One option of a policy, and what a declaration says of it: L{Option}, L{About}.
"""

from __future__ import annotations

import re
from inspect import Parameter
from typing import Any

from attrs import NOTHING, field, frozen

from sitio.policy.kinds import TEXT, Kind
from sitio.redact import HIDDEN


@frozen
class About:
    """
    What a declaration says of an option beside its name, its type and its default.

    @ivar help: what it is for, in a few words, with the unit of a plain number.
    @ivar least: the smallest value; a bound of the type's own holds as well.
    @ivar most: the largest value.
    @ivar metavar: stands for the value in the line of usage, in place of the type's.
    @ivar shown: C{True} for a text that holds no secrets: then it is shown in logs and on the
        admin pages.  Numbers, paths and the like are always shown, secrets never.
    """

    help: str = ""
    least: float | None = None
    most: float | None = None
    metavar: str = ""
    shown: bool = False


#: What stands for the words of an option that is not declared.
NO_ABOUT = About()


def dashed(name: str) -> str:
    """C{max-age} for C{maxAge}, and for C{max_age}."""
    words = re.sub("[A-Z]", lambda match: f"-{match[0].lower()}", name.replace("_", "-"))
    return words.strip("-")


@frozen
class Option:
    """
    One option of a declaration.

    @ivar name: the name of the parameter: C{maxAge}.
    @ivar kind: its type.
    @ivar default: its default value; C{NOTHING} if it must be given.
    @ivar place: how it is given: by its name, by its place, or the rest of the places.
    """

    name: str
    kind: Kind
    default: Any = NOTHING
    about: About = NO_ABOUT
    place: Any = Parameter.KEYWORD_ONLY
    key: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "key", dashed(self.name))

    @property
    def isNamed(self) -> bool:
        """Whether it is written as C{name=value}."""
        return self.place is Parameter.KEYWORD_ONLY

    @property
    def isRest(self) -> bool:
        """Whether it takes all the places that are left."""
        return self.place is Parameter.VAR_POSITIONAL

    @property
    def metavar(self) -> str:
        """What stands for its value."""
        return self.about.metavar or (
            self.kind.metavar if self.isNamed or self.kind is not TEXT else self.name.upper()
        )

    @property
    def usage(self) -> str:
        """Its part of the line of usage."""
        if self.isRest:
            return f":{self.metavar}[:{self.metavar}...]"
        text = f":{self.written}"
        return text if self.default is NOTHING else f"[{text}]"

    @property
    def written(self) -> str:
        """How it is written: C{times=N}, or C{STATUSES} for one that is given by place."""
        if self.isRest:
            return f"{self.metavar}..."
        return f"{self.key}={self.metavar}" if self.isNamed else self.metavar

    @property
    def expected(self) -> str:
        """What is expected, with the bounds: C{a whole number from 1 to 10}."""
        least, most = self.about.least, self.about.most
        words = [self.kind.name]
        if least is not None:
            bound = self._writtenBound(least)
            words.append(f"of {bound} or more" if most is None else f"from {bound}")
        if most is not None:
            words.append(f"{'to' if least is not None else 'up to'} {self._writtenBound(most)}")
        return " ".join(words)

    @property
    def shownDefault(self) -> str:
        """Its default, as one would write it; empty if there is none."""
        default = self.default
        if default is NOTHING or default is None or (self.kind.many and not default):
            return ""
        return self.kind.write(default)

    def parse(self, text: str) -> Any:
        """
        The value of a text.

        @raise ValueError: the text is none, or the value is out of bounds.  The message names
            the option, and says what is expected.
        """
        least, most = self.about.least, self.about.most
        # Bounds show how values are written.
        such = f", such as {self.kind.example}" if self.kind.example else ""
        such = such if least is None and most is None else ""
        try:
            value = self.kind.parse(text)
            if (least is not None or most is not None) and not self._isWithin(value):
                raise ValueError
        except ValueError as error:
            given = f"{self.key}={text}" if self.isNamed or not str(error) else self.key
            why = str(error) or f"{self.expected} is expected{such}"
            raise ValueError(f"{given}: {why}") from None
        return value

    def _isWithin(self, value: Any) -> bool:
        """Whether a value, or each of several, is within the bounds."""
        least, most = self.about.least, self.about.most
        return not any(
            (least is not None and each < least) or (most is not None and each > most)
            for each in (value if self.kind.many else (value,))
        )

    def _writtenBound(self, bound: float) -> str:
        return self.kind.write([bound] if self.kind.many else bound)

    def plain(self, value: Any) -> Any:
        """
        The value of plain data: of a text, a number, a boolean, or a list of these.

        @raise ValueError: as L{parse} does.
        """
        if isinstance(value, list | tuple):
            if not self.kind.many:
                raise ValueError(f"{self.key}: one value is expected, not a list")
            return self.parse(",".join(self._textOf(each) for each in value))
        return self.parse(self._textOf(value))

    def _textOf(self, value: Any) -> str:
        """The text of plain data, as an operator writes it."""
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float) and abs(value) < 1e15:
            return f"{value:.9f}".rstrip("0").rstrip(".")
        if isinstance(value, str | int | float):
            return str(value)
        kind = type(value).__name__
        raise ValueError(f"{self.key}: a text, a number or a boolean is expected, not {kind}")

    def shown(self, text: str) -> str:
        """What may be shown of its text."""
        if self.kind.shown is not None:
            return self.kind.shown(text)
        return text if self.about.shown and self.kind.isText else HIDDEN

    def secrets(self, text: str) -> list[str]:
        """The parts of its text that messages must not show."""
        if self.kind.secrets is not None:
            return self.kind.secrets(text)
        return [] if self.shown(text) == text else [text]
