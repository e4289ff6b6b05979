"""
Tests of large streams: they arrive whole, and the memory of sitio does not grow, even if
the receiver does not read.

sitio runs in a process of its own, so that its memory can be measured.
"""

from __future__ import annotations

import os

from twisted.logger import Logger

from sitio.test.helpers.loopback import (
    ServerConnection,
    peakMemoryOf,
    reactor,
)
from sitio.test.helpers.streams import (
    GET,
    GIBIBYTE,
    MEBIBYTE,
    PIECE,
    Flood,
    Sink,
    StreamTestCase,
    download,
    upload,
)

#: Bytes of a whole stream.  1 GiB takes some seconds in each test.
STREAM = int(os.environ.get("SITIO_STREAM_MEBIBYTES", "64")) * MEBIBYTE


UPGRADE = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n"


class WholeTests(StreamTestCase):
    """A stream arrives whole."""

    log = Logger()

    async def test_download(self) -> None:
        """A large response arrives unchanged, and the memory of sitio does not grow."""
        began = reactor.seconds()
        client = await self.connect(self.port, GET)
        sink = Sink(client)
        asked = await self.upstream.connection(1)
        await asked.got.expect(b"\r\n\r\n")
        asked.send(download(STREAM))
        flood = Flood(asked.transport, STREAM)
        await sink.waitForSize(STREAM)
        self.report("download", began)
        self.assertEqual(sink.digest.digest(), flood.digest.digest())
        self.assertNoGrowth()

    async def test_upload(self) -> None:
        """A large upload arrives unchanged, and the memory of sitio does not grow."""
        began = reactor.seconds()
        client = await self.connect(self.port, upload(STREAM))
        flood = Flood(client.transport, STREAM)
        asked = await self.upstream.connection(1)
        sink = Sink(asked)
        await sink.waitForSize(STREAM)
        self.report("upload", began)
        asked.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.got.expect(b"HTTP/1.1 204 No Content\r\n")
        self.assertEqual(sink.digest.digest(), flood.digest.digest())
        self.assertNoGrowth()

    async def test_both(self) -> None:
        """An upload and a response at the same time arrive unchanged."""
        began = reactor.seconds()
        client = await self.connect(self.port, upload(STREAM))
        received = Sink(client)
        sent = Flood(client.transport, STREAM)
        asked = await self.upstream.connection(1)
        taken = Sink(asked)
        await asked.got.expect(b"\r\n\r\n")
        asked.send(download(STREAM))
        given = Flood(asked.transport, STREAM - 1)
        # The end of a response ends its exchange: its last byte is sent after the upload.
        await taken.waitForSize(STREAM)
        await received.waitForSize(STREAM - 1)
        asked.send(b"!")
        given.digest.update(b"!")
        await received.waitForSize(STREAM)
        self.report("both ways", began)
        self.assertEqual(taken.digest.digest(), sent.digest.digest())
        self.assertEqual(received.digest.digest(), given.digest.digest())
        self.assertNoGrowth()

    async def test_tunnel(self) -> None:
        """The bytes of a tunnel arrive unchanged, in both directions at once."""
        began = reactor.seconds()
        client = await self.connect(self.port, UPGRADE)
        received = Sink(client)
        asked = await self.upstream.connection(1)
        taken = Sink(asked)
        await asked.got.expect(b"\r\n\r\n")
        asked.send(SWITCH)
        await client.got.expect(b"\r\n\r\n")
        sent = Flood(client.transport, STREAM)
        given = Flood(asked.transport, STREAM)
        await received.waitForSize(STREAM)
        await taken.waitForSize(STREAM)
        self.report("tunnel", began)
        self.assertEqual(taken.digest.digest(), sent.digest.digest())
        self.assertEqual(received.digest.digest(), given.digest.digest())
        self.assertNoGrowth()

    def report(self, what: str, began: float) -> None:
        """Write the rates into trial's log."""
        seconds = reactor.seconds() - began
        after = peakMemoryOf(self.process.pid)
        self.log.info(
            "{what}: {bytes} bytes in {seconds} s; peak {before} KiB before, {after} KiB after",
            what=what,
            data=STREAM,
            seconds=seconds,
            before=self.before // 1024,
            after=after // 1024,
        )


class StuckTests(StreamTestCase):
    """If a receiver does not read, its sender has to wait."""

    async def test_download(self) -> None:
        """
        If a client does not read a response of 1 GiB, the service has to wait and the memory does
        not grow.  When the client leaves, the service's connection ends.
        """
        client = await self.connect(self.port, GET)
        client.transport.pauseProducing()
        asked = await self.upstream.connection(1)
        await asked.got.expect(b"\r\n\r\n")
        asked.send(download(GIBIBYTE))
        flood = Flood(asked.transport, GIBIBYTE)
        await self.waitUntilStuck(flood)
        self.assertLess(flood.sent, GIBIBYTE)
        self.assertNoGrowth()
        client.transport.abortConnection()
        await asked.got.waitForEnd()

    async def test_upload(self) -> None:
        """
        If a service does not read an upload, the client has to wait and the memory does not
        grow.
        """
        client = await self.connect(self.port, upload(GIBIBYTE))
        flood = Flood(client.transport, GIBIBYTE)
        asked = await self.upstream.connection(1)
        asked.transport.pauseProducing()
        await self.waitUntilStuck(flood)
        self.assertLess(flood.sent, GIBIBYTE)
        self.assertNoGrowth()
        asked.transport.abortConnection()
        await client.got.waitForEnd()
        self.assertTrue(client.got.data.startswith(b"HTTP/1.1 502 "), client.got.data)

    async def test_tunnel(self) -> None:
        """If neither end of a tunnel reads, both have to wait and the memory does not grow."""
        client = await self.connect(self.port, UPGRADE)
        asked = await self.upstream.connection(1)
        await asked.got.expect(b"\r\n\r\n")
        asked.send(SWITCH)
        await client.got.expect(b"\r\n\r\n")
        client.transport.pauseProducing()
        asked.transport.pauseProducing()
        floods = [Flood(each.transport, GIBIBYTE) for each in (client, asked)]
        for each in floods:
            await self.waitUntilStuck(each)
            self.assertLess(each.sent, GIBIBYTE)
        self.assertNoGrowth()

    async def test_pipeline(self) -> None:
        """
        If a client sends requests and reads no response, it has to wait and the memory does not
        grow.
        """
        self.upstream.begin = answerAll
        client = await self.connect(self.port)
        client.transport.pauseProducing()
        flood = Flood(client.transport, GIBIBYTE, GET * 1000)
        await self.waitUntilStuck(flood)
        self.assertLess(flood.sent, GIBIBYTE)
        self.assertNoGrowth()


def answerAll(script: ServerConnection) -> None:
    """Answer each request with some KiB."""
    answer = download(len(PIECE) // 8, PIECE[: len(PIECE) // 8])
    script.dataReceived = lambda data: script.send(answer * data.count(b"\r\n\r\n"))  # type: ignore
