"""
Tests of L{sitio.net.splice} in C{twistd sitio}: the kernel moves long bodies.
"""

from __future__ import annotations

import os
import signal
from unittest import skipUnless

from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    LoopbackTestCase,
    Process,
    Upstream,
)
from sitio.test.helpers.streams import GET, MEBIBYTE, Flood, Sink, StreamTestCase, download


def pipes(process: Process) -> int:
    """How many ends of pipes a process has."""
    return len([each for each in process.descriptors() if each.startswith("pipe:")])


@skipUnless(hasattr(os, "splice"), "there is no splice on this system")
class SidecarTests(StreamTestCase):
    """A process of sitio that moves long bodies in the kernel."""

    size = 64 * MEBIBYTE

    async def begin(self, *arguments: str) -> None:
        """Begin a response that the kernel moves; the client reads its beginning."""
        if arguments:
            self.process, self.port = await self.sitio(await self.listen(self.upstream), *arguments)
        self.pipes = pipes(self.process)
        self.open = len(self.process.descriptors())
        self.client = await self.connect(self.port, GET)
        self.asked = await self.upstream.connection(1)
        await self.asked.got.expect(b"\r\n\r\n")
        self.asked.send(download(self.size))
        self.flood = Flood(self.asked.transport, self.size)
        await self.client.got.expect(b"\r\n\r\n")
        self.client.transport.pauseProducing()
        await self.until(lambda: pipes(self.process) == self.pipes + 2)

    async def test_reused(self) -> None:
        """
        The kernel moves a body; afterwards both connections are reused, and no descriptor
        is left.
        """
        self.size = 16 * MEBIBYTE
        client = await self.connect(self.port, GET)
        open = len(self.process.descriptors())
        for number in range(3):
            sink = Sink(client)
            asked = await self.upstream.connection(1)
            if number:
                # Both report the previous round; the first request may already be there.
                asked.got.data = client.got.data = b""
                client.send(GET)
            await asked.got.expect(b"\r\n\r\n")
            asked.send(download(self.size))
            flood = Flood(asked.transport, self.size)
            await sink.waitForSize(self.size)
            self.assertEqual(sink.digest.digest(), flood.digest.digest())
        self.assertEqual(len(self.upstream.connections), 2)
        await self.until(lambda: len(self.process.descriptors()) <= open + 1)

    async def test_proxyProtocol(self) -> None:
        """Behind a load balancer that sends the PROXY protocol, too."""
        upstream = Upstream()
        process = self.twistd(
            *("--port", f"haproxy:tcp:0:interface={LOCALHOST}"),
            *("--upstream", f"tcp:{LOCALHOST}:{await self.listen(upstream)}"),
        )
        port = int((await process.out.expect(LISTENING_LINE))[1])
        client = await self.connect(port, b"PROXY TCP4 192.0.2.7 192.0.2.80 40000 80\r\n" + GET)
        asked = await upstream.connection(0)
        await asked.got.expect(b"\r\n\r\n")
        self.assertIn(b"X-Forwarded-For: 192.0.2.7\r\n", asked.got.data)
        before = pipes(process)
        asked.send(download(self.size))
        flood = Flood(asked.transport, self.size)
        await client.got.expect(b"\r\n\r\n")
        client.transport.pauseProducing()
        await self.until(lambda: pipes(process) == before + 2)
        sink = Sink(client)
        client.transport.resumeProducing()
        await sink.waitForSize(self.size)
        self.assertEqual(sink.digest.digest(), flood.digest.digest())

    async def test_clientLeaves(self) -> None:
        """
        When the client disconnects, the upstream's connection and all descriptors are
        closed.
        """
        await self.begin()
        self.client.transport.abortConnection()
        await self.asked.got.waitForEnd()
        await self.until(lambda: pipes(self.process) == self.pipes)
        await self.until(lambda: len(self.process.descriptors()) <= self.open)

    async def test_upstreamLeaves(self) -> None:
        """When the upstream breaks off, the client's connection is closed, too."""
        await self.begin()
        self.asked.transport.abortConnection()
        self.client.transport.resumeProducing()
        await self.client.got.waitForEnd()
        self.assertFalse(self.client.clean)
        await self.until(lambda: len(self.process.descriptors()) <= self.open)

    async def test_stalled(self) -> None:
        """A client that reads nothing for too long is disconnected."""
        await self.begin("--stall-timeout", "1")
        await self.asked.got.waitForEnd()
        await self.until(lambda: pipes(self.process) == self.pipes)

    async def test_grace(self) -> None:
        """At the end of the grace, a response that the kernel moves is broken off."""
        await self.begin("--grace", "1")
        self.process.signal(signal.SIGTERM)
        self.assertEqual(await self.process.finish(), -signal.SIGTERM)
        self.assertIn("did not end within the grace", self.process.output())

    async def test_drained(self) -> None:
        """When sitio drains, a response that the kernel moves is completed."""
        await self.begin()
        self.process.signal(signal.SIGTERM)
        body = self.client.got.data.partition(b"\r\n\r\n")[2]
        sink = Sink(self.client)
        sink.redirect(sink.bodyReceived)
        sink.bodyReceived(body)
        self.client.transport.resumeProducing()
        await sink.waitForSize(self.size)
        self.assertEqual(sink.digest.digest(), self.flood.digest.digest())
        self.assertEqual(await self.process.finish(), -signal.SIGTERM)


class OtherTests(LoopbackTestCase):
    """If the kernel can't move bodies, sitio does."""

    size = 16 * MEBIBYTE

    async def test_withoutUvloop(self) -> None:
        """On Twisted's own reactor the body arrives, too."""
        upstream = Upstream()
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "--reactor", "select", "sitio", "--admin="),
            *("--port", f"tcp:0:interface={LOCALHOST}"),
            *("--upstream", f"tcp:{LOCALHOST}:{await self.listen(upstream)}"),
        )
        port = int((await process.out.expect(LISTENING_LINE))[1])
        client = await self.connect(port, GET)
        sink = Sink(client)
        asked = await upstream.connection(0)
        await asked.got.expect(b"\r\n\r\n")
        asked.send(download(self.size))
        flood = Flood(asked.transport, self.size)
        await sink.waitForSize(self.size)
        self.assertEqual(sink.digest.digest(), flood.digest.digest())
