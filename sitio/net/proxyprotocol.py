"""
The PROXY protocol, versions 1 and 2, for C{haproxy:} ports.

A load balancer sends one header with the client's address before anything else:
https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (numbers of sections below
are its).  L{parseHeader} reads a header, and L{ProxyProtocolFactory} makes connections
that begin with one.  docs/decisions/0021 says why Twisted's parser is not used.

Contract: the clock is passed in.
"""

from __future__ import annotations

import re
import socket
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    ILoggingContext,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.net.deadlines import Deadlines
from sitio.net.families import unmapped
from sitio.net.loglimit import LogLimit

#: Seconds from the connection to the end of its header.  A lost packet is sent again
#: after 1 s, and once more after 2 s.
HEADER_SECONDS = 5.0

#: Longest header of version 1 in bytes, with its CRLF (section 2.1).
MAX_V1_BYTES = 107

#: Longest header of version 2 in bytes, as many as HAProxy takes.  It may hold a
#: certificate.
MAX_V2_BYTES = 16 * 1024

#: Connections that may wait for their header.  One more ends the oldest of them: a load
#: balancer sends the header at once.
MAX_WAITING = 1024

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_FAMILIES = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}
#: A port without leading zeros; its value is checked later.
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")

# Of version 2: version and command, the byte for families and protocols, bytes of the
# addresses.
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESS_BYTES = {0: 0, 1: 12, 2: 36, 3: 216}
_MAX_PROTOCOL = 2
_PREFIX_BYTES = 16


class BadProxyHeader(ValueError):
    """The bytes are no header of the PROXY protocol; the message says why."""


class ProxyHeader(NamedTuple):
    """
    A header.

    @ivar size: its length in bytes.
    @ivar source: the client's address; L{None} if the header says that it is unknown, or
        that the load balancer itself is the client.
    """

    size: int
    source: IPv4Address | IPv6Address | None


def parseHeader(data: bytes) -> ProxyHeader | None:
    """
    Parse the header at the beginning of these bytes.

    @return: the header; L{None} if more bytes are needed.
    @raise BadProxyHeader: no header begins like this.
    """
    if data.startswith(_V1):
        return _parseV1(data)
    if data.startswith(_V2):
        return _parseV2(data)
    if _V1.startswith(data) or _V2.startswith(data):
        return None
    raise BadProxyHeader("the connection does not begin with a PROXY header")


def _parseV1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1_BYTES)
    if end < 0:
        if len(data) >= MAX_V1_BYTES:
            raise BadProxyHeader(f"the line is longer than {MAX_V1_BYTES} bytes")
        return None
    name, _, rest = data[len(_V1) : end].partition(b" ")
    size = end + 2
    if name == b"UNKNOWN":
        # Whatever follows is ignored, also nothing (section 2.1).
        return ProxyHeader(size, None)
    family = _V1_FAMILIES.get(name)
    values = rest.split(b" ")
    if family is None or len(values) != 4:
        raise BadProxyHeader("the line is not PROXY TCP4, TCP6 or UNKNOWN with its addresses")
    host, _, port, _ = (
        _packed(family, values[0]),
        _packed(family, values[1]),
        *map(_port, values[2:]),
    )
    return ProxyHeader(size, _address(family, host, port))


def _packed(family: int, text: bytes) -> bytes:
    try:
        packed = socket.inet_pton(family, text.decode("ascii"))
    except (OSError, ValueError):
        raise BadProxyHeader("an address is not an IP address") from None
    if family == socket.AF_INET and socket.inet_ntop(family, packed).encode() != text:
        raise BadProxyHeader("an address is not written in the usual way")
    return packed


def _port(text: bytes) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise BadProxyHeader("a port is not a number from 0 to 65535")
    return int(text)


def _address(family: int, packed: bytes, port: int) -> IPv4Address | IPv6Address:
    # Both versions write an address as inet_ntop does (RFC 5952), like one of a socket.  A
    # balancer that listens on both families may write an IPv4 client as an IPv6 one.
    host = unmapped((socket.inet_ntop(family, packed), port, 0, 0))[0]
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


def _parseV2(data: bytes) -> ProxyHeader | None:
    if len(data) < _PREFIX_BYTES:
        return None
    command, kind = data[12:14]
    size = _PREFIX_BYTES + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader("the version or the command is unknown")
    if size > MAX_V2_BYTES:
        raise BadProxyHeader(f"the header is longer than {MAX_V2_BYTES} bytes")
    needed = _ADDRESS_BYTES.get(kind >> 4)
    if command == _PROXY:
        if needed is None or kind & 15 > _MAX_PROTOCOL:
            raise BadProxyHeader("the address family or the protocol is unknown")
        if size - _PREFIX_BYTES < needed:
            raise BadProxyHeader("the header is too short for its addresses")
    if len(data) < size:
        return None
    if command == _PROXY and kind == _TCP4:
        host, port = data[16:20], data[24:26]
        return ProxyHeader(size, _address(socket.AF_INET, host, int.from_bytes(port, "big")))
    if command == _PROXY and kind == _TCP6:
        host, port = data[16:32], data[48:50]
        return ProxyHeader(size, _address(socket.AF_INET6, host, int.from_bytes(port, "big")))
    # A health check of the load balancer, or a client without an IP address.
    return ProxyHeader(size, None)


