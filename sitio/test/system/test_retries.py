"""
A service that is down, behind C{twistd sitio}: it gets little more than what clients send.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol

from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    Client,
    LoopbackTestCase,
    reactor,
)
from sitio.test.helpers.processes import LOOPBACK
from sitio.upstream.budget import MINIMUM, SHARE, WINDOW_SECONDS

#: Requests, and how many of them are under way at one time.
COUNT, AT_ONCE = 2000, 20

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"

#: Two endpoints, which stay in service whatever they answer.
CONFIG = """
[upstream]
endpoints = ["{0}:{1}", "{0}:{2}"]

[upstream.ejection]
consecutive = 0

[upstream.retries]
attempts = 10
"""


class Down(Factory):
    """
    A service that answers each request with 503.

    @ivar got: how many requests it got.
    """

    noisy = False

    def __init__(self) -> None:
        self.got = 0

    def buildProtocol(self, addr: Any) -> Protocol:
        return DownConnection(self)


class DownConnection(Protocol):
    """A connection to it."""

    transport: Any

    def __init__(self, service: Down) -> None:
        self._service = service
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        *heads, self._received = (self._received + data).split(b"\r\n\r\n")
        self._service.got += len(heads)
        self.transport.write(BUSY * len(heads))


async def asks(client: Client, times: int) -> None:
    """Send requests, one after the other."""
    for _ in range(times):
        client.got.data = b""
        client.send(GET)
        await client.got.expect(b"HTTP/1.1 503 [^~]*\r\n\r\n")


class OutageTests(LoopbackTestCase):
    """The budget in real processes."""

    async def test_policy(self) -> None:
        """The policy C{retry} sends no more requests again than the budget allows."""
        service = Down()
        upstream = await self.listen(service)
        _, port = await self.sitio(upstream, "--policy", "retry:times=10:after=0s")
        await self.outage(port, service)

    async def test_configured(self) -> None:
        """So it is with C{[upstream.retries]}, for both endpoints together."""
        service = Down()
        ports = [await self.listen(service) for _ in range(2)]
        file = Path(self.mktemp())
        file.write_text(CONFIG.format(LOCALHOST, *ports))
        process = self.twistd("--config", str(file.absolute()), "--port", LOOPBACK)
        port = int((await process.out.expect(LISTENING_LINE))[1])
        await self.outage(port, service)

    async def outage(self, port: int, service: Down) -> None:
        """Send all requests, and check how many the service gets."""
        clients = [await self.connect(port) for _ in range(AT_ONCE)]
        began = reactor.seconds()
        share = COUNT // AT_ONCE
        await gatherResults([Deferred.fromCoroutine(asks(each, share)) for each in clients])
        windows = (reactor.seconds() - began) // WINDOW_SECONDS + 2
        self.assertLessEqual(service.got, COUNT * (1 + SHARE) + MINIMUM * WINDOW_SECONDS * windows)
        self.assertGreater(service.got, COUNT * (1 + SHARE) * 0.95)
