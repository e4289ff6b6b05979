"""
Tests of L{sitio.policy.files}: files with policies, their options and their neighbours.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.files import LoadedAnew, importedFiles, importFile, loadedFile
from sitio.policy.loader import loadPolicies
from sitio.policy.sources import helpFor, policiesOf, shownPolicy
from sitio.testing import request, runPolicy

#: A file whose policy says what a neighbour does.
SAYS = (
    "import words\nfrom sitio import *\n"
    "say = onRequest(lambda exchange: Response(text=words.WORD))\n"
)

#: A file that takes options.
TOKENS = """
from typing import Annotated
from sitio import *
from sitio.policy.kinds import Duration, Secret
from sitio.policy.options import About

def makePolicy(
    *, url: str, key: Secret = "", timeout: Annotated[Duration, About("of a call", most=9)] = 5.0
):
    "Ask another service."
    if url == "bad": raise RuntimeError(url)
    return onRequest(lambda exchange: Response(text=f"{url} {key} {timeout}"))
"""


class FileTestCase(SynchronousTestCase):
    """A test with files of its own."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir()
        self.addCleanup(self.forget)
        self.patch(sys, "dont_write_bytecode", True)

    def forget(self) -> None:
        """Remove the modules of this test's folders."""
        for name in [each for each in sys.modules if each.startswith("sitio_policy_")]:
            del sys.modules[name]

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def said(self, path: Path) -> str:
        """The text that the policy of a file answers."""
        return runPolicy(loadPolicies(f"file:{path}"), request()).text


