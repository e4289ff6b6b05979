"""
Results of a parser, cached by the bytes that were parsed: L{ParseCache}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sitio.http.headers import MAX_SHARED_BYTES

#: Bounds of each cache: entries, and bytes of memory.  The memory is estimated from what
#: each byte (which is stored up to four times) and each line costs, as measured.  Heads of
#: browsers stay below both.
MAX_CACHED = 1024
MAX_CACHE_BYTES = 4 * 1024 * 1024
_BYTE_COST = 4
_LINE_COST = 160


class ParseCache(dict[bytes, Any]):
    """
    Results of a parser by the bytes that were parsed: C{cache[data]} parses if it has to.

    A result is stored when the same bytes come for the second time: a head with a request
    id never comes twice, and would push out those that do.

    Bounded by L{MAX_CACHED} and L{MAX_CACHE_BYTES}.  A full cache is emptied as a whole,
    which costs less than to record what was used last.

    Credentials of clients are among the keys, and stay in memory for longer than their
    requests.  Nothing reads the keys.
    """

    def __init__(self, parse: Callable[[bytes], Any]) -> None:
        """@param parse: what it raises is raised by the lookup, and not cached."""
        self._parse = parse
        self._seenOnce: set[int] = set()
        #: Estimated bytes of memory.
        self.size = 0

    def __missing__(self, data: bytes) -> Any:
        result = self._parse(data)
        mark = hash(data)
        if mark not in self._seenOnce:
            if len(self._seenOnce) >= MAX_CACHED:
                self._seenOnce.clear()
            self._seenOnce.add(mark)
        elif len(data) <= MAX_SHARED_BYTES:
            cost = _BYTE_COST * len(data) + _LINE_COST * data.count(b"\n")
            if len(self) >= MAX_CACHED or self.size + cost > MAX_CACHE_BYTES:
                self.clear()
            self.size += cost
            self[data] = result
        return result

    def clear(self) -> None:
        """Remove everything."""
        dict.clear(self)
        self._seenOnce.clear()
        self.size = 0
