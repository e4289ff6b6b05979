"""
Writes RESULTS.md from the measurements in C{results.json}.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.proxies import (
    ENVOY,
    HAPROXY,
    HERE,
    MITMPROXY,
    NGINX,
    PROXIES,
    SITIO,
    WITH_POLICIES,
    Proxy,
)
from bench.runner import QUIET, Run
from bench.scenarios import (
    FEATURES,
    IDLE,
    KINDS,
    SCENARIOS,
    TWO_WORKERS,
    Feature,
    Paced,
    Saturation,
    Scenario,
)
from bench.targets import TARGETS, UNITS

READING = f"""\
Each proxy runs on one core; the load generator (wrk) and the service (nginx) run on another. Each
round measures every scenario with every proxy in turn, so that disturbances of the machine affect
all proxies alike. Tables show medians over the rounds. A ratio is taken within each round; the
table shows the median of these ratios.

- **Varied traffic**, in all rows that do not say otherwise: the head of a browser, with a query, a
  cookie and an id of its own in each request; 1000 pages of 200 bytes to 30 KB, asked for by Zipf's
  law; each response has an ETag of its own.
- **A policy that acts** refuses a request by its User-Agent (here it refuses none) and sets a field
  of each response. Envoy, HAProxy and nginx have their policies in Lua.
- **CPU per request** is the CPU time of all processes and threads of the proxy, user and system,
  as the kernel's scheduler counts it, divided by the number of responses. It hardly depends on
  the load generator. Requests per second do: nginx and HAProxy are faster than the core that
  sends the requests.
- **Tails**: all proxies get the same rate, a share of what the slowest of them can do with varied
  traffic. Requests come at random moments, independent of earlier responses; a latency counts from
  the moment at which the request was due.
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


def matrix(run: Run, metric: str) -> list[str]:
    """The table of a metric, of the scenarios that compare proxies by it."""
    rows = []
    for scenario in _compared(metric):
        values = [run.metric(scenario.name, each.name, metric) for each in _present(run)]
        if any(value is not None for value in values):
            rows.append((scenario.title, *map(number, values)))
    return table(("", *(each.title for each in _present(run))), rows) if rows else []


def ratios(run: Run) -> list[str]:
    """The table of sitio's CPU time as a multiple of each other proxy's."""
    others = [each for each in _present(run) if not each.name.startswith(SITIO.name)]
    rows = []
    for scenario in (*_compared("cpu"), *_compared("cpuPerGB")):
        found = [run.ratios(scenario.name, "sitio", each.name, scenario.metric) for each in others]
        if any(found):
            shown = [f"{median(each):.2f}" if each else "-" for each in found]
            rows.append((scenario.title, *shown))
    return table(("", *(each.title for each in others)), rows) if rows else []


def _present(run: Run) -> list[Proxy]:
    return [each for each in PROXIES if each.name in run.versions]


def _compared(metric: str) -> list[Scenario]:
    """The scenarios at saturation whose proxies are all in L{PROXIES}."""
    return [
        each
        for each in SCENARIOS
        if isinstance(each, Saturation)
        and each.metric == metric
        and set(each.proxies) <= set(PROXIES)
    ]


def tails(run: Run) -> list[str]:
    """The table of latencies below saturation."""
    rows = []
    for scenario in SCENARIOS:
        for proxy in scenario.proxies if isinstance(scenario, Paced) else ():
            values = [run.metric(scenario.name, proxy.name, each) for each in TAILS]
            if values[0] is not None:
                rows.append((scenario.title, proxy.title, *map(number, values)))
    head = ("", "", "requests per second", "median, µs", "p99, µs", "p99.9, µs")
    return table(head, rows, left=2) if rows else []


#: The metrics of L{tails}.
TAILS = ("rate", "p50", "p99", "p999")


def memory(run: Run) -> list[str]:
    """The table of start, memory and idle connections."""
    rows = []
    for each in _present(run):
        start = run.metric("start", each.name, "start")
        resident = run.metric("start", each.name, "resident")
        idle = run.metric("start", each.name, "idle")
        if start is not None and resident is not None:
            shown = number(start * 1000), number(resident / 2**20), number(idle and idle / 1024, 2)
            rows.append((each.title, *shown))
    head = ("", "start to first response, ms", "memory after it, MB", "idle connection, KB")
    return table(head, rows) if rows else []


