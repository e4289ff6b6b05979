"""
Requests and responses that many tests use.
"""

from __future__ import annotations

from typing import Any

from sitio.http.codec import chunk
from sitio.http.message import Headers, Request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#: A request's body, by its framing: the field, the begin of the body, the next part, and the rest.
FRAMINGS = {
    "a length": (b"Content-Length: 9", b"abc", b"def", b"ghi"),
    "chunks": (
        b"Transfer-Encoding: chunked",
        chunk(b"abc"),
        chunk(b"def"),
        chunk(b"ghi") + b"0\r\n\r\n",
    ),
}


def get(target: str = "/", method: str = "GET", **more: Any) -> Request:
    """Make a request as the request reader makes it."""
    return Request(method, target, Headers({"Host": "h"}), **more)
