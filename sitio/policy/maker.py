"""
Announces a policy to L{twisted.plugin} without importing it: L{PolicyMaker}.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature

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
    """

    name: str
    module: str
    usage: str

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
        try:
            signature(make).bind(*arguments, **options)
        except TypeError as error:
            raise ValueError(str(error)) from None
        return make(*arguments, **options)
