"""
Promises of L{sitio.cli.main}: the commands, their help, and what is imported for each.
"""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from sitio import __version__
from sitio.cli.main import COMMANDS, commands


def sitio(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(commands, arguments, prog_name="sitio")


class CommandsTests(SynchronousTestCase):
    """The group of commands."""

    def test_help(self) -> None:
        """The help lists each command, as does C{sitio} alone."""
        for arguments in ([], ["--help"], ["-h"]):
            output = sitio(*arguments).output
            for name, (_, _, summary) in COMMANDS.items():
                self.assertRegex(output, rf"\n  {name} +{summary}")

    def test_each(self) -> None:
        """Each command exists under its name, and has a help."""
        for name in COMMANDS:
            result = sitio(name, "--help")
            self.assertEqual((result.exit_code, name in result.output), (0, True), result.output)

    def test_version(self) -> None:
        """C{sitio version} and C{sitio --version} print one line."""
        for argument in ("version", "--version"):
            self.assertEqual(sitio(argument).output, f"sitio {__version__}\n")

    def test_unknown(self) -> None:
        """A command that does not exist is an error of usage, with the nearest one."""
        for name, hint in (("statsu", "did you mean status?"), ("xyz", "there are run, check,")):
            result = sitio(name)
            self.assertEqual(result.exit_code, 2)
            self.assertIn(f"there is no command {name!r}", result.output)
            self.assertIn(hint, result.output)

    def test_light(self) -> None:
        """Commands that only ask a running sitio load no reactor and no options; the help loads no
        command."""
        script = (
            "import sys\n"
            "from click.testing import CliRunner\n"
            "from sitio.cli.main import commands\n"
            "for arguments in (['--help'], ['status', '--help'], ['drain', '--admin=:1']):\n"
            "    CliRunner().invoke(commands, arguments)\n"
            "    loaded = {'twisted.internet.base', 'twisted.scripts', 'sitio.config.options'}\n"
            "    loaded |= {'twisted.web', 'treq', 'sitio.cli.status'}\n"
            "    print(arguments[0], sorted(loaded & set(sys.modules)))\n"
        )
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        self.assertEqual(
            (result.stdout, result.stderr),
            ("--help []\nstatus ['sitio.cli.status']\ndrain ['sitio.cli.status']\n", ""),
        )
