"""
Tests of L{sitio.workers.output}.
"""

from __future__ import annotations

from twisted.internet.testing import StringTransport
from twisted.logger import (
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.logs import LogRecorder
from sitio.workers import output
from sitio.workers.output import OutputLogger, encodeEvent


class OutputTests(SynchronousTestCase):
    """What a worker writes to its output is logged by the supervisor."""

    def setUp(self) -> None:
        self.recorder = LogRecorder()
        self.output = OutputLogger(3, Logger("sitio", observer=self.recorder))
        self.output.makeConnection(StringTransport())

    def logged(self, data: bytes) -> list[LogEvent]:
        """The events that are logged for these bytes."""
        self.recorder.events.clear()
        self.output.dataReceived(data)
        return list(self.recorder.events)

    def test_events(self) -> None:
        """An event arrives unchanged; the worker's number is a field and in its text."""
        theirs = LogRecorder()
        Logger("sitio.some", observer=theirs).warn("it took {seconds:.1f} s", seconds=2.5)
        [event] = self.logged(encodeEvent(theirs.events[0]).encode())
        self.assertEqual(event["worker"], 3)
        self.assertEqual(event["seconds"], 2.5)
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertEqual(event["log_time"], theirs.events[0]["log_time"])
        text = formatEventAsClassicLogText(event) or ""
        self.assertTrue(text.endswith(" [sitio.some#warn worker=3] it took 2.5 s\n"), text)

    def test_failures(self) -> None:
        """A traceback arrives whole: exception, place and message."""
        theirs = LogRecorder()
        try:
            raise ZeroDivisionError("of a policy")
        except ZeroDivisionError:
            Logger("sitio", observer=theirs).failure("The policy failed")
        [event] = self.logged(encodeEvent(theirs.events[0]).encode())
        text = formatEventAsClassicLogText(event) or ""
        self.assertIn("The policy failed\n", text)
        self.assertIn("test_output.py", text)
        self.assertIn("builtins.ZeroDivisionError: of a policy", text)

    def test_legacy(self) -> None:
        """Events of Twisted's older log keep their text and their system."""
        theirs = {
            "log_namespace": "log_legacy",
            "log_level": LogLevel.info,
            "log_format": "{log_text}",
            "log_text": "Starting",
            "log_system": "-",
            "log_time": 0.0,
        }
        [event] = self.logged(encodeEvent(theirs).encode())
        text = formatEventAsClassicLogText(event) or ""
        self.assertTrue(text.endswith(" [- worker=3] Starting\n"), text)

    def test_text(self) -> None:
        """Other lines are logged as text, whatever bytes they contain."""
        [one, two] = self.logged(b"Fatal Python error: {x}\nand \xff\n")
        self.assertEqual(formatEvent(one), "Fatal Python error: {x}")
        self.assertEqual(formatEvent(two), "and \N{REPLACEMENT CHARACTER}")
        self.assertEqual([one["worker"], two["worker"]], [3, 3])

    def test_pieces(self) -> None:
        """A line may come in pieces; the last one need not end."""
        self.assertEqual(self.logged(b"one li"), [])
        self.assertEqual(len(self.logged(b"ne\nand")), 1)
        self.output.connectionLost()
        self.assertEqual(formatEvent(self.recorder.events[-1]), "and")

    def test_cutOff(self) -> None:
        """A record that is cut off is logged as text."""
        for record in (b'\x1e{"log_le\n', b"\x1e[]\n", b'\x1e{"__class_uuid__": "x"}\n'):
            [event] = self.logged(record)
            self.assertIn("worker", event)

    def test_long(self) -> None:
        """A line that is too long is logged in pieces."""
        self.patch(output, "MAX_LINE_BYTES", 1000)
        events = self.logged(b"x" * 700)
        events += self.logged(b"x" * 700)
        self.assertEqual([len(formatEvent(each)) for each in events], [1400])
