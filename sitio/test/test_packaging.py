"""
Tests of the packaging: the plugin file, L{PolicyMaker}, the version, the data
files, the news.

C{make dist-check} tests the slow part: each way of installing.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs.exceptions import FrozenInstanceError
from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface.verify import verifyObject

import sitio
from sitio.interfaces import IPolicyMaker
from sitio.policy.declaration import Declaration
from sitio.policy.maker import PolicyMaker

ROOT = Path(sitio.__file__).parent.parent

#: The policies that come with sitio.
BUILT_IN = ["allow", "deny", "error-page", "headers", "last-good", "retry", "token"]


def needsCheckout() -> None:
    """Skip a test of files that only a checkout has."""
    if not (ROOT / "setup.py").exists():
        raise SkipTest("this is no checkout")


def setupArguments() -> dict[str, ast.expr]:
    """The keyword arguments of C{setup} in setup.py, as syntax trees."""
    tree = ast.parse((ROOT / "setup.py").read_text("utf-8"))
    call = next(
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "setup"
    )
    return {each.arg: each.value for each in call.keywords if each.arg}


def module(name: str, **contents: Any) -> ModuleType:
    """A new module with these contents."""
    made = ModuleType(name)
    vars(made).update(contents)
    return made


class PluginTests(SynchronousTestCase):
    """The plugins that C{twistd} finds."""

    def test_service(self) -> None:
        """C{twistd sitio} exists once."""
        found: list[Any] = [each for each in getPlugins(IServiceMaker) if each.tapname == "sitio"]
        self.assertEqual([each.module for each in found], ["sitio.assembly"])

    def test_policies(self) -> None:
        """Each built-in policy has one maker, which provides L{IPolicyMaker}."""
        makers = [
            each
            for each in getPlugins(IPolicyMaker)
            if isinstance(each, PolicyMaker) and each.module.startswith("sitio.policies.")
        ]
        self.assertEqual(sorted(each.name for each in makers), BUILT_IN)
        for each in makers:
            verifyObject(IPolicyMaker, each)
            verifyObject(IPlugin, each)
            self.assertRegex(each.usage, rf"^{each.name}\S*  \S.*[^.]$")
            self.assertNotIn("\n", each.usage)

    def test_usage(self) -> None:
        """
        The usage of a built-in policy is that of its declaration, which is not imported for
        C{--help-policies}.
        """
        makers: list[Any] = list(getPlugins(IPolicyMaker))
        for maker in makers:
            if maker.name in BUILT_IN:
                declared = Declaration.of(maker.load()).usage
                self.assertEqual(maker.usage.partition("  ")[0], maker.name + declared)

    def test_everyPolicyAnnounced(self) -> None:
        """Each module in C{sitio/policies} with C{makePolicy} has a maker."""
        folder = ROOT / "sitio/policies"
        present = {
            ".".join(each.relative_to(ROOT).with_suffix("").parts)
            for each in folder.rglob("*.py")
            if "\ndef makePolicy(" in each.read_text("utf-8")
        }
        named = {each.module for each in getPlugins(IPolicyMaker) if isinstance(each, PolicyMaker)}
        self.assertEqual(present - named, set())

    def test_light(self) -> None:
        """
        Loading the plugin file loads no data path, no parser and no HTTP client: every
        C{twistd} on the host loads it, for any service.
        """
        script = (
            "import sys, twisted.plugins.sitio_plugin\n"
            "heavy = {'httptools', 'treq', 'twisted.web', 'twisted.internet.reactor'}\n"
            "light = {'http', 'interfaces', 'policy'}\n"
            "heavy |= {f'sitio.policy.{each}' for each in ('declaration', 'loader', 'kinds')}\n"
            "ours = [each.split('.') for each in sys.modules if each.startswith('sitio.')]\n"
            "print(sorted(heavy & set(sys.modules)), sorted({each[1] for each in ours} - light))"
        )
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual((result.stdout, result.stderr), ("[] []\n", ""))

    def test_collector(self) -> None:
        """
        While the modules of the sidecar are imported, the garbage collector is disabled.  A
        C{twistd} that runs another service has its own.
        """
        script = (
            "import gc, twisted.plugins.sitio_plugin as found\n"
            "before = gc.isenabled()\n"
            "print(before, bool(found.sitio.options), gc.isenabled())"
        )
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual((result.stdout, result.stderr), ("True True False\n", ""))

    def test_lightPolicies(self) -> None:
        """
        A sidecar without policies loads nothing that makes them; one with sitio's own reads no
        metadata of distributions, which takes longer than all of them.
        """
        script = (
            "import sys\n"
            "from sitio.config.options import Options\n"
            "heavy = {'sitio.policy.declaration', 'sitio.policy.sources', 'importlib.metadata'}\n"
            "for policies in ([], ['--policy=retry', '--policy=error-page:404']):\n"
            "    Options({}).parseOptions(['--upstream=tcp:a:1', *policies])\n"
            "    print(sorted(heavy & set(sys.modules)))"
        )
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual(
            (result.stdout, result.stderr),
            ("[]\n['sitio.policy.declaration', 'sitio.policy.sources']\n", ""),
        )

    def test_noInit(self) -> None:
        """C{twisted/} contains the plugin file only: an C{__init__.py} would hide Twisted."""
        needsCheckout()
        found = [str(each.relative_to(ROOT)) for each in (ROOT / "twisted").rglob("*.py")]
        self.assertEqual(found, ["twisted/plugins/sitio_plugin.py"])


class PolicyMakerTests(SynchronousTestCase):
    """L{PolicyMaker} imports its module only to make a policy."""

    def maker(self, **contents: Any) -> PolicyMaker:
        self.patch(sys, "modules", {**sys.modules, "made_up": module("made_up", **contents)})
        return PolicyMaker("made-up", "made_up", "made-up:WORD  say a word")

    def test_passesOn(self) -> None:
        """Arguments and options are passed to the module's function, which returns the policy."""
        maker = self.maker(makePolicy=lambda *arguments, **options: (arguments, options))
        self.assertEqual(maker.makePolicy("404", maxAge="60"), (("404",), {"maxAge": "60"}))

    def test_importsLate(self) -> None:
        """A maker imports its module when it makes a policy, not before."""
        maker = PolicyMaker("late", "sitio.test.no_such_module", "late  come too late")
        error = self.assertRaises(ValueError, maker.makePolicy)
        self.assertEqual(
            str(error),
            "sitio.test.no_such_module can't be imported:"
            " No module named 'sitio.test.no_such_module'",
        )

    def test_wrongArguments(self) -> None:
        """Arguments that the function does not accept raise one sentence in words."""
        maker = self.maker(makePolicy=lambda status, *, file=None: None)
        for arguments, options, sentence in (
            ((), {}, "status is missing: write STATUS"),
            (("404",), {"status": "5"}, "status is given twice"),
            (
                ("404", "500"),
                {},
                "there are more parts than it takes; options are written NAME=VALUE; a colon in a"
                " value is written \\:",
            ),
            (("404",), {"fiel": "x"}, "there is no option fiel; did you mean file?"),
        ):
            error = self.assertRaises(ValueError, maker.makePolicy, *arguments, **options)
            self.assertEqual(str(error), sentence)

    def test_ownErrors(self) -> None:
        """A TypeError from within the function is not changed."""

        def broken() -> None:
            raise TypeError("a fault of its own")

        error = self.assertRaises(TypeError, self.maker(makePolicy=broken).makePolicy)
        self.assertEqual(str(error), "a fault of its own")

    def test_frozen(self) -> None:
        """A maker is immutable, as all users of a plugin share it."""
        maker = PolicyMaker("a", "b", "c")
        with self.assertRaises(FrozenInstanceError):
            maker.name = "d"  # type: ignore[misc]


