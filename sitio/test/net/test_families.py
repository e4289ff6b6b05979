"""
Tests of L{sitio.net.families}; L{sitio.test.integration.test_families} uses real ports.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.trial.unittest import SynchronousTestCase

from sitio.net import families
from sitio.net.families import socketOfBoth, unmapped
from sitio.net.socketoptions import addressOf


class AddressTests(SynchronousTestCase):
    """Addresses of clients."""

    def test_unmapped(self) -> None:
        """A mapped address is an IPv4 address; all others stay."""
        for name, expected in (
            (("::ffff:192.0.2.1", 80, 0, 0), ("192.0.2.1", 80)),
            (("::ffff:c000:201", 80, 0, 0), ("::ffff:c000:201", 80, 0, 0)),
            (("::1", 80, 0, 0), ("::1", 80, 0, 0)),
            (("192.0.2.1", 80), ("192.0.2.1", 80)),
        ):
            self.assertEqual(unmapped(name), expected)

    def test_address(self) -> None:
        """So are Twisted's."""
        self.assertEqual(
            addressOf(("::ffff:192.0.2.1", 80, 0, 0)), IPv4Address("TCP", "192.0.2.1", 80)
        )
        self.assertEqual(addressOf(("::1", 80, 0, 0)), IPv6Address("TCP", "::1", 80))


class SingleFamilyTests(SynchronousTestCase):
    """A host without IPv6, or that has it switched off."""

    def test_unknown(self) -> None:
        """Python itself has no IPv6."""
        self.patch(socket, "has_ipv6", False)
        self.assertIsNone(socketOfBoth(0))

    def test_table(self) -> None:
        """The system says so when the socket is made; any other failure is the port's."""
        for number in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOPROTOOPT):
            self.fails(number)
            self.assertIsNone(socketOfBoth(0))
        for number in (errno.EADDRINUSE, errno.EACCES, errno.EMFILE):
            self.fails(number)
            self.assertEqual(self.assertRaises(OSError, socketOfBoth, 0).errno, number)

    def fails(self, number: int) -> None:
        """Let sockets fail with this error."""

        def bound(*arguments: Any) -> Any:
            raise OSError(number, "no")

        self.patch(families, "_bound", bound)
