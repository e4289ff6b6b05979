"""
The rest of a response's body, moved by the kernel: L{SplicedBody}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sitio.net.splice import spliceBody
from sitio.upstream.receivers import SpliceReceiver

if TYPE_CHECKING:
    from sitio.upstream.client import ProxyClient


class SplicedBody:
    """
    Moves the rest of a body of known length from a connection to a descriptor.

    @ivar isMoving: whether the kernel moves the body.  If not, nothing was changed.
    """

    def __init__(self, client: ProxyClient, sink: int, receiver: SpliceReceiver) -> None:
        """
        @param sink: a file descriptor of the client's socket; closed at the end.
        @param receiver: called with the progress, and when C{sink} fails.
        """
        self._client = client
        self._receiver = receiver
        self._splice = spliceBody(
            client.transport, sink, client.left, receiver.spliced, self._ended
        )
        self.isMoving = self._splice is not None

    def stop(self) -> None:
        """Stop moving bytes, without a callback."""
        if self._splice is not None:
            self._splice.stop()

    def _ended(self, left: int, sinkFailed: bool) -> None:
        client = self._client
        client.spliceEnded(client.left - left)
        if sinkFailed:
            self._receiver.sinkLost()
        elif left:
            # The upstream has closed or failed: the next read reports it.
            client.resume()
        else:
            client.responseEnded()
