"""
Tests of processes while somebody sets the time of day.

Each process has a C{time.time} that a test can step, before anything of Twisted is imported.
With libfaketime the step happens below Python, in the C library.
"""

from __future__ import annotations

import glob
import os
import re
import signal
import time
from pathlib import Path
from unittest import SkipTest

from twisted.internet.task import deferLater

from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    LoopbackTestCase,
    Process,
    Upstream,
    reactor,
)
from sitio.test.helpers.messages import OK

HOUR = 3600

#: What Python imports at its start, in the process and in its workers.
SITECUSTOMIZE = """\
import os, time
_now, _step = time.time, os.environ["STEP_FILE"]
def _stepped():
    try:
        with open(_step) as file:
            return _now() + float(file.read() or 0)
    except FileNotFoundError:
        return _now()
time.time = _stepped
"""

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"

#: Seconds of each timeout of these processes.
TIMEOUT = 1.0

OPTIONS = [f"--{each}-timeout={TIMEOUT:g}" for each in ("response", "head", "idle")]


class StepTestCase(LoopbackTestCase):
    """C{twistd sitio} on one reactor, beside a clock that is stepped."""

    #: The reactor, as C{twistd --reactor} names it.
    reactorName = "uv"
    workers = 1

    async def begin(self) -> tuple[Process, int, Upstream]:
        """Start sitio in front of an upstream that the test answers by hand."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.stepFile = folder / "step"
        upstream = Upstream()
        port = await self.listen(upstream)
        process = self.spawn(
            *TWISTD,
            "-n",
            "--pidfile=",
            f"--reactor={self.reactorName}",
            "sitio",
            *("--admin=", "--stats-interval=0.5", f"--workers={self.workers}", *OPTIONS),
            *("--port", f"tcp:0:interface={LOCALHOST}"),
            *("--upstream", f"tcp:{LOCALHOST}:{port}"),
            cwd=None,
            childFDs=None,
            **self.environ(folder),
        )
        ports = await process.out.waitUntil(
            lambda: (
                len(found := re.findall(LISTENING_LINE, process.out.data)) >= self.workers and found
            )
        )
        # The reactor runs, and has calls that wait, when the first exchange has ended.
        client = await self.connect(int(ports[0]), REQUEST)
        connection = await upstream.connection()
        await connection.got.expect(b"\r\n\r\n")
        connection.got.data = b""
        connection.send(OK)
        await client.got.expect(b"200 OK")
        return process, int(ports[0]), upstream

    def environ(self, folder: Path) -> dict[str, str]:
        """The environment in which a process has a clock that L{step} moves."""
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
        path = os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))
        house = str(Path(__file__).parents[3])
        return {"PYTHONPATH": os.pathsep.join((path, house)), "STEP_FILE": str(self.stepFile)}

    def step(self, seconds: int) -> None:
        """Set the time of day, for the process."""
        self.stepFile.write_text(str(seconds))

    async def check(self, seconds: int) -> None:
        """No wait becomes shorter or longer by a step of the time of day."""
        process, port, upstream = await self.begin()
        answered = await self.connect(port, REQUEST)
        # On the first connection, or on that of another worker.
        inFlight = await self.until(
            lambda: next((it for it in upstream.connections if it.got.data), None)
        )
        halfHead = await self.connect(port, REQUEST[:-2])
        idle = await self.connect(port)
        self.step(seconds)
        since = time.monotonic()
        # In flight at the step: it still has its second.
        await deferLater(reactor, TIMEOUT / 2, lambda: None)
        inFlight.send(OK)
        await answered.got.expect(b"200 OK")
        late = await self.connect(port, REQUEST)
        for client in (halfHead, idle):
            await client.got.waitForEnd()
            self.assertGreater(time.monotonic() - since, TIMEOUT / 2)
        self.assertRegex(halfHead.got.data, rb"\AHTTP/1.1 408 ")
        await late.got.expect(b"HTTP/1.1 504 ")
        waited = time.monotonic() - since
        self.assertGreater(waited, TIMEOUT)
        self.assertLess(waited, 5 * TIMEOUT)
        lines = process.out.data.count(b"stats: ")
        await self.connect(port, b"?\r\n\r\n")
        await process.out.waitUntil(lambda: process.out.data.count(b"stats: ") > lines)
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.finish(), -signal.SIGTERM)
        self.assertLess(time.monotonic() - since, 10 * TIMEOUT)

    async def test_forward(self) -> None:
        """An hour forward ends nothing that still has time."""
        await self.check(HOUR)

    async def test_back(self) -> None:
        """After an hour back, all that waits still ends: timeouts, the stats line, SIGTERM."""
        await self.check(-HOUR)


class UvTests(StepTestCase):
    """The reactor on uvloop."""


class EpollTests(StepTestCase):
    """Twisted's reactor on epoll."""

    reactorName = "epoll"


class AsyncioTests(StepTestCase):
    """Twisted's reactor on asyncio."""

    reactorName = "asyncio"


class WorkerTests(StepTestCase):
    """Several processes."""

    reactorName = "epoll"
    workers = 2


class FakeTimeTests(StepTestCase):
    """A step that the C library makes, where libfaketime is installed."""

    reactorName = "epoll"

    def environ(self, folder: Path) -> dict[str, str]:
        """The environment in which libfaketime moves the clock."""
        [library, *_] = [*glob.glob("/usr/lib/*/faketime/libfaketime.so.1"), ""]
        if not library:
            raise SkipTest("libfaketime is not installed")
        self.stepFile.write_text("+0")
        return {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self.stepFile),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: int) -> None:
        """Set the time of day, for the process."""
        self.stepFile.write_text(f"{seconds:+d}")


del StepTestCase
