"""
Processes, clients and services for tests over loopback.

Each wait ends with an event, or fails after L{LIMIT_SECONDS}.  The kernel picks each port.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone, ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

import sitio
from sitio.config.options import FLEET_VARIABLES
from sitio.net.portreactor import BACKLOG

#: The installed reactor; L{Any}, as tests use all its interfaces.
reactor: Any = _reactor

#: Seconds for each wait: much more than it takes, also on a slow machine.
LIMIT_SECONDS = 30.0

#: Seconds between two looks at something that sends no event.
POLL_SECONDS = 0.02

LOCALHOST = "127.0.0.1"

#: The log line of a sitio that listens; the group is the port.
LISTENING_LINE = rb"takes requests on 127\.0\.0\.1:([0-9]+)"

#: Environment variables that no process of a test inherits: the variables that sitio reads,
#: and coverage's variable, as coverage would distort tests of time and memory.
NOT_INHERITED = frozenset(("PORT", "TARGET_PORT", *FLEET_VARIABLES, "COVERAGE_PROCESS_START"))

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


class Received:
    """
    Collects bytes, and lets tests wait for some of them.

    @ivar data: all bytes that were received.
    @ivar ended: whether no more will come.
    """

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self._waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def add(self, data: bytes) -> None:
        """Add bytes that were received."""
        self.data += data
        self._look()

    def end(self) -> None:
        """End; all who still wait fail."""
        self.ended = True
        self._look()
        waiting, self._waiting = self._waiting, []
        for _, each in waiting:
            each.errback(AssertionError(f"it ended without that: {self.data[-2000:]!r}"))

    def waitUntil(self, true: Callable[[], Any]) -> Deferred[Any]:
        """
        Wait until this function returns something true.

        @return: a Deferred that fires with what it returned.  It fails after
            L{LIMIT_SECONDS}, and when no more bytes will come.
        """
        done: Deferred[Any] = Deferred()
        entry = (true, done)
        self._waiting.append(entry)

        def late(result: object, timeout: float) -> None:
            self._waiting = [each for each in self._waiting if each is not entry]
            raise AssertionError(f"not in {timeout:g} seconds; there is {self.data[-2000:]!r}")

        done.addTimeout(LIMIT_SECONDS, reactor, late)
        self._look()
        return done

    def expect(self, pattern: bytes) -> Deferred[re.Match[bytes]]:
        """Wait until the bytes match a pattern.  The Deferred fires with the first match."""
        return self.waitUntil(lambda: re.search(pattern, self.data))

    def waitForEnd(self) -> Deferred[Any]:
        """Wait for the end of the bytes."""
        return self.waitUntil(lambda: self.ended)

    def _look(self) -> None:
        for entry in list(self._waiting):
            true, done = entry
            found = true()
            if found and entry in self._waiting:
                self._waiting.remove(entry)
                done.callback(found)


class Process(ProcessProtocol):
    """
    A process that a test has started.

    @ivar out: its output, with standard error.
    @ivar status: its exit status, or the negative number of the signal that
        ended it; L{None} while it runs.
    """

    transport: Any

    def __init__(self) -> None:
        self.out = Received()
        self.status: int | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        pid: int = self.transport.pid
        return pid

    def outReceived(self, data: bytes) -> None:
        self.out.add(data)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        why: Any = reason.value
        self.status = 0 if isinstance(why, ProcessDone) else why.exitCode
        if self.status is None:
            self.status = -why.signal
        self.out.end()

    def signal(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)

    async def finish(self) -> int:
        """Wait for the end of the process, and return its status."""
        await self.out.waitForEnd()
        assert self.status is not None
        return self.status

    def output(self) -> str:
        """All output so far, as text."""
        return self.out.data.decode("utf-8", "replace")

    def descriptors(self) -> list[str]:
        """The targets of its open file descriptors."""
        return descriptorsOf(self.pid)


def peakMemoryOf(pid: int) -> int:
    """The peak of a process's resident memory in bytes, since L{resetPeakMemory}."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+([0-9]+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def resetPeakMemory(pid: int) -> None:
    """Reset the peak of a process's memory to what it uses now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def descriptorsOf(pid: int | str) -> list[str]:
    """The targets of a process's open file descriptors."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        # One of them belongs to this listing.
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(each))
    return sorted(found)


