"""
What is a policy: an object that provides the interfaces of one, or has their methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from zope.interface import Invalid, classImplements
from zope.interface.interface import Method
from zope.interface.verify import verifyObject

from sitio.interfaces import (
    IExchangeObserver,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
    ISendPolicy,
)
from sitio.policy.functions import FUNCTIONS

_POLICIES = (IRequestPolicy, IResponsePolicy, ISendPolicy, IExchangeObserver)

#: Methods whose results nothing waits for.
_AT_ONCE = ("responseSending", "exchangeFinished", "isInterested")

#: What a class without C{@implementer} need not have.
_DEFAULTS = {"statuses": range(100, 1000), "buffered": False}


def verifyPolicy(name: str, policy: Any) -> Any:
    """
    Return the policy if it has all that its interfaces promise.

    An object that has the methods of an interface provides that from now on, with all others
    of its class, whatever else it provides.  Without attributes of its own it gets the responses
    of all statuses, and not their bodies.

    @raise ValueError: it provides no interface of a policy, lacks a method or an attribute of
        one, has a wrong one, or can't be called as sitio calls it.
    """
    for each in _missingInterfaces(policy):
        kind: Any = type(policy)
        for attribute, default in _DEFAULTS.items():
            if attribute in each and not hasattr(policy, attribute):
                setattr(kind, attribute, default)
        classImplements(kind, each)  # type: ignore[misc]
    provided = [each for each in (*_POLICIES, ISelectivePolicy) if each.providedBy(policy)]
    if inspect.isclass(policy):
        raise ValueError(
            f"{name} is a class: the policy is an object of it, {policy.__name__}(...)"
        )
    if not provided:
        raise ValueError(
            f"{name} is not a policy: {type(policy).__name__} provides none of "
            + ", ".join(each.__name__ for each in _POLICIES)
        )
    for each in provided:
        _checkParameters(name, policy, each)
        try:
            verifyObject(each, policy)
        except Invalid as error:
            # Without the repr that it begins with.
            missing = " ".join(
                str(error).partition(" has failed to implement interface ")[2].split()
            )
            raise ValueError(f"{name} is an incomplete policy: {missing}") from error
    if IResponsePolicy in provided:
        _checkStatuses(name, policy.statuses)
    _checkBuffered(name, policy)
    return policy


def _checkStatuses(name: str, statuses: Any) -> None:
    if isinstance(statuses, str | bytes) or not hasattr(type(statuses), "__contains__"):
        raise ValueError(
            f"{name} has wrong statuses: write a set or a range of numbers, such as {{404}}, not"
            f" {statuses!r}"
        )


def _checkBuffered(name: str, policy: Any) -> None:
    """
    Raise if sitio can't ask a policy which bodies it needs.

    @raise ValueError: with a sentence that says how to write it.
    """
    buffered = getattr(policy, "buffered", None)
    if callable(buffered) and IResponsePolicy.providedBy(policy):
        raise ValueError(
            f"{name} has a function for buffered, which speaks of responses: write buffered = True"
            " and isInterested(exchange, response); for requests, requestBuffered(exchange)"
        )
    for each in (buffered, getattr(policy, "requestBuffered", None)):
        if not callable(each):
            continue
        if inspect.iscoroutinefunction(each):
            raise ValueError(f"{name}: nothing waits for {each.__name__}: write def, not async def")
        if _misfit(each, ("exchange",)) is not None:
            shown = getattr(each, "__name__", "buffered")
            raise ValueError(f"{name} has the wrong parameters: write {shown}(exchange)")


def _checkParameters(name: str, policy: Any, interface: Any) -> None:
    """
    Raise if sitio can't call a method of an interface, or the function that it stands for.

    @raise ValueError: with a sentence that has the right parameters.
    """
    for method, described in interface.namesAndDescriptions():
        isFunction = isinstance(policy, FUNCTIONS)
        called = policy.function if isFunction else getattr(policy, method, None)
        if not isinstance(described, Method) or not callable(called):
            continue
        wanted = described.positional
        if method in _AT_ONCE and inspect.iscoroutinefunction(called):
            raise ValueError(f"{name}: nothing waits for {method}: write def, not async def")
        takes = _misfit(called, wanted)
        if takes is not None:
            # Neither a function nor a method, but an object that can be called.
            isObject = inspect.isfunction(inspect.getattr_static(type(called), "__call__"))
            shown = "__call__" if isObject else getattr(called, "__name__", method)
            own = ("self",) if isObject or inspect.ismethod(called) else ()
            raise ValueError(
                f"{name} has the wrong parameters: write {shown}({', '.join((*own, *wanted))}), not"
                f" {shown}{_withoutTypes(takes, own)}; more parameters need defaults"
            )


def _misfit(called: Any, wanted: Sequence[str]) -> inspect.Signature | None:
    """
    The signature of something that can't be called with such positional arguments; L{None} if it
    can, or if it is something of C, which does not say what it takes.
    """
    try:
        takes = inspect.signature(called)
    except (TypeError, ValueError):
        return None
    try:
        takes.bind(*wanted)
    except TypeError:
        return takes
    return None


def _withoutTypes(takes: inspect.Signature, own: tuple[str, ...]) -> inspect.Signature:
    """A signature as it is written, but for its types, with parameters before those it has."""
    rest = [each.replace(annotation=inspect.Parameter.empty) for each in takes.parameters.values()]
    only, usual = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    kind = only if rest and rest[0].kind is only else usual
    return inspect.Signature([*(inspect.Parameter(each, kind) for each in own), *rest])


def isPolicy(found: Any) -> bool:
    """Whether something at the top level of a file is a policy."""
    if inspect.isclass(found) or inspect.ismodule(found):
        return False
    return any(each.providedBy(found) for each in _POLICIES) or bool(_missingInterfaces(found))


def _missingInterfaces(policy: Any) -> list[Any]:
    """
    The interfaces that an object does not provide, although it has their methods.

    There are none for one that says by C{directlyProvides} which of its methods count.
    """
    if inspect.isclass(policy) or "__provides__" in getattr(policy, "__dict__", ()):
        return []
    return [
        each
        for each in (*_POLICIES, ISelectivePolicy)
        if _hasMethods(type(policy), each) and not each.providedBy(policy)
    ]


def _hasMethods(kind: type, interface: Any) -> bool:
    methods = [
        name for name, each in interface.namesAndDescriptions(all=True) if isinstance(each, Method)
    ]
    return all(callable(getattr(kind, name, None)) for name in methods)


def nameOf(policy: Any) -> str:
    """The name of a policy that nobody has named: that of its function or class."""
    function = getattr(policy, "function", policy)
    return getattr(function, "__name__", None) or type(policy).__name__
