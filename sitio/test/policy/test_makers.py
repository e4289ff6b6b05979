"""
Tests of L{sitio.policy.makers}: entry points beside plugins.
"""

from __future__ import annotations

import importlib.metadata
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio import onRequest
from sitio.interfaces import IPolicyMaker
from sitio.policy import makers as module
from sitio.policy.loader import loadPolicies
from sitio.policy.maker import PolicyMaker
from sitio.policy.makers import EntryPointMaker, clashes, findMaker, makers
from sitio.policy.sources import helpFor

#: A module of an installed distribution.
SOURCE = '''
from sitio import Response, onRequest
from sitio.policy.maker import PolicyMaker

def makePolicy(*, status: int = 503):
    """Answer everything.  Really."""
    return onRequest(lambda exchange: Response(status))

maker = PolicyMaker("whatever", "made_up", "whatever  do it")
nothing = 1
'''


class EntryPointTests(SynchronousTestCase):
    """Distributions announce policies by entry points of C{sitio.policies}."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        (self.folder / "made_up.py").write_text(SOURCE)
        self.patch(sys, "path", [str(self.folder), *sys.path])
        self.addCleanup(sys.modules.pop, "made_up", None)

    def distribution(self, name: str, **points: str) -> None:
        """Install a distribution with these entry points."""
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{key.replace('_', '-')} = {value}\n" for key, value in points.items()]
        (info / "entry_points.txt").write_text("".join(["[sitio.policies]\n", *lines]))

    def plugins(self, *plugins: Any) -> None:
        """Install these plugins beside sitio's own."""
        found = [*getPlugins(IPolicyMaker), *plugins]
        self.patch(module, "getPlugins", lambda interface: found)

    def test_found(self) -> None:
        """An entry point names a function, a module, or a maker; its name is the policy's."""
        self.distribution(
            "one", made_up="made_up:makePolicy", whole="made_up", maker="made_up:maker"
        )
        for name in ("made-up", "whole", "maker"):
            [(found, policy)] = loadPolicies(f"{name}:status=404")
            self.assertEqual((found, policy(None).status), (name, 404))
            verifyObject(IPolicyMaker, findMaker(name))
            self.assertIn(name, makers())

    def test_usage(self) -> None:
        """Its help is that of the declaration, and of the docstring."""
        self.distribution("one", made_up="made_up:makePolicy", gone="no_such_module")
        usage = "made-up[:status=N]  Answer everything"
        self.assertEqual(makers()["made-up"].usage, usage)
        self.assertEqual(
            helpFor("made-up").splitlines(),
            [
                "made-up[:status=N]",
                "  Answer everything",
                "",
                "  status=N  (a whole number)  [503]",
            ],
        )
        self.assertIn("gone  can't be loaded: ", makers()["gone"].usage)

    def test_broken(self) -> None:
        """What can't be imported, or makes no policies, is one sentence."""
        self.distribution(
            "one", gone="no_such_module", lacks="made_up:lacks", wrong="made_up:nothing"
        )
        for name, sentence in (
            ("gone", "'gone': no_such_module can't be imported: No module named 'no_such_module'"),
            ("lacks", "'lacks': made_up:lacks can't be imported: module 'made_up' has no"),
            ("wrong", "'wrong': made_up:nothing makes no policies: name a function, a class, or"),
        ):
            self.assertIn(sentence, str(self.assertRaises(ValueError, loadPolicies, name)))

    def test_clash(self) -> None:
        """Two distributions with policies of one name are an error that names both."""
        self.distribution("one", made_up="made_up:makePolicy")
        self.distribution("two", made_up="made_up:makePolicy")
        error = self.assertRaises(ValueError, loadPolicies, "made-up")
        self.assertEqual(
            str(error),
            "there are several policies 'made-up': of one and of two; uninstall all but one",
        )

    def test_clashWithPlugin(self) -> None:
        """So are a plugin and an entry point, or two plugins; one of sitio's own as well."""
        self.distribution("one", made_up="made_up:makePolicy")
        self.plugins(
            PolicyMaker("made-up", "elsewhere", "made-up  x"),
            PolicyMaker("twice", "a", "twice  x"),
            PolicyMaker("twice", "b", "twice  x"),
            PolicyMaker("retry", "mine", "retry  x"),
        )
        for name, homes in (
            ("made-up", "of one and of the module elsewhere"),
            ("twice", "of the module a and of the module b"),
            ("retry", "of sitio-sidecar and of the module mine"),
        ):
            error = self.assertRaises(ValueError, loadPolicies, name)
            self.assertIn(f"there are several policies {name!r}: {homes};", str(error))

    def test_clashes(self) -> None:
        """The list names all clashes, also those with sitio's own names."""
        self.distribution("one", made_up="made_up:makePolicy", retry="x", single="x")
        self.distribution("two", made_up="made_up:makePolicy", file="x")
        self.plugins(PolicyMaker("deny", "mine", "deny  x"))
        self.assertEqual(
            clashes(),
            {
                "file": "sitio has a policy 'file': that of two does not run; give it another name",
                "retry": "sitio has a policy 'retry': that of one does not run; give it another"
                " name",
                "made-up": "there are several policies 'made-up': of one and of two; uninstall all"
                " but one",
                "deny": "there are several policies 'deny': of sitio-sidecar and of the module"
                " mine; uninstall all but one",
            },
        )

    def test_bothWays(self) -> None:
        """One distribution may announce a policy in both ways, for older versions of sitio."""
        self.distribution("one", made_up="made_up:makePolicy")
        self.patch(
            importlib.metadata,
            "packages_distributions",
            lambda: {"made_up": ["one"], "sitio": ["s"]},
        )
        self.plugins(PolicyMaker("made-up", "made_up", "made-up  x"))
        self.assertIsInstance(findMaker("made-up"), EntryPointMaker)

    def test_readLate(self) -> None:
        """Entry points are not read for sitio's own policies."""
        read: list[Any] = []

        def entryPoints(**which: str) -> list[EntryPoint]:
            read.append(which)
            return []

        self.patch(importlib.metadata, "entry_points", entryPoints)
        for name in ("allow", "retry", "deny", "error-page", "headers", "last-good"):
            self.assertIsNotNone(findMaker(name))
        self.assertEqual(read, [])
        self.assertIsNone(findMaker("zork"))
        self.assertEqual(read, [{"group": "sitio.policies", "name": "zork"}])

    def test_ownFirst(self) -> None:
        """In the list, a policy of sitio's own is not hidden by another of its name."""
        self.distribution("one", retry="made_up:makePolicy")
        self.assertTrue(makers()["retry"].module.startswith("sitio."))

    def test_directly(self) -> None:
        """A maker can be called with texts, as C{IPolicyMaker} says."""
        made = ModuleType("made_up")
        vars(made).update(makePolicy=lambda *, a="b": onRequest(lambda exchange: a))
        self.patch(sys, "modules", {**sys.modules, "made_up": made})
        point = EntryPoint("x", "made_up", "sitio.policies")
        policy: Any = EntryPointMaker(point).makePolicy(a="c")
        self.assertEqual(policy(None), "c")
