"""
Content codings: L{decoded} undoes what Content-Encoding names (RFC 9110, section 8.4).

gzip and deflate are decoded by Python's own zlib; br and zstd need a library, which the extras
C{br} and C{zstd} install.  What is decoded never grows beyond a limit, as a kilobyte may stand
for a megabyte of zeros.

Contract: pure.  Errors contain nothing of a body: they are logged.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

#: Bytes of a decoded body, unless the caller gives another limit: sixteen times of what
#: sitio buffers by default.
MAX_DECODED_BYTES = 16 * 1024 * 1024

#: Codings of one body.  More than one is rare, and each takes its time.
MAX_CODINGS = 3

#: Members of a gzip body, or frames of a zstd body: each costs as much as some kilobytes.
MAX_MEMBERS = 1000

# Bytes that a decoder gets at a time: it copies what follows the end of a member.
_SLICE_BYTES = 8192

# The largest window that a decoder has to accept, as a power of two (RFC 9659).
_ZSTD_WINDOW_LOG = 23

# What zlib is told: gzip, zlib (RFC 1950), and deflate (RFC 1951) without a header.
_GZIP, _ZLIB, _RAW = 31, 15, -15


class UnreadableBody(ValueError):
    """A body can't be read as it was asked for: its text says why, and what to do."""


class _Decoder(Protocol):
    """A decoder of one member, as of C{zlib} and C{compression.zstd}."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Output:
    """The decoded pieces of a body, up to a limit."""

    def __init__(self, coding: str, limit: int) -> None:
        self._pieces: list[bytes] = []
        self._coding = coding
        self._limit = limit
        self.room = limit

    def add(self, piece: bytes) -> None:
        self.room -= len(piece)
        if self.room < 0:
            raise UnreadableBody(
                f"the {self._coding} body has more than {self._limit} bytes when it is decoded;"
                " decode(limit=BYTES) takes another limit"
            )
        self._pieces.append(piece)

    def joined(self) -> bytes:
        return b"".join(self._pieces)


def _decode(
    make: Callable[[], _Decoder], coding: str, body: bytes, limit: int, mayRepeat: bool
) -> bytes:
    """
    Decode with one decoder for each member.

    @param mayRepeat: whether several members may follow each other.
    """
    output = _Output(coding, limit)
    decoder = make()
    members = 1
    for start in range(0, len(body), _SLICE_BYTES):
        data = body[start : start + _SLICE_BYTES]
        while data:
            if decoder.eof:
                if not mayRepeat:
                    raise UnreadableBody(f"bytes follow the end of the {coding} body")
                if members == MAX_MEMBERS:
                    raise UnreadableBody(f"the {coding} body has more than {MAX_MEMBERS} parts")
                members += 1
                decoder = make()
            output.add(decoder.decompress(data, output.room + 1))
            data = decoder.unused_data
    if not decoder.eof:
        raise UnreadableBody(f"the {coding} body is truncated")
    return output.joined()


def _gunzip(body: bytes, limit: int) -> bytes:
    return _decode(lambda: zlib.decompressobj(_GZIP), "gzip", body, limit, mayRepeat=True)


def _inflate(body: bytes, limit: int) -> bytes:
    """Decode C{deflate}: zlib is right, and some senders leave its header out (section 8.4.1.2)."""
    try:
        return _decode(lambda: zlib.decompressobj(_ZLIB), "deflate", body, limit, mayRepeat=False)
    except zlib.error:
        return _decode(lambda: zlib.decompressobj(_RAW), "deflate", body, limit, mayRepeat=False)


def _needs(coding: str) -> UnreadableBody:
    return UnreadableBody(
        f"the body has the coding {coding}, for which a library is missing:"
        f" pip install 'sitio-sidecar[{coding}]'"
    )


def _unbrotli(body: bytes, limit: int) -> bytes:
    try:
        import brotli
    except ImportError:
        raise _needs("br") from None
    output = _Output("br", limit)
    decoder = brotli.Decompressor()
    try:
        for start in range(0, len(body), _SLICE_BYTES):
            data = body[start : start + _SLICE_BYTES]
            if decoder.is_finished():
                raise UnreadableBody("bytes follow the end of the br body")
            output.add(decoder.process(data, output_buffer_limit=output.room + 1))
            while not decoder.can_accept_more_data():
                output.add(decoder.process(b"", output_buffer_limit=output.room + 1))
    except brotli.error as error:
        raise UnreadableBody("the body is not br, or broken") from error
    if not decoder.is_finished():
        raise UnreadableBody("the br body is truncated")
    return output.joined()


def _zstd() -> Any:
    """The module C{compression.zstd}: of Python 3.14, or as it is for older ones."""
    try:
        from compression import zstd
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise _needs("zstd") from None
    return zstd


def _unzstd(body: bytes, limit: int) -> bytes:
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    try:
        return _decode(
            lambda: zstd.ZstdDecompressor(options=options), "zstd", body, limit, mayRepeat=True
        )
    except zstd.ZstdError as error:
        raise UnreadableBody("the body is not zstd, or broken") from error


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}


def codingsOf(value: str) -> list[str]:
    """The codings that a Content-Encoding names, in lower case, without C{identity}."""
    names = [each.strip(" \t").lower() for each in value.split(",")]
    return [each for each in names if each not in ("", "identity")]


def decoded(body: bytes, codings: str, limit: int = MAX_DECODED_BYTES) -> bytes:
    """
    A body without its codings.  An empty body stays empty, whatever its coding: a response to
    HEAD has none.

    @param codings: the value of Content-Encoding.
    @param limit: bytes of the result, and of what is between two codings.

    @raise UnreadableBody: a coding is unknown, or its library is missing; the body is not of
        this coding, is truncated, followed by other bytes, or longer than the limit.
    """
    names = codingsOf(codings)
    if len(names) > MAX_CODINGS:
        raise UnreadableBody(f"the body has {len(names)} codings; {MAX_CODINGS} are decoded")
    for name in reversed(names):
        decoder = _DECODERS.get(name)
        if decoder is None:
            raise UnreadableBody(
                f"the body has the coding {name[:20]!r}, which is none of gzip, deflate, br, zstd"
            )
        if body:
            try:
                body = decoder(body, limit)
            except zlib.error as error:
                raise UnreadableBody(f"the body is not {name}, or broken") from error
    return body
