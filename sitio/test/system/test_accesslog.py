"""
Tests of C{twistd sitio --access-log}, alone and with workers.
"""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from twisted.internet.task import deferLater

from sitio.telemetry.accesslog import (
    INTERVAL_SECONDS,
)
from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    LoopbackTestCase,
    Upstream,
    reactor,
)
from sitio.test.helpers.processes import LOOPBACK, NOWHERE, WorkersTestCase, answerEach


class ProcessTests(LoopbackTestCase):
    """The access log of one process."""

    def folder(self) -> Path:
        """Make a directory."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return folder

    async def ask(self, port: int, path: str) -> None:
        """Request a path, and wait for the response."""
        request = f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        client = await self.connect(port, request.encode())
        await client.got.waitForEnd()

    async def test_stdout(self) -> None:
        """JSON lines go to standard output, between the lines of the log, up to the last one."""
        upstream = await self.listen(Upstream(answerEach))
        process, port = await self.sitio(upstream, "--access-log=json")
        await self.ask(port, "/one?secret")
        await process.out.expect(rb'\n\{.*"path":"/one".*\}\n')
        self.assertNotIn("secret", process.output())
        await self.ask(port, "/two")
        process.signal(signal.SIGTERM)
        await process.finish()
        lines = [json.loads(each) for each in process.output().splitlines() if each[0] == "{"]
        self.assertEqual([each["path"] for each in lines], ["/one", "/two"])

    async def test_renamed(self) -> None:
        """After SIGUSR1 the renamed file gets no more lines, and sitio keeps running."""
        upstream = await self.listen(Upstream(answerEach))
        file = self.folder() / "access.log"
        process, port = await self.sitio(upstream, f"--access-log=common:{file}")
        await self.ask(port, "/one")
        await self.until(lambda: "/one" in file.read_text())
        old = file.rename(file.with_suffix(".1"))
        process.signal(signal.SIGUSR1)
        await self.until(file.exists)
        await self.ask(port, "/two")
        await self.until(lambda: "/two" in file.read_text())
        self.assertEqual(len(old.read_text().splitlines()), 1)
        self.assertIsNone(process.status)

    async def test_twistdLog(self) -> None:
        """SIGUSR1 still rotates twistd's own log."""
        folder = self.folder()
        arguments = ["--port", LOOPBACK, "--upstream", NOWHERE, "--access-log=json:access.log"]
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "--logfile=twistd.log", "sitio", *arguments),
            cwd=str(folder),
        )
        log = folder / "twistd.log"
        await self.until(lambda: log.exists() and re.search(LISTENING_LINE, log.read_bytes()))
        await self.until(lambda: (folder / "access.log").exists())
        process.signal(signal.SIGUSR1)
        await self.until(lambda: (folder / "twistd.log.1").exists())
        self.assertIsNone(process.status)

    async def test_nobodyReads(self) -> None:
        """If its standard output is not read, sitio serves on, and stops at a signal."""
        upstream = await self.listen(Upstream(answerEach))
        unread, ours = os.pipe()
        self.addCleanup(os.close, unread)
        log = self.folder() / "twistd.log"
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", f"--logfile={log}", "sitio"),
            *("--port", LOOPBACK, "--upstream", f"tcp:{LOCALHOST}:{upstream}"),
            "--access-log=json",
            childFDs={0: 0, 1: ours, 2: ours},
        )
        os.close(ours)
        found = await self.until(
            lambda: log.exists() and re.search(LISTENING_LINE, log.read_bytes())
        )
        port = int(found[1])
        for _ in range(100):
            await self.ask(port, "/" + 2000 * "x")
        # A pipe holds 64 KiB: the thread blocks in the middle of these lines.
        await deferLater(reactor, 3 * INTERVAL_SECONDS, lambda: None)
        process.signal(signal.SIGTERM)
        self.assertIn(await process.finish(), (0, -signal.SIGTERM))

    async def test_background(self) -> None:
        """A background process has no standard output: an error message says so."""
        arguments = ["--port", LOOPBACK, "--upstream", NOWHERE, "--access-log=json"]
        process = self.spawn(*TWISTD, "sitio", *arguments, cwd=str(self.folder()))
        self.assertEqual(await process.finish(), 1)
        self.assertIn("sitio: --access-log json needs twistd -n", process.output())

    async def test_noDirectory(self) -> None:
        """A log file in a missing directory ends the start with an error message."""
        path = self.folder() / "no" / "access.log"
        process = self.twistd(
            "--port", LOOPBACK, "--upstream", NOWHERE, f"--access-log=json:{path}"
        )
        self.assertEqual(await process.finish(), 1)
        self.assertIn(
            f"sitio: --access-log can't write to {path}: No such file or directory",
            process.output(),
        )


