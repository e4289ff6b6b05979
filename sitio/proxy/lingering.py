"""
The rest of a request whose response has been sent: L{Lingering}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sitio.errors import BadMessage
from sitio.http.framing import ENDED, HEAD
from sitio.net.flow import LONG_READ_BYTES
from sitio.settings import LINGER_AFTER_SECONDS, LINGER_LIMIT_SECONDS, LINGER_SECONDS

if TYPE_CHECKING:
    from sitio.proxy.leaving import Leaving


class Lingering:
    """
    Reads and drops the rest of a request before its connection closes.

    Closing while the client still sends would reset the connection, and the client might
    lose the response (RFC 9112, section 9.6).  It lasts as long as bytes come: to
    L{LINGER_AFTER_SECONDS} after the end of the request if that can be found, else until
    none has come for L{LINGER_SECONDS}; in all at most L{LINGER_LIMIT_SECONDS}.  It buffers
    no body.
    """

    __slots__ = ("_end", "_isReadable", "_server")

    def __init__(self, server: Leaving) -> None:
        self._server = server
        reader = server.reader
        longest = LINGER_AFTER_SECONDS if reader.state is ENDED else LINGER_LIMIT_SECONDS
        self._end = server.context.seconds() + longest
        # Of a refused head the end is unknown.  What follows a whole request is dropped.
        self._isReadable = reader.state is not HEAD and reader.state is not ENDED
        self.receive(b"")

    def receive(self, data: bytes) -> None:
        """Drop more of the request, and of what is pipelined behind it."""
        server = self._server
        reader = server.reader
        if self._isReadable:
            reader.receive(data)
            try:
                reader.nextBody()
            except BadMessage:
                self._isReadable = False
            if reader.isCut:
                server.yieldTurn()
            elif reader.state is ENDED:
                # The next request may be on its way: to close before it comes would reset.
                self._isReadable = False
                self._end = min(self._end, server.context.seconds() + LINGER_AFTER_SECONDS)
        if not self._isReadable:
            reader.takeRest()
        if len(data) >= LONG_READ_BYTES:
            server.yieldTurn()
        server.deadline = min(self._end, server.context.seconds() + LINGER_SECONDS)

    def hurry(self) -> None:
        """End soon, as sitio stops."""
        self._end = min(self._end, self._server.context.seconds() + LINGER_SECONDS)
