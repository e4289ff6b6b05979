"""
Tests of L{sitio.net.descriptors}.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.error import ConnectBindError, ConnectError, DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.descriptors import areLacking


class LackingTests(SynchronousTestCase):
    """Whether a failure comes from a lack of descriptors."""

    def test_named(self) -> None:
        """Errors that carry a number are judged by it."""
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            for kind in (OSError, ConnectError, ConnectBindError):
                self.assertTrue(areLacking(kind(number, "what it says")), kind)
        for number in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EACCES, errno.ENOENT):
            for kind in (OSError, ConnectError, ConnectBindError):
                self.assertFalse(areLacking(kind(number, "what it says")), kind)

    def test_unnamed(self) -> None:
        """For others, and for a resolver's own numbers, a socket is opened for a moment."""
        failures = (None, DNSLookupError(), ValueError(), socket.gaierror(-11, "System error"))
        for each in failures:
            self.assertFalse(areLacking(each))
        for number, lacking in ((errno.EMFILE, True), (errno.ENFILE, True), (errno.EPERM, False)):

            def failing(*arguments: Any, number: int = number) -> Any:
                raise OSError(number, "what it says")

            self.patch(socket, "socket", failing)
            for each in failures:
                self.assertEqual(areLacking(each), lacking)
