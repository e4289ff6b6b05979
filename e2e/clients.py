"""
Many clients with kept connections, and the balancer that gives each connection a Pod.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from contextlib import suppress

from attrs import Factory, define

#: Seconds for a connection, or for a response.
PATIENCE = 30.0

#: Bytes that are read at once.
CHUNK = 1 << 16

#: A connection.
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@define
class Balancer:
    """
    Gives each new connection a Pod, as a Service does: an open connection stays with its Pod.

    @ivar addresses: of the Pods.
    """

    addresses: list[str]
    port: int
    _turns: itertools.count[int] = Factory(itertools.count)

    async def connect(self) -> Streams:
        """Open a connection to the next Pod."""
        address = self.addresses[next(self._turns) % len(self.addresses)]
        opening = asyncio.open_connection(address, self.port)
        return await asyncio.wait_for(opening, PATIENCE)


@define
class Outcome:
    """
    What the clients have seen.

    @ivar answered: how many requests had a complete response with 200.
    @ivar failed: the other requests, counted by what went wrong.
    @ivar connections: how many connections were opened.
    @ivar repeated: how many requests were sent again on a new connection, as the kept one
        had closed without a byte of a response (RFC 9112, section 9.3.1).
    """

    answered: int = 0
    failed: Counter[str] = Factory(Counter)
    connections: int = 0
    repeated: int = 0


class ClosedUnused(Exception):
    """The connection closed before the first byte of the response."""


@define
class Client:
    """One client: it sends GET requests, with a pause between them, on a kept connection."""

    balancer: Balancer
    outcome: Outcome
    _streams: Streams | None = None

    async def run(self, pause: float, until: asyncio.Event) -> None:
        """Send requests until the event is set."""
        await asyncio.sleep(random.uniform(0, pause))
        while not until.is_set():
            # Some responses take seconds, so that requests are in flight at any time.
            path = "/slow" if random.random() < 0.05 else "/"
            try:
                status = await asyncio.wait_for(self._ask(path), PATIENCE)
            except (OSError, EOFError, ClosedUnused, ValueError) as error:
                self.outcome.failed[repr(error)] += 1
                self._close()
            else:
                if status == 200:
                    self.outcome.answered += 1
                else:
                    self.outcome.failed[f"status {status}"] += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), pause * random.uniform(0.5, 1.5))
        self._close()

    async def _ask(self, path: str) -> int:
        if self._streams is not None and not self._streams[0].at_eof():
            try:
                return await self._exchange(self._streams, path)
            except ClosedUnused:
                self.outcome.repeated += 1
        self._close()
        self._streams = await self.balancer.connect()
        self.outcome.connections += 1
        return await self._exchange(self._streams, path)

    async def _exchange(self, streams: Streams, path: str) -> int:
        """Send a request, and read its response to the end; its status."""
        reader, writer = streams
        try:
            writer.write(b"GET %s HTTP/1.1\r\nHost: photos\r\n\r\n" % path.encode())
            first = await reader.read(1)
        except ConnectionError:
            first = b""
        if not first:
            raise ClosedUnused
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
        await reader.readexactly(int(fields["content-length"]))
        if "close" in fields.get("connection", ""):
            self._close()
        return int(head.split(" ")[1])

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def running(
    clients: int, balancer: Balancer, outcome: Outcome, pause: float, until: asyncio.Event
) -> None:
    """Run many clients until the event is set, and wait for their last responses."""
    made = [Client(balancer, outcome) for _ in range(clients)]
    await asyncio.gather(*(each.run(pause, until) for each in made))
