"""
Tests of C{twistd sitio} as a process: how it starts, fails to start, runs in the
background, and ends.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory

from sitio import __version__
from sitio.net.collector import NEW_OBJECTS
from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    Client,
    LoopbackTestCase,
    Process,
    Upstream,
    reactor,
)
from sitio.test.helpers.processes import HEAD, LOOPBACK, NOWHERE, REQUEST, answerAll, kill


class FailedStartTests(LoopbackTestCase):
    """An error at the start is one sentence, and ends sitio."""

    async def refused(self, *arguments: str) -> str:
        """The message of a sitio that can't start."""
        process = self.twistd("--upstream", NOWHERE, *arguments, cwd=self.directory())
        self.assertEqual(await process.finish(), 1, process.output())
        return self.sentence(process)

    def directory(self) -> str:
        """Make an empty directory."""
        path = self.mktemp()
        os.makedirs(path)
        return path

    def sentence(self, process: Process) -> str:
        """The only line of output besides those of twistd's start."""
        said = process.output()
        self.assertNotIn("Traceback", said)
        lines = [line for line in said.splitlines() if "UnixAppLogger#info" not in line]
        self.assertEqual(len(lines), 1, said)
        return lines[0]

    async def test_portInUse(self) -> None:
        """The message names a port that is in use."""
        port = await self.listen(Upstream())
        said = await self.refused("--port", f"tcp:{port}:interface={LOCALHOST}")
        self.assertIn(f"sitio: can't listen on port {port}: Address already in use", said)

    async def test_malformedDescription(self) -> None:
        """The message shows an invalid endpoint description."""
        self.assertEqual(
            await self.refused("--port", "nope:x"),
            "sitio: --port 'nope:***' can't be used (Unknown endpoint type: 'nope');"
            " use for example 8080 or tcp:8080",
        )

    async def test_unknownPolicy(self) -> None:
        """The message names an unknown policy, and lists all known policies."""
        said = await self.refused("--policy", "nope")
        self.assertIn("sitio: --policy there is no policy 'nope'; the known ones are file, ", said)
        self.assertIn("error-page", said)

    async def test_policyFile(self) -> None:
        """The message has the line of an error in a policy file."""
        path = Path(self.mktemp() + ".py").absolute()
        path.write_text("from sitio import onResponse\n\n1 / 0\n")
        self.assertEqual(
            await self.refused("--policy", f"file:{path}"),
            f"sitio: --policy {path}:3 can't be loaded: ZeroDivisionError: division by zero",
        )

    async def test_limit(self) -> None:
        """The message names a limit that is not a number."""
        said = await self.refused("--pool-size", "many")
        self.assertIn("sitio: --pool-size is 'many'; it must be a whole number", said)

    async def test_inBackground(self) -> None:
        """In the background, the starting process prints the sentence of the foreground alone."""
        port = await self.listen(Upstream())
        taken = f"tcp:{port}:interface={LOCALHOST}"
        for arguments, sentence in (
            (["--port", taken], f"sitio: can't listen on port {port}: Address already in use"),
            (["--port", taken, "--workers=2"], f"sitio: can't listen on port {port}: Address al"),
            (
                ["--port", LOOPBACK, "--admin", taken],
                f"sitio: --admin: can't listen on port {port}",
            ),
            (
                ["--port", LOOPBACK, "--workers=2", "--access-log=json:/nonexistent/log"],
                "sitio: --access-log can't write to /nonexistent/log: No such file or directory",
            ),
            (["--port", "nope:x"], "sitio: --port 'nope:***' can't be used"),
            (["--nope"], "sitio: option --nope not recognized"),
        ):
            with self.subTest(arguments=arguments):
                cwd = self.directory()
                arguments = [*TWISTD, "sitio", "--admin=", "--upstream", NOWHERE, *arguments]
                process = self.spawn(*arguments, cwd=cwd)
                self.assertEqual(await process.finish(), 1)
                [line] = process.output().splitlines()
                self.assertTrue(line.startswith(sentence), line)
                await self.checkLog(Path(cwd), line)

    async def checkLog(self, cwd: Path, line: str) -> None:
        """
        Wait for the end of the background process, if there is one.  Its log has this line
        once.
        """
        await self.until(lambda: not (cwd / "twistd.pid").exists())
        log = cwd / "twistd.log"
        if log.exists():
            await self.until(lambda: line in log.read_text())
            self.assertEqual(log.read_text().count(line), 1)
            self.assertNotIn("Traceback", log.read_text())


