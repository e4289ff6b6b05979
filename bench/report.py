"""
Writes RESULTS.md from the measurements in C{results.json}.
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

#: The share of the proxies' core that other processes may use without a warning.
QUIET = 0.05

READING = f"""\
Each proxy runs on one core; the load generator (wrk) and the service (nginx) run on another. Each
round measures every scenario with every proxy in turn, so that disturbances of the machine affect
all proxies alike. Tables show medians over the rounds. A ratio is taken within each round; the
table shows the median of these ratios.

- **CPU per request** is the CPU time of all processes and threads of the proxy, user and system,
  as the kernel's scheduler counts it, divided by the number of responses. It hardly depends on
  the load generator. Requests per second do: nginx and HAProxy are faster than the core that
  sends the requests.
- **Latencies at saturation** are mostly the wait for the other 31 connections. Below saturation
  ({PACE} requests per second at random moments, independent of earlier responses) they show the
  proxy itself, with the wake-ups of three processes.
- **Memory** is the resident memory of all processes; shared pages count for each. The memory of
  an idle connection is the growth over {IDLE} connections with one request each, divided by their
  number, without the kernel's memory for sockets. nginx allocates the memory for connections at
  its start.
- Compare ratios, and only within one run: another machine, or the same machine at another time,
  may be twice as fast.
"""

Row = Sequence[str]


def table(head: Row, rows: Iterable[Row], left: int = 1) -> list[str]:
    """A table in Markdown; columns after the first C{left} are right-aligned."""
    marks = ["---" if number < left else "---:" for number in range(len(head))]
    return [f"| {' | '.join(each)} |" for each in (head, marks, *rows)]


def number(value: float | None, digits: int = 3) -> str:
    """A number with this many significant digits, or a dash for L{None}."""
    if value is None:
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if value else "0"


def share(value: float) -> str:
    """A share as a percentage."""
    return f"{value * 100:.0f} %"


def targets(run: Run) -> list[str]:
    """The table of targets."""
    rows = []
    for each in TARGETS:
        outcome = each.outcome(run)
        if outcome is None:
            rows.append((each.title, each.wanted, "not measured", "-", "-"))
            continue
        unit = "" if each.against or each.atLeast else f" {UNITS[each.metric][1]}"
        found = f"**{outcome.value:.2f}{unit}**"
        verdict = "met" if outcome.met else f"**missed by {share(outcome.missedBy)}**"
        between = f"{outcome.low:.2f} to {outcome.high:.2f}"
        rows.append((each.title, each.wanted, found, between, verdict))
    return table(("target", "wanted", "measured", "rounds", ""), rows)


def matrix(run: Run, metric: str, only: Sequence[str] = ()) -> list[str]:
    """The table of one metric, of all scenarios except those with long bodies, or of C{only}."""
    present = [each for each in PROXIES if each.name in run.versions]
    rows = []
    for scenario in _shared():
        wanted = scenario.name in only if only else scenario.metric != "cpuPerGB"
        values = [run.metric(scenario.name, each.name, metric) for each in present]
        if wanted and any(value is not None for value in values):
            rows.append((scenario.title, *map(number, values)))
    return table(("", *(each.title for each in present)), rows) if rows else []


def ratios(run: Run) -> list[str]:
    """The table of sitio's CPU time as a multiple of each other proxy's."""
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
    return "cpuPerGB" if scenario.metric == "cpuPerGB" else "cpu"


def memory(run: Run) -> list[str]:
    """The table of start, memory and idle connections."""
    rows = []
    for each in PROXIES:
        start = run.metric("start", each.name, "start")
        resident = run.metric("start", each.name, "resident")
        idle = run.metric("start", each.name, "idle")
        if start is not None and resident is not None:
            shown = number(start * 1000), number(resident / 2**20), number(idle and idle / 1024, 2)
            rows.append((each.title, *shown))
    head = ("", "start to first response, ms", "memory after it, MB", "idle connection, KB")
    return table(head, rows) if rows else []


def features(run: Run) -> list[str]:
    """The table of features and their costs."""
    whole = run.metric("features", "sitio", "cpu")
    rows = []
    for each in FEATURES:
        otherwise = run.metric("features", each.variant.name, "cpu")
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
    head = "feature", "switch", "what it does", "cost for each request", "rounds"
    return table(head, rows, left=3)


#: Features that can't be switched off, and what they do.
UNSWITCHED = (
    (
        "timeouts",
        "no peer holds a connection for ever; one timer for all, four times a second",
    ),
    ("`X-Forwarded-*`", "the service knows the client's address, scheme and host"),
    ("strict reading", "ambiguous messages are refused, not passed on"),
)


def comparison(run: Run) -> list[str]:
    """sitio compared with itself: a policy that rewrites bodies, two workers."""
    lines = []
    plain = run.metric("rewrite", "sitio", "cpu")
    rewriting = run.metric("rewrite", REWRITING.name, "cpu")
    if plain is not None and rewriting is not None:
        lines.append(
            f"- A policy that buffers each response and rewrites its body costs"
            f" {rewriting - plain:.1f} µs: {rewriting:.1f} instead of {plain:.1f}."
        )
    one = run.metric("workers", "sitio", "cpu")
    two = run.metric("workers", TWO_WORKERS.name, "cpu")
    largest = run.metric("workers", TWO_WORKERS.name, "largest")
    if one is not None and two is not None and largest is not None:
        lines.append(
            f"- Two workers use {two:.1f} µs of CPU for each request, one {one:.1f}. The busier of"
            f" the two did {share(largest)} of the work, with 128 connections."
        )
        if not run.about.get("load apart"):
            lines.append(
                "  The machine has two cores, and the load generator needs one of them; so compare"
                " CPU time, not requests per second."
            )
    return lines


def steps(run: Run) -> list[str]:
    """The table of C{micro}'s steps."""
    rows = [
        (name, f"{each['least']:.2f}", f"{each['units']:.2f}") for name, each in run.steps.items()
    ]
    return table(("step", "µs", "x httptools"), rows) if rows else []


