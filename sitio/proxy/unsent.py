"""
The bytes of buffered responses that a client has not taken yet: L{CountsUnsent}.
"""

from __future__ import annotations

from sitio.net.flow import FlowControlled
from sitio.proxy.context import ProxyContext


class CountsUnsent(FlowControlled):
    """
    A connection that counts what it has written of buffered responses until it has left.

    @ivar context: has the count of all connections.
    """

    def __init__(self, context: ProxyContext) -> None:
        FlowControlled.__init__(self, context.clock)
        self.context = context
        self._unsent = 0

    def holdUntilSent(self, size: int) -> None:
        """Count so many bytes as buffered until all that was written has left."""
        self._unsent += size
        self.context.buffers.hold(size)

    def sent(self) -> None:
        """All that was written has left, or never will."""
        if self._unsent:
            self.context.buffers.release(self._unsent)
            self._unsent = 0