class RunTests(LoopbackTestCase):
    """sitio in the foreground and in the background."""

    async def test_quiet(self) -> None:
        """In the foreground, sitio logs its address and what it runs, and nothing else."""
        upstream = Upstream(answerAll)
        process, port = await self.sitio(await self.listen(upstream), "--stats-interval=0")
        client = await self.connect(port, REQUEST)
        await client.got.expect(b"\r\n\r\n0123456789$")
        lines = [line for line in process.output().splitlines() if "UnixAppLogger#info" not in line]
        # Twisted's own line comes first.
        self.assertEqual(len(lines), 3, process.output())
        self.assertIn(f"sitio starting on {port}", lines[0])
        self.assertRegex(lines[1].encode(), LISTENING_LINE)
        self.assertIn(f"sitio {__version__} starts: port tcp:0:", lines[2])

    async def test_inBackground(self) -> None:
        """
        In the background, sitio writes twistd.pid and twistd.log and serves requests.  SIGTERM
        ends it and removes the pid file.
        """
        upstream = await self.listen(Upstream(answerAll))
        cwd = Path(self.mktemp()).absolute()
        cwd.mkdir()
        arguments = ["--port", LOOPBACK, "--upstream", f"tcp:{LOCALHOST}:{upstream}"]
        process = self.spawn(*TWISTD, "sitio", "--admin=", *arguments, cwd=str(cwd))
        self.assertEqual(await process.finish(), 0, process.output())
        self.assertEqual(process.output(), "")
        pidFile, log = cwd / "twistd.pid", cwd / "twistd.log"
        pid = int(pidFile.read_text())
        self.addCleanup(kill, pid)
        found = await self.until(lambda: re.search(LISTENING_LINE, log.read_bytes()))
        client = await self.connect(int(found[1]), REQUEST)
        await client.got.expect(b"\r\n\r\n0123456789$")
        # The log also has the lines from before twistd forked.
        self.assertIn("reactor class: sitio.net.reactor.UVReactor.", log.read_text())
        os.kill(pid, signal.SIGTERM)
        await client.got.waitForEnd()
        await self.until(lambda: not pidFile.exists())
        await self.until(lambda: "Server Shut Down" in log.read_text())
        self.assertNotIn("Traceback", log.read_text())

    async def test_withoutStreams(self) -> None:
        """sitio goes into the background whichever standard streams are closed, as some jobs do."""
        for closing in (">&-", "<&- >&- 2>&-"):
            cwd = Path(self.mktemp()).absolute()
            cwd.mkdir()
            arguments = ["sitio", "--admin=", "--port", LOOPBACK, "--upstream", NOWHERE]
            shell = ["/bin/sh", "-c", f'exec "$@" {closing}', "sh"]
            process = self.spawn(*shell, *TWISTD, *arguments, cwd=str(cwd))
            self.assertEqual(await process.finish(), 0, f"{closing} {process.output()}")
            pid = int((cwd / "twistd.pid").read_text())
            self.addCleanup(kill, pid)
            log = (cwd / "twistd.log").read_text
            found = await self.until(
                partial(lambda read: re.search(LISTENING_LINE, read().encode()), log)
            )
            client = await self.connect(int(found[1]), REQUEST)
            await client.got.expect(b"^HTTP/1.1 502 ")
            os.kill(pid, signal.SIGTERM)
            await self.until(partial(lambda read: "Server Shut Down" in read(), log))
            self.assertNotIn("Traceback", log())

    async def test_collector(self) -> None:
        """The garbage collector skips all objects that exist after the start."""
        path = Path(self.mktemp() + ".py").absolute()
        path.write_text(
            "import gc\n"
            "from sitio import Response, onRequest\n"
            "@onRequest\n"
            "def frozen(exchange):\n"
            "    return Response(200, text=f'{gc.get_freeze_count()} {gc.get_threshold()[0]}')\n"
        )
        _, port = await self.sitio(NOWHERE, "--policy", f"file:{path}")
        client = await self.connect(port, REQUEST)
        found = await client.got.expect(rb"\r\n\r\n([0-9]+) ([0-9]+)$")
        self.assertGreater(int(found[1]), 10_000)
        self.assertEqual(int(found[2]), NEW_OBJECTS)

    async def test_demo(self) -> None:
        """With C{--demo} the upstream is a photo site."""
        process = self.twistd("--demo", "--port", LOOPBACK)
        port = int((await process.out.expect(LISTENING_LINE))[1])
        client = await self.connect(port, REQUEST.replace(b"/slow", b"/"))
        await client.got.expect(b"</html>")
        self.assertTrue(client.got.data.startswith(b"HTTP/1.1 200 OK\r\n"))


