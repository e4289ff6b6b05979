"""
Measures, round by round: each round runs every scenario with every proxy in turn,
so that disturbances of the machine affect all proxies alike.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

from attrs import define, field

from bench.machine import cores, describe, othersSeconds
from bench.processes import Unusable, output, pause
from bench.proxies import ROOT, Proxy, program
from bench.scenarios import Metrics, Scenario
from bench.testbed import testBed

Tell = Callable[[str], None]

#: Programs that every scenario needs, and the commands that install them.
TOOLS = {
    "wrk": "apt install wrk",
    "nginx": "apt install nginx-light",
    "taskset": "apt install util-linux",
}

#: The share of the cores that other processes may use in a run whose results count.
QUIET = 0.1

#: Seconds for which the machine is watched before a run.
WATCHED = 2.0

#: Metrics in a line of progress.
SHOWN = frozenset(("cpu", "rate", "p99", "busy", "others", "start", "resident", "idle"))


@define(eq=False)
class Run:
    """
    The measurements of one run.

    @ivar about: the machine, the date, the settings.
    @ivar versions: the version of each measured proxy, by name.
    @ivar left: a sentence for each proxy or scenario that was left out.
    @ivar rounds: metrics by scenario and proxy, a dict for each round.
    @ivar steps: the results of C{micro}, by the name of the step.
    """

    about: dict[str, Any] = field(factory=dict)
    versions: dict[str, str] = field(factory=dict)
    left: list[str] = field(factory=list)
    rounds: dict[str, dict[str, list[Metrics]]] = field(factory=dict)
    steps: dict[str, dict[str, float]] = field(factory=dict)

    def metric(self, scenario: str, proxy: str, name: str) -> float | None:
        """The median over the rounds; L{None} if it was not measured."""
        rounds = self.rounds.get(scenario, {}).get(proxy, ())
        found = [each[name] for each in rounds if name in each]
        return median(found) if found else None

    def ratios(self, scenario: str, one: str, other: str, name: str) -> list[float]:
        """The ratios of one proxy to another in each round, sorted."""
        rounds = self.rounds.get(scenario, {})
        pairs = zip(rounds.get(one, ()), rounds.get(other, ()))
        return sorted(a[name] / b[name] for a, b in pairs if name in a and b.get(name))

    def others(self) -> float:
        """The mean share of the cores that other processes used."""
        found = [
            each["others"]
            for proxies in self.rounds.values()
            for rounds in proxies.values()
            for each in rounds
            if "others" in each
        ]
        return sum(found) / len(found) if found else 0.0

    def asJSON(self) -> dict[str, Any]:
        """The content of C{results.json}: all rounds, and their medians."""
        scenarios = {
            scenario: {
                proxy: {
                    "median": {name: self.metric(scenario, proxy, name) for name in rounds[0]},
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
        """The run that L{asJSON} has described."""
        rounds = {
            scenario: {proxy: each["rounds"] for proxy, each in proxies.items()}
            for scenario, proxies in found["scenarios"].items()
        }
        return cls(found["about"], found["versions"], found["left out"], rounds, found["steps"])


def checkQuiet(others: float) -> None:
    """
    @param others: the share of the cores that other processes use.

    @raise Unusable: it is above L{QUIET}.
    """
    if others > QUIET:
        raise Unusable(
            f"other processes use {others * 100:.0f} % of the cores, and more than"
            f" {QUIET * 100:.0f} % falsify the results: end them, or say --busy"
        )


def othersNow() -> float:
    """The share of the cores that other processes use, watched for a while."""
    before = othersSeconds(cores())
    pause(WATCHED)
    return (othersSeconds(cores()) - before) / WATCHED / len(cores())


def present(scenarios: Iterable[Scenario], names: Sequence[str], run: Run) -> set[str]:
    """
    The installed proxies of these scenarios; records versions and missing proxies.

    @param names: the proxies to look for; empty for all.
    """
    found = set()
    proxies = {each.name: each for scenario in scenarios for each in scenario.proxies}
    for name, proxy in proxies.items():
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
    Measure these scenarios.

    A proxy that is missing or fails is left out, and listed in C{Run.left}.

    @param names: the proxies to measure; empty for all.
    @param rounds: the number of measurements of each.
    @param seconds: for each measurement.
    @param tell: called with lines of progress.

    @raise Unusable: a program that all scenarios need is missing.
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
        raise Unusable("none of these proxies is installed")
    with testBed() as bed:
        run.about["load apart"] = bed.cores.apart
        # This process must not run on the proxies' cores.
        os.sched_setaffinity(0, bed.cores.load)
        gone: set[tuple[str, str]] = set()

        def attempt(scenario: Scenario, proxy: Proxy, what: Callable[..., Any]) -> Any:
            if (scenario.name, proxy.name) in gone or proxy.name not in found:
                return None
            try:
                return what(bed, proxy)
            except (Unusable, OSError) as error:
                gone.add((scenario.name, proxy.name))
                run.left.append(f"{scenario.name}, {proxy.name}: {error}")
                tell(f"left out: {run.left[-1]}")
                return None

        for scenario in scenarios:
            tell(f"preparing: {scenario.title}")
            for proxy in scenario.proxies:
                attempt(scenario, proxy, scenario.prepare)
        for number in range(rounds):
            for scenario in scenarios:
                for proxy in turned(scenario.proxies, number):
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


def turned(proxies: tuple[Proxy, ...], number: int) -> tuple[Proxy, ...]:
    """Each round starts with another proxy, so that no proxy always follows the same one."""
    start = number % len(proxies)
    return proxies[start:] + proxies[:start]


def _line(number: int, rounds: int, scenario: Scenario, proxy: Proxy, metrics: Metrics) -> str:
    shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name in SHOWN)
    bad = f"  BAD {metrics['bad']:.0f}" if metrics.get("bad") else ""
    return f"{number + 1}/{rounds} {scenario.name:<9} {proxy.name:<18} {shown}{bad}"
