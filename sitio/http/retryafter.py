"""
The field Retry-After: L{retryAfter}.

Contract: pure; the time of day is passed in.
"""

from __future__ import annotations

import re

from sitio.http.dates import parseDate
from sitio.http.headers import Headers

#: Digits of a number of seconds that are read: more are some thirty years in any case.
_MAX_DIGITS = 9


def retryAfter(headers: Headers, now: float) -> float:
    """
    The seconds that Retry-After asks for, in either of its forms (RFC 9110, section 10.2.3); 0 if
    there is none, if it is malformed, or if its date has passed.

    @param now: in seconds since 1970.
    """
    text = headers.get("Retry-After")
    if not text:
        return 0
    if re.fullmatch("[0-9]+", text):
        return int(text[:_MAX_DIGITS])
    date = parseDate(text)
    return 0 if date is None else max(0, date - now)
