"""
Tests of examples that need processes of their own: C{packaged}, and the tests among them.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import sitio
from sitio.test.helpers.documents import blocks

ROOT = Path(sitio.__file__).parent.parent
EXAMPLES = ROOT / "examples"

if not EXAMPLES.exists():
    skip = "this is no checkout, and only a checkout has examples"


class PackagedTests(SynchronousTestCase):
    """C{packaged}: policies in a distribution of their own are found after its installation."""

    def python(self, *arguments: str) -> str:
        """
        Run the Python of the environment, and return its output.  It must succeed and write
        nothing to standard error.
        """
        command = [str(self.environment / "bin/python"), *arguments]
        folder = self.environment.parent
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        return result.stdout

    def install(self) -> None:
        """Install the example into an environment that also sees sitio and its dependencies."""
        self.environment = Path(self.mktemp()).absolute() / "environment"
        try:
            venv.create(self.environment, symlinks=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SkipTest(f"no virtual environment can be made here: {error}") from error
        [packages] = self.environment.glob("lib/python*/site-packages")
        paths = [*site.getsitepackages(), str(ROOT)]
        (packages / "this.pth").write_text("".join(f"{each}\n" for each in paths), "utf-8")
        # A copy, as a build leaves files in its source folder.
        source = self.environment.parent / "packaged"
        shutil.copytree(EXAMPLES / "packaged", source)
        offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
        self.python(*("-m", "pip", "--disable-pip-version-check", "install", *offline, str(source)))

    def test_installed(self) -> None:
        """C{twistd sitio} lists the policy, makes it from a description, and it works."""
        self.install()
        twistd = "from twisted.scripts.twistd import run; run()"
        known = self.python("-c", twistd, "sitio", "--help-policies")
        self.assertIn("maintenance:file=PATH[:retry-after=DURATION]  Answer 503", known)
        self.assertIn("error-page:", known)
        stop = self.environment.parent / "stop"
        script = (
            "from pathlib import Path\n"
            "from sitio.testing import *\n"
            f"stop = Path({str(stop)!r})\n"
            "with Runner(f'maintenance:file={stop}:retry-after=9') as runner:\n"
            "    print(runner.run(request()).status)\n"
            "    stop.touch()\n"
            "    outcome = runner.run(request())\n"
            "    print(outcome.status, outcome.attempts, outcome.headers['Retry-After'])\n"
            "    stop.unlink()\n"
            "    print(runner.run(request()).status)\n"
        )
        self.assertEqual(self.python("-c", script), "200\n503 0 9\n200\n")
        wrong = (
            "from sitio.policy.loader import loadPolicies\n"
            "try: loadPolicies('maintenance:file=stop:retry-after=soon')\n"
            "except ValueError as error: print(error)\n"
        )
        self.assertIn("retry-after=soon: a duration up to 1d is expected", self.python("-c", wrong))
        self.assertNotIn(str(self.environment), sys.path)


#: A test that fails, for each tool.
PLANTED = {
    "trial": (
        "from twisted.trial.unittest import SynchronousTestCase\n"
        "from sitio.testing import request, response, runPolicy\n"
        "class PlantedTests(SynchronousTestCase):\n"
        "    def test_planted(self):\n"
        "        outcome = runPolicy('error-page:404', request(), response(200, text='a'))\n"
        "        outcome.assertResponse(200, text='b')\n"
    ),
    "pytest": (
        "from twisted.logger import Logger\n"
        "from sitio.testing import request, response\n"
        "pytest_plugins = ['sitio.testing.pytest']\n"
        "def test_planted(startRunner):\n"
        "    runner = startRunner('error-page:404')\n"
        "    outcome = runner.run(request(), response(200, text='a'))\n"
        "    outcome.assertResponse(200, text='b')\n"
        "def logsError():\n"
        "    try: raise KeyError('x')\n"
        "    except KeyError: Logger().failure('it failed')\n"
        "def test_logs(startRunner): logsError()\n"
        "def test_expects(loggedErrors):\n"
        "    logsError()\n"
        "    assert [type(each) for each in loggedErrors] == [KeyError]\n"
        "    loggedErrors.clear()\n"
        "def test_stops(startRunner):\n"
        "    from twisted.application.service import Service\n"
        "    class Served(Service):\n"
        "        def exchangeFinished(self, exchange): pass\n"
        "    global served\n"
        "    served = Served()\n"
        "    startRunner(served)\n"
        "    assert served.running\n"
        "def test_stopped(): assert not served.running\n"
    ),
}


class SuitesTests(SynchronousTestCase):
    """The tests among the examples: trial and pytest run them, and count what fails."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        shutil.copytree(EXAMPLES, self.folder)

    def runTool(self, tool: str, *tests: str) -> tuple[int, str]:
        """The exit status and the output of a tool."""
        arguments = {"trial": ("twisted.trial",), "pytest": ("pytest", "-p", "no:cacheprovider")}
        command = [sys.executable, "-m", *arguments[tool], *tests]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60
        )
        return result.returncode, result.stdout + result.stderr

    def test_trial(self) -> None:
        """trial runs C{test_webhook.py}; a difference is a failure, not an error."""
        (self.folder / "test_planted.py").write_text(PLANTED["trial"], "utf-8")
        status, output = self.runTool("trial", "test_webhook")
        self.assertEqual((status, "PASSED (successes=5)" in output), (0, True), output)
        status, output = self.runTool("trial", "test_webhook", "test_planted")
        self.assertEqual(status, 1)
        self.assertIn("FAILED (failures=1, successes=5)", output)
        self.assertIn("\n-b\n+a\n", output)

    def test_sockets(self) -> None:
        """trial runs C{test_sockets.py}."""
        status, output = self.runTool("trial", "--reactor=asyncio", "test_sockets")
        self.assertEqual((status, "PASSED (successes=1)" in output), (0, True), output)

    def test_pytest(self) -> None:
        """
        pytest runs C{test_checktoken.py}.  A difference fails a test, and so does an error that
        is logged and not expected; runners are stopped after their test.  The tests for pytest
        in docs/policies.md pass, too.
        """
        page = (ROOT / "docs/policies.md").read_text("utf-8")
        for name, text in blocks(page):
            if "pytest_plugins" in text:
                (self.folder / f"test_page_{name}").write_text(text, "utf-8")
        pages = sorted(each.name for each in self.folder.glob("test_page_*"))
        (self.folder / "test_planted.py").write_text(PLANTED["pytest"], "utf-8")
        status, output = self.runTool("pytest", "test_checktoken.py", *pages)
        self.assertEqual((status, " 7 passed" in output), (0, True), output)
        status, output = self.runTool("pytest", "test_checktoken.py", "test_planted.py")
        self.assertEqual(status, 1)
        self.assertIn("1 failed, 10 passed, 1 error in", output)
        self.assertIn("E       -b\n", output)
        self.assertIn("the test has logged [KeyError('x')]", output)
        # The traceback ends in the test.
        self.assertNotIn("outcomes.py", output)
