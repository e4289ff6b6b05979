"""
Promises of L{sitio.cli.completion}: names of policies, and files.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sitio.cli.completion import MAX_FILES, descriptionAt, policyItems, valueItems
from sitio.config.optionlist import CHOICES


class ValueTests(SynchronousTestCase):
    """Values of options."""

    def values(self, name: str, begun: str) -> list[str]:
        return [each.value for each in valueItems(name, begun)]

    def test_words(self) -> None:
        """The words are those that the options take."""
        for name, words in CHOICES.items():
            self.assertEqual(self.values(name, ""), list(words))
        self.assertEqual(self.values("forwarded", "re"), ["replace"])
        self.assertEqual(self.values("max-head", ""), [])

    def test_config(self) -> None:
        """The shell looks for a configuration file itself."""
        [item] = valueItems("config", "si")
        self.assertEqual((item.type, item.value), ("file", "si"))

    def test_policies(self) -> None:
        """Policies are offered by name, then with the options that they have."""
        self.assertEqual(self.values("policy", "de"), ["deny"])
        self.assertEqual(self.values("policy", "fi"), ["file:"])
        self.assertEqual(self.values("policy", "retry:times=2:af"), ["retry:times=2:after="])
        self.assertEqual(self.values("policy", "nope:"), [])

    def test_files(self) -> None:
        """Files of Python and folders are offered, hidden ones only by their dot."""
        folder = Path(self.mktemp())
        (folder / "more").mkdir(parents=True)
        for name in ("mine.py", "mine.txt", ".hidden.py"):
            (folder / name).write_text("")
        found = [each.value for each in policyItems(f"file:{folder}{os.sep}")]
        self.assertEqual(found, [f"file:{folder}/mine.py", f"file:{folder}/more/"])
        found = [each.value for each in policyItems(f"file:{folder}/.h")]
        self.assertEqual(found, [f"file:{folder}/.hidden.py"])
        self.assertEqual(policyItems("file:/nonexistent/x"), [])

    def test_many(self) -> None:
        """Of many files, a bounded number is offered."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for number in range(MAX_FILES + 1):
            (folder / f"{number}.py").write_text("")
        self.assertEqual(len(policyItems(f"file:{folder}/")), MAX_FILES)


class SplitTests(SynchronousTestCase):
    """What bash has split."""

    def test_parts(self) -> None:
        """Parts of a description are put together; other words are left alone."""
        for words, begun, found in (
            (["--policy", "file", ":"], "mi", ("file:", "mi")),
            (["--policy", "file"], ":", ("file:", "")),
            (["--policy", "=", "a", ":", "b", "=", "2", ":"], "c", ("a:b=2:", "c")),
            (["--policy", "a", ":", "b", "--policy", "c"], ":", ("c:", "")),
            (["--policy", "a", ":", "b"], "c", None),
            (["--policy"], "a", None),
            (["--port", "a", ":"], "b", None),
        ):
            self.assertEqual(descriptionAt(words, begun), found, words)
