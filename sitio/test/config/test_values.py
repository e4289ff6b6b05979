"""
Tests of L{sitio.config.values}.
"""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from sitio.config.cores import coreCount
from sitio.config.values import (
    ACCESS_LOG_FORMATS,
    MAX_WORKERS,
    accessLogTarget,
    hostNames,
    isSamePort,
    workerCount,
)
from sitio.telemetry.logformat import FORMATS


class HostNamesTests(SynchronousTestCase):
    """Names of hosts."""

    def test_names(self) -> None:
        """They are separated by commas, and compared without regard to case."""
        for text, names in (
            ("", []),
            ("a.example", ["a.example"]),
            (" A.Example , b-2.example,", ["a.example", "b-2.example"]),
        ):
            self.assertEqual(hostNames(text), names)

    def test_noName(self) -> None:
        """Anything else is an error with the text."""
        for text in ("*.example", "a.example:9901", "http://a.example", "a b", "a,/", "*"):
            why = self.assertRaises(ValueError, hostNames, text)
            self.assertEqual(
                str(why),
                f"{text!r}; it must be names of hosts without ports, as in sitio.example.com",
            )


class SamePortTests(SynchronousTestCase):
    """Descriptions of ports that exclude each other."""

    def test_same(self) -> None:
        """The number is the same, and one is for all addresses, or both are for the same one."""
        for one, other, expected in (
            ("tcp:9901", "tcp:9901", True),
            ("tcp:9901", "tcp:9901:interface=127.0.0.1", True),
            ("tcp:port=9901", "tcp:9901:backlog=5:interface=127.0.0.1", True),
            ("tcp:9901:interface=0.0.0.0", "tcp:9901:interface=127.0.0.1", True),
            (r"tcp6:9901:interface=\:\:", "tcp:9901:interface=127.0.0.1", True),
            ("tcp:9901:interface=127.0.0.1", "tcp:9901:interface=127.0.0.1", True),
            ("tcp:9901:interface=10.0.0.7", "tcp:9901:interface=127.0.0.1", False),
            ("tcp:9902", "tcp:9901:interface=127.0.0.1", False),
            ("tcp:0", "tcp:0", False),
            ("unix:/run/a", "tcp:9901", False),
            ("unix:/run/a", "unix:/run/a", False),
        ):
            self.assertIs(isSamePort(one, other), expected, (one, other))
            self.assertIs(isSamePort(other, one), expected, (other, one))


class WorkerCountTests(SynchronousTestCase):
    """The number of workers."""

    def test_number(self) -> None:
        """A number from 1 to 256 is that many workers."""
        self.assertEqual([workerCount("1"), workerCount("16")], [1, 16])

    def test_none(self) -> None:
        """Any other text raises an error with the text and what it must be."""
        for text in ("", "0", "-1", "two", "1.5", "257", "9" * 5000, "\u0662"):
            why = self.assertRaises(ValueError, workerCount, text)
            self.assertEqual(
                str(why), f"{text!r}; it must be 1 to 256, or auto for one on each core"
            )

    def test_auto(self) -> None:
        """auto is the number of cores that this process may use, up to the largest number."""
        self.patch(os, "sched_getaffinity", lambda pid: set(range(1000)))
        self.assertEqual(workerCount("auto", {}), min(coreCount({}), MAX_WORKERS))

    def test_noSharing(self) -> None:
        """On a system that can't share a port, only one worker is accepted."""
        self.patch(os, "name", "nt")
        self.assertEqual(workerCount("1"), 1)
        why = self.assertRaises(ValueError, workerCount, "2")
        self.assertIn("it must be 1", str(why))


class AccessLogTargetTests(SynchronousTestCase):
    """The values of C{--access-log}."""

    def test_formats(self) -> None:
        """A format alone is for standard output; with a path, it is for a file."""
        self.assertEqual(accessLogTarget("json"), ("json", None))
        self.assertEqual(accessLogTarget("common:/var/log/a:b"), ("common", "/var/log/a:b"))

    def test_off(self) -> None:
        """C{off} and an empty text mean no access log."""
        self.assertIsNone(accessLogTarget("off"))
        self.assertIsNone(accessLogTarget(""))

    def test_wrong(self) -> None:
        """Any other text raises an error that lists all formats."""
        for text in ("xml", "json:", "access.log", "off:x"):
            error = self.assertRaises(ValueError, accessLogTarget, text)
            self.assertEqual(
                str(error),
                f"{text!r}; it must be json, common or off, as in json or json:access.log",
            )

    def test_writers(self) -> None:
        """The access log has a writer for each format, and no other."""
        self.assertEqual(tuple(FORMATS), ACCESS_LOG_FORMATS)
