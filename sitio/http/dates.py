"""
HTTP dates, read and written (RFC 9110, section 5.6.7).
"""

from __future__ import annotations

import time
from calendar import timegm
from collections.abc import Callable
from email.utils import formatdate, parsedate


def parseDate(text: str) -> int | None:
    """
    The time that an HTTP date names, in whole seconds since 1970.

    Reads all three forms: C{Sun, 06 Nov 1994 08:49:37 GMT}, which is the only one to be
    sent, that of RFC 850, and that of asctime.  A date is in GMT whatever its zone says.
    A year of two digits is 1969 to 2068.

    @return: L{None} if the text is not a date.
    """
    try:
        parsed = parsedate(text)
        return None if parsed is None else timegm(parsed)
    except (ValueError, OverflowError):
        return None


def formatDate(seconds: float) -> str:
    """
    A time as HTTP sends it: C{Sun, 06 Nov 1994 08:49:37 GMT}.

    @param seconds: since 1970; a fraction is cut off.
    """
    return formatdate(int(seconds), usegmt=True)


class DateLine:
    """
    The field line Date of a response that is sent now (RFC 9110, section 6.6.1).

    A call returns the line with its line end.  It is formatted once in a second.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """@param now: returns the wall clock's time, in seconds since 1970."""
        self._now = now
        self._second = -1
        self._line = b""

    def __call__(self) -> bytes:
        second = int(self._now())
        if second != self._second:
            self._second = second
            self._line = b"Date: %b\r\n" % formatDate(second).encode("ascii")
        return self._line
