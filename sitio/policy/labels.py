"""
The labels of an exchange: L{Labels}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping

#: Labels of one exchange, and characters of a name and of a value: together they fit into a
#: line of the access log.
MAX_LABELS = 8
MAX_NAME = 32
MAX_VALUE = 64

_isName = re.compile(rf"[A-Za-z_][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}").fullmatch


class Labels(MutableMapping[str, str]):
    """
    Names and values with which policies mark an exchange, in order.

    They are in the access log and in /exchanges, so no secret belongs there.

    A name has up to L{MAX_NAME} letters, digits and C{. _ -}, and begins with a letter or C{_};
    a value has up to L{MAX_VALUE} characters.  Others, and more than L{MAX_LABELS} labels, raise
    C{ValueError}; a value that is no C{str} raises C{TypeError}.
    """

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __setitem__(self, name: str, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"the value of a label is str, not {type(value).__name__}")
        if not (isinstance(name, str) and _isName(name)):
            raise ValueError(
                f"{str(name)[:MAX_NAME]!r} is not the name of a label: write up to {MAX_NAME}"
                " letters, digits and . _ -, of which the first is a letter or _"
            )
        if len(value) > MAX_VALUE:
            raise ValueError(f"the label {name} has more than {MAX_VALUE} characters: cut it")
        if name not in self._values and len(self._values) >= MAX_LABELS:
            raise ValueError(f"an exchange has at most {MAX_LABELS} labels")
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Labels {self._values}>"
