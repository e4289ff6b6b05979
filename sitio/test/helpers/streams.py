"""
Streams of any size over loopback, and the memory of the process that they go through.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from sitio.test.helpers.loopback import (
    Client,
    LoopbackTestCase,
    Process,
    ServerConnection,
    Upstream,
    peakMemoryOf,
    resetPeakMemory,
)

MEBIBYTE = 1024 * 1024

GIBIBYTE = 1024 * MEBIBYTE

#: The memory that sitio may need more for a stream of any size.
MAX_GROWTH_BYTES = 4 * MEBIBYTE

#: Polls without progress after which a sender is stuck: half a second.
STUCK_POLLS = 25

PIECE = random.Random(3).randbytes(65536)


@implementer(IPullProducer)
class Flood:
    """
    A pull producer of many bytes, which come as fast as they are taken.

    @ivar sent: the number of bytes that were written.
    @ivar digest: their SHA-256.
    """

    def __init__(self, transport: Any, size: int, piece: bytes = b"") -> None:
        self.sent = 0
        self.digest = hashlib.sha256()
        self._size = size
        self._piece = piece
        self._transport = transport
        transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """Write one more piece.  Pieces differ from each other, unless one was given."""
        data = (self._piece or b"%d " % self.sent + PIECE)[: self._size - self.sent]
        self.sent += len(data)
        self.digest.update(data)
        self._transport.write(data)
        if self.sent == self._size:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        """The connection is lost."""


class Sink:
    """
    Counts the bytes of a connection and keeps none of them.

    @ivar size: the number of bytes after the first head.
    @ivar digest: their SHA-256.
    """

    def __init__(self, end: ServerConnection | Client) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self._end = end
        self.redirect(self.headReceived)

    def redirect(self, receiver: Callable[[bytes], None]) -> None:
        """Send the connection's bytes to this function."""
        self._end.dataReceived = receiver  # type: ignore
        self._end.transport.protocol = self._end

    def headReceived(self, data: bytes) -> None:
        """Bytes of the head, and perhaps of what follows."""
        self._end.got.add(data)
        head, line, body = self._end.got.data.partition(b"\r\n\r\n")
        if line:
            self._end.got.data = head + line
            self.redirect(self.bodyReceived)
            self.bodyReceived(body)

    def bodyReceived(self, data: bytes) -> None:
        """Bytes after the head."""
        self.size += len(data)
        self.digest.update(data)
        self._end.got.add(b"")

    def waitForSize(self, size: int) -> Any:
        """Wait for this number of bytes."""
        return self._end.got.waitUntil(lambda: self.size >= size)


class StreamTestCase(LoopbackTestCase):
    """A process of sitio that has already carried a request."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.upstream = Upstream()
        self.process, self.port = await self.sitio(await self.listen(self.upstream))
        await self.warmUp(self.process)

    async def warmUp(self, process: Process) -> None:
        """Send one request, so that the memory for the first one does not count as growth."""
        client = await self.connect(self.port, upload(1, b"x"))
        asked = await self.upstream.connection(0)
        await asked.got.expect(b"x$")
        asked.send(download(1, b"x"))
        await client.got.expect(b"x$")
        client.transport.loseConnection()
        asked.transport.loseConnection()
        resetPeakMemory(process.pid)
        self.before = peakMemoryOf(process.pid)

    async def waitUntilStuck(self, flood: Flood) -> None:
        """Wait until no more bytes of a flood are read."""
        seen, glances = -1, 0

        def still() -> bool:
            nonlocal seen, glances
            glances = glances + 1 if flood.sent == seen else 0
            seen = flood.sent
            return glances > STUCK_POLLS

        await self.until(still)

    def assertNoGrowth(self) -> None:
        """Assert that the peak of the memory has not grown."""
        growth = peakMemoryOf(self.process.pid) - self.before
        self.assertLess(growth, MAX_GROWTH_BYTES)


def upload(size: int, body: bytes = b"") -> bytes:
    """The head of an upload of this size, and the beginning of its body."""
    return b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % size + body


def download(size: int, body: bytes = b"") -> bytes:
    """The head of a response of this size, and the beginning of its body."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body


GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
