"""
Tests of L{sitio.policy.help}.
"""

from __future__ import annotations

from typing import Annotated

from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.declaration import Declaration
from sitio.policy.help import helpText, optionTable
from sitio.policy.kinds import Duration, Secret
from sitio.policy.options import About


def make(
    url: Annotated[str, About("whom to ask")],
    *,
    token: Annotated[Secret, About("ours")] = "s3cret",
    timeout: Annotated[Duration, About("of one call", most=30)] = 5.0,
) -> None: ...


class HelpTests(SynchronousTestCase):
    """A declaration tells people what its options are."""

    def setUp(self) -> None:
        self.declaration = Declaration.of(make)

    def test_text(self) -> None:
        """On a terminal: the usage, and a line for each option with its default."""
        self.assertEqual(
            helpText("ask:URL  ask somebody", self.declaration).splitlines(),
            [
                "ask:URL",
                "  ask somebody",
                "",
                "  URL               whom to ask (a text)",
                "  token=SECRET      ours (a secret)                     [***]",
                "  timeout=DURATION  of one call (a duration up to 30s)  [5s]",
            ],
        )
        self.assertEqual(helpText("a  b", Declaration.of(lambda: None)), "a\n  b")

    def test_table(self) -> None:
        """In documents: a table with the same."""
        self.assertEqual(
            optionTable(self.declaration).splitlines(),
            [
                "| option | value | default | |",
                "|---|---|---|---|",
                "| `url` | a text |  | whom to ask |",
                "| `token` | a secret | *** | ours |",
                "| `timeout` | a duration up to 30s | 5s | of one call |",
            ],
        )
