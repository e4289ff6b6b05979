"""
Where policies come from: installed makers, and files.

L{policiesOfText} makes those of a description, L{policiesOf} those of plain data.
L{shownPolicy}, L{helpFor} and L{declared} tell about them.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen

from sitio.errors import inOneLine
from sitio.policy.declaration import Declaration
from sitio.policy.descriptions import Description
from sitio.policy.files import importFile, loadedFile
from sitio.policy.kinds import nearest
from sitio.policy.located import locatedPlain
from sitio.policy.makers import FAILURES, brokenPlugins, declarationOf, findMaker, makers
from sitio.policy.verify import isPolicy, nameOf, verifyPolicy
from sitio.redact import nameWithoutSecrets


def policiesOfText(description: str, folder: Path | None = None) -> list[tuple[str, Any]]:
    """
    Names and policies of a description; see L{sitio.policy.loader.loadPolicies}.

    @param folder: what paths of files are relative to; L{None} for the working directory.
    """
    parsed = Description.parse(description)
    source = _Source.of(parsed, folder)
    if source.declaration is not None:
        parsed = parsed.within(source.declaration, folder)
    if source.declaration is None:
        if parsed.arguments or parsed.options:
            raise ValueError(
                f"{parsed.shown(None)!r}: {parsed.path} takes no options: they are the parameters"
                " of a function makePolicy"
            )
        return source.policies()
    made = parsed.make(source.declaration, source.usage)
    try:
        return source.verified(made)
    except ValueError as error:
        why = parsed.messageWithoutSecrets(str(error), source.declaration)
        shown = parsed.shown(source.declaration)
        raise ValueError(f"{shown!r}: {why}; usage: {source.usage}") from error


def policiesOf(
    name: str, options: Mapping[str, Any], folder: Path | None = None
) -> list[tuple[str, Any]]:
    """
    Names and policies of plain data, such as a configuration file holds.

    @param name: C{retry}, or C{file:mine.py}.
    @param options: the values by the names of options: C{{"max-age": 60, "statuses": "5xx"}}.
        Options that are given by place in a description have the names of their parameters.
    @param folder: as above.

    @raise ValueError: as L{loadPolicies<sitio.policy.loader.loadPolicies>} does.
    """
    parsed = Description.parse(name)
    if parsed.arguments or parsed.options:
        raise ValueError(f"{parsed.shown(None)!r}: a name is expected here, without options")
    source = _Source.of(parsed, folder)
    if source.declaration is not None:
        if folder is not None:
            options = locatedPlain(source.declaration, options, folder)
        return source.verified(parsed.makeOf(source.declaration, options))
    if options:
        raise ValueError(f"{name} takes no options: they are the parameters of makePolicy")
    return source.policies()


def shownPolicy(description: str) -> str:
    """
    A description without secrets.  The values of declared options are shown, if their types
    are not secret; of a policy that can't be found, only the name.

    It runs no file: of a file that is not loaded, no options are shown.
    """
    parsed = Description.parse(description)
    try:
        if parsed.path is not None:
            module = loadedFile(Path(parsed.path).resolve())
            make = getattr(module, "makePolicy", None)
            declaration = None if make is None else Declaration.of(make)
        else:
            maker = findMaker(parsed.name)
            declaration = None if maker is None else declarationOf(maker)
    except FAILURES:
        declaration = None
    return parsed.shown(declaration)


def helpFor(name: str) -> str:
    """
    The usage and the options of a policy, for people.

    @param name: C{retry}, or C{file:mine.py}.

    @raise ValueError: there is no such policy, or its file can't be loaded.
    """
    # Imported only when it is asked for.
    from sitio.policy.help import helpText

    usage, declaration = declared(name)
    if declaration is None:
        return f"{usage}  takes no options"
    return helpText(usage, declaration)


def declared(name: str) -> tuple[str, Declaration | None]:
    """
    The line of usage of a policy, and its options; L{None} for a file that takes none.

    @param name: as above.

    @raise ValueError: as L{helpFor}.
    """
    source = _Source.of(Description.parse(name))
    return source.usage, source.declaration


@frozen
class _Source:
    """
    Where policies come from: a maker, or a file.

    @ivar name: the name of a single policy.
    @ivar usage: how it is described.
    @ivar declaration: the options; L{None} for a file without C{makePolicy}.
    @ivar module: the file.
    """

    name: str
    usage: str
    declaration: Declaration | None
    path: Path | None = None
    module: ModuleType | None = None

    @classmethod
    def of(cls, parsed: Description, folder: Path | None = None) -> _Source:
        """
        Find the maker, or run the file.

        @param folder: what the path of a file is relative to.

        @raise ValueError: there is none, or it can't be loaded.
        """
        if parsed.name == "file":
            return cls._ofFile(parsed, folder)
        maker = findMaker(parsed.name)
        if maker is None:
            raise ValueError(_unknown(parsed.name))
        try:
            return cls(parsed.name, maker.usage, declarationOf(maker))
        except FAILURES as error:
            why = str(error) if isinstance(error, ValueError) else inOneLine(error)
            # That of an entry point that can't be loaded says so itself.
            usage = "" if why in maker.usage else f"; usage: {maker.usage}"
            raise ValueError(f"{parsed.shown(None)!r}: {why}{usage}") from error

    @classmethod
    def _ofFile(cls, parsed: Description, folder: Path | None) -> _Source:
        if parsed.path is None:
            raise ValueError("'file': write file:PATH, where PATH is a Python file")
        path = Path(parsed.path) if folder is None else folder / parsed.path
        if path.suffix != ".py" or not path.is_file():
            # Such as a test's, whose folder is not that of the file.
            where = "" if path.is_absolute() else f" in {Path.cwd()}"
            raise ValueError(f"{path} is not a Python file: it must exist{where} and end in .py")
        try:
            module = importFile(path.resolve())
            make = getattr(module, "makePolicy", None)
            declaration = None if make is None else Declaration.of(make)
        except FAILURES as error:
            where = _lineIn(path.resolve(), error)
            raise ValueError(f"{path}{where} can't be loaded: {inOneLine(error)}") from error
        usage = f"file:{path}"
        if declaration is not None:
            usage = f"{usage}{declaration.usage}  {declaration.about}".rstrip()
        return cls(path.stem, usage, declaration, path, module)

    def verified(self, made: Any) -> list[tuple[str, Any]]:
        """
        What the maker has made: a policy, or a list of some.

        @raise ValueError: it is no policy, or the file has one that C{makePolicy} leaves out.
        """
        isList = isinstance(made, list | tuple)
        self._checkLeftOut(made if isList else [made])
        if isList:
            return [(nameOf(each), verifyPolicy(nameOf(each), each)) for each in made]
        return [(self.name, verifyPolicy(self.name, made))]

    def _checkLeftOut(self, made: Iterable[Any]) -> None:
        """
        Raise if a policy of this file is not among those made: who writes a guard beside
        C{makePolicy} may think that it runs.
        """
        if self.module is None:
            return
        known = {id(each) for each in made}
        for name, each in vars(self.module).items():
            home = getattr(getattr(each, "function", type(each)), "__module__", None)
            if name.startswith("_") or home != self.module.__name__:
                # Imported policies are parts, which makePolicy may use or not.
                continue
            if id(each) not in known and isPolicy(each):
                raise ValueError(
                    f"{name} would not run, as makePolicy does not return it: return a list with"
                    f" it, define it within makePolicy, or call it _{name}"
                )

    def policies(self) -> list[tuple[str, Any]]:
        """
        The policies at the top level of the file.

        @raise ValueError: there are none, or one is incomplete.
        """
        found: dict[int, tuple[str, Any]] = {}
        for name, each in vars(self.module).items():
            if isPolicy(each):
                # By identity: a policy with two names is loaded once.
                found.setdefault(id(each), (name, each))
        if not found:
            raise ValueError(
                f"{self.path} defines no policy: decorate a function with @onResponse, @onRequest"
                " or @onFinish, or create an instance of a policy class"
            )
        return [(name, verifyPolicy(f"{self.path}: {name}", each)) for name, each in found.values()]


def _unknown(name: str) -> str:
    broken = brokenPlugins()
    known = sorted(makers())
    return (
        f"there is no policy {nameWithoutSecrets(name)!r};"
        f" the known ones are file, {', '.join(known)}{nearest(name, known)}"
        + (f" (plugins that failed to load: {broken})" if broken else "")
    )


def _lineIn(path: Path, error: BaseException) -> str:
    """The last line of this file that the traceback names, as C{:12}, or C{""}."""
    lines = [
        each.lineno
        for each in traceback.extract_tb(error.__traceback__)
        if each.filename == str(path)
    ]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f":{lines[-1]}" if lines else ""