class HeaderReader(Protocol):
    """
    The protocol of a connection until its header is complete.

    Then the factory's own protocol takes its place.  It is made only then, so that it
    knows the client's address from the start, and no wrapper stays between it and the
    transport.

    @ivar deadline: the time at which L{deadlinePassed} is called.
    """

    #: See L{sitio.net.transport}.
    receivesDirectly = True

    transport: Any

    def __init__(self, factory: ProxyProtocolFactory) -> None:
        self.deadline = factory.clock.seconds() + HEADER_SECONDS
        self._factory = factory
        self._data = b""

    def connectionMade(self) -> None:
        self._factory.began(self)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            header = parseHeader(self._data)
        except BadProxyHeader as error:
            self.refuse(str(error))
            return
        if header is not None:
            self._factory.ended(self)
            self._give(header.source, self._data[header.size :])

    def _give(self, source: IAddress | None, rest: bytes) -> None:
        """Give the connection, as one of this client, to the protocol that the port is for."""
        transport = self.transport
        if source is not None:
            transport.getPeer = lambda: source
        protocol = self._factory.wrapped.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.loseConnection()
            return
        if isinstance(transport, ProtocolWrapper):
            transport.wrappedProtocol = protocol
        else:
            transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)

    def refuse(self, why: str) -> None:
        """Reset the connection and log why."""
        self._factory.ended(self)
        self._factory.log(self.transport.getPeer(), why)
        # What still arrives until the reset is no header either.
        self._data = b""
        self.transport.abortConnection()

    def deadlinePassed(self) -> None:
        """The header is not complete in time."""
        self.refuse(f"no whole PROXY header within {HEADER_SECONDS:g} seconds")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.ended(self)


@implementer(ILoggingContext)
class ProxyProtocolFactory(Factory):
    """
    The connections of a port that begin with a header of the PROXY protocol.

    @ivar clock: for deadlines.
    @ivar wrapped: the factory that gets each connection after its header.
    """

    noisy = False
    _log = Logger(namespace="sitio")

    def __init__(self, clock: IReactorTime, wrapped: IProtocolFactory) -> None:
        self.clock = clock
        self.wrapped = wrapped
        self._deadlines = Deadlines(clock)
        # In the order in which they came.
        self._waiting: dict[HeaderReader, None] = {}
        self._limit = LogLimit(clock)

    def doStart(self) -> None:
        """See L{Factory}."""
        super().doStart()
        self.wrapped.doStart()

    def doStop(self) -> None:
        """See L{Factory}."""
        self.wrapped.doStop()
        super().doStop()

    def logPrefix(self) -> str:
        """See C{ILoggingContext}."""
        wrapped = ILoggingContext(self.wrapped, None)
        name = type(self.wrapped).__name__ if wrapped is None else wrapped.logPrefix()
        return f"{name} (PROXY)"

    def buildProtocol(self, addr: IAddress | None) -> HeaderReader:
        return HeaderReader(self)

    def began(self, reader: HeaderReader) -> None:
        """A connection waits for its header."""
        if len(self._waiting) >= MAX_WAITING:
            next(iter(self._waiting)).refuse(f"{MAX_WAITING} connections wait for a PROXY header")
        self._waiting[reader] = None
        self._deadlines.watch(reader)

    def ended(self, reader: HeaderReader) -> None:
        """It waits no longer."""
        if reader in self._waiting:
            del self._waiting[reader]
            self._deadlines.forget(reader)

    def log(self, peer: Any, why: str) -> None:
        """Log a refused connection, or one of many."""
        skipped = self._limit.due()
        if skipped is not None:
            self._log.warn(
                "A connection of {peer} to a haproxy: port is reset: {why} ({skipped} more since"
                " the last report)",
                peer=getattr(peer, "host", None) or "a UNIX socket",
                why=why,
                skipped=skipped,
            )


@implementer(IStreamServerEndpoint)
class ProxyProtocolEndpoint:
    """An endpoint whose connections begin with a header of the PROXY protocol."""

    def __init__(self, clock: IReactorTime, endpoint: IStreamServerEndpoint) -> None:
        self._clock = clock
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See L{IStreamServerEndpoint}."""
        return self._endpoint.listen(ProxyProtocolFactory(self._clock, protocolFactory))
