"""
Metrics as plain data: what they say, and what can be made of them.

L{sitio.telemetry.stats} makes a L{Snapshot}; pages, logs and other processes read it.
L{merge} adds two up, L{bounded} keeps a sum within bounds, L{quantile} reads a
histogram.

A L{SidecarSnapshot} is all that a sidecar tells of itself but for single
exchanges, which are L{Exchanges}; L{together} makes one of several, and
L{ISnapshots} is where to ask for both, be the sidecar one process or many.

Contract: pure; dicts, lists and numbers in, the same or text out.  Seconds are
C{float}, bytes C{int}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from functools import reduce
from operator import itemgetter
from typing import Any, Literal, TypedDict

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

#: Upper bounds in seconds, each inclusive: those of OpenTelemetry's HTTP
#: conventions, and three below, as a neighbour on the same host answers faster
#: than 5 ms.
LATENCY_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)

#: The same for the time that sitio adds, which is a fraction of a millisecond.
OWN_BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)

#: Where the hits of endpoints are that have no row: method and route.
OTHER = ("", "(other)")

#: What a sidecar is doing.
STARTING = "starting"  # clients can't come yet
SERVING = "serving"
DRAINING = "draining"  # clients had better go elsewhere

#: How many exchanges are shown: of those that ended last, of those that failed, of
#: those under way.  More than a person reads, at half a kilobyte each.
MAX_RECENT = 200
MAX_FAILED = 100
MAX_OPEN = 200


class Durations(TypedDict):
    """A histogram of durations: how many in each bucket, and their sum in seconds."""

    latency: list[int]
    seconds: float


class Metrics(TypedDict):
    """
    What is known of one endpoint, or of all together.

    Statuses are text: C{"404"}, C{"4xx"} for a status beyond those told apart,
    C{"none"} where none was sent.  C{statuses} is what clients were sent, with C{"499"}
    for those who left; C{upstreamStatuses} is what the upstream answered, or the status
    sent where it was not asked.  Both add up to C{hits}.  C{masked} has the
    true statuses of the failures that were sent as something better.

    C{latency} counts the exchanges in each bucket of C{latencyBounds}, the last
    being those beyond; C{seconds} is their sum.  For a tunnel it is the time to
    the upstream's 101, as its life is no latency.  C{durations} has the same for
    each true status.
    """

    hits: int
    statuses: dict[str, int]
    upstreamStatuses: dict[str, int]
    masked: dict[str, int]
    bytesIn: int
    bytesOut: int
    latency: list[int]
    seconds: float
    durations: dict[str, Durations]


class EndpointMetrics(Metrics):
    """
    The metrics of one endpoint.  C{method} is empty for the three endpoints in
    round brackets, which stand for many.
    """

    method: str
    route: str


class Snapshot(TypedDict):
    """
    All metrics at one moment, safe to keep, to change and to make JSON of.

    C{endpoints} are in order of falling hits and C{total} is their sum.  C{own}
    counts by C{ownBounds}, and C{ownSeconds} sums up, what sitio added to the
    exchanges that the upstream answered and that went well: all but the wait
    for the upstream's head.  The body's way to the client is in it, so a large
    download ends up in the last buckets: read its median.  C{displaced} is how
    many endpoints have lost their row.  C{uptime} is in seconds.
    """

    uptime: float
    total: Metrics
    endpoints: list[EndpointMetrics]
    displaced: int
    own: list[int]
    ownSeconds: float
    latencyBounds: list[float]
    ownBounds: list[float]


class PolicyMetrics(TypedDict):
    """
    How often a policy was called, acted and failed, and how many seconds it took
    over its answers in all; a response of which its C{isInterested} has said that it need not be
    shown is no call.  C{sees} is what it is shown: C{requests}, C{responses},
    C{exchanges} that have ended, or several of these, with commas.
    """

    name: str
    sees: str
    called: int
    acted: int
    failed: int
    seconds: float


class PoolCounts(TypedDict):
    """
    How many upstream connections were opened and how many could not be; how many
    requests had to wait for one, and how many seconds in all.
    """

    opened: int
    failed: int
    waited: int
    waitedSeconds: float


class Lost(TypedDict):
    """
    What has got nowhere, as there was too much of it: lines of the access log, and
    entries for a dashboard elsewhere.
    """

    accessLogLines: int
    dashboardEntries: int


class WorkerMetrics(TypedDict):
    """
    One process: C{number} is its place among the workers, C{restarts} how many
    were in that place before it.  C{hits} are its own.
    """

    number: int
    pid: int
    uptime: float
    restarts: int
    hits: int
    clients: int


class SidecarSnapshot(TypedDict):
    """
    All that a sidecar tells of itself at one moment, as plain data.

    C{pool} says how many upstream connections are open and idle, and how many
    requests wait for one; C{poolCounts} is what it has done so far.  C{clients} is
    how many client connections are open, C{inFlight} how many exchanges are under
    way, C{brokenOff} how many responses broke off within, C{tooLong} how many a policy
    wanted whole and could not have, C{lost} what was dropped on its way elsewhere,
    C{restarts} how many workers were started in the place of others.
    """

    metrics: Snapshot
    policies: list[PolicyMetrics]
    pool: dict[str, int]
    poolCounts: PoolCounts
    clients: int
    inFlight: int
    brokenOff: int
    tooLong: int
    lost: Lost
    restarts: int
    workers: list[WorkerMetrics]


class Steps(TypedDict):
    """
    Where the seconds of one exchange went: to C{policies}, their pauses before
    another attempt included; to waiting for a C{connection}; to the C{upstream}'s
    wait for its head; and the rest, which is mostly the C{transfer} of bodies.
    """

    policies: float
    connection: float
    upstream: float
    transfer: float


#: One of them.
Step = Literal["policies", "connection", "upstream", "transfer"]


def stepsOf(
    policies: float, connection: float, upstream: float, duration: float, at: Step = "transfer"
) -> Steps:
    """
    Where the seconds of an exchange went, of which these are known.

    @param duration: all of them, as far as it has come.
    @param at: the step that the rest counts for: that which it is at, while it is open.
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
    asked = exchange.upstreamStatus is not None and response.failure is None
    return "upstream" if asked else "sitio"


