"""
A log observer that keeps the events.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field
from twisted.logger import (
    ILogObserver,
    LogEvent,
    formatEvent,
    globalLogPublisher,
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

    def texts(self) -> list[str]:
        """The texts of the events."""
        return [formatEvent(each) for each in self.events]


@contextmanager
def recorded() -> Iterator[LogRecorder]:
    """Keep what is logged meanwhile, by whomever."""
    recorder = LogRecorder()
    globalLogPublisher.addObserver(recorder)
    try:
        yield recorder
    finally:
        globalLogPublisher.removeObserver(recorder)
