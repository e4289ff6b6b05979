"""
The clients of the soak: each connection is one L{Conversation<bench.soak.plan.Conversation>}.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from random import Random

from bench.soak.checks import Tally
from bench.soak.judge import Unexpected, Verdict
from bench.soak.order import Order
from bench.soak.plan import Answer, Conversation, Request, sizes
from bench.soak.wire import Wire, Wrong, readBody, readHead

#: Seconds that a client waits for 100 (Continue).
EXPECT_SECONDS = 0.5

#: Size of the receive buffer of a slow reader, in bytes.
SMALL_BUFFER = 8192

#: Addresses of the clients: more than one, so that their ports suffice.
ADDRESSES = 100


class Clients:
    """
    Several clients at once.

    @ivar done: the number of requests that have begun.
    @ivar stopping: whether sitio was told to stop, and may refuse connections.
    """

    def __init__(
        self, order: Order, port: int, tally: Tally, context: ssl.SSLContext | None
    ) -> None:
        """
        @param context: for TLS; L{None} for none.
        """
        self.seed = order.seed
        self.deadline = order.deadline
        self.port = port
        self.tally = tally
        self.context = context
        # Whether a half-closed client must get its response.
        self.halfClose = bool(order.halfClose)
        self.stopping = False
        self.done = 0

    async def run(self, planned: Iterator[Conversation], many: int) -> None:
        """Hold all conversations, this many at a time."""
        await asyncio.gather(*(self._work(planned) for _ in range(many)))

    async def _work(self, planned: Iterator[Conversation]) -> None:
        for each in planned:
            self.done += len(each.requests)
            await Talk(self, each).run()


class Talk:
    """One conversation."""

    def __init__(self, clients: Clients, plan: Conversation) -> None:
        self._clients = clients
        self._tally = clients.tally
        self._plan = plan
        self._dice = Random(plan.requests[0].number)
        self._began = time.monotonic()
        self._current = plan.requests[0]
        self._left = False
        self._halfClosed = False
        # sitio resets a connection within a response, and so earlier ones may be lost.
        self._laterBreaks = False
        # Set by the receiver when a request need not wait for 100 (Continue) any more.
        self._continued = {each.number: asyncio.Event() for each in plan.requests if each.expects}

    async def run(self) -> None:
        """Hold it, and count what comes of it."""
        wire = None
        try:
            async with asyncio.timeout(self._clients.deadline):
                wire = await self._connect()
            await self._converse(wire)
        except Wrong as error:
            self._fault("wrong bytes", error)
        except TimeoutError:
            self._fault("hangs", f"nothing for {self._clients.deadline:g} s")
        except (Unexpected, OSError) as error:
            if self._clients.stopping and (wire is None or not wire.received):
                # It had not accepted this connection.
                self._tally.outcomes["refused at the end"] += len(self._plan.requests)
            else:
                self._fault("without a reason", error)
        if wire is not None and not wire.lost:
            self._part(wire)

    def _fault(self, kind: str, what: object) -> None:
        request, plan = self._current, self._plan
        self._tally.fault(
            kind,
            f"number {request.number}: {what}; {plan.ending}"
            f"{', pipelined' if plan.pipelined else ''} from {plan.requests[0].number}"
            f" of {len(plan.requests)}; {request}; {self._answer(request)}",
        )

    def _answer(self, request: Request) -> Answer:
        return Answer.choose(self._clients.seed, request.number, request.kind, request.method)

    async def _connect(self) -> Wire:
        plan = self._plan
        under = socket.socket()
        under.setblocking(False)
        if any(each.reads for each in plan.requests):
            under.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        under.bind((f"127.0.0.{1 + plan.requests[0].number % ADDRESSES}", 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(under, ("127.0.0.1", self._clients.port))
        context = self._clients.context
        _, wire = await loop.create_connection(
            Wire, sock=under, ssl=context, server_hostname="127.0.0.1" if context else None
        )
        return wire

    async def _converse(self, wire: Wire) -> None:
        plan = self._plan
        batches = [plan.requests] if plan.pipelined else [(each,) for each in plan.requests]
        keeps = True
        for batch in batches:
            sender = asyncio.create_task(self._send(wire, batch))
            try:
                for each in batch:
                    if not keeps or self._left:
                        self._tally.outcomes["left" if self._left else "unanswered"] += 1
                        continue
                    self._current = each
                    self._laterBreaks = any(
                        self._answer(later).resets for later in batch if later.number > each.number
                    )
                    keeps = await self._exchange(wire, each)
            finally:
                sender.cancel()
        if not self._left:
            await self._end(wire, keeps)

    async def _end(self, wire: Wire, keeps: bool) -> None:
        """After the last response: nothing more may come, but the end where it is due."""
        if keeps:
            await asyncio.sleep(self._dice.choice((0, 0, 0.01)))
        else:
            async with asyncio.timeout(self._clients.deadline):
                while not wire.data and await wire.more():
                    pass
        if wire.data:
            raise Wrong(f"nobody has asked for {bytes(wire.data[:80])!r}")

    # --- Sending

    async def _send(self, wire: Wire, batch: tuple[Request, ...]) -> None:
        """Send some requests, and leave where the conversation says so."""
        seed, plan = self._clients.seed, self._plan
        for each in batch:
            halves = self._clients.context is None
            head, payload = each.head(halves), b"" if each.kind == "bad" else each.payload(seed)
            last = each is plan.requests[-1]
            if last and plan.ending == "in head":
                await self._drip(wire, head[: int(plan.share * len(head))], each.drips == "head")
                return self._leave(wire)
            await self._drip(wire, head, each.drips == "head")
            if each.kind == "upgrade":
                continue
            if each.expects:
                try:
                    async with asyncio.timeout(EXPECT_SECONDS):
                        await self._continued[each.number].wait()
                except TimeoutError:
                    pass
            if last and plan.ending == "in body" and payload:
                payload = payload[: int(plan.share * len(payload))]
                await self._drip(wire, payload, each.drips == "body")
                return self._leave(wire)
            await self._drip(wire, payload, each.drips == "body")
            if last and plan.ending in ("waiting", "in body"):
                await asyncio.sleep(self._dice.choice((0, 0.002, 0.02)))
                return self._leave(wire)
            if last and plan.ending == "half-close":
                self._halfClosed = True
                wire.finish()
        return None

    async def _drip(self, wire: Wire, data: bytes, slowly: bool) -> None:
        if not slowly:
            return await wire.send(data)
        for start, end in sizes(self._dice, len(data), 8):
            await wire.send(data[start:end])
            await asyncio.sleep(self._dice.uniform(0, 0.05))
        return None

    def _leave(self, wire: Wire) -> None:
        self._left = True
        self._part(wire)

    def _part(self, wire: Wire) -> None:
        # Bytes that sitio does not read would keep the connection open.  Where it waits for
        # half-closed clients, only a reset tells it that a client is gone.
        if self._plan.resets or wire.sending or self._clients.halfClose:
            wire.reset()
        else:
            wire.close()

    # --- Receiving

    async def _exchange(self, wire: Wire, request: Request) -> bool:
        """
        Receive the response to one request.

        @return: whether the connection can be used again.
        """
        verdict = Verdict(self._clients.seed, request, self._excused)
        beside = []
        if request is self._plan.requests[-1] and self._plan.ending == "in response":
            used = wire.received - len(wire.data)
            target = used + 1 + int(self._plan.share * verdict.answer.length)
            beside.append(asyncio.create_task(self._leaveAt(wire, target)))
        if request.reads:
            beside.append(asyncio.create_task(self._readSlowly(wire)))
        try:
            async with asyncio.timeout(self._clients.deadline):
                return await self._receive(wire, verdict)
        finally:
            for each in beside:
                each.cancel()

    async def _leaveAt(self, wire: Wire, target: int) -> None:
        """Leave when this number of bytes has come."""
        while wire.received < target:
            await wire.change()
        self._leave(wire)

    def _excused(self) -> bool:
        """Whether a failure has a reason beside the plan of its request."""
        return (
            self._left
            or (self._halfClosed and not self._clients.halfClose)
            or self._tally.outage(self._began)
            or self._laterBreaks
        )

    async def _readSlowly(self, wire: Wire) -> None:
        for _ in range(10):
            await wire.holdFor(0.03)
            await asyncio.sleep(0)

    async def _receive(self, wire: Wire, verdict: Verdict) -> bool:
        request, outcomes = verdict.request, self._tally.outcomes
        while True:
            head = await readHead(wire)
            if head is None:
                return self._broken(verdict, f"{wire.ended} instead of a response")
            if head.fields.get("x-number", str(request.number)) != str(request.number):
                raise Wrong(f"the response for number {head.fields['x-number']}")
            if request.expects:
                self._continued[request.number].set()
            if head.status >= 200 or head.status == 101:
                break
        body = verdict.begin(head)
        if head.status == 101:
            return await self._tunnel(wire, verdict)
        bodiless = verdict.bodiless or head.status in (204, 304)
        whole = bodiless or await readBody(wire, head, True, body.add)
        if not whole:
            # It may have broken off within the size of a chunk.
            wire.take(len(wire.data))
            return self._broken(verdict, f"{wire.ended} within a response")
        # A body without a length looks complete when the client or the service is stopped.
        stopped = self._left or (verdict.answer.framing == "close" and self._excused())
        if stopped and not verdict.body.complete:
            self._broken(verdict, "the end of the body")
        else:
            verdict.end(head)
            by = verdict.by if verdict.by == "service" else f"sitio, {head.status}"
            outcomes[f"answered by {by}"] += 1
        if "keep-alive" not in head.fields.get("connection", "").lower() and request.old:
            return False
        return not head.closes()

    def _broken(self, verdict: Verdict, what: str) -> bool:
        verdict.broken(what)
        self._tally.outcomes["left" if self._left else "broken"] += 1
        return False

    async def _tunnel(self, wire: Wire, verdict: Verdict) -> bool:
        """Send and receive at once, then end the own half."""
        request = verdict.request
        sending = asyncio.create_task(wire.send(request.payload(self._clients.seed)))
        try:
            while verdict.breaks or not verdict.body.complete:
                if not wire.data and not await wire.more():
                    break
                verdict.body.add(wire.take(len(wire.data)))
            if not verdict.breaks:
                await sending
                if self._clients.context is None:
                    wire.finish()
            while wire.data or await wire.more():
                verdict.body.add(wire.take(len(wire.data)))
        finally:
            sending.cancel()
        if not verdict.body.complete or wire.ended != "fin":
            return self._broken(verdict, f"{wire.ended} within a tunnel")
        self._tally.outcomes["tunnels"] += 1
        return False
