"""
What was found out about short texts: L{Memo}.

Contract: pure.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

K = TypeVar("K", str, bytes)
V = TypeVar("V")


class Memo(dict[K, V]):
    """
    Results by the text that they are of.  A subclass makes one in C{__missing__}.

    Others choose the texts, so it is bounded: a long text is not remembered, and a full memo is
    emptied as a whole, which costs less than to record what was used last.

    @cvar most: how many results it has.
    @cvar longest: characters of the longest text.
    """

    most: ClassVar[int]
    longest: ClassVar[int]

    def keep(self, text: K, found: V) -> V:
        """Remember a result, and return it."""
        if len(text) <= self.longest:
            if len(self) >= self.most:
                self.clear()
            self[text] = found
        return found
