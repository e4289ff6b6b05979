"""
Tests of C{twistd sitio --config} as a process.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from sitio.test.helpers.loopback import LOCALHOST, TWISTD, LoopbackTestCase, Upstream
from sitio.test.helpers.processes import WHO_REQUEST, WorkersTestCase, answerAll

#: What only a file needs.
OF_FILES = {"cattrs", "tomllib", "sitio.config.file", "sitio.config.tables", "sitio.config.checks"}


class LazyTests(LoopbackTestCase):
    """A start without a file does not pay for it."""

    def imported(self, *arguments: str) -> set[str]:
        """The modules that are loaded once the options are parsed."""
        script = (
            # The measuring of coverage has modules of its own.
            "import sys\nbefore = set(sys.modules)\n"
            "from sitio.config.options import Options\n"
            "Options({}).parseOptions(sys.argv[1:])\nprint(*set(sys.modules) - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return set(done.stdout.split())

    def test_imports(self) -> None:
        """What reads files is imported only with one."""
        self.assertEqual(self.imported("--upstream=a:1") & OF_FILES, set())
        path = Path(self.mktemp())
        path.write_text("demo = true")
        # tomllib may be there before: coverage reads its settings with it.
        found = self.imported(f"--config={path}") & OF_FILES
        self.assertEqual(found | {"tomllib"}, OF_FILES)


class ConfigTests(WorkersTestCase):
    """A sidecar of a file."""

    async def test_workers(self) -> None:
        """
        All processes read the file, which is relative to the folder of the start: its port, its
        upstream, its policies, its access log.
        """
        folder = self.folder()
        port = await self.listen(Upstream(answerAll))
        (folder / "sitio.toml").write_text(
            "workers = 2\n"
            'access-log = "json:access.log"\n'
            'policies = ["file:who.py"]\n'
            "[listener]\n"
            f'address = "{LOCALHOST}:0"\n'
            "[admin]\n"
            'address = ""\n'
            "[upstream]\n"
            'address = "${HOST}:${PORT_OF_SERVICE}"\n'
        )
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "sitio", "--config", "sitio.toml"),
            cwd=str(folder),
            HOST=LOCALHOST,
            PORT_OF_SERVICE=str(port),
        )
        port = await self.waitUntilReady(process)
        pids = {(await self.ask(port))[0] for _ in range(20)}
        self.assertTrue(pids <= set(self.workerPids(process.pid)))
        client = await self.connect(port, WHO_REQUEST.replace(b"/who", b"/other"))
        await client.got.waitForEnd()
        self.assertIn(b"0123456789", client.got.data)
        process.signal(signal.SIGTERM)
        await process.finish()
        log = (folder / "access.log").read_text()
        self.assertEqual(len(re.findall("/who", log)), 20)
        self.assertEqual(len(re.findall("/other", log)), 1)

    async def test_mistakes(self) -> None:
        """A start ends with all mistakes of a file, and status 1."""
        folder = self.folder()
        (folder / "sitio.toml").write_text("workers = 0\n[upstream]\nadress = 'a:1'\n")
        process = self.twistd("--config", "sitio.toml", cwd=str(folder))
        self.assertEqual(await process.finish(), 1, process.output())
        said = process.output()
        self.assertNotIn("Traceback", said)
        self.assertIn("sitio: --config sitio.toml has 2 mistakes:\n", said)
        self.assertIn("sitio.toml:1: workers: '0'; it must be 1 to 256", said)
        self.assertIn("sitio.toml:3: upstream.adress: there is no such key; did you mean", said)
