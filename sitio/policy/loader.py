"""
Makes the policies that an operator's descriptions name: L{loadPolicies}.

A description such as C{error-page:404} names a plugin, one such as C{file:mine.py} a
Python file.  L{namedPolicies} also takes the policy objects of a program.  Every mistake
raises C{ValueError} with one sentence for the operator.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from asyncio import CancelledError
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

from twisted.plugin import getPlugins
from zope.interface import Invalid
from zope.interface.verify import verifyObject

from sitio.errors import inOneLine
from sitio.interfaces import (
    IExchangeObserver,
    IPolicyMaker,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
)
from sitio.policy.maker import checkArguments
from sitio.redact import (
    nameWithoutSecrets,
    policyMessageWithoutSecrets,
    policyWithoutSecrets,
)

#: What loading a policy may fail with.  A file that calls sys.exit must not end the process
#: without a message.  Not KeyboardInterrupt: until the reactor runs, that is the operator's.
FAILURES = (Exception, SystemExit, GeneratorExit, CancelledError)

_POLICIES = (IRequestPolicy, IResponsePolicy, IExchangeObserver)


def verifyPolicy(name: str, policy: Any) -> Any:
    """
    Return the policy if it has all that its interfaces promise.

    @raise ValueError: it provides no interface of a policy, or lacks a method or an
        attribute of one.
    """
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


def loadPolicies(description: str) -> list[tuple[str, Any]]:
    """
    Names and policies that a description names.

    @param description: C{name:argument:key=value} for a plugin, or C{file:path.py} for
        all policies at the top level of a Python file, in the order of the file.  A
        backslash before a colon makes it a part of an argument.

    @raise ValueError: the operator's mistake, or an exception of the maker or the file.  The
        sentence shows no secrets of the description.
    """
    name, arguments, options = parseDescription(description)
    if name == "file":
        if len(arguments) != 1 or options:
            shown = policyWithoutSecrets(name, arguments, options, ())
            raise ValueError(f"{shown!r}: write file:PATH, where PATH is a Python file")
        return _loadFile(Path(arguments[0]))
    maker = makers().get(name)
    if maker is None:
        broken = _brokenPlugins()
        raise ValueError(
            f"there is no policy {nameWithoutSecrets(name)!r};"
            f" the known ones are file, {', '.join(sorted(makers()))}"
            + (f" (plugins that failed to load: {broken})" if broken else "")
        )
    try:
        checkArguments(maker.makePolicy, arguments, options)
        return [(name, verifyPolicy(name, maker.makePolicy(*arguments, **options)))]
    except FAILURES as error:
        said = str(error) if isinstance(error, ValueError) else inOneLine(error)
        known = re.findall(r"([a-z-]+)=", maker.usage.partition("  ")[0])
        shown = policyWithoutSecrets(name, arguments, options, known)
        why = policyMessageWithoutSecrets(said, name, arguments, options, known)
        raise ValueError(f"{shown!r}: {why}; usage: {maker.usage}") from error


def makers() -> dict[str, Any]:
    """The installed makers of policies, by name."""
    return {each.name: each for each in getPlugins(IPolicyMaker)}


def _brokenPlugins() -> str:
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


def parseDescription(description: str) -> tuple[str, list[str], dict[str, str]]:
    """
    Name, arguments and options of a description; C{max-age=60} is the option C{maxAge}.

    @raise ValueError: an option is given twice, and its policy does not say that it may be.
    """
    words = [""]
    for part in re.findall(r"\\.|.", description, re.DOTALL):
        if part == ":":
            words.append("")
        else:
            words[-1] += part[-1]
    arguments: list[str] = []
    options: dict[str, str] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not (equals and re.fullmatch(r"[a-z][a-z0-9-]*", key)):
            arguments.append(word)
            continue
        option = re.sub(r"-(.)", lambda match: match[1].upper(), key)
        if option in options:
            if key in getattr(makers().get(words[0]), "repeatable", ()):
                value = f"{options[option]},{value}"
            else:
                raise ValueError(f"{nameWithoutSecrets(words[0])!r}: {key} is given twice")
        options[option] = value
    return words[0], arguments, options


def _loadFile(path: Path) -> list[tuple[str, Any]]:
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{path} is not a Python file: it must exist and end in .py")
    try:
        module = _import(path.resolve())
    except FAILURES as error:
        where = _lineIn(path.resolve(), error)
        raise ValueError(f"{path}{where} can't be loaded: {inOneLine(error)}") from error
    found: dict[int, tuple[str, Any]] = {}
    for name, each in vars(module).items():
        if not inspect.isclass(each) and any(which.providedBy(each) for which in _POLICIES):
            # By identity: a policy with two names is loaded once.
            found.setdefault(id(each), (name, each))
    if not found:
        raise ValueError(
            f"{path} defines no policy: decorate a function with @onResponse, @onRequest or"
            " @onFinish, or create an instance of a policy class"
        )
    return [(name, verifyPolicy(f"{path}: {name}", each)) for name, each in found.values()]


def _import(path: Path) -> ModuleType:
    # Files of the same name in two folders become two modules.
    name = f"sitio_policy_{path.stem}_{crc32(bytes(path)):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # attrs and dataclasses look their module up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


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
