"""
The rest of a response's body, moved by the kernel: L{SplicedBody}, and L{SplicingClient},
the connection that it is moved from.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from sitio.http.codec import ResponseReader
from sitio.net.flow import FlowControlled
from sitio.net.splice import spliceBody
from sitio.upstream.receivers import SpliceReceiver


class SplicedBody:
    """
    Moves the rest of a body of known length from a connection to a descriptor.

    @ivar isMoving: whether the kernel moves the body.  If not, nothing was changed.
    """

    def __init__(self, client: SplicingClient, sink: int, receiver: SpliceReceiver) -> None:
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


class SplicingClient(FlowControlled):
    """A connection to the upstream that may leave the body of a response to the kernel."""

    def __init__(self, clock: IReactorTime, reader: ResponseReader) -> None:
        FlowControlled.__init__(self, clock)
        self._reader = reader
        self._spliced: SplicedBody | None = None

    @property
    def left(self) -> int:
        """Bytes of the response's body still to come; 0 if unknown."""
        return self._reader.left or 0

    def splice(self, sink: int, receiver: SpliceReceiver) -> bool:
        """
        Let the kernel move the rest of a body of known length to a file descriptor.

        @return: whether it does.  If so, C{sink} is closed and C{receiver} called later.
        """
        if self._reader.received:
            return False
        spliced = SplicedBody(self, sink, receiver)
        if spliced.isMoving:
            self._spliced = spliced
            self.pause()
        return spliced.isMoving

    def spliceEnded(self, size: int) -> None:
        """The kernel has stopped after it moved so many bytes."""
        self._spliced = None
        self._reader.skip(size)

    def responseEnded(self) -> None:
        """The response is complete."""
        raise NotImplementedError

    def resume(self) -> None:
        """Resume reading, unless the kernel moves the body."""
        if self._spliced is None:
            FlowControlled.resume(self)