class ExchangeFacts(TypedDict):
    """
    What is told of one exchange: small, and nothing of bodies, queries and fields.

    C{id} is its name from its beginning to its end: the number of its process, and
    one of its own.  C{began} is in seconds since 1970, C{duration} how many seconds
    it took, or takes already.  C{status} is what the client
    was sent, C{upstreamStatus} what the upstream answered, if it was asked.
    C{answeredBy} is who made the response: C{upstream}, C{sitio} or C{policy NAME};
    L{None} without one.
    C{state} is the step that an open exchange is at, and C{ended} of the others;
    C{why} a sentence on what came of it; C{failed} whether something went wrong, be
    it masked or not.
    """

    id: str
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


class Exchanges(TypedDict):
    """
    Single exchanges: those that C{failed} last and those that ended last, be it
    well (C{recent}), the newest first; those that are C{open}, the longest first.  At
    most L{MAX_FAILED}, L{MAX_RECENT} and L{MAX_OPEN}; C{recent} begins when somebody
    asks, and ends a minute after nobody does.
    """

    failed: list[ExchangeFacts]
    recent: list[ExchangeFacts]
    open: list[ExchangeFacts]


class ISnapshots(Interface):
    """Where to ask what a sidecar tells of itself, be it one process or many."""

    def snapshot() -> Deferred[SidecarSnapshot]:
        """
        What it tells now.  Takes a second at most and never fails: a worker that
        does not answer counts as it was when it last did.
        """

    def exchanges() -> Deferred[Exchanges]:
        """
        Single exchanges, within the same time.  Whoever asks wants to see those of
        the next minute as well: they are noted down for as long.
        """


class ILoses(Interface):
    """A part of a sidecar that bounds what waits, and so may lose some of it."""

    losses = Attribute("How much it has lost, by names of L{Lost}.")


class ISidecar(ISnapshots):
    """What an operator does with a sidecar, be it one process or many."""

    state = Attribute("C{starting}, C{serving} or C{draining}.")

    def drain() -> None:
        """
        Have clients go elsewhere: it counts as draining, and each client's connection
        ends after its next response.  It still accepts, as some do not know yet.
        """


def inOrder(endpoints: Iterable[EndpointMetrics]) -> list[EndpointMetrics]:
    """The busiest first; equals always in the same order."""
    return sorted(endpoints, key=lambda each: (-each["hits"], each["route"], each["method"]))


def merge(one: Snapshot, two: Snapshot) -> Snapshot:
    """
    The metrics of two processes as if one had done it all; neither is changed.

    The order in which several are merged makes no difference beyond the
    rounding of sums of seconds.  The result has at most as many endpoints as
    both together.  C{uptime} is the longer.  C{ValueError} when they were
    counted in different buckets, as by different versions.
    """
    for bounds in ("latencyBounds", "ownBounds"):
        if one[bounds] != two[bounds]:
            raise ValueError(f"these snapshots differ in {bounds}: merge those of one version")
    sums: dict[tuple[str, str], EndpointMetrics] = {}
    for endpoint in (*one["endpoints"], *two["endpoints"]):
        key = _keyOf(endpoint)
        sums[key] = _sum(sums[key], endpoint) if key in sums else deepcopy(endpoint)
    return {
        "uptime": max(one["uptime"], two["uptime"]),
        "total": _sum(one["total"], two["total"]),
        "endpoints": inOrder(sums.values()),
        "displaced": one["displaced"] + two["displaced"],
        "own": _sum(one["own"], two["own"]),
        "ownSeconds": one["ownSeconds"] + two["ownSeconds"],
        "latencyBounds": list(one["latencyBounds"]),
        "ownBounds": list(one["ownBounds"]),
    }


