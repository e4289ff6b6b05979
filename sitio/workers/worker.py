"""
A worker process.

L{run} is where the process begins.  L{Worker} is its side of the worker channel.  The
other side is L{sitio.workers.supervisor}.

A worker parses the same options as the supervisor and makes the same sidecar of them, on
the sockets that it has inherited.  It stops when the supervisor says so, on SIGTERM, and
when the supervisor is gone; each time it finishes what is in flight.  Other signals:
L{sitio.net.signals}.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import islice
from time import time
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.logger import FileLogObserver, Logger, globalLogBeginner
from twisted.python.failure import Failure

from sitio.assembly import Options, assemble
from sitio.errors import inOneLine
from sitio.net.collector import Collector
from sitio.net.process import prepareReactor
from sitio.net.signals import prepareWorkerSignals
from sitio.net.titles import nameWorker
from sitio.net.turns import inTurns
from sitio.service import SidecarService
from sitio.wiring.fitting import fitDescriptors
from sitio.workers.channel import Channel, SingleProtocolFactory, encodeMessage, writeMessage
from sitio.workers.output import encodeEvent
from sitio.workers.process import ANSWER_SECONDS
from sitio.workers.sockets import InheritingReactor
from sitio.workers.spawning import FIRST_SOCKET_DESCRIPTOR

#: The longest reason, in characters, why a worker can't start: one sentence with a path.
MAX_REASON_LENGTH = 4096

_log = Logger(namespace="sitio")


class Worker:
    """
    A worker's side of the worker channel: does what the supervisor says.

    @ivar channel: the L{Channel}.
    """

    def __init__(
        self, reactor: Any, sidecar: SidecarService, ports: Sequence[InheritingReactor]
    ) -> None:
        """
        @param sidecar: the running sidecar.
        @param ports: the reactors that it listens with.
        """
        self.channel = Channel(self._messageReceived, self._channelClosed)
        self._reactor = reactor
        self._ports = ports
        self._sidecar = sidecar
        self._target: Any = None
        # One preparation at a time.
        self._turn = DeferredLock()
        self._wanted = 0
        self._stopping = False
        self._closed: Deferred[None] = Deferred()

    def begin(self) -> None:
        """Report that clients may come.  The sidecar stops when the reactor does."""
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        self.channel.send("ready")

    def _messageReceived(self, name: str, content: Any) -> None:
        if name == "ping":
            self.channel.send("pong")
        elif name == "snapshot":
            self._send(name, self._sidecar.snapshot())
        elif name == "exchanges":
            self._send(name, self._sidecar.exchanges())
        elif name == "drain":
            self._sidecar.drain()
        elif name == "prepare":
            self._wanted = content["number"]
            self._turn.run(self._prepare, content)
        elif name == "adopt":
            self._target.adopt()
            self._sidecar.configState.adopted(content, time())
        elif name == "discard":
            self._wanted = 0
            if self._target is not None:
                self._target.discard()
        elif name == "absent":
            self._acceptFor(content)
        elif name == "reopen":
            # This process handles the signal as twistd's single process would.
            signal.raise_signal(signal.SIGUSR1)
        elif name == "stop":
            self._stopReactor()
        elif name == "abort":
            self._stopReactor()
            self._sidecar.abort()

    def _prepare(self, content: dict[str, Any]) -> Deferred[None]:
        """Prepare another configuration, and tell the mistakes in it."""
        if self._target is None:
            assert self._sidecar.replaceable is not None
            self._target = self._sidecar.replaceable()
        preparing: Deferred[Any] = maybeDeferred(self._target.prepare, content["text"])
        preparing.addCallbacks(lambda _: [], _mistakesOf)
        return preparing.addCallback(self._prepared, content["number"])

    def _prepared(self, mistakes: list[Any], number: int) -> None:
        if number == self._wanted:
            self.channel.send("prepared", mistakes)
        elif not mistakes:
            # The supervisor waits no longer.
            self._target.discard()

    def _acceptFor(self, absent: list[int]) -> None:
        try:
            for each in self._ports:
                each.acceptFor([number - 1 for number in absent])
        except OSError:
            # There are no descriptors left.  Clients wait until the absent workers are back.
            _log.failure("A worker can't accept clients in place of others")

    def _channelClosed(self) -> None:
        self._closed.callback(None)
        self._stopReactor()

    def _stopReactor(self) -> None:
        if not self._stopping:
            self._reactor.stop()

    def _send(self, name: str, value: Deferred[Any]) -> Deferred[None]:
        """Send a message that may be long."""
        written = value.addCallback(lambda content: writeMessage(name, content))
        return written.addCallback(inTurns, self._reactor).addCallback(self.channel.write)

    def _stop(self) -> Deferred[Any]:
        """Before the reactor stops: drain, and send the last metrics."""
        self._stopping = True
        self.channel.send("stopping")
        stopped = maybeDeferred(self._sidecar.stopService)
        stopped.addErrback(lambda why: _log.failure("A worker did not stop as it should", why))
        sent = stopped.addBoth(lambda _: self._send("snapshot", self._sidecar.snapshot()))
        return sent.addBoth(lambda _: self._close())

    def _close(self) -> Deferred[None]:
        """Close the channel.  Fires when the supervisor has read it all, or is too slow."""
        self.channel.transport.loseConnection()
        self._closed.addTimeout(ANSWER_SECONDS, self._reactor)
        return self._closed.addErrback(lambda reason: None)


def _mistakesOf(why: Failure) -> list[Any]:
    """What is wrong with a configuration, as plain data: file, line, key and sentence of each."""
    found = getattr(why.value, "mistakes", None)
    if found is not None:
        return [(each.file, each.line, each.key, each.sentence) for each in found]
    _log.failure("A worker can't use a configuration", why)
    return [("", 0, "", inOneLine(cast(BaseException, why.value)))]


@contextmanager
def _workingDirectory(folder: str) -> Iterator[None]:
    """
    Change the working directory for a while, if the folder still exists.

    Options name files relative to where C{twistd} was started.  In the background
    C{twistd} has changed its working directory since.
    """
    if not os.path.exists(folder) or os.path.samefile(folder, os.curdir):
        yield
        return
    before = os.open(os.curdir, os.O_RDONLY)
    os.chdir(folder)
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def prepare(assignment: dict[str, Any], channel: socket.socket) -> Any:
    """
    Make the sidecar that the supervisor asks for, and start it.

    @param assignment: what the supervisor says, see
        L{Supervisor<sitio.workers.supervisor.Supervisor>}.
    @param channel: the socket to the supervisor; closed here.

    @return: the reactor, to be run.
    """
    nameWorker(assignment["number"], assignment["count"])
    import_module(assignment["reactor"]).install()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    prepareReactor(reactor)
    options = Options(text=assignment["text"])
    options["folder"] = assignment["folder"]
    with _workingDirectory(assignment["folder"]):
        options.parseOptions(assignment["arguments"])
    options["mark"] = assignment["mark"]
    # The supervisor logs the stats line.
    options["stats-interval"] = 0.0
    options["stdout"] = assignment.get("stdout", options["stdout"])
    fitDescriptors(reactor, options)  # The supervisor has said so.
    first = FIRST_SOCKET_DESCRIPTOR
    inherited = range(first, first + sum(assignment["sockets"]))
    sockets = [socket.socket(fileno=os.dup(each)) for each in inherited]
    left = iter(sockets)
    ports = [
        InheritingReactor(reactor, list(islice(left, count)), assignment["number"] - 1)
        for count in assignment["sockets"]
    ]
    sidecar = assemble(reactor, options, ports, assignment["demo"], assignment["generation"])
    sidecar.startService()
    _closeInherited(range(first, assignment["channel"]), sockets)
    worker = Worker(reactor, sidecar, ports)
    channel.setblocking(False)
    factory = SingleProtocolFactory(worker.channel)
    reactor.adoptStreamConnection(channel.fileno(), channel.family, factory)
    channel.close()
    worker.begin()
    reactor.callWhenRunning(Collector(reactor, sidecar.isBusy).start)
    return reactor


def _closeInherited(descriptors: Iterable[int], sockets: list[socket.socket]) -> None:
    """
    Close the inherited descriptors, and the copies of them: the sidecar has its own.

    A C{systemd:} endpoint has closed its descriptor already, and the number may belong
    to something else by now.  So only descriptors of these sockets are closed.
    """
    for each in descriptors:
        with suppress(OSError):
            if any(os.path.sameopenfile(each, copy.fileno()) for copy in sockets):
                os.close(each)
    for copy in sockets:
        copy.close()


def run() -> None:
    """Be a worker process, until its end.  C{sys.argv[1]} is the assignment as JSON."""
    assignment = json.loads(sys.argv[1])
    channel = socket.socket(fileno=assignment["channel"])
    prepareWorkerSignals()
    globalLogBeginner.beginLoggingTo([FileLogObserver(sys.stdout, encodeEvent)])
    try:
        reactor = prepare(assignment, channel)
    except (Exception, SystemExit) as error:
        why = str(error)
        if not isinstance(error, SystemExit):
            _log.failure("A worker can't start")
            why = f"a worker can't start: {inOneLine(error)}"
        with suppress(OSError):
            channel.sendall(encodeMessage("failed", why[:MAX_REASON_LENGTH]))
        raise SystemExit(1) from None
    reactor.run()
