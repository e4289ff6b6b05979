"""
Tests of L{sitio.net.loops}.
"""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import succeed
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import CannotStart
from sitio.net import loops
from sitio.net.loops import NoLoopEndpoint, leadsTo

ANY4 = IPv4Address("TCP", "0.0.0.0", 80)
ANY6 = IPv6Address("TCP", "::", 80)
LOOP4 = IPv4Address("TCP", "127.0.0.1", 80)
LOOP6 = IPv6Address("TCP", "::1", 80)
OTHER = IPv4Address("TCP", "10.9.8.7", 80)
LINK = IPv6Address("TCP", "fe80::1%lo", 80)


class LeadsToTests(SynchronousTestCase):
    """Which target is which port."""

    def setUp(self) -> None:
        self.patch(loops, "_ownName", lambda: "pod-1")
        self.patch(loops, "_isOwn", lambda address: str(address) in ("10.9.8.7", "fd00::7"))

    def test_table(self) -> None:
        """Each way to write an address of this host, for each address of a port."""
        for host, ports in (
            ("localhost", (ANY4, ANY6, LOOP4, LOOP6)),
            ("LOCALHOST.", (ANY4, ANY6, LOOP4, LOOP6)),
            ("a.localhost", (ANY4, ANY6, LOOP4, LOOP6)),
            ("pod-1", (ANY4, ANY6, LOOP4, LOOP6)),
            ("127.0.0.1", (ANY4, ANY6, LOOP4)),
            ("127.1", (ANY4, ANY6, LOOP4)),
            ("2130706433", (ANY4, ANY6, LOOP4)),
            ("127.0.0.2", (ANY4, ANY6)),
            ("::1", (ANY6, LOOP6)),
            ("0:0:0:0:0:0:0:1", (ANY6, LOOP6)),
            ("::ffff:127.0.0.1", (ANY4, ANY6, LOOP4)),
            ("0.0.0.0", (ANY4, ANY6, LOOP4, LOOP6)),
            ("::", (ANY6, LOOP4, LOOP6)),
            ("10.9.8.7", (ANY4, ANY6, OTHER)),
            ("fd00::7", (ANY6,)),
            ("fe80::1%lo", (LINK,)),
            ("10.9.8.6", ()),
            ("service", ()),
            ("pod-2", ()),
            ("localhost.example", ()),
            ("\udc80", ()),
        ):
            for port in (ANY4, ANY6, LOOP4, LOOP6, OTHER, LINK):
                with self.subTest(host=host, port=port):
                    self.assertEqual(leadsTo((host, 80), port), port in ports)
                    self.assertFalse(leadsTo((host, 81), port))

    def test_unix(self) -> None:
        """A UNIX socket by another name is the same socket."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        path = folder / "s"
        path.touch()
        (folder / "link").symlink_to(path)
        host = UNIXAddress(os.fsencode(path))
        for target in (str(path), str(folder / "link"), f"{folder}/../{folder.name}/s"):
            self.assertTrue(leadsTo(target, host), target)
        self.assertFalse(leadsTo(f"{path}2", host))
        self.assertFalse(leadsTo(("localhost", 80), host))
        self.assertFalse(leadsTo(str(path), ANY4))
        self.assertTrue(leadsTo("\0a", UNIXAddress(b"\0a")))


class OwnTests(SynchronousTestCase):
    """Which addresses this host has."""

    def test_addresses(self) -> None:
        """Loopback is its own; an address for documentation (RFC 5737) is not."""
        self.assertTrue(loops._isOwn(ip_address("127.0.0.1")))
        self.assertFalse(loops._isOwn(ip_address("192.0.2.1")))
        self.assertFalse(loops._isOwn(ip_address("2001:db8::1")))

    def test_name(self) -> None:
        """The name of this host."""
        self.assertEqual(loops._ownName(), socket.gethostname().lower())


class Port:
    """A port that listens on L{ANY4}."""

    stopped = False

    def getHost(self) -> IPv4Address:
        """Its address."""
        return ANY4

    def stopListening(self) -> None:
        """Record the end."""
        self.stopped = True


class EndpointTests(SynchronousTestCase):
    """An endpoint that looks when it listens."""

    def listened(self, target: Any, port: Any) -> Any:
        """What comes of listening."""

        class Endpoint:
            def listen(self, factory: object) -> Any:
                return succeed(port)

        endpoint: Any = Endpoint()
        return NoLoopEndpoint(endpoint, target).listen(Factory())

    def test_refused(self) -> None:
        """The upstream is this port: the port is closed, and the start fails."""
        port = Port()
        error = self.failureResultOf(self.listened(("localhost", 80), port), CannotStart).value
        self.assertIn("sitio: --upstream is sitio's own port", str(error))
        self.assertTrue(port.stopped)

    def test_adminPort(self) -> None:
        """The sentence names the option of the port and what would come of it."""
        endpoint: Any = type("Endpoint", (), {"listen": lambda _, factory: succeed(Port())})()
        listening = NoLoopEndpoint(
            endpoint, ("127.0.0.1", 80), option="--admin", consequence="so it is bad"
        ).listen(Factory())
        error = self.failureResultOf(listening, CannotStart).value
        self.assertEqual(
            str(error),
            "sitio: --upstream is sitio's own port, so it is bad; name the port of the service,"
            " or choose another --admin",
        )

    def test_others(self) -> None:
        """Other upstreams are fine, and so is a port that only workers have."""
        port = Port()
        self.assertIs(self.successResultOf(self.listened(("localhost", 81), port)), port)
        self.assertFalse(port.stopped)
        self.assertIsNone(self.successResultOf(self.listened(("localhost", 80), None)))
