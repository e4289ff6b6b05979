"""
Announces a policy to L{twisted.plugin} without importing it: L{PolicyMaker}.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

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
    @ivar module: the module with C{makePolicy}, with dots.  The parameters of the function are
        the options (L{sitio.policy.declaration}).
    @ivar usage: one line for C{--help-policies}: the description, two spaces, and what the
        policy does.
    """

    name: str
    module: str
    usage: str

    def load(self) -> Callable[..., Any]:
        """
        Import the module, and return its C{makePolicy}.

        @raise ValueError: the module can't be imported.
        """
        try:
            make: Callable[..., Any] = import_module(self.module).makePolicy
        except ImportError as error:
            raise ValueError(f"{self.module} can't be imported: {error}") from error
        return make

    def makePolicy(self, *arguments: str, **options: str) -> object:
        """
        Import the module, and call its C{makePolicy} with the values of these texts.

        @raise ValueError: the module can't be imported, or an option is wrong.
        """
        # Imported late: every twistd on the host loads this module.
        from sitio.policy.declaration import Declaration

        texts = {name: [text] for name, text in options.items()}
        made: object = Declaration.of(self.load()).fromText(arguments, texts)
        return made
