"""
Tests of C{twistd sitio --workers} as processes: several workers do what one process does,
and go on when one of them ends.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections import Counter
from pathlib import Path

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    POLL_SECONDS,
    TWISTD,
    Client,
    Process,
    Upstream,
    reactor,
)
from sitio.test.helpers.processes import (
    HEAD,
    LOOPBACK,
    NOWHERE,
    REQUEST,
    WHO_POLICY,
    WHO_REQUEST,
    WorkersTestCase,
    answerAll,
    kill,
)


def alive(pid: int) -> bool:
    """Whether this process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TrafficTests(WorkersTestCase):
    """All workers serve, and are counted together."""

    async def test_both(self) -> None:
        """
        Each worker serves requests.  The supervisor alone logs the metrics of all, to the last
        hit.
        """
        process, port = await self.startWorkers("--stats-interval=0.2")
        pids = self.workerPids(process.pid)
        self.assertEqual(len(pids), 2)
        answers = Counter([await self.ask(port) for _ in range(60)])
        self.assertEqual({pid for pid, _ in answers}, set(pids))
        self.assertEqual({name for _, name in answers}, {"UVReactor"})
        await self.hits(process, 60)
        lines = [each for each in process.output().splitlines() if "stats: " in each]
        self.assertEqual([each for each in lines if "worker=" in each], [])
        self.assertIn("GET /who 60,", lines[-1])
        news = [int(each) for each in re.findall(r"\(\+([0-9]+)\)", "\n".join(lines))]
        self.assertEqual(sum(news), 60)

    async def test_reactor(self) -> None:
        """Workers use the reactor that was chosen for the supervisor."""
        _, port = await self.startWorkers(twistd=("--reactor=poll",))
        self.assertEqual((await self.ask(port))[1], "PollReactor")

    async def test_lastHits(self) -> None:
        """Hits after the last stats line are in a line of their own at the end."""
        process, port = await self.startWorkers("--stats-interval=60")
        for _ in range(10):
            await self.ask(port)
        process.signal(signal.SIGTERM)
        await process.finish()
        self.assertEqual(
            re.findall(r"stats: (\d+) hits \(\+(\d+)\)", process.output()), [("10", "10")]
        )

    async def test_log(self) -> None:
        """The log lines of workers are in the supervisor's log, with the worker's number."""
        folder = self.folder()
        (folder / "broken.py").write_text(
            "from sitio import onRequest\n"
            "@onRequest\n"
            "def broken(exchange):\n"
            "    if exchange.request.path == '/broken':\n"
            "        print('about to break')\n"
            "        raise ZeroDivisionError('of mine')\n"
        )
        process, port = await self.startWorkers("--policy", f"file:{folder}/broken.py")
        client = await self.connect(port, REQUEST.replace(b"/slow", b"/broken"))
        await client.got.expect(b"HTTP/1.1 500 ")
        await process.out.expect(rb"#\w+ worker=[12]\] about to break\n")
        await process.out.expect(rb"worker=[12]\] The policy broken failed")
        await process.out.expect(rb"builtins.ZeroDivisionError: of mine\n")

    async def test_demo(self) -> None:
        """All workers share one demo upstream."""
        process = self.twistd("--demo", "--workers=2", "--port", LOOPBACK)
        port = await self.waitUntilReady(process)
        numbers = []
        for _ in range(12):
            client = await self.connect(port, REQUEST.replace(b"/slow", b"/flaky"))
            numbers.append(int((await client.got.expect(rb"response <strong>(\d+)<"))[1]))
        self.assertEqual(numbers, list(range(1, 13)))
        self.assertEqual(process.output().count("The demo upstream is on"), 1)

    async def test_unix(self) -> None:
        """Workers share a UNIX socket; its file is removed at the end, and not before."""
        folder = self.folder()
        path = os.path.relpath(folder / "s")
        process = self.twistd(
            *("--workers=2", f"--port=unix:{path}:mode=600", "--upstream", NOWHERE),
            *("--policy", f"file:{folder}/who.py"),
        )
        await process.out.waitUntil(lambda: process.output().count("takes requests on") == 2)
        one, two = self.workerPids(process.pid)
        self.addCleanup(self.killAll, [one, two])
        os.kill(one, signal.SIGTERM)
        await process.out.waitUntil(lambda: process.output().count("takes requests on") == 3)
        self.assertFalse(alive(one))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        client = await UNIXClientEndpoint(reactor, path).connect(Factory.forProtocol(Client))
        assert isinstance(client, Client)
        client.send(WHO_REQUEST)
        await client.got.waitForEnd()
        self.assertIn(b"HTTP/1.1 200 OK", client.got.data)
        process.signal(signal.SIGTERM)
        await process.finish()
        self.assertFalse(os.path.lexists(path))

    async def test_systemd(self) -> None:
        """Workers share a socket of systemd, named or numbered."""
        with (
            socket.create_server((LOCALHOST, 0)) as there,
            socket.create_server((LOCALHOST, 0)) as other,
        ):
            for which in ("name=web", "index=1"):
                # It wants to be told the number of the process that it becomes.
                process = self.spawn(
                    *("/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$@"', "sh"),
                    *(*TWISTD, "-n", "--pidfile=", "sitio", "--admin=", "--workers=2"),
                    *("--port", f"systemd:domain=INET:{which}", "--upstream", NOWHERE),
                    *("--policy", f"file:{self.folder()}/who.py"),
                    childFDs={0: "w", 1: "r", 2: "r", 3: other.fileno(), 4: there.fileno()},
                    LISTEN_FDNAMES="other:web",
                )
                port = await self.waitUntilReady(process)
                self.assertEqual(port, there.getsockname()[1])
                self.assertIn((await self.ask(port))[0], self.workerPids(process.pid))
                process.signal(signal.SIGTERM)
                await process.finish()
                self.assertNotIn("Traceback", process.output())


class FailedStartTests(WorkersTestCase):
    """An error at the start is one sentence, and ends sitio."""

    async def refused(self, *arguments: str, twistd: tuple[str, ...] = ("-n", "--pidfile=")) -> str:
        """The output of a sitio that can't start."""
        arguments = ("--upstream", NOWHERE, "--port", LOOPBACK, *arguments)
        process = self.spawn(
            *(*TWISTD, *twistd, "sitio", "--admin=", "--workers=2", *arguments),
            cwd=str(self.folder()),
        )
        self.assertEqual(await process.finish(), 1, process.output())
        return process.output()

    async def test_policy(self) -> None:
        """A policy that can't be loaded is refused before any worker is started."""
        self.assertRegex(await self.refused("--policy", "nope"), r"\Asitio: --policy .*\n\Z")

    async def test_port(self) -> None:
        """A port in use is named, and no worker is started."""
        port = await self.listen(Upstream())
        said = await self.refused("--port", f"tcp:{port}:interface={LOCALHOST}")
        self.assertIn(f"sitio: can't listen on port {port}: Address already in use (", said)
        self.assertNotIn("worker=", said)

    async def test_shared(self) -> None:
        """A port that another sitio's workers use is refused, too."""
        _, port = await self.startWorkers()
        said = await self.refused("--port", f"tcp:{port}:interface={LOCALHOST}")
        self.assertIn(f"sitio: can't listen on port {port}: Address already in use (", said)

    def onlyHere(self) -> str:
        """A policy that the supervisor can load, and a worker can't."""
        path = self.folder() / "here.py"
        path.write_text(
            f"import sys\nassert 'sitio.workers.worker' not in sys.modules\n{WHO_POLICY}"
        )
        return f"file:{path}"

    async def test_worker(self) -> None:
        """An error that only a worker meets is reported by the supervisor, which ends."""
        policy = self.onlyHere()
        said = await self.refused("--policy", policy)
        self.assertRegex(said, r"(?m) sitio: --policy .*/here\.py:2 can't be loaded: Assertion")
        self.assertNotIn("Traceback", said)

    async def test_workerInBackground(self) -> None:
        """In the background the error is reported to the starting process."""
        said = await self.refused("--policy", self.onlyHere(), twistd=())
        self.assertIn("sitio: --policy ", said)

    async def test_neverBegins(self) -> None:
        """If a worker ends without a reason, the last line of its output is shown."""
        folder = self.folder()
        (folder / "sitio").mkdir()
        (folder / "sitio" / "__init__.py").write_text("raise ImportError('not for workers')\n")
        (folder / "first.py").write_text(
            f"import sys\nsys.path.insert(0, {str(folder)!r})\n{WHO_POLICY}"
        )
        said = await self.refused("--policy", f"file:{folder}/first.py")
        self.assertIn(
            "sitio: a worker has ended as soon as it was started: ImportError: not for workers",
            said,
        )


class RestartTests(WorkersTestCase):
    """When a worker ends, the others serve on, and it is replaced."""

    async def test_killed(self) -> None:
        """
        A worker is killed: every client is served meanwhile, and the new worker serves, too.
        The counts of the killed worker stay in the sums.
        """
        process, port = await self.startWorkers("--stats-interval=0.2")
        one, two = self.workerPids(process.pid)
        for _ in range(20):
            await self.ask(port)
        await self.hits(process, 20)
        # A terminal sends SIGINT to all of them; only their parent acts on it.
        os.kill(two, signal.SIGINT)
        os.kill(one, signal.SIGKILL)
        await process.out.expect(
            rb"Worker [12] ended by SIGKILL; another takes its place in 0\.25 s"
        )
        answered = Counter([(await self.ask(port))[0] for _ in range(20)])
        await process.out.waitUntil(lambda: len(re.findall(LISTENING_LINE, process.out.data)) == 3)
        [three] = set(self.workerPids(process.pid)) - {two}
        self.addCleanup(kill, three)
        answered += Counter([(await self.ask(port))[0] for _ in range(60)])
        self.assertLessEqual(set(answered), {two, three})
        self.assertIn(two, answered)
        self.assertIn(three, answered)
        await self.hits(process, 100)

    async def test_drained(self) -> None:
        """A worker gets SIGTERM: it finishes its exchanges, and the others serve new clients."""
        upstream = Upstream()
        process, port = await self.startWorkers(
            upstream=f"tcp:{LOCALHOST}:{await self.listen(upstream)}"
        )
        clients = [await self.connect(port, REQUEST) for _ in range(12)]
        scripts = [await upstream.connection(number) for number in range(12)]
        for each in scripts:
            await each.got.expect(b"\r\n\r\n")
        one, two = self.workerPids(process.pid)
        os.kill(one, signal.SIGTERM)
        await process.out.expect(rb"worker=[12]\] \(TCP Port %d Closed" % port)
        for _ in range(20):
            self.assertEqual((await self.ask(port))[0], two)
        for script in scripts:
            script.send(HEAD + b"0123456789")
        for client in clients:
            await client.got.expect(b"\r\n\r\n0123456789$")
        await process.out.expect(rb"Worker [12] ended with status 0; another takes its place")
        await process.out.waitUntil(lambda: len(re.findall(LISTENING_LINE, process.out.data)) >= 3)
        self.addCleanup(self.killAll, self.workerPids(process.pid))

    async def test_broken(self) -> None:
        """
        A worker that can no longer start is started again and again, with a longer delay each
        time.  The others serve all clients.
        """
        folder = self.folder()
        process = self.twistd(
            *("--workers=2", "--port", LOOPBACK, "--upstream", NOWHERE),
            *("--policy", f"file:{folder}/who.py"),
        )
        port = await self.waitUntilReady(process)
        one, two = self.workerPids(process.pid)
        (folder / "who.py").write_text("1 / 0\n")
        os.kill(one, signal.SIGKILL)
        for delay in (b"0.25", b"0.5", b"1"):
            await process.out.expect(rb"another takes its place in %s s" % delay)
            self.assertEqual((await self.ask(port))[0], two)
        self.assertIn("who.py:1 can't be loaded: ZeroDivisionError", process.output())
        (folder / "who.py").write_text(WHO_POLICY)
        await process.out.waitUntil(lambda: len(re.findall(LISTENING_LINE, process.out.data)) >= 3)
        self.addCleanup(self.killAll, self.workerPids(process.pid))


class EndTests(WorkersTestCase):
    """When the supervisor stops, all workers stop, and no exchange is lost."""

    async def inFlight(self, *arguments: str) -> tuple[Process, int, list[Client], Upstream]:
        """A supervisor whose two workers have requests in flight, its port, and the clients."""
        upstream = Upstream()
        process, port = await self.startWorkers(
            *arguments, upstream=f"tcp:{LOCALHOST}:{await self.listen(upstream)}"
        )
        # All clients get the same worker with a probability of 2 ** -15.
        clients = [await self.connect(port, REQUEST) for _ in range(16)]
        for number in range(16):
            script = await upstream.connection(number)
            await script.got.expect(b"\r\n\r\n")
        return process, port, clients, upstream

    async def gone(self, pids: list[int]) -> None:
        """Wait until none of these processes runs."""
        await self.until(lambda: not any(map(alive, pids)))

    async def free(self, port: int) -> None:
        """Wait until this port refuses connections."""
        with self.assertRaises(ConnectError):
            while True:
                await self.connect(port)

    async def test_sigterm(self) -> None:
        """After SIGTERM, no client is accepted, and each connected client gets a whole response."""
        process, port, clients, upstream = await self.inFlight()
        pids = self.workerPids(process.pid)
        process.signal(signal.SIGTERM)
        await self.free(port)
        for each in upstream.connections:
            each.send(HEAD + b"0123456789")
        for client in clients:
            await client.got.waitForEnd()
            self.assertTrue(client.clean)
            head, _, body = client.got.data.partition(b"\r\n\r\n")
            self.assertIn(b"\r\nConnection: close", head)
            self.assertEqual(body, b"0123456789")
        self.assertIn(await process.finish(), (0, -signal.SIGTERM))
        self.assertFalse(any(map(alive, pids)))
        self.assertIn("stats: 16 hits", process.output())
        self.assertNotIn("Traceback", process.output())
        self.assertNotIn("takes its place", process.output())

    async def test_grace(self) -> None:
        """Exchanges that do not end within the grace are broken off."""
        process, _, clients, _ = await self.inFlight("--grace=0.5")
        process.signal(signal.SIGINT)
        self.assertIn(await process.finish(), (0, -signal.SIGINT))
        for client in clients:
            await client.got.waitForEnd()
        self.assertIn("did not end within the grace", process.output())
        self.assertNotIn("Traceback", process.output())

    async def test_secondSignal(self) -> None:
        """A second SIGTERM ends the grace."""
        process, port, clients, _ = await self.inFlight("--grace=600")
        process.signal(signal.SIGTERM)
        await self.free(port)

        while process.status is None:
            process.signal(signal.SIGTERM)
            await deferLater(reactor, 10 * POLL_SECONDS, lambda: None)
        for client in clients:
            await client.got.waitForEnd()
        self.assertIn("a second signal to stop", process.output())
        self.assertNotIn("Traceback", process.output())

    async def test_parentKilled(self) -> None:
        """
        When the supervisor is killed, its workers finish their exchanges and end; the
        port is free.
        """
        process, port, clients, upstream = await self.inFlight()
        pids = self.workerPids(process.pid)
        process.signal(signal.SIGKILL)
        await self.free(port)
        for each in upstream.connections:
            each.send(HEAD + b"0123456789")
        for client in clients:
            await client.got.expect(b"\r\n\r\n0123456789$")
        await self.gone(pids)

    async def test_inBackground(self) -> None:
        """
        In the background, all processes write one log, find files relative to where twistd was
        started, and end after one SIGTERM.
        """
        folder, there = self.folder(), self.folder()
        pidFile, log = there / "pid", there / "log"
        upstream = await self.listen(Upstream(answerAll))
        process = self.spawn(
            *(
                *TWISTD,
                f"--rundir={there}",
                f"--pidfile={pidFile}",
                f"--logfile={log}",
                "sitio",
                "--admin=",
            ),
            *("--workers=2", "--port", LOOPBACK),
            *("--upstream", f"tcp:{LOCALHOST}:{upstream}", "--policy", "file:who.py"),
            cwd=str(folder),
        )
        self.assertEqual(await process.finish(), 0, process.output())
        self.assertEqual(process.output(), "")
        pid = int(pidFile.read_text())
        self.addCleanup(kill, pid)
        ports = await self.until(
            lambda: len(found := re.findall(LISTENING_LINE, log.read_bytes())) == 2 and found
        )
        pids = self.workerPids(pid)
        self.addCleanup(self.killAll, pids)
        self.assertIn((await self.ask(int(ports[0])))[0], pids)
        self.assertEqual({os.readlink(f"/proc/{each}/cwd") for each in pids}, {str(there)})
        os.kill(pid, signal.SIGTERM)
        await self.gone([pid, *pids])
        self.assertFalse(pidFile.exists())
        self.assertNotIn("Traceback", log.read_text())
        self.assertIn("Server Shut Down", log.read_text())
