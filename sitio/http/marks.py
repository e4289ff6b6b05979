"""
The mark of one sitio on the requests that it sends, by which it knows those that come back.

It stands in CDN-Loop, which is made for that (RFC 8586): proxies pass it on, and it means
nothing to services.  The mark is random, so several sitios in a row tell each other apart.
"""

from __future__ import annotations

import os

from sitio.http.message import Request

#: The field, in lower case.
LOOP = b"cdn-loop"

#: Random bytes of a mark: enough that no two sitios of a chain ever have the same.
_MARK_BYTES = 8


def newMark() -> str:
    """Make a mark: a pseudonym as RFC 8586, section 2, has it."""
    return f"sitio-{os.urandom(_MARK_BYTES).hex()}"


def lineWith(mark: str) -> bytes:
    """The line for a mark; C{b""} without one.  A list may have several lines."""
    return b"CDN-Loop: %b\r\n" % mark.encode("ascii") if mark else b""


def hasMark(request: Request, mark: str) -> bool:
    """Whether a request carries this mark; without one it does not."""
    sought = mark.encode("ascii")
    return bool(mark) and sought in (request.headers.bytesOf(LOOP) or b"")
