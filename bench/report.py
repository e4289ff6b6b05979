"""
Writes what a run has found: RESULTS.md, from the metrics of C{results.json}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.proxies import HERE, PROXIES, SITIO
from bench.runner import Run
from bench.scenarios import (
    FEATURES,
    IDLE,
    PACE,
    REWRITING,
    SCENARIOS,
    TWO_WORKERS,
    Scenario,
)
from bench.targets import TARGETS, UNITS

#: Share of the proxies' core that others may use before the report warns of it.
QUIET = 0.05

READING = f"""\
Each proxy runs on one core; the load generator (wrk) and the service behind (nginx) run on
another. In each round every scenario is measured with every proxy in turn, so what the machine does
meanwhile meets all alike. Tables show medians over the rounds. A ratio is taken within each round,
and then the median of the ratios.

- **CPU per request** is the CPU time of all processes and threads of the proxy, user and system,
  as the kernel's scheduler counts it, divided by the requests answered. It hardly depends on how
  busy the load generator is; requests per second do: nginx and HAProxy are faster than the core
  that asks them.
- **Latencies at saturation** are mostly waiting for the other 31 connections. Below saturation
  ({PACE} requests per second at random moments, sent whether or not earlier ones are answered) they
  show the proxy itself, with the wake-ups of three processes.
- **Memory** is resident memory of all processes, what they share counted for each. An idle
  connection is the growth over {IDLE} connections with one request each, divided by their number;
  what the kernel holds for a socket is not in it. nginx has its connections' memory from the start.
- Compare ratios, and only within one run: another machine, or the same one at another hour, is
  easily twice as fast.
"""

Row = Sequence[str]


def table(head: Row, rows: Iterable[Row], left: int = 1) -> list[str]:
    """A table in Markdown, the columns behind the first few set to the right."""
    marks = ["---" if number < left else "---:" for number in range(len(head))]
    return [f"| {' | '.join(each)} |" for each in (head, marks, *rows)]


def number(value: float | None, digits: int = 3) -> str:
    """A figure with so many digits that count, or a dash for none."""
    if value is None:
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if value else "0"


def share(value: float) -> str:
    """As a percentage."""
    return f"{value * 100:.0f} %"


def targets(run: Run) -> list[str]:
    """How each target stands."""
    rows = []
    for each in TARGETS:
        outcome = each.outcome(run)
        if outcome is None:
            rows.append((each.title, each.wanted, "not measured", "-", "-"))
            continue
        unit = "" if each.against or each.atLeast else f" {UNITS[each.figure][1]}"
        found = f"**{outcome.value:.2f}{unit}**"
        verdict = "met" if outcome.met else f"**missed by {share(outcome.missedBy)}**"
        between = f"{outcome.low:.2f} to {outcome.high:.2f}"
        rows.append((each.title, each.wanted, found, between, verdict))
    return table(("target", "wanted", "measured", "rounds", ""), rows)


def matrix(run: Run, figure: str, only: Sequence[str] = ()) -> list[str]:
    """A figure of all scenarios with all proxies; of those whose requests take seconds if named."""
    present = [each for each in PROXIES if each.name in run.versions]
    rows = []
    for scenario in _shared():
        wanted = scenario.name in only if only else scenario.figure != "cpuPerGB"
        values = [run.figure(scenario.name, each.name, figure) for each in present]
        if wanted and any(value is not None for value in values):
            rows.append((scenario.title, *map(number, values)))
    return table(("", *(each.title for each in present)), rows) if rows else []


def ratios(run: Run) -> list[str]:
    """CPU time of sitio as a multiple of each other's."""
    others = [each for each in PROXIES if each.name in run.versions and each is not SITIO]
    rows = []
    for scenario in _shared():
        found = [
            run.ratios(scenario.name, "sitio", each.name, _costOf(scenario)) for each in others
        ]
        if any(found):
            shown = [f"{median(each):.2f}" if each else "-" for each in found]
            rows.append((scenario.title, *shown))
    return table(("", *(each.title for each in others)), rows) if rows else []


def _shared() -> list[Scenario]:
    return [each for each in SCENARIOS if not each.proxies and each.name != "start"]


def _costOf(scenario: Scenario) -> str:
    return "cpuPerGB" if scenario.figure == "cpuPerGB" else "cpu"


def memory(run: Run) -> list[str]:
    """Start, memory, idle connections."""
    rows = []
    for each in PROXIES:
        start = run.figure("start", each.name, "start")
        resident = run.figure("start", each.name, "resident")
        idle = run.figure("start", each.name, "idle")
        if start is not None and resident is not None:
            shown = number(start * 1000), number(resident / 2**20), number(idle and idle / 1024, 2)
            rows.append((each.title, *shown))
    head = ("", "start to first response, ms", "memory after it, MB", "idle connection, KB")
    return table(head, rows) if rows else []


