"""
UDP ports that log nothing: L{QuietDatagrams}.

A lookup of C{twisted.names} opens a port for each question, so that an attacker can't guess its
number.  Twisted logs four lines for each.

Contract: the reactor is passed in.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.udp import Port
from twisted.python import log

from sitio.net.endpoints import ReactorProxy

# An event without text: observers that write lines leave it out.
_SILENT = {"log_format": ""}


class QuietPort(Port):
    """
    A UDP port that does not log when it opens and closes.

    @ivar ports: the open ones, to which it belongs.
    """

    ports: set[QuietPort]

    def startListening(self) -> None:
        """Open the port."""
        log.callWithContext(_SILENT, Port.startListening, self)
        self.ports.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        """The port has closed."""
        self.ports.discard(self)
        log.callWithContext(_SILENT, Port.connectionLost, self, reason)


class QuietDatagrams(ReactorProxy):
    """
    Passes everything on to a reactor, but for the UDP ports.

    @ivar ports: the UDP ports that are open.
    """

    def __init__(self, reactor: Any) -> None:
        ReactorProxy.__init__(self, reactor)
        self.ports: set[QuietPort] = set()

    def listenUDP(
        self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192
    ) -> QuietPort:
        """See C{IReactorUDP}."""
        opened = QuietPort(port, protocol, interface, maxPacketSize, self.reactor)
        opened.ports = self.ports
        opened.startListening()
        return opened
