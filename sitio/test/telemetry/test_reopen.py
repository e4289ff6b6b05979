"""
Promises of L{sitio.telemetry.reopen}: SIGUSR1 has files opened anew.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.telemetry.reopen import callOnReopenSignal


class SignalTests(SynchronousTestCase):
    """SIGUSR1 and its handlers."""

    def setUp(self) -> None:
        self.calls: list[str] = []
        self.handlers: dict[int, Any] = {signal.SIGUSR1: signal.SIG_DFL}

    def callFromThread(self, call: Callable[[], None]) -> None:
        """As C{IReactorFromThreads} does."""
        self.calls.append("in the reactor's turn")
        call()

    def onSignal(self, number: int, handler: Any) -> Any:
        """As C{signal.signal} does."""
        before, self.handlers[number] = self.handlers[number], handler
        return before

    def test_called(self) -> None:
        """The call runs in the reactor's thread, not in the signal handler."""
        callOnReopenSignal(self, lambda: self.calls.append("reopen"), self.onSignal)  # type: ignore[arg-type]
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        self.assertEqual(self.calls, ["in the reactor's turn", "reopen"])

    def test_before(self) -> None:
        """The handler before it is still called: that of a policy, or sitio's own."""
        self.handlers[signal.SIGUSR1] = lambda number, frame: self.calls.append("before")
        callOnReopenSignal(self, lambda: self.calls.append("reopen"), self.onSignal)  # type: ignore[arg-type]
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        self.assertEqual(self.calls[1:], ["reopen", "before"])
