"""
The metrics of all workers as one.

Contract: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sitio.net.turns import Steps
from sitio.telemetry.configstate import FIRST, ConfigSnapshot
from sitio.telemetry.sidecar import droppedBy
from sitio.telemetry.snapshot import (
    NO_PEERS,
    SidecarSnapshot,
    Snapshot,
    WorkerMetrics,
    countersOf,
    limitEndpoints,
    mergeSidecars,
)
from sitio.telemetry.stats import MAX_ENDPOINTS


class Totals:
    """
    Adds up the snapshots of workers, and remembers those of workers that have ended.  Both
    in steps (L{sitio.net.turns}), whose first is to be done at once: it takes note of what
    there is.

    However many workers come and go, the table of endpoints has at most
    L{MAX_ENDPOINTS} rows.
    """

    def __init__(self, empty: Snapshot) -> None:
        """
        @param empty: metrics in which nothing is counted.
        """
        self._ended: SidecarSnapshot = {
            "metrics": empty,
            "peers": NO_PEERS,
            "config": FIRST,
            "policies": [],
            "upstreams": [],
            "tls": [],
            "pool": {},
            "poolCounts": {"opened": 0, "failed": 0, "waited": 0, "waitedSeconds": 0.0},
            "clients": 0,
            "inFlight": 0,
            "bufferedBytes": 0,
            "brokenResponses": 0,
            "overlongResponses": 0,
            "dropped": droppedBy(()),
            "restarts": 0,
            "workers": [],
        }
        # Those that have ended and are not yet part of that: few, and mostly none.
        self._left: list[SidecarSnapshot] = []
        self._isJoining = False

    def retire(self, snapshot: SidecarSnapshot) -> Steps[None]:
        """
        Remember the last snapshot of a worker that has ended.

        What it counted stays in the totals.  What it had open, such as connections, does not.
        """
        self._left.append(countersOf(snapshot))
        if self._isJoining:
            return
        self._isJoining = True
        try:
            while self._left:
                ended = yield from mergeSidecars(self._ended, self._left[0])
                metrics = yield from limitEndpoints(ended["metrics"], MAX_ENDPOINTS)
                self._ended = {**ended, "metrics": metrics}
                del self._left[0]
        finally:
            self._isJoining = False

    def total(
        self,
        rows: Iterable[tuple[SidecarSnapshot, int, int]],
        services: Iterable[Any],
        *,
        uptime: float,
        restarts: int,
        config: ConfigSnapshot = FIRST,
    ) -> Steps[SidecarSnapshot]:
        """
        The totals.

        @param rows: for each running worker its snapshot, its number, and how many
            processes have had that number before.
        @param services: those of the supervisor, which may lose entries as well.
        @param uptime: the supervisor's, in seconds.
        @param restarts: how many workers were replaced.
        @param config: the configuration in use.
        """
        parts: list[SidecarSnapshot] = [
            {**self._ended, "dropped": droppedBy(services, self._ended["dropped"])},
            *self._left,
        ]
        for snapshot, number, before in rows:
            row: WorkerMetrics = {
                **snapshot["workers"][0],
                "number": number,
                "restarts": before,
            }
            parts.append({**snapshot, "workers": [row]})
        whole = yield from mergeSidecars(*parts)
        metrics: Snapshot = yield from limitEndpoints(whole["metrics"], MAX_ENDPOINTS)
        return {
            **whole,
            "metrics": {**metrics, "uptime": uptime},
            "restarts": restarts,
            "config": config,
        }
