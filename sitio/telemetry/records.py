"""
Records of single exchanges, as plain data.

An L{ExchangeRecord} describes one exchange; an L{ExchangeLists} is what the page
/exchanges shows.  L{sitio.telemetry.history} makes both.

Contract: pure.  Seconds are C{float}, bytes C{int}.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Literal, TypedDict

#: How many exchanges are listed of each kind: more than a person reads, at half a
#: kilobyte each.
MAX_RECENT = 200
MAX_FAILED = 100
MAX_OPEN = 200


class Steps(TypedDict):
    """
    How many seconds of one exchange each step took: C{policies}, their pauses before
    another attempt included; the wait for a C{connection}; the wait for the head of
    the C{upstream}'s response; and the rest, mostly the C{transfer} of bodies.
    """

    policies: float
    connection: float
    upstream: float
    transfer: float


#: The name of a step.
Step = Literal["policies", "connection", "upstream", "transfer"]


def stepsOf(
    policies: float, connection: float, upstream: float, duration: float, at: Step = "transfer"
) -> Steps:
    """
    Divide the duration of an exchange into steps, three of which are known.

    @param duration: seconds in all, so far if the exchange is open.
    @param at: the step that gets the rest: the current one of an open exchange.
    """
    steps: Steps = {
        "policies": policies,
        "connection": connection,
        "upstream": upstream,
        "transfer": 0.0,
    }
    steps[at] += max(0.0, duration - policies - connection - upstream)
    return steps


def whoAnswered(exchange: Any) -> str | None:
    """Returns C{"upstream"}, C{"sitio"} or C{"policy NAME"}; L{None} without a response."""
    response = exchange.response
    if exchange.answeredBy is not None:
        return f"policy {exchange.answeredBy}"
    if response is None:
        return None
    fromUpstream = exchange.upstreamStatus is not None and response.failure is None
    return "upstream" if fromUpstream else "sitio"


class ExchangeRecord(TypedDict):
    """
    One exchange, without bodies, queries and header fields, as these may hold secrets.

      - C{key} is the number of the process and one of the exchange; no other has the same, and
        it stays the same while the exchange is open and after it has ended.
      - C{id} is that of the request, which may be the client's; several may have the same.
      - C{labels} are those that policies set.
      - C{began} is in seconds since 1970; C{duration} in seconds, so far if it is open.
      - C{status} is what the client was sent, C{upstreamStatus} what the upstream
        answered, if it was asked.
      - C{answeredBy} is who made the response: C{upstream}, C{sitio} or
        C{policy NAME}; L{None} without one.
      - C{state} is what an open exchange waits for, or C{ended}.
      - C{why} is a sentence on the outcome.
      - C{failed} is whether it failed, masked or not, C{masked} whether it was masked, and
        C{brokeOff} whether its response broke off, as L{sitio.telemetry.outcomes} has it.
    """

    key: str
    id: str
    labels: dict[str, str]
    began: float
    duration: float
    client: str
    method: str
    path: str
    status: int | None
    upstreamStatus: int | None
    answeredBy: str | None
    acted: list[str]
    attempts: int
    bytesIn: int
    bytesOut: int
    steps: Steps
    state: str
    why: str
    failed: bool
    masked: bool
    brokeOff: bool


class ExchangeLists(TypedDict):
    """
    The last exchanges that C{failed} or that their clients made fail, the last that ended
    with any outcome (C{recent}), both newest first, and those that are C{open}, oldest first.

    They have at most L{MAX_FAILED}, L{MAX_RECENT} and L{MAX_OPEN} entries.
    C{recent} is recorded only from the first request for these lists until a minute
    after the last one.
    """

    failed: list[ExchangeRecord]
    recent: list[ExchangeRecord]
    open: list[ExchangeRecord]


def mergeExchanges(several: Iterable[ExchangeLists]) -> ExchangeLists:
    """The lists of several processes as those of one; the arguments stay unchanged."""
    all = list(several)

    def newest(ended: Iterable[ExchangeRecord], most: int) -> list[ExchangeRecord]:
        return sorted(ended, key=lambda each: -(each["began"] + each["duration"]))[:most]

    return {
        "failed": newest((one for each in all for one in each["failed"]), MAX_FAILED),
        "recent": newest((one for each in all for one in each["recent"]), MAX_RECENT),
        "open": sorted((one for each in all for one in each["open"]), key=itemgetter("began"))[
            :MAX_OPEN
        ],
    }
