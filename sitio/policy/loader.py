"""
How policies are made: of functions, of descriptions, of files.

L{onRequest}, L{onResponse} and L{onFinish} make a policy of a function;
L{loadPolicies} makes those that an operator's description names, by way of the
makers that are installed as plugins; L{named} takes whatever a program has.
What is wrong is a C{ValueError} with one sentence.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

from attrs import frozen
from twisted.plugin import getPlugins
from zope.interface import Invalid, implementer
from zope.interface.verify import verifyObject

from sitio.http.message import Response
from sitio.interfaces import (
    IExchangeObserver,
    IPolicyMaker,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
)

_POLICIES = (IRequestPolicy, IResponsePolicy, IExchangeObserver)


def verified(name: str, policy: Any) -> Any:
    """The policy; raises C{ValueError} if it lacks what its interfaces promise."""
    provided = [each for each in (*_POLICIES, ISelectivePolicy) if each.providedBy(policy)]
    if not provided:
        raise ValueError(
            f"{name} is no policy: {policy!r} provides none of "
            + ", ".join(each.__name__ for each in _POLICIES)
        )
    for each in provided:
        try:
            verifyObject(each, policy)
        except Invalid as error:
            # Without the repr that it begins with.
            lack = str(error).partition(" has failed to implement interface ")[2]
            raise ValueError(f"{name} is no whole policy: {lack}") from error
    return policy


def named(policies: Any) -> list[tuple[str, Any]]:
    """
    Names and policies of what is given: a policy, a description such as
    C{error-page:404}, a pair of a name and a policy, or several of these.

    @raise ValueError: a description is wrong.
    """
    if isinstance(policies, str):
        return loadPolicies(policies)
    if isinstance(policies, tuple) and len(policies) == 2 and isinstance(policies[0], str):
        return [policies]
    if isinstance(policies, Iterable):
        return [each for some in policies for each in named(some)]
    function = getattr(policies, "function", policies)
    return [(getattr(function, "__name__", None) or type(policies).__name__, policies)]


# --- The function form


@implementer(IRequestPolicy)
@frozen
class RequestFunction:
    """A request policy that is a function; calling it calls the function."""

    function: Callable[..., Any]

    def requestReceived(self, exchange: Any) -> Any:
        return self.function(exchange)

    __call__ = requestReceived


@implementer(IResponsePolicy)
@frozen
class ResponseFunction:
    """A response policy that is a function; calling it calls the function."""

    function: Callable[..., Any]
    statuses: Container[int]
    buffered: bool

    def responseReceived(self, exchange: Any, response: Response) -> Any:
        return self.function(exchange, response)

    __call__ = responseReceived


@implementer(IExchangeObserver)
@frozen
class FinishFunction:
    """An observer that is a function; calling it calls the function."""

    function: Callable[..., Any]

    def exchangeFinished(self, exchange: Any) -> None:
        self.function(exchange)

    __call__ = exchangeFinished


def onRequest(function: Callable[..., Any]) -> RequestFunction:
    """Make a request policy of C{function(exchange)}; see L{IRequestPolicy}."""
    if not callable(function):
        raise TypeError("write @onRequest, with nothing in parentheses")
    return RequestFunction(function)


def onResponse(
    *statuses: int | range, buffered: bool = False
) -> Callable[[Callable[..., Any]], ResponseFunction]:
    """
    Make a response policy of C{function(exchange, response)}; see L{IResponsePolicy}.

    @param statuses: those that interest it, as numbers or ranges; none means all.
    @param buffered: whether C{response.body} is to be complete.
    """
    wanted: set[int] = set()
    for each in statuses or (range(100, 1000),):
        if not isinstance(each, int | range):
            raise TypeError(
                "write @onResponse(404) or @onResponse(): statuses come before the function"
            )
        wanted |= {each} if isinstance(each, int) else set(each)
    if not wanted <= set(range(100, 1000)):
        raise ValueError("a status has three digits: 100 to 999")
    return lambda function: ResponseFunction(function, frozenset(wanted), buffered)


def onFinish(function: Callable[..., Any]) -> FinishFunction:
    """Make an observer of C{function(exchange)}; see L{IExchangeObserver}."""
    if not callable(function):
        raise TypeError("write @onFinish, with nothing in parentheses")
    if inspect.iscoroutinefunction(function):
        raise TypeError("an observer is not waited for: write def and not async def")
    return FinishFunction(function)


# --- Descriptions


def loadPolicies(description: str) -> list[tuple[str, Any]]:
    """
    The policies that a description names: C{name:argument:key=value}, where a
    backslash keeps a colon from separating, or C{file:path.py} for all policies
    that a file of Python makes at its top level, in that order.

    @raise ValueError: in one sentence what is wrong and what would be right.
    """
    name, arguments, options = _parse(description)
    if name == "file":
        if len(arguments) != 1 or options:
            raise ValueError(f"{description!r}: write file:PATH, where PATH is a file of Python")
        return _loadFile(Path(arguments[0]))
    maker = makers().get(name)
    if maker is None:
        why = _brokenPlugins()
        raise ValueError(
            f"there is no policy {name!r}; there are file, {', '.join(sorted(makers()))}"
            + (f" (plugins that failed to load: {why})" if why else "")
        )
    try:
        return [(name, verified(name, maker.makePolicy(*arguments, **options)))]
    except ValueError as error:
        raise ValueError(f"{description!r}: {error}; usage: {maker.usage}") from error
    except Exception as error:
        raise ValueError(f"{description!r}: {_said(error)}; usage: {maker.usage}") from error


def makers() -> dict[str, Any]:
    """The makers that are installed, by name."""
    return {each.name: each for each in getPlugins(IPolicyMaker)}


def _brokenPlugins() -> str:
    """Why plugin files can't be imported: twisted.plugin only logs it."""
    import twisted.plugins

    broken = []
    for folder in twisted.plugins.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            if path.stem != "__init__":
                try:
                    importlib.import_module(f"twisted.plugins.{path.stem}")
                except Exception as error:
                    broken.append(f"{path}: {_said(error)}")
    return "; ".join(broken)


def _parse(description: str) -> tuple[str, list[str], dict[str, str]]:
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
            raise ValueError(f"{description!r}: {key} is given twice")
        options[option] = value
    return words[0], arguments, options


def _loadFile(path: Path) -> list[tuple[str, Any]]:
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{path} is no file of Python: there is none, or its name ends otherwise")
    try:
        module = _import(path.resolve())
    # A file that calls sys.exit is no reason to end without a word.
    except (Exception, SystemExit) as error:
        where = _lineIn(path.resolve(), error)
        raise ValueError(f"{path}{where} can't be loaded: {_said(error)}") from error
    found: dict[int, tuple[str, Any]] = {}
    for name, each in vars(module).items():
        if not inspect.isclass(each) and any(which.providedBy(each) for which in _POLICIES):
            # By identity: a policy with two names is one.
            found.setdefault(id(each), (name, each))
    if not found:
        raise ValueError(
            f"{path} makes no policy: decorate a function with @onResponse, @onRequest or"
            " @onFinish, or make an instance of a class of policies"
        )
    return [(name, verified(f"{path}: {name}", each)) for name, each in found.values()]


def _import(path: Path) -> ModuleType:
    # Files of the same name in two folders are two modules.
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


def _said(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _lineIn(path: Path, error: BaseException) -> str:
    """The last line of this file that the traceback names, as C{:12}."""
    lines = [
        each.lineno
        for each in traceback.extract_tb(error.__traceback__)
        if each.filename == str(path)
    ]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f":{lines[-1]}" if lines else ""
