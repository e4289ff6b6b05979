"""
Promises of L{sitio.cli.passing}: C{sitio run} has the options of C{twistd sitio}.
"""

from __future__ import annotations

from itertools import chain

import click
from attrs import fields
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from sitio.cli.groups import GROUPS, LIMITS, OTHER, grouped
from sitio.cli.main import commands
from sitio.cli.passing import METAVARS, PassingCommand
from sitio.config.limits import optionName
from sitio.config.options import Options
from sitio.settings import Settings

#: Names of all options but those that the command has in another way.
NAMES = {
    each.rstrip("=") for each in Options({}).longOpt if each not in ("version", "help-policies")
}


class HelpTests(SynchronousTestCase):
    """C{sitio run --help}."""

    def test_all(self) -> None:
        """It lists each option once, wherever C{--help} stands, and parses nothing."""
        for arguments in (["--help"], ["--prot", "1", "-h"]):
            result = CliRunner().invoke(commands, ["run", *arguments])
            self.assertEqual(result.exit_code, 0)
            for name in NAMES:
                shown = [
                    line
                    for line in result.output.splitlines()
                    if line.lstrip().startswith("-") and f"--{name} " in f"{line} "
                ]
                self.assertEqual(len(shown), 1, f"{name} {shown}")

    def test_defaults(self) -> None:
        """It has the help and the defaults of the tables."""
        output = " ".join(CliRunner().invoke(commands, ["run", "-h"]).output.split())
        self.assertIn("seconds between two stats lines in the log; 0 for none [default: 2]", output)
        self.assertIn("-p, --port ADDRESS port for clients", output)
        self.assertIn("--policy POLICY a policy, such as error-page:404", output)

    def test_groups(self) -> None:
        """Each option has its group, and each name in a group is that of an option."""
        limits = [optionName(each.name) for each in fields(Settings)]
        found = grouped(sorted(NAMES), limits)
        self.assertEqual(sorted(chain(*found.values())), sorted(NAMES))
        self.assertEqual(found[OTHER], ["help", "help-memory"])
        self.assertEqual(found[LIMITS], limits)
        known = {each for members in GROUPS.values() for each in members} | METAVARS.keys()
        self.assertEqual(known - NAMES, set())


class ArgumentsTests(SynchronousTestCase):
    """The arguments of the command."""

    def test_untouched(self) -> None:
        """They are passed on as they are: wrong ones, too."""
        got: list[list[str]] = []

        @click.command(cls=PassingCommand)
        @click.pass_context
        def command(ctx: click.Context) -> None:
            got.append(ctx.args)

        for arguments in (
            ["--port", "1", "--policy=a", "--policy", "b", "rest", "--", "-x"],
            ["--workers", "-1", "--nonsense"],
            [],
        ):
            result = CliRunner().invoke(command, arguments)
            self.assertEqual((result.exit_code, got.pop()), (0, arguments))


def completed(*words: str) -> list[str]:
    """What a shell offers for the last word of a command line."""
    complete = ShellComplete(commands, {}, "sitio", "_SITIO_COMPLETE")
    return [each.value for each in complete.get_completions(list(words[:-1]), words[-1])]


class CompletionTests(SynchronousTestCase):
    """What shells offer."""

    def test_commands(self) -> None:
        """Names of commands, with their summaries."""
        self.assertEqual(completed("r"), ["run", "reload"])
        self.assertEqual(completed("st"), ["status"])

    def test_options(self) -> None:
        """Names of options, also after others that are not finished."""
        self.assertEqual(completed("run", "--prob"), ["--probes"])
        self.assertEqual(completed("run", "--port", "1", "--demo", "--pool-s"), ["--pool-size"])
        self.assertEqual(completed("check", "--forwarded-"), ["--forwarded-style"])

    def test_values(self) -> None:
        """Words, and names of policies."""
        self.assertEqual(completed("run", "--log-format", ""), ["text", "json"])
        self.assertEqual(completed("run", "--policy", "last"), ["last-good"])
        self.assertEqual(completed("policies", "re"), ["retry"])

    def test_split(self) -> None:
        """bash splits descriptions at colons: what is offered follows the last of them."""
        self.assertEqual(completed("run", "--policy", "retry", ":", "ti"), ["times="])
        self.assertEqual(completed("run", "--policy", "=", "retry", ":", "st"), ["statuses="])
        offered = completed("run", "--policy", "retry", ":")
        self.assertEqual(offered, ["times=", "statuses=", "after="])
