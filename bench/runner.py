"""
Measures, round by round: in each round every scenario, in each scenario every
proxy in turn, so that what the machine does meanwhile meets all alike.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

from attrs import define, field

from bench.machine import describe
from bench.processes import Unusable, output
from bench.proxies import ROOT, Proxy, program
from bench.scenarios import Metrics, Scenario
from bench.stage import staging

Tell = Callable[[str], None]

#: Programs that every scenario needs, and how they are had.
TOOLS = {
    "wrk": "apt install wrk",
    "nginx": "apt install nginx-light",
    "taskset": "apt install util-linux",
}

#: Metrics in a line of progress.
SHOWN = frozenset(("cpu", "rate", "p99", "busy", "others", "start", "resident", "idle"))


@define(eq=False)
class Run:
    """
    What was measured.

    @ivar about: the machine, the date, the settings.
    @ivar versions: of each proxy that took part, by name.
    @ivar left: a sentence for each proxy or part that did not.
    @ivar rounds: metrics by scenario and proxy, a dict for each round.
    @ivar steps: what C{micro} found, by the name of the step.
    """

    about: dict[str, Any] = field(factory=dict)
    versions: dict[str, str] = field(factory=dict)
    left: list[str] = field(factory=list)
    rounds: dict[str, dict[str, list[Metrics]]] = field(factory=dict)
    steps: dict[str, dict[str, float]] = field(factory=dict)

    def figure(self, scenario: str, proxy: str, name: str) -> float | None:
        """The median over the rounds, or L{None} where it was not measured."""
        rounds = self.rounds.get(scenario, {}).get(proxy, ())
        found = [each[name] for each in rounds if name in each]
        return median(found) if found else None

    def ratios(self, scenario: str, one: str, other: str, name: str) -> list[float]:
        """Of one proxy to another, round by round, sorted."""
        rounds = self.rounds.get(scenario, {})
        pairs = zip(rounds.get(one, ()), rounds.get(other, ()))
        return sorted(a[name] / b[name] for a, b in pairs if name in a and b.get(name))

    def asJSON(self) -> dict[str, Any]:
        """For C{results.json}: all rounds, and their medians."""
        scenarios = {
            scenario: {
                proxy: {
                    "median": {name: self.figure(scenario, proxy, name) for name in rounds[0]},
                    "rounds": rounds,
                }
                for proxy, rounds in proxies.items()
            }
            for scenario, proxies in self.rounds.items()
        }
        return {
            "about": self.about,
            "versions": self.versions,
            "left out": self.left,
            "scenarios": scenarios,
            "steps": self.steps,
        }

    @classmethod
    def fromJSON(cls, found: dict[str, Any]) -> Run:
        """What L{asJSON} made."""
        rounds = {
            scenario: {proxy: each["rounds"] for proxy, each in proxies.items()}
            for scenario, proxies in found["scenarios"].items()
        }
        return cls(found["about"], found["versions"], found["left out"], rounds, found["steps"])


def present(scenarios: Iterable[Scenario], names: Sequence[str], run: Run) -> set[str]:
    """
    Which of the proxies of these scenarios are there; notes versions, and what is missing.

    @param names: those that are wanted; empty for all.
    """
    found = set()
    cast = {each.name: each for scenario in scenarios for each in scenario.cast()}
    for name, proxy in cast.items():
        if names and name not in names:
            continue
        try:
            run.versions[name] = proxy.version()
            found.add(name)
        except Unusable as error:
            run.left.append(str(error))
    return found


def measure(
    scenarios: Sequence[Scenario],
    names: Sequence[str],
    rounds: int,
    seconds: int,
    tell: Tell,
) -> Run:
    """
    Run these scenarios.

    A proxy that is missing or fails is left out, and named in C{Run.left}.

    @param names: the proxies that are wanted; empty for all.
    @param rounds: how often each is measured.
    @param seconds: that each measurement takes.
    @param tell: takes a line of progress.

    @raise Unusable: what all scenarios need is missing.
    """
    missing = []
    for name, package in TOOLS.items():
        try:
            program(name, package)
        except Unusable as error:
            missing.append(str(error))
    if missing:
        raise Unusable("; ".join(missing))
    run = Run()
    now = datetime.datetime.now().astimezone()
    run.about = {
        "date": now.strftime("%Y-%m-%d %H:%M"),
        "rounds": rounds,
        "seconds": seconds,
        "commit": _commit(),
        **describe(),
    }
    found = present(scenarios, names, run)
    for sentence in run.left:
        tell(f"left out: {sentence}")
    if not found:
        raise Unusable("none of the proxies that were asked for is there")
    with staging() as stage:
        run.about["load apart"] = stage.cores.apart
        # Out of the proxies' way.
        os.sched_setaffinity(0, stage.cores.load)
        gone: set[tuple[str, str]] = set()

        def attempt(scenario: Scenario, proxy: Proxy, what: Callable[..., Any]) -> Any:
            if (scenario.name, proxy.name) in gone or proxy.name not in found:
                return None
            try:
                return what(stage, proxy)
            except (Unusable, OSError) as error:
                gone.add((scenario.name, proxy.name))
                run.left.append(f"{scenario.name}, {proxy.name}: {error}")
                tell(f"left out: {run.left[-1]}")
                return None

        for scenario in scenarios:
            tell(f"getting ready: {scenario.title}")
            for proxy in scenario.cast():
                attempt(scenario, proxy, scenario.prepare)
        for number in range(rounds):
            for scenario in scenarios:
                for proxy in turned(scenario.cast(), number):
                    metrics = attempt(scenario, proxy, partial(scenario.measure, seconds=seconds))
                    if metrics is not None:
                        results = run.rounds.setdefault(scenario.name, {})
                        results.setdefault(proxy.name, []).append(metrics)
                        tell(_line(number, rounds, scenario, proxy, metrics))
    return run


def _commit() -> str:
    try:
        return output(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]).strip()
    except Unusable:
        return "?"


def turned(cast: tuple[Proxy, ...], number: int) -> tuple[Proxy, ...]:
    """In each round another one is the first, as what came before is not the same for it."""
    start = number % len(cast)
    return cast[start:] + cast[:start]


def _line(number: int, rounds: int, scenario: Scenario, proxy: Proxy, metrics: Metrics) -> str:
    shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name in SHOWN)
    bad = f"  BAD {metrics['bad']:.0f}" if metrics.get("bad") else ""
    return f"{number + 1}/{rounds} {scenario.name:<9} {proxy.name:<18} {shown}{bad}"
