"""
Requests and responses that many tests use.
"""

from __future__ import annotations

from typing import Any

from sitio.http.message import Headers, Request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(target: str = "/", method: str = "GET", **more: Any) -> Request:
    """Make a request as the request reader makes it."""
    return Request(method, target, Headers({"Host": "h"}), **more)