def _keyOf(endpoint: EndpointMetrics) -> tuple[str, str]:
    return (endpoint["method"], endpoint["route"])


def bounded(metrics: Snapshot, most: int) -> Snapshot:
    """
    The same with this many endpoints at most, those beside it that stand for many: the
    quietest go to C{(other)}, and count as displaced.  The sums stay as they are.
    """
    endpoints = metrics["endpoints"]
    quiet = [each for each in endpoints if each["method"]][most:]
    if not quiet:
        return metrics
    gone = {OTHER, *map(_keyOf, quiet)}
    kept = [each for each in endpoints if _keyOf(each) not in gone]
    rest = [each for each in endpoints if _keyOf(each) in gone]
    other: EndpointMetrics = {**reduce(_sum, rest), "method": OTHER[0], "route": OTHER[1]}
    displaced = metrics["displaced"] + len(quiet)
    return {**metrics, "endpoints": inOrder([*kept, other]), "displaced": displaced}


def together(snapshots: Iterable[SidecarSnapshot]) -> SidecarSnapshot:
    """What several processes tell, at least one, as if it were one; none is changed."""
    return reduce(_both, snapshots)


def _both(one: SidecarSnapshot, two: SidecarSnapshot) -> SidecarSnapshot:
    return {
        "metrics": merge(one["metrics"], two["metrics"]),
        "policies": _policies(one["policies"], two["policies"]),
        "pool": _sum(one["pool"], two["pool"]),
        "poolCounts": _sum(one["poolCounts"], two["poolCounts"]),
        "clients": one["clients"] + two["clients"],
        "inFlight": one["inFlight"] + two["inFlight"],
        "brokenOff": one["brokenOff"] + two["brokenOff"],
        "tooLong": one["tooLong"] + two["tooLong"],
        "lost": _sum(one["lost"], two["lost"]),
        "restarts": one["restarts"] + two["restarts"],
        "workers": [*one["workers"], *two["workers"]],
    }


def _policies(one: list[PolicyMetrics], two: list[PolicyMetrics]) -> list[PolicyMetrics]:
    """Policies of one name are told apart by their order."""
    rest = list(two)
    sums = []
    for each in one:
        same = next((other for other in rest if other["name"] == each["name"]), None)
        if same is not None:
            rest.remove(same)
            each = _sum(each, same)
        sums.append(each)
    return sums + rest


def lostBy(parts: Iterable[Any], before: Lost | None = None) -> Lost:
    """What those of these parts have lost that provide L{ILoses}, and what was lost before."""
    lost: Lost = before or {"accessLogLines": 0, "dashboardEntries": 0}
    for each in parts:
        if ILoses.providedBy(each):
            lost = _sum(lost, each.losses)
    return lost


def retired(snapshot: SidecarSnapshot) -> SidecarSnapshot:
    """What stays of it when its process has ended: what was counted, not what was open."""
    pool = dict.fromkeys(snapshot["pool"], 0)
    return {**snapshot, "pool": pool, "clients": 0, "inFlight": 0, "workers": []}


def exchangesTogether(several: Iterable[Exchanges]) -> Exchanges:
    """Those of several processes as if it were one; none is changed."""
    all = list(several)

    def newest(ended: Iterable[ExchangeFacts], most: int) -> list[ExchangeFacts]:
        return sorted(ended, key=lambda each: -(each["began"] + each["duration"]))[:most]

    return {
        "failed": newest((one for each in all for one in each["failed"]), MAX_FAILED),
        "recent": newest((one for each in all for one in each["recent"]), MAX_RECENT),
        "open": sorted((one for each in all for one in each["open"]), key=itemgetter("began"))[
            :MAX_OPEN
        ],
    }


def _sum(one: Any, two: Any) -> Any:
    """The sum of two of the same shape; what has a name in one alone is taken as it is."""
    if isinstance(one, dict):
        return {
            key: _sum(one[key], two[key])
            if key in one and key in two
            else deepcopy(one[key] if key in one else two[key])
            for key in one | two
        }
    if isinstance(one, list):
        return [a + b for a, b in zip(one, two)]
    return one if isinstance(one, str) else one + two


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """
    Estimate below which value a share of a histogram's values lie.

    It lies in the same bucket as the true quantile, on the line between that
    bucket's bounds; for the last bucket, which has no end, it is its lower
    bound.

    @param share: C{0.5} for the median; more than 0, at most 1.

    @return: in the unit of the bounds, or L{None} where nothing was counted.
    """
    rank = share * sum(counts)
    below = 0
    for index, count in enumerate(counts[:-1]):
        if count and below + count >= rank:
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * (rank - below) / count
        below += count
    return bounds[-1] if counts[-1] else None
