"""
How a client's connection begins with TLS: L{Securing}, a part of L{ProxyServer}.

A client has a place among C{--max-clients} from when it is accepted, as many handshakes as
there are places may be under way.  A handshake that takes longer than L{PLACE_SECONDS} loses its
place to others; the client gets one when its handshake ends, or is refused if there is none.
The whole handshake has the time that a head has.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHandshakeListener
from zope.interface import implementer

from sitio.proxy.leaving import HANDSHAKE, TRANSITIONS, Leaving

#: Seconds for which a connection without a finished handshake has a place among the clients.
#: A handshake takes two round trips and a millisecond of CPU time.
PLACE_SECONDS = 1.0

_SECURE = TRANSITIONS.on("secure")
_SECURED = TRANSITIONS.on("secured")
_CLOSE = TRANSITIONS.on("close")


@implementer(IHandshakeListener)
class Securing(Leaving):
    """The part of a client's connection that waits for the end of its handshake."""

    # Any: the factory's methods want a L{ProxyServer<sitio.proxy.server.ProxyServer>}, which
    # this is a part of.
    factory: Any

    def _secure(self) -> None:
        """Wait for the end of the handshake, if that is not there yet."""
        if not self.transport._handshakeDone:
            self.state = _SECURE[self.state]
            # Set already: the time that the whole handshake has.
            self._handshakeEnd = self.deadline
            self.deadline = min(self.deadline, self.context.seconds() + PLACE_SECONDS)

    def handshakeCompleted(self) -> None:
        """See L{IHandshakeListener}."""
        if self.state is not HANDSHAKE:
            return
        self.state = _SECURED[self.state]
        self._within(self._settings.headTimeout)
        if not self.factory.secured(self):
            self.abort()
        elif self.factory.draining:
            self.drain()

    def _handshakeIsSlow(self) -> None:
        """Give up the place, or the connection."""
        if self.context.seconds() < self._handshakeEnd and self.factory.stalled(self):
            self.deadline = self._handshakeEnd
        else:
            self.abort()
