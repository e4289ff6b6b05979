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
    A plugin that makes policies with another module's function C{makePolicy}.

    C{twistd} loads every plugin at each start; the module comes in only when
    an operator names this policy.  Put one into C{twisted/plugins/yours.py}::

        shout = PolicyMaker("shout", "yours.shout", "shout:WORD  put a WORD into each page")

    and C{--policy shout:hey} calls C{yours.shout.makePolicy("hey")}.

    @ivar name: what stands before the first colon of a description.
    @ivar module: where C{makePolicy} is, dotted; it takes the arguments and
        options of the description as C{str}.
    @ivar usage: one line for C{--help-policies}.
    """

    name: str
    module: str
    usage: str

    def makePolicy(self, *arguments: str, **options: str) -> object:
        """
        Import the module and have it make the policy.

        @raise ValueError: the module can't be imported, its C{makePolicy} takes
            no such arguments, or it raised this itself.
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
