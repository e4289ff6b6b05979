"""
The certificates of ports and upstreams for Prometheus.

Contract: plain data in, families of metrics out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from sitio.telemetry.certificates import TLSMetrics

_PART = ["role", "name"]


def certificateFamilies(rows: Iterable[TLSMetrics]) -> Iterator[Metric]:
    """The families of metrics; none without TLS from files."""
    every = list(rows)
    if not every:
        return
    ends = GaugeMetricFamily(
        "sitio_certificate_expiry_timestamp_seconds",
        "When a certificate ends, in seconds since 1970.",
        labels=[*_PART, "subject", "serial"],
    )
    rejected = GaugeMetricFamily(
        "sitio_tls_files_rejected",
        "1 while the files of TLS can't be used as they are, and those before are in use.",
        labels=_PART,
    )
    for row in every:
        part = [row["role"], row["name"]]
        for each in row["certificates"]:
            ends.add_metric([*part, each["subject"], each["serial"]], each["ends"])
        rejected.add_metric(part, 1 if row["problem"] else 0)
    yield ends
    yield rejected
