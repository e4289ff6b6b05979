"""
An upstream with one endpoint that never changes: L{FixedUpstream}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred

from sitio.errors import SitioError
from sitio.upstream.budget import Budget
from sitio.upstream.endpoint import UpstreamSnapshot, unjudged
from sitio.upstream.pool import PoolCounts, UpstreamPool


@frozen(eq=False)
class FixedUpstream:
    """
    A service at one place.  It is its own only endpoint, and nothing judges it.

    @ivar name: as routes, policies and log lines name it.
    @ivar address: as metrics name it.
    @ivar settings: what it was made of; one of equal settings can stand in its place.
    @ivar budget: allows the retries that policies ask for.
    """

    name: str
    pool: UpstreamPool
    address: str = ""
    settings: Any = None
    budget: Budget = field(init=False)
    #: sitio itself sends nothing again.
    retries: None = field(default=None, init=False)

    @budget.default
    def _usual(self) -> Budget:
        return Budget(self.pool.clock.seconds())

    @property
    def only(self) -> FixedUpstream:
        return self

    @property
    def pools(self) -> tuple[UpstreamPool]:
        """The pools of all endpoints."""
        return (self.pool,)

    def counts(self) -> PoolCounts:
        """What the pool has counted."""
        return self.pool.counts()

    def snapshot(self) -> UpstreamSnapshot:
        """What there is to know of it, as plain data."""
        endpoints = [unjudged(self.address, self.pool)]
        return {
            "name": self.name,
            "problem": "",
            "judged": False,
            **self.budget.counts(),
            "endpoints": endpoints,
        }

    def start(self) -> None:
        """Connections are opened when they are needed."""

    def stop(self) -> Deferred[None]:
        """Close the connections; fires when all are closed.  Those in use close later."""
        return self.pool.stop()

    def choose(self, exchange: Any, tried: Sequence[Any]) -> FixedUpstream:
        """The endpoint for the next attempt."""
        return self

    def answered(self, status: int, seconds: float) -> None:
        """No counters: nothing reads them."""

    def failed(self, error: SitioError) -> None:
        """No counters: nothing reads them."""