def others(run: Run) -> float:
    """The mean share of the proxies' core that other processes used."""
    found = [
        each["others"]
        for proxies in run.rounds.values()
        for rounds in proxies.values()
        for each in rounds
        if "others" in each
    ]
    return sum(found) / len(found) if found else 0.0


def about(run: Run) -> list[str]:
    """The paragraph and table about machine, versions and settings."""
    told = run.about
    lines = [
        f"{told['date']}, commit {told['commit']}; {told['rounds']} x {told['seconds']} s for each"
        " measurement.",
        "",
        f"Machine: {told['processor']}, {told['cores']} cores, {told['memory']},"
        f" {told['kernel']}, {'virtual' if told['virtual'] == 'yes' else 'real'}."
        f" While the proxies were measured, other processes used {share(others(run))} of"
        " their cores.",
    ]
    if others(run) > QUIET:
        lines += ["", "**The machine was not quiet: do not trust single numbers.**"]
    rows = [
        (each.title, run.versions[each.name], each.does)
        for each in PROXIES
        if each.name in run.versions
    ]
    return [*lines, "", *table(("proxy", "version", "features"), rows, left=3)]


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
        "sitio compared with itself": comparison(run),
        "What features cost": features(run),
        "Single steps": steps(run),
        "Left out": left,
        "Remarks": remarks.read_text("utf-8").splitlines() if remarks.exists() else [],
        "How to read this": READING.splitlines(),
    }
    lines = ["# sitio compared with other proxies", "", "![CPU time](chart.svg)", "", *about(run)]
    for title, section in sections.items():
        if section:
            lines += ["", f"## {title}", "", *section]
    lines += ["", "`make bench` writes this file; `results.json` has every round.", ""]
    return "\n".join(lines)
