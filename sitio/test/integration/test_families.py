"""
Tests of ports on both families of IP.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from sitio.net.portreactor import portFromString
from sitio.test.helpers.loopback import LIMIT_SECONDS, reactor
from sitio.workers.sockets import InheritingReactor, OpeningReactor


def hasIPv6() -> bool:
    """Whether this host has the loopback address of IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Accepted(Factory):
    """
    Collects the connections that a port accepts.

    @ivar made: fires with the transport of the next one.
    """

    noisy = False

    def __init__(self) -> None:
        self.made: Deferred[Any] = Deferred()

    def buildProtocol(self, addr: Any) -> Protocol:
        """A protocol that reports its connection."""
        factory = self

        class Reporting(Protocol):
            def connectionMade(self) -> None:
                self.built = addr
                factory.made.callback((addr, self.transport))

        return Reporting()


class FamilyTests(TestCase):
    """Which clients a port accepts, and what it calls them."""

    timeout = 2 * LIMIT_SECONDS

    if not hasIPv6():
        skip = "this host has no IPv6"

    async def accepted(self, factory: Accepted, host: str, port: int) -> tuple[Any, Any, Any]:
        """Connect to a host; the client's address as the factory, and the transport, have it."""
        kind: Any = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        factory.made = Deferred()
        client: Any = await kind(reactor, host, port).connect(Factory.forProtocol(Protocol))
        factory.made.addTimeout(LIMIT_SECONDS, reactor)
        built, transport = await factory.made
        client.transport.abortConnection()
        return built, transport.getPeer(), transport.getHost()

    async def listen(self, description: str, ports: Any = reactor) -> tuple[Accepted, Any]:
        """Listen on this, until the end of the test."""
        factory = Accepted()
        port: Any = await portFromString(ports, description).listen(factory)
        self.addCleanup(port.stopListening)
        return factory, port

    async def checkBoth(self, factory: Accepted, number: int) -> None:
        """Clients of both families are accepted, each with an address of its own family."""
        for host, kind in (("127.0.0.1", IPv4Address), ("::1", IPv6Address)):
            for address in await self.accepted(factory, host, number):
                self.assertIsInstance(address, kind)
                self.assertEqual(address.host, host)

    async def test_number(self) -> None:
        """A port without an interface is on both."""
        for description in ("tcp:0", "tcp:0:backlog=7", "tcp:port=0"):
            factory, port = await self.listen(description)
            await self.checkBoth(factory, port.getHost().port)

    async def test_interface(self) -> None:
        """One with an interface is on that alone."""
        for interface, refused in (
            ("127.0.0.1", "::1"),
            ("0.0.0.0", "::1"),
            ("\\:\\:1", "127.0.0.1"),
        ):
            _, port = await self.listen(f"tcp:0:interface={interface}")
            kind: Any = TCP6ClientEndpoint if ":" in refused else TCP4ClientEndpoint
            endpoint = kind(reactor, refused, port.getHost().port)
            with self.assertRaises(ConnectError):
                await endpoint.connect(Factory.forProtocol(Protocol))

    async def test_taken(self) -> None:
        """A port that is in use in one of the families is refused."""
        for interface in ("0.0.0.0", "127.0.0.1", "\\:\\:1"):
            _, port = await self.listen(f"tcp:0:interface={interface}")
            with self.assertRaises(CannotListenError) as caught:
                await self.listen(f"tcp:{port.getHost().port}")
            self.assertIn("Address already in use", str(caught.exception.socketError))

    async def test_withoutIPv6(self) -> None:
        """Without IPv6, it is on IPv4, as before."""
        self.patch(socket, "has_ipv6", False)
        factory, port = await self.listen("tcp:0")
        self.assertEqual(port.getHost().host, "0.0.0.0")
        built, *_ = await self.accepted(factory, "127.0.0.1", port.getHost().port)
        self.assertIsInstance(built, IPv4Address)

    async def test_workers(self) -> None:
        """The sockets of workers are on both families, too, with one or with several."""
        for count in (1, 3):
            opening = OpeningReactor(reactor, count)
            await portFromString(opening, "tcp:0").listen(Factory())
            self.assertEqual(len(opening.sockets), count)
            numbers = {each.getsockname()[1] for each in opening.sockets}
            self.assertEqual(len(numbers), 1)
            inheriting = InheritingReactor(reactor, opening.sockets, 0)
            factory = Accepted()
            port: Any = inheriting.listenTCP(0, factory)
            port.acceptFor(range(count))
            await self.checkBoth(factory, numbers.pop())
            await port.stopListening()
            for each in opening.sockets:
                each.close()