class NeighbourTests(FileTestCase):
    """A file may import what is in its folder."""

    def test_sitio(self) -> None:
        """Beside a checkout of sitio, a file gets the sitio that runs it."""
        self.write("sitio/__init__.py", "raise ImportError('another sitio')\n")
        self.write("words.py", "WORD = 'hello'\n")
        self.assertEqual(self.said(self.write("one.py", SAYS)), "hello")

    def test_found(self) -> None:
        """Modules and packages of the folder are found, in each form of C{import}."""
        self.write("words.py", "WORD = 'a'\n")
        self.write("pack/__init__.py", "from . import inner\nWORD = inner.WORD\n")
        self.write("pack/inner.py", "import words\nWORD = words.WORD * 2\n")
        for form, word in (
            ("import words", "words.WORD"),
            ("import words as w", "w.WORD"),
            ("from words import WORD", "WORD"),
            ("from words import *", "WORD"),
            ("from . import words", "words.WORD"),
            ("from .words import WORD", "WORD"),
            ("import pack", "pack.WORD[:1]"),
            ("import pack.inner", "pack.inner.WORD[1:]"),
            ("import pack.inner as i", "i.WORD[1:]"),
            ("from pack import inner", "inner.WORD[1:]"),
            ("from pack.inner import WORD", "WORD[1:]"),
        ):
            path = self.write(
                "mine.py",
                f"{form}\nfrom sitio import onRequest, Response\n"
                f"say = onRequest(lambda exchange: Response(text={word}))\n",
            )
            self.assertEqual(self.said(path), "a", form)

    def test_late(self) -> None:
        """An import within a function, which runs later, finds them as well."""
        self.write("words.py", "import sitio\ndef word():\n    import more\n    return more.WORD\n")
        self.write("more.py", "WORD = 'late'\n")
        path = self.write(
            "mine.py",
            "from sitio import onRequest, Response\n"
            "@onRequest\n"
            "def say(exchange):\n"
            "    import words\n"
            "    return Response(text=words.word())\n",
        )
        self.assertEqual(self.said(path), "late")

    def test_lateCost(self) -> None:
        """An import within a function looks for a neighbour once, not for each request."""
        path = self.write("mine.py", "def late():\n    import json\n    return json\n")
        late = importFile(path).late
        late()
        looked: list[Any] = []
        self.patch(Path, "is_file", lambda path: looked.append(path))
        self.assertEqual((late().__name__, looked), ("json", []))

    def test_apart(self) -> None:
        """Neighbours of the same name in two folders don't mix."""
        paths = []
        for word in ("a", "b"):
            self.write(f"{word}/words.py", f"WORD = {word!r}\n")
            paths.append(self.write(f"{word}/mine.py", SAYS))
        policies = [loadPolicies(f"file:{each}") for each in paths]
        for each, word in zip(policies, ("a", "b"), strict=True):
            self.assertEqual(runPolicy(each, request()).text, word)

    def test_noLeak(self) -> None:
        """Nothing else finds them, and nothing on C{sys.path} changes."""
        path = list(sys.path)
        self.write("words.py", "WORD = 'a'\n")
        # These would break the library, if it found them.
        for name in ("token", "types", "enum", "logging"):
            self.write(f"{name}.py", "raise RuntimeError\n")
        mine = self.write("mine.py", "import tokenize, treq, http.cookies\n" + SAYS)
        other = self.write("other/mine.py", SAYS)
        self.assertEqual(self.said(mine), "a")
        self.assertEqual(sys.path, path)
        self.assertNotIn("words", sys.modules)
        with self.assertRaises(ImportError):
            importFile(other)
        with self.assertRaises(ImportError):
            __import__("words")

    def test_installed(self) -> None:
        """A neighbour wins over an installed module of its name, for this folder only."""
        installed = ModuleType("words")
        vars(installed)["WORD"] = "installed"
        self.patch(sys, "modules", {**sys.modules, "words": installed})
        self.write("a/words.py", "WORD = 'mine'\n")
        self.assertEqual(self.said(self.write("a/mine.py", SAYS)), "mine")
        self.assertEqual(self.said(self.write("b/mine.py", SAYS)), "installed")
        # A folder without Python is no neighbour.
        self.write("c/words/readme.txt", "")
        self.assertEqual(self.said(self.write("c/mine.py", SAYS)), "installed")

    def test_once(self) -> None:
        """A neighbour runs once; the file itself runs each time."""
        self.write("words.py", "WORD = ''\n")
        path = self.write("mine.py", "import words\nwords.WORD += 'x'\n" + SAYS)
        self.assertEqual([self.said(path), self.said(path)], ["x", "xx"])

    def test_failed(self) -> None:
        """If the file or a neighbour raises, no new module is left; the next try is a new one."""
        before = set(sys.modules)
        self.write("words.py", "WORD = 'a'\n1 / 0\n")
        path = self.write("mine.py", SAYS)
        error = self.assertRaises(ValueError, loadPolicies, f"file:{path}")
        self.assertIn("mine.py:1 can't be loaded: ZeroDivisionError", str(error))
        self.assertEqual(set(sys.modules) - before, set())
        self.write("words.py", "WORD = 'better'\n")
        self.assertEqual(self.said(path), "better")
        working = loadedFile(path)
        path.write_text("1 / 0\n")
        self.assertRaises(ZeroDivisionError, importFile, path)
        self.assertIs(loadedFile(path), working)

    def test_names(self) -> None:
        """Files whose names are no identifiers work; classes know their module."""
        text = (
            "import sys\nfrom sitio import *\nimport words\n"
            "class Here: pass\n"
            "module = sys.modules[Here.__module__]\n"
            "say = onRequest(lambda exchange: Response(text=module.words.WORD))\n"
        )
        self.write("words.py", "WORD = 'a'\n")
        for name in ("a-b.py", "a.b.py", "1.py", "é ü.py", "class.py"):
            self.assertEqual(self.said(self.write(name, text)), "a", name)