class Client(Protocol):
    """
    A client that sends and receives raw bytes.

    @ivar got: the bytes that it has received.
    @ivar clean: whether the connection was closed in good order.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = Received()
        self.clean = False

    def dataReceived(self, data: bytes) -> None:
        self.got.add(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.clean = reason.check(ConnectionDone) is not None
        self.got.end()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)


class ServerConnection(Protocol):
    """
    A connection of a service, which a test answers by hand.

    @ivar got: the bytes that it has received.
    """

    transport: Any

    def __init__(self, begin: Callable[[ServerConnection], None] | None) -> None:
        self.got = Received()
        self._begin = begin

    def connectionMade(self) -> None:
        if self._begin is not None:
            self._begin(self)

    def dataReceived(self, data: bytes) -> None:
        self.got.add(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.got.end()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)


class Upstream(Factory):
    """
    A service whose connections a test answers by hand.

    @ivar connections: all connections, in order.
    @ivar begin: called with each new connection.
    """

    noisy = False

    def __init__(self, begin: Callable[[ServerConnection], None] | None = None) -> None:
        self.connections: list[ServerConnection] = []
        self.arrivals = Received()
        self.begin = begin

    def buildProtocol(self, addr: Any) -> ServerConnection:
        script = ServerConnection(self.begin)
        self.connections.append(script)
        reactor.callLater(0, self.arrivals.add, b"+")
        return script

    async def connection(self, number: int = 0) -> ServerConnection:
        """Wait for the connection with this number, from 0."""
        await self.arrivals.waitUntil(lambda: len(self.arrivals.data) > number)
        return self.connections[number]

    async def close(self) -> None:
        """Close all connections that are still open, and wait for their ends."""
        for each in self.connections:
            if each.transport is not None:
                each.transport.abortConnection()
                await each.got.waitForEnd()


class LoopbackTestCase(TestCase):
    """A test with sockets and processes.  All are gone when it ends."""

    timeout = 4 * LIMIT_SECONDS

    def shortFolder(self) -> Path:
        """Make an empty folder with a short name: the path of a UNIX socket has 107 bytes."""
        path = tempfile.mkdtemp(prefix="sitio-")
        self.addCleanup(shutil.rmtree, path)
        return Path(path)

    def spawn(
        self,
        *command: str,
        cwd: str | None = None,
        childFDs: dict[int, int | str] | None = None,
        **environ: str,
    ) -> Process:
        """Start a process.  It is killed at the end of the test, if it still runs."""
        process = Process()
        house = str(Path(sitio.__file__).parent.parent)
        env = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (house, env.get("PYTHONPATH"))))
        env["PYTHONUNBUFFERED"] = "1"
        env.update(environ)
        reactor.spawnProcess(process, command[0], command, env=env, path=cwd, childFDs=childFDs)
        self.addCleanup(self._reap, process)
        return process

    async def _reap(self, process: Process) -> None:
        process.signal(signal.SIGKILL)
        await process.finish()

    def twistd(self, *arguments: str, cwd: str | None = None) -> Process:
        """Start C{twistd -n sitio} with these arguments, and without an admin port."""
        return self.spawn(*TWISTD, "-n", "--pidfile=", "sitio", "--admin=", *arguments, cwd=cwd)

    async def sitio(self, upstream: int | str, *arguments: str) -> tuple[Process, int]:
        """
        Start sitio in front of a port or an endpoint.

        @return: the process, and its port.
        """
        if isinstance(upstream, int):
            upstream = f"tcp:{LOCALHOST}:{upstream}"
        process = self.twistd(
            "--port", f"tcp:0:interface={LOCALHOST}", "--upstream", upstream, *arguments
        )
        return process, int((await process.out.expect(LISTENING_LINE))[1])

    async def listen(self, factory: Any, port: int = 0) -> int:
        """
        Listen on loopback until the end of the test.

        @return: the port.
        """
        endpoint = TCP4ServerEndpoint(reactor, port, BACKLOG, LOCALHOST)
        listening: IListeningPort = await endpoint.listen(factory)
        self.addCleanup(listening.stopListening)
        if isinstance(factory, Upstream):
            self.addCleanup(factory.close)
        address = listening.getHost()
        assert isinstance(address, IPv4Address)
        return address.port

    async def connect(self, port: int, data: bytes = b"") -> Client:
        """Connect a client to a port, and send bytes."""
        endpoint = TCP4ClientEndpoint(reactor, LOCALHOST, port)
        client: Client = await endpoint.connect(Factory.forProtocol(Client))  # type: ignore
        self.addCleanup(self._close, client)
        client.send(data)
        return client

    async def _close(self, client: Client) -> None:
        client.transport.abortConnection()
        await client.got.waitForEnd()

    async def until(self, true: Callable[[], Any]) -> Any:
        """Poll until this function returns something true, and return that."""
        deadline = reactor.seconds() + LIMIT_SECONDS
        while not (found := true()):
            self.assertLess(reactor.seconds(), deadline, "it did not become true in time")
            await deferLater(reactor, POLL_SECONDS, lambda: None)
        return found
