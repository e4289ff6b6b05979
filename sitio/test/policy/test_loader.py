"""
Tests of L{sitio.policy.loader}.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import twisted.plugins
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest
from sitio.interfaces import (
    IPolicyMaker,
)
from sitio.policy.loader import loadPolicies
from sitio.policy.makers import makers
from sitio.policy.sources import policiesOf
from sitio.testing import (
    request,
    response,
    runPolicy,
)


def unused(*given: Any) -> None:
    """A function that no test calls."""
    raise AssertionError("called")


class DescriptionTests(SynchronousTestCase):
    """A description gives policies, or an error of one sentence."""

    def setUp(self) -> None:
        self.made: list[Any] = []
        self.makes: Callable[..., Any] = lambda *arguments, **options: onRequest(unused)
        test = self

        class Maker:
            name = "made-up"
            usage = "made-up:WORD  say a word"

            def makePolicy(self, *arguments: str, **options: str) -> Any:
                test.made.append((arguments, options))
                return test.makes(*arguments, **options)

        self.maker = Maker
        self.patch(sys.modules["sitio.policy.makers"], "getPlugins", lambda interface: [Maker()])

    def sentence(self, description: str) -> str:
        """The error for a bad description, which must be one line."""
        said = str(self.assertRaises(ValueError, loadPolicies, description))
        self.assertNotIn("\n", said)
        return said

    def test_made(self) -> None:
        """The policy has the name of its maker."""
        [(name, policy)] = loadPolicies("made-up")
        self.assertEqual((name, policy), ("made-up", onRequest(unused)))
        self.assertEqual(self.made, [((), {})])

    def test_parsed(self) -> None:
        """Colons separate arguments and options; C{max-age} becomes C{maxAge}."""
        for description, arguments, options in (
            ("made-up:404", ("404",), {}),
            ("made-up:404:410:file=a b.html", ("404", "410"), {"file": "a b.html"}),
            ("made-up:max-age=60:stale-if-error=1", (), {"maxAge": "60", "staleIfError": "1"}),
            ("made-up:a=b=c", (), {"a": "b=c"}),
            ("made-up:a=", (), {"a": ""}),
            ("made-up:", ("",), {}),
            (r"made-up:C\:\\x:a=http\://b", ("C:\\x",), {"a": "http://b"}),
            ("made-up:/a=b", ("/a=b",), {}),
            # The colons of a URL's scheme and port are parts of it.
            ("made-up:http://b", ("http://b",), {}),
            ("made-up:u=http://b:80:t=5s", (), {"u": "http://b:80", "t": "5s"}),
            ("made-up:u=https://u@b:80/c?d=e:f", ("f",), {"u": "https://u@b:80/c?d=e"}),
            ("made-up:u=http://[::1]:80/x:y", ("y",), {"u": "http://[::1]:80/x"}),
            ("made-up:set A https://b:c", ("set A https://b", "c"), {}),
            ("made-up:http://b:80x", ("http://b", "80x"), {}),
            (r"made-up:u=http\://b:80", ("80",), {"u": "http://b"}),
            ("made-up:GET://b", ("GET", "//b"), {}),
            ("made-up:tcp:b:80", ("tcp", "b", "80"), {}),
            ("made-up:X=b", ("X=b",), {}),
            ("made-up:a\nb", ("a\nb",), {}),
            ("made-up:a\\", ("a\\",), {}),
        ):
            loadPolicies(description)
            self.assertEqual(self.made.pop(), (arguments, options), description)

    def test_twice(self) -> None:
        """A repeated option is an error."""
        self.assertEqual(
            self.sentence("made-up:a=1:a=2"),
            "'made-up:***': a is given twice; usage: made-up:WORD  say a word",
        )

    def test_unknown(self) -> None:
        """The error for an unknown name lists the known ones."""
        self.assertEqual(
            self.sentence("zork"), "there is no policy 'zork'; the known ones are file, made-up"
        )
        self.assertIn("there is no policy ''", self.sentence(""))

    def test_brokenPlugin(self) -> None:
        """The error for an unknown name lists plugin files that can't be imported."""
        folder = Path(self.mktemp())
        folder.mkdir()
        broken = folder / f"broken_{os.getpid()}.py"
        broken.write_text("import no_such_module_at_all\n")
        self.patch(twisted.plugins, "__path__", [str(folder), *twisted.plugins.__path__])
        said = self.sentence("zork")
        self.assertIn(f"plugins that failed to load: {broken}: ModuleNotFoundError: ", said)
        self.assertIn("no_such_module_at_all", said)

    def test_refused(self) -> None:
        """An exception of the maker, of any kind, is reported with the usage."""

        def refuse(error: Exception) -> Any:
            def makes(*arguments: str, **options: str) -> Any:
                raise error

            return makes

        for error, said in (
            (ValueError("no word"), "no word"),
            (TypeError("no word"), "TypeError: no word"),
            (KeyError("word"), "KeyError: 'word'"),
            (OSError("two\nlines"), "OSError: two lines"),
        ):
            self.makes = refuse(error)
            self.assertEqual(
                self.sentence("made-up:x"),
                f"'made-up:***': {said}; usage: made-up:WORD  say a word",
            )

    def test_notMade(self) -> None:
        """A maker that does not return a policy is an error."""
        self.makes = lambda *arguments, **options: None
        self.assertIn("made-up is not a policy", self.sentence("made-up"))
        self.makes = lambda *arguments, **options: FileTests
        self.assertIn(
            "made-up is a class: the policy is an object of it, FileTests(...)",
            self.sentence("made-up"),
        )

    def test_makers(self) -> None:
        """Makers are found by their names."""
        self.assertEqual(list(makers()), ["made-up"])


