"""
Tests of the memory of C{twistd sitio}: what is buffered is bounded, and goes back to the
system.
"""

from __future__ import annotations

import os
from pathlib import Path

from sitio.test.helpers.loopback import Client, LoopbackTestCase, ServerConnection, Upstream
from sitio.test.helpers.streams import Flood

MEBIBYTE = 1024 * 1024

CLIENTS = 250

STALLED = 60

BUFFERING_POLICY = """\
from sitio import onResponse

@onResponse(buffered=True)
def whole(exchange, response):
    response.headers["X-Size"] = str(len(response.body))
"""


def answerWithMebibyte(script: ServerConnection) -> None:
    """Answer each request with 1 MiB."""

    def answer(match: object) -> None:
        script.got.data = b""
        script.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MEBIBYTE + bytes(MEBIBYTE))
        answerWithMebibyte(script)

    script.got.expect(b"\r\n\r\n").addCallbacks(answer, lambda _: None)


def answerWithoutEnd(script: ServerConnection) -> None:
    """Answer the first request with a response that no client reads to its end."""

    def answer(match: object) -> None:
        script.send(b"HTTP/1.1 200 OK\r\n\r\n")
        Flood(script.transport, 1024 * MEBIBYTE, bytes(64 * 1024))

    script.got.expect(b"\r\n\r\n").addCallbacks(answer, lambda _: None)


def residentMemoryOf(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class BufferTests(LoopbackTestCase):
    """Clients that do not read a buffered response."""

    async def test_peak(self) -> None:
        """
        They make a policy be skipped for others, and when they have left, the memory of
        their responses is given back.
        """
        if not Path("/proc/self/statm").exists():
            return
        path = Path(self.mktemp() + ".py").absolute()
        path.write_text(BUFFERING_POLICY)
        upstream = await self.listen(Upstream(answerWithMebibyte))
        process, port = await self.sitio(
            upstream, "--policy", f"file:{path}", f"--buffer-total={60 * MEBIBYTE}"
        )
        start = residentMemoryOf(process.pid)
        clients: list[Client] = []
        for _ in range(CLIENTS):
            client = await self.connect(port)
            # The kernel's buffers for one connection are larger than a response.
            client.transport.pauseProducing()
            clients.append(client)
            for _ in range(6):
                client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await self.until(lambda: residentMemoryOf(process.pid) - start > 70 * MEBIBYTE)
        peak = residentMemoryOf(process.pid)
        for client in clients:
            client.transport.abortConnection()
        await self.until(lambda: residentMemoryOf(process.pid) < start + 40 * MEBIBYTE)
        self.assertLess(peak - start, CLIENTS * MEBIBYTE)
        # It still serves, and the policy is not skipped.
        last = await self.connect(port, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await last.got.expect(b"\r\nX-Size: 1048576\r\n")


class StreamTests(LoopbackTestCase):
    """Clients that do not read a response that streams."""

    async def test_stalled(self) -> None:
        """Each of them takes no more memory than docs/operations.md says: 400 KiB."""
        if not Path("/proc/self/statm").exists():
            return
        process, port = await self.sitio(await self.listen(Upstream(answerWithoutEnd)))
        # What the first client makes sitio load and keep is not counted.
        first = await self.connect(port, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await first.got.expect(b"\r\n\r\n")
        first.transport.abortConnection()
        start = residentMemoryOf(process.pid)
        for _ in range(STALLED):
            client = await self.connect(port)
            client.transport.pauseProducing()
            client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        sizes: list[int] = []

        def settled() -> bool:
            """Whether memory has not grown for a second."""
            sizes.append(residentMemoryOf(process.pid))
            return len(sizes) > 100 and max(sizes[-60:]) - min(sizes[-60:]) < 100_000

        await self.until(settled)
        self.assertLess((max(sizes) - start) / STALLED, 400 * 1024)
