"""
Promises of L{sitio.cli.newpolicy} and L{sitio.cli.skeleton}.

C{system.test_command} runs the tests that are written, and installs the project.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from sitio.cli.main import commands
from sitio.cli.skeleton import MAX_NAME, files
from sitio.policy.loader import loadPolicies


class NewPolicyTests(SynchronousTestCase):
    """C{sitio new-policy}."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def make(self, name: str) -> Result:
        return CliRunner().invoke(commands, ["new-policy", name, "--dir", str(self.folder)])

    def test_written(self) -> None:
        """It writes three files, and the policy can be loaded by its file."""
        result = self.make("check-token")
        self.assertEqual(result.exit_code, 0, result.output)
        names = ["pyproject.toml", "sitio_check_token.py", "test_sitio_check_token.py"]
        self.assertEqual(sorted(each.name for each in self.folder.iterdir()), names)
        for each in names:
            self.assertIn(str(self.folder / each), result.output)
        [(name, _)] = loadPolicies(f"file:{self.folder}/sitio_check_token.py:value=a")
        self.assertEqual(name, "sitio_check_token")
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())
        self.assertEqual(
            project["project"]["entry-points"]["sitio.policies"],
            {"check-token": "sitio_check_token:makePolicy"},
        )

    def test_neverOverwrites(self) -> None:
        """If one of the files exists, nothing is changed, and no other is written."""
        self.folder.mkdir()
        for name in files("stamp"):
            (self.folder / name).write_text("mine")
            result = self.make("stamp")
            self.assertEqual(result.exit_code, 1)
            self.assertIn(f"{name} can't be written: File exists", result.output)
            self.assertEqual([each.name for each in self.folder.iterdir()], [name])
            self.assertEqual((self.folder / name).read_text(), "mine")
            (self.folder / name).unlink()

    def test_names(self) -> None:
        """Names that a policy can't have, or that another one has, are refused."""
        for name in ("Stamp", "a_b", "a--b", "-a", "1a", "", "a:b", "../a", "a" * (MAX_NAME + 1)):
            self.assertRaises(ValueError, files, name)
        for name in ("retry", "file"):
            result = self.make(name)
            self.assertIn(f"there is a policy {name} already", result.output)
            self.assertEqual(result.exit_code, 1)
        self.assertFalse(self.folder.exists())

    def test_used(self) -> None:
        """The policy has the parts that its text and its test name."""
        texts = files("check-token")
        self.assertIn("X-Check-Token", texts["sitio_check_token.py"])
        self.assertIn("class CheckTokenTests", texts["test_sitio_check_token.py"])
        for text in texts.values():
            self.assertNotIn("{", text.replace('headers={"X-', ""))