class FileTests(SynchronousTestCase):
    """A Python file gives the policies that it defines, or an error of one sentence."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        before = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(each) for each in set(sys.modules) - before])

    def write(self, text: str, name: str = "mine.py") -> Path:
        """Write a file with this text."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def sentence(self, text: str) -> str:
        """The error for a bad file, after its path: one line, the same for a relative path."""
        path = self.write(text)
        said = str(self.assertRaises(ValueError, loadPolicies, f"file:{path}"))
        relative = os.path.relpath(path)
        again = str(self.assertRaises(ValueError, loadPolicies, f"file:{relative}"))
        self.assertEqual(said.removeprefix(str(path)), again.removeprefix(relative))
        self.assertNotIn("\n", said)
        self.assertTrue(said.startswith(str(path)), said)
        return said.removeprefix(str(path))

    def test_policies(self) -> None:
        """All policies at the top level are found once, in the order of the file."""
        path = self.write(
            "from attrs import define\n"
            "from zope.interface import implementer\n"
            "from sitio import IRequestPolicy, Response, onFinish, onResponse, onRequest\n"
            "@onResponse(404)\n"
            "def second(exchange, response): return Response(404, text='mine')\n"
            "@onRequest\n"
            "def first(exchange): pass\n"
            "@implementer(IRequestPolicy)\n"
            "@define\n"
            "class Third:\n"
            "    a: int\n"
            "    def requestReceived(self, exchange): pass\n"
            "third = Third(1)\n"
            "again = second\n"
            "def other(): pass\n"
        )
        found = loadPolicies(f"file:{path}")
        self.assertEqual([name for name, _ in found], ["second", "first", "third"])
        self.assertEqual(runPolicy(found, request(), response(404)).text, "mine")

    def test_sameName(self) -> None:
        """Files with the same name in two folders are two modules, and both work."""
        text = (
            "from __future__ import annotations\n"
            "import sys\n"
            "from sitio import onRequest, Response\n"
            "WORD = {!r}\n"
            "class Here: pass\n"
            "@onRequest\n"
            "def say(exchange):\n"
            "    return Response(text=sys.modules[Here.__module__].WORD)\n"
        )
        policies = [
            loadPolicies(f"file:{self.write(text.format(folder), f'{folder}/say.py')}")
            for folder in ("a-b", "a_b")
        ]
        self.assertEqual([runPolicy(each, request()).text for each in policies], ["a-b", "a_b"])

    def test_escapedPath(self) -> None:
        """A colon in a path is escaped with a backslash."""
        path = self.write("from sitio import *\na = onRequest(print)\n", "a:b.py")
        escaped = str(path).replace(":", r"\:")
        self.assertEqual([name for name, _ in loadPolicies(f"file:{escaped}")], ["a"])

    def test_syntaxError(self) -> None:
        """A syntax error is reported with its line."""
        self.assertEqual(
            self.sentence("a = 1\nb = = 2\n"),
            ":2 can't be loaded: SyntaxError: invalid syntax (mine.py, line 2)",
        )

    def test_exception(self) -> None:
        """An exception is reported with the innermost line of the file."""
        self.assertEqual(
            self.sentence("def f():\n    {}['key']\n\nf()\n"),
            ":2 can't be loaded: KeyError: 'key'",
        )

    def test_exceptionElsewhere(self) -> None:
        """An exception in another module is reported with the line that called it."""
        self.assertRegex(
            self.sentence("import json\n\njson.loads('{')\n"),
            "^:3 can't be loaded: JSONDecodeError: ",
        )

    def test_importError(self) -> None:
        """A missing module is named."""
        self.assertEqual(
            self.sentence("\nimport no_such_module_at_all\n"),
            ":2 can't be loaded: ModuleNotFoundError: No module named 'no_such_module_at_all'",
        )

    def test_manyLines(self) -> None:
        """A message of several lines is reported in one line."""
        self.assertEqual(
            self.sentence("raise Exception('a\\n  b')"), ":1 can't be loaded: Exception: a b"
        )

    def test_exits(self) -> None:
        """A file that calls C{sys.exit} is an error."""
        self.assertEqual(
            self.sentence("import sys\nsys.exit(3)\n"), ":2 can't be loaded: SystemExit: 3"
        )

    def test_noException(self) -> None:
        """So is one that raises anything else but C{KeyboardInterrupt}, the operator's own."""
        for text, name in (
            ("raise GeneratorExit", "GeneratorExit"),
            ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ):
            self.assertEqual(self.sentence(text), f":1 can't be loaded: {name}")
        path = self.write("raise KeyboardInterrupt")
        self.assertRaises(KeyboardInterrupt, loadPolicies, f"file:{path}")

    def test_noPolicy(self) -> None:
        """A file without a policy, or with only a class, is an error that says what to do."""
        onlyClass = (
            "from zope.interface import implementer\n"
            "from sitio import IRequestPolicy\n"
            "@implementer(IRequestPolicy)\n"
            "class Rule:\n"
            "    def requestReceived(self, exchange): pass\n"
        )
        for text in ("", "def friendly(exchange, response): pass\n", onlyClass):
            self.assertEqual(
                self.sentence(text),
                " defines no policy: decorate a function with @onResponse, @onRequest or @onFinish,"
                " or create an instance of a policy class",
            )

    def test_incomplete(self) -> None:
        """An incomplete policy is named with its file."""
        said = self.sentence(
            "from zope.interface import implementer\n"
            "from sitio import IRequestPolicy\n"
            "@implementer(IRequestPolicy)\n"
            "class Rule: pass\n"
            "rule = Rule()\n"
        )
        self.assertRegex(said, r"^: rule is an incomplete policy: sitio\S+: .*requestReceived")

    def test_byMethods(self) -> None:
        """An object of a class that has the methods of a policy is one, without C{@implementer}."""
        path = self.write(
            "from attrs import frozen\n"
            "from sitio import Response\n"
            "@frozen\n"
            "class Both:\n"
            "    word: str\n"
            "    def requestReceived(self, exchange): exchange.notes[self] = self.word\n"
            "    def responseReceived(self, exchange, response):\n"
            "        response.headers['X-Word'] = exchange.notes[self]\n"
            "class Some:\n"
            "    statuses, buffered = (404,), True\n"
            "    seen = []\n"
            "    def responseReceived(self, exchange, response): self.seen.append(response.body)\n"
            "    def isInterested(self, exchange, response): return True\n"
            "    def exchangeFinished(self, exchange): self.seen.append(exchange.status)\n"
            "class Other:\n"
            "    def received(self, exchange): pass\n"
            "both, some, other, kind = Both('a'), Some(), Other(), Both\n"
        )
        found = loadPolicies(f"file:{path}")
        self.assertEqual([name for name, _ in found], ["both", "some"])
        self.assertEqual(
            runPolicy(found, request(), response(404, text="b")).headers["X-Word"], "a"
        )
        self.assertEqual(found[1][1].seen, [b"b", 404])
        # A program passes objects.
        outcome = runPolicy(type(found[0][1])("c"), request())
        self.assertEqual(outcome.headers["X-Word"], "c")

    def test_moreMethods(self) -> None:
        """The methods of a class count, whatever it says and its base is taken for."""
        path = self.write(
            "from sitio import IRequestPolicy\n"
            "from zope.interface import directlyProvides, implementer\n"
            "class Base:\n"
            "    def requestReceived(self, exchange): exchange.notes[1] = 1\n"
            "class Derived(Base):\n"
            "    def responseReceived(self, exchange, response): exchange.notes[2] = 2\n"
            "@implementer(IRequestPolicy)\n"
            "class Says(Base):\n"
            "    def exchangeFinished(self, exchange): exchange.notes[3] = 3\n"
            "class Chooses(Base):\n"
            "    def exchangeFinished(self, exchange): exchange.notes[3] = 3\n"
            "base, derived, says, chooses = Base(), Derived(), Says(), Chooses()\n"
            "directlyProvides(chooses, IRequestPolicy)\n"
        )
        for [_, policy], wanted in zip(
            loadPolicies(f"file:{path}"),
            ({1: 1}, {1: 1, 2: 2}, {1: 1, 3: 3}, {1: 1}),
            strict=True,
        ):
            self.assertEqual(runPolicy(policy, request()).exchange.notes, wanted)

    def test_nothingWaits(self) -> None:
        """A coroutine method that nothing waits for is an error before the first request."""
        for method, parameters in (
            ("responseSending", "exchange, response"),
            ("exchangeFinished", "exchange"),
            ("isInterested", "exchange, response"),
        ):
            self.assertEqual(
                self.sentence(
                    "class Rule:\n"
                    "    def responseReceived(self, exchange, response): pass\n"
                    f"    async def {method}(self, {parameters}): pass\n"
                    "it = Rule()\n"
                ),
                f": it: nothing waits for {method}: write def, not async def",
            )

    def test_statuses(self) -> None:
        """Statuses that are no container of numbers are an error before the first request."""
        for each in ("404", "'404'", "None", "404.0"):
            self.assertIn(
                ": it has wrong statuses: write a set or a range of numbers, such as {404}, not ",
                self.sentence(
                    "class Rule:\n"
                    f"    statuses = {each}\n"
                    "    def responseReceived(self, exchange, response): pass\n"
                    "it = Rule()\n"
                ),
            )

    def test_twoDecorators(self) -> None:
        """A function with two decorators is an error, as only one would count."""
        for outer in ("onRequest", "onRequest()", "onResponse", "onResponse(404)", "onSend"):
            self.assertIn(
                "a function has one decorator",
                self.sentence(
                    "from sitio import *\n"
                    f"@{outer}\n"
                    "@onFinish\n"
                    "def it(exchange, response=None): pass\n"
                ),
            )

    def test_parameters(self) -> None:
        """Parameters that sitio does not give are an error before the first request."""
        for source, wanted, found in (
            ("@onRequest\ndef it({}): pass", "it(exchange)", ("", "a, b", "*, a", "a, *, b")),
            (
                "@onResponse(404)\nasync def it({}): pass",
                "it(exchange, response)",
                ("", "exchange", "a, b, c", "exchange, *, response"),
            ),
            ("@onSend\ndef it({}): pass", "it(exchange, response)", ("exchange", "a, b, c")),
            ("@onFinish\ndef it({}): pass", "it(exchange)", ("", "exchange, response")),
            (
                "class Rule:\n    def requestReceived({}): pass\nit = Rule()",
                "requestReceived(self, exchange)",
                ("self", "self, a, b", "self, a, b, /"),
            ),
            (
                "class Rule:\n    def responseReceived({}): pass\nit = Rule()",
                "responseReceived(self, exchange, response)",
                ("self, exchange",),
            ),
            (
                "class Rule:\n    def __call__({}): pass\nit = onRequest(Rule())",
                "__call__(self, exchange)",
                ("self",),
            ),
        ):
            name = wanted.partition("(")[0]
            for each in found:
                self.assertEqual(
                    self.sentence(f"from sitio import *\n{source.format(each)}\n"),
                    f": it has the wrong parameters: write {wanted}, not {name}({each});"
                    " more parameters need defaults",
                )

    def test_moreParameters(self) -> None:
        """Parameters may have other names and types; more of them have defaults."""
        for index, each in enumerate(("e", "e, /", "e, a=1", "*e", "e: int, *, a=1", "*e, **how")):
            source = f"from sitio import onRequest\n@onRequest\ndef it({each}): pass\n"
            path = self.write(source, f"more{index}.py")
            [(name, _)] = loadPolicies(f"file:{path}")
            self.assertEqual(name, "it")

    def test_wrongUse(self) -> None:
        """Wrong use of a decorator is reported with its line."""
        self.assertRegex(
            self.sentence("from sitio import onResponse\n@onResponse('404')\ndef f(e, r): pass\n"),
            r"^:2 can't be loaded: TypeError: write @onResponse\(404\)",
        )

    def test_noFile(self) -> None:
        """A missing file, a folder, or a file with another ending is an error."""
        (self.folder / "folder.py").mkdir()
        self.write("", "mine.txt")
        for name in ("missing.py", "folder.py", "mine.txt", ""):
            path = self.folder / name
            said = str(self.assertRaises(ValueError, loadPolicies, f"file:{path}"))
            self.assertIn(f"{path} is not a Python file", said)

    def test_noPath(self) -> None:
        """C{file:} takes one path and no options."""
        for description, shown in (
            ("file", "file"),
            ("file:b=c", "file"),
        ):
            said = str(self.assertRaises(ValueError, loadPolicies, description))
            self.assertEqual(said, f"{shown!r}: write file:PATH, where PATH is a Python file")

    def test_failedLeavesNothing(self) -> None:
        """A file that failed to load leaves no module behind."""
        before = set(sys.modules)
        self.sentence("1 / 0\n")
        self.assertEqual(set(sys.modules) - before, set())


