"""
Tests of C{examples/packaged}, installed into an environment of its own.
"""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import sitio

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
