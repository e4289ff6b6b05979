"""
What is counted in the soak, and the checks of sitio's process.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from urllib.request import ProxyHandler, build_opener

from attrs import define, field

#: Sentences kept of each kind of fault.
MOST_SENTENCES = 12

#: Slack, in seconds, around an outage of the service: a failure that begins within it may
#: be seen a little later.
SLACK_SECONDS = 1.0


@define(eq=False)
class Tally:
    """
    Counts outcomes, and faults with a sentence for each of the first.

    @ivar outages: the beginning and the end of each time without a service, on the
        monotonic clock.
    """

    outcomes: Counter[str] = field(factory=Counter)
    faults: Counter[str] = field(factory=Counter)
    sentences: dict[str, list[str]] = field(factory=dict)
    outages: list[tuple[float, float]] = field(factory=list)

    def fault(self, kind: str, sentence: str) -> None:
        """Count a fault."""
        self.faults[kind] += 1
        sentences = self.sentences.setdefault(kind, [])
        if len(sentences) < MOST_SENTENCES:
            sentences.append(sentence)

    def outage(self, since: float) -> bool:
        """Whether the service was away at any time since then."""
        return bool(self.outages) and self.outages[-1][1] + SLACK_SECONDS > since


@define(eq=False)
class Memory:
    """
    Resident memory of a process over a run.

    @ivar tolerance: bytes by which it may grow after the first quarter.
    """

    tolerance: int
    samples: list[tuple[float, int]] = field(factory=list)

    def add(self, share: float, size: int) -> None:
        """Add a sample, at a share of all requests."""
        self.samples.append((share, size))

    def _around(self, share: float) -> float:
        """The median of what lies around a share, or what lies nearest to it."""
        near = [size for at, size in self.samples if abs(at - share) <= 0.05]
        if near or not self.samples:
            return median(near or [0])
        return min(self.samples, key=lambda each: abs(each[0] - share))[1]

    @property
    def before(self) -> float:
        """The level at the end of the first quarter."""
        return self._around(0.25)

    @property
    def after(self) -> float:
        """The level at the end."""
        return self._around(1.0)

    @property
    def level(self) -> bool:
        """Whether it has not grown beyond the tolerance."""
        return self.after <= self.before + self.tolerance


def descriptors(pid: int) -> list[str]:
    """The targets of the open descriptors of a process."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(os.readlink(each))
    return sorted(found)


def residentBytes(pid: int) -> int:
    """The resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def added(before: list[str], after: list[str]) -> list[str]:
    """What is open in addition, by kind: sockets and pipes have a number each."""
    kinds = [
        Counter(re.sub(r":\[[0-9]+\]$", "", each) for each in listed) for listed in (after, before)
    ]
    return sorted((kinds[0] - kinds[1]).elements())


def inFlight(admin: int) -> int:
    """The exchanges that have not ended, by the admin port."""
    opener = build_opener(ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{admin}/stats.json", timeout=5) as page:
        return int(json.load(page)["inFlight"])


def errors(log: Path) -> list[str]:
    """The tracebacks in a log, and the critical entries; one line for each."""
    found = []
    # An entry begins with its time; the lines of a traceback follow.
    for entry in re.split(r"^(?=\d{4}-)", log.read_text("utf-8", "replace"), flags=re.MULTILINE):
        lines = entry.strip().splitlines()
        if "Traceback (most recent call last)" in entry:
            found.append(f"{lines[0][:120]} ... {lines[-1].strip()[:120]}")
        elif lines and re.search(r"[#\[]critical\]|Unhandled", lines[0]):
            found.append(lines[0][:200])
    return found


def waitUntil(true: Callable[[], object], seconds: float) -> float:
    """
    Wait until a function returns something true, for some seconds at most.

    @return: the seconds that it took.
    """
    start = time.monotonic()
    while not true() and time.monotonic() < start + seconds:
        time.sleep(0.05)
    return time.monotonic() - start
