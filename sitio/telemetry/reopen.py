"""
SIGUSR1 has log files opened anew, after a log rotation has renamed them.

Contract: the reactor and C{signal.signal} are passed in.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads


def callOnReopenSignal(
    reactor: IReactorFromThreads,
    call: Callable[[], Any],
    onSignal: Callable[[int, Any], Any] = signal.signal,
) -> None:
    """Add a call to what SIGUSR1 does already; see L{sitio.net.signals}."""

    def signalled(number: int, frame: Any) -> None:
        reactor.callFromThread(call)
        if callable(before):
            before(number, frame)

    before = onSignal(signal.SIGUSR1, signalled)