def costs(run: Run, scenario: str, features: Sequence[Feature]) -> list[str]:
    """The table of features and their costs, measured in a scenario."""
    whole = run.metric(scenario, "sitio", "cpu")
    rows = []
    for each in features:
        found = run.ratios(scenario, each.variant.name, "sitio", "cpu")
        if whole is None or not found:
            continue
        shares = sorted((1 - ratio if each.default else ratio - 1) for ratio in found)
        cost = median(shares)
        shown = f"{cost * whole:+.1f} µs ({cost * 100:+.0f} %)"
        between = f"{shares[0] * 100:+.0f} % to {shares[-1] * 100:+.0f} %"
        rows.append((each.title, each.switch, each.benefit, shown, between))
    head = "", "switch", "what it does", "cost for each request", "rounds"
    return table(head, rows, left=3) if rows else []


def workers(run: Run) -> list[str]:
    """Two workers compared with one."""
    one = run.metric("workers", "sitio", "cpu")
    two = run.metric("workers", TWO_WORKERS.name, "cpu")
    largest = run.metric("workers", TWO_WORKERS.name, "largest")
    if one is None or two is None or largest is None:
        return []
    lines = [
        f"Two workers use {two:.1f} µs of CPU for each request, one {one:.1f}. The busier of"
        f" the two did {share(largest)} of the work, with 128 connections."
    ]
    if not run.about.get("load apart"):
        lines.append(
            "The machine has two cores, and the load generator needs one of them; so compare"
            " CPU time, not requests per second."
        )
    return lines


def steps(run: Run) -> list[str]:
    """The table of C{micro}'s steps."""
    rows = [
        (name, f"{each['least']:.2f}", f"{each['units']:.2f}") for name, each in run.steps.items()
    ]
    return table(("step", "µs", "x httptools"), rows) if rows else []


def about(run: Run) -> list[str]:
    """The paragraph and table about machine, versions and settings."""
    told = run.about
    lines = [
        f"{told['date']}, commit {told['commit']}; {told['rounds']} x {told['seconds']} s for each"
        " measurement.",
        "",
        f"Machine: {told['processor']}, {told['cores']} cores, {told['memory']},"
        f" {told['kernel']}, {'virtual' if told['virtual'] == 'yes' else 'real'}."
        f" While the proxies were measured, other processes used {share(run.others())} of"
        " its cores.",
    ]
    if run.others() > QUIET:
        lines += ["", "**The machine was not quiet: do not trust single numbers.**"]
    rows = [(each.title, run.versions[each.name], each.does) for each in _present(run)]
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
        "CPU seconds for each GB of long bodies": matrix(run, "cpuPerGB"),
        "Latency below saturation": tails(run),
        "Start and memory": memory(run),
        "What each kind of policy costs": costs(run, "kinds", KINDS),
        "What features cost": costs(run, "features", FEATURES),
        "Two workers": workers(run),
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


#: What surrounds the figures in the README.
MARKS = ("<!-- The benchmark writes this. -->\n", "<!-- End. -->\n")

#: The scenarios and the proxies of the README's table.
FIGURES = ("varied", "acts", "replaced", "closing", "tls", "same")
BESIDE = (SITIO, WITH_POLICIES, ENVOY, HAPROXY, NGINX, MITMPROXY)


def readme(run: Run, text: str) -> str:
    """
    A README with the figures of this run between its marks.

    @raise ValueError: it does not have them.
    """
    before, first, rest = text.partition(MARKS[0])
    _, second, after = rest.partition(MARKS[1])
    if not second:
        raise ValueError(f"README.md has no {MARKS[0].strip()} and {MARKS[1].strip()}")
    return before + first + "\n".join(figures(run)) + "\n" + second + after


def figures(run: Run) -> list[str]:
    """The table for the README, and the state of the targets."""
    rows = [
        (each.title, *(number(run.metric(each.name, proxy.name, "cpu")) for proxy in BESIDE))
        for each in SCENARIOS
        if each.name in FIGURES
    ]
    outcomes = [each.outcome(run) for each in TARGETS]
    met = sum(each is not None and each.met for each in outcomes)
    lines = table(("CPU time for each request, µs", *(each.title for each in BESIDE)), rows)
    lines += ["", f"{run.about['date']}; {met} of {len(outcomes)} targets are met."]
    if run.others() > QUIET:
        lines.append("The machine was not quiet: compare the ratios, not the numbers.")
    return lines
