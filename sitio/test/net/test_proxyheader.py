"""
Promises of L{sitio.net.proxyheader}: the header that tells an upstream the client's address.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.proxyheader import LOCAL, PrefacedEndpoint, headerFor
from sitio.net.proxyprotocol import parseHeader
from sitio.test.helpers.rows import Row, eachRow

SIGNATURE = "0d0a0d0a000d0a515549540a"


def ip(host: str, port: int) -> IPv4Address | IPv6Address:
    """An address of Twisted's."""
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


#: The ends of a client's connection, what follows the signature in hexadecimal digits (section
#: 2.2: version and command, family and protocol, length, addresses, ports), and the source that
#: our own parser reads.
HEADERS: list[Row] = [
    ("TCP over IPv4", ip("192.0.2.7", 40000), ip("198.51.100.80", 443),
     "21 11 000c c0000207 c6336450 9c40 01bb", ip("192.0.2.7", 40000)),
    ("TCP over IPv6", ip("2001:db8::7", 1), ip("::1", 65535),
     "21 21 0024 20010db8000000000000000000000007 00000000000000000000000000000001 0001 ffff",
     ip("2001:db8::7", 1)),
    ("IPv4 on a port of IPv6", ip("192.0.2.7", 40000), ip("2001:db8::1", 80),
     "21 21 0024 00000000000000000000ffffc0000207 20010db8000000000000000000000001 9c40 0050",
     ip("192.0.2.7", 40000)),
    ("IPv6 that came to an IPv4 address", ip("2001:db8::7", 0), ip("10.0.0.1", 80),
     "21 21 0024 20010db8000000000000000000000007 00000000000000000000ffff0a000001 0000 0050",
     ip("2001:db8::7", 0)),
    ("A zone is left out", ip("fe80::1%eth0", 1), ip("fe80::2%eth0", 2),
     "21 21 0024 fe800000000000000000000000000001 fe800000000000000000000000000002 0001 0002",
     ip("fe80::1", 1)),
    ("UNIX sockets, the client's without a name", UNIXAddress(None), UNIXAddress(b"/run/a"),
     f"21 31 00d8 {'00' * 108} 2f72756e2f61{'00' * 102}", None),
    ("A UNIX socket with a name as text", UNIXAddress("/a"), UNIXAddress(b"\0abstract"),
     f"21 31 00d8 2f61{'00' * 106} 006162737472616374{'00' * 99}", None),
    ("The longest path of a UNIX socket", UNIXAddress(b"a" * 108), UNIXAddress(b"b" * 120),
     f"21 31 00d8 {'61' * 108}{'62' * 108}", None),
    ("Ends of different kinds", ip("192.0.2.7", 40000), UNIXAddress(b"/run/a"),
     "21 00 0000", None),
    ("A host that is no address", ip("a.example", 1), ip("192.0.2.1", 2), "21 00 0000", None),
]  # fmt: skip


@eachRow(HEADERS)
class HeaderTests(SynchronousTestCase):
    """Headers, by the bytes of the specification."""

    def check(
        self, source: IAddress, destination: IAddress, expected: str, read: IAddress | None
    ) -> None:
        """What is written, and what sitio's own parser reads of it."""
        header = headerFor(source, destination)
        self.assertEqual(header.hex(), SIGNATURE + expected.replace(" ", ""))
        for rest in (b"", b"GET / HTTP/1.1\r\n"):
            found = parseHeader(header + rest)
            assert found is not None
            self.assertEqual((found.size, found.source), (len(header), read))

    def test_local(self) -> None:
        """A connection of sitio's own says so, and names nobody."""
        self.assertEqual(LOCAL.hex(), f"{SIGNATURE}20000000")
        self.assertEqual(parseHeader(LOCAL), (len(LOCAL), None))

    @given(st.tuples(st.ip_addresses(), st.ip_addresses()), st.integers(0, 65535))
    def test_each(self, hosts: tuple[Any, Any], port: int) -> None:
        """Our own parser reads each address as it was."""
        source, destination = hosts
        header = headerFor(ip(str(source), port), ip(str(destination), 80))
        found = parseHeader(header)
        assert found is not None and found.source is not None
        expected = str(getattr(source, "ipv4_mapped", None) or source)
        self.assertEqual((found.source.host, found.source.port), (expected, port))


class Greeter(Protocol):
    """Writes when it is connected."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")


class Endpoint:
    """
    An endpoint that connects at once.

    @ivar wrapped: the factory that it was given.
    """

    def __init__(self) -> None:
        self.transport = StringTransport()
        self.wrapped: Any = None

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect to the factory's protocol, if it makes one."""
        self.wrapped = factory
        protocol = factory.buildProtocol(None)
        if protocol is not None:
            protocol.makeConnection(self.transport)
        return succeed(protocol)


class PrefaceTests(SynchronousTestCase):
    """L{PrefacedEndpoint}."""

    def connect(self, factory: Any) -> tuple[Any, Endpoint]:
        """What the Deferred fires with, and the endpoint."""
        endpoint: Any = Endpoint()
        return self.successResultOf(
            PrefacedEndpoint(endpoint, b"first ").connect(factory)
        ), endpoint

    def test_first(self) -> None:
        """The preface is before all that the protocol writes, once; the protocol is the same."""
        protocol, endpoint = self.connect(Factory.forProtocol(Greeter))
        self.assertIsInstance(protocol, Greeter)
        self.assertIs(protocol.transport, endpoint.transport)
        self.assertEqual(endpoint.transport.value(), b"first hello")
        self.assertNotIn("makeConnection", vars(protocol))

    def test_unwanted(self) -> None:
        """A factory that wants no connection gets none."""

        class Unwilling(Factory):
            def buildProtocol(self, addr: Any) -> None:
                return None

        protocol, endpoint = self.connect(Unwilling())
        self.assertEqual((protocol, endpoint.transport.value()), (None, b""))

    def test_started(self) -> None:
        """The factory is told when its connections begin and end."""
        told = []

        class Told(Factory):
            def doStart(self) -> None:
                told.append("start")

            def doStop(self) -> None:
                told.append("stop")

        _, endpoint = self.connect(Told.forProtocol(Greeter))
        endpoint.wrapped.doStart()
        endpoint.wrapped.doStop()
        self.assertEqual(told, ["start", "stop"])
