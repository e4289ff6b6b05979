"""
Producers that behave as those of other transports than the fake network's.
"""

from __future__ import annotations

from typing import Any

from attrs import define

from sitio.testing import Peer


@define
class PausesOnce:
    """Asks a producer to pause only once, as the transports of uvloop do."""

    producer: Any
    paused: bool = False

    def pauseProducing(self) -> None:
        if not self.paused:
            self.paused = True
            self.producer.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        self.producer.resumeProducing()

    def stopProducing(self) -> None:
        self.producer.stopProducing()


def pauseOnce(peer: Peer) -> None:
    """Let the transport to a peer ask its producer to pause once, and not at each write."""
    peer.transport.producer = PausesOnce(peer.transport.producer)
