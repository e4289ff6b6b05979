"""
What all exchanges of one sidecar share: L{Sidecar}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sitio.errors import SitioError
from sitio.policy.chain import Chain
from sitio.settings import Settings

#: Seconds between two log lines on failing exchanges.
FAILURE_INTERVAL = 10.0


@define(eq=False)
class Sidecar:
    """
    What all exchanges of one sidecar share.

    @ivar chain: the policies; put another here to swap them while traffic flows.
    @ivar pool: the L{UpstreamPool<sitio.upstream.pool.UpstreamPool>}.
    @ivar host: what an upstream is told as Host when an HTTP/1.0 client names none.
    @ivar brokenOff: how many responses broke off once their head was on its way, the
        client being there.
    @ivar tooLong: how many responses a policy wanted whole that were longer than
        the buffer limit, and passed unchanged.
    @ivar via: the pseudonym in the Via fields that are added, or L{None} for none.
    """

    clock: IReactorTime
    pool: Any
    chain: Chain
    settings: Settings = field(factory=Settings)
    host: bytes = b"localhost"
    via: bytes | None = None
    log: Logger = field(factory=lambda: Logger(namespace="sitio"))
    brokenOff: int = field(default=0, init=False)
    tooLong: int = field(default=0, init=False)
    #: The clock's.
    seconds: Callable[[], float] = field(init=False)
    _loggedAt: float = field(default=float("-inf"), init=False)
    _unlogged: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.seconds = self.clock.seconds

    def failed(self, error: SitioError) -> None:
        """Say that exchanges fail: at once, then not more than every ten seconds."""
        now = self.seconds()
        if now - self._loggedAt < FAILURE_INTERVAL:
            self._unlogged += 1
            return
        self.log.warn(
            "An exchange failed: {error} ({unlogged} more failures since the last report)",
            error=error,
            side=error.side.value,
            status=error.status,
            unlogged=self._unlogged,
        )
        self._loggedAt = now
        self._unlogged = 0
