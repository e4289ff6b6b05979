"""
How many upstream connections requests with incomplete bodies may hold: L{UploadSlots}.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NoReturn

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from sitio.errors import PoolExhausted
from sitio.settings import Settings


def slotsOf(settings: Settings) -> int:
    """How many of the upstream's connections uploads may hold: by default three quarters."""
    if settings.poolUploads:
        # A limit of descriptors may have made the pool smaller.
        return min(settings.poolUploads, settings.poolSize)
    return max(1, settings.poolSize * 3 // 4)


class UploadSlots:
    """
    A slot for each upload that holds a connection to the upstream.

    A slow client could hold a connection for hours with a body that comes byte by byte, and
    many of them all connections.  So uploads need a slot until their body is complete;
    without a free one they wait, in order, each for a bounded time.  Other requests need
    none.
    """

    def __init__(self, clock: IReactorTime, settings: Settings) -> None:
        self._clock = clock
        self._settings = settings
        self._free = slotsOf(settings)
        self._waiting: OrderedDict[Deferred[bool], None] = OrderedDict()

    def take(self) -> bool:
        """Take a slot if one is free; L{release} gives it back."""
        if self._free and not self._waiting:
            self._free -= 1
            return True
        return False

    def wait(self) -> Deferred[bool]:
        """
        Take a slot as soon as one is free.  Cancel the Deferred to stop waiting.

        @return: fires with whether a slot was taken, which is not so after L{skip}; fails
            with L{PoolExhausted} if too many wait, or if it takes too long.
        """
        if self.take():
            return succeed(True)
        if len(self._waiting) >= self._settings.poolQueue:
            return fail(PoolExhausted(f"{self._settings.poolQueue} uploads wait already"))
        waiter: Deferred[bool] = Deferred(self._forget)
        self._waiting[waiter] = None
        waiter.addTimeout(self._settings.poolTimeout, self._clock, self._late)
        return waiter

    def skip(self, waiter: Deferred[bool]) -> None:
        """One that waits needs no slot any more."""
        if waiter in self._waiting:
            del self._waiting[waiter]
            waiter.callback(False)

    def _forget(self, waiter: Deferred[bool]) -> None:
        self._waiting.pop(waiter, None)

    def _late(self, result: object, timeout: float) -> NoReturn:
        raise PoolExhausted(
            f"{slotsOf(self._settings)} uploads are under way; none ended within"
            f" {timeout:g} seconds"
        )

    def release(self) -> None:
        """Give a slot back; it goes to the upload that waits longest."""
        if self._waiting:
            self._waiting.popitem(last=False)[0].callback(True)
        else:
            self._free += 1