class OptionTests(FileTestCase):
    """C{makePolicy} of a file takes options."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.write("tokens.py", TOKENS)

    def test_options(self) -> None:
        """Options of a description, or plain data, arrive with their types."""
        url = "http://a:80/b"
        for description, text in (
            (f"file:{self.path}:url={url}", "http://a:80/b  5.0"),
            (f"file:{self.path}:url=a:key=k:timeout=250ms", "a k 0.25"),
        ):
            [(name, policy)] = loadPolicies(description)
            self.assertEqual((name, policy(None).body), ("tokens", text.encode()))
        [(name, policy)] = policiesOf(f"file:{self.path}", {"url": "a", "timeout": 1})
        self.assertEqual((name, policy(None).body), ("tokens", b"a  1.0"))
        error = self.assertRaises(ValueError, policiesOf, f"file:{self.path}:url=s3cret", {})
        self.assertIn(":url=***': a name is expected here, without options", str(error))

    def test_refused(self) -> None:
        """A wrong option is named, with the usage; secrets are not shown."""
        usage = f"usage: file:{self.path}:url=TEXT[:key=SECRET][:timeout=DURATION]"
        for options, sentence in (
            ("", "url is missing: write url=TEXT"),
            (":ur=a", "there is no option ur; did you mean url?"),
            (":url=zork:timeout=1m", "timeout=1m: a duration up to 9s is expected"),
            (":s3cret", "there are more parts than it takes"),
            (":url=bad:key=s3cret", "RuntimeError: ***"),
        ):
            said = str(self.assertRaises(ValueError, loadPolicies, f"file:{self.path}{options}"))
            self.assertIn(sentence, said)
            self.assertIn(usage, said)
            self.assertNotIn("s3cret", said)
        error = self.assertRaises(
            ValueError, policiesOf, f"file:{self.path}", {"url": "a", "key": "s3cret", "kex": 1}
        )
        self.assertIn("there is no option kex; did you mean key?", str(error))

    def test_secretInFile(self) -> None:
        """What a file with a secret contains is not shown either, if the maker repeats it."""
        secret = self.write("key", "s3cret\n")
        path = self.write(
            "mine.py",
            "from sitio.policy.kinds import Secret\n"
            "def makePolicy(*, key: Secret): raise ValueError('not ' + key)\n",
        )
        said = str(self.assertRaises(ValueError, loadPolicies, f"file:{path}:key=@{secret}"))
        self.assertIn("': not ***; usage", said)
        self.assertNotIn("s3cret", said)

    def test_none(self) -> None:
        """A file without C{makePolicy} takes none, and a file can say so."""
        path = self.write("plain.py", "from sitio import *\na = onRequest(print)\n")
        for description in (f"file:{path}:a=s3cret", f"file:{path}:s3cret"):
            said = str(self.assertRaises(ValueError, loadPolicies, description))
            self.assertIn("takes no options: they are the parameters of a function", said)
            self.assertNotIn("s3cret", said)
        self.assertRaises(ValueError, policiesOf, f"file:{path}", {"a": 1})
        self.assertEqual([name for name, _ in policiesOf(f"file:{path}", {})], ["a"])
        self.assertEqual(helpFor(f"file:{path}"), f"file:{path}  takes no options")

    def test_leftOut(self) -> None:
        """
        A policy beside C{makePolicy}, which does not return it, is refused: a guard that
        silently does not run would let requests in.  Imported ones and those with C{_} are parts.
        """
        self.write("parts.py", "from sitio import *\n@onRequest\ndef part(exchange): pass\n")
        start = (
            "from sitio import *\nfrom parts import part\n"
            "class Guard:\n    def requestReceived(self, exchange): pass\n"
            "@onRequest\ndef made(exchange): pass\n"
        )
        named = "guard would not run, as makePolicy does not return it"
        for number, (beside, returned, wanted) in enumerate(
            (
                ("guard = onRequest(lambda exchange: None)", "made", named),
                ("guard = Guard()", "[made]", named),
                ("guard = Guard()", "[guard]", "made would not run"),
                ("guard = Guard()", "(guard, made)", 2),
                ("_guard = Guard()", "made", 1),
                ("guard = Guard", "[made, Guard()]", 2),
            )
        ):
            path = self.write(
                f"left{number}.py", f"{start}{beside}\ndef makePolicy(): return {returned}\n"
            )
            if isinstance(wanted, int):
                self.assertEqual(len(loadPolicies(f"file:{path}")), wanted)
            else:
                error = self.assertRaises(ValueError, loadPolicies, f"file:{path}")
                self.assertIn(wanted, str(error))

    def test_several(self) -> None:
        """C{makePolicy} may return a list."""
        path = self.write(
            "two.py",
            "from sitio import *\n"
            "def makePolicy(word='a'):\n"
            "    @onRequest\n"
            "    def first(exchange): pass\n"
            "    @onResponse\n"
            "    def second(exchange, response): response.headers['X-Word'] = word\n"
            "    return [first, second]\n",
        )
        found = loadPolicies(f"file:{path}:b")
        self.assertEqual([name for name, _ in found], ["first", "second"])
        self.assertEqual(runPolicy(found, request()).headers["X-Word"], "b")

    def test_class(self) -> None:
        """An attrs class may be C{makePolicy}; it needs no C{@implementer}."""
        path = self.write(
            "kind.py",
            "from attrs import define\nfrom sitio import *\n"
            "@define\n"
            "class Kind:\n"
            "    word: str = 'a'\n"
            "    def requestReceived(self, exchange): return Response(text=self.word)\n"
            "makePolicy = Kind\n",
        )
        self.assertEqual(self.said(path), "a")
        [(_, policy)] = loadPolicies(f"file:{path}:word=b")
        self.assertEqual(runPolicy(policy, request()).text, "b")

    def test_shown(self) -> None:
        """What is shown is declared in the file, if it is loaded; it is not run for that."""
        description = f"file:{self.path}:url=s3cret:key=s3cret:timeout=1s"
        hidden = f"file:{self.path}:url=***:key=***:timeout="
        self.assertEqual(shownPolicy(description), f"{hidden}***")
        loadPolicies(description)
        self.assertEqual(shownPolicy(description), f"{hidden}1s")

    def test_help(self) -> None:
        """C{--help-policies file:PATH} tells the options of a file."""
        lines = helpFor(f"file:{self.path}").splitlines()
        self.assertIn("  timeout=DURATION  of a call (a duration up to 9s)  [5s]", lines)
        unknown: Any = self.assertRaises(ValueError, helpFor, "zork")
        self.assertIn("there is no policy 'zork'", str(unknown))


class AnewTests(FileTestCase):
    """Files that have changed."""

    def word(self, path: Path) -> str:
        """What the policy of the loaded file says."""
        module = loadedFile(path)
        assert module is not None
        return str(runPolicy(module.say, request()).text)

    def test_anew(self) -> None:
        """A file and its neighbour run anew, and count from when they are used."""
        path = self.write("say.py", SAYS)
        self.write("words.py", "WORD = 'one'")
        importFile(path)
        self.write("words.py", "WORD = 'two'")
        anew = LoadedAnew()
        with anew:
            importFile(path)
            self.assertEqual(self.word(path), "two")
        self.assertEqual(self.word(path), "one")
        anew.use()
        self.assertEqual(self.word(path), "two")

    def test_failing(self) -> None:
        """If one can't be loaded, all are as before."""
        path = self.write("say.py", SAYS)
        words = self.write("words.py", "WORD = 'one'")
        importFile(path)
        self.write("words.py", "WORD = 1 / 0")
        with self.assertRaises(ZeroDivisionError), LoadedAnew():
            importFile(path)
        self.assertEqual(self.word(path), "one")
        self.assertEqual(importedFiles(), sorted([path, words]))

    def test_atOnce(self) -> None:
        """A change within the second, to a text of the same length, is seen; nothing is kept."""
        self.patch(sys, "dont_write_bytecode", False)
        path = self.write("say.py", SAYS)
        for word in ("one", "two", "six"):
            self.write("words.py", f"WORD = '{word}'")
            with (anew := LoadedAnew()):
                importFile(path)
            anew.use()
            self.assertEqual(self.word(path), word)
        self.assertEqual({each.name for each in self.root.iterdir()}, {"say.py", "words.py"})
