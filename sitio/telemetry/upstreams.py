"""
Snapshots of upstreams and their endpoints, as plain data, and how they add up.

L{sitio.upstream.cluster} makes them.  Several processes each have their own view: an endpoint
may be ejected in one and healthy in another.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

#: Endpoints of one upstream whose counts are kept, however many workers and endpoints come and
#: go: those of DNS, and those that drain.
MAX_ENDPOINTS = 320


class UpstreamEndpoint(TypedDict):
    """
    An endpoint of an upstream.

    C{states} is how many processes see it in each state: C{healthy}, C{warming} (its share
    grows), C{unhealthy} (its health checks fail), C{ejected} (its requests failed), C{draining}
    (it has left); it is empty for one that only processes knew which have ended.

    C{outstanding} requests have a connection or wait for one; C{open} and C{idle} are
    connections.  C{sent} requests were sent so far.  C{answered} attempts got a response;
    C{failed} ones got none, a connection included, or one that counts as a failure.  These two
    are 0 where nothing judges endpoints.  C{seconds} is the sum of the waits for these responses.
    C{lastFailure} is a sentence, or empty.
    """

    address: str
    states: dict[str, int]
    weight: int
    outstanding: int
    open: int
    idle: int
    sent: int
    answered: int
    failed: int
    seconds: float
    ejections: int
    lastFailure: str


class UpstreamMetrics(TypedDict):
    """
    An upstream.  C{problem} is a sentence about what is wrong with all of it, or empty.
    C{judged} is whether endpoints may be taken out of service.  C{retries} were made, C{hedges} of
    them beside the first attempt, and C{refused} were asked for and refused by the budget.
    """

    name: str
    problem: str
    judged: bool
    retries: int
    hedges: int
    refused: int
    endpoints: list[UpstreamEndpoint]


def isPlain(upstreams: Iterable[UpstreamMetrics]) -> bool:
    """
    Whether there is at most one upstream, with at most one endpoint that nothing judges: then
    there is nothing to tell that other metrics don't.
    """
    every = list(upstreams)
    return len(every) < 2 and not any(
        each["judged"] or len(each["endpoints"]) > 1 for each in every
    )


def mergeUpstreams(
    one: Iterable[UpstreamMetrics], two: Iterable[UpstreamMetrics]
) -> list[UpstreamMetrics]:
    """
    Add up what two processes know of the same upstreams.  Endpoints of one address are one: one
    may have left and come back.  The arguments stay unchanged.
    """
    found: dict[str, UpstreamMetrics] = {}
    for each in (*one, *two):
        known = found.get(each["name"])
        if known is None:
            found[each["name"]] = {**each, "endpoints": _merged(each["endpoints"])}
            continue
        found[each["name"]] = {
            "name": each["name"],
            "problem": known["problem"] or each["problem"],
            "judged": known["judged"] or each["judged"],
            "retries": known["retries"] + each["retries"],
            "hedges": known["hedges"] + each["hedges"],
            "refused": known["refused"] + each["refused"],
            "endpoints": _merged([*known["endpoints"], *each["endpoints"]]),
        }
    return list(found.values())


def _merged(endpoints: Iterable[UpstreamEndpoint]) -> list[UpstreamEndpoint]:
    found: dict[str, UpstreamEndpoint] = {}
    for each in endpoints:
        known = found.get(each["address"])
        found[each["address"]] = (
            {**each, "states": {**each["states"]}} if known is None else _sum(known, each)
        )
    return list(found.values())


def _sum(one: UpstreamEndpoint, two: UpstreamEndpoint) -> UpstreamEndpoint:
    states = {**one["states"]}
    for state, times in two["states"].items():
        states[state] = states.get(state, 0) + times
    return {
        "address": one["address"],
        "states": states,
        "weight": max(one["weight"], two["weight"]),
        "outstanding": one["outstanding"] + two["outstanding"],
        "open": one["open"] + two["open"],
        "idle": one["idle"] + two["idle"],
        "sent": one["sent"] + two["sent"],
        "answered": one["answered"] + two["answered"],
        "failed": one["failed"] + two["failed"],
        "seconds": one["seconds"] + two["seconds"],
        "ejections": one["ejections"] + two["ejections"],
        "lastFailure": one["lastFailure"] or two["lastFailure"],
    }


def countersOfUpstreams(upstreams: Iterable[UpstreamMetrics]) -> list[UpstreamMetrics]:
    """What a process that has ended has counted, with nothing open and no state."""
    return [
        {
            **each,
            "problem": "",
            "endpoints": [
                {**endpoint, "states": {}, "outstanding": 0, "open": 0, "idle": 0}
                for endpoint in each["endpoints"][-MAX_ENDPOINTS:]
            ],
        }
        for each in upstreams
    ]


def present(upstreams: Iterable[UpstreamMetrics]) -> list[UpstreamMetrics]:
    """Without the endpoints that only processes knew which have ended."""
    return [
        {**each, "endpoints": [known for known in each["endpoints"] if known["states"]]}
        for each in upstreams
    ]
