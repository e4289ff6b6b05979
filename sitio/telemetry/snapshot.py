"""
Snapshots of metrics, as plain data, and how they add up.

A L{Snapshot} has the metrics of all endpoints at one moment; L{sitio.telemetry.stats}
makes it.  A L{SidecarSnapshot} adds what policies, connections and workers have
counted.  L{merge} and L{mergeSidecars} add up those of several processes;
L{limitEndpoints} bounds the result.  All three work in steps (L{sitio.net.turns}), as the
tables of some workers have tens of thousands of numbers.

Contract: pure; dicts, lists and numbers in, the same out.  Seconds are C{float},
bytes C{int}.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from operator import add
from typing import Any, TypedDict, TypeVar

from sitio.net.turns import Steps, smallest
from sitio.telemetry.certificates import TLSMetrics, mergeTLS
from sitio.telemetry.configstate import ConfigSnapshot
from sitio.telemetry.histogram import Histogram
from sitio.telemetry.upstreams import UpstreamMetrics, countersOfUpstreams, mergeUpstreams

#: Method and route of the row that counts for all endpoints without a row of their own.
OTHER = ("", "(other)")


class Metrics(TypedDict):
    """
    The metrics of one endpoint, or of all together.

    C{failed} is how many exchanges failed, masked or not, and C{sentFailed} of how many
    the client saw a failure: L{sitio.telemetry.outcomes} has the rule.  Everything that
    shows failures shows these two.

    C{statuses} counts responses by the status that clients were sent, with C{"499"} for
    clients that went away.  C{upstreamStatuses} counts them by the status of the
    upstream, or by the status sent where the upstream was not asked.  Both add up to
    C{hits}.  C{sentBroken} and C{broken} count, by the same statuses, the responses among
    them that broke off.  C{masked} counts, by upstream status, the failures for which
    clients were sent something better.  A status is a text: C{"404"}; C{"4xx"} for those
    beyond the number of statuses that are told apart; C{"none"} where no response was sent.

    C{latency} are the counts of a histogram with C{latencyBounds}, C{seconds} is the sum
    of the durations.  For a tunnel the duration is the time to the upstream's 101.
    C{upstreamSeconds} has the sums by upstream status.

    C{underWay} is how many exchanges have been under way for a second or more.  They are in
    no other count, but the bytes that they have moved are in C{bytesIn} and C{bytesOut} as
    soon as the response has begun.
    """

    hits: int
    failed: int
    sentFailed: int
    statuses: dict[str, int]
    upstreamStatuses: dict[str, int]
    broken: dict[str, int]
    sentBroken: dict[str, int]
    masked: dict[str, int]
    bytesIn: int
    bytesOut: int
    latency: list[int]
    seconds: float
    upstreamSeconds: dict[str, float]
    underWay: int


class EndpointMetrics(Metrics):
    """
    The metrics of one endpoint.  C{method} is empty for the three rows in round
    brackets, each of which counts for many endpoints.
    """

    method: str
    route: str


class RouteMetrics(TypedDict):
    """
    What Prometheus gets of a method and a configured template of paths; C{route} is empty
    for all other paths together, and C{method} is C{_OTHER} for those that are not shown by
    name.  The counts never fall, whatever endpoints lose their row.

    C{durations} has a histogram with C{sentBounds} for each sent status, C{"200"}, and for
    each name of what ended a response early, C{"200 connection_lost"}.  All else is as in
    L{Metrics}.
    """

    method: str
    route: str
    hits: int
    bytesIn: int
    bytesOut: int
    masked: dict[str, int]
    durations: dict[str, Histogram]
    underWay: int


class Snapshot(TypedDict):
    """
    All metrics at one moment, ready for JSON; the receiver may keep and change it.

    C{endpoints} has the busiest first; C{total} is their sum.  C{routes} adds up to the same.
    C{evicted} is how many endpoints have lost their row to others.  C{added} and
    C{addedSeconds} are a histogram, with C{addedBounds}, of the time that sitio adds: the
    duration without the wait for the upstream's head, of exchanges that the upstream answered
    and that went well.  It includes the transfer of the body, so large downloads are in its last
    buckets; its median is the number to look at.  C{uptime} is in seconds.

    C{attempts} has a histogram, with C{sentBounds}, of the attempts to send requests to the
    upstream: the waits for a connection and for the head of the response.  Its keys are
    method, status and the name of the failure, C{"GET 503"}, C{"GET none timeout"}.  A
    request that is sent again is several attempts; one that no attempt was made for, none.
    """

    uptime: float
    total: Metrics
    endpoints: list[EndpointMetrics]
    routes: list[RouteMetrics]
    evicted: int
    added: list[int]
    addedSeconds: float
    attempts: dict[str, Histogram]
    latencyBounds: list[float]
    addedBounds: list[float]
    sentBounds: list[float]


class PolicyMetrics(TypedDict):
    """
    How often a policy was called, acted and failed, and how many seconds its calls took
    in all.  A response that its C{isInterested} has declined is not counted as a call.
    C{sees} is what the policy is shown: C{requests}, C{responses}, C{exchanges} (that
    have ended), or several of these, separated by commas.
    """

    name: str
    sees: str
    called: int
    acted: int
    failed: int
    seconds: float


class PoolCounts(TypedDict):
    """
    How many upstream connections were opened and how many attempts to open one failed;
    how many requests had to wait for a connection, and for how many seconds in all.
    """

    opened: int
    failed: int
    waited: int
    waitedSeconds: float


class Dropped(TypedDict):
    """
    Counts items that bounded queues dropped: lines of the access log, and entries for
    the fleet dashboard.
    """

    accessLogLines: int
    fleetEntries: int


class WorkerMetrics(TypedDict):
    """
    One worker process.  C{number} is its place among the workers, C{restarts} how many
    processes had that place before it.  C{hits} and C{clients} are this process's own.
    """

    number: int
    pid: int
    uptime: float
    restarts: int
    hits: int
    clients: int


class Peers(TypedDict):
    """
    Whom sitio talks to, as labels: the C{scheme} of its clients, C{http} or C{https}, and
    address, port and scheme of the upstream.  A value is empty if it is unknown.
    """

    scheme: str
    upstreamAddress: str
    upstreamPort: str
    upstreamScheme: str


#: Where nothing is known.
NO_PEERS: Peers = {
    "scheme": "",
    "upstreamAddress": "",
    "upstreamPort": "",
    "upstreamScheme": "",
}


class SidecarSnapshot(TypedDict):
    """
    All metrics of a sidecar at one moment.

    C{tls} is the TLS from files of each port and upstream.
    C{upstreams} has each upstream with its endpoints; a process that has ended is counted in it.
    C{config} tells which configuration is in use; of several processes, that of the first.
    C{pool} is how many upstream connections are C{open} and C{idle}, and how many
    requests are C{waiting} for one; C{poolCounts} what the pool has done so far.
    C{clients} is how many client connections are open, C{inFlight} how many exchanges
    have not ended, C{bufferedBytes} how many bytes of responses are buffered.
    C{brokenResponses} counts responses that broke off after their head was sent,
    C{overlongResponses} those that a policy wanted whole and that exceeded a buffer limit.
    C{restarts} counts workers that were started to replace others.
    """

    metrics: Snapshot
    peers: Peers
    config: ConfigSnapshot
    policies: list[PolicyMetrics]
    upstreams: list[UpstreamMetrics]
    tls: list[TLSMetrics]
    pool: dict[str, int]
    poolCounts: PoolCounts
    clients: int
    inFlight: int
    bufferedBytes: int
    brokenResponses: int
    overlongResponses: int
    dropped: Dropped
    restarts: int
    workers: list[WorkerMetrics]


_Counted = TypeVar("_Counted", EndpointMetrics, RouteMetrics)

#: The size of the work to add up a row, and what each of its statuses adds.
_PER_ROW, _PER_STATUS = 6, 1


def _rank(endpoint: EndpointMetrics) -> tuple[int, str, str]:
    hits = endpoint["hits"] + endpoint["underWay"]
    return -hits, endpoint["route"], endpoint["method"]


def busiestFirst(endpoints: Collection[EndpointMetrics]) -> Steps[list[EndpointMetrics]]:
    """Sort by falling hits, those under way included, then by route and method."""
    return smallest(endpoints, len(endpoints), _rank)


def merge(one: Snapshot, two: Snapshot) -> Steps[Snapshot]:
    """
    Add up the metrics of two processes; the arguments stay unchanged.

    The order in which several snapshots are merged makes no difference, but for the
    rounding of seconds.  C{uptime} is the longer of the two.

    @raise ValueError: the histograms have different bounds, as those of different
        versions of sitio may have.
    """
    for bounds in ("latencyBounds", "addedBounds", "sentBounds"):
        if one[bounds] != two[bounds]:
            raise ValueError(f"these snapshots differ in {bounds}: merge those of one version")
    endpoints = yield from _sums(one["endpoints"], two["endpoints"])
    routes = yield from _sums(one["routes"], two["routes"])
    total = addUp(one["total"], two["total"])
    yield _sizeOf(total)
    attempts = {}
    for key in one["attempts"] | two["attempts"]:
        attempts[key] = _sumOf(key, one["attempts"], two["attempts"])
        yield _PER_STATUS
    return {
        "uptime": max(one["uptime"], two["uptime"]),
        "total": total,
        "endpoints": (yield from busiestFirst(endpoints.values())),
        "routes": [routes[key] for key in sorted(routes)],
        "evicted": one["evicted"] + two["evicted"],
        "added": addUp(one["added"], two["added"]),
        "addedSeconds": one["addedSeconds"] + two["addedSeconds"],
        "attempts": attempts,
        "latencyBounds": list(one["latencyBounds"]),
        "addedBounds": list(one["addedBounds"]),
        "sentBounds": list(one["sentBounds"]),
    }


def _keyOf(counted: Any) -> tuple[str, str]:
    return (counted["method"], counted["route"])


def _sizeOf(counted: Any) -> int:
    """The size of the work to add one row to another."""
    statuses = counted["durations"] if "durations" in counted else counted["statuses"]
    return _PER_ROW + _PER_STATUS * len(statuses)


def _sums(
    one: Iterable[_Counted], two: Iterable[_Counted]
) -> Steps[dict[tuple[str, str], _Counted]]:
    """The sums of what is counted for the same method and route, by these."""
    sums: dict[tuple[str, str], _Counted] = {}
    for each in (*one, *two):
        key = _keyOf(each)
        added: Any = addUp(sums[key], each) if key in sums else _copied(each)
        sums[key] = added
        yield _sizeOf(each)
    return sums


def limitEndpoints(metrics: Snapshot, most: int) -> Steps[Snapshot]:
    """
    The same metrics with at most so many endpoints, not counting the three rows in
    round brackets.  Those with the fewest hits are added to C{(other)} and count as
    evicted; the total stays the same.
    """
    endpoints = metrics["endpoints"]
    quiet = [each for each in endpoints if each["method"]][most:]
    if not quiet:
        return metrics
    gone = {OTHER, *map(_keyOf, quiet)}
    kept = [each for each in endpoints if _keyOf(each) not in gone]
    first, *rest = [each for each in endpoints if _keyOf(each) in gone]
    other = first
    for each in rest:
        other = addUp(other, each)
        yield _sizeOf(other)
    other = {**other, "method": OTHER[0], "route": OTHER[1]}
    evicted = metrics["evicted"] + len(quiet)
    return {
        **metrics,
        "endpoints": (yield from busiestFirst([*kept, other])),
        "evicted": evicted,
    }


def mergeSidecars(first: SidecarSnapshot, *others: SidecarSnapshot) -> Steps[SidecarSnapshot]:
    """Add up the snapshots of one or more processes; the arguments stay unchanged."""
    whole = first
    for each in others:
        whole = yield from _mergeTwo(whole, each)
    return whole


def _mergeTwo(one: SidecarSnapshot, two: SidecarSnapshot) -> Steps[SidecarSnapshot]:
    return {
        "metrics": (yield from merge(one["metrics"], two["metrics"])),
        # Those of the workers of one sidecar are the same.
        "peers": two["peers"] if one["peers"] == NO_PEERS else one["peers"],
        "config": one["config"],
        "policies": mergePolicies(one["policies"], two["policies"]),
        "upstreams": mergeUpstreams(one["upstreams"], two["upstreams"]),
        "tls": mergeTLS(one["tls"], two["tls"]),
        "pool": addUp(one["pool"], two["pool"]),
        "poolCounts": addUp(one["poolCounts"], two["poolCounts"]),
        "clients": one["clients"] + two["clients"],
        "inFlight": one["inFlight"] + two["inFlight"],
        "bufferedBytes": one["bufferedBytes"] + two["bufferedBytes"],
        "brokenResponses": one["brokenResponses"] + two["brokenResponses"],
        "overlongResponses": one["overlongResponses"] + two["overlongResponses"],
        "dropped": addUp(one["dropped"], two["dropped"]),
        "restarts": one["restarts"] + two["restarts"],
        "workers": [*one["workers"], *two["workers"]],
    }


def mergePolicies(one: list[PolicyMetrics], two: list[PolicyMetrics]) -> list[PolicyMetrics]:
    """Policies are matched by name; several of one name are matched in their order."""
    rest = list(two)
    sums = []
    for each in one:
        same = next((other for other in rest if other["name"] == each["name"]), None)
        if same is not None:
            rest.remove(same)
            each = addUp(each, same)
        sums.append(each)
    return sums + rest


def countersOf(snapshot: SidecarSnapshot) -> SidecarSnapshot:
    """
    The snapshot of a process that has ended: its counters, with nothing open.  Its endpoints
    are in no order until it is merged.
    """
    metrics = snapshot["metrics"]
    return {
        **snapshot,
        "metrics": {
            **metrics,
            "total": {**metrics["total"], "underWay": 0},
            "endpoints": [{**each, "underWay": 0} for each in metrics["endpoints"]],
            "routes": [{**each, "underWay": 0} for each in metrics["routes"]],
        },
        "upstreams": countersOfUpstreams(snapshot["upstreams"]),
        "tls": [],
        "pool": dict.fromkeys(snapshot["pool"], 0),
        "clients": 0,
        "inFlight": 0,
        "bufferedBytes": 0,
        "workers": [],
    }


def addUp(one: Any, two: Any) -> Any:
    """
    The sum of two values of one shape: dicts are added key by key, lists item by item,
    numbers as they are; of two texts the first is taken.  A key that only one of two
    dicts has keeps its value.
    """
    if isinstance(one, dict):
        return {key: _sumOf(key, one, two) for key in one | two}
    if isinstance(one, list):
        return list(map(add, one, two))
    return one if isinstance(one, str) else one + two


def _sumOf(key: str, one: dict[str, Any], two: dict[str, Any]) -> Any:
    if key in one and key in two:
        return addUp(one[key], two[key])
    return _copied(one[key] if key in one else two[key])


def _copied(value: Any) -> Any:
    """A copy of what L{addUp} adds up; C{copy.deepcopy} takes ten times as long."""
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return list(value) if isinstance(value, list) else value
