"""
File descriptors: how many this process may open, and whether it has any left.
"""

from __future__ import annotations

import errno
import socket

#: Errors of the kernel that mean: not now.  The process or the system has no descriptors or
#: no memory for sockets left.
LACKING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


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
