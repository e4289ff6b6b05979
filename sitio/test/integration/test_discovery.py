"""
Tests of L{sitio.upstream.discovery} and L{sitio.upstream.resolvers} with a name server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.names import dns
from twisted.trial.unittest import TestCase

from sitio.net.datagrams import QuietDatagrams
from sitio.test.helpers.logs import recorded
from sitio.test.helpers.loopback import LIMIT_SECONDS
from sitio.test.helpers.nameserver import ZONE, NameServer
from sitio.upstream.discovery import Discovery
from sitio.upstream.dnssettings import DnsSettings
from sitio.upstream.resolvers import SystemResolver

#: Any, as it also opens UDP ports.
reactor: Any = _reactor


class NameServerTests(TestCase):
    """A name server on a port of this machine."""

    timeout = 30

    def setUp(self) -> None:
        self.server = NameServer(reactor)
        self.addCleanup(self.server.stop)
        self.zone = self.server.zone
        self.found: list[list[str]] = []
        self.waiting: Deferred[None] | None = None

    def open(self, name: str, port: int = 80) -> Discovery:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "resolv.conf").write_text(
            "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        )
        resolver = SystemResolver(
            reactor, (self.server.address,), folder / "resolv.conf", folder / "hosts"
        )
        settings = DnsSettings(name, port, floor=0.05, ceiling=0.1)
        discovery = Discovery(settings, reactor, resolver, lambda: 0.0, self.answered, Logger())
        discovery.start()
        self.addCleanup(discovery.stop)
        return discovery

    def answered(self, found: Any) -> None:
        self.found.append([each.address for each in found])
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.callback(None)

    async def until(self, *addresses: str) -> None:
        """Wait until these are the endpoints."""
        while not self.found or self.found[-1] != list(addresses):
            self.waiting = Deferred()
            await self.waiting.addTimeout(LIMIT_SECONDS, reactor)

    async def test_addresses(self) -> None:
        """Endpoints come and go with the records; a short name is found by the search list."""
        self.zone.has("10.0.0.1", "10.0.0.2")
        self.open("photos.default.svc", 8087)
        await self.until("10.0.0.1:8087", "10.0.0.2:8087")
        self.zone.has("10.0.0.2", "10.0.0.3")
        await self.until("10.0.0.2:8087", "10.0.0.3:8087")

    async def test_service(self) -> None:
        """SRV records lead to the addresses of their targets."""
        self.zone.records[b"_http._tcp." + ZONE.encode()] = [
            dns.Record_SRV(0, 1, 8080 + each, f"p{each}.{ZONE}", ttl=0) for each in range(2)
        ]
        for each in range(2):
            self.zone.has(f"10.0.0.{each}", name=f"p{each}.{ZONE}")
        self.open("_http._tcp.photos", 0)
        await self.until("10.0.0.0:8080", "10.0.0.1:8081")

    async def test_long(self) -> None:
        """An answer that is too long for a datagram is read by TCP."""
        hosts = [f"10.0.{each}.1" for each in range(100)]
        self.zone.has(*hosts)
        self.open(f"{ZONE}.")
        await self.until(*sorted(f"{each}:80" for each in hosts))

    async def test_outage(self) -> None:
        """While the name server is away, the endpoints stay; later they change again."""
        self.zone.has("10.0.0.1")
        discovery = self.open(f"{ZONE}.")
        await self.until("10.0.0.1:80")
        await self.server.stopUDP()
        while discovery.problem is None:
            await deferLater(reactor, 0.05)
        self.assertEqual(self.found[-1], ["10.0.0.1:80"])
        self.zone.has("10.0.0.2")
        self.server.listenUDP()
        await self.until("10.0.0.2:80")
        self.assertIsNone(discovery.problem)

    async def test_stopped(self) -> None:
        """The end does not wait for answers, and leaves nothing behind."""
        self.zone.has("10.0.0.1")
        discovery = self.open(f"{ZONE}.")
        await self.until("10.0.0.1:80")
        await self.server.stopUDP()
        await deferLater(reactor, 0.3)
        discovery.stop()
        self.server.listenUDP()
        found = len(self.found)
        await deferLater(reactor, 0.2)
        self.assertEqual(len(self.found), found)

    async def test_quiet(self) -> None:
        """The questions leave no lines in the log."""
        self.zone.has("10.0.0.1")
        with recorded() as log:
            self.open(f"{ZONE}.")
            await self.until("10.0.0.1:80")
            for _ in range(3):
                self.waiting = Deferred()
                await self.waiting
        self.assertEqual([each for each in log.texts() if each], [])

    def test_otherPorts(self) -> None:
        """All else of the reactor is as it was."""
        self.assertIs(QuietDatagrams(reactor).listenTCP.__self__, reactor)
