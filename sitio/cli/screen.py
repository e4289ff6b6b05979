"""
The screen of C{sitio status}: L{screen}.

It shows what the admin pages tell (L{Status}); what an older sitio does not tell is left out.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from attrs import frozen

from sitio.cli.table import Cell, Column, Table, cutTo
from sitio.cli.terminal import Terminal

#: Rows of a table that are shown; C{--json} has all.
MAX_ROWS = 40

#: Characters of a state that stands in the first line; another has a line of its own.
MAX_STATE = 12

#: Columns before what is said below a row.
NOTE_INDENT = 6

#: Columns of the names at the left.
LABEL_COLUMNS = 11

_GOOD: dict[str, Any] = {"fg": "green"}
_BAD: dict[str, Any] = {"fg": "red", "bold": True}
_WARN: dict[str, Any] = {"fg": "yellow"}
_NAME: dict[str, Any] = {"bold": True}
_FAINT: dict[str, Any] = {"dim": True}

#: The styles of the states of endpoints.
STATES = {
    "healthy": _GOOD,
    "warming": _WARN,
    "draining": _WARN,
    "unhealthy": _BAD,
    "ejected": _BAD,
}


@frozen
class Status:
    """
    What a sitio tells of itself.

    @ivar admin: where its admin port is.
    @ivar state: what C{/ready} says.
    @ivar config: the content of C{/config}.
    @ivar now: that of C{/stats.json}.
    @ivar before: the same, some time earlier; L{None} if there is none.
    """

    admin: str
    isReady: bool
    state: str
    config: Mapping[str, Any]
    now: Mapping[str, Any]
    before: Mapping[str, Any] | None = None


def screen(status: Status, terminal: Terminal) -> list[str]:
    """The lines of the screen."""
    lines = [*_head(status, terminal), "", *_traffic(status, terminal)]
    for section in (_listeners, _upstreams, _policies, _workers):
        found = list(section(status, terminal))
        if found:
            lines += ["", *found]
    return lines


def _head(status: Status, terminal: Terminal) -> Iterator[str]:
    version = terminal.paint(f"sitio {status.config.get('sitio', '')}".strip(), **_NAME)
    state = status.state.removeprefix("sitio is ")
    style = _GOOD if status.isReady else _BAD
    isShort = len(state) <= MAX_STATE
    facts = [version, terminal.paint(state if isShort else "not ready", **style)]
    if "generation" in status.config:
        facts.append(f"generation {status.config['generation']}")
    facts.append(f"up {duration(status.now['metrics']['uptime'])}")
    yield "   ".join(facts)
    if not isShort:
        yield from _wrapped(state, style, terminal)
    yield from _reload(status.config, terminal)


def _reload(config: Mapping[str, Any], terminal: Terminal) -> Iterator[str]:
    """What is wrong with what was read last, and what needs a restart."""
    mistakes = config.get("refused", {}).get("mistakes", [])
    if mistakes:
        yield terminal.paint("The last reload failed; sitio goes on as it was before:", **_BAD)
    for each in mistakes[:MAX_ROWS]:
        yield from _wrapped(each, _BAD, terminal, 2)
    waiting = config.get("needRestart", [])
    if waiting:
        yield from _wrapped(f"These keys need a restart: {', '.join(waiting)}", _WARN, terminal)


def _wrapped(
    text: str, style: dict[str, Any], terminal: Terminal, indent: int = 0
) -> Iterator[str]:
    """A text on as many lines as it needs."""
    for line in wrap(text, terminal.width - indent):
        yield " " * indent + terminal.paint(line, **style)


def _facts(terminal: Terminal, label: str, facts: Sequence[str | Cell]) -> Iterator[str]:
    """A label, and facts beside it, on as many lines as they need."""
    begin = f"{label:<{LABEL_COLUMNS}}  "
    line, width = terminal.paint(begin, **_NAME), len(begin)
    isFirst = True
    for each in facts:
        cell = each if isinstance(each, Cell) else Cell(each)
        text = cutTo(cell.text, terminal.width - LABEL_COLUMNS - 2)
        gap = 0 if isFirst else 3
        if not isFirst and width + gap + len(text) > terminal.width:
            yield line
            gap, width = 0, LABEL_COLUMNS + 2
            line = " " * width
        line += " " * gap + terminal.paint(text, **cell.style)
        width += gap + len(text)
        isFirst = False
    yield line


def _traffic(status: Status, terminal: Terminal) -> Iterator[str]:
    now = status.now["metrics"]
    total = now["total"]
    since = None if status.before is None else status.before["metrics"]
    facts: list[str | Cell] = []
    if since is None:
        seconds, requests, failed = now["uptime"], total["hits"], total["sentFailed"]
    else:
        seconds = now["uptime"] - since["uptime"]
        requests = total["hits"] - since["total"]["hits"]
        failed = total["sentFailed"] - since["total"]["sentFailed"]
    facts.append(f"{rate(requests, seconds)} requests/s")
    facts.append(Cell(f"{rate(failed, seconds)} errors/s", _BAD if failed > 0 else {}))
    facts.append(f"{number(status.now['inFlight'])} under way")
    facts.append(f"{number(status.now['clients'])} clients")
    yield from _facts(terminal, "Now" if since is not None else "Mean", facts)
    share = 100 * total["sentFailed"] / total["hits"] if total["hits"] else 0.0
    masked = sum(total["masked"].values())
    latency = total["latency"]
    facts = [
        f"{number(total['hits'])} requests",
        Cell(
            f"{number(total['sentFailed'])} errors ({share:.2g} %)",
            _WARN if total["sentFailed"] else {},
        ),
        *([f"{number(masked)} masked"] if masked else []),
        *(
            f"{name} {millis(quantile(latency, now['latencyBounds'], at))}"
            for name, at in (("median", 0.5), ("p99", 0.99))
            if any(latency)
        ),
    ]
    yield from _facts(terminal, "Since start", facts)


def _listeners(status: Status, terminal: Terminal) -> Iterator[str]:
    options = status.config.get("options", {})
    found = status.config.get("listeners")
    ports = [_listener(each) for each in found] if found else [str(options.get("port", ""))]
    yield from _facts(terminal, "Listeners", [each for each in ports if each])
    yield from _facts(terminal, "Admin port", [status.admin])


def _listener(listener: Any) -> str:
    if not isinstance(listener, Mapping):
        return str(listener)
    address = str(listener.get("address", ""))
    return f"{address} (TLS)" if listener.get("tls") else address


def _upstreams(status: Status, terminal: Terminal) -> Iterator[str]:
    found = status.now.get("upstreams")
    if found is None:
        peers = status.now["peers"]
        where = ":".join(filter(None, (peers["upstreamAddress"], peers["upstreamPort"])))
        yield from _facts(terminal, "Upstream", [where or "photo site"])
        return
    table = Table(
        [
            Column("upstream", isCut=True),
            Column("endpoint", isCut=True),
            Column("state"),
            Column("under way", right=True, extra=1),
            Column("open", right=True, extra=4),
            Column("idle", right=True, extra=5),
            Column("sent", right=True, extra=2),
            Column("failed", right=True),
            Column("mean", right=True, extra=3),
            Column("ejections", right=True, extra=6),
        ]
    )
    # What is said below a row.
    below: list[list[Cell]] = []
    for each in found:
        _addUpstream(each, table, below)
    if table.rows:
        yield terminal.paint("Upstreams", **_NAME)
        yield from _withNotes(table, below, terminal)
    yield from _more(below)


def _addUpstream(upstream: Mapping[str, Any], table: Table, below: list[list[Cell]]) -> None:
    """Add the rows of an upstream, and what is said below each."""
    endpoints = [each for each in upstream["endpoints"] if each["states"]]
    problem = [Cell(upstream["problem"], _BAD)] if upstream["problem"] else []
    if not endpoints:
        table.add(upstream["name"], "none", *([""] * (len(table.columns) - 2)))
        below.append(problem)
    for place, each in enumerate(endpoints):
        mean = each["seconds"] / each["answered"] if each["answered"] else None
        table.add(
            "" if place else Cell(upstream["name"], _NAME),
            each["address"],
            _state(each["states"]),
            number(each["outstanding"]),
            number(each["open"]),
            number(each["idle"]),
            number(each["sent"]),
            Cell(number(each["failed"]), _WARN if each["failed"] else {}),
            "" if mean is None else millis(mean),
            number(each["ejections"]) if upstream["judged"] else "",
        )
        failure = each["lastFailure"]
        last = [Cell(f"last failure: {failure}", _FAINT)] if failure else []
        below.append([*([] if place else problem), *last])


def _withNotes(table: Table, below: list[list[Cell]], terminal: Terminal) -> Iterator[str]:
    """The lines of a table, with the notes below their rows."""
    del table.rows[MAX_ROWS:]
    titles, *rows = table.lines(terminal)
    yield titles
    for row, notes in zip(rows, below):
        yield row
        for note in notes:
            yield from _wrapped(note.text, note.style, terminal, NOTE_INDENT)


def _state(states: Mapping[str, int]) -> Cell:
    """The state of an endpoint; of several processes, how many see each."""
    if len(states) == 1:
        [name] = states
        return Cell(name, STATES.get(name, {}))
    worst = next((name for name in reversed(STATES) if name in states), "")
    text = ", ".join(f"{times} {name}" for name, times in sorted(states.items()))
    return Cell(text, STATES.get(worst, {}))


def _policies(status: Status, terminal: Terminal) -> Iterator[str]:
    policies = status.now["policies"]
    if not policies:
        return
    table = Table(
        [
            Column("policy", isCut=True),
            Column("sees", extra=2, isCut=True),
            Column("called", right=True),
            Column("acted", right=True),
            Column("failed", right=True),
            Column("mean", right=True, extra=1),
        ]
    )
    for each in policies[:MAX_ROWS]:
        mean = each["seconds"] / each["called"] if each["called"] else None
        table.add(
            each["name"],
            each["sees"],
            number(each["called"]),
            number(each["acted"]),
            Cell(number(each["failed"]), _BAD if each["failed"] else {}),
            "" if mean is None else millis(mean),
        )
    yield terminal.paint("Policies", **_NAME)
    yield from table.lines(terminal)
    yield from _more(policies)


def _workers(status: Status, terminal: Terminal) -> Iterator[str]:
    workers = status.now["workers"]
    if len(workers) < 2 and not status.now["restarts"]:
        return
    table = Table(
        [
            Column("worker", right=True),
            Column("pid", right=True),
            Column("up", right=True),
            Column("restarts", right=True),
            Column("requests", right=True),
            Column("clients", right=True),
        ]
    )
    for each in workers[:MAX_ROWS]:
        table.add(
            str(each["number"]),
            str(each["pid"]),
            duration(each["uptime"]),
            Cell(number(each["restarts"]), _WARN if each["restarts"] else {}),
            number(each["hits"]),
            number(each["clients"]),
        )
    yield terminal.paint("Workers", **_NAME)
    yield from table.lines(terminal)
    yield from _more(workers)


def _more(rows: Sequence[Any]) -> Iterator[str]:
    if len(rows) > MAX_ROWS:
        yield f"  and {len(rows) - MAX_ROWS} more; --json has all"


def number(value: float) -> str:
    """A count, with commas."""
    return f"{value:,.0f}"


def rate(count: float, seconds: float) -> str:
    """So many in a second."""
    if seconds <= 0:
        return "0"
    value = count / seconds
    return number(value) if value >= 100 else f"{value:.1f}"


def duration(seconds: float) -> str:
    """A duration, in its two largest units."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def millis(seconds: float) -> str:
    """A short duration, with three digits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1 or unit == "us":
            value = seconds * factor
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{value:.{digits}f} {unit}"
    raise AssertionError("a unit is the last one")


def quantile(counts: Sequence[int], bounds: Sequence[float], at: float) -> float:
    """
    The value below which this share of what a histogram has counted is: within a bucket, the
    share is taken for even.
    """
    wanted = at * sum(counts)
    seen = 0.0
    for place, count in enumerate(counts):
        if count and seen + count >= wanted:
            low = bounds[place - 1] if place else 0.0
            high = bounds[place] if place < len(bounds) else low
            return low + (high - low) * (wanted - seen) / count
        seen += count
    return 0.0
