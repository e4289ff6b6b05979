"""
Tests of the documents: their Python runs, their policies, options, modules and
classes exist, their links have targets.
"""

from __future__ import annotations

import ast
import re
import runpy
import sys
from importlib import import_module
from inspect import isclass
from pathlib import Path
from unittest import TestResult, TestSuite

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.config.options import Options
from sitio.errors import CannotStart
from sitio.interfaces import IPolicyMaker
from sitio.policy.declaration import Declaration
from sitio.policy.help import optionTable
from sitio.policy.loader import loadPolicies
from sitio.policy.makers import makers
from sitio.test.helpers.documents import blocks

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

#: Files in blocks of Python that define no policy at their top level, and why.
NO_POLICY = {
    "fresh.py": "a file with makePolicy, whose options are in the tests of files",
    "loud.py": "a module with makePolicy",
    "swap.py": "a function for programs that embed sitio",
}

#: Names after C{--policy} in the documents that are no built-in policies, and why.
NOT_BUILT_IN = {
    "eror-page": "a mistake, to show its error message",
    "file": "its file is a block, which test_python loads",
    "loud": "the distribution of docs/policies.md",
}

#: Files with tokens in descriptions of policies.
SECRET = re.compile("(token:)[^:]+")

# Not in error messages of sitio.
_described = re.compile(r"(?<!sitio: )--policy (?:'([^']+)'|([a-z-]+(?::[^\s`\"']+)?))")
_link = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_picture = re.compile(r'<[^>]+ (?:src|srcset)="([^"]+)"')
_decision = re.compile(r"docs/decisions/(\d{4}-[a-z-]+\.md)").findall
_heading = re.compile(r"^#+ (.+)$", re.MULTILINE)
# A module, and what a document says that it defines: `proxy/upload.py`: `Upload`, `finish`.
_module = re.compile(r"`((?:\w+/)?\w+\.(?:py|js))`((?:: `[\w.]+`(?:, `[\w.]+`)*)?)")

#: Files named in the documents that are not in the repository.
NOT_OURS = {"cache.py", "friendly.py", "greet.py", "mine.py", "twisted/__init__.py"}


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as code hosts make them."""
    return {
        re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in _heading.findall(text)
    }


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables, by their first cell without backticks."""
    cells = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {each[0].strip(" `"): [cell.strip() for cell in each[1:]] for each in cells}


