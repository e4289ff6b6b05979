"""
A name server on this machine, by C{twisted.names}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.names import dns, server
from twisted.names.authority import FileAuthority

#: A name in its zone.
ZONE = "photos.default.svc.cluster.local"


class Zone(FileAuthority):
    """A zone whose records the test changes."""

    def loadFile(self, filename: str) -> None:
        """Begin without records."""
        soa = dns.Record_SOA("ns.cluster.local", "root.cluster.local", 1)
        self.soa: Any = (b"cluster.local", soa)
        self.records: Any = {b"cluster.local": [soa]}

    def has(self, *hosts: str, name: str = ZONE) -> None:
        self.records[name.encode()] = [dns.Record_A(each, ttl=0) for each in hosts]


class NameServer:
    """
    Answers by UDP and TCP.

    @ivar zone: what it knows.
    @ivar address: where it is: C{127.0.0.1:5353}.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.zone = Zone("")
        self._factory = server.DNSServerFactory(authorities=[self.zone])
        self._factory.noisy = False
        self._tcp: Any = reactor.listenTCP(0, self._factory, interface="127.0.0.1")
        self._port = self._tcp.getHost().port
        self.address = f"127.0.0.1:{self._port}"
        self.listenUDP()

    def listenUDP(self) -> None:
        """Answer by UDP."""
        protocol = dns.DNSDatagramProtocol(self._factory)
        self._udp: Any = self._reactor.listenUDP(self._port, protocol, interface="127.0.0.1")

    def stopUDP(self) -> Deferred[Any]:
        """Answer no more by UDP."""
        return maybeDeferred(self._udp.stopListening)

    def stop(self) -> Deferred[Any]:
        """Close both ports."""
        return gatherResults([self.stopUDP(), maybeDeferred(self._tcp.stopListening)])