class ShippingTests(SynchronousTestCase):
    """pyproject.toml and setup.py agree with the tree."""

    def setUp(self) -> None:
        needsCheckout()
        self.pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        self.project = self.pyproject["project"]
        self.setuptools = self.pyproject["tool"]["setuptools"]

    def test_name(self) -> None:
        """The distribution is sitio-sidecar: another project has the name sitio."""
        self.assertEqual(self.project["name"], "sitio-sidecar")

    def test_version(self) -> None:
        """The version stands in C{sitio/__init__.py} only."""
        self.assertRegex(sitio.__version__, r"^\d+\.\d+\.\d+(\.dev\d+|rc\d+)?$")
        self.assertIn("version", self.project["dynamic"])
        self.assertEqual(self.setuptools["dynamic"]["version"], {"attr": "sitio.__version__"})
        elsewhere = [
            str(each.relative_to(ROOT))
            for each in [ROOT / "setup.py", ROOT / "pyproject.toml", *ROOT.glob("sitio/**/*.py")]
            if sitio.__version__ in each.read_text("utf-8")
        ]
        self.assertEqual(elsewhere, ["sitio/__init__.py"])

    def test_dataFiles(self) -> None:
        """Each data file matches a pattern of pyproject.toml, and so is in the wheel."""
        patterns = self.setuptools["package-data"]["sitio"]
        package = ROOT / "sitio"
        files = [
            str(each.relative_to(package))
            for each in package.rglob("*")
            if each.is_file() and each.suffix not in {".py", ".pyc"}
        ]
        self.assertIn("py.typed", files)
        forgotten = [
            each for each in files if not any(fnmatch(each, pattern) for pattern in patterns)
        ]
        self.assertEqual(forgotten, [])

    def test_dependencies(self) -> None:
        """Each dependency, of users and of developers, has its reason in docs/decisions."""
        needed = [*self.project["dependencies"], *self.project["optional-dependencies"]["dev"]]
        names = {re.split(r"[\[><=;]", each)[0] for each in needed}
        reasons = (ROOT / "docs/decisions/0001-dependencies.md").read_text("utf-8")
        self.assertEqual([each for each in names if f"**{each}**" not in reasons], [])

    def test_editable(self) -> None:
        """
        setup.py gives the root of the package, as an editable install then puts the
        checkout on C{sys.path}, where Twisted finds plugins.
        """
        self.assertEqual(ast.literal_eval(setupArguments()["package_dir"]), {"": "."})


class NewsTests(SynchronousTestCase):
    """The news fragments are those that towncrier folds into the changelog."""

    def setUp(self) -> None:
        needsCheckout()
        folder = ROOT / "newsfragments"
        self.fragments = [
            each for each in folder.iterdir() if each.name not in {"README.md", "template.jinja"}
        ]

    def test_fragments(self) -> None:
        """Each is named for its issue and kind, and has one line."""
        for each in self.fragments:
            self.assertRegex(each.name, r"^\d+(-\w+)?\.(feature|fix|doc|removal|misc)\.md$")
            self.assertRegex(each.read_text("utf-8"), r"^[^\n]+[.!]\n$")

    def test_folded(self) -> None:
        """towncrier writes each sentence, under the version, as one item of a list."""
        command = [sys.executable, "-m", "towncrier", "build", "--draft"]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        self.assertTrue(lines[0].startswith(f"## {sitio.__version__} ("), lines[0])
        items = sorted(each.removeprefix("- ") for each in lines if each.startswith("- "))
        news = sorted(each.read_text("utf-8").rstrip("\n") for each in self.fragments)
        self.assertEqual(items, news)
