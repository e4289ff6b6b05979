"""
Tests of signals: each signal, sent to a process of C{twistd sitio}, to a supervisor, and to
a worker.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from functools import partial
from pathlib import Path

from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    Client,
    Process,
    ServerConnection,
    Upstream,
)
from sitio.test.helpers.processes import HEAD, LOOPBACK, NOWHERE, REQUEST, WorkersTestCase

#: Signals that end nothing, and break off nothing.
HARMLESS = (
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGPIPE,
    signal.SIGCHLD,
    signal.SIGCONT,
)

#: Signals at which sitio finishes what is in flight, with the status at the end.
STOPPING = {
    signal.SIGTERM: -signal.SIGTERM,
    signal.SIGINT: -signal.SIGINT,
    signal.SIGQUIT: 0,
}

#: Signals that a worker leaves to its supervisor: a terminal sends them to both.
LEFT_TO_SUPERVISOR = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"

#: A policy during whose load its process gets SIGUSR1.
SIGNALLED_POLICY = """\
import os, signal
from sitio import onRequest

for _ in range(3):
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGUSR1)

@onRequest
def nothing(exchange):
    pass
"""


class SignalsTestCase(WorkersTestCase):
    """Processes with a request in flight."""

    async def startSlow(self, workers: int) -> tuple[Process, Client, ServerConnection]:
        """Start sitio, with a request that the upstream has half answered."""
        upstream = Upstream()
        address = f"tcp:{LOCALHOST}:{await self.listen(upstream)}"
        if workers:
            process, port = await self.startWorkers(upstream=address)
        else:
            process, port = await self.sitio(address)
        client = await self.connect(port, REQUEST)
        asked = await upstream.connection()
        await asked.got.expect(b"\r\n\r\n")
        asked.send(HEAD + b"01234")
        await client.got.expect(b"\r\n\r\n01234$")
        return process, client, asked

    async def finishes(self, client: Client, asked: ServerConnection) -> None:
        """The response that is in flight arrives whole."""
        asked.send(b"56789")
        await client.got.expect(b"\r\n\r\n0123456789$")

    async def harmless(self, process: Process, port: int, pid: int | None) -> None:
        """Send all that is harmless; the process and its workers go on."""
        before = self.workerPids(process.pid)
        for each in HARMLESS:
            os.kill(process.pid if pid is None else pid, each)
        await self.servesOn(process, port)
        self.assertEqual(self.workerPids(process.pid), before)

    async def servesOn(self, process: Process, port: int) -> None:
        """The process serves on."""
        client = await self.connect(port, LAST_REQUEST)
        await client.got.waitForEnd()
        self.assertIn(b"HTTP/1.1 502 ", client.got.data)
        self.assertIsNone(process.status)


class HarmlessTests(SignalsTestCase):
    """Signals that end nothing."""

    async def test_alone(self) -> None:
        """One process serves on after each of them, with and without an access log."""
        for more in ((), ("--access-log=json",)):
            process, port = await self.sitio(NOWHERE, *more)
            await self.harmless(process, port, None)
            await process.out.expect(rb"(?s)Current thread .* \(most recent call first\)")

    async def test_workers(self) -> None:
        """So do a supervisor, and its workers if they get the signal."""
        process, port = await self.startWorkers()
        await self.harmless(process, port, None)
        one, two = self.workerPids(process.pid)
        await self.harmless(process, port, one)
        for each in LEFT_TO_SUPERVISOR:
            os.kill(two, each)
        await self.harmless(process, port, two)

    async def test_inFlight(self) -> None:
        """They break off no response."""
        for workers in (0, 2):
            process, client, asked = await self.startSlow(workers)
            for pid in (process.pid, *self.workerPids(process.pid)):
                for each in HARMLESS:
                    os.kill(pid, each)
            await process.out.expect(rb"most recent call first")
            await self.finishes(client, asked)

    async def test_early(self) -> None:
        """HUP and USR1 end no process that still loads its policies."""
        policy = self.folder() / "signalled.py"
        policy.write_text(SIGNALLED_POLICY)
        for workers in ("--workers=1", "--workers=2"):
            process, port = await self.sitio(NOWHERE, f"--policy=file:{policy}", workers)
            await self.servesOn(process, port)

    async def test_newWorkers(self) -> None:
        """A worker that was started a moment ago is ended by none of them."""
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "sitio", "--admin=", "--workers=2"),
            *("--port", LOOPBACK, "--upstream", NOWHERE),
        )
        seen: set[int] = set()

        def signalled() -> bool:
            with contextlib.suppress(FileNotFoundError):
                for pid in set(self.workerPids(process.pid)) - seen:
                    # The child is still the copy of its parent if this comes before its exec.
                    seen.add(pid)
                    for each in (*HARMLESS, *LEFT_TO_SUPERVISOR):
                        os.kill(pid, each)
            return len(seen) == 2

        await self.until(signalled)
        port = await self.waitUntilReady(process)
        await self.servesOn(process, port)
        self.assertEqual(set(self.workerPids(process.pid)), seen)
        self.assertNotIn("another takes its place", process.output())

    async def test_nohup(self) -> None:
        """HUP is still ignored if it was ignored at the start."""
        for workers in ("--workers=1", "--workers=2"):
            process = self.spawn(
                *("/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh"),
                *(*TWISTD, "-n", "--pidfile=", "sitio", "--admin=", workers),
                *("--port", LOOPBACK, "--upstream", NOWHERE),
            )
            port = int((await process.out.expect(LISTENING_LINE))[1])
            for pid in (process.pid, *self.workerPids(process.pid)):
                os.kill(pid, signal.SIGHUP)
            await self.servesOn(process, port)
            process.signal(signal.SIGTERM)
            await process.finish()


class StoppingTests(SignalsTestCase):
    """Signals at which sitio drains."""

    async def drains(self, workers: int, number: signal.Signals, group: bool = False) -> None:
        """The response in flight arrives whole, then the process ends, with its status."""
        process, client, asked = await self.startSlow(workers)
        everyone = [process.pid, *(self.workerPids(process.pid) if group else [])]
        for pid in everyone:
            os.kill(pid, number)
        await process.out.expect(rb"(Received|got) %s" % number.name.encode())
        await process.out.expect(rb"TCP Port [0-9]+ Closed")
        # Once more: it makes no difference.
        if number is signal.SIGQUIT:
            os.kill(process.pid, number)
        await self.finishes(client, asked)
        await client.got.waitForEnd()
        self.assertTrue(client.clean)
        self.assertEqual(await process.finish(), STOPPING[number])
        self.assertNotIn("Traceback", process.output())

    async def test_alone(self) -> None:
        """One process."""
        for each in STOPPING:
            await self.drains(0, each)

    async def test_workers(self) -> None:
        """A supervisor."""
        for each in STOPPING:
            await self.drains(2, each)

    async def test_terminal(self) -> None:
        """A supervisor and its workers at once, as a terminal does."""
        for each in set(LEFT_TO_SUPERVISOR) & STOPPING.keys():
            await self.drains(2, each, group=True)


class LogFileTests(SignalsTestCase):
    """USR1 and the log of C{twistd}."""

    async def startLogging(self, *arguments: str) -> tuple[Process, Path, int]:
        """Start sitio with a log file; returns it and the port."""
        log = self.folder() / "twistd.log"
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", f"--logfile={log}", "sitio", "--admin="),
            *("--port", LOOPBACK, "--upstream", NOWHERE, *arguments),
        )
        found = await self.until(
            lambda: log.exists() and re.search(LISTENING_LINE, log.read_bytes())
        )
        return process, log, int(found[1])

    async def test_renamed(self) -> None:
        """A log that was renamed, as by logrotate, is opened anew and not rotated once more."""
        for more in ("--workers=1", "--workers=2"):
            for creates in (False, True):
                process, log, port = await self.startLogging(more)
                old = log.rename(log.with_suffix(".old"))
                if creates:
                    log.touch()
                process.signal(signal.SIGUSR1)
                await self.servesOn(process, port)
                await self.until(partial(self.holds, log, "stats: 1 hit"))
                self.assertFalse(self.holds(old, "stats: 1 hit"))
                self.assertEqual(sorted(log.parent.glob("twistd.*")), [log, old])
                process.signal(signal.SIGTERM)
                await process.finish()

    def holds(self, log: Path, text: str) -> bool:
        """Whether this is in a file."""
        return log.exists() and text in log.read_text()

    async def test_rotated(self) -> None:
        """One that was not is rotated, as C{twistd} does."""
        process, log, _ = await self.startLogging()
        process.signal(signal.SIGUSR1)
        await self.until(log.with_suffix(".log.1").exists)
        self.assertIsNone(process.status)
