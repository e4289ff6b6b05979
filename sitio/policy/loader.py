"""
Makes the policies that an operator's descriptions name: L{loadPolicies}.

A description such as C{error-page:404} names a maker, one such as C{file:mine.py} a
Python file.  L{namedPolicies} also takes the policy objects of a program.  Every mistake
raises C{ValueError} with one sentence for the operator.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen
from zope.interface import Invalid, classImplements
from zope.interface.interface import Method
from zope.interface.verify import verifyObject

from sitio.errors import inOneLine
from sitio.interfaces import (
    IExchangeObserver,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
)
from sitio.policy.declaration import Declaration
from sitio.policy.descriptions import Description
from sitio.policy.files import importFile, loadedFile
from sitio.policy.kinds import nearest
from sitio.policy.makers import FAILURES, brokenPlugins, declarationOf, findMaker, makers
from sitio.redact import nameWithoutSecrets

_POLICIES = (IRequestPolicy, IResponsePolicy, IExchangeObserver)

#: What a class without C{@implementer} need not have.
_DEFAULTS = {"statuses": range(100, 1000), "buffered": False}


def verifyPolicy(name: str, policy: Any) -> Any:
    """
    Return the policy if it has all that its interfaces promise.

    An object that provides no interface, but has the methods of some, provides these from
    now on, with all others of its class.  Without attributes of its own it gets the responses
    of all statuses, and not their bodies.

    @raise ValueError: it provides no interface of a policy, or lacks a method or an
        attribute of one.
    """
    for each in _missingInterfaces(policy):
        kind: Any = type(policy)
        for attribute, default in _DEFAULTS.items():
            if attribute in each and not hasattr(policy, attribute):
                setattr(kind, attribute, default)
        classImplements(kind, each)  # type: ignore[misc]
    provided = [each for each in (*_POLICIES, ISelectivePolicy) if each.providedBy(policy)]
    if not provided:
        raise ValueError(
            f"{name} is not a policy: {type(policy).__name__} provides none of "
            + ", ".join(each.__name__ for each in _POLICIES)
        )
    for each in provided:
        try:
            verifyObject(each, policy)
        except Invalid as error:
            # Without the repr that it begins with.
            missing = " ".join(
                str(error).partition(" has failed to implement interface ")[2].split()
            )
            raise ValueError(f"{name} is an incomplete policy: {missing}") from error
    return policy


def namedPolicies(policies: Any) -> list[tuple[str, Any]]:
    """
    Names and policies of what a program passes.

    @param policies: a policy, a description such as C{error-page:404}, a pair of a name
        and a policy, or an iterable of these.

    @raise ValueError: a description is wrong; see L{loadPolicies}.
    """
    if isinstance(policies, str):
        return loadPolicies(policies)
    if isinstance(policies, tuple) and len(policies) == 2 and isinstance(policies[0], str):
        return [policies]
    if isinstance(policies, Iterable):
        return [each for some in policies for each in namedPolicies(some)]
    function = getattr(policies, "function", policies)
    return [(getattr(function, "__name__", None) or type(policies).__name__, policies)]


def _isPolicy(found: Any) -> bool:
    """Whether something at the top level of a file is a policy."""
    if inspect.isclass(found) or inspect.ismodule(found):
        return False
    return any(each.providedBy(found) for each in _POLICIES) or bool(_missingInterfaces(found))


def _missingInterfaces(policy: Any) -> list[Any]:
    """The interfaces whose methods an object has, if it provides none of any policy."""
    known = (*_POLICIES, ISelectivePolicy)
    if inspect.isclass(policy) or any(each.providedBy(policy) for each in known):
        return []
    return [each for each in known if _hasMethods(type(policy), each)]


def _hasMethods(kind: type, interface: Any) -> bool:
    methods = [
        name for name, each in interface.namesAndDescriptions(all=True) if isinstance(each, Method)
    ]
    return all(callable(getattr(kind, name, None)) for name in methods)


def loadPolicies(description: str) -> list[tuple[str, Any]]:
    """
    Names and policies that a description names.

    @param description: C{name:argument:key=value} for an installed policy, or C{file:path.py}
        for the policies of a Python file: those that its C{makePolicy} makes of the options,
        or else all at its top level, in order.  A backslash before a colon makes it a part of
        an argument.

    @raise ValueError: the operator's mistake, or an exception of the maker or the file.  The
        sentence shows no secrets of the description.
    """
    parsed = Description.parse(description)
    source = _Source.of(parsed)
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


def policiesOf(name: str, options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """
    Names and policies of plain data, such as a configuration file holds.

    @param name: C{retry}, or C{file:mine.py}.
    @param options: the values by the names of options: C{{"max-age": 60, "statuses": "5xx"}}.
        Options that are given by place in a description have the names of their parameters.

    @raise ValueError: as L{loadPolicies} does.
    """
    parsed = Description.parse(name)
    source = _Source.of(parsed)
    if source.declaration is not None:
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

    source = _Source.of(Description.parse(name))
    if source.declaration is None:
        return f"{source.usage}  takes no options"
    return helpText(source.usage, source.declaration)


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
    def of(cls, parsed: Description) -> _Source:
        """
        Find the maker, or run the file.

        @raise ValueError: there is none, or it can't be loaded.
        """
        if parsed.name == "file":
            return cls._ofFile(parsed)
        maker = findMaker(parsed.name)
        if maker is None:
            raise ValueError(_unknown(parsed.name))
        try:
            return cls(parsed.name, maker.usage, declarationOf(maker))
        except FAILURES as error:
            why = str(error) if isinstance(error, ValueError) else inOneLine(error)
            raise ValueError(f"{parsed.shown(None)!r}: {why}; usage: {maker.usage}") from error

    @classmethod
    def _ofFile(cls, parsed: Description) -> _Source:
        if parsed.path is None:
            raise ValueError("'file': write file:PATH, where PATH is a Python file")
        path = Path(parsed.path)
        if path.suffix != ".py" or not path.is_file():
            raise ValueError(f"{path} is not a Python file: it must exist and end in .py")
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
        """What the maker has made: a policy, or a list of some."""
        if isinstance(made, list | tuple):
            return [(name, verifyPolicy(name, each)) for name, each in namedPolicies(list(made))]
        return [(self.name, verifyPolicy(self.name, made))]

    def policies(self) -> list[tuple[str, Any]]:
        """
        The policies at the top level of the file.

        @raise ValueError: there are none, or one is incomplete.
        """
        found: dict[int, tuple[str, Any]] = {}
        for name, each in vars(self.module).items():
            if _isPolicy(each):
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
