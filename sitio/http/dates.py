"""
HTTP dates, read and written (RFC 9110, section 5.6.7).

Only policies need dates, so nothing on the way of every request imports this module.
"""

from __future__ import annotations

from calendar import timegm
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
