"""
What a policy adds to a message to change its body on its way: L{AddedFilter}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

#: A function that is called with each piece of a body, and with C{b""} once at the end.  It
#: returns the bytes to send in place of the piece.
BodyFilter = Callable[[bytes], bytes]


class AddedFilter(NamedTuple):
    """
    A filter of a message, as C{addFilter} adds it.

    @ivar failed: called with the consequence and the exchange when the filter has failed, within
        the handler of its exception; the chain of policies sets it.
    """

    bodyFilter: BodyFilter
    keepsLength: bool
    failOpen: bool
    failed: Callable[..., object] | None = None


def addedFilter(bodyFilter: BodyFilter, keepsLength: bool, failOpen: bool) -> AddedFilter:
    """
    A filter for a message.

    @raise ValueError: C{failOpen} without C{keepsLength}.
    """
    if failOpen and not keepsLength:
        raise ValueError(
            "a filter that may change the length can't be skipped when it fails: the rest of the"
            " body would look as if it was filtered; leave out failOpen"
        )
    return AddedFilter(bodyFilter, bool(keepsLength), bool(failOpen))