class ReactorTests(LoopbackTestCase):
    """The reactor that sitio uses."""

    async def answers(self, process: Process) -> str:
        """Send a request, wait for the response, and return the output of the process."""
        port = int((await process.out.expect(LISTENING_LINE))[1])
        client = await self.connect(port, REQUEST)
        await client.got.expect(b"\r\n\r\n0123456789$")
        return process.output()

    async def arguments(self) -> tuple[str, ...]:
        """The arguments after C{sitio}."""
        upstream = await self.listen(Upstream(answerAll))
        return ("--port", LOOPBACK, "--upstream", f"tcp:{LOCALHOST}:{upstream}")

    async def test_default(self) -> None:
        """
        By default sitio uses uvloop's reactor, even if a policy in the first option
        imports the reactor.
        """
        path = Path(self.mktemp() + ".py").absolute()
        path.write_text(
            "from twisted.internet import reactor\n"
            "from sitio import onResponse\n"
            "@onResponse(404)\n"
            "def late(exchange, response):\n"
            "    reactor.callLater(0, print)\n"
        )
        process = self.twistd("--policy", f"file:{path}", *await self.arguments())
        self.assertIn("reactor class: sitio.net.reactor.UVReactor.", await self.answers(process))

    async def test_named(self) -> None:
        """sitio uses the reactor chosen for twistd."""
        arguments = await self.arguments()
        process = self.spawn(
            *TWISTD, "-n", "--pidfile=", "--reactor=poll", "sitio", "--admin=", *arguments
        )
        said = await self.answers(process)
        self.assertIn("reactor class: twisted.internet.pollreactor.PollReactor.", said)

    async def test_without(self) -> None:
        """Without uvloop sitio logs this once, and uses Twisted's default reactor."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "uvloop.py").write_text("raise ImportError('not for this machine')\n")
        path = os.pathsep.join([str(folder), *filter(None, sys.path)])
        command = (*TWISTD, "-n", "--pidfile=", "sitio", "--admin=", *await self.arguments())
        said = await self.answers(self.spawn(*command, PYTHONPATH=path))
        self.assertEqual(said.count("sitio runs on Twisted's default reactor"), 1, said)
        self.assertIn("not for this machine); pip install uvloop\n", said)
        self.assertIn("reactor class: twisted.internet.", said)


class SystemdTests(LoopbackTestCase):
    """sitio on a socket that systemd has opened."""

    async def test_ports(self) -> None:
        """Named and numbered sockets work, and stay open after sitio's end."""
        upstream = f"tcp:{LOCALHOST}:{await self.listen(Upstream(answerAll))}"
        path = os.path.relpath(self.mktemp())
        with socket.create_server((LOCALHOST, 0)) as inet, socket.socket(socket.AF_UNIX) as unix:
            unix.bind(path)
            os.chmod(path, 0o600)
            unix.listen()
            there = TCP4ClientEndpoint(reactor, *inet.getsockname())
            for index, domain, endpoint in (
                (0, "INET", there),
                (1, "UNIX", UNIXClientEndpoint(reactor, path)),
            ):
                # LISTEN_PID is the id of the process after exec.
                process = self.spawn(
                    *("/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$@"', "sh"),
                    *(*TWISTD, "-n", "--pidfile=", "sitio", "--upstream", upstream),
                    *("--port", f"systemd:domain={domain}:index={index}"),
                    childFDs={0: "w", 1: "r", 2: "r", 3: inet.fileno(), 4: unix.fileno()},
                    LISTEN_FDNAMES="inet:unix",
                )
                await process.out.expect(b"takes requests on ")
                self.assertIn("reactor class: sitio.net.reactor.UVReactor.", process.output())
                client: Any = await endpoint.connect(Factory.forProtocol(Client))
                client.send(REQUEST)
                await client.got.expect(b"\r\n\r\n0123456789$")
                process.signal(signal.SIGTERM)
                await client.got.waitForEnd()
                self.assertIn(await process.finish(), (0, -signal.SIGTERM))
                self.assertNotIn("Traceback", process.output())
                # New clients wait for the next process.
                last: Any = await endpoint.connect(Factory.forProtocol(Client))
                last.transport.abortConnection()
                await last.got.waitForEnd()
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)


