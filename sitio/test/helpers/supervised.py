"""
A supervisor whose workers are played by a test.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.logs import LogRecorder
from sitio.workers.channel import Channel, encodeMessage
from sitio.workers.process import WorkerProcess
from sitio.workers.supervisor import Supervisor


@define(eq=False)
class Child:
    """
    A worker process, played by the test.

    @ivar signals: the signals that it was sent.
    """

    process: WorkerProcess
    assignment: dict[str, Any]
    environ: dict[str, str]
    childFDs: dict[int, int]
    signals: list[str | int] = field(factory=list)
    adopted: list[StringTransport] = field(factory=list)
    pid: int = 4711

    def signalProcess(self, name: str | int) -> None:
        """See C{IProcessTransport}."""
        if self.process.exitReason:
            raise ProcessExitedAlready()
        self.signals.append(name)

    def sends(self, name: str, content: Any = None) -> None:
        """Send a message to the supervisor."""
        self.process.channel.dataReceived(encodeMessage(name, content))

    def received(self) -> list[Any]:
        """The messages of the supervisor since the last call, as pairs."""
        received: list[Any] = []
        reader = Channel(lambda name, content: received.append((name, content)), lambda: None)
        reader.makeConnection(StringTransport())
        reader.dataReceived(self.adopted[0].value())
        self.adopted[0].clear()
        return received

    def hangsUp(self) -> None:
        """Close its end of the channel."""
        self.process.channel.connectionLost()

    def exits(self, status: int | None = 0, number: int | None = None) -> None:
        """Exit."""
        self.process.processEnded(Failure(ProcessTerminated(status, number)))

    def ends(self, status: int | None = 0, number: int | None = None) -> None:
        """Exit and close the channel, as processes do."""
        self.exits(status, number)
        self.hangsUp()


class Machine(Clock):
    """
    A reactor that starts processes which the test plays.

    @ivar children: the processes, in the order of their start.
    @ivar error: raised when a process is started, if set.
    """

    def __init__(self) -> None:
        Clock.__init__(self)
        self.children: list[Child] = []
        self.error: OSError | None = None

    def spawnProcess(
        self, process: Any, executable: str, arguments: Any, env: Any, childFDs: Any
    ) -> None:
        """See C{IReactorProcess}."""
        if self.error is not None:
            raise self.error
        assert executable == arguments[0] == sys.executable
        child = Child(process, json.loads(arguments[-1]), env, childFDs)
        process.makeConnection(child)
        self.children.append(child)

    def adoptStreamConnection(self, fileno: int, family: Any, factory: Any) -> None:
        """See C{IReactorSocket}."""
        transport = StringTransport()
        factory.buildProtocol(None).makeConnection(transport)
        self.children[-1].adopted.append(transport)

    def callFromThread(self, function: Callable[[], object]) -> None:
        """See C{IReactorFromThreads}."""
        self.callLater(0, function)


class Port:
    """A port that closes when the test says so."""

    def __init__(self, count: int = 2) -> None:
        self.sockets: list[socket.socket] = []
        self.opened = 0
        self.closing: Deferred[None] | None = None
        self._count = count

    @property
    def counts(self) -> list[int]:
        return [len(self.sockets)]

    def open(self) -> None:
        self.opened += 1
        self.sockets = self.sockets or [socket.socket() for _ in range(self._count)]

    def close(self) -> Deferred[None]:
        for each in self.sockets:
            each.close()
        self.closing = Deferred()
        return self.closing


class WorkersTestCase(SynchronousTestCase):
    """A supervisor with two workers."""

    def setUp(self) -> None:
        self.machine = Machine()
        self.port = Port()
        self.addCleanup(self.port.close)
        self.onSignal: dict[int, Any] = {}
        self.recorder = LogRecorder()
        self.patch(Supervisor, "log", Logger("sitio", observer=self.recorder))

    def workers(self, count: int = 2, why: str | None = None, **arguments: Any) -> Supervisor:
        """A supervisor that was not started, with this number of workers."""
        arguments = {"grace": 30.0, "statsInterval": 2.0, "workerTimeout": 0, **arguments}
        return Supervisor(
            self.machine,
            count,
            cast(Any, self.port),
            lambda: {"arguments": ["--via"]},
            onSignal=self.onSignal.__setitem__,
            waitForFirst=lambda channel, output: why,
            **arguments,
        )

    def started(self, count: int = 2, **arguments: Any) -> Supervisor:
        """A supervisor whose workers are ready."""
        workers = self.workers(count, **arguments)
        workers.startService()
        for each in self.machine.children:
            each.sends("ready")
        return workers

    def lines(self) -> list[str]:
        """The log lines since the last call."""
        lines = [formatEvent(each) for each in self.recorder.events]
        self.recorder.events.clear()
        return lines
