"""
The service of the soak: C{python -m bench.soak.service PORT SEED}.

It answers each request as L{Answer<bench.soak.plan.Answer>} says, and checks each byte of
its body.  A line on standard output that begins with C{WRONG} reports what must not be.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from random import Random

from bench.soak.plan import BREAKS, WITH_BODY, Answer, body, chunks, sizes
from bench.soak.wire import Expected, Head, Wire, Wrong, readBody, readHead

#: Seconds for one request, also for an event stream that nobody ends: less than clients wait.
LONGEST_SECONDS = 15.0

#: Seconds for which the rest of a request is read after an early answer.
LINGER_SECONDS = 2.0

#: Bytes that no client may ever see.
UNASKED = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nX-Number: -1\r\n\r\nnobody's body"

REASONS = {101: "Switching Protocols", 200: "OK", 404: "Not Found", 413: "Content Too Large"}

#: Kinds whose request a client can repeat with the same number only through sitio.
_UNREPEATED = frozenset(("POST", "PATCH"))


def tell(sentence: str) -> None:
    """Report what must not be."""
    print(f"WRONG {sentence}", flush=True)


class Service:
    """
    All connections of the service.

    @ivar attempts: how often each number has arrived, as far as it matters.
    """

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.attempts: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, wire: Wire) -> None:
        """Serve a new connection."""
        task = asyncio.get_running_loop().create_task(self._serve(wire))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, wire: Wire) -> None:
        head = None
        try:
            while head := await readHead(wire):
                async with asyncio.timeout(LONGEST_SECONDS):
                    if not await Served(self, wire, head).serve():
                        break
        except TimeoutError:
            tell(f"{head and head.line!r} did not end in {LONGEST_SECONDS:g} seconds")
        except Wrong as error:
            tell(f"{head and head.line!r}: {error}")
        except (OSError, RuntimeError):
            # The connection has gone while something was written.
            pass
        wire.close()


class Served:
    """One request."""

    def __init__(self, service: Service, wire: Wire, head: Head) -> None:
        self._service = service
        self._wire = wire
        self._head = head
        try:
            self.method, target, _ = head.line.split(" ")
            _, self.kind, self.key = target.split("/")
            self.number = int(head.fields["x-number"])
        except (ValueError, KeyError):
            raise Wrong(f"an unknown head {head}") from None
        if self.kind != "shared" and self.key != str(self.number):
            raise Wrong(f"number {self.number} with another path")
        for name in ("x-forwarded-for", "x-forwarded-host", "x-soak"):
            if ", " in head.fields.get(name, ", "):
                raise Wrong(f"number {self.number} with {name} {head.fields.get(name)!r}")
        self.answer = Answer.choose(service.seed, self.number, self.kind, self.method)
        self.shared = self.kind == "shared" and "cookie" not in head.fields
        self.dice = Random(self.number)

    async def serve(self) -> bool:
        """Answer; whether the connection can be used again."""
        wire, answer, course = self._wire, self.answer, self.answer.course
        attempts = self._service.attempts
        if self.method in _UNREPEATED or (answer.once and course in BREAKS):
            attempts[self.number] += 1
        attempt = attempts[self.number]
        if self.method in _UNREPEATED and attempt > 1:
            raise Wrong("a request that must not be repeated was sent twice")
        if course in BREAKS and answer.once and attempt > 1:
            course = "whole"
        if course.startswith("early"):
            return await self._early(course)
        if self._head.fields.get("expect"):
            await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if course == "slow":
            await wire.holdFor(self.dice.uniform(0.02, 0.2))
        if not await self._readBody():
            return False
        if self.kind == "upgrade" and self._head.fields.get("upgrade") == "soak":
            return await self._tunnel(course)
        if self.kind == "events":
            return await self._events()
        return await self._respond(course)

    async def _readBody(self) -> bool:
        """Read and check the body; whether it is complete."""
        length = int(self._head.fields["x-length"])
        expected = Expected(body(self._service.seed, f"request/{self.number}", length))
        if self.method not in WITH_BODY:
            if {"content-length", "transfer-encoding"} & self._head.fields.keys():
                raise Wrong("a body that nobody has sent")
        elif await readBody(self._wire, self._head, False, expected.add):
            expected.end()
        else:
            return False
        if self._wire.data and self.kind != "upgrade":
            raise Wrong(f"more than a request: {bytes(self._wire.data[:80])!r}")
        return True

    def _lines(self, course: str) -> bytes:
        """The head of the response."""
        answer = self.answer
        lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Soaked')}"]
        if self.shared and answer.status == 200:
            lines += [f"X-Key: {self.key}", "Cache-Control: max-age=1"]
        else:
            lines += [f"X-Number: {self.number}"]
            if self.kind == "shared":
                lines.append("Cache-Control: private")
        if answer.status == 101:
            lines += ["Connection: Upgrade", "Upgrade: soak"]
        elif answer.status in (204, 304):
            pass
        elif answer.framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif answer.framing == "length":
            lines.append(f"Content-Length: {self._length()}")
        if course in ("leaving", "early", "early, closing") or answer.framing == "close":
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()

    def _length(self) -> int:
        return len(self.answer.body(self._service.seed, self.number, self.shared))

    def _message(self, course: str) -> tuple[bytes, bytes]:
        """The head and the body of the response as they are sent."""
        answer = self.answer
        if self.method == "HEAD" or answer.status in (204, 304):
            return self._lines(course), b""
        data = answer.body(self._service.seed, self.number, self.shared)
        if answer.framing == "chunked":
            trailer = b"X-Trail: %d\r\n" % self.number if self.number % 3 == 0 else b""
            data = b"".join(chunks(self.dice, data, trailer))
        return self._lines(course), data

    async def _respond(self, course: str) -> bool:
        wire, answer = self._wire, self.answer
        head, data = self._message(course)
        if course.endswith(", body") and not data:
            # Nothing would be missing, and an idle connection must not close unannounced.
            course = "whole"
        if course in BREAKS:
            how, _, where = course.partition(", ")
            cut = {
                "nothing": 0,
                "head": int(answer.share * (len(head) - 1)),
                "body": len(head) + int(answer.share * max(0, len(data) - 1)),
            }[where]
            await wire.send((head + data)[:cut])
            await asyncio.sleep(self.dice.choice((0, 0.005)))
            (wire.close if how == "close" else wire.reset)()
            return False
        if course == "interim":
            early = b"HTTP/1.1 103 Early Hints\r\nX-Number: %d\r\n\r\n" % self.number
            await wire.send(early * self.dice.randint(1, 3))
        if course == "pieces":
            for start, end in sizes(self.dice, len(head), 3):
                await wire.send(head[start:end])
                await asyncio.sleep(self.dice.uniform(0, 0.03))
            for start, end in sizes(self.dice, len(data), 4):
                await wire.send(data[start:end])
                await asyncio.sleep(self.dice.uniform(0, 0.03))
        else:
            await wire.send(head + data + (UNASKED if course == "more" else b""))
        return course != "leaving" and answer.framing != "close"

    async def _early(self, course: str) -> bool:
        """Answer before the request has ended."""
        wire = self._wire
        head, data = self._message(course)
        await wire.send(head + data)
        if course == "early":
            wire.finish()
            end = asyncio.get_running_loop().time() + LINGER_SECONDS
            while (left := end - asyncio.get_running_loop().time()) > 0:
                wire.data.clear()
                try:
                    async with asyncio.timeout(left):
                        if not await wire.more():
                            break
                except TimeoutError:
                    break
        return False

    async def _events(self) -> bool:
        """Send some events, and then none, until the client has gone."""
        wire = self._wire
        await wire.send(self._lines(""))
        data = self.answer.body(self._service.seed, self.number, self.shared)
        for start, end in sizes(self.dice, len(data)):
            await wire.send(b"%x\r\n%b\r\n" % (end - start, data[start:end]))
            await asyncio.sleep(self.dice.uniform(0, 0.05))
        while not wire.ended and not wire.lost:
            await wire.change()
        return False

    async def _tunnel(self, course: str) -> bool:
        """Both directions at once; each ends with the half of its sender."""
        wire, seed = self._wire, self._service.seed
        data = self.answer.body(seed, self.number, False)
        cut = int(self.answer.share * len(data)) if course in BREAKS else len(data)
        length = int(self._head.fields["x-length"])
        expected = Expected(body(seed, f"request/{self.number}", length))
        await wire.send(self._lines(""))
        sending = asyncio.create_task(self._sendPieces(data[:cut]))
        if course in BREAKS:
            await sending
            (wire.close if course.startswith("close") else wire.reset)()
            return False
        halves = self._head.fields["x-halves"] == "1"
        # Without halves it ends when all has come.
        while (halves or not expected.complete) and (wire.data or await wire.more()):
            expected.add(wire.take(len(wire.data)))
        await sending
        return False

    async def _sendPieces(self, data: bytes) -> None:
        for start, end in sizes(self.dice, len(data)):
            await self._wire.send(data[start:end])
            await asyncio.sleep(0)


async def serve(port: int, seed: str) -> None:
    """Serve until the process is killed."""
    service = Service(seed)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Wire(service.begin), "127.0.0.1", port, backlog=1024, reuse_address=True
    )
    await server.serve_forever()


if __name__ == "__main__":
    gc.freeze()
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
