"""
Tests of L{sitio.policy.located}, and of the folder of policies' files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest
from sitio.policy.declaration import Declaration
from sitio.policy.kinds import Secret
from sitio.policy.located import located, locatedPlain
from sitio.policy.options import About
from sitio.policy.sources import policiesOf, policiesOfText

FOLDER = Path("/etc/sitio")


def makePolicy(
    page: Path,
    *more: Path,
    key: Secret = "",
    text: str = "",
    files: tuple[Path, ...] = (),
    times: Annotated[int, About("how often")] = 1,
) -> Any:
    """Make a policy."""

    @onRequest
    def policy(exchange: Any) -> None:
        pass

    return policy


DECLARATION = Declaration.of(makePolicy)


class LocatedTests(SynchronousTestCase):
    """Paths in options are relative to a folder."""

    def test_text(self) -> None:
        """Paths and files of secrets are, whether they have names or not; other texts stay."""
        arguments, options = located(
            DECLARATION,
            ["a.html", "b.html", "/c.html"],
            {
                "key": ["@secret"],
                "text": ["@a", "b"],
                "files": ["x,y", "/z"],
                "times": ["2"],
                "unknown": ["u"],
            },
            FOLDER,
        )
        self.assertEqual(arguments, ["/etc/sitio/a.html", "/etc/sitio/b.html", "/c.html"])
        self.assertEqual(
            options,
            {
                "key": ["@/etc/sitio/secret"],
                "text": ["@a", "b"],
                "files": ["/etc/sitio/x,/etc/sitio/y", "/z"],
                "times": ["2"],
                "unknown": ["u"],
            },
        )

    def test_plain(self) -> None:
        """The same holds for plain data, where file: names the file of a secret, too."""
        found = locatedPlain(
            DECLARATION,
            {
                "page": "a.html",
                "more": ["b.html", "/c.html"],
                "key": "file:secret",
                "text": "file:a",
                "files": ["x", "y"],
                "times": 2,
                "unknown": True,
            },
            FOLDER,
        )
        self.assertEqual(
            found,
            {
                "page": "/etc/sitio/a.html",
                "more": ["/etc/sitio/b.html", "/c.html"],
                "key": "@/etc/sitio/secret",
                "text": "file:a",
                "files": ["/etc/sitio/x", "/etc/sitio/y"],
                "times": 2,
                "unknown": True,
            },
        )
        self.assertEqual(
            locatedPlain(DECLARATION, {"key": "@secret"}, FOLDER), {"key": "@/etc/sitio/secret"}
        )
        self.assertEqual(locatedPlain(DECLARATION, {"key": "geheim"}, FOLDER), {"key": "geheim"})

    def test_tooMany(self) -> None:
        """Arguments that are too many stay as they are, for the sentence about them."""

        def makeOne(page: Path) -> Any:
            raise AssertionError

        found, _ = located(Declaration.of(makeOne), ["a", "b"], {}, FOLDER)
        self.assertEqual(found, ["/etc/sitio/a", "b"])


class FolderTests(SynchronousTestCase):
    """The files of policies lie in a folder."""

    def test_files(self) -> None:
        """A file with policies, and one that its option names, are found in the folder."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "mine.py").write_text(
            "from pathlib import Path\n"
            "from zope.interface import implementer\n"
            "from sitio.interfaces import IRequestPolicy\n"
            "def makePolicy(page: Path):\n"
            "    held = page.read_text()\n"
            "    class Mine:\n"
            "        text = held\n"
            "        def requestReceived(self, exchange): pass\n"
            "    return implementer(IRequestPolicy)(Mine)()\n"
        )
        (folder / "page.html").write_text("hello")
        for made in (
            policiesOfText("file:mine.py:page.html", folder),
            policiesOf("file:mine.py", {"page": "page.html"}, folder),
        ):
            [(name, policy)] = made
            self.assertEqual((name, policy.text), ("mine", "hello"))
        error = self.assertRaises(ValueError, policiesOfText, "file:mine.py:page.html")
        self.assertIn("mine.py is not a Python file", str(error))
