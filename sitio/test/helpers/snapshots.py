"""
Snapshots of processes and of sidecars that have counted some exchanges.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock

from sitio.net.turns import atOnce
from sitio.telemetry.configstate import FIRST
from sitio.telemetry.records import ExchangeLists, ExchangeRecord
from sitio.telemetry.snapshot import (
    EndpointMetrics,
    SidecarSnapshot,
    Snapshot,
    limitEndpoints,
    merge,
    mergeSidecars,
)
from sitio.telemetry.stats import Stats
from sitio.telemetry.upstreams import UpstreamEndpoint, UpstreamMetrics
from sitio.test.helpers.exchanges import FinishedExchange, ended, facts


def endpointsByName(snapshot: Snapshot) -> dict[str, EndpointMetrics]:
    """The endpoints of a snapshot by method and route, as the stats line names them."""
    return {f"{each['method']} {each['route']}".strip(): each for each in snapshot["endpoints"]}


def snapshotOf(exchanges: list[FinishedExchange], uptime: float = 0.0) -> Snapshot:
    """The snapshot of a process after these exchanges."""
    clock = Clock()
    counting = Stats(clock)
    for exchange in exchanges:
        counting.exchangeFinished(exchange)
    clock.advance(uptime)
    return counting.snapshot()


def merged(one: Snapshot, two: Snapshot) -> Snapshot:
    """What L{merge} returns, at once."""
    return atOnce(merge(one, two))


def mergedSidecars(*snapshots: SidecarSnapshot) -> SidecarSnapshot:
    """What L{mergeSidecars} returns, at once."""
    return atOnce(mergeSidecars(*snapshots))


def limited(metrics: Snapshot, most: int) -> Snapshot:
    """What L{limitEndpoints} returns, at once."""
    return atOnce(limitEndpoints(metrics, most))


def workerSnapshot(hits: int = 0, pid: int = 1, **paths: int) -> SidecarSnapshot:
    """The snapshot of a worker with this number of hits on /, and some on other paths."""
    exchanges = [ended() for _ in range(hits)]
    exchanges += [ended(f"/{path}") for path, times in paths.items() for _ in range(times)]
    return {
        "metrics": snapshotOf(exchanges),
        "peers": {
            "scheme": "http",
            "upstreamAddress": "localhost",
            "upstreamPort": "8087",
            "upstreamScheme": "http",
        },
        "config": FIRST,
        "policies": [
            {
                "name": "deny",
                "sees": "requests",
                "called": hits,
                "acted": 0,
                "failed": 0,
                "seconds": hits / 4,
            }
        ],
        "upstreams": [],
        "tls": [],
        "pool": {"open": 2, "idle": 1, "waiting": 0},
        "poolCounts": {"opened": 5, "failed": 1, "waited": 2, "waitedSeconds": 0.5},
        "clients": 3,
        "inFlight": 2,
        "bufferedBytes": 0,
        "brokenResponses": 2,
        "overlongResponses": 1,
        "dropped": {"accessLogLines": 3, "fleetEntries": 0},
        "restarts": 0,
        "workers": [
            {
                "number": 1,
                "pid": pid,
                "uptime": 1.0,
                "restarts": 0,
                "hits": hits,
                "clients": 3,
            }
        ],
    }


def _record(began: float) -> ExchangeRecord:
    """The record of an exchange that began then and took a second."""
    steps = {"policies": 0.0, "connection": 0.0, "upstream": 1.0, "transfer": 0.0}
    return facts("7-1", began=began, duration=1.0, bytesOut=0, steps=steps)


def exchangesOf(*began: float) -> ExchangeLists:
    """What a worker tells whose exchanges began then: all of them as ended and as open."""
    records = [_record(each) for each in began]
    return {"failed": [], "recent": records, "open": records}


def upstreamEndpoint(address: str, state: str = "healthy", **more: Any) -> UpstreamEndpoint:
    """An endpoint as one process sees it; nothing is counted but what is given."""
    endpoint: Any = {
        "address": address,
        "states": {state: 1},
        "weight": 1,
        "outstanding": 0,
        "open": 0,
        "idle": 0,
        "sent": 0,
        "answered": 0,
        "failed": 0,
        "seconds": 0.0,
        "ejections": 0,
        "lastFailure": "",
        **more,
    }
    return cast(UpstreamEndpoint, endpoint)


def upstreamOf(name: str, *endpoints: UpstreamEndpoint) -> UpstreamMetrics:
    """An upstream with these endpoints, which may be taken out of service."""
    return {
        "name": name,
        "problem": "",
        "judged": True,
        "retries": 0,
        "hedges": 0,
        "refused": 0,
        "endpoints": list(endpoints),
    }
