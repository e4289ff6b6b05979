"""
Tests of L{sitio.upstream.discovery}: endpoints from DNS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import FirstError
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.names import dns
from twisted.names.error import DNSServerError
from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.logs import recorded
from sitio.test.helpers.upstreams import FakeResolver, record
from sitio.upstream.discovery import (
    HOLD_SECONDS,
    LOOKUP_SECONDS,
    MAX_ENDPOINTS,
    Discovery,
)
from sitio.upstream.dnssettings import DnsSettings

SERVICE = "_http._tcp.photos.example"


class DiscoveryCase(SynchronousTestCase):
    """The test plays the name server."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.resolver = FakeResolver()
        self.found: list[list[tuple[str, int]]] = []

    def open(
        self,
        name: str = "photos.example",
        port: int = 80,
        random: Callable[[], float] = lambda: 0.0,
        **settings: Any,
    ) -> Discovery:
        """Begin to ask."""
        discovery = Discovery(
            DnsSettings(name, port, **settings),
            self.clock,
            self.resolver,
            random,
            lambda found: self.found.append([(each.address, each.weight) for each in found]),
            Logger(),
        )
        discovery.start()
        return discovery

    def addresses(self) -> list[str]:
        """The addresses of the last answer."""
        return [address for address, _ in self.found[-1]]

    def rounds(self, seconds: float) -> int:
        """How often DNS is asked in this time."""
        before = self.resolver.asked.count(("photos.example", dns.A))
        self.clock.pump([0.1] * round(seconds * 10))
        return self.resolver.asked.count(("photos.example", dns.A)) - before


