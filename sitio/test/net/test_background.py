"""
Tests of L{sitio.net.background}.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.application.service import Service
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import CannotStart
from sitio.net.background import InBackground


class Failing(Service):
    """A service that can't start."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def startService(self) -> None:
        raise self.error


class InBackgroundTests(SynchronousTestCase):
    """A failed start is told to the terminal."""

    def setUp(self) -> None:
        self.patch(sys, "__stderr__", sys.__stderr__)
        self.terminal, self.stderr = os.pipe()
        self.addCleanup(os.close, self.terminal)

    def parent(self) -> InBackground:
        """One whose terminal is a pipe."""
        parent = InBackground(self.stderr)
        # For the process of twistd that waits: another one.
        self.waiting: Any = sys.__stderr__
        os.close(self.stderr)
        return parent

    def said(self) -> bytes:
        """All that was written; waits until all have closed the terminal."""
        return b"".join(iter(lambda: os.read(self.terminal, 1000), b""))

    def test_sentence(self) -> None:
        """The whole sentence is written, once, and twistd's own words about it are not."""
        parent = self.parent()
        sentence = "sitio: can't listen on port 80: " + 200 * "ä"
        Failing(CannotStart(sentence)).setServiceParent(parent)
        self.waiting.write("An error has occurred: b'sitio.errors.CannotStart: sitio: can'\n")
        self.assertRaises(CannotStart, parent.startService)
        self.assertEqual(self.said().decode(), f"{sentence}\n")

    def test_started(self) -> None:
        """After the start nothing holds the terminal."""
        parent = self.parent()
        Service().setServiceParent(parent)
        parent.privilegedStartService()
        parent.startService()
        self.assertEqual(self.said(), b"")
        self.assertIsNot(sys.__stderr__, self.waiting)

    def test_others(self) -> None:
        """Of another failure, twistd's words are shown."""
        parent = self.parent()
        Failing(ValueError("no")).setServiceParent(parent)
        self.assertRaises(ValueError, parent.startService)
        self.waiting.write("An error has occurred: b'ValueError: no'\n")
        parent._close()
        self.assertEqual(self.said(), b"An error has occurred: b'ValueError: no'\n")
