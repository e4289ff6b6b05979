"""
Reads the machine: cores, free ports, and the CPU time and memory of a process and
its descendants.  Linux only, from C{/proc}.
"""

from __future__ import annotations

import os
import platform
import random
import resource
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and its living descendants."""
    children: dict[int, list[int]] = {}
    for each in _PROC.iterdir():
        if each.name.isdecimal():
            try:
                parent = int(_stat(each)[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(each.name))

    def walk(pid: int) -> Iterator[int]:
        yield pid
        for child in children.get(pid, ()):
            yield from walk(child)

    return list(walk(pid))


def _stat(process: Path) -> list[str]:
    """The fields after the name, which may contain blanks and parentheses."""
    return (process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def cpuSeconds(pid: int) -> dict[int, float]:
    """
    The CPU time that a process and its descendants have used, in seconds, by pid.

    It is the scheduler's own count for each thread, in nanoseconds.  A kernel without
    it counts in ticks, usually of 10 ms.  Threads and processes that have ended are
    missing; the proxies end none while they are measured.
    """
    return {each: _cpuSeconds(each) for each in tree(pid)}


def _cpuSeconds(pid: int) -> float:
    process = _PROC / str(pid)
    try:
        threads = list((process / "task").glob("*/schedstat"))
        if threads:
            return sum(int(each.read_text().split()[0]) for each in threads) / 1e9
        return sum(map(int, _stat(process)[11:13])) / _TICKS
    except OSError:
        return 0.0


def coreSeconds(cores: Collection[int]) -> float:
    """Seconds for which these cores have not been idle, including time that a host has stolen."""
    total = 0
    for line in (_PROC / "stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.removeprefix("cpu").isdecimal() and int(name[3:]) in cores:
            user, nice, system, _, _, irq, softirq, steal = map(int, ticks[:8])
            total += user + nice + system + irq + softirq + steal
    return total / _TICKS


def othersSeconds(cores: Collection[int]) -> float:
    """
    Seconds, since some moment, for which other processes than this one and its descendants
    have used these cores.  Only differences count, while no descendant ends unless this
    process itself waits for it.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = sum(cpuSeconds(os.getpid()).values()) + ended.ru_utime + ended.ru_stime
    return coreSeconds(cores) - ours


def residentBytes(pid: int) -> int:
    """Resident memory of a process and its descendants; shared pages count for each."""
    pages = 0
    for each in tree(pid):
        try:
            pages += int((_PROC / str(each) / "statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


class Ports:
    """
    Free ports of 127.0.0.1, each given out once.

    They are below the kernel's range for outgoing connections, of which a benchmark
    makes many: so a port is still free when its proxy starts.
    """

    def __init__(self) -> None:
        bounds = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        first = min(int(bounds[0]), 32768)
        # Five digits each, so that the heads for all proxies have the same length.
        self._left = list(range(max(10_000, first - 12_000), first)) or list(range(10_000, 32_768))
        random.shuffle(self._left)

    def take(self) -> int:
        """
        @raise OSError: no port is left.
        """
        while self._left:
            port = self._left.pop()
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        raise OSError("no free port is left on 127.0.0.1")


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def describe() -> dict[str, str | int]:
    """The facts about this machine that a reader of the report needs."""
    about = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((each.partition(":")[2].strip() for each in about if "model name" in each), "?")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    virtual = any(each.startswith("flags") and " hypervisor" in each for each in about)
    return {
        "processor": model,
        "cores": len(cores()),
        "virtual": "yes" if virtual else "no",
        "memory": f"{memory / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }
