"""
Tests of L{sitio.telemetry.upstreammetrics}: what Prometheus gets of upstreams.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.telemetry.series import ENDPOINTS, Series
from sitio.telemetry.upstreams import UpstreamMetrics, countersOfUpstreams
from sitio.test.helpers.metrics import exposed, promtool
from sitio.test.helpers.snapshots import upstreamEndpoint, upstreamOf, workerSnapshot


def linesOf(*upstreams: UpstreamMetrics, series: Series | None = None) -> list[str]:
    """The samples of upstreams on the page."""
    body = exposed({**workerSnapshot(), "upstreams": list(upstreams)}, series=series)[0].decode()
    return [each for each in body.splitlines() if each.startswith("sitio_upstream_endpoint")]


class UpstreamMetricsTests(SynchronousTestCase):
    """The page C{/metrics}."""

    def test_endpoint(self) -> None:
        """Each endpoint has its counts."""
        endpoint = upstreamEndpoint(
            "a:1", sent=9, answered=8, failed=2, seconds=1.5, ejections=1, outstanding=3
        )
        lines = linesOf(upstreamOf("photos", endpoint))
        labels = '{endpoint="a:1",upstream="photos"}'
        for expected in (
            f"sitio_upstream_endpoint_usable{labels} 1.0",
            f"sitio_upstream_endpoint_requests_total{labels} 9.0",
            f"sitio_upstream_endpoint_failures_total{labels} 2.0",
            f"sitio_upstream_endpoint_ejections_total{labels} 1.0",
            f"sitio_upstream_endpoint_active_requests{labels} 3.0",
            f"sitio_upstream_endpoint_response_seconds_count{labels} 8.0",
            f"sitio_upstream_endpoint_response_seconds_sum{labels} 1.5",
        ):
            self.assertIn(expected, [_sorted(each) for each in lines])

    def test_retries(self) -> None:
        """Retries are counted by upstream, also where there is one endpoint."""
        upstream: UpstreamMetrics = {
            **upstreamOf("p", upstreamEndpoint("a")),
            "judged": False,
            "retries": 5,
            "hedges": 2,
            "refused": 3,
        }
        body = exposed({**workerSnapshot(), "upstreams": [upstream]})[0].decode()
        for expected in (
            'sitio_upstream_retries_total{upstream="p"} 5.0',
            'sitio_upstream_hedges_total{upstream="p"} 2.0',
            'sitio_upstream_refused_retries_total{upstream="p"} 3.0',
        ):
            self.assertIn(expected, body.splitlines())

    def test_states(self) -> None:
        """Endpoints are counted by state, also those of which there are none."""
        lines = linesOf(
            upstreamOf("p", upstreamEndpoint("a"), upstreamEndpoint("b", "ejected")),
            upstreamOf("q", upstreamEndpoint("a")),
        )
        counts = {each for each in map(_sorted, lines) if "sitio_upstream_endpoints{" in each}
        self.assertEqual(len(counts), 10)
        self.assertIn('sitio_upstream_endpoints{state="ejected",upstream="p"} 1.0', counts)
        self.assertIn('sitio_upstream_endpoints{state="ejected",upstream="q"} 0.0', counts)

    def test_share(self) -> None:
        """Where processes differ, an endpoint is usable in part."""
        endpoint = {**upstreamEndpoint("a"), "states": {"healthy": 2, "warming": 1, "ejected": 1}}
        lines = linesOf(upstreamOf("p", endpoint))  # type: ignore[arg-type]
        self.assertIn(
            'sitio_upstream_endpoint_usable{endpoint="a",upstream="p"} 0.75', map(_sorted, lines)
        )

    def test_plain(self) -> None:
        """One endpoint that nothing judges has no such series: the others say the same."""
        self.assertEqual(linesOf({**upstreamOf("p", upstreamEndpoint("a")), "judged": False}), [])

    def test_ended(self) -> None:
        """An endpoint that only ended processes knew has no series."""
        ended = countersOfUpstreams([upstreamOf("p", upstreamEndpoint("a"))])
        self.assertFalse([each for each in linesOf(*ended) if "endpoint=" in each])

    def test_bounded(self) -> None:
        """Endpoints beyond the limit are added up; those that leave make room for others."""
        series = Series()
        endpoints = [upstreamEndpoint(f"a:{number}", sent=1) for number in range(ENDPOINTS + 9)]
        lines = linesOf(upstreamOf("p", *endpoints), series=series)
        sent = [each for each in lines if "requests_total" in each]
        self.assertEqual(len(sent), ENDPOINTS + 1)
        self.assertIn(
            'sitio_upstream_endpoint_requests_total{endpoint="_OTHER",upstream="p"} 9.0',
            map(_sorted, sent),
        )
        lines = linesOf(upstreamOf("p", *endpoints[20:]), series=series)
        self.assertFalse([each for each in lines if "_OTHER" in each])

    def test_promtool(self) -> None:
        """Prometheus's own tool finds nothing wrong with the page."""
        upstreams = [upstreamOf("p", upstreamEndpoint("a", sent=3))]
        body = exposed({**workerSnapshot(), "upstreams": upstreams})[0]
        status, said = promtool("check", "metrics", stdin=body)
        self.assertEqual((status, said), (0, ""))


def _sorted(line: str) -> str:
    """A sample with its labels in the order of their names."""
    name, _, rest = line.partition("{")
    labels, _, value = rest.partition("}")
    return f"{name}{{{','.join(sorted(labels.split(',')))}}}{value}"
