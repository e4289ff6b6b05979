"""
Promises of L{sitio.telemetry.eventlog}: the log as JSON, and from a level on.

C{system.test_command} sees the log of whole processes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from twisted.application.service import Application, IService, Service
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
    eventAsJSON,
    eventFromJSON,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.config.values import LOG_FORMATS, LOG_LEVELS
from sitio.errors import CannotStart
from sitio.telemetry.eventlog import (
    FORMATS,
    LEVELS,
    MAX_MEMBERS,
    MAX_TEXT,
    filtered,
    jsonLine,
    withLog,
)
from sitio.test.helpers.logs import recorded


class Hidden:
    """An object that tells a secret of itself."""

    def __str__(self) -> str:
        return "s3cr3t"


class Broken:
    """An object that can't be written."""

    def __str__(self) -> str:
        raise ValueError("no")


def eventOf(log: Callable[[Logger], Any]) -> LogEvent:
    """The event that a function logs."""
    with recorded() as recorder:
        log(Logger(namespace="here"))
    [event] = recorder.events
    return event


def madeUp(text: str, level: Any = LogLevel.info) -> LogEvent:
    """An event that nobody has logged."""
    return {"log_level": level, "log_format": text, "log_time": 0.0, "log_namespace": "here"}


def parsed(event: LogEvent) -> dict[str, Any]:
    """The object that stands in the log for an event."""
    line = jsonLine(event)
    assert line.endswith("\n") and line.count("\n") == 1 and line.isascii()
    found: dict[str, Any] = json.loads(line)
    return found


class JsonTests(SynchronousTestCase):
    """An event as JSON."""

    def test_members(self) -> None:
        """It has time, level, namespace, message, and its fields."""
        event = eventOf(
            lambda log: log.warn("{a} of\n{b}", a=1, b="\xe9", c=None, d=[1, {"e": 2.5}])
        )
        event["log_time"] = 1234567890.1234
        self.assertEqual(
            parsed(event),
            {
                "time": "2009-02-13T23:31:30.123Z",
                "level": "warn",
                "namespace": "here",
                "message": "1 of\n\xe9",
                "a": 1,
                "b": "\xe9",
                "d": [1, {"e": 2.5}],
            },
        )

    def test_objects(self) -> None:
        """An object is shown if the text shows it: what else it says may be secret."""
        found = parsed(eventOf(lambda log: log.info("{a}", a=Hidden(), b=Hidden(), c=[Hidden()])))
        self.assertEqual((found["a"], found["c"], "b" in found), ("s3cr3t", [None], False))
        found = parsed(eventOf(lambda log: log.info("{a.__class__}", a=Hidden(), b=Broken())))
        self.assertNotIn("s3cr3t", json.dumps(found))
        self.assertIn(
            "Unable to format", parsed(eventOf(lambda log: log.info("{a}", a=Broken())))["message"]
        )

    def test_clash(self) -> None:
        """A field never hides a member of its name; NaN is no number of JSON."""
        found = parsed({**madeUp("x"), "level": "high", "time": 3, "a": float("nan")})
        self.assertEqual((found["level"], found["level_"], found["time_"]), ("info", "high", 3))
        self.assertEqual(found["a"], "nan")

    def test_traceback(self) -> None:
        """A failure is a member, with the traceback as text."""

        def fail(log: Logger) -> None:
            try:
                1 / 0  # noqa: B018
            except ZeroDivisionError:
                log.failure("it failed", what="b")

        event = eventOf(fail)
        self.flushLoggedErrors(ZeroDivisionError)
        found = parsed(event)
        self.assertEqual((found["level"], found["message"]), ("critical", "it failed"))
        self.assertIn("ZeroDivisionError: division by zero", found["traceback"])
        self.assertEqual(found["what"], "b")
        # As it comes from a worker.
        again = parsed({**eventFromJSON(eventAsJSON(event)), "worker": 2})
        self.assertEqual((again["worker"], again["message"]), (2, "it failed"))
        self.assertIn("ZeroDivisionError", again["traceback"])

    def test_worker(self) -> None:
        """What a worker could not send, objects, is left out."""
        event = eventOf(lambda log: log.info("{a} {n}", a=Hidden(), n=1))
        found = parsed(eventFromJSON(eventAsJSON(event)))
        self.assertEqual((found["message"], found["n"], "a" in found), ("s3cr3t 1", 1, False))

    def test_old(self) -> None:
        """Events of Twisted's old log have their text, and no fields of that log."""
        from twisted.python import log

        with recorded() as recorder:
            log.msg("Starting", "now", system="factory")
        found = parsed(recorder.events[0])
        self.assertEqual(found.keys(), {"time", "level", "namespace", "message"})
        self.assertEqual((found["message"], found["namespace"]), ("Starting now", "twisted"))

    def test_bounds(self) -> None:
        """Long texts and lists are cut."""
        long = ["x" * (MAX_TEXT + 1)] * (MAX_MEMBERS + 1)
        deep: list[Any] = []
        for _ in range(100):
            deep = [deep]
        found = parsed(eventOf(lambda log: log.info("{a}", a=long[0], b=long, c=deep)))
        self.assertEqual({len(found[each]) for each in ("message", "a")}, {MAX_TEXT})
        self.assertEqual((len(found["b"]), len(found["b"][0])), (MAX_MEMBERS, MAX_TEXT))
        self.assertEqual(json.dumps(found["c"]).count("["), 4)


