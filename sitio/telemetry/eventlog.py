"""
The log of sitio, as text or as JSON: L{jsonLine}, L{withLog}.

C{twistd} opens the log: on standard output, in a file, or at syslog.  L{LoggingService} tells it
which lines to write there, and how.

In JSON each event is an object on a line of its own: C{time} (RFC 3339), C{level}, C{namespace},
C{message}, then the fields of the event by their names, and C{traceback} if there is one.

Contract: no I/O but the log.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from typing import Any, cast

from twisted.application.service import IServiceCollection, MultiService
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.components import Componentized

from sitio.errors import CannotStart

#: Levels by their names, the lowest first.
LEVELS = ("debug", "info", "warn", "error")

#: Forms of the log.
TEXT, JSON = FORMATS = ("text", "json")

#: Characters of a text in JSON: a traceback has some thousand.
MAX_TEXT = 32 * 1024

#: Members of a list or an object in a field, and objects in each other.
MAX_MEMBERS = 100
MAX_DEPTH = 4

#: Fields that Twisted adds, and its old ones; the rest are those of the event.
_TWISTEDS = frozenset(
    ("format", "isError", "message", "printed", "system", "time", "why", "failure", "logLevel")
)

#: The namespace of what Twisted logs without one.
_TWISTED = "twisted"

#: Members that each object may have; a field of the same name gets an underscore.
_MEMBERS = ("time", "level", "namespace", "message", "traceback")


def jsonLine(event: LogEvent) -> str:
    """A log event as a line of JSON, in ASCII, with its line end."""
    level = event.get("log_level", LogLevel.info)
    namespace = event.get("log_namespace", "-")
    line: dict[str, Any] = {
        "time": _timeOf(event.get("log_time", 0.0)),
        "level": level.name,
        "namespace": _TWISTED if namespace == "log_legacy" else namespace,
        "message": _bounded(formatEvent(event)),
    }
    for name, value in _fieldsOf(event):
        line[f"{name}_" if name in _MEMBERS else name] = value
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = _traceback(failure)
    return json.dumps(line) + "\n"


def _timeOf(seconds: float) -> str:
    when = datetime.fromtimestamp(seconds, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def _traceback(failure: Any) -> str:
    try:
        return _bounded(failure.getTraceback().rstrip())
    except Exception as error:
        return f"the traceback can't be shown: {error!r}"


def _fieldsOf(event: LogEvent) -> list[tuple[str, Any]]:
    """The fields of an event that can be shown."""
    # Also in events that an observer of the old log has seen.
    isOld = "log_legacy" in event
    shown = _named(event.get("log_format"))
    found = []
    for name, value in event.items():
        if name.startswith("log_") or (isOld and name in _TWISTEDS):
            continue
        plain = _plain(value, isShown=name in shown)
        if plain is not None:
            found.append((name, plain))
    return found


def _named(form: Any) -> set[str]:
    """
    The fields that the text of an event shows.  Objects are shown in these only: what an object
    says of itself may be secret.
    """
    if not isinstance(form, str):
        return set()
    try:
        # Only "{name}", not "{name.attribute}": of that the text has a part only.
        return {name for _, name, _, _ in string.Formatter().parse(form) if name}
    except ValueError:
        return set()


def _plain(value: Any, isShown: bool = False, depth: int = MAX_DEPTH) -> Any:
    """A value as plain data; L{None} if it can't be shown."""
    if isinstance(value, str):
        return _bounded(value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, dict | list | tuple) and depth:
        return _plainMembers(value, depth)
    if not isShown or value is None:
        return None
    try:
        return _bounded(str(value))
    except Exception:
        return None


def _plainMembers(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        if "unpersistable" in value or "__class_uuid__" in value:
            # Of a worker: an object that JSON does not have.
            return None
        pairs = list(value.items())[:MAX_MEMBERS]
        return {_bounded(str(key)): _plain(each, depth=depth - 1) for key, each in pairs}
    return [_plain(each, depth=depth - 1) for each in value[:MAX_MEMBERS]]


def filtered(opened: Any, form: str, level: str) -> Callable[[LogEvent], Any]:
    """
    What writes the log.

    @param opened: the observer that writes all of it as text.
    @param form: one of L{FORMATS}.
    @param level: the lowest of L{LEVELS} that is written.
    """
    if not ILogObserver.providedBy(opened):
        opened = LegacyLogObserverWrapper(opened)
    elif form == JSON:
        # A FileLogObserver.
        cast(Any, opened).formatEvent = jsonLine
    predicate = LogLevelFilterPredicate(LogLevel.lookupByName(level))
    return FilteringLogObserver(opened, [predicate])


def withLog(service: Any, twistd: Any, form: str, level: str) -> Any:
    """
    The service, with a parent that brings the observer of its log.

    The log is where it would be without: on standard output, in C{twistd}'s file, at syslog.

    @param twistd: the options of C{twistd}; L{None} if something else runs the service.
    @param form: as above; C{level} too.

    @raise CannotStart: syslog gets no JSON.
    """
    if twistd is None or twistd.get("logger") or (form, level) == (TEXT, LEVELS[0]):
        return service
    if form == JSON and twistd.get("syslog"):
        raise CannotStart("sitio: --log-format json can't go to syslog: leave out one of them")
    # twistd has it.
    from twisted.scripts._twistd_unix import UnixAppLogger

    parent = LoggingService(filtered(UnixAppLogger(twistd)._getLogObserver(), form, level))
    service.setServiceParent(IServiceCollection(parent))
    return parent


class LoggingService(MultiService):
    """The parent of a service that brings the observer of its log."""

    def __init__(self, observer: Callable[[LogEvent], Any]) -> None:
        """@param observer: gets all events of the process."""
        MultiService.__init__(self)
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:
        """
        Become a part of C{twistd}'s application, which asks for the observer when it begins to
        log, unless it was started with C{--logger}.
        """
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        MultiService.setServiceParent(self, parent)
