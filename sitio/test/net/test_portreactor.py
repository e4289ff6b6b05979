"""
Tests of L{sitio.net.portreactor}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTCP, IReactorUNIX
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from sitio.config.options import Options
from sitio.net.portreactor import BACKLOG, PortReactor, portFromString
from sitio.test.helpers.certificates import certify


class BacklogTests(SynchronousTestCase):
    """How many connections the kernel holds before they are accepted."""

    def backlog(self, description: str) -> int:
        """With which backlog a port opens."""
        reactor = MemoryReactor()
        self.successResultOf(portFromString(reactor, description).listen(Factory()))
        [opened] = reactor.tcpServers or reactor.unixServers
        backlog: int = opened[2]
        return backlog

    def test_default(self) -> None:
        """Every kind of description without C{backlog=} gets L{BACKLOG}."""
        folder = Path(self.mktemp())
        folder.mkdir()
        key, certificate = certify(folder)
        for description in (
            "tcp:8080",
            "tcp:8080:interface=127.0.0.1",
            "tcp:8080:127.0.0.1",
            "tcp:port=8080:interface=\\:\\:1",
            "tcp6:8080",
            "tcp6:8080:interface=\\:\\:1",
            "haproxy:tcp:8080",
            "haproxy:tcp:8080:interface=127.0.0.1",
            f"ssl:8443:privateKey={key}:certKey={certificate}",
            f"unix:{folder}/s",
        ):
            with self.subTest(description=description):
                self.assertEqual(self.backlog(description), BACKLOG)

    def test_number(self) -> None:
        """The bare number of a port, and no port at all, are no exceptions."""
        for arguments in (["--port=8080"], []):
            options = Options({})
            options.parseOptions(arguments)
            self.assertEqual(self.backlog(options["port"]), BACKLOG)

    def test_given(self) -> None:
        """A description with a C{backlog=} keeps it, whatever it is."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for number in (1, 50, 77, 4096):
            for description in (
                f"tcp:8080:backlog={number}",
                f"tcp:8080:interface=127.0.0.1:backlog={number}",
                f"tcp6:8080:backlog={number}",
                f"haproxy:tcp:8080:backlog={number}",
                f"unix:{folder}/s:backlog={number}",
            ):
                with self.subTest(description=description):
                    self.assertEqual(self.backlog(description), number)

    def test_position(self) -> None:
        """A backlog that is given by its position stays."""
        self.assertEqual(self.backlog("tcp:8080:127.0.0.1:77"), 77)

    def test_reactor(self) -> None:
        """It provides what the reactor provides, and passes on what it does not replace."""
        reactor = MemoryReactor()
        ports: Any = PortReactor(reactor)
        self.assertTrue(IReactorTCP.providedBy(ports) and IReactorUNIX.providedBy(ports))
        self.assertEqual(ports.tcpServers, reactor.tcpServers)
