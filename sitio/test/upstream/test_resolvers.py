"""
Tests of L{sitio.upstream.resolvers}: the name servers and the search list of a machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.trial.unittest import SynchronousTestCase

from sitio.upstream.resolvers import (
    MAX_SEARCH,
    MAX_SERVERS,
    ResolvConf,
    SystemResolver,
    serverAddress,
)

POD = """
# as Kubernetes writes it
nameserver 10.96.0.10
search default.svc.cluster.local svc.cluster.local cluster.local
options timeout:1 ndots:5
"""


class ResolvConfTests(SynchronousTestCase):
    """resolv.conf(5)."""

    def test_pod(self) -> None:
        """Name servers, suffixes and dots are read."""
        self.assertEqual(
            ResolvConf.parse(POD),
            ResolvConf(
                ("10.96.0.10",),
                ("default.svc.cluster.local", "svc.cluster.local", "cluster.local"),
                5,
            ),
        )

    def test_empty(self) -> None:
        """An empty file means the name server of this machine."""
        self.assertEqual(ResolvConf.parse(""), ResolvConf(("127.0.0.1",), (), 1))

    def test_limits(self) -> None:
        """More name servers and suffixes than the C library takes are ignored."""
        text = "".join(f"nameserver 10.0.0.{each}\n" for each in range(9))
        found = ResolvConf.parse(f"{text}search {' '.join('abcdefghi')}\n")
        self.assertEqual((len(found.servers), len(found.search)), (MAX_SERVERS, MAX_SEARCH))

    def test_malformed(self) -> None:
        """What is not understood is left out."""
        text = "nameserver\noptions ndots:x\nsearch .\nfoo bar\n; comment\n"
        self.assertEqual(ResolvConf.parse(text), ResolvConf(("127.0.0.1",), (), 1))

    def test_fewDots(self) -> None:
        """A name with fewer dots than the file says is tried with each suffix first."""
        self.assertEqual(
            ResolvConf.parse(POD).candidates("photos.default.svc"),
            [
                "photos.default.svc.default.svc.cluster.local",
                "photos.default.svc.svc.cluster.local",
                "photos.default.svc.cluster.local",
                "photos.default.svc",
            ],
        )

    def test_manyDots(self) -> None:
        """A name with enough dots is tried as it is first."""
        self.assertEqual(
            ResolvConf((), ("example",), 2).candidates("a.b.c"), ["a.b.c", "a.b.c.example"]
        )

    def test_absolute(self) -> None:
        """A name that ends in a dot is tried alone."""
        self.assertEqual(ResolvConf.parse(POD).candidates("photos."), ["photos"])


class ServerTests(SynchronousTestCase):
    """Name servers that operators name."""

    def test_addresses(self) -> None:
        """Addresses of both families, with and without a port."""
        for text, expected in (
            ("10.0.0.10", ("10.0.0.10", 53)),
            ("10.0.0.10:5353", ("10.0.0.10", 5353)),
            ("fd00::a", ("fd00::a", 53)),
            ("[fd00::a]", ("fd00::a", 53)),
            ("[fd00::a]:5353", ("fd00::a", 5353)),
        ):
            self.assertEqual(serverAddress(text), expected)


@define
class Ports:
    """A reactor that opens no UDP ports, and notes down the attempts."""

    clock: Clock = field(factory=Clock)
    attempts: int = 0

    def listenUDP(self, *arguments: Any, **more: Any) -> Any:
        self.attempts += 1
        if self.attempts == 1:
            raise CannotListenError("", 53, OSError(24, "Too many open files"))
        raise ZeroDivisionError

    def callLater(self, *arguments: Any) -> Any:
        return self.clock.callLater(*arguments)


class SystemResolverTests(SynchronousTestCase):
    """What is known without a name server."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.resolvConf = self.folder / "resolv.conf"
        self.hosts = self.folder / "hosts"
        self.resolver = SystemResolver(Clock(), (), self.resolvConf, self.hosts)

    def test_hosts(self) -> None:
        """Names of the hosts file are found without a name server, in both families."""
        self.hosts.write_text("10.0.0.1 photos\n10.0.0.2 photos\nfd00::1 photos\n")
        answers, _, _ = self.successResultOf(self.resolver.lookupAddress("photos"))
        self.assertEqual([each.payload.dottedQuad() for each in answers], ["10.0.0.1", "10.0.0.2"])
        answers, _, _ = self.successResultOf(self.resolver.lookupIPV6Address("photos"))
        self.assertEqual([each.type for each in answers], [dns.AAAA])

    def test_candidates(self) -> None:
        """The search list is read anew for each name; without a file there is none."""
        self.assertEqual(self.resolver.candidates("photos"), ["photos"])
        self.resolvConf.write_text("search example\n")
        self.assertEqual(self.resolver.candidates("photos"), ["photos.example", "photos"])

    def test_noDescriptors(self) -> None:
        """A lookup for which no port can be opened fails; the next one begins anew."""
        ports = Ports()
        resolver = SystemResolver(ports, ("10.0.0.10",), self.resolvConf, self.hosts)
        resolver._reactor = ports  # type: ignore[assignment]
        self.assertRaises(CannotListenError, resolver.lookupService, "photos")
        self.assertRaises(ZeroDivisionError, resolver.lookupService, "photos")
