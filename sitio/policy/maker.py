"""
Announces a policy to L{twisted.plugin} without importing it: L{PolicyMaker}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import Parameter, Signature, signature

from attrs import frozen
from twisted.plugin import IPlugin
from zope.interface import implementer

from sitio.interfaces import IPolicyMaker


@implementer(IPlugin, IPolicyMaker)
@frozen
class PolicyMaker:
    """
    A plugin that makes policies with the function C{makePolicy} of another module.

    C{twistd} loads all plugins at each start, but this one imports the module only when an
    operator names its policy.  Put one into C{twisted/plugins/yours.py}::

        shout = PolicyMaker("shout", "yours.shout", "shout:WORD  put a WORD into each page")

    and C{--policy shout:hey} calls C{yours.shout.makePolicy("hey")}.

    @ivar name: the name of the policy: the text before the first colon of a description.
    @ivar module: the module with C{makePolicy}, with dots.  The function takes the arguments
        and options of the description as C{str}.
    @ivar usage: one line for C{--help-policies}: the description, two spaces, and what the
        policy does.
    @ivar repeatable: options that a description may repeat; commas join their values.
    """

    name: str
    module: str
    usage: str
    repeatable: tuple[str, ...] = ()

    def makePolicy(self, *arguments: str, **options: str) -> object:
        """
        Import the module and call its C{makePolicy}.

        @raise ValueError: the module can't be imported, C{makePolicy} does not take these
            arguments, or it raises C{ValueError}.
        """
        try:
            make = import_module(self.module).makePolicy
        except ImportError as error:
            raise ValueError(f"{self.module} can't be imported: {error}") from error
        checkArguments(make, arguments, options)
        return make(*arguments, **options)


def checkArguments(
    make: Callable[..., object], arguments: Sequence[str], options: Mapping[str, str]
) -> None:
    """
    Check that a function takes what a description gives it.

    @raise ValueError: it does not; the message says what is wrong, in words.
    """
    takes = signature(make)
    try:
        takes.bind(*arguments, **options)
    except TypeError:
        raise ValueError(_misfit(takes, arguments, options)) from None


def _misfit(takes: Signature, arguments: Sequence[str], options: Mapping[str, str]) -> str:
    kinds = [each.kind for each in takes.parameters.values()]
    named = [
        each.name
        for each in takes.parameters.values()
        if each.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]
    for each in options:
        if each not in named and Parameter.VAR_KEYWORD not in kinds:
            return f"there is no option {_dashed(each)}"
    places = [
        each for each in takes.parameters.values() if each.kind <= Parameter.POSITIONAL_OR_KEYWORD
    ]
    if len(arguments) > len(places) and Parameter.VAR_POSITIONAL not in kinds:
        return "there are more parts than it takes; options are written NAME=VALUE"
    for place in places[: len(arguments)]:
        if place.name in options:
            return f"{_dashed(place.name)} is given twice"
    missing = [
        _dashed(each.name)
        for each in takes.parameters.values()
        if each.default is Parameter.empty
        and each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        and each not in places[: len(arguments)]
        and each.name not in options
    ]
    return f"{missing[0]} is missing" if missing else "its parts are not what it takes"


def _dashed(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"-{match[0].lower()}", name)
