"""
The name of a worker process, as C{ps} and C{top} show it: L{nameWorker}.

Contract: writes the name of its own process only.
"""

from __future__ import annotations

import os
from contextlib import suppress

#: The name of the running process on Linux, which C{ps -o comm}, C{top} and C{pstree} show.
COMM = "/proc/self/comm"

#: Its longest name, in bytes.
MAX_COMM = 15


def nameWorker(number: int, count: int, comm: str = COMM) -> None:
    """
    Name this process a worker: C{sitio:worker3}.

    With the distribution setproctitle (the extra C{titles}), its command line as a whole is
    C{sitio: worker 3 of 4}.
    """
    try:
        from setproctitle import setproctitle
    except ImportError:
        pass
    else:
        setproctitle(f"sitio: worker {number} of {count}")
    # Later, as setproctitle sets this name too.  Only Linux has the file.
    with suppress(OSError), open(comm, "r+b", buffering=0) as file:
        file.write(os.fsencode(f"sitio:worker{number}")[:MAX_COMM])
