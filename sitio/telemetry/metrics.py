"""
A snapshot as the page that Prometheus reads.

Names, units and labels are those of OpenTelemetry's HTTP conventions where these
have any; what only sitio knows begins with C{sitio_}.  An endpoint's true status is
the label of its durations, so that a masked 503 counts as the 503 it was; what
clients were sent instead has a counter of its own.

Labels are bounded as the table of endpoints is: L{sitio.telemetry.stats} says how.

Contract: pure; nothing is counted here, and nothing of sitio is reached but by the
snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sitio.telemetry.snapshot import EndpointMetrics, SidecarSnapshot

_ENDPOINT = ["http_request_method", "http_route"]
_STATUS = [*_ENDPOINT, "http_response_status_code"]


def exposition(snapshot: SidecarSnapshot, accept: str) -> tuple[bytes, str]:
    """
    The page and its type.

    @param accept: the field Accept of who asks, for the text format or OpenMetrics; one
        that makes no sense is as good as none.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(snapshot))
    try:
        encode, kind = choose_encoder(accept)
    except (TypeError, ValueError):
        # It asks for a version that is no number.
        encode, kind = choose_encoder("")
    return encode(registry), kind


class _Snapshot(Collector):
    """One snapshot, as families of metrics."""

    def __init__(self, snapshot: SidecarSnapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """See L{Collector}."""
        yield from _endpoints(self._snapshot)
        yield from _connections(self._snapshot)
        yield from _policies(self._snapshot)
        yield from _lost(self._snapshot)
        yield from _processes(self._snapshot)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    names = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(names, accumulate(counts)))


def _labels(endpoint: EndpointMetrics, *more: str) -> list[str]:
    # Those in round brackets stand for many methods: OpenTelemetry's word for others.
    return [endpoint["method"] or "_OTHER", endpoint["route"], *more]


def _status(name: str) -> str:
    # A label that is empty is as good as none: no response came to anything.
    return "" if name == "none" else name


def _endpoints(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    metrics = snapshot["metrics"]
    endpoints = metrics["endpoints"]
    durations = HistogramMetricFamily(
        "http_server_request_duration_seconds",
        "Time from the head of a request to the last byte of its response, by the true status.",
        labels=_STATUS,
    )
    received = SummaryMetricFamily(
        "http_server_request_body_size_bytes", "Bytes of requests' bodies.", labels=_ENDPOINT
    )
    returned = SummaryMetricFamily(
        "http_server_response_body_size_bytes", "Bytes of responses' bodies.", labels=_ENDPOINT
    )
    sent = CounterMetricFamily(
        "sitio_sent_responses", "Responses by the status that clients were sent.", labels=_STATUS
    )
    masked = CounterMetricFamily(
        "sitio_masked_failures",
        "Failures, by their true status, for which clients were sent something better.",
        labels=_STATUS,
    )
    for each in endpoints:
        for status, spent in each["durations"].items():
            durations.add_metric(
                _labels(each, _status(status)),
                _buckets(metrics["latencyBounds"], spent["latency"]),
                spent["seconds"],
            )
        received.add_metric(_labels(each), each["hits"], each["bytesIn"])
        returned.add_metric(_labels(each), each["hits"], each["bytesOut"])
        for status, times in each["statuses"].items():
            sent.add_metric(_labels(each, _status(status)), times)
        for status, times in each["masked"].items():
            masked.add_metric(_labels(each, status), times)
    yield durations
    yield received
    yield returned
    yield sent
    yield masked
    own = HistogramMetricFamily(
        "sitio_added_duration_seconds",
        "Time of an exchange without the wait for the upstream's head.",
    )
    own.add_metric([], _buckets(metrics["ownBounds"], metrics["own"]), metrics["ownSeconds"])
    yield own
    yield CounterMetricFamily(
        "sitio_displaced_endpoints",
        "Endpoints that have lost their row in the table to others.",
        metrics["displaced"],
    )


def _connections(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    pool = snapshot["pool"]
    counts = snapshot["poolCounts"]
    yield GaugeMetricFamily(
        "http_server_active_requests", "Exchanges under way.", snapshot["inFlight"]
    )
    yield GaugeMetricFamily(
        "sitio_client_connections", "Connections of clients.", snapshot["clients"]
    )
    open_ = GaugeMetricFamily(
        "http_client_open_connections",
        "Connections to the upstream, those being opened included.",
        labels=["http_connection_state"],
    )
    idle = pool.get("idle", 0)
    open_.add_metric(["idle"], idle)
    open_.add_metric(["active"], pool.get("open", 0) - idle)
    yield open_
    yield GaugeMetricFamily(
        "sitio_upstream_waiting_requests",
        "Requests that wait for a connection to the upstream.",
        pool.get("waiting", 0),
    )
    yield SummaryMetricFamily(
        "sitio_upstream_wait_seconds",
        "Waits for one of the connections, as all were in use.",
        count_value=counts["waited"],
        sum_value=counts["waitedSeconds"],
    )
    yield CounterMetricFamily(
        "sitio_upstream_opened_connections",
        "Connections to the upstream that were opened.",
        counts["opened"],
    )
    yield CounterMetricFamily(
        "sitio_upstream_failed_connections",
        "Connections to the upstream that could not be opened.",
        counts["failed"],
    )
    yield CounterMetricFamily(
        "sitio_broken_responses",
        "Responses that broke off within, whatever status they had begun with.",
        snapshot["brokenOff"],
    )
    yield CounterMetricFamily(
        "sitio_overlong_responses",
        "Responses that a policy wanted whole and that were too long for that.",
        snapshot["tooLong"],
    )


def _policies(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    policies = snapshot["policies"]
    names: list[str] = []
    for each in policies:
        times = sum(other["name"] == each["name"] for other in policies[: len(names)])
        # The second of a name, and so on, is another series.
        names.append(each["name"] if not times else f"{each['name']} {times + 1}")
    duration = SummaryMetricFamily(
        "sitio_policy_duration_seconds",
        "Time that a policy took over its answers, with how often it was called.",
        labels=["policy"],
    )
    acted = CounterMetricFamily(
        "sitio_policy_actions",
        "Times that a policy answered, replaced or retried.",
        labels=["policy"],
    )
    failed = CounterMetricFamily(
        "sitio_policy_failures", "Times that a policy failed.", labels=["policy"]
    )
    for name, each in zip(names, policies):
        duration.add_metric([name], each["called"], each["seconds"])
        acted.add_metric([name], each["acted"])
        failed.add_metric([name], each["failed"])
    yield duration
    yield acted
    yield failed


def _lost(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "sitio_access_log_dropped_lines",
        "Lines that the access log could not write, or not in time.",
        snapshot["lost"]["accessLogLines"],
    )
    yield CounterMetricFamily(
        "sitio_dashboard_dropped_entries",
        "Requests that a dashboard elsewhere is not told of, as there were too many.",
        snapshot["lost"]["dashboardEntries"],
    )


def _processes(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sitio_uptime_seconds", "Time since sitio was started.", snapshot["metrics"]["uptime"]
    )
    yield GaugeMetricFamily("sitio_workers", "Processes that serve.", len(snapshot["workers"]))
    yield CounterMetricFamily(
        "sitio_worker_restarts",
        "Processes that were started in the place of others.",
        snapshot["restarts"],
    )
