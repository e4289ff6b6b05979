"""
Tests of the command C{sitio} as a process: C{run}, C{check}, C{reload}, C{drain}, C{status} and
C{new-policy}.
"""

from __future__ import annotations

import json
import os
import re
import signal
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import sitio
from sitio import __version__
from sitio.cli.skeleton import files
from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    LoopbackTestCase,
    Process,
    Upstream,
)
from sitio.test.helpers.processes import (
    HEAD,
    LOOPBACK,
    NOWHERE,
    REQUEST,
    WorkersTestCase,
    answerAll,
)

ROOT = Path(sitio.__file__).parent.parent

#: The command.
SITIO = [sys.executable, "-m", "sitio"]

#: The line of the admin port; the group is the port.
ADMIN_LINE = r"admin pages are on http://127\.0\.0\.1:([0-9]+)/"


class CommandTestCase(LoopbackTestCase):
    """Runs the command."""

    def command(self, *arguments: str) -> Process:
        """Start it."""
        return self.spawn(*SITIO, *arguments)

    async def output(self, *arguments: str, status: int = 0) -> str:
        """What it prints; it must end with this status."""
        process = self.command(*arguments)
        self.assertEqual(await process.finish(), status, process.output())
        return process.output()

    async def running(self, *arguments: str) -> tuple[Process, int, str]:
        """
        Start C{sitio run} in front of a service.

        @return: the process, its port, and the address of its admin port.
        """
        upstream = await self.listen(Upstream(answerAll))
        process = self.command(
            *("run", "--upstream", f"{LOCALHOST}:{upstream}", "--port", f"{LOCALHOST}:0"),
            *("--admin", "0", *arguments),
        )
        port = int((await process.out.expect(LISTENING_LINE))[1])
        admin = (await process.out.expect(ADMIN_LINE.encode()))[1].decode()
        return process, port, f"{LOCALHOST}:{admin}"


