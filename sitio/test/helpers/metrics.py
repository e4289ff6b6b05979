"""
The page for Prometheus of a sidecar that has counted some exchanges.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from sitio.telemetry.metrics import exposition
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.telemetry.stats import Stats
from sitio.test.helpers.snapshots import workerSnapshot


def sidecarSnapshot(*exchanges: Any) -> SidecarSnapshot:
    """The snapshot of a sidecar after these exchanges."""
    stats = Stats(Clock())
    for each in exchanges:
        stats.exchangeFinished(each)
    return {**workerSnapshot(), "metrics": stats.snapshot()}


def page(snapshot: SidecarSnapshot, accept: str = "") -> str:
    """The text of the page C{/metrics}."""
    return exposition(snapshot, accept)[0].decode()
