"""
A test case for whole exchanges in memory: L{ObservedCase}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.functions import onFinish
from sitio.proxy.exchange import Exchange
from sitio.settings import Settings
from sitio.testing import Harness, Peer


class ObservedCase(SynchronousTestCase):
    """
    A sidecar in memory, one client, and an observer.

    @ivar told: the exchanges that the observer was given, in order.
    """

    def open(self, *policies: Any, **settings: Any) -> None:
        """Make a new sidecar with these policies and settings, and connect its client."""
        self.told: list[Exchange] = []
        observer = onFinish(self.told.append)  # type: ignore[type-var]
        self.sidecar = Harness([*policies, observer], settings=Settings(**settings))
        self.client = self.sidecar.connect()

    @property
    def upstream(self) -> Peer:
        """The upstream's end of the newest connection."""
        return self.sidecar.upstreams[-1]
