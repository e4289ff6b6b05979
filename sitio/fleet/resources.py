"""
Memory and CPU times of the pod, in the form that the fleet dashboard expects.

Reports the cgroup's memory limit if there is one: beyond it the kernel kills the pod.

Contract: reads files of Linux; no other I/O.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypedDict

#: Bytes that are read of a file: those of some hundred processors.
MAX_FILE = 256 * 1024

#: The model of a processor for which Linux has no name.
UNNAMED = "unknown"


class Times(TypedDict):
    """CPU times of a processor since the machine was started, in milliseconds."""

    user: int
    nice: int
    sys: int
    idle: int


class Processor(TypedDict):
    """One processor; C{speed} is in MHz."""

    model: str
    speed: int
    times: Times


class Resources(TypedDict):
    """Memory in bytes, and all processors of the machine."""

    free_memory: int
    total_memory: int
    cpus: list[Processor]


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_FILE)
    except OSError:
        return ""


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else None


def resources(root: Path = Path("/")) -> Resources | None:
    """The values now; L{None} on a system other than Linux."""
    system = _read(root / "proc/meminfo")
    total = _number(r"^MemTotal: +(\d+) kB", system)
    free = _number(r"^MemAvailable: +(\d+) kB", system)
    if total is None or free is None:
        return None
    total, free = total * 1024, free * 1024
    group = root / "sys/fs/cgroup"
    limit = _number(r"\A(\d+)$", _read(group / "memory.max"))
    used = _number(r"\A(\d+)$", _read(group / "memory.current"))
    if limit is not None and used is not None and limit < total:
        # The page cache counts as used, and the kernel frees it first.
        cache = _number(r"^inactive_file (\d+)$", _read(group / "memory.stat")) or 0
        total, free = limit, min(free, max(0, limit - used + cache))
    return {"free_memory": free, "total_memory": total, "cpus": _processors(root)}


def _processors(root: Path) -> list[Processor]:
    about = _read(root / "proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.+)$", about, re.MULTILINE)
    speeds = re.findall(r"^cpu MHz\s*: (\d+)", about, re.MULTILINE)
    tick = 1000 // os.sysconf("SC_CLK_TCK")
    found: list[Processor] = []
    rows = re.findall(r"^cpu\d+ (\d+) (\d+) (\d+) (\d+)", _read(root / "proc/stat"), re.MULTILINE)
    for number, row in enumerate(rows):
        user, nice, system, idle = (int(each) * tick for each in row)
        found.append(
            {
                "model": models[number] if number < len(models) else UNNAMED,
                "speed": int(speeds[number]) if number < len(speeds) else 0,
                "times": {"user": user, "nice": nice, "sys": system, "idle": idle},
            }
        )
    return found
