"""
The options of C{last-good}, and L{makePolicy}.

Options, each of them optional::

    max-age=SECONDS     how old a response may be when it masks a failure (300)
    budget=SECONDS      how long failures may prevail until masking stops (600)
    statuses=STATUSES   the statuses that count as failures (5xx)
    max-bytes=N         bytes stored in all; the least recently used go first (16 MiB)
    max-response=N      bytes of one body; longer responses are not stored (256 KiB)
    impersonal=NAME     a request field that does not identify the client; repeatable
    personal=NAME,...   request fields that do, though they are taken for impersonal
    despite=WORD,...    store and send responses in spite of what forbids it: the words of
                        PERSONAL_FIELDS and FORBIDDING

C{impersonal}, C{personal} and C{despite} may be given more than once.
"""

from __future__ import annotations

import re

from sitio.http.caching import PERSONAL_FIELDS
from sitio.http.headers import Headers
from sitio.http.message import parseStatuses
from sitio.policies.lastgood.budget import WINDOW_SECONDS
from sitio.policies.lastgood.policy import FORBIDDING, LastGood

#: The largest values of options, a week and 16 GiB: more is taken for a mistake.
MAX_SECONDS = 7 * 24 * 3600
MAX_BYTES = 16 * 1024 * 1024 * 1024


def _number(option: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not least <= int(text) <= most:
        raise ValueError(f"{option}={text}: a whole number from {least} to {most} is expected")
    return int(text)


def _words(text: str) -> frozenset[str]:
    return frozenset(each.strip().lower() for each in text.split(",") if each.strip())


def _fieldNames(text: str) -> frozenset[str]:
    names = _words(text)
    # Raises ValueError for a text that is not the name of a field.
    Headers((each, "") for each in sorted(names))
    return names


def makePolicy(
    *,
    maxAge: str = "300",
    budget: str = "600",
    statuses: str = "5xx",
    maxBytes: str = str(16 * 1024 * 1024),
    maxResponse: str = str(256 * 1024),
    impersonal: str = "",
    personal: str = "",
    despite: str = "",
) -> LastGood:
    """
    Make the policy of C{last-good[:max-age=SECONDS][:budget=SECONDS]...}.

    The options are those in the module's docstring.

    @raise ValueError: an option has a wrong value; one sentence says which is expected.
    """
    known = PERSONAL_FIELDS | FORBIDDING | _words(personal)
    for each in sorted(_words(despite) - known):
        raise ValueError(f"despite={despite}: {each!r} is none of {', '.join(sorted(known))}")
    return LastGood(
        maxAge=_number("max-age", maxAge, 1, MAX_SECONDS),
        # Within one window a single failure can't be told from an outage.
        budget=_number("budget", budget, WINDOW_SECONDS, MAX_SECONDS),
        masked=parseStatuses(statuses),
        maxBytes=_number("max-bytes", maxBytes, 1, MAX_BYTES),
        maxResponse=_number("max-response", maxResponse, 1, MAX_BYTES),
        impersonal=_fieldNames(impersonal),
        personal=_fieldNames(personal),
        despite=_words(despite),
    )
