"""
A connection of the soak, and HTTP messages on it.

It has a parser of its own, which shares no code with sitio's.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import frozen

#: Bytes received and not yet used, at which reading pauses.
MOST_HELD = 256 * 1024

#: Seconds between close_notify and the end of the connection.
CLOSE_SECONDS = 0.02


class Wrong(Exception):
    """Bytes were received that must not be."""


class Expected:
    """
    Compares bytes with those that must come, piece by piece.

    @param change: what was done to the bytes on their way.
    """

    def __init__(self, data: bytes, change: Callable[[bytes], bytes] | None = None) -> None:
        self.data = change(data) if change else data
        self.got = 0

    def add(self, piece: bytes) -> None:
        """
        Compare the next bytes.

        @raise Wrong: they are others.
        """
        start, self.got = self.got, self.got + len(piece)
        due = self.data[start : self.got]
        if due != piece:
            same = next((i for i, (a, b) in enumerate(zip(piece, due)) if a != b), len(due))
            wrong = piece[same : same + 40]
            raise Wrong(f"byte {start + same} of {len(self.data)} is wrong: {wrong!r}")

    @property
    def complete(self) -> bool:
        """Whether all have come."""
        return self.got == len(self.data)

    def end(self) -> None:
        """
        All was said to have come.

        @raise Wrong: it has not.
        """
        if not self.complete:
            raise Wrong(f"{self.got} of {len(self.data)} bytes, which look complete")


class Wire(asyncio.Protocol):
    """
    A connection.

    @ivar data: the bytes that were received and are not yet used.
    @ivar received: the number of bytes that were received.
    @ivar ended: how the peer has ended: C{""} not yet, C{fin}, or C{reset}.
    @ivar lost: whether the connection is closed.
    """

    transport: Any

    def __init__(self, made: Callable[[Wire], Any] | None = None) -> None:
        self.data = bytearray()
        self.received = 0
        self.ended = ""
        self.lost = False
        self._made = made
        self._secure = False
        self._changed: set[asyncio.Future[None]] = set()
        self._full = False
        self._held = self._brimming = self._slow = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._secure = transport.get_extra_info("sslcontext") is not None
        if self._made is not None:
            self._made(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.received += len(data)
        if len(self.data) > MOST_HELD:
            self._hold(full=True)
        self._wake()

    def eof_received(self) -> bool:
        self.ended = self.ended or "fin"
        self._wake()
        # TLS can't keep the other half open.
        return not self._secure

    def connection_lost(self, error: Exception | None) -> None:
        # With TLS an end without close_notify is as bad as a reset.
        self.ended = self.ended or ("reset" if error or self._secure else "fin")
        self.lost = True
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, set()
        for each in changed:
            if not each.done():
                each.set_result(None)

    async def change(self) -> None:
        """Wait until something has happened."""
        future = asyncio.get_running_loop().create_future()
        self._changed.add(future)
        await future

    def _hold(self, full: bool | None = None, slow: bool | None = None) -> None:
        """Stop reading from the peer, or go on, for one of two reasons."""
        self._brimming = self._brimming if full is None else full
        self._slow = self._slow if slow is None else slow
        held = self._brimming or self._slow
        if held != self._held and not self.lost and not self.ended:
            self._held = held
            if held:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    async def holdFor(self, seconds: float) -> None:
        """Read nothing for some time."""
        self._hold(slow=True)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._hold(slow=False)

    async def more(self) -> bool:
        """Wait for more bytes; whether there are any."""
        before = len(self.data)
        while len(self.data) == before and not self.ended and not self.lost:
            self._hold(full=False)
            await self.change()
        return len(self.data) > before

    def take(self, length: int) -> bytes:
        """Use up to this number of bytes."""
        piece = bytes(self.data[:length])
        del self.data[:length]
        return piece

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait until most have left or the connection is closed."""
        if not self.lost:
            self.transport.write(data)
        while self._full and not self.lost:
            await self.change()

    @property
    def sending(self) -> bool:
        """Whether bytes have not left yet."""
        closing: bool = self.transport.is_closing()
        return not closing and self.transport.get_write_buffer_size() > 0

    def finish(self) -> None:
        """End the sending half, unless the connection is gone."""
        if not self.lost:
            with suppress(OSError):
                self.transport.write_eof()

    def close(self) -> None:
        """Close when all is sent; with TLS, don't wait for the peer's close_notify."""
        if not self.transport.is_closing():
            self.transport.close()
        if self._secure:
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.transport.abort)

    def reset(self) -> None:
        """Close with a reset."""
        if not self.lost:
            under = self.transport.get_extra_info("socket")
            if under is not None:
                under.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


@frozen
class Head:
    """
    The head of a message.

    @ivar fields: names in lower case, and values; repeated ones are joined by C{", "}.
    """

    line: str
    fields: dict[str, str]

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.line.split(" ")[1])

    def closes(self) -> bool:
        """Whether its sender closes the connection after this response."""
        return "close" in self.fields.get("connection", "").lower()


async def readHead(wire: Wire) -> Head | None:
    """
    The next head; L{None} if the connection has ended before.

    @raise Wrong: it is no head.
    """
    while (end := wire.data.find(b"\r\n\r\n")) < 0:
        if len(wire.data) > 65536:
            raise Wrong(f"this is no head: {bytes(wire.data[:80])!r}")
        if not await wire.more():
            return None
    line, *lines = wire.take(end + 4)[:-4].decode("latin-1").split("\r\n")
    fields: dict[str, str] = {}
    for each in lines:
        name, colon, value = each.partition(":")
        if not colon or not name or name.strip() != name:
            raise Wrong(f"this is no field: {each!r}")
        name, value = name.lower(), value.strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return Head(line, fields)


async def _take(wire: Wire, length: int, got: Callable[[bytes], Any]) -> bool:
    while length:
        if not wire.data and not await wire.more():
            return False
        piece = wire.take(length)
        length -= len(piece)
        got(piece)
    return True


async def _line(wire: Wire) -> bytes | None:
    while (end := wire.data.find(b"\r\n")) < 0:
        if len(wire.data) > 8192:
            raise Wrong(f"this is no line: {bytes(wire.data[:80])!r}")
        if not await wire.more():
            return None
    return wire.take(end + 2)[:-2]


async def _chunked(wire: Wire, got: Callable[[bytes], Any], head: Head) -> bool:
    while True:
        size = await _line(wire)
        if size is None:
            return False
        try:
            length = int(size, 16)
        except ValueError:
            raise Wrong(f"this is no chunk size: {size[:80]!r}") from None
        if not length:
            break
        if not await _take(wire, length, got):
            return False
        end = await _line(wire)
        if end is None:
            return False
        if end:
            raise Wrong(f"this is no end of a chunk: {end[:80]!r}")
    while line := await _line(wire):
        name, _, value = line.decode("latin-1").partition(":")
        head.fields[f"trailer {name.lower()}"] = value.strip()
    return line is not None


async def readBody(wire: Wire, head: Head, toClose: bool, got: Callable[[bytes], Any]) -> bool:
    """
    Read the body that follows a head.

    @param toClose: whether a body without a length ends with the connection.
    @param got: called with each piece.
    @return: whether it is complete.
    @raise Wrong: the framing is broken.
    """
    if "transfer-encoding" in head.fields:
        if "content-length" in head.fields:
            raise Wrong("a message with two framings")
        return await _chunked(wire, got, head)
    if "content-length" in head.fields:
        return await _take(wire, int(head.fields["content-length"]), got)
    if not toClose:
        return True
    while wire.data or await wire.more():
        got(wire.take(len(wire.data)))
    return wire.ended == "fin"
