"""
What sitio is to keep to: ratios to others within one run, and a few absolute metrics.
"""

from __future__ import annotations

from statistics import median

from attrs import frozen

from bench.runner import Run
from bench.scenarios import TWO_WORKERS

#: How metrics are shown: what they are divided by, and their unit.
UNITS = {"idle": (1024, "KB"), "resident": (2**20, "MB"), "start": (1, "s")}


@frozen
class Outcome:
    """
    What became of a target.

    @ivar value: the median over the rounds.
    @ivar low: the least of them; C{high} the greatest.
    @ivar met: whether the target is.
    @ivar missedBy: by which share, 0.1 for a tenth; 0 where it is met.
    """

    value: float
    low: float
    high: float
    met: bool
    missedBy: float


@frozen
class Target:
    """
    One row of the targets.

    @ivar against: the proxy that sitio is compared with; empty for an absolute figure.
    @ivar bound: the most that it may be, or the least if C{atLeast}.
    @ivar below: whether the bound itself is too much.
    """

    title: str
    scenario: str
    figure: str
    bound: float
    against: str = ""
    below: bool = False
    atLeast: bool = False

    def values(self, run: Run) -> list[float]:
        """Round by round, sorted; empty where it was not measured."""
        if self.against:
            return run.ratios(self.scenario, "sitio", self.against, self.figure)
        divisor = UNITS[self.figure][0]
        rounds = run.rounds.get(self.scenario, {}).get("sitio", ())
        return sorted(each[self.figure] / divisor for each in rounds)

    def outcome(self, run: Run) -> Outcome | None:
        """How it stands, or L{None} where it was not measured."""
        values = self.values(run)
        if not values:
            return None
        value = median(values)
        if self.atLeast:
            met, missedBy = value >= self.bound, 1 - value / self.bound
        else:
            met = value < self.bound or (value == self.bound and not self.below)
            missedBy = value / self.bound - 1
        return Outcome(value, values[0], values[-1], met, 0.0 if met else missedBy)

    @property
    def wanted(self) -> str:
        """The bound, as text."""
        sign = "at least" if self.atLeast else "below" if self.below else "at most"
        unit = "" if self.against or self.atLeast else f" {UNITS[self.figure][1]}"
        return f"{sign} {self.bound:g}{unit}"


@frozen
class TwoWorkers(Target):
    """How much more two workers can do than one."""

    def values(self, run: Run) -> list[float]:
        one = run.rounds.get(self.scenario, {}).get("sitio", ())
        two = run.rounds.get(self.scenario, {}).get(TWO_WORKERS.name, ())
        if run.about.get("load apart"):
            return sorted(b["rate"] / a["rate"] for a, b in zip(one, two))
        # Where the load needs one of their cores: what CPU time would allow, if
        # the busier of the two is the bound.
        return sorted(a["cpu"] / (b["cpu"] * b["largest"]) for a, b in zip(one, two))


TARGETS: tuple[Target, ...] = (
    Target("1 KB GET, CPU per request, to Envoy", "get-1k", "cpu", 0.75, "envoy"),
    Target("1 KB GET, CPU per request, to HAProxy", "get-1k", "cpu", 1.4, "haproxy"),
    Target("1 KB GET, to twisted.web.proxy", "get-1k", "cpu", 0.10, "twisted.web.proxy"),
    Target("1 KB GET, CPU per request, to fast-proxy", "get-1k", "cpu", 0.6, "fast-proxy"),
    Target("a browser's head, CPU per request, to Envoy", "browser", "cpu", 0.75, "envoy"),
    Target("404 replaced, CPU per request, to Envoy", "replaced", "cpu", 0.8, "envoy"),
    Target("404 replaced, CPU per request, to nginx", "replaced", "cpu", 1.0, "nginx", below=True),
    Target("100 MB GET, CPU per GB, to Envoy", "get-100m", "cpuPerGB", 1.0, "envoy"),
    Target("p99 below saturation, to Envoy", "paced", "p99", 1.5, "envoy"),
    Target("memory of an idle connection", "start", "idle", 4),
    Target("memory after the start", "start", "resident", 50),
    Target("start to first response", "start", "start", 0.6),
    Target("admin port on, CPU per request, to off", "features", "cpu", 1.03, "sitio-no-admin"),
    TwoWorkers("two workers, to one", "workers", "rate", 1.8, atLeast=True),
)
