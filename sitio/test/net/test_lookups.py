"""
Tests of L{sitio.net.lookups}.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, AF_UNSPEC, AI_NUMERICHOST, SOCK_STREAM, gaierror, getaddrinfo
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sitio.net.loglimit import LOG_SECONDS
from sitio.net.lookups import MAX_LOOKUPS, SHARED_SECONDS, Lookups


@implementer(IResolutionReceiver)
@define
class Receiver:
    """
    Notes what it is told of one lookup.

    @ivar addresses: all addresses so far.
    @ivar ended: whether no more will come.
    """

    addresses: list[Any] = field(factory=list)
    ended: bool = False

    def resolutionBegan(self, resolution: Any) -> None:
        """The lookup can be cancelled, which changes nothing."""
        resolution.cancel()

    def addressResolved(self, address: Any) -> None:
        """One more."""
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        """These were all."""
        assert not self.ended
        self.ended = True


def only(host: str, port: int = 80) -> list[Any]:
    """What C{getaddrinfo} returns for a name with one IPv4 address."""
    return [(AF_INET, SOCK_STREAM, 6, "", (host, port))]


class LookupsTests(SynchronousTestCase):
    """Which names are looked up, and in how many threads."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.threads: list[tuple[tuple[Any, ...], Deferred[Any]]] = []
        self.lookups = Lookups(self.clock, self.inThread, self.lookUp)

    def inThread(self, reactor: object, call: Any, *arguments: Any) -> Deferred[Any]:
        """A thread whose call ends when a test says so."""
        done: Deferred[Any] = Deferred()
        self.threads.append((arguments, done))
        return done

    def lookUp(self, *question: Any) -> Any:
        """C{getaddrinfo} for addresses; a name server is never asked."""
        self.assertEqual(question[5:], (AI_NUMERICHOST,))
        return getaddrinfo(*question)

    def ask(self, name: str, types: Any = None, port: int = 80, kind: str = "TCP") -> Receiver:
        """Look a name up."""
        receiver = Receiver()
        self.lookups.resolveHostName(receiver, name, port, types, kind)
        return receiver

    def test_interface(self) -> None:
        """It is a resolver for C{installNameResolver}."""
        verifyObject(IHostnameResolver, self.lookups)

    def test_known(self) -> None:
        """Addresses in any form, and localhost, need no thread; the result is there at once."""
        four, six = IPv4Address("TCP", "127.0.0.1", 80), IPv6Address("TCP", "::1", 80)
        for name, types, expected in (
            ("127.0.0.1", None, [four]),
            ("127.0.0.1", [IPv4Address], [four]),
            ("127.0.0.1", [IPv6Address], []),
            ("127.1", None, [four]),
            ("::1", None, [six]),
            ("::1", [IPv4Address], []),
            ("2001:db8::7", [IPv6Address], [IPv6Address("TCP", "2001:db8::7", 80)]),
            ("fe80::7%1", None, [IPv6Address("TCP", "fe80::7", 80, 0, 1)]),
            ("localhost", None, [four, six]),
            ("LocalHost.", [IPv4Address], [four]),
            ("localhost", [IPv6Address], [six]),
            ("localhost", [IPv4Address, IPv6Address], [four, six]),
        ):
            receiver = self.ask(name, types)
            self.assertEqual(receiver.addresses, expected, name)
            self.assertTrue(receiver.ended)
        self.assertEqual(self.threads, [])

    def test_datagrams(self) -> None:
        """Addresses are for the transport that was asked for."""
        self.assertEqual(
            self.ask("localhost", [IPv4Address], 53, "UDP").addresses,
            [IPv4Address("UDP", "127.0.0.1", 53)],
        )

    def test_name(self) -> None:
        """A name is looked up in a thread, for the addresses that are wanted."""
        for types, family in (
            (None, AF_UNSPEC),
            ([IPv4Address], AF_INET),
            ([IPv6Address], AF_INET6),
        ):
            receiver = self.ask("service", types)
            arguments, done = self.threads.pop()
            self.assertEqual(arguments, ("service", 80, family, SOCK_STREAM))
            self.assertFalse(receiver.ended)
            done.callback(
                [(AF_INET6, SOCK_STREAM, 6, "", ("2001:db8::7", 80, 0, 0)), *only("10.0.0.7")]
            )
            found = [IPv6Address("TCP", "2001:db8::7", 80), IPv4Address("TCP", "10.0.0.7", 80)]
            self.assertEqual(
                receiver.addresses, [it for it in found if not types or type(it) in types]
            )
            self.assertTrue(receiver.ended)

    def test_shared(self) -> None:
        """A lookup is shared by all who ask soon after its start, and by nobody after its end."""
        receivers = [self.ask("service") for _ in range(1000)]
        [(_, done)] = self.threads
        done.callback(only("10.0.0.7"))
        for each in receivers:
            self.assertEqual(each.addresses, [IPv4Address("TCP", "10.0.0.7", 80)])
            self.assertTrue(each.ended)
        self.ask("service")
        self.assertEqual(len(self.threads), 2)

    def test_lost(self) -> None:
        """Who asks later is not held up by a lookup whose packet was lost."""
        first = self.ask("service")
        self.clock.advance(SHARED_SECONDS)
        second = self.ask("service")
        self.assertEqual(len(self.threads), 2)
        self.threads[1][1].callback(only("10.0.0.7"))
        self.assertEqual((first.ended, second.ended), (False, True))
        self.threads[0][1].callback(only("10.0.0.7"))
        self.assertTrue(first.ended)

    def test_hanging(self) -> None:
        """A name server that never answers takes a limited number of threads."""
        for _ in range(10 * MAX_LOOKUPS):
            self.ask("service")
            self.clock.advance(SHARED_SECONDS)
        self.assertEqual(len(self.threads), MAX_LOOKUPS)
        self.assertTrue(self.ask("localhost").ended)

    def test_limit(self) -> None:
        """So many names are looked up at a time; others wait, in order."""
        receivers = [self.ask(f"name{number}") for number in range(MAX_LOOKUPS + 2)]
        self.assertEqual(len(self.threads), MAX_LOOKUPS)
        self.threads[3][1].callback(only("10.0.0.7"))
        self.assertTrue(receivers[3].ended)
        self.assertEqual(len(self.threads), MAX_LOOKUPS + 1)
        self.assertEqual(self.threads[-1][0][0], f"name{MAX_LOOKUPS}")

    def test_unknown(self) -> None:
        """A name that is unknown, or that can't be a name, has no addresses."""
        for error in (gaierror(-2, "unknown"), UnicodeError("too long")):
            receiver = self.ask("a" * 64)
            self.threads.pop()[1].errback(Failure(error))
            self.assertEqual(receiver.addresses, [])
            self.assertTrue(receiver.ended)

    def test_endpoint(self) -> None:
        """Twisted's endpoints take such a result, and report an unknown name."""
        reactor: Any = MemoryReactorClock()
        reactor.installNameResolver(self.lookups)
        connecting = HostnameEndpoint(reactor, "localhost", 80).connect(Factory())
        self.assertEqual(reactor.tcpClients[0][:2], ("127.0.0.1", 80))
        connecting.cancel()
        self.failureResultOf(connecting)
        connecting = maybeDeferred(HostnameEndpoint(reactor, "service", 80).connect, Factory())
        self.threads.pop()[1].errback(Failure(gaierror(-2, "unknown")))
        self.failureResultOf(connecting, DNSLookupError)


class BrokenTests(SynchronousTestCase):
    """What nobody expects."""

    def test_noThread(self) -> None:
        """
        If no thread can be started, the name has no addresses, and the log says why: once in
        a while, as each request asks.
        """

        def inThread(*arguments: object) -> Deferred[Any]:
            raise RuntimeError("can't start new thread")

        clock = Clock()
        lookups = Lookups(clock, inThread)
        for wait, logged in ((0, 1), (0, 0), (LOG_SECONDS - 1, 0), (1, 1), (0, 0)):
            clock.advance(wait)
            receiver = Receiver()
            lookups.resolveHostName(receiver, "service")
            self.assertTrue(receiver.ended)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), logged)