class EndTests(LoopbackTestCase):
    """SIGTERM breaks off no exchange under way."""

    async def test_inFlight(self) -> None:
        """
        At SIGTERM, a slow request gets its whole response, with C{Connection: close}.
        New clients are refused.  Then the process ends.
        """
        upstream = Upstream()
        process, port = await self.sitio(await self.listen(upstream))
        client = await self.connect(port, REQUEST)
        asked = await upstream.connection()
        await asked.got.expect(b"\r\n\r\n")
        process.signal(signal.SIGTERM)
        await process.out.expect(b"Received SIGTERM")
        await process.out.expect(b"Port %d Closed" % port)
        await self.refused(port)
        asked.send(HEAD + b"01234")
        await client.got.expect(b"\r\n\r\n01234$")
        asked.send(b"56789")
        await client.got.waitForEnd()
        self.assertTrue(client.clean)
        head, _, body = client.got.data.partition(b"\r\n\r\n")
        self.assertIn(b"\r\nConnection: close", head)
        self.assertEqual(body, b"0123456789")
        self.assertIn(await process.finish(), (0, -signal.SIGTERM))
        self.assertNotIn("Traceback", process.output())

    async def test_upload(self) -> None:
        """An upload is finished as well."""
        upstream = Upstream()
        process, port = await self.sitio(await self.listen(upstream))
        client = await self.connect(
            port, b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n01234"
        )
        asked = await upstream.connection()
        await asked.got.expect(b"\r\n\r\n01234$")
        process.signal(signal.SIGTERM)
        await process.out.expect(b"Port %d Closed" % port)
        client.send(b"56789")
        await asked.got.expect(b"\r\n\r\n0123456789$")
        asked.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.got.waitForEnd()
        self.assertTrue(client.clean)
        self.assertTrue(client.got.data.startswith(b"HTTP/1.1 204 No Content\r\n"))
        self.assertIn(await process.finish(), (0, -signal.SIGTERM))

    async def test_grace(self) -> None:
        """Exchanges that do not end within the grace are broken off, and the process ends."""
        upstream = Upstream()
        process, port = await self.sitio(await self.listen(upstream), "--grace=0.3")
        client = await self.connect(port, REQUEST)
        asked = await upstream.connection()
        await asked.got.expect(b"\r\n\r\n")
        asked.send(HEAD + b"01234")
        await client.got.expect(b"01234$")
        process.signal(signal.SIGTERM)
        self.assertIn(await process.finish(), (0, -signal.SIGTERM))
        await client.got.waitForEnd()
        self.assertFalse(client.clean)
        self.assertIn("1 connections did not end within the grace", process.output())

    async def refused(self, port: int) -> None:
        """Wait until a port refuses connections: the log line comes just before that."""
        with self.assertRaises(ConnectError):
            while True:
                await self.connect(port)
