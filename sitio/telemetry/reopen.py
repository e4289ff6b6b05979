"""
SIGUSR1 has log files opened anew, after a log rotation has renamed them.

Contract: the reactor and C{signal.signal} are passed in.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorFromThreads


def callOnReopenSignal(
    reactor: IReactorFromThreads,
    call: Callable[[], Any],
    onSignal: Callable[[int, Any], Any] = signal.signal,
) -> None:
    """Add a call to what SIGUSR1 does already; twistd opens its own log anew."""

    def signalled(number: int, frame: Any) -> None:
        reactor.callFromThread(call)
        if callable(before):
            before(number, frame)

    before = onSignal(signal.SIGUSR1, signalled)


class ReopenSignal(Service):
    """Passes SIGUSR1 on to worker processes, which open their files anew."""

    def __init__(
        self,
        reactor: IReactorFromThreads,
        reopen: Callable[[], Any],
        onSignal: Callable[[int, Any], Any] = signal.signal,
    ) -> None:
        """
        @param reopen: tells the worker processes.
        """
        self._reactor = reactor
        self._reopen = reopen
        self._onSignal = onSignal

    def startService(self) -> None:
        """Begin to react to the signal."""
        Service.startService(self)
        callOnReopenSignal(self._reactor, self._reopen, self._onSignal)
