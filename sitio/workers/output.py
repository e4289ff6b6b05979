"""
A worker's standard output, which becomes log events of the supervisor.

A worker writes its log events as JSON lines (L{encodeEvent}); the supervisor logs them
again with the worker's number (L{OutputLogger}).  Other lines, such as those of C{print},
are logged as text.
"""

from __future__ import annotations

from contextlib import suppress

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import LogEvent, Logger, eventAsJSON, eventFromJSON
from twisted.python.failure import Failure

#: The longest line of a worker's output; a longer one is logged in pieces.
MAX_LINE_BYTES = 1024 * 1024

# ASCII's record separator: what begins with it is an event.
_RECORD = "\x1e"


def encodeEvent(event: LogEvent) -> str:
    """A log event as a line of text for L{OutputLogger}."""
    failure = event.get("log_failure")
    if failure is not None:
        event = {**event, "log_error": failure.getErrorMessage()}
    return f"{_RECORD}{eventAsJSON(event)}\n"


class OutputLogger(Protocol):
    """
    Logs what a worker writes to its standard output.

    Each event has the worker's number in the field C{worker} and in C{log_system}.
    """

    def __init__(self, number: int, log: Logger) -> None:
        """
        @param number: the worker's.
        """
        self._number = number
        self._log = log
        self._rest = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for each in lines:
            self._publish(each.decode("utf-8", "replace"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._rest:
            self._publish(self._rest.decode("utf-8", "replace"))

    def _publish(self, line: str) -> None:
        event: LogEvent = {}
        if line.startswith(_RECORD):
            # The line is cut off if the worker was killed while it wrote.
            with suppress(ValueError, LookupError):
                event = eventFromJSON(line.removeprefix(_RECORD))
        if not event:
            self._log.warn("{line}", line=line, worker=self._number, log_system=self._system())
            return
        if "log_failure" in event:
            # JSON has no exception objects; this one has the same message.
            event["log_failure"].value = RuntimeError(event["log_error"])
        level = event.get("log_level")
        system = event.get("log_system") or (
            f"{event.get('log_namespace', '-')}#{level.name if level else '-'}"
        )
        self._log.observer({**event, "worker": self._number, "log_system": self._system(system)})

    def _system(self, system: str = "-") -> str:
        return f"{system} worker={self._number}"
