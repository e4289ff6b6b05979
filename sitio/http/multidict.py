"""
A mapping that is read only, and whose names may have several values: L{MultiDict}.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping


class MultiDict(Mapping[str, str]):
    """
    Names and values as C{str}, in order.  Names are compared with case.

    As in any mapping, a repeated name counts once: C{multi["name"]}, C{get} and C{items} have
    its first value.  L{getAll} and L{allItems} have each.  Whoever checks a value should check
    all: nobody knows which one the service takes.
    """

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = list(pairs)
        self._values: dict[str, list[str]] = {}
        for name, value in self._pairs:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def getAll(self, name: str) -> list[str]:
        """The values of this name, in order; an empty list if there are none."""
        return list(self._values.get(name, ()))

    def allItems(self) -> list[tuple[str, str]]:
        """Each name and value, in order; a repeated name has several."""
        return list(self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        # Values may be secrets.
        return f"<MultiDict {', '.join(self._values)}>"
