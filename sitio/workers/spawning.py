"""
Starts the process of a worker: L{spawn}.

Contract: POSIX only; the reactor is passed in.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from sitio.net.signals import held
from sitio.workers.process import WorkerProcess
from sitio.workers.sockets import SharedPort, SharedPorts

#: The descriptor of a worker's first listening socket, as with systemd.
FIRST_SOCKET_DESCRIPTOR = 3

# A "systemd:" endpoint needs LISTEN_PID, which only the new process knows.  The collector is
# enabled when the worker has started, as in twisted/plugins/sitio_plugin.py.
_BOOT = """\
import gc, json, os, sys
gc.disable()
os.environ["LISTEN_PID"] = str(os.getpid())
sys.path[:] = json.loads(sys.argv[1])["path"]
from sitio.workers.worker import run
run()
"""


def spawn(
    reactor: Any,
    process: WorkerProcess,
    assignment: Mapping[str, Any],
    port: SharedPort | SharedPorts,
    ends: tuple[int, int],
    stdout: int | None = None,
) -> None:
    """
    Start a process.

    @param assignment: what it is told, as plain data.
    @param port: the ports for clients, whose sockets it inherits.
    @param ends: the descriptors of its ends of the worker channel, and of its output.
    @param stdout: a descriptor that it writes to as well; L{None} for none.
    """
    environ = dict(os.environ)
    channel, output = ends
    sockets = [each.fileno() for each in port.sockets]
    if len(sockets) == 1:
        # An endpoint "systemd:" names one of several sockets.  The port is that one,
        # so it stands for all of them.
        sockets *= len(environ.get("LISTEN_FDNAMES", "").split(":"))
        environ["LISTEN_FDS"] = str(len(sockets))
    inherited = dict(enumerate(sockets, FIRST_SOCKET_DESCRIPTOR))
    told = {
        **assignment,
        "path": sys.path,
        "reactor": type(reactor).__module__,
        "sockets": port.counts,
        "channel": FIRST_SOCKET_DESCRIPTOR + len(sockets),
    }
    inherited[told["channel"]] = channel
    if stdout is not None:
        told["stdout"] = told["channel"] + 1
        inherited[told["stdout"]] = stdout
    with open(os.devnull) as nothing, held():
        reactor.spawnProcess(
            process,
            sys.executable,
            [sys.executable, "-c", _BOOT, json.dumps(told)],
            env=environ,
            childFDs={0: nothing.fileno(), 1: output, 2: output, **inherited},
        )
