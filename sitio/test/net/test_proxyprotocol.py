"""
Promises of L{sitio.net.proxyprotocol}: the header with which a load balancer tells the
client's address.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.loglimit import LOG_SECONDS
from sitio.net.proxyprotocol import (
    HEADER_SECONDS,
    MAX_V1_BYTES,
    MAX_V2_BYTES,
    MAX_WAITING,
    BadProxyHeader,
    ProxyProtocolFactory,
    parseHeader,
)
from sitio.testing.harness import Harness
from sitio.testing.network import Peer

#: The address of the load balancer.
BALANCER = "192.0.2.200"

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


def v2(rest: bytes = b"", command: int = 0x21, kind: int = 0x11, size: int | None = None) -> bytes:
    """A header of version 2."""
    length = len(rest) if size is None else size
    return SIGNATURE + bytes((command, kind)) + length.to_bytes(2, "big") + rest


def v2Of(host: str, port: int = 40000, extra: bytes = b"") -> bytes:
    """A header of version 2 with this source address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host)
    ports = port.to_bytes(2, "big") + (80).to_bytes(2, "big")
    return v2(packed + packed + ports + extra, kind=0x21 if ":" in host else 0x11)


LONGEST_V6 = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

#: Headers, and the client's address that each tells; None for the load balancer's own.
GOOD: list[tuple[bytes, str | None]] = [
    (b"PROXY TCP4 192.0.2.7 192.0.2.80 40000 80\r\n", "192.0.2.7"),
    (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", "255.255.255.255"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::80 40000 80\r\n", "2001:db8::7"),
    (b"PROXY TCP6 2001:DB8:0:0:0:0:0:7 ::1 40000 80\r\n", "2001:db8::7"),
    (b"PROXY TCP6 2001:0db8:0000:0000:0001:0000:0000:0007 :: 1 2\r\n", "2001:db8::1:0:0:7"),
    (b"PROXY TCP6 0:0:0:0:0:0:0:1 ::1 1 2\r\n", "::1"),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7"),
    (b"PROXY TCP6 %b %b 65535 65535\r\n" % (LONGEST_V6, LONGEST_V6), LONGEST_V6.decode()),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN \r\n", None),
    (b"PROXY UNKNOWN %b %b 65535 65535\r\n" % (LONGEST_V6, LONGEST_V6), None),
    (b"PROXY UNKNOWN some\ttext that \n nobody reads\r\n", None),
    (v2Of("192.0.2.7"), "192.0.2.7"),
    (v2Of("192.0.2.7", 0, b"\x04\x00\x01x"), "192.0.2.7"),
    (v2Of("2001:db8::7"), "2001:db8::7"),
    (v2Of("2001:db8:0:0:1:0:0:7"), "2001:db8::1:0:0:7"),
    (v2Of("::1", extra=bytes(1000)), "::1"),
    (v2Of("::ffff:192.0.2.7"), "192.0.2.7"),
    # LOCAL: a health check; the rest is skipped.
    (v2(command=0x20, kind=0), None),
    (v2(b"any rest", command=0x20, kind=0xFF), None),
    # A family or a protocol without IP addresses of TCP.
    (v2(kind=0), None),
    (v2(b"any rest", kind=0), None),
    (v2(bytes(12), kind=0x10), None),
    (v2(bytes(12), kind=0x12), None),
    (v2(bytes(36), kind=0x22), None),
    (v2(bytes(216), kind=0x31), None),
    (v2(bytes(MAX_V2_BYTES - 16), kind=0x31), None),
]