class AddressTests(DiscoveryCase):
    """A and AAAA records of a name."""

    def test_both(self) -> None:
        """The addresses of both kinds are endpoints, with the port of the setting."""
        self.resolver.has("10.0.0.2", "10.0.0.1")
        self.resolver.records["photos.example", dns.AAAA] = [record(dns.Record_AAAA("fd00::1"))]
        self.open()
        self.assertEqual(
            self.found, [[("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("[fd00::1]:80", 1)]]
        )

    def test_oneKind(self) -> None:
        """A name without addresses of one kind has those of the other."""
        self.resolver.records["photos.example", dns.AAAA] = [record(dns.Record_AAAA("fd00::1"))]
        self.open()
        self.assertEqual(self.addresses(), ["[fd00::1]:80"])

    def test_alias(self) -> None:
        """Aliases before the addresses are left out."""
        self.resolver.records["photos.example", dns.A] = [
            record(dns.Record_CNAME("other.example")),
            record(dns.Record_A("10.0.0.1"), "other.example"),
        ]
        self.open()
        self.assertEqual(self.addresses(), ["10.0.0.1:80"])

    def test_search(self) -> None:
        """The first name of the search list that has addresses is the one."""
        self.resolver.search = ["svc.cluster.local", "cluster.local"]
        self.resolver.has("10.0.0.1", name="photos.cluster.local")
        self.resolver.has("10.9.9.9", name="photos")
        self.open("photos")
        self.assertEqual(self.addresses(), ["10.0.0.1:80"])
        self.assertEqual(
            [name for name, kind in self.resolver.asked if kind == dns.A],
            ["photos.svc.cluster.local", "photos.cluster.local"],
        )

    def test_many(self) -> None:
        """Endpoints beyond the limit are ignored, which is logged once."""
        self.resolver.has(*(f"10.0.{number}.1" for number in range(200)))
        more = [record(dns.Record_A(f"10.1.{number}.1")) for number in range(200)]
        self.resolver.records["photos.example", dns.A] += more
        with recorded() as log:
            self.open()
            self.rounds(12)
        self.assertEqual(len(self.found[-1]), MAX_ENDPOINTS)
        self.assertGreater(len(self.found), 1)
        self.assertEqual(len([each for each in log.texts() if "400" in each]), 1)


class IntervalTests(DiscoveryCase):
    """When DNS is asked again."""

    def test_validity(self) -> None:
        """After the time for which the answer is valid."""
        self.resolver.has("10.0.0.1", ttl=7)
        self.open()
        self.assertEqual(self.rounds(6.9), 0)
        self.assertEqual(self.rounds(0.2), 1)

    def test_shortest(self) -> None:
        """The record that is valid for the shortest time counts."""
        self.resolver.has("10.0.0.1", ttl=50)
        self.resolver.records["photos.example", dns.AAAA] = [
            record(dns.Record_AAAA("fd00::1"), ttl=3)
        ]
        self.open()
        self.assertEqual(self.rounds(9.5), 3)

    def test_floor(self) -> None:
        """Not more often than the floor says."""
        self.resolver.has("10.0.0.1", ttl=0)
        self.open(floor=2.0)
        self.assertEqual(self.rounds(9), 4)

    def test_ceiling(self) -> None:
        """Not more seldom than the ceiling says."""
        self.resolver.has("10.0.0.1", ttl=86400)
        self.open(ceiling=30.0)
        self.assertEqual(self.rounds(95), 3)

    def test_jitter(self) -> None:
        """A little later, by chance: many sidecars don't ask together."""
        self.resolver.has("10.0.0.1", ttl=10)
        self.open(random=lambda: 1.0)
        self.assertEqual(self.rounds(10.9), 0)
        self.assertEqual(self.rounds(0.3), 1)

    def test_stop(self) -> None:
        """After the end there are no questions, and an answer under way is dropped."""
        self.resolver.has("10.0.0.1")
        self.resolver.isSilent = True
        discovery = self.open()
        discovery.stop()
        self.resolver.isSilent = False
        self.assertEqual(self.rounds(100), 0)
        self.assertEqual((self.found, self.clock.getDelayedCalls()), ([], []))


class FailureTests(DiscoveryCase):
    """A name server that fails."""

    def test_lastGood(self) -> None:
        """Endpoints stay while the name server fails, for as long as that lasts."""
        self.resolver.has("10.0.0.1")
        discovery = self.open()
        self.resolver.fails(DNSServerError("broken"))
        self.rounds(3600)
        self.assertEqual(self.addresses(), ["10.0.0.1:80"])
        self.assertIn("no answer about photos.example: DNSServerError", str(discovery.problem))
        self.resolver.has("10.0.0.2")
        self.rounds(62)
        self.assertEqual(self.addresses(), ["10.0.0.2:80"])
        self.assertIsNone(discovery.problem)

    def test_oneKindFails(self) -> None:
        """The last good addresses of one kind stay while only questions for it fail."""
        self.resolver.has("10.0.0.1")
        self.resolver.records["photos.example", dns.AAAA] = [record(dns.Record_AAAA("fd00::1"))]
        self.open()
        self.resolver.has("10.0.0.2")
        self.resolver.records["photos.example", dns.AAAA] = DNSServerError("broken")
        self.rounds(6)
        self.assertEqual(self.addresses(), ["10.0.0.2:80", "[fd00::1]:80"])

    def test_silent(self) -> None:
        """A question without an answer is given up."""
        self.resolver.isSilent = True
        discovery = self.open()
        self.rounds(LOOKUP_SECONDS + 0.1)
        self.assertIn(f"within {LOOKUP_SECONDS:g} seconds", str(discovery.problem))
        self.resolver.isSilent = False
        self.resolver.has("10.0.0.1")
        self.rounds(2)
        self.assertEqual(self.addresses(), ["10.0.0.1:80"])

    def test_pauses(self) -> None:
        """A name server that fails is asked more and more seldom, up to the ceiling."""
        self.resolver.fails(DNSServerError("broken"))
        self.open(floor=1.0, ceiling=8.0)
        self.assertEqual([self.rounds(each) for each in (1.5, 2, 4, 8, 8, 8)], [1] * 6)

    def test_neverAny(self) -> None:
        """Without any answer there are no endpoints, and nothing is told of any."""
        self.resolver.fails(DNSServerError("broken"))
        discovery = self.open()
        self.rounds(100)
        self.assertEqual((self.found, discovery.isKnown), ([], False))

    def test_log(self) -> None:
        """An outage is two lines in the log: its begin and its end."""
        self.resolver.has("10.0.0.1")
        self.open()
        with recorded() as log:
            self.resolver.fails(DNSServerError("broken"))
            self.rounds(300)
            self.resolver.has("10.0.0.1")
            self.rounds(62)
        texts = log.texts()
        self.assertEqual(len(texts), 2, texts)
        self.assertIn("DNS fails for photos.example", texts[0])
        self.assertIn("DNS answers again for photos.example", texts[1])

    def test_bug(self) -> None:
        """An answer that nobody can read is logged, and DNS is asked again."""
        self.resolver.records["photos.example", dns.A] = [object()]
        self.open(ceiling=9.0)
        self.assertEqual(len(self.flushLoggedErrors(FirstError)), 1)
        self.resolver.has("10.0.0.1")
        self.rounds(9.5)
        self.assertEqual(self.addresses(), ["10.0.0.1:80"])


class EmptyTests(DiscoveryCase):
    """A name server that says that there are no endpoints."""

    def test_held(self) -> None:
        """The endpoints stay for a while, as a Service may have none for a moment."""
        self.resolver.has("10.0.0.1")
        discovery = self.open()
        self.resolver.has()
        self.rounds(HOLD_SECONDS)
        self.assertEqual(self.addresses(), ["10.0.0.1:80"])
        self.assertEqual(discovery.problem, "DNS has no endpoint for photos.example")
        self.rounds(6)
        self.assertEqual(self.addresses(), [])

    def test_momentarily(self) -> None:
        """A later moment without endpoints counts anew."""
        self.resolver.has("10.0.0.1", ttl=1)
        self.open()
        for _ in range(3):
            self.resolver.has()
            self.rounds(HOLD_SECONDS - 5)
            self.resolver.has("10.0.0.1", ttl=1)
            self.rounds(2)
        self.assertTrue(all(self.found))

    def test_unknown(self) -> None:
        """A name that does not exist has no endpoint, from the start."""
        discovery = self.open()
        self.assertEqual(self.found, [[]])
        self.assertEqual(discovery.problem, "DNS has no endpoint for photos.example")
        self.resolver.has("10.0.0.1")
        self.rounds(1.5)
        self.assertEqual(self.addresses(), ["10.0.0.1:80"])
        self.assertIsNone(discovery.problem)


class ServiceTests(DiscoveryCase):
    """SRV records (RFC 2782)."""

    def serve(self, *records: tuple[int, int, int, str]) -> Discovery:
        """Begin to ask for a service with these priorities, weights, ports and targets."""
        self.resolver.records[SERVICE, dns.SRV] = [
            record(dns.Record_SRV(*each), SERVICE) for each in records
        ]
        return self.open(SERVICE, 0)

    def test_records(self) -> None:
        """Port and weight are those of the record, the address that of its target."""
        self.resolver.has("10.0.0.1", name="a.example")
        self.resolver.has("10.0.0.2", name="b.example")
        self.serve((0, 3, 8080, "a.example"), (0, 0, 8081, "b.example"))
        self.assertEqual(self.found, [[("10.0.0.1:8080", 3), ("10.0.0.2:8081", 1)]])

    def test_additional(self) -> None:
        """Addresses that come along with the records are not asked for."""
        self.resolver.additional = [record(dns.Record_A("10.0.0.1"), "A.example", 1)]
        self.serve((0, 1, 8080, "a.example"))
        self.assertEqual(self.addresses(), ["10.0.0.1:8080"])
        self.assertEqual(self.resolver.asked, [(SERVICE, dns.SRV)])
        self.clock.pump([1.1])
        self.assertEqual(len(self.found), 2)

    def test_priority(self) -> None:
        """Only the targets of the best priority are endpoints."""
        self.resolver.has("10.0.0.1", name="a.example")
        self.resolver.has("10.0.0.2", name="b.example")
        self.serve((10, 1, 80, "a.example"), (5, 1, 80, "b.example"))
        self.assertEqual(self.addresses(), ["10.0.0.2:80"])

    def test_noService(self) -> None:
        """A target C{.} says that there is no such service."""
        self.serve((0, 0, 0, ""))
        self.assertEqual(self.found, [[]])

    def test_targetFails(self) -> None:
        """A target whose name server fails keeps its last good address, the others too."""
        self.resolver.has("10.0.0.1", name="a.example")
        self.resolver.has("10.0.0.2", name="b.example")
        self.serve((0, 1, 80, "a.example"), (0, 1, 80, "b.example"))
        self.resolver.fails(DNSServerError("broken"), "a.example")
        self.resolver.has("10.0.0.3", name="b.example")
        self.clock.pump([5.5])
        self.assertEqual(self.addresses(), ["10.0.0.1:80", "10.0.0.3:80"])

    def test_newTargetFails(self) -> None:
        """A new target whose name server fails is left out."""
        self.resolver.has("10.0.0.1", name="a.example")
        self.resolver.fails(DNSServerError("broken"), "b.example")
        self.serve((0, 1, 80, "a.example"), (0, 1, 80, "b.example"))
        self.assertEqual(self.addresses(), ["10.0.0.1:80"])

    def test_allTargetsFail(self) -> None:
        """If nothing is known of any target, that is a failure and no empty answer."""
        self.resolver.fails(DNSServerError("broken"), "a.example")
        discovery = self.serve((0, 1, 80, "a.example"))
        self.assertEqual(self.found, [])
        self.assertIn("no answer about a.example", str(discovery.problem))