class DocumentTests(SynchronousTestCase):
    """What the documents say is true."""

    if not all(each.is_file() for each in DOCUMENTS[:1]):
        skip = "sitio is installed without its documents"

    def setUp(self) -> None:
        self.texts = {each: each.read_text("utf-8") for each in DOCUMENTS}
        self.patch(sys, "dont_write_bytecode", True)

    def test_commands(self) -> None:
        """The commands of CONTRIBUTING.md exist: C{make run} and others, and tests by name."""
        text = self.texts[ROOT / "CONTRIBUTING.md"]
        makefile = (ROOT / "Makefile").read_text("utf-8")
        targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
        asked = re.findall(r"(?:`|^    )make (?:[A-Z]+=\S+ )?([a-z][a-z0-9-]*)", text, re.MULTILINE)
        self.assertEqual(set(asked) - targets, set())
        self.assertIn("test", asked)
        tests = re.findall(r"^    \.venv/bin/trial (\S+)", text, re.MULTILINE)
        self.assertEqual(len(tests), 2)
        for each in tests:
            self.assertTrue(namedAny(each))

    def test_loopback(self) -> None:
        """C{make run} is for this host only."""
        [recipe] = re.findall(
            r"^run:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
        )
        self.assertIn("--port tcp:$(PORT):interface=127.0.0.1", recipe)

    def written(self, document: Path) -> tuple[Path, list[Path]]:
        """Write the blocks of a document as files; their folder, and their paths."""
        folder = Path(self.mktemp()).resolve()
        found: list[Path] = []
        for name, text in blocks(self.texts[document]):
            self.assertNotEqual(name, "", f"a block in {document.name} names no file: {text}")
            path = folder / name
            # The second would be run in place of the first.
            self.assertNotIn(path, found, f"two blocks in {document.name} are the file {name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            found.append(path)
        return folder, found

    def check(self, path: Path) -> None:
        """Run a file as a reader would."""
        names = runpy.run_path(str(path))
        if path.name.startswith("test_"):
            self.checkTests(path, names)
        elif path.parent.name == "plugins":
            for each in names.values():
                if IPolicyMaker.providedBy(each):
                    verifyObject(IPolicyMaker, each)
        elif path.name not in NO_POLICY:
            loadPolicies(f"file:{path}")

    def checkTests(self, path: Path, names: dict[str, object]) -> None:
        """Run the test cases of a file, if it has any; its assertions have run already."""
        suite = TestSuite()
        for case in names.values():
            if isclass(case) and issubclass(case, SynchronousTestCase):
                suite.addTests(case(each) for each in dir(case) if each.startswith("test_"))
        result = TestResult()
        suite.run(result)
        self.assertEqual(result.errors + result.failures, [], path.name)

    def test_python(self) -> None:
        """Each block of Python runs: policies load, assertions and test cases pass."""
        for document in self.texts:
            folder, files = self.written(document)
            sys.path.insert(0, str(folder))
            try:
                for path in files:
                    self.check(path)
            finally:
                sys.path.remove(str(folder))
                # Another document may have a file of the same name.
                for path in files:
                    sys.modules.pop(path.stem, None)

    def test_policiesNamed(self) -> None:
        """Each built-in policy in a command exists, and accepts these arguments."""
        for document, text in self.texts.items():
            for quoted, plain in _described.findall(text):
                description = quoted or plain
                # Not those that need a file.
                if description.partition(":")[0] not in NOT_BUILT_IN and "file=" not in description:
                    self.assertTrue(self.loaded(description), document.name)

    def loaded(self, description: str) -> list[tuple[str, object]]:
        """The policies of a description, where the file of a secret is this one."""
        secret = Path(self.mktemp()).absolute()
        secret.write_text("s3cret\n")
        return loadPolicies(SECRET.sub(rf"\g<1>{secret}", description))

    def test_options(self) -> None:
        """The README lists each option, with its default and its help."""
        listed = rows(self.texts[DOCUMENTS[0]])
        for name, _, default, help in Options.optParameters:
            shown = listed[f"--{name}"]
            self.assertEqual(shown[1].rstrip(" |"), help, name)
            if default is not None:
                self.assertEqual(shown[0], default, name)
        for name, _, help in Options.optFlags:
            self.assertEqual(listed[f"--{name}"][1].rstrip(" |"), help, name)

    def test_policiesListed(self) -> None:
        """The README lists each built-in policy, with a description that makes one."""
        listed = rows(self.texts[DOCUMENTS[0]])
        for name, maker in makers().items():
            if maker.module.startswith("sitio."):
                description = listed[name][0].strip("`")
                self.assertEqual(self.loaded(description)[0][0], name)

    def test_optionsOfPolicies(self) -> None:
        """docs/operations.md has the usage and the options of each policy, as it declares them."""
        text = self.texts[ROOT / "docs/operations.md"]
        for name, maker in makers().items():
            if maker.module.startswith("sitio."):
                declaration = Declaration.of(maker.load())
                self.assertIn(f"\n    {name}{declaration.usage}\n", text)
                table = optionTable(declaration)
                self.assertIn(f"\n{table}\n", text, f"write:\n{table}")

    def test_links(self) -> None:
        """Each link within the project has its file, and its heading in it."""
        for document, text in self.texts.items():
            for link in [*_link.findall(text), *_picture.findall(text)]:
                if "://" in link:
                    continue
                name, _, anchor = link.partition("#")
                target = (document.parent / name).resolve() if name else document
                self.assertTrue(target.exists(), f"{document.name}: {link}")
                if anchor:
                    self.assertIn(anchor, anchors(target.read_text("utf-8")), document.name)

    def test_decisions(self) -> None:
        """Each decision has a number of its own, and those that the code names exist."""
        names = [path.name for path in (ROOT / "docs/decisions").glob("*.md")]
        self.assertEqual(len({name[:4] for name in names}), len(names))
        named = {
            (path.name, name)
            for folder in ("sitio", "bench", "e2e", "examples", "twisted")
            for path in (ROOT / folder).rglob("*.py")
            for name in _decision(path.read_text("utf-8"))
        }
        self.assertGreater(len(named), 4)
        self.assertEqual([each for each in named if each[1] not in names], [])

    def test_modules(self) -> None:
        """Each module that a document names exists, and so do the names in it."""
        known = {
            "/".join(path.parts[-length:])
            for folder in ("sitio", "bench", "e2e", "examples", "docs", "manifests")
            for path in (ROOT / folder).rglob("*.*")
            for length in (1, 2)
        }
        known |= {each.name for each in ROOT.iterdir()}
        missing = [
            f"{document.name}: {name}"
            for document, text in self.texts.items()
            for name, _ in _module.findall(text)
            if name not in known | NOT_OURS
        ]
        self.assertEqual(missing, [])
        for text in self.texts.values():
            for name, more in _module.findall(text):
                for attribute in re.findall(r"`([\w.]+)`", more):
                    self.checkDefined(name, attribute)

    def checkDefined(self, name: str, attribute: str) -> None:
        """A module of sitio defines C{Class}, C{Class.method} or C{function}."""
        module = import_module(f"sitio.{name.removesuffix('.py').replace('/', '.')}")
        found: object = module
        for part in attribute.split("."):
            found = getattr(found, part, None)
            self.assertIsNotNone(found, f"{name}: {attribute}")

    def test_logLines(self) -> None:
        """docs/operations.md lists log lines as sitio writes them."""
        text = self.texts[ROOT / "docs/operations.md"]
        section = text[text.index("## Logs") : text.index("## The access log")]
        lines = re.findall(r"^\| \[?`([^`]+)`", section, re.MULTILINE)
        self.assertGreater(len(lines), 5)
        trees = [ast.parse(each.read_text("utf-8")) for each in (ROOT / "sitio").rglob("*.py")]
        strings = "\n".join(
            each.value
            for tree in trees
            for each in ast.walk(tree)
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        )
        for line in lines:
            for part in filter(None, (each.strip() for each in line.split("..."))):
                self.assertIn(part, strings, line)

    def test_badPolicy(self) -> None:
        """docs/operations.md shows the error for an unknown policy as sitio prints it."""
        error = self.assertRaises(CannotStart, Options({}).parseOptions, ["--policy=eror-page:404"])
        self.assertIn(str(error), self.texts[ROOT / "docs/operations.md"])
