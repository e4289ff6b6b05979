"""
The targets for sitio: ratios to other proxies within one run, and a few absolute values.
"""

from __future__ import annotations

from statistics import median

from attrs import frozen

from bench.proxies import SITIO, WITH_POLICIES
from bench.runner import Run
from bench.scenarios import TWO_WORKERS

#: The divisor and the unit with which metrics are shown.
UNITS = {"idle": (1024, "KB"), "resident": (2**20, "MB"), "start": (1, "s")}


@frozen
class Outcome:
    """
    The result for a target.

    @ivar value: the median over the rounds.
    @ivar low: the smallest; C{high}: the largest.
    @ivar met: whether the target is met.
    @ivar missedBy: by which share it is missed, 0.1 for a tenth; 0 if it is met.
    """

    value: float
    low: float
    high: float
    met: bool
    missedBy: float


@frozen
class Target:
    """
    One target.

    @ivar bound: the largest value, or the smallest if C{atLeast}.
    @ivar against: the proxy that sitio is compared with; empty for an absolute value.
    @ivar ours: the sitio that is compared.
    """

    title: str
    scenario: str
    metric: str
    bound: float
    against: str = ""
    ours: str = SITIO.name
    atLeast: bool = False

    def values(self, run: Run) -> list[float]:
        """The values of all rounds, sorted; empty if it was not measured."""
        if self.against:
            return run.ratios(self.scenario, self.ours, self.against, self.metric)
        divisor = UNITS[self.metric][0]
        rounds = run.rounds.get(self.scenario, {}).get(self.ours, ())
        return sorted(each[self.metric] / divisor for each in rounds)

    def outcome(self, run: Run) -> Outcome | None:
        """The result; L{None} if it was not measured."""
        values = self.values(run)
        if not values:
            return None
        value = median(values)
        if self.atLeast:
            met, missedBy = value >= self.bound, 1 - value / self.bound
        else:
            met, missedBy = value <= self.bound, value / self.bound - 1
        return Outcome(value, values[0], values[-1], met, 0.0 if met else missedBy)

    @property
    def wanted(self) -> str:
        """The bound as text."""
        sign = "at least" if self.atLeast else "at most"
        unit = "" if self.against or self.atLeast else f" {UNITS[self.metric][1]}"
        return f"{sign} {self.bound:g}{unit}"


@frozen
class TwoWorkers(Target):
    """The speed of two workers as a multiple of one."""

    def values(self, run: Run) -> list[float]:
        one = run.rounds.get(self.scenario, {}).get("sitio", ())
        two = run.rounds.get(self.scenario, {}).get(TWO_WORKERS.name, ())
        if run.about.get("load apart"):
            return sorted(b["rate"] / a["rate"] for a, b in zip(one, two))
        # The load needs one of their cores.  So compare by CPU time, with the busier
        # worker as the limit.
        return sorted(a["cpu"] / (b["cpu"] * b["largest"]) for a, b in zip(one, two))


TARGETS: tuple[Target, ...] = (
    Target("varied traffic, no policy, to Envoy", "varied", "cpu", 0.70, "envoy"),
    Target("varied traffic, no policy, to HAProxy", "varied", "cpu", 1.5, "haproxy"),
    Target(
        "varied traffic, error-page and last-good, to Envoy without policies",
        *("varied", "cpu", 0.80, "envoy", WITH_POLICIES.name),
    ),
    Target("a policy that acts, to Envoy with Lua", "acts", "cpu", 0.75, "envoy"),
    Target("a policy that acts, to HAProxy with Lua", "acts", "cpu", 1.2, "haproxy"),
    Target("a policy that acts, to mitmproxy", "acts", "cpu", 0.03, "mitmproxy"),
    Target("one head over and over, to Envoy", "same", "cpu", 0.62, "envoy"),
    Target("one head over and over, to HAProxy", "same", "cpu", 1.25, "haproxy"),
    Target("404 replaced, to Envoy", "replaced", "cpu", 0.70, "envoy"),
    Target("new connection for each request, to Envoy", "closing", "cpu", 0.90, "envoy"),
    Target("TLS in front, kept alive, to Envoy", "tls", "cpu", 0.90, "envoy"),
    Target("p99 at half of saturation, to Envoy", "half", "p99", 1.0, "envoy"),
    Target("start to first response", "start", "start", 0.25),
    Target("memory after the start", "start", "resident", 48),
    Target("memory of an idle connection", "start", "idle", 4),
    Target("100 MB GET, CPU per GB, to Envoy", "get-100m", "cpuPerGB", 1.0, "envoy"),
    Target("admin port on, to off", "features", "cpu", 1.03, "sitio-no-admin"),
    TwoWorkers("two workers, to one", "workers", "rate", 1.8, atLeast=True),
)