class FilterTests(SynchronousTestCase):
    """What is written."""

    def test_words(self) -> None:
        """Levels and forms are those of the options."""
        self.assertEqual((LEVELS, FORMATS), (LOG_LEVELS, LOG_FORMATS))

    def test_level(self) -> None:
        """Lines below the level are left out, in either form."""
        for form in FORMATS:
            for place, level in enumerate(LEVELS):
                file = io.StringIO()
                observer = filtered(textFileLogObserver(file), form, level)
                for each in LEVELS:
                    observer(madeUp(f"<{each}>", LogLevel.lookupByName(each)))
                lines = file.getvalue().splitlines()
                self.assertEqual(len(lines), len(LEVELS) - place)
                self.assertIn(f"<{level}>", lines[0])
                self.assertEqual(lines[0].startswith("{"), form == "json")

    def test_syslog(self) -> None:
        """An observer of Twisted's old kind, as that of syslog, gets its events as before."""
        got: list[Any] = []
        observer = filtered(got.append, "text", "warn")
        observer(madeUp("a", LogLevel.info))
        observer(madeUp("b", LogLevel.error))
        self.assertEqual([each["log_format"] for each in got], ["b"])


class ServiceTests(SynchronousTestCase):
    """How C{twistd} gets the observer."""

    def application(self, form: str, level: str, **twistd: Any) -> Any:
        """twistd's application with the service."""
        service = withLog(Service(), {"nodaemon": True, "logfile": "-", **twistd}, form, level)
        application: Any = Application("sitio")
        service.setServiceParent(application)
        services: Any = IService(application)
        [found] = services
        self.assertIs(found, service)
        return application.getComponent(ILogObserver, None)

    def test_component(self) -> None:
        """It is a component of the application, as C{twistd} asks for it."""
        for form, level in (("text", "info"), ("json", "debug")):
            observer: Any = self.application(form, level)
            verifyObject(ILogObserver, observer)
            self.assertEqual(self.line(observer._observer).startswith("{"), form == "json")

    def line(self, observer: FileLogObserver) -> str:
        """How an observer writes an event."""
        return str(observer.formatEvent(madeUp("a")))

    def test_left(self) -> None:
        """Without need, and with C{--logger}, the log is C{twistd}'s own."""
        self.assertIsNone(self.application("text", "debug"))
        self.assertIsNone(self.application("json", "warn", logger="a.b"))
        service = Service()
        self.assertIs(withLog(service, None, "json", "info"), service)

    def test_syslog(self) -> None:
        """syslog gets no JSON, but the level counts there, too."""
        error = self.assertRaises(CannotStart, self.application, "json", "info", syslog=True)
        self.assertIn("--log-format json can't go to syslog", str(error))
        observer: Any = self.application("text", "warn", syslog=True, prefix="sitio")
        self.assertIsInstance(observer._observer, LegacyLogObserverWrapper)

    def test_file(self) -> None:
        """The lines go to twistd's file."""
        path = self.mktemp()
        observer = self.application("json", "info", logfile=path)
        observer(madeUp("hello"))
        with open(path) as file:
            self.assertEqual(json.loads(file.read())["message"], "hello")

    def test_together(self) -> None:
        """The service starts and stops with its parent."""
        service = Service()
        parent = withLog(service, {"nodaemon": True}, "json", "info")
        parent.startService()
        self.assertTrue(service.running)
        parent.stopService()
        self.assertFalse(service.running)


def failureOf(error: Exception) -> Failure:
    """A failure without a traceback."""
    return Failure(error)


class UnreadableTests(SynchronousTestCase):
    """What can't be written."""

    def test_traceback(self) -> None:
        """A traceback that can't be made is told, and the line is written."""
        failure = failureOf(RuntimeError("a"))
        self.patch(failure, "getTraceback", lambda: 1 / 0)
        event: LogEvent = {"log_time": 0.0, "log_format": "b", "log_failure": failure}
        self.assertIn("can't be shown", parsed(event)["traceback"])