def features(run: Run) -> list[str]:
    """What each feature costs, and what one gets for it."""
    whole = run.figure("features", "sitio", "cpu")
    rows = []
    for each in FEATURES:
        otherwise = run.figure("features", each.variant.name, "cpu")
        if whole is None or otherwise is None:
            continue
        found = run.ratios("features", each.variant.name, "sitio", "cpu")
        costs = sorted((1 - ratio if each.default else ratio - 1) for ratio in found)
        cost = median(costs)
        shown = f"{cost * whole:+.1f} µs ({cost * 100:+.0f} %)"
        between = f"{costs[0] * 100:+.0f} % to {costs[-1] * 100:+.0f} %"
        rows.append((each.title, each.switch, each.benefit, shown, between))
    if not rows:
        return []
    for title, benefit in UNSWITCHED:
        rows.append((title, "none", benefit, "-", "-"))
    head = "feature", "switch", "what one gets", "cost for each request", "rounds"
    return table(head, rows, left=3)


#: Features that can't be had otherwise, and why.
UNSWITCHED = (
    (
        "timeouts",
        "nobody holds a connection for ever; one sweep for all, four times a second",
    ),
    ("`X-Forwarded-*`", "the service knows who asks, and how"),
    ("strict reading", "what can be read in two ways is refused, not passed on"),
)


def comparison(run: Run) -> list[str]:
    """sitio with itself: a policy that rewrites bodies, two workers."""
    lines = []
    plain = run.figure("rewrite", "sitio", "cpu")
    rewriting = run.figure("rewrite", REWRITING.name, "cpu")
    if plain is not None and rewriting is not None:
        lines.append(
            f"- A policy of Python that takes each response whole and rewrites its body costs"
            f" {rewriting - plain:.1f} µs: {rewriting:.1f} in place of {plain:.1f}."
        )
    one = run.figure("workers", "sitio", "cpu")
    two = run.figure("workers", TWO_WORKERS.name, "cpu")
    largest = run.figure("workers", TWO_WORKERS.name, "largest")
    if one is not None and two is not None and largest is not None:
        lines.append(
            f"- Two workers use {two:.1f} µs of CPU for each request, one {one:.1f}. The busier of"
            f" the two did {share(largest)} of the work, with 128 connections."
        )
        if not run.about.get("load apart"):
            lines.append(
                "  With two cores in all, the load generator needs one of them; so what counts is"
                " CPU time, not requests per second."
            )
    return lines


def steps(run: Run) -> list[str]:
    """The single steps of C{micro}."""
    rows = [
        (name, f"{each['least']:.2f}", f"{each['units']:.2f}") for name, each in run.steps.items()
    ]
    return table(("step", "µs", "x httptools"), rows) if rows else []


def others(run: Run) -> float:
    """The share of the proxies' core that others used, on average."""
    found = [
        each["others"]
        for proxies in run.rounds.values()
        for rounds in proxies.values()
        for each in rounds
        if "others" in each
    ]
    return sum(found) / len(found) if found else 0.0


def about(run: Run) -> list[str]:
    """The machine, the versions, the settings."""
    told = run.about
    lines = [
        f"{told['date']}, commit {told['commit']}; {told['rounds']} x {told['seconds']} s for each"
        " figure.",
        "",
        f"Machine: {told['processor']}, {told['cores']} cores, {told['memory']},"
        f" {told['kernel']}, {'virtual' if told['virtual'] == 'yes' else 'real'}."
        f" While the proxies were measured, others used {share(others(run))} of their cores.",
    ]
    if others(run) > QUIET:
        lines += ["", "**The machine was not quiet: don't trust single metrics.**"]
    rows = [
        (each.title, run.versions[each.name], each.does)
        for each in PROXIES
        if each.name in run.versions
    ]
    return [*lines, "", *table(("proxy", "version", "does, beside passing on"), rows, left=3)]


def write(run: Run) -> str:
    """The whole report, in Markdown."""
    remarks = HERE / "remarks.md"
    bad = sorted(
        f"{scenario}: {proxy} ({sum(each.get('bad', 0) for each in rounds):.0f})"
        for scenario, proxies in run.rounds.items()
        for proxy, rounds in proxies.items()
        if any(each.get("bad") for each in rounds)
    )
    left = [f"- {each}" for each in run.left]
    if bad:
        left.append(f"- Responses that were broken or had another status: {'; '.join(bad)}.")
    sections = {
        "Targets": targets(run),
        "CPU time for each request, µs": matrix(run, "cpu"),
        "sitio's CPU time as a multiple": ratios(run),
        "CPU seconds for each GB of long bodies": matrix(
            run, "cpuPerGB", only=("get-64k", "get-100m")
        ),
        "Requests per second": matrix(run, "rate"),
        "Latency, median, µs": matrix(run, "p50"),
        "Latency, p99, µs": matrix(run, "p99"),
        "Start and memory": memory(run),
        "sitio beside itself": comparison(run),
        "What features cost": features(run),
        "Single steps": steps(run),
        "What went wrong": left,
        "Remarks": remarks.read_text("utf-8").splitlines() if remarks.exists() else [],
        "How to read this": READING.splitlines(),
    }
    lines = ["# sitio beside other proxies", "", "![CPU time](chart.svg)", "", *about(run)]
    for title, section in sections.items():
        if section:
            lines += ["", f"## {title}", "", *section]
    lines += ["", "`make bench` writes this file; `results.json` has every round.", ""]
    return "\n".join(lines)
