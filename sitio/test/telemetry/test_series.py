"""
Promises of L{sitio.telemetry.series}: the number of series is limited.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.net.turns import atOnce
from sitio.telemetry.series import FEW, MANY, LimitedFamily, Series


class FamilyTests(SynchronousTestCase):
    """The combinations of labels of one metric."""

    def setUp(self) -> None:
        self.family = LimitedFamily(2, lambda labels: ("others",))

    def test_busiestFirst(self) -> None:
        """The first page chooses the busiest; the others are added up."""
        found = {(each,): [float(times), 1.0] for each, times in (("a", 1), ("b", 9), ("c", 5))}
        limited = atOnce(self.family.limited(found | {("d",): [2.0, 3.0]}))
        self.assertEqual(limited, {("b",): [9.0, 1.0], ("c",): [5.0, 1.0], ("others",): [3.0, 4.0]})

    def test_kept(self) -> None:
        """A combination keeps its series, and its place, whatever comes later."""
        atOnce(self.family.limited({("a",): [1.0]}))
        atOnce(self.family.limited({("a",): [1.0], ("b",): [1.0], ("c",): [9.0]}))
        limited = atOnce(self.family.limited({("c",): [99.0], ("b",): [7.0], ("a",): [2.0]}))
        # b and c were new at once, and c was the busier.
        self.assertEqual(limited, {("c",): [99.0], ("others",): [7.0], ("a",): [2.0]})

    def test_rising(self) -> None:
        """A sum does not fall by rounding; one that falls by more is told as it is."""
        for seconds, expected in ((0.3, 0.3), (0.1 + 0.2, 0.1 + 0.2), (0.3, 0.1 + 0.2), (0.2, 0.2)):
            self.assertEqual(self.family.rising(("a",), seconds), expected)
        self.assertEqual(self.family.rising(("b",), 0.0), 0.0)

    def test_unchanged(self) -> None:
        """The counts that were given stay as they are."""
        found = {(each,): [1.0] for each in "abcd"}
        counts = list(found.values())
        atOnce(self.family.limited(found))
        self.assertEqual(counts, [[1.0]] * 4)


class FoldTests(SynchronousTestCase):
    """What combinations without series of their own count as."""

    def test_outcomes(self) -> None:
        """
        Their class and their failure stay known, so that sums by class and of failures
        are right; who leaves is told from what fails.
        """
        family = Series().durations
        atOnce(family.limited({("GET", "", f"{200 + each}", ""): [9.0] for each in range(FEW)}))
        for status, error, expected in (
            ("101", "", ("", "")),
            ("226", "", ("2xx", "")),
            ("302", "", ("3xx", "")),
            ("404", "", ("4xx", "")),
            ("404", "404", ("4xx", "4xx")),
            ("500", "500", ("5xx", "5xx")),
            ("5xx", "5xx", ("5xx", "5xx")),
            ("600", "600", ("", "_OTHER")),
            ("", "timeout", ("", "_OTHER")),
            ("200", "connection_lost", ("", "_OTHER")),
            ("200", "client_gone", ("", "client_gone")),
            ("", "client_gone", ("", "client_gone")),
            ("", "outrun", ("", "outrun")),
            ("", "", ("", "")),
        ):
            limited = atOnce(family.limited({("PUT", "/a", status, error): [1.0]}))
            self.assertEqual(limited, {("_OTHER", "", *expected): [1.0]}, (status, error))

    def test_others(self) -> None:
        """Methods and masked failures, too."""
        series = Series()
        sizes = atOnce(series.sizes.limited({(f"M{each}", ""): [1.0] for each in range(9)}))
        self.assertEqual(sizes["_OTHER", ""], [5.0])
        masked = atOnce(
            series.masked.limited({("GET", "", f"{500 + each}"): [1.0] for each in range(9)})
        )
        self.assertEqual(masked["_OTHER", "", "5xx"], [5.0])

    def test_routed(self) -> None:
        """With templates many more are told apart."""
        found = {("GET", f"/{each}", "200", ""): [1.0] for each in range(MANY)}
        self.assertEqual(atOnce(Series(isRouted=True).durations.limited(dict(found))), found)
