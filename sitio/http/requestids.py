"""
The ids of requests: L{RequestIds}.

Contract: pure, but for the random prefix.
"""

from __future__ import annotations

import os
import re

from sitio.http.content import Message

# An id that is taken from the client: longer than those of tracing tools.
_isId = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}").fullmatch

# Trace Context, section 3.2: version, trace id, parent id and flags.
_isTraceparent = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]*)?"
).fullmatch


def _traceOf(value: bytes) -> str | None:
    """The trace id of a traceparent, or L{None}."""
    found = _isTraceparent(value)
    if found is None:
        return None
    version, trace, parent, more = found.groups()
    # Version ff is none, ids of zeros are none, and only later versions have more members.
    if version == b"ff" or not trace.strip(b"0") or not parent.strip(b"0"):
        return None
    return None if version == b"00" and more else trace.decode("ascii")


def _given(message: Message) -> str | None:
    """The id that a request brings: its X-Request-Id, or else the trace id of its traceparent."""
    headers = message.headers
    # Of several lines the value has a comma, and is not well formed.
    given = headers.bytesOf(b"x-request-id")
    if given is not None and _isId(given):
        return given.decode("ascii")
    trace = headers.bytesOf(b"traceparent")
    return None if trace is None else _traceOf(trace)


class RequestIds:
    """
    Gives each request an id: the one that it brings, if that is well formed, or else a new one,
    which no other process makes.
    """

    def __init__(self) -> None:
        self._prefix = os.urandom(6).hex()
        self._number = 0

    def idOf(self, message: Message) -> str:
        """The id of this request.  Another call may give another one."""
        given = _given(message)
        if given is not None:
            return given
        self._number += 1
        return f"{self._prefix}-{self._number:x}"
