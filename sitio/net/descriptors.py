"""
File descriptors: how many this process may open, what they are for, and whether it has any
left.
"""

from __future__ import annotations

import contextlib
import errno
import socket

try:
    import resource
except ImportError:  # Windows, which has no such limit.
    resource = None  # type: ignore[assignment]

#: Errors of the kernel that mean: not now.  The process or the system has no descriptors or
#: no memory for sockets left.
LACKING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

#: Descriptors that are left for everything but clients and the upstream: 22 that a process
#: has when it has started, those of the admin port, log files, health checks, policies, and
#: connections that still close.  Of a small limit it is half.
RESERVED = 128

#: With fewer descriptors sitio does not start.
MIN_DESCRIPTORS = 48


def areLacking(error: BaseException | None = None) -> bool:
    """
    Whether a failure to open a socket or a file comes from a lack of descriptors.

    Some errors do not say so.  A name that can't be looked up for want of a descriptor looks
    like one that does not exist.  So one is opened for a moment, to see.

    @param error: the failure; L{None} only tries.
    """
    for each in (getattr(error, "osError", None), getattr(error, "errno", None)):
        # Resolvers have numbers of their own, below 0.
        if isinstance(each, int) and each > 0:
            return each in LACKING
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except OSError as lack:
        return lack.errno in LACKING
    return False


def raiseLimit() -> int | None:
    """
    Raise the soft limit of this process to the hard one, where that is allowed.

    @return: the number of descriptors that it may have open; L{None} for no limit.
    """
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems allow less than the hard limit that they name.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def isScarce(descriptor: int) -> bool:
    """
    Whether a new descriptor is one of those that are L{RESERVED}.

    The kernel gives the lowest number that is free.  So a high number means that nearly all
    are in use, by whatever.
    """
    if resource is None:
        return False
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and descriptor >= soft - min(RESERVED, soft // 2)


def share(limit: int | None, clients: int, connections: int) -> tuple[int, int]:
    """
    Bring the largest numbers of clients and of upstream connections into a limit.

    Upstream connections get half of the descriptors at most, and clients the rest.  So each
    client that is accepted can be served.

    @param limit: the descriptors of this process; L{None} for no limit.

    @return: the two numbers, at most those given, at least 1.
    """
    if limit is None:
        return clients, connections
    free = limit - min(RESERVED, limit // 2)
    connections = max(1, min(connections, free // 2))
    return max(1, min(clients, free - connections)), connections