class RunTests(CommandTestCase):
    """C{sitio run}."""

    async def test_signals(self) -> None:
        """
        Ctrl-C and SIGTERM end it when what is in flight has ended, with status 0; its log has no
        line of twistd.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            upstream = Upstream()
            process = self.command(
                *("run", "--upstream", f"{LOCALHOST}:{await self.listen(upstream)}"),
                *("--port", f"{LOCALHOST}:0", "--admin=", "--stats-interval=0"),
            )
            port = int((await process.out.expect(LISTENING_LINE))[1])
            client = await self.connect(port, REQUEST)
            asked = await upstream.connection()
            await asked.got.expect(b"\r\n\r\n")
            process.signal(number)
            await process.out.expect(rb"Received SIG")
            asked.send(HEAD + b"0123456789")
            await client.got.expect(b"\r\n\r\n0123456789$")
            self.assertEqual(await process.finish(), 0)
            said = process.output()
            self.assertIn(f"sitio {__version__} starts: port tcp:0:interface=", said)
            self.assertTrue(said.endswith("[sitio#info] sitio has stopped\n"), said)
            for word in ("twistd", "Traceback", "UnixAppLogger"):
                self.assertNotIn(word, said)

    async def test_refused(self) -> None:
        """A wrong option is one sentence that names this command, and status 1."""
        said = await self.output("run", "--prot", "1", status=1)
        self.assertEqual(
            said, "sitio: option --prot not recognized; sitio run --help lists the options\n"
        )
        said = await self.output("run", "--port", "0", status=1)
        self.assertTrue(said.startswith("sitio: there is no upstream"), said)

    async def test_reactor(self) -> None:
        """It runs on the reactor of C{twistd sitio}, also for a policy that imports one."""
        path = Path(self.mktemp() + ".py").absolute()
        path.write_text(
            "from twisted.internet import reactor\n"
            "from sitio import Response, onRequest\n"
            "@onRequest\n"
            "def who(exchange):\n"
            "    return Response(200, text=type(reactor).__name__ + '.')\n"
        )
        _, port, _ = await self.running("--policy", f"file:{path}")
        client = await self.connect(port, REQUEST)
        await client.got.expect(b"\r\n\r\nUVReactor[.]$")

    async def test_file(self) -> None:
        """It reads a configuration file, whose mistakes are told with their lines."""
        upstream = await self.listen(Upstream(answerAll))
        path = Path(self.mktemp() + ".toml").absolute()
        text = f"[listener]\naddress = '{LOCALHOST}:0'\n[upstream]\naddress = {upstream}\n"
        path.write_text(f"log-format = 'json'\n{text}[admin]\naddress = ''\n")
        process = self.command("run", "--config", str(path))
        port = int((await process.out.expect(LISTENING_LINE))[1])
        client = await self.connect(port, REQUEST)
        await client.got.expect(b"\r\n\r\n0123456789$")
        self.assertTrue(process.output().startswith('{"time": "'))
        path.write_text(f"wrokers = 2\n{text}")
        said = await self.output("run", "--config", str(path), status=1)
        self.assertIn(f"{path}:1: wrokers: ", said)


class CheckTests(CommandTestCase):
    """C{sitio check}."""

    async def test_right(self) -> None:
        """Without mistakes it says so, and opens nothing: its port may be taken."""
        taken = await self.listen(Upstream())
        for workers in ("1", "2"):
            said = await self.output(
                *("check", "--upstream", "localhost:1", "--port", f"{LOCALHOST}:{taken}"),
                *("--policy", "retry", "--workers", workers, "--access-log", "json:none/there"),
            )
            self.assertEqual(said, "sitio has found no mistakes\n")

    async def test_file(self) -> None:
        """Each mistake in a file has a line, with its place."""
        path = Path(self.mktemp() + ".toml").absolute()
        path.write_text(
            "[upstream]\naddress = 'localhost:1'\nbalance = 'lest-requests'\n\n[limits]\n"
            "max-haed = 3\n"
        )
        lines = (await self.output("check", "--config", str(path), status=1)).splitlines()
        self.assertEqual(len(lines), 2, lines)
        self.assertRegex(lines[0], rf"^{path}:3: upstream.balance: .*least-requests")
        self.assertRegex(lines[1], rf"^{path}:6: limits.max-haed: .*max-head")

    async def test_options(self) -> None:
        """Mistakes in options, policies and endpoint descriptions are told."""
        for arguments, told in (
            (["--policy", "rety"], "--policy there is no policy 'rety'"),
            (["--port", "nope:a"], "--port: 'nope:***' can't be used"),
            (["--workers", "many"], "--workers is 'many'"),
        ):
            said = await self.output("check", "--upstream", "localhost:1", *arguments, status=1)
            self.assertIn(told, said)
            self.assertEqual(len(said.splitlines()), 1, said)


class AskTests(CommandTestCase):
    """C{status}, C{drain} and C{reload}, of a running sitio."""

    async def test_status(self) -> None:
        """The screen says what runs, and has no colours if it goes to no terminal."""
        _, port, admin = await self.running("--policy", "retry", "--policy", "deny:PUT:/*")
        client = await self.connect(port, REQUEST)
        await client.got.expect(b"0123456789$")
        said = await self.output("status", "--admin", admin, "--interval", "0.1")
        self.assertRegex(said, rf"^sitio {__version__}   ready   .*up \d+ s\n")
        self.assertRegex(said, r"\nSince start  1 requests   0 errors")
        self.assertRegex(said, r"\n  deny +requests +1 +0 +0 ")
        self.assertIn("\nListeners    tcp:0:interface=127.0.0.1\n", said)
        self.assertIn(f"\nAdmin port   {admin}\n", said)
        self.assertNotIn("\x1b", said)
        data = json.loads(await self.output("status", "--json", "--admin", admin))
        self.assertEqual(data["stats"]["metrics"]["total"]["hits"], 1)
        self.assertEqual((data["ready"], data["config"]["sitio"]), (True, __version__))
        listener = {"address": f"tcp:0:interface={LOCALHOST}", "tls": False}
        self.assertEqual(data["config"]["listeners"], [listener])

    async def test_drain(self) -> None:
        """After C{drain}, sitio runs and is not ready."""
        process, _, admin = await self.running()
        self.assertIn("sitio drains", await self.output("drain", "--admin", admin))
        said = await self.output("status", "--admin", admin, "--interval", "0")
        self.assertRegex(said, rf"^sitio {__version__}   draining ")
        self.assertIsNone(process.status)

    async def test_reload(self) -> None:
        """
        C{reload} makes a running sitio use its changed file; mistakes are printed, and shown by
        C{status} while they last.
        """
        upstream = await self.listen(Upstream(answerAll))
        path = Path(self.mktemp() + ".toml").absolute()
        text = f"[listener]\naddress = '{LOCALHOST}:0'\n[upstream]\naddress = {upstream}\n"
        path.write_text(text)
        process = self.command("run", "--admin", "0", "--config", str(path))
        admin = (await process.out.expect(ADMIN_LINE.encode()))[1].decode()
        path.write_text(f"{text}[limits]\nmax-haed = 1\n")
        said = await self.output("reload", "--admin", admin, status=1)
        self.assertIn(f"{path}:6: limits.max-haed: ", said)
        status = ("status", "--interval", "0", "--admin", admin)
        self.assertIn("The last reload failed", await self.output(*status))
        path.write_text(f"policies = ['retry']\n{text}")
        self.assertIn("sitio uses generation ", await self.output("reload", "--admin", admin))
        said = await self.output(*status)
        self.assertRegex(said, r"\n  retry ")
        self.assertNotIn("The last reload failed", said)

    async def test_unix(self) -> None:
        """The admin port may be a UNIX socket."""
        # A path of a socket has at most a hundred characters.
        path = os.path.relpath(self.mktemp())
        process = self.command(
            *("run", "--upstream", "localhost:1", "--port", f"{LOCALHOST}:0"),
            *("--admin", f"unix:{path}:mode=600"),
        )
        await process.out.expect(rb"admin pages are on ")
        self.assertIn("sitio drains", await self.output("drain", "--admin", f"unix:{path}"))

    async def test_nothing(self) -> None:
        """If nothing answers, or no sitio, one sentence says what to do; the status is 2."""
        listening = await self.listen(Upstream(lambda each: each.transport.loseConnection()))
        for name in ("status", "drain", "reload"):
            for admin in ("1", f"{listening}", "unix:/nonexistent"):
                said = await self.output(name, "--admin", admin, status=2)
                self.assertEqual(len(said.splitlines()), 1, said)
                self.assertTrue(said.startswith("sitio: "), said)
                self.assertIn("with --admin", said)

    async def test_silent(self) -> None:
        """What accepts and does not answer is given up after the timeout."""
        listening = await self.listen(Upstream())
        said = await self.output("status", "--admin", f"{listening}", "--timeout", "0.2", status=2)
        self.assertIn("does not answer within 0.2 seconds", said)


class LogTests(WorkersTestCase):
    """The log as JSON, and the names of workers."""

    def lines(self, process: Process) -> list[dict[str, Any]]:
        """The objects of a log, all of whose lines are such."""
        return [json.loads(each) for each in process.output().splitlines()]

    async def test_workers(self) -> None:
        """
        With C{twistd}, too, each line is an object; those of workers have their numbers, and
        tracebacks are members.  What a policy prints is a line of the log.
        """
        folder = self.folder()
        (folder / "broken.py").write_text(
            "from sitio import onRequest\n"
            "@onRequest\n"
            "def broken(exchange):\n"
            "    print('about to break')\n"
            "    raise ZeroDivisionError('of mine')\n"
        )
        process, port = await self.startWorkers(
            *("--log-format=json", "--policy", f"file:{folder}/broken.py")
        )
        self.assertNames(process.pid)
        client = await self.connect(port, REQUEST)
        await client.got.expect(b"HTTP/1.1 500 ")
        await process.out.expect(rb"ZeroDivisionError: of mine")
        process.signal(signal.SIGTERM)
        await process.finish()
        found = self.lines(process)
        for each in found:
            self.assertRegex(each["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIn(each["level"], ("info", "warn", "critical", "error"))
        [broken] = [each for each in found if "traceback" in each]
        self.assertIn("broken.py", broken["traceback"])
        self.assertIn(broken["worker"], (1, 2))
        [printed] = [each for each in found if each["message"] == "about to break"]
        self.assertEqual(printed["worker"], broken["worker"])

    def assertNames(self, parent: int) -> None:
        """Each worker says in the list of processes which it is."""
        for number, pid in enumerate(self.workerPids(parent), 1):
            name = Path(f"/proc/{pid}/comm").read_text()
            title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
            self.assertEqual(name, f"sitio:worker{number}\n")
            self.assertEqual(title, b"sitio: worker %d of 2" % number)

    async def test_level(self) -> None:
        """Lines below the level are left out; those of workers, too."""
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "sitio", "--admin=", "--workers=2", "--port", LOOPBACK),
            *("--upstream", NOWHERE, "--log-level=warn"),
        )
        await self.until(lambda: len(self.workerPids(process.pid)) == 2)
        # The start waits for the first one.
        _, second = self.workerPids(process.pid)
        os.kill(second, signal.SIGKILL)
        await process.out.expect(rb"Worker 2 ended by SIGKILL")
        process.signal(signal.SIGTERM)
        await process.finish()
        for line in process.output().splitlines():
            self.assertRegex(line, r"#(warn|error|critical)\b")

    async def test_inBackground(self) -> None:
        """In the background, the lines go to twistd's file, as JSON."""
        cwd = Path(self.mktemp()).absolute()
        cwd.mkdir()
        process = self.spawn(
            *(*TWISTD, "sitio", "--admin=", "--log-format=json", "--port", LOOPBACK),
            *("--upstream", NOWHERE),
            cwd=str(cwd),
        )
        self.assertEqual(await process.finish(), 0, process.output())
        pid, log = int((cwd / "twistd.pid").read_text()), cwd / "twistd.log"
        self.addCleanup(self.killAll, [pid])
        await self.until(lambda: "takes requests on" in log.read_text())
        os.kill(pid, signal.SIGTERM)
        await self.until(lambda: "Server Shut Down" in log.read_text())
        for line in log.read_text().splitlines():
            self.assertIn("message", json.loads(line))