class PlainTests(SynchronousTestCase):
    """Plain data, as of a configuration file, makes the policies that a description makes."""

    def test_builtIn(self) -> None:
        """Arguments have the names of parameters; options those of a description."""
        no = request("/admin/x", "DELETE")
        for name, options, failed in (
            ("error-page", {"statuses": [404, "5xx"], "keep": ["X-A", "X-B"]}, 404),
            ("deny", {"methods": ["PUT", "DELETE"], "patterns": ["/admin/*"], "status": 404}, 200),
            ("deny", {"methods": "*", "patterns": "/admin/*", "case": "ignore"}, 200),
            ("headers", {"changes": ["set X-A b", "remove Server"]}, 200),
            ("retry", {"times": 1, "statuses": "5xx", "after": 0.25}, 503),
            ("last-good", {"max-age": "5m", "max-bytes": 1000, "impersonal": ["X-A"]}, 503),
        ):
            [(found, policy)] = policiesOf(name, options)
            self.assertEqual(found, name)
            outcome = runPolicy(policy, no, response(failed, text="theirs"))
            changed = outcome.text != "theirs" or "X-A" in outcome.headers
            self.assertEqual(changed, name in ("error-page", "deny", "headers"), name)

    def test_refused(self) -> None:
        """A mistake is one sentence, with the name and without secrets."""
        for name, options, sentence in (
            ("zork", {}, "there is no policy 'zork'; "),
            ("retry", {"time": 1}, "retry: there is no option time; did you mean times?"),
            ("retry", {"times": 20}, "retry: times=20: a whole number from 1 to 10 is expected"),
            ("deny", {}, "deny: methods is missing: write METHODS"),
            ("headers", {"changes": "set X-T s3cret\ns3cret"}, "headers: 'set X-T ***"),
        ):
            said = str(self.assertRaises(ValueError, policiesOf, name, options))
            self.assertIn(sentence, said)
            self.assertNotIn("s3cret", said)


class PluginTests(SynchronousTestCase):
    """The installed makers."""

    def test_installed(self) -> None:
        """Each plugin that makes policies is found by its name."""
        self.assertEqual(set(makers()), {each.name for each in getPlugins(IPolicyMaker)})
        self.assertIn("error-page", makers())
