"""
Tests of L{sitio.net.singleflight}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.singleflight import SingleFlight


class SingleFlightTests(SynchronousTestCase):
    """Callers that ask at the same time share one run."""

    def setUp(self) -> None:
        self.runs: list[tuple[tuple[Any, ...], Deferred[str]]] = []
        self.flight: SingleFlight[str] = SingleFlight(self.start)

    def start(self, *arguments: Any) -> Deferred[str]:
        """A run that ends when the test says so."""
        result: Deferred[str] = Deferred()
        self.runs.append((arguments, result))
        return result

    def test_shared(self) -> None:
        """Callers that come during a run get its result."""
        callers = [self.flight.run() for _ in range(3)]
        [(_, run)] = self.runs
        self.assertNoResult(callers[0])
        run.callback("made")
        self.assertEqual([self.successResultOf(each) for each in callers], ["made"] * 3)

    def test_notKept(self) -> None:
        """A caller that comes after the end starts a new run."""
        self.flight.run()
        self.runs[0][1].callback("old")
        late = self.flight.run()
        self.runs[1][1].callback("new")
        self.assertEqual(self.successResultOf(late), "new")

    def test_callerRunsAgain(self) -> None:
        """A caller that asks again when it gets the result starts a new run."""
        again = self.flight.run().addCallback(lambda _: self.flight.run())
        other = self.flight.run()
        self.runs[0][1].callback("first")
        self.assertEqual(self.successResultOf(other), "first")
        self.assertNoResult(again)
        self.runs[1][1].callback("second")
        self.assertEqual(self.successResultOf(again), "second")

    def test_failure(self) -> None:
        """All callers get the failure of their run, and the next starts a new one."""
        callers = [self.flight.run() for _ in range(2)]
        self.runs[0][1].errback(ValueError("bad"))
        for each in callers:
            self.assertEqual(self.failureResultOf(each, ValueError).getErrorMessage(), "bad")
        self.assertNoResult(self.flight.run())
        self.assertEqual(len(self.runs), 2)

    def test_raises(self) -> None:
        """A function that raises fails the run."""

        def bad() -> str:
            raise ValueError("bad")

        flight: SingleFlight[str] = SingleFlight(bad)
        self.failureResultOf(flight.run(), ValueError)
        self.failureResultOf(flight.run(), ValueError)

    def test_cancelled(self) -> None:
        """A caller that is cancelled disturbs neither the run nor the other callers."""
        first, second = self.flight.run(), self.flight.run()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.runs[0][1].callback("made")
        self.assertEqual(self.successResultOf(second), "made")

    def test_allCancelled(self) -> None:
        """A run continues without callers, and a new caller joins it."""
        first = self.flight.run()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        second = self.flight.run()
        self.assertEqual(len(self.runs), 1)
        self.runs[0][1].callback("made")
        self.assertEqual(self.successResultOf(second), "made")

    def test_arguments(self) -> None:
        """Calls with different arguments have runs of their own."""
        callers = [self.flight.run(each) for each in ("a", "b", "a")]
        self.assertEqual([arguments for arguments, _ in self.runs], [("a",), ("b",)])
        for (name,), run in self.runs:
            run.callback(f"{name}!")
        self.assertEqual([self.successResultOf(each) for each in callers], ["a!", "b!", "a!"])

    def test_immediate(self) -> None:
        """A function that returns its result at once needs no Deferred."""
        flight = SingleFlight(lambda: "made")
        self.assertEqual(self.successResultOf(flight.run()), "made")
