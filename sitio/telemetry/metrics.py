"""
A snapshot in the formats that Prometheus reads.

Names, units and labels are those of OpenTelemetry's HTTP conventions where these have
one; the others begin with C{sitio_}, or with C{process_} as in all Prometheus clients.

A proxy is a server and a client.  C{http_server_request_duration_seconds} has the status
that the client was sent, so that a masked 503 counts as a 200 there.
C{http_client_request_duration_seconds} has what came of each attempt to send the request to
the upstream, so that the same 503 counts as a 503.

C{http_route} is a template that the operator has configured (L{sitio.http.routes}), and empty
for all other requests: the conventions forbid paths there, and each would be a series.  The
client metric has no route, which the conventions don't give it.

However many methods and statuses there are, the number of series is limited: L{Series}.

Contract: a snapshot in, bytes out; reads what the kernel says about the processes.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import twisted
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sitio.net.turns import MAX_WORK, Parts, Steps
from sitio.telemetry.certificatemetrics import certificateFamilies
from sitio.telemetry.histogram import ADDED_BOUNDS, coarser, regroup
from sitio.telemetry.processes import read
from sitio.telemetry.series import Labels, Series
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.telemetry.upstreammetrics import upstreamFamilies

_ENDPOINT = ["http_request_method", "http_route"]
_STATUS = [*_ENDPOINT, "http_response_status_code"]
_SERVER = [*_STATUS, "error_type", "url_scheme"]
_CLIENT = ["http_request_method", "http_response_status_code", "error_type"]
_ADDED = coarser(ADDED_BOUNDS)
_PEER = ["server_address", "server_port", "url_scheme"]


#: Samples that are written as one piece.
_SAMPLES = 8

#: The size of the piece in which a histogram is made, and of one sample that is written.
_MADE, _WRITTEN = 40, 10

#: Families of metrics, and the sizes of the pieces of work in between.
_Families = Iterator[Metric | int]


def exposition(
    snapshot: SidecarSnapshot, accept: str, series: Series | None = None
) -> Steps[tuple[list[bytes], str]]:
    """
    The body, in parts, and the content type of the page /metrics.

    @param accept: the Accept field of the request; it chooses the text format or
        OpenMetrics.  An invalid one counts as empty.
    @param series: that of earlier pages of the same sidecar.
    """
    try:
        encode, kind = choose_encoder(accept)
    except (TypeError, ValueError):
        # The field asks for a version that is not a number.
        encode, kind = choose_encoder("")
    end = encode(_Single())
    written = Parts()
    for each in _families(snapshot, series or Series()):
        if isinstance(each, int):
            yield each
            continue
        samples, each.samples = each.samples, []
        head = encode(_Single(each)).removesuffix(end)
        written.add(head)
        while samples:
            each.samples, samples[:_SAMPLES] = samples[:_SAMPLES], []
            written.add(encode(_Single(each)).removesuffix(end).removeprefix(head))
            yield len(each.samples) * _WRITTEN
    written.add(end)
    return written.end(), kind


class _Single(Collector):
    """What the library takes for all metrics: one family, or none."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """See L{Collector}."""
        return self._families


def _families(snapshot: SidecarSnapshot, series: Series) -> _Families:
    yield from _requests(snapshot, series)
    yield from _attempts(snapshot, series)
    yield from _added(snapshot)
    yield from _connections(snapshot)
    yield from upstreamFamilies(snapshot["upstreams"], series.endpoints)
    yield from certificateFamilies(snapshot["tls"])
    yield from _policies(snapshot)
    yield from _configuration(snapshot)
    yield from _dropped(snapshot)
    yield from _processes(snapshot)


def _buckets(bounds: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    names = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(names, accumulate(counts)))


def _status(name: str) -> str:
    # No response was sent: an empty label is the same as no label.
    return "" if name == "none" else name


def _outcome(key: str, firstError: str) -> tuple[str, str]:
    """
    The labels C{http_response_status_code} and C{error_type} of a histogram.

    @param key: a status, and the name of what ended the exchange early.
    @param firstError: the first status that is an error in the eyes of this side.
    """
    name, _, error = key.partition(" ")
    status = _status(name)
    return status, error or (status if status >= firstError else "")


def _requests(snapshot: SidecarSnapshot, series: Series) -> _Families:
    metrics = snapshot["metrics"]
    scheme = snapshot["peers"]["scheme"]
    durations = HistogramMetricFamily(
        "http_server_request_duration_seconds",
        "Time from the head of a request to the last byte of its response, by the status sent.",
        labels=_SERVER,
    )
    received = SummaryMetricFamily(
        "http_server_request_body_size_bytes",
        "Bytes of requests' bodies, those under way included.",
        labels=_ENDPOINT,
    )
    returned = SummaryMetricFamily(
        "http_server_response_body_size_bytes",
        "Bytes of responses' bodies, those under way included.",
        labels=_ENDPOINT,
    )
    masked = CounterMetricFamily(
        "sitio_masked_failures",
        "Failures, by the upstream status, for which clients were sent something better.",
        labels=_STATUS,
    )
    active = GaugeMetricFamily(
        "sitio_active_requests",
        "Exchanges that have been under way for a second or more.",
        labels=_ENDPOINT,
    )
    spent: dict[Labels, list[float]] = {}
    sizes: dict[Labels, list[float]] = {}
    hidden: dict[Labels, list[float]] = {}
    for each in metrics["routes"]:
        labels = each["method"], each["route"]
        sizes[labels] = [each["hits"], each["bytesIn"], each["bytesOut"], each["underWay"]]
        for key, found in each["durations"].items():
            spent[(*labels, *_outcome(key, "500"))] = [*found["counts"], found["seconds"]]
            yield 2
        for status, times in each["masked"].items():
            hidden[(*labels, status)] = [times]
    for outcome, counts in (yield from series.durations.limited(spent)).items():
        buckets = _buckets(metrics["sentBounds"], counts[:-1])
        seconds = series.durations.rising(outcome, counts[-1])
        durations.add_metric([*outcome, scheme], buckets, seconds)
        yield _MADE
    shown = yield from series.sizes.limited(sizes)
    for endpoint, (hits, bytesIn, bytesOut, underWay) in shown.items():
        received.add_metric(endpoint, int(hits), bytesIn)
        returned.add_metric(endpoint, int(hits), bytesOut)
        if underWay:
            active.add_metric(endpoint, underWay)
        yield _WRITTEN
    for failure, [sum_] in (yield from series.masked.limited(hidden)).items():
        masked.add_metric(failure, sum_)
        yield _WRITTEN
    yield durations
    yield received
    yield returned
    yield masked
    yield active


def _attempts(snapshot: SidecarSnapshot, series: Series) -> _Families:
    metrics, peers = snapshot["metrics"], snapshot["peers"]
    durations = HistogramMetricFamily(
        "http_client_request_duration_seconds",
        "Time of each attempt to send a request to the upstream, to the head of its response.",
        labels=[*_CLIENT, *_PEER],
    )
    peer = [peers["upstreamAddress"], peers["upstreamPort"], peers["upstreamScheme"]]
    spent: dict[Labels, list[float]] = {}
    for key, found in metrics["attempts"].items():
        method, _, outcome = key.partition(" ")
        # Attempts have no route.
        spent[(method, "", *_outcome(outcome, "400"))] = [*found["counts"], found["seconds"]]
    for labels, counts in (yield from series.attempts.limited(spent)).items():
        buckets = _buckets(metrics["sentBounds"], counts[:-1])
        seconds = series.attempts.rising(labels, counts[-1])
        durations.add_metric([labels[0], *labels[2:], *peer], buckets, seconds)
        yield _MADE
    yield durations


def _added(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    metrics = snapshot["metrics"]
    added = HistogramMetricFamily(
        "sitio_added_duration_seconds",
        "Duration of an exchange without the wait for the upstream's head.",
    )
    counts = regroup(metrics["added"], _ADDED)
    added.add_metric([], _buckets(ADDED_BOUNDS, counts), metrics["addedSeconds"])
    yield added
    yield CounterMetricFamily(
        "sitio_evicted_endpoints",
        "Endpoints that have lost their row in the table to others.",
        metrics["evicted"],
    )


def _connections(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    pool = snapshot["pool"]
    counts = snapshot["poolCounts"]
    yield GaugeMetricFamily(
        "http_server_active_requests", "Exchanges under way.", snapshot["inFlight"]
    )
    yield GaugeMetricFamily(
        "sitio_client_connections", "Open client connections.", snapshot["clients"]
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
        "Waits for a connection to the upstream, as all were in use.",
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
        "Attempts to connect to the upstream that failed.",
        counts["failed"],
    )
    yield GaugeMetricFamily(
        "sitio_buffered_bytes",
        "Bytes of responses that are buffered for policies or not yet taken by clients.",
        snapshot["bufferedBytes"],
    )
    yield CounterMetricFamily(
        "sitio_broken_responses",
        "Responses that broke off after their head was sent, whatever their status.",
        snapshot["brokenResponses"],
    )
    yield CounterMetricFamily(
        "sitio_overlong_responses",
        "Responses that a policy wanted whole and that exceeded a buffer limit.",
        snapshot["overlongResponses"],
    )


def _policies(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    policies = snapshot["policies"]
    names: list[str] = []
    for each in policies:
        times = sum(other["name"] == each["name"] for other in policies[: len(names)])
        # Several policies of one name are separate series.
        names.append(each["name"] if not times else f"{each['name']} {times + 1}")
    duration = SummaryMetricFamily(
        "sitio_policy_duration_seconds",
        "Seconds that a policy took, and how often it was called.",
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


def _configuration(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    told = snapshot["config"]
    for name, text, value in (
        (
            "last_reload_successful",
            "Whether the configuration that was read last is in use: 1, or 0 if it has mistakes.",
            int(told["successful"]),
        ),
        (
            "last_reload_success_timestamp_seconds",
            "When the configuration in use was read, in seconds since 1970.",
            told["since"],
        ),
        ("generation", "The number of the configuration in use.", told["generation"]),
    ):
        yield GaugeMetricFamily(f"sitio_config_{name}", text, value)


def _dropped(snapshot: SidecarSnapshot) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "sitio_access_log_dropped_lines",
        "Lines that the access log dropped, as they could not be written in time.",
        snapshot["dropped"]["accessLogLines"],
    )
    yield CounterMetricFamily(
        "sitio_fleet_dropped_entries",
        "Entries that were not posted to the fleet dashboard, as there were too many.",
        snapshot["dropped"]["fleetEntries"],
    )


def _processes(snapshot: SidecarSnapshot) -> _Families:
    from sitio import __version__

    yield InfoMetricFamily(
        "sitio_build",
        "The version of sitio and of what it runs on.",
        {
            "version": __version__,
            "python_version": platform.python_version(),
            "twisted_version": twisted.__version__,
        },
    )
    yield GaugeMetricFamily(
        "sitio_uptime_seconds", "Seconds since sitio was started.", snapshot["metrics"]["uptime"]
    )
    yield GaugeMetricFamily("sitio_workers", "Worker processes that run.", len(snapshot["workers"]))
    yield CounterMetricFamily(
        "sitio_worker_restarts",
        "Worker processes that were started to replace others.",
        snapshot["restarts"],
    )
    yield MAX_WORK
    used = read(each["pid"] for each in snapshot["workers"])
    yield MAX_WORK
    if used is None:
        return
    yield CounterMetricFamily(
        "process_cpu_seconds", "Seconds of CPU time of all processes of sitio.", used.cpuSeconds
    )
    for name, text, value in (
        ("start_time_seconds", "When sitio was started, in seconds since 1970.", used.started),
        ("resident_memory_bytes", "Resident memory of all processes, in bytes.", used.resident),
        ("virtual_memory_bytes", "Virtual memory of all processes, in bytes.", used.virtual),
        ("open_fds", "File descriptors that all processes have open.", used.openFiles),
        ("max_fds", "File descriptors that all processes may have open.", used.maxFiles),
    ):
        yield GaugeMetricFamily(f"process_{name}", text, value)
