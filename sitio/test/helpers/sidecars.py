"""
A sidecar for the admin port, with metrics that a test fills.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from sitio.telemetry.configstate import FIRST, ConfigState
from sitio.telemetry.records import ExchangeLists, ExchangeRecord
from sitio.telemetry.sidecar import SERVING, ISidecar
from sitio.telemetry.snapshot import NO_PEERS, SidecarSnapshot
from sitio.telemetry.stats import Stats
from sitio.telemetry.upstreams import UpstreamMetrics
from sitio.test.helpers.exchanges import ended


@implementer(ISidecar)
@define(eq=False)
class Source:
    """
    A sidecar with metrics that a test counts.

    @ivar asked: how many snapshots were requested.
    @ivar answer: makes the snapshot, if it is not L{None}.
    @ivar problem: what keeps its upstream from accepting requests, if anything.
    """

    clock: IReactorTime
    stats: Stats = field(init=False)
    recent: list[ExchangeRecord] = field(factory=list)
    failed: list[ExchangeRecord] = field(factory=list)
    open: list[ExchangeRecord] = field(factory=list)
    acted: int = 0
    workers: list[Any] = field(factory=list)
    upstreams: list[UpstreamMetrics] = field(factory=list)
    state: str = SERVING
    configState: ConfigState = field(factory=lambda: ConfigState(0.0))
    problem: str | None = None
    asked: int = 0
    checked: int = 0
    answer: Callable[[], Deferred[Any]] | None = None

    def __attrs_post_init__(self) -> None:
        self.stats = Stats(self.clock)

    def count(self, target: str = "/", times: int = 1, **more: Any) -> None:
        """Count so many exchanges."""
        for _ in range(times):
            self.stats.exchangeFinished(ended(target, **more))

    def warnings(self) -> list[str]:
        return []

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        """See L{ISnapshotSource<sitio.telemetry.sidecar.ISnapshotSource>}."""
        self.asked += 1
        if self.answer is not None:
            return self.answer()
        told: Any = {
            "metrics": self.stats.snapshot(),
            "peers": NO_PEERS,
            "config": FIRST,
            "policies": [
                {
                    "name": "last-good",
                    "sees": "responses",
                    "called": 9,
                    "acted": self.acted,
                    "failed": 0,
                    "seconds": 0.009,
                }
            ],
            "upstreams": self.upstreams,
            "tls": [],
            "pool": {"open": 3, "idle": 2, "waiting": 0},
            "poolCounts": {"opened": 3, "failed": 0, "waited": 0, "waitedSeconds": 0.0},
            "clients": 4,
            "inFlight": len(self.open),
            "bufferedBytes": 0,
            "brokenResponses": 0,
            "overlongResponses": 0,
            "dropped": {"accessLogLines": 0, "fleetEntries": 0},
            "workers": self.workers,
        }
        return succeed(told)

    def exchanges(self) -> Deferred[ExchangeLists]:
        """See L{ISnapshotSource<sitio.telemetry.sidecar.ISnapshotSource>}."""
        told: ExchangeLists = {"failed": self.failed, "recent": self.recent, "open": self.open}
        return succeed(told)

    def drain(self) -> None:
        """See L{ISidecar}."""

    def findProblem(self) -> Deferred[str | None]:
        """The health check of the upstream."""
        self.checked += 1
        return succeed(self.problem)