class WorkersTests(WorkersTestCase):
    """The access log of several workers."""

    async def test_file(self) -> None:
        """
        All workers write whole lines into one file, one for each exchange, with different ids.
        All reopen the file after a signal to the supervisor.
        """
        file = self.folder() / "access.log"
        process, port = await self.startWorkers(f"--access-log=json:{file}")
        pids = {pid for pid, _ in [await self.ask(port) for _ in range(40)]}
        self.assertEqual(len(pids), 2)
        await self.until(lambda: file.read_text().count("\n") == 40)
        lines = [json.loads(each) for each in file.read_text().splitlines()]
        self.assertEqual({each["answeredBy"] for each in lines}, {"policy who"})
        self.assertEqual(len({each["id"] for each in lines}), 40)
        old = file.rename(file.with_suffix(".1"))
        process.signal(signal.SIGUSR1)
        await self.until(file.exists)
        for _ in range(40):
            await self.ask(port)
        await self.until(lambda: file.exists() and file.read_text().count("\n") == 40)
        self.assertEqual(old.read_text().count("\n"), 40)
        self.assertEqual(set(self.workerPids(process.pid)), pids)

    async def test_stdout(self) -> None:
        """The lines of all workers go unchanged to the supervisor's standard output."""
        process, port = await self.startWorkers("--access-log=common")
        for _ in range(10):
            await self.ask(port)
        lines = await process.out.waitUntil(
            lambda: (
                len(
                    found := re.findall(
                        rb'(?m)^\S+ - - .* "GET /who HTTP/1.1" 200 .*$', process.out.data
                    )
                )
                == 10
                and found
            )
        )
        self.assertEqual(len(lines), 10)


class StartTests(WorkersTestCase):
    """What the log says at the start, and of a failure."""

    async def test_lines(self) -> None:
        """
        One line says what runs, with workers too.  The line about a failure has the id of the
        access log.  No factory says that it starts.
        """
        for workers in ("--workers=1", "--workers=2"):
            process, port = await self.sitio(
                NOWHERE, "--access-log=json", "--policy=headers:set Authorization s3cr3t", workers
            )
            fields = b"Host: here\r\nUser-Agent: me\r\nConnection: close\r\n\r\n"
            client = await self.connect(port, b"GET /one?s3cr3t HTTP/1.1\r\n" + fields)
            await client.got.waitForEnd()
            entry = json.loads((await process.out.expect(rb'\n(\{.*"path":"/one".*\})\n'))[1])
            self.assertEqual(entry["userAgent"], "me")
            failed = await process.out.expect(
                rb"An exchange failed: GET /one \(id (\S+)\), upstream 127\.0\.0\.1:1: "
            )
            self.assertEqual(failed[1].decode(), entry["id"])
            process.signal(signal.SIGTERM)
            await process.finish()
            starts = re.findall(
                rf"sitio \S+ starts: port {LOOPBACK}, admin port none, upstream {NOWHERE},"
                r" policies headers\n",
                process.output(),
            )
            self.assertEqual(len(starts), 1)
            for word in ("s3cr3t", "Starting factory", "Stopping factory"):
                self.assertNotIn(word, process.output())
