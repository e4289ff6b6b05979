"""
What Prometheus gets of upstreams and their endpoints.

A sidecar with one endpoint that nothing judges has only those of retries: of all others the
metrics of connections and attempts tell the same.

Contract: pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from sitio.net.turns import Steps
from sitio.telemetry.series import Labels, LimitedFamily
from sitio.telemetry.upstreams import UpstreamEndpoint, UpstreamMetrics, isPlain, present

#: The states of endpoints, so that each has a series from the start.
STATES = ("healthy", "warming", "unhealthy", "ejected", "draining")

#: States in which an endpoint is meant to get requests.
USABLE = ("healthy", "warming")

_ENDPOINT = ["upstream", "endpoint"]

#: The size of the piece of work in which the series of one endpoint are made.
_MADE = 20

#: What is counted of each endpoint: it is added up for those without series of their own.
_COUNTS = ("sent", "failed", "ejections", "outstanding", "answered", "seconds")


def _countsOf(endpoint: UpstreamEndpoint) -> list[float]:
    states = endpoint["states"]
    usable = sum(states.get(each, 0) for each in USABLE)
    counts = [float(endpoint[name]) for name in _COUNTS]  # type: ignore[literal-required]
    return [*counts, usable, sum(states.values())]


def upstreamFamilies(
    upstreams: list[UpstreamMetrics], limit: LimitedFamily
) -> Iterator[Metric | int]:
    """
    The families, and the sizes of the pieces of work in between.

    @param limit: decides which endpoints have series of their own.
    """
    yield from _retries(upstreams)
    shown = present(upstreams)
    if isPlain(shown):
        return
    yield from _states(shown)
    yield from _endpoints(shown, limit)


def _retries(upstreams: list[UpstreamMetrics]) -> Iterator[Metric | int]:
    made = CounterMetricFamily(
        "sitio_upstream_retries",
        "Requests that were sent again, and second attempts beside a first.",
        labels=["upstream"],
    )
    hedges = CounterMetricFamily(
        "sitio_upstream_hedges",
        "Second attempts beside a first that was late; they are retries, too.",
        labels=["upstream"],
    )
    refused = CounterMetricFamily(
        "sitio_upstream_refused_retries",
        "Retries that were refused, as the budget of the upstream was used up.",
        labels=["upstream"],
    )
    for each in upstreams:
        made.add_metric([each["name"]], each["retries"])
        hedges.add_metric([each["name"]], each["hedges"])
        refused.add_metric([each["name"]], each["refused"])
        yield 3 * _MADE // 6
    yield from (made, hedges, refused)


def _states(upstreams: list[UpstreamMetrics]) -> Iterator[Metric | int]:
    states = GaugeMetricFamily(
        "sitio_upstream_endpoints",
        "Endpoints of an upstream by state, as many processes see them so.",
        labels=["upstream", "state"],
    )
    for upstream in upstreams:
        counts = Counter[str]()
        for each in upstream["endpoints"]:
            counts.update(each["states"])
            yield 1
        for state in STATES:
            states.add_metric([upstream["name"], state], counts[state])
    yield states


def _endpoints(upstreams: list[UpstreamMetrics], limit: LimitedFamily) -> Iterator[Metric | int]:
    found: dict[Labels, list[float]] = {}
    for upstream in upstreams:
        for each in upstream["endpoints"]:
            found[upstream["name"], each["address"]] = _countsOf(each)
            yield 2
    limited: Steps[dict[Labels, list[float]]] = limit.limited(found)
    families = _Families()
    for labels, counts in (yield from limited).items():
        families.add(labels, *counts)
        yield _MADE
    yield from families.all


class _Families:
    """The families with series of each endpoint."""

    def __init__(self) -> None:
        self.usable = GaugeMetricFamily(
            "sitio_upstream_endpoint_usable",
            "The part of processes that send requests to an endpoint: 1 for all, 0 for none.",
            labels=_ENDPOINT,
        )
        self.sent = CounterMetricFamily(
            "sitio_upstream_endpoint_requests", "Requests sent to an endpoint.", labels=_ENDPOINT
        )
        self.failed = CounterMetricFamily(
            "sitio_upstream_endpoint_failures",
            "Attempts without a response, or with a status that counts as a failure.",
            labels=_ENDPOINT,
        )
        self.ejections = CounterMetricFamily(
            "sitio_upstream_endpoint_ejections",
            "Times that an endpoint was ejected.",
            labels=_ENDPOINT,
        )
        self.active = GaugeMetricFamily(
            "sitio_upstream_endpoint_active_requests",
            "Requests that have a connection to an endpoint, or wait for one.",
            labels=_ENDPOINT,
        )
        self.duration = SummaryMetricFamily(
            "sitio_upstream_endpoint_response_seconds",
            "Waits for the heads of the responses of an endpoint.",
            labels=_ENDPOINT,
        )
        self.all: list[Metric] = [
            *(self.usable, self.sent, self.failed, self.ejections, self.active, self.duration)
        ]

    def add(
        self,
        labels: Labels,
        sent: float,
        failed: float,
        ejections: float,
        outstanding: float,
        answered: float,
        seconds: float,
        usable: float,
        processes: float,
    ) -> None:
        """The series of one endpoint."""
        self.usable.add_metric(labels, usable / processes)
        self.sent.add_metric(labels, sent)
        self.failed.add_metric(labels, failed)
        self.ejections.add_metric(labels, ejections)
        self.active.add_metric(labels, outstanding)
        self.duration.add_metric(labels, int(answered), seconds)
