"""
A log observer that keeps the events.
"""

from __future__ import annotations

from attrs import define, field
from twisted.logger import (
    ILogObserver,
    LogEvent,
)
from zope.interface import implementer


@implementer(ILogObserver)
@define
class LogRecorder:
    """
    A log observer.

    @ivar events: the events that it has received, in order.
    """

    events: list[LogEvent] = field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)
