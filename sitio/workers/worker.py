"""
Several processes behind one port: what happens in each of them.

L{work} is where such a process begins, L{Worker} what it does beside its work.
The parent's part is L{sitio.workers.supervisor}.

A worker reads the same options as its parent and makes the same sidecar of them,
on the socket that it has inherited.  It obeys its parent, and SIGTERM; SIGINT it
leaves to its parent, as a terminal sends that to both.  When its parent has gone,
it finishes what is in flight and goes too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import FileLogObserver, Logger, globalLogBeginner

from sitio.assembly import Options, assemble
from sitio.net.process import tuneGarbageCollector
from sitio.service import SidecarService
from sitio.workers.channel import ANSWER, Adopted, Channel, asRecord, framed
from sitio.workers.sockets import Inheriting
from sitio.workers.supervisor import PORT_DESCRIPTOR

#: Characters of the reason why a worker can't start: a sentence, with a path in it.
MAX_REASON = 4096

_log = Logger(namespace="sitio")


class Worker:
    """
    A worker's end of the talk with its parent.
    """

    def __init__(self, reactor: Any, sidecar: SidecarService, ports: Inheriting) -> None:
        self.talk = Channel(self._heard, self._left)
        self._reactor = reactor
        self._ports = ports
        self._sidecar = sidecar
        self._stopping = False
        self._gone: Deferred[None] = Deferred()

    def begin(self) -> None:
        """Tell the parent that clients may come, and see to the end."""
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        self.talk.tell("ready")

    def _heard(self, word: str, content: Any) -> None:
        if word == "snapshot":
            self._tell()
        elif word == "exchanges":
            self._sidecar.exchanges().addCallback(lambda told: self.talk.tell("exchanges", told))
        elif word == "drain":
            self._sidecar.drain()
        elif word == "absent":
            self._standIn(content)
        elif word == "reopen":
            # As if the signal had come here: whoever has files knows what to do.
            signal.raise_signal(signal.SIGUSR1)
        elif word == "stop":
            self._beStopped()
        elif word == "end":
            self._beStopped()
            self._sidecar.abort()

    def _standIn(self, absent: list[int]) -> None:
        try:
            self._ports.listenFor(number - 1 for number in absent)
        except OSError:
            # No descriptors left: clients wait until the absent are back.
            _log.failure("A worker can't accept clients in place of others")

    def _left(self) -> None:
        self._gone.callback(None)
        self._beStopped()

    def _beStopped(self) -> None:
        if not self._stopping:
            self._reactor.stop()

    def _tell(self) -> Deferred[None]:
        return self._sidecar.snapshot().addCallback(lambda told: self.talk.tell("snapshot", told))

    def _stop(self) -> Deferred[Any]:
        self._stopping = True
        self.talk.tell("leaving")
        stopped = maybeDeferred(self._sidecar.stopService)
        stopped.addErrback(lambda why: _log.failure("A worker did not stop as it should", why))
        return stopped.addBoth(lambda _: self._tell()).addBoth(lambda _: self._leave())

    def _leave(self) -> Deferred[None]:
        """Go, once the parent has the last metrics; or without it, if it takes its time."""
        self.talk.transport.loseConnection()
        self._gone.addTimeout(ANSWER, self._reactor)
        return self._gone.addErrback(lambda reason: None)


@contextmanager
def _within(folder: str) -> Iterator[None]:
    """
    Be in this folder for a while, if it is another and still there: files are named
    from where C{twistd} was started, and it has found them before it went away.
    """
    if not os.path.exists(folder) or os.path.samefile(folder, os.curdir):
        yield
        return
    home = os.open(os.curdir, os.O_RDONLY)
    os.chdir(folder)
    yield
    os.fchdir(home)
    os.close(home)


def prepare(duty: dict[str, Any], talk: socket.socket) -> Any:
    """
    Make the sidecar that the parent asks for, and have it listen; the reactor to run.
    """
    import_module(duty["reactor"]).install()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    options = Options()
    with _within(duty["folder"]):
        options.parseOptions(duty["arguments"])
    options["upstream"] = duty["upstream"] or options["upstream"]
    options["stats-interval"] = 0.0
    options["stdout"] = duty.get("stdout", options["stdout"])
    first, talking = PORT_DESCRIPTOR, duty["talk"]
    sockets = [socket.socket(fileno=os.dup(first + each)) for each in range(duty["sockets"])]
    ports = Inheriting(reactor, sockets, duty["number"] - 1)
    sidecar = assemble(reactor, options, ports)
    sidecar.startService()
    for each in range(first, talking):
        # The endpoint systemd: has closed one, which may be something else by now.
        with suppress(OSError):
            if any(os.path.sameopenfile(each, twin.fileno()) for twin in sockets):
                os.close(each)
    for twin in sockets:
        twin.close()
    worker = Worker(reactor, sidecar, ports)
    talk.setblocking(False)
    reactor.adoptStreamConnection(talk.fileno(), talk.family, Adopted(worker.talk))
    talk.close()
    worker.begin()
    reactor.callWhenRunning(tuneGarbageCollector)
    return reactor


def work() -> None:
    """Be a worker, until the end of this process."""
    duty = json.loads(sys.argv[1])
    talk = socket.socket(fileno=duty["talk"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    globalLogBeginner.beginLoggingTo([FileLogObserver(sys.stdout, asRecord)])
    try:
        reactor = prepare(duty, talk)
    except (Exception, SystemExit) as error:
        why = str(error)
        if not isinstance(error, SystemExit):
            _log.failure("A worker can't start")
            why = f"a worker can't start: {type(error).__name__}: {error}"
        with suppress(OSError):
            talk.sendall(framed("failed", why[:MAX_REASON]))
        raise SystemExit(1) from None
    reactor.run()
