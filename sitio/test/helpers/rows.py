"""
Tests that are rows of a table, and messages that are cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

Row = tuple[Any, ...]


def bytewise(raw: bytes) -> list[bytes]:
    """Cut a message into single bytes."""
    return [raw[at : at + 1] for at in range(len(raw))]


def cut(raw: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a message at these places."""
    ends = [*sorted(places), len(raw)]
    return [raw[start:end] for start, end in zip([0, *ends], ends) if start < end]


def eachRow(*tables: list[Row]) -> Callable[[type], type]:
    """
    A decorator that makes a test of each row.

    The first column is the promise, which also names the test.  C{check} is called with
    the other columns.
    """

    def decorate(cls: type) -> type:
        for promise, *row in [row for table in tables for row in table]:
            name = "test_" + re.sub(r"\W+", "_", promise).strip("_")
            assert not hasattr(cls, name), f"two rows say {promise!r}"

            def test(self: Any, row: list[Any] = row) -> None:
                self.check(*row)

            test.__doc__ = f"{promise}."
            test.__name__ = name
            setattr(cls, name, test)
        return cls

    return decorate
