"""
The options of C{last-good}, and L{makePolicy}.
"""

from __future__ import annotations

from typing import Annotated

from attrs import frozen

from sitio.http.caching import PERSONAL_FIELDS
from sitio.http.headers import Headers
from sitio.policies.lastgood.budget import WINDOW_SECONDS
from sitio.policies.lastgood.policy import FORBIDDING, LastGood
from sitio.policy.kinds import Duration, Kind, Size, Statuses
from sitio.policy.options import About

#: The largest values of options, a week and 16 GiB: more is taken for a mistake.
MAX_SECONDS = 7 * 24 * 3600
MAX_BYTES = 16 * 1024 * 1024 * 1024


_ALL_5XX = frozenset(range(500, 600))


def _words(text: str) -> frozenset[str]:
    return frozenset(each.strip().lower() for each in text.split(",") if each.strip())


def _fieldNames(text: str) -> frozenset[str]:
    names = _words(text)
    # Raises ValueError for a text that is not the name of a field.
    Headers((each, "") for each in sorted(names))
    return names


def _written(words: frozenset[str]) -> str:
    return ",".join(sorted(words))


_Names = Annotated[
    frozenset[str], Kind("names of fields", "NAME,...", _fieldNames, _written, many=True)
]
_Words = Annotated[
    frozenset[str],
    Kind("names of fields and directives", "WORD,...", _words, _written, many=True),
]


@frozen
class Options:
    """The options of C{last-good}."""

    maxAge: Annotated[
        Duration, About("largest age of a response that masks", least=1, most=MAX_SECONDS)
    ] = 300.0
    # Within one window a single failure can't be told from an outage.
    budget: Annotated[
        Duration,
        About(
            "longest time for which failures may prevail before masking stops",
            least=WINDOW_SECONDS,
            most=MAX_SECONDS,
        ),
    ] = 600.0
    statuses: Annotated[Statuses, About("the failures that are masked")] = _ALL_5XX
    maxBytes: Annotated[
        Size,
        About("what is kept in all; the least recently used go first", least=1, most=MAX_BYTES),
    ] = 16 * 1024 * 1024
    maxResponse: Annotated[Size, About("largest body that is kept", least=1, most=MAX_BYTES)] = (
        256 * 1024
    )
    impersonal: Annotated[
        _Names, About("request fields of yours that do not identify the client")
    ] = frozenset()
    personal: Annotated[
        _Names, About("request fields that do, though they are taken for impersonal")
    ] = frozenset()
    despite: Annotated[
        _Words, About("keep and send responses in spite of these fields and directives")
    ] = frozenset()


def makePolicy(options: Options) -> LastGood:
    """
    Mask a failure with the last good response.

    @raise ValueError: a word of C{despite} is none that forbids anything.
    """
    known = PERSONAL_FIELDS | FORBIDDING | options.personal
    for each in sorted(options.despite - known):
        raise ValueError(
            f"despite={','.join(sorted(options.despite))}: {each!r} is none of"
            f" {', '.join(sorted(known))}"
        )
    return LastGood(
        maxAge=options.maxAge,
        budget=options.budget,
        masked=options.statuses,
        maxBytes=options.maxBytes,
        maxResponse=options.maxResponse,
        impersonal=options.impersonal,
        personal=options.personal,
        despite=options.despite,
    )
