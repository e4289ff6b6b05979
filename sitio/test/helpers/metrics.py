"""
The page for Prometheus of a sidecar that has counted some exchanges, and Prometheus's tool.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest

from sitio.http.routes import Routes
from sitio.net.turns import atOnce
from sitio.telemetry.metrics import exposition
from sitio.telemetry.series import Series
from sitio.telemetry.snapshot import SidecarSnapshot, Snapshot
from sitio.telemetry.stats import Stats
from sitio.telemetry.statsline import Report
from sitio.test.helpers.snapshots import workerSnapshot


def sidecarSnapshot(*exchanges: Any, routes: Routes | None = None) -> SidecarSnapshot:
    """The snapshot of a sidecar after these exchanges."""
    stats = Stats(Clock(), routes=routes)
    for each in exchanges:
        stats.exchangeFinished(each)
    return {**workerSnapshot(), "metrics": stats.snapshot()}


def report(now: Snapshot, before: Snapshot | None) -> dict[str, Any] | None:
    """The event of a stats line with the changes since an earlier snapshot, or L{None}."""
    last = Report()
    if before is not None:
        atOnce(last.telling(before))
    return atOnce(last.telling(now))


def exposed(
    snapshot: SidecarSnapshot, accept: str = "", series: Series | None = None
) -> tuple[bytes, str]:
    """The body and the type of the page C{/metrics}."""
    parts, kind = atOnce(exposition(snapshot, accept, series))
    return b"".join(parts), kind


def page(snapshot: SidecarSnapshot, accept: str = "") -> str:
    """The text of the page C{/metrics}."""
    return exposed(snapshot, accept)[0].decode()


def promtool(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """
    Run promtool; returns its status and what it said.

    @raise SkipTest: it is not installed.
    """
    found = shutil.which("promtool")
    if found is None:
        raise SkipTest("there is no promtool: on Debian it is in the package prometheus")
    done = subprocess.run(
        [found, *arguments], input=stdin, capture_output=True, timeout=60, check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode()