#: What is no header, and a part of the error.
BAD: list[tuple[bytes, str]] = [
    (REQUEST, "does not begin"),
    (b"\r\n\r\n\x00\r\nQUIX", "does not begin"),
    (b"\x16\x03\x01", "does not begin"),
    (b"proxy TCP4 192.0.2.7 192.0.2.80 40000 80\r\n", "does not begin"),
    (b"PROXY\tTCP4 192.0.2.7 192.0.2.80 40000 80\r\n", "does not begin"),
    (b" PROXY TCP4", "does not begin"),
    (b"PROXY\r\n", "does not begin"),
    (b"PROXY \r\n", "not PROXY TCP4"),
    (b"PROXY UNKNOWNS\r\n", "not PROXY TCP4"),
    (b"PROXY TCP 192.0.2.7 192.0.2.80 40000 80\r\n", "not PROXY TCP4"),
    (b"PROXY tcp4 192.0.2.7 192.0.2.80 40000 80\r\n", "not PROXY TCP4"),
    (b"PROXY TCP4\r\n", "not PROXY TCP4"),
    (b"PROXY TCP4 192.0.2.7\r\n", "not PROXY TCP4"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.80 40000\r\n", "not PROXY TCP4"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.80 40000 80 9\r\n", "not PROXY TCP4"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.80 40000 80 \r\n", "not PROXY TCP4"),
    (b"PROXY TCP4  192.0.2.7 192.0.2.80 40000 80\r\n", "not PROXY TCP4"),
    # Lines of a request inside an address.
    (b"PROXY TCP4 9.8.7.6\nX-Original-URL:/admin 1.1.1.1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP6 ::1\nX-Original-URL:/admin ::1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 1.1.1.1 9.8.7.6\rX:/admin 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 127.0.0.1\x00 1.1.1.1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 127.0.0.1,10.0.0.1 1.1.1.1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 \xff.0.0.1 1.1.1.1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 localhost 1.1.1.1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 127.1 1.1.1.1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 127.0.0.256 1.1.1.1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 127.0.0.01 1.1.1.1 1 2\r\n", "not"),
    (b"PROXY TCP4 0177.0.0.1 1.1.1.1 1 2\r\n", "not"),
    (b"PROXY TCP4 0x7f.0.0.1 1.1.1.1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 ::1 ::1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP6 127.0.0.1 127.0.0.1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP6 [::1] ::1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP6 1::2::3 ::1 1 2\r\n", "not an IP address"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 -1 2\r\n", "port"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 2\r\n", "port"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1_0 2\r\n", "port"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 080 2\r\n", "port"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n", "port"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 99999999999\r\n", "port"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 2\nGET\r\n", "port"),
    (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 \xb2\r\n", "port"),
    (b"PROXY UNKNOWN".ljust(MAX_V1_BYTES - 1, b"x") + b"\r\n", "longer than 107"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.80 40000 80\n".ljust(MAX_V1_BYTES), "longer than 107"),
    (v2(bytes(12), command=0x11), "version"),
    (v2(bytes(12), command=0x31), "version"),
    (v2(bytes(12), command=0x22), "version"),
    (v2(bytes(12), kind=0x41), "family"),
    (v2(bytes(12), kind=0x13), "protocol"),
    (v2(bytes(11)), "too short"),
    (v2(bytes(35), kind=0x21), "too short"),
    (v2(bytes(215), kind=0x31), "too short"),
    (v2(b"", size=65535), "longer than 16384"),
    (v2(b"", command=0x20, size=MAX_V2_BYTES - 15), "longer than 16384"),
]


class ParseTests(SynchronousTestCase):
    """Reading one header."""

    def test_good(self) -> None:
        """Each form of the header is read; what follows is left alone."""
        for data, host in GOOD:
            for after in (b"", REQUEST, SIGNATURE, b"\r\n"):
                header = parseHeader(data + after)
                assert header is not None, data
                self.assertEqual(header.size, len(data), data)
                self.assertEqual(header.source and header.source.host, host, data)

    def test_incomplete(self) -> None:
        """The beginning of a header is neither a header nor an error."""
        for data, _ in GOOD:
            for size in range(len(data)):
                self.assertIs(parseHeader(data[:size]), None, data[:size])

    def test_bad(self) -> None:
        """What is no header is refused."""
        for data, why in BAD:
            with self.assertRaises(BadProxyHeader, msg=repr(data)) as caught:
                parseHeader(data)
            self.assertIn(why, str(caught.exception), data)

    def test_source(self) -> None:
        """The source is an address of Twisted's, with its port."""
        for data, expected in (
            (GOOD[0][0], IPv4Address("TCP", "192.0.2.7", 40000)),
            (v2Of("192.0.2.7", 65535), IPv4Address("TCP", "192.0.2.7", 65535)),
            (v2Of("::ffff:192.0.2.7", 9), IPv4Address("TCP", "192.0.2.7", 9)),
            (GOOD[2][0], IPv6Address("TCP", "2001:db8::7", 40000)),
            (v2Of("2001:db8::7", 1), IPv6Address("TCP", "2001:db8::7", 1)),
        ):
            header = parseHeader(data)
            assert header is not None
            self.assertEqual(header.source, expected)


class PortTests(SynchronousTestCase):
    """A C{haproxy:} port in front of a whole sidecar."""

    def setUp(self) -> None:
        self.sidecar = Harness()
        self.factory = ProxyProtocolFactory(self.sidecar.clock, self.sidecar.factory)

    def connect(self, balancer: str = BALANCER) -> Peer:
        """Connect the load balancer."""
        peer = Peer(self.sidecar.clock, balancer)
        self.sidecar.clients.append(peer)
        protocol = self.factory.buildProtocol(peer.transport.getPeer())
        assert protocol is not None
        peer.connect(protocol)
        return peer

    def forwarded(self) -> list[tuple[str, str]]:
        """The fields of the one request that the upstream got."""
        request = self.sidecar.upstreams[-1].gotRequest()
        return request.headers.allItems()

    def test_address(self) -> None:
        """The upstream gets the address of the header, or the load balancer's own."""
        for data, host in GOOD:
            peer = self.connect()
            peer.sends(data + REQUEST)
            fields = dict(self.forwarded())
            self.assertEqual(fields["X-Forwarded-For"], host or BALANCER, data)
            peer.resets()

    def test_claims(self) -> None:
        """
        Claims pass or not by the address in the header, not by the load balancer's: it passes
        what its client has sent.
        """
        claim = REQUEST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Proto: https\r\n\r\n")
        for host, balancer, scheme in (
            (b"8.8.8.8", "10.0.0.1", "http"),
            (b"10.0.0.9", "8.8.8.8", "https"),
        ):
            peer = self.connect(balancer)
            peer.sends(b"PROXY TCP4 %b 192.0.2.80 40000 80\r\n" % host + claim)
            self.assertEqual(dict(self.forwarded())["X-Forwarded-Proto"], scheme)
            peer.resets()

    def test_pieces(self) -> None:
        """A header may come in pieces of any size, also with a part of the request."""
        for data, host in GOOD[:20]:
            whole = data + REQUEST
            for size in (1, 2, 3, 5, 11, 17, len(data) - 1, len(data), len(data) + 1):
                peer = self.connect()
                peer.sends(*(whole[at : at + size] for at in range(0, len(whole), size)))
                fields = dict(self.forwarded())
                self.assertEqual(fields["X-Forwarded-For"], host or BALANCER, (data, size))
                peer.resets()

    def test_refused(self) -> None:
        """A connection that begins otherwise is reset, and the upstream gets nothing."""
        with capturedLogs():
            for data, _ in BAD:
                for pieces in ([data + REQUEST], [data[at : at + 1] for at in range(len(data))]):
                    peer = self.connect()
                    peer.sends(*pieces)
                    self.assertTrue(peer.reset, data)
                    self.assertEqual(peer.got(), b"")
        self.assertEqual(self.sidecar.upstreams, [])
        self.sidecar.assertQuiet()

    def test_addressIsNoField(self) -> None:
        """Nothing in a header becomes a field of the request."""
        with capturedLogs():
            for name in (b"TCP4", b"TCP6"):
                peer = self.connect()
                peer.sends(
                    b"PROXY %b 9.8.7.6\nX-Original-URL:/admin 1.1.1.1 1 2\r\n" % name + REQUEST
                )
                self.assertTrue(peer.reset)
        self.assertEqual(self.sidecar.upstreams, [])

    def test_addressAtOnce(self) -> None:
        """A protocol is made when the header is complete, and knows the address."""
        seen: list[tuple[IAddress | None, IAddress]] = []

        class Server(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                seen.append((addresses.pop(), self.transport.getPeer()))

        class Servers(Factory):
            def buildProtocol(self, addr: IAddress | None) -> Server:
                addresses.append(addr)
                return Server()

        addresses: list[IAddress | None] = []
        factory = ProxyProtocolFactory(self.sidecar.clock, Servers())
        reader = factory.buildProtocol(None)
        reader.makeConnection(StringTransport())
        reader.dataReceived(GOOD[0][0][:-1])
        self.assertEqual(seen, [])
        reader.dataReceived(b"\n")
        address = IPv4Address("TCP", "192.0.2.7", 40000)
        self.assertEqual(seen, [(address, address)])

    def test_inWrapper(self) -> None:
        """If the transport is another protocol's, that protocol gets the new one too."""
        outer = WrappingFactory(self.factory)
        peer = Peer(self.sidecar.clock, BALANCER)
        wrapper: Any = outer.buildProtocol(peer.transport.getPeer())
        self.assertIsInstance(wrapper, ProtocolWrapper)
        peer.connect(wrapper)
        peer.sends(GOOD[0][0], REQUEST)
        self.assertEqual(dict(self.forwarded())["X-Forwarded-For"], "192.0.2.7")
        peer.resets()

    def test_notCountedBefore(self) -> None:
        """A connection without its header is no client yet."""
        peer = self.connect()
        self.assertEqual(self.sidecar.factory.connections, 0)
        peer.sends(b"PROXY UNKNOWN\r\n")
        self.assertEqual(self.sidecar.factory.connections, 1)
        peer.closes()
        self.assertEqual(self.sidecar.factory.connections, 0)
        self.sidecar.assertQuiet()

    def test_closesBefore(self) -> None:
        """A health check may connect and close without a header; nothing is logged."""
        with capturedLogs() as events:
            for part in (b"", b"PROXY TCP4 1."):
                peer = self.connect()
                if part:
                    peer.sends(part)
                peer.resets()
        self.assertEqual(events, [])
        self.sidecar.assertQuiet()

    def test_late(self) -> None:
        """A header that is not complete within its time ends the connection."""
        with capturedLogs() as events:
            peer = self.connect()
            for piece in GOOD[0][0][:10]:
                self.sidecar.advance(HEADER_SECONDS / 10 - 0.1)
                peer.sends(bytes([piece]))
            self.assertFalse(peer.reset)
            self.sidecar.advance(1.5)
        self.assertTrue(peer.reset)
        [event] = events
        self.assertEqual(event["peer"], BALANCER)
        self.assertEqual(event["why"], "no whole PROXY header within 5 seconds")
        self.sidecar.assertQuiet()

    def test_notLateAfter(self) -> None:
        """The time for the header does not bound the connection."""
        peer = self.connect()
        peer.sends(GOOD[0][0])
        self.sidecar.advance(HEADER_SECONDS + 1)
        self.assertFalse(peer.reset)
        peer.sends(REQUEST)
        self.forwarded()
        peer.resets()

    def test_tooMany(self) -> None:
        """Of too many connections without a header, the oldest ends."""
        with capturedLogs() as events:
            peers = [self.connect() for _ in range(MAX_WAITING)]
            peers[0].sends(GOOD[0][0])
            more = [self.connect() for _ in range(3)]
            self.sidecar.settle()
        self.assertEqual([each.reset for each in peers[:4]], [False, True, True, False])
        more[-1].sends(GOOD[0][0] + REQUEST)
        self.assertEqual(dict(self.forwarded())["X-Forwarded-For"], "192.0.2.7")
        self.assertEqual(events[0]["why"], f"{MAX_WAITING} connections wait for a PROXY header")
        for each in [*peers, *more]:
            each.resets()
        self.sidecar.assertQuiet()

    def test_logs(self) -> None:
        """Refusals are logged, once a minute at most, with the number of the others."""
        with capturedLogs() as events:
            for _ in range(3):
                self.connect().sends(REQUEST)
            self.sidecar.advance(LOG_SECONDS)
            self.connect().sends(b"PROXY TCP4 x y 1 2\r\n")
        self.assertEqual([each["skipped"] for each in events], [0, 2])
        self.assertIn("not an IP address", events[1]["why"])

    def test_clientIsRefused(self) -> None:
        """If the wrapped factory takes no connection, it is closed."""

        class Nobody(Factory):
            def buildProtocol(self, addr: IAddress | None) -> None:
                return None

        reader = ProxyProtocolFactory(self.sidecar.clock, Nobody()).buildProtocol(None)
        transport = StringTransport()
        reader.makeConnection(transport)
        reader.dataReceived(b"PROXY UNKNOWN\r\n")
        self.assertTrue(transport.disconnecting)

    def test_factory(self) -> None:
        """The wrapped factory starts and stops with this one, and names it."""
        calls: list[str] = []

        class Started(Factory):
            noisy = False

            def startFactory(self) -> None:
                calls.append("start")

            def stopFactory(self) -> None:
                calls.append("stop")

        factory = ProxyProtocolFactory(self.sidecar.clock, Started())
        factory.doStart()
        factory.doStop()
        self.assertEqual(calls, ["start", "stop"])
        self.assertEqual(factory.logPrefix(), "Started (PROXY)")
        self.assertEqual(self.factory.logPrefix(), "sitio (PROXY)")
