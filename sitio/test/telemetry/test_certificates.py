"""
Promises of L{sitio.telemetry.certificates} and L{sitio.telemetry.certificatemetrics}.
"""

from __future__ import annotations

from copy import deepcopy

from twisted.trial.unittest import SynchronousTestCase

from sitio.telemetry.certificatemetrics import certificateFamilies
from sitio.telemetry.certificates import TLSMetrics, mergeTLS, warningsOf


def row(name: str, *serials: str, problem: str = "", warnings: tuple[str, ...] = ()) -> TLSMetrics:
    """The TLS of a port."""
    return {
        "role": "listener",
        "name": name,
        "certificates": [
            {"subject": "CN=a", "serial": each, "ends": 1000.0 + int(each)} for each in serials
        ],
        "problem": problem,
        "warnings": list(warnings),
    }


class MergeTests(SynchronousTestCase):
    """What several processes say."""

    def test_same(self) -> None:
        """Workers with the same certificates are as one."""
        rows = [row("a", "1"), row("b", "2", warnings=("soon",))]
        before = deepcopy(rows)
        self.assertEqual(mergeTLS(rows, rows), rows)
        self.assertEqual(mergeTLS(rows, []), rows)
        self.assertEqual(rows, before)

    def test_atOtherMoments(self) -> None:
        """What only one of them has is told, too."""
        one = [row("a", "1", warnings=("soon",))]
        two = [row("a", "2", problem="broken", warnings=("soon", "broken"))]
        merged = mergeTLS(one, two)
        self.assertEqual(
            merged, [row("a", "1", "2", problem="broken", warnings=("soon", "broken"))]
        )
        self.assertEqual(warningsOf(merged), ["soon", "broken"])
        self.assertEqual(one, [row("a", "1", warnings=("soon",))])


class FamilyTests(SynchronousTestCase):
    """The metrics."""

    def test_families(self) -> None:
        """The end of each certificate, and whether the files are used, for each port."""
        ends, rejected = certificateFamilies([row("a", "1", "2"), row("b", problem="broken")])
        self.assertEqual(ends.name, "sitio_certificate_expiry_timestamp_seconds")
        self.assertEqual(
            [(each.labels, each.value) for each in ends.samples],
            [
                (
                    {"role": "listener", "name": "a", "subject": "CN=a", "serial": serial},
                    1000.0 + int(serial),
                )
                for serial in "12"
            ],
        )
        self.assertEqual(rejected.name, "sitio_tls_files_rejected")
        self.assertEqual(
            [(each.labels["name"], each.value) for each in rejected.samples], [("a", 0), ("b", 1)]
        )

    def test_without(self) -> None:
        """Without TLS from files there are none."""
        self.assertEqual(list(certificateFamilies([])), [])
