"""
Finds the makers of policies: L{findMaker}, L{makers}.

They are plugins of L{twisted.plugin}, and entry points of the group C{sitio.policies}::

    [project.entry-points."sitio.policies"]
    maintenance = "sitio_maintenance:makePolicy"

An entry point names a function or a class (L{sitio.policy.declaration}), or a module with
C{makePolicy}.  Entry points are read only if a name is not one of sitio's own: to read them
takes some milliseconds of a start.
"""

from __future__ import annotations

import importlib
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen
from twisted.plugin import getPlugins
from zope.interface import implementer

from sitio.errors import inOneLine
from sitio.interfaces import IPolicyMaker
from sitio.policy.declaration import Declaration

#: The group of entry points.
GROUP = "sitio.policies"

#: What loading a policy may fail with.  A file that calls sys.exit must not end the process
#: without a message.  Not KeyboardInterrupt: until the reactor runs, that is the operator's.
FAILURES = (Exception, SystemExit, GeneratorExit, CancelledError)


@implementer(IPolicyMaker)
@frozen
class EntryPointMaker:
    """
    A maker that an entry point names.

    @ivar point: the C{importlib.metadata.EntryPoint}.
    """

    point: Any

    @property
    def name(self) -> str:
        """The name of the policy."""
        name: str = self.point.name
        return name

    @property
    def usage(self) -> str:
        """The line for C{--help-policies}, from the declaration; it imports the module."""
        try:
            declaration = Declaration.of(self.load())
        except FAILURES as error:
            return f"{self.name}  can't be loaded: {inOneLine(error)}"
        return f"{self.name}{declaration.usage}  {declaration.about}".rstrip()

    def load(self) -> Callable[..., Any]:
        """
        Import what the entry point names.

        @raise ValueError: it can't be imported, or can't make policies.
        """
        try:
            found = self.point.load()
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{self.point.value} can't be imported: {error}") from error
        if isinstance(found, ModuleType) or IPolicyMaker.providedBy(found):
            found = getattr(found, "makePolicy", None)
        if not callable(found):
            raise ValueError(
                f"{self.point.value} makes no policies: name a function, a class, or a module"
                " with makePolicy"
            )
        make: Callable[..., Any] = found
        return make

    def makePolicy(self, *arguments: str, **options: str) -> object:
        """
        Make a policy of texts.

        @raise ValueError: it can't be imported, or an option is wrong.
        """
        texts = {name: [text] for name, text in options.items()}
        made: object = Declaration.of(self.load()).fromText(arguments, texts)
        return made


def declarationOf(maker: Any) -> Declaration:
    """
    The declaration of the options that a maker takes.

    @raise ValueError: its module can't be imported, or the declaration is wrong.
    """
    load = getattr(maker, "load", None)
    return Declaration.of(maker.makePolicy if load is None else load())


def findMaker(name: str) -> Any:
    """
    The maker of this name, or L{None}.

    @raise ValueError: two distributions have one of this name.
    """
    found = [each for each in getPlugins(IPolicyMaker) if each.name == name]
    if len(found) == 1 and _isOurs(found[0]):
        return found[0]
    found += _entryPoints(name)
    if len(found) > 1:
        # A distribution may announce one policy in both ways.
        homes = sorted({_distributionOf(each) for each in found})
        if len(homes) > 1:
            raise ValueError(_clash(name, homes))
    return found[-1] if found else None


def makers() -> dict[str, Any]:
    """The installed makers of policies, by name.  If names clash, sitio's own come first."""
    found: dict[str, Any] = {each.name: each for each in _entryPoints()}
    plugins: list[Any] = list(getPlugins(IPolicyMaker))
    found.update((each.name, each) for each in plugins)
    found.update((each.name, each) for each in plugins if _isOurs(each))
    return found


def clashes() -> dict[str, str]:
    """
    The names of policies that several distributions have, with a sentence for each.

    To start with such a policy is an error, but for a name of sitio's own, where nobody looks
    for entry points: there sitio's policy runs.
    """
    plugins: list[Any] = list(getPlugins(IPolicyMaker))
    points: list[Any] = list(_entryPoints())
    sentences = {}
    for name in sorted({each.name for each in (*plugins, *points)}):
        plugged = [each for each in plugins if each.name == name]
        pointed = [each for each in points if each.name == name]
        isOurs = name == "file" or (len(plugged) == 1 and _isOurs(plugged[0]))
        homes = sorted(
            {_distributionOf(each) for each in (pointed if isOurs else plugged + pointed)}
        )
        if isOurs and homes:
            sentences[name] = (
                f"sitio has a policy {name!r}: that of {' and of '.join(homes)} does not run;"
                " give it another name"
            )
        elif len(homes) > 1:
            sentences[name] = _clash(name, homes)
    return sentences


def _clash(name: str, homes: list[str]) -> str:
    return (
        f"there are several policies {name!r}: of {' and of '.join(homes)}; uninstall all but one"
    )


def brokenPlugins() -> str:
    """Plugin files that cannot be imported, and why: twisted.plugin only logs them."""
    import twisted.plugins

    broken = []
    for folder in twisted.plugins.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            if path.stem != "__init__":
                try:
                    importlib.import_module(f"twisted.plugins.{path.stem}")
                except FAILURES as error:
                    broken.append(f"{path}: {inOneLine(error)}")
    return "; ".join(broken)


def _entryPoints(name: str | None = None) -> Iterable[EntryPointMaker]:
    # Imported late, as it takes longer than all of sitio's policies.
    from importlib import metadata

    wanted = {"group": GROUP} if name is None else {"group": GROUP, "name": name}
    return [EntryPointMaker(each) for each in metadata.entry_points(**wanted)]


def _isOurs(maker: Any) -> bool:
    return str(getattr(maker, "module", "")).startswith("sitio.")


def _distributionOf(maker: Any) -> str:
    """The name of the distribution that a maker belongs to, or else of its module."""
    from importlib import metadata

    if isinstance(maker, EntryPointMaker):
        return str(maker.point.dist.name if maker.point.dist is not None else maker.point.value)
    module = str(getattr(maker, "module", "") or type(maker).__module__)
    known = metadata.packages_distributions().get(module.partition(".")[0])
    return known[0] if known else f"the module {module}"
