"""
The ids of requests: L{RequestIds}.

Contract: pure, but for the random prefix.
"""

from __future__ import annotations

import os
import re

from sitio.http.content import Message
from sitio.http.headers import FieldLines

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
    ids, traces = [], []
    for name, value in message.rawFields:
        # The size is compared first, as this runs for every field.
        size = len(name)
        if size == 12 and name.lower() == b"x-request-id":
            ids.append(value.strip(b" \t"))
        elif size == 11 and name.lower() == b"traceparent":
            traces.append(value.strip(b" \t"))
    if len(ids) == 1 and _isId(ids[0]):
        return ids[0].decode("ascii")
    return _traceOf(traces[0]) if len(traces) == 1 else None


class RequestIds:
    """
    Gives each request an id: the one that it brings, if that is well formed, or else a new one,
    which no other process makes.
    """

    def __init__(self) -> None:
        self._prefix = os.urandom(6).hex()
        self._number = 0
        self._without: FieldLines | None = None

    def idOf(self, message: Message) -> str:
        """The id of this request.  Another call may give another one."""
        lines = message.lines
        # Most requests have no id, and those of one client often share their lines.
        if lines is None or lines is not self._without:
            given = _given(message)
            if given is not None:
                return given
            self._without = lines
        self._number += 1
        return f"{self._prefix}-{self._number:x}"
