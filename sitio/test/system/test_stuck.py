"""
Tests of C{twistd sitio --workers} while a worker is stuck: its policy loops, or somebody has
stopped the process.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import treq

from sitio.test.helpers.loopback import LIMIT_SECONDS, LOCALHOST, Upstream
from sitio.test.helpers.processes import WorkersTestCase

#: A policy that never returns, in one of several ways.  Each is a function that a stack names.
STUCK_POLICY = """\
import os, re, threading, time
from sitio import onRequest, onResponse

def loops():
    while True:
        pass

def sleeps():
    time.sleep(1000)

def locksTwice():
    lock = threading.Lock()
    with lock, lock:
        pass

def backtracks():
    # In C, with Python's global lock: no other thread runs, and no handler of a signal.
    re.match("(a+)+$", 40 * "a" + "b")

@onRequest
def stuck(exchange):
    function = globals().get(exchange.request.path[1:])
    if function is not None:
        print(f"process {os.getpid()} is stuck", flush=True)
        function()
"""

#: Seconds of C{--worker-timeout} in these tests.
TIMEOUT = 3.0


class StuckTests(WorkersTestCase):
    """A worker that is stuck."""

    async def begin(self, timeout: float = TIMEOUT, reactor: str = "uv") -> None:
        """Start two workers with an admin port."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "stuck.py").write_text(STUCK_POLICY)
        self.process, self.port = await self.startWorkers(
            f"--admin=tcp:0:interface={LOCALHOST}",
            f"--worker-timeout={timeout:g}",
            f"--policy=file:{folder}/stuck.py",
            twistd=(f"--reactor={reactor}",),
            upstream=f"tcp:{LOCALHOST}:{await self.listen(Upstream())}",
        )
        found = await self.process.out.expect(rb"pages are on (http://[0-9.]+:[0-9]+)/")
        self.url = found[1].decode()
        self.pids = self.workerPids(self.process.pid)

    async def stick(self, way: str) -> int:
        """Make the policy of one worker stuck in this way, and return its process id."""
        before = self.process.out.data.count(b" is stuck\n")
        await self.connect(self.port, f"GET /{way} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        found = await self.process.out.waitUntil(
            lambda: re.findall(rb"process ([0-9]+) is stuck\n", self.process.out.data)[before:]
        )
        return int(found[0])

    async def page(self, path: str) -> tuple[int, str]:
        """Get an admin page: status and text."""
        response = await treq.get(f"{self.url}{path}", persistent=False, timeout=LIMIT_SECONDS)
        return response.code, await response.text()

    async def check(self, stuck: int) -> None:
        """All is as it should be while this worker is stuck, and after it was replaced."""
        since = time.monotonic()
        await self.process.out.expect(rb"Worker [12] does not answer; others accept its clients")
        # Others accept, also those who came when the kernel gave them to the stuck worker.
        answers = {(await self.ask(self.port))[0] for _ in range(30)}
        self.assertEqual(answers, set(self.pids) - {stuck})
        status, text = await self.page("/ready")
        self.assertEqual(status, 503)
        self.assertRegex(text, r"\Asitio is waiting for the answer of worker [12]\n\Z")
        before = time.monotonic()
        for path in ("/stats.json", "/metrics", "/exchanges", "/policies", "/live"):
            self.assertEqual((await self.page(path))[0], 200, path)
        self.assertLess(time.monotonic() - before, 1 + TIMEOUT / 2)
        await self.process.out.expect(rb"Worker [12] has not answered for 3 s, and is ended")
        self.assertGreater(time.monotonic() - since, TIMEOUT / 2)
        await self.process.out.expect(rb"Worker [12] ended by SIGKILL; another takes its place")
        await self.waitUntilReady(self.process, 3)
        self.assertNotIn(stuck, self.workerPids(self.process.pid))
        self.assertEqual((await self.page("/ready"))[0], 200)
        answers = {(await self.ask(self.port))[0] for _ in range(60)}
        self.assertEqual(answers, set(self.workerPids(self.process.pid)))

    async def test_loops(self) -> None:
        """
        A worker whose policy loops: others accept its clients soon, /ready says so, pages do
        not wait for it, its stack is logged, and it is replaced.
        """
        await self.begin()
        await self.check(await self.stick("loops"))
        self.assertRegex(self.process.output(), r"(?s)is ended; its stacks follow.* in loops")
        self.assertRegex(self.process.output(), r'stuck\.py", line [0-9]+ in stuck')

    async def test_ways(self) -> None:
        """However a policy is stuck, the worker is replaced, and its stack says where it was."""
        await self.begin()
        for count, way in enumerate(("sleeps", "locksTwice", "backtracks"), 3):
            pid = await self.stick(way)
            await self.process.out.expect(rf"in {way}\n".encode())
            await self.waitUntilReady(self.process, count)
            self.assertNotIn(pid, self.workerPids(self.process.pid))

    async def test_stopped(self) -> None:
        """The same for a process that was stopped; there is no stack, and the log says why."""
        await self.begin()
        stuck = self.pids[0]
        os.kill(stuck, signal.SIGSTOP)
        await self.check(stuck)
        self.assertIn("is ended; it was stopped by a signal", self.process.output())

    async def test_epoll(self) -> None:
        """It is the same on Twisted's reactor."""
        await self.begin(reactor="epoll")
        await self.check(await self.stick("loops"))

    async def test_continued(self) -> None:
        """A process that goes on in time keeps its place."""
        await self.begin()
        os.kill(self.pids[0], signal.SIGSTOP)
        await self.process.out.expect(rb"Worker 1 does not answer")
        os.kill(self.pids[0], signal.SIGCONT)
        await self.process.out.expect(rb"Worker 1 answers again")
        self.assertEqual((await self.page("/ready"))[0], 200)
        answers = {(await self.ask(self.port))[0] for _ in range(60)}
        self.assertEqual(answers, set(self.pids))

    async def ends(self) -> float:
        """Send SIGTERM; returns how many seconds it took to end."""
        since = time.monotonic()
        self.process.signal(signal.SIGTERM)
        await self.process.finish()
        return time.monotonic() - since

    async def test_terminated(self) -> None:
        """SIGTERM is not held up: neither by a loop, nor by a process that was stopped."""
        for stop in (True, False):
            await self.begin()
            if stop:
                os.kill(self.pids[0], signal.SIGSTOP)
            else:
                await self.stick("loops")
            self.assertLess(await self.ends(), TIMEOUT + 2)

    async def test_terminatedByDefault(self) -> None:
        """With the default timeout it takes some seconds, whatever the grace is."""
        await self.begin(timeout=10)
        os.kill(self.pids[0], signal.SIGSTOP)
        self.assertLess(await self.ends(), 7)
