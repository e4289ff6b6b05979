"""
Promises of L{sitio.telemetry.reopen}: SIGUSR1 has files opened anew.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.telemetry.reopen import ReopenSignal, callOnReopenSignal


class SignalTests(SynchronousTestCase):
    """SIGUSR1."""

    def setUp(self) -> None:
        self.calls: list[str] = []
        self.handlers: dict[int, Any] = {signal.SIGUSR1: signal.SIG_DFL}

    def callFromThread(self, call: Callable[[], None]) -> None:
        """As of a reactor."""
        self.calls.append("in the reactor's turn")
        call()

    def onSignal(self, number: int, handler: Any) -> Any:
        """C{signal.signal}."""
        before, self.handlers[number] = self.handlers[number], handler
        return before

    def test_called(self) -> None:
        """It has what it is for called by the reactor, and not amid whatever it interrupts."""
        callOnReopenSignal(self, lambda: self.calls.append("reopen"), self.onSignal)  # type: ignore[arg-type]
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        self.assertEqual(self.calls, ["in the reactor's turn", "reopen"])

    def test_before(self) -> None:
        """Who was to be called before still is: twistd rotates its log by it."""
        self.handlers[signal.SIGUSR1] = lambda number, frame: self.calls.append("twistd")
        callOnReopenSignal(self, lambda: self.calls.append("reopen"), self.onSignal)  # type: ignore[arg-type]
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        self.assertEqual(self.calls[1:], ["reopen", "twistd"])

    def test_service(self) -> None:
        """A parent passes it on from its start."""
        calls = self.calls
        ReopenSignal(self, lambda: calls.append("reopen"), self.onSignal).startService()  # type: ignore[arg-type]
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        self.assertEqual(calls[1:], ["reopen"])
