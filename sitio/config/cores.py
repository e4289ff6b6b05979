"""
How many cores this process may use: L{coreCount}.

Contract: reads files of Linux, and the environment that it is passed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

#: Kubernetes sets this variable in each container.
POD_VARIABLE = "KUBERNETES_SERVICE_HOST"


def coreCount(environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> int:
    """
    The number of cores that this process may use: its CPU affinity, or the CPU limit of its
    control groups if that is lower.  A part of a core counts as one.

    In a Pod without a CPU limit it is 1: the affinity is that of the whole node there, which
    all Pods share.

    @param environ: environment variables; L{None} for those of the process.
    @param root: the folder in which C{/proc} and C{/sys} are.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limits = list(_limits(root))
    if not limits and POD_VARIABLE in (os.environ if environ is None else environ):
        return 1
    return max(1, min([cores, *limits]))


def _limits(root: Path) -> Iterator[int]:
    """
    The CPU limits of this process's control groups, in cores, rounded up.

    In a container the mount point is its own group, whatever C{/proc} calls that.  Elsewhere
    it is the root, and groups on the way from there may have limits, such as one that systemd
    has made for a service.
    """
    mounts = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        # Hierarchy, controllers, path (cgroups(7)); version 2 names no controllers.
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        way = PurePosixPath(path.strip("/"))
        groups = [way, *way.parents]
        if not controllers:
            quotas = (_text(mounts / each / "cpu.max").split() for each in groups)
        elif "cpu" in controllers.split(","):
            quotas = (_version1(mounts, controllers, each) for each in groups)
        else:
            continue
        for quota in quotas:
            if len(quota) == 2 and all(each.isdecimal() and int(each) for each in quota):
                yield -(-int(quota[0]) // int(quota[1]))


def _version1(mounts: Path, controllers: str, group: PurePosixPath) -> list[str]:
    """Quota and period of a group of version 1; the quota is C{-1} without a limit."""
    for name in (controllers, "cpu"):
        folder = mounts / name / group
        quota = _text(folder / "cpu.cfs_quota_us").split()
        if quota:
            return quota + _text(folder / "cpu.cfs_period_us").split()
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
