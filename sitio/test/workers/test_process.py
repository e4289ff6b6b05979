"""
Tests of L{sitio.workers.process}.

L{sitio.test.workers.test_supervisor} tests what becomes of a worker process.
"""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from sitio.workers.channel import encodeMessage
from sitio.workers.process import waitForFirstWorker


class FirstWordTests(SynchronousTestCase):
    """The first message of a worker is read before the reactor runs."""

    def setUp(self) -> None:
        self.channel, self.itsChannel = socket.socketpair()
        self.output, self.itsOutput = socket.socketpair()
        for each in (self.channel, self.itsChannel, self.output, self.itsOutput):
            self.addCleanup(each.close)

    def why(self) -> str:
        """Why the worker can't start."""
        return str(waitForFirstWorker(self.channel, self.output))

    def test_ready(self) -> None:
        """A worker that is ready is no error; its message can be read again."""
        self.itsChannel.sendall(encodeMessage("ready"))
        self.assertIsNone(waitForFirstWorker(self.channel, self.output))
        self.assertEqual(self.channel.recv(100), encodeMessage("ready"))

    def test_more(self) -> None:
        """Only the first message counts."""
        self.itsChannel.sendall(encodeMessage("failed", "sitio: why") + encodeMessage("ready"))
        self.assertEqual(waitForFirstWorker(self.channel, self.output), "sitio: why")

    def test_failed(self) -> None:
        """If a worker says why it can't start, that is the reason."""
        self.itsChannel.sendall(encodeMessage("failed", "sitio: why"))
        self.assertEqual(waitForFirstWorker(self.channel, self.output), "sitio: why")

    def test_gone(self) -> None:
        """If a worker ends without a message, the reason is the last line of its output."""
        self.itsOutput.sendall(b"Traceback\n  File\nModuleNotFoundError: No module named 'x'\n")
        self.itsChannel.close()
        self.assertEqual(
            waitForFirstWorker(self.channel, self.output),
            "a worker has ended as soon as it was started:"
            " ModuleNotFoundError: No module named 'x'",
        )

    def test_goneSilently(self) -> None:
        """If there is no output either, the reason is that it has ended."""
        self.itsChannel.close()
        self.assertIn("a worker has ended as soon", self.why())
        self.itsOutput.close()
        self.assertIn("a worker has ended as soon", self.why())

    def test_slow(self) -> None:
        """After the given time the worker is not waited for."""
        self.assertIsNone(waitForFirstWorker(self.channel, self.output, 0))
