"""
Promises of L{sitio.cli.policies}: what is installed, and the options of a policy.
"""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from sitio.cli.main import commands
from sitio.policy.makers import declarationOf, makers


class PoliciesTests(SynchronousTestCase):
    """C{sitio policies}."""

    def output(self, *names: str, status: int = 0) -> str:
        result = CliRunner().invoke(commands, ["policies", *names])
        self.assertEqual(result.exit_code, status, result.output)
        return result.output

    def test_all(self) -> None:
        """Each policy has a line with what it does; files are among them."""
        output = self.output()
        for name, maker in makers().items():
            _, _, about = maker.usage.partition("  ")
            self.assertRegex(output, rf"(?m)^{name} +{about.split(',')[0][:40]}")
        self.assertIn("\nfile:PATH ", output)

    def test_options(self) -> None:
        """Each option of a policy has its line."""
        output = self.output("retry", "last-good")
        for name in ("retry", "last-good"):
            for each in declarationOf(makers()[name]).options:
                self.assertRegex(output, rf"(?m)^  {each.key} +\S")
        self.assertIn("retry[:times=N]", output)

    def test_file(self) -> None:
        """A file has the options of its makePolicy; one without it has none."""
        path = Path(self.mktemp() + ".py")
        path.write_text("from sitio import onRequest\n@onRequest\ndef a(exchange): pass\n")
        self.assertIn("It takes no options.", self.output(f"file:{path}"))

    def test_unknown(self) -> None:
        """An unknown name is an error with the known ones."""
        self.assertIn("Error: there is no policy 'rety'", self.output("rety", status=1))