class NewPolicyTests(SynchronousTestCase):
    """The project that C{sitio new-policy} writes."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.project = self.folder / "stamp-it"
        self.folder.mkdir()
        self.run_(*SITIO, "new-policy", "stamp-it")

    def run_(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command, which must succeed, and return its output."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout + result.stderr

    def test_test(self) -> None:
        """Its test passes, with trial and with pytest."""
        self.assertEqual(sorted(files("stamp-it")), sorted(os.listdir(self.project)))
        [test] = [each for each in files("stamp-it") if each.startswith("test_")]
        trial = (sys.executable, "-m", "twisted.trial", test.removesuffix(".py"))
        self.assertIn("PASSED (successes=2)", self.run_(*trial, cwd=self.project))
        pytest = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        self.assertIn("2 passed", self.run_(*pytest, cwd=self.project))

    def test_installed(self) -> None:
        """After its installation, sitio has the policy by its name."""
        environment = self.folder / "environment"
        try:
            venv.create(environment, symlinks=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SkipTest(f"no virtual environment can be made here: {error}") from error
        [packages] = environment.glob("lib/python*/site-packages")
        paths = [*site.getsitepackages(), str(ROOT)]
        (packages / "this.pth").write_text("".join(f"{each}\n" for each in paths), "utf-8")
        python = str(environment / "bin/python")
        offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", *offline)
        self.run_(*pip, str(self.project))
        command = (python, "-m", "sitio")
        self.assertRegex(self.run_(*command, "policies"), r"(?m)^stamp-it +Add a field")
        self.assertIn("value", self.run_(*command, "policies", "stamp-it"))
        checked = ("check", "--upstream", "localhost:1", "--policy", "stamp-it:value=a")
        self.assertEqual(self.run_(*command, *checked), "sitio has found no mistakes\n")


class ShellTests(SynchronousTestCase):
    """What shells are told."""

    def test_bash(self) -> None:
        """bash gets its script, and what it asks for."""
        environ = {**os.environ, "_SITIO_COMPLETE": "bash_source"}
        script = subprocess.run(SITIO, env=environ, capture_output=True, text=True).stdout
        self.assertIn("complete -o nosort -F _sitio_completion sitio", script)
        words = {"COMP_WORDS": "sitio run --policy retry : ti", "COMP_CWORD": "5"}
        environ = {**os.environ, "_SITIO_COMPLETE": "bash_complete", **words}
        found = subprocess.run(SITIO, env=environ, capture_output=True, text=True)
        self.assertEqual((found.stdout, found.stderr), ("plain,times=\n", ""))

    def test_entryPoint(self) -> None:
        """The command is installed as C{sitio}."""
        script = Path(sys.executable).parent / "sitio"
        if not script.exists():
            raise SkipTest("sitio is not installed in this environment")
        said = subprocess.run([script, "version"], capture_output=True, text=True).stdout
        self.assertTrue(re.fullmatch(rf"sitio {re.escape(__version__)}\n", said), said)
