"""
Tests of L{sitio.policy.exchange}: the types of an exchange, its interface and the exchanges of the
proxy are one.
"""

from __future__ import annotations

from inspect import isfunction, signature
from typing import Any, get_type_hints

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.interface import Method
from zope.interface.verify import verifyObject

from sitio import Exchange
from sitio.errors import SitioError
from sitio.interfaces import IExchange
from sitio.proxy.exchange import Exchange as ProxyExchange
from sitio.testing import request, runPolicy

#: What a policy may set.
SETTABLE = {"timeout", "masking", "upstream"}


def asTyped(exchange: ProxyExchange) -> Exchange:
    """For type checkers: an exchange of the proxy has all attributes, with these types."""
    return exchange


def typed() -> dict[str, Any]:
    """The public attributes of the typed exchange."""
    found = {**get_type_hints(Exchange), **vars(Exchange)}
    return {name: each for name, each in found.items() if not name.startswith("_")}


class TiedTests(SynchronousTestCase):
    """An exchange is described three times: by an interface, by types, and by itself."""

    def test_attributes(self) -> None:
        """The types name each attribute of the interface, and no other."""
        self.assertEqual(set(typed()), set(IExchange.names(all=True)))

    def test_methods(self) -> None:
        """The methods of both have the same parameters."""
        for name, each in IExchange.namesAndDescriptions(all=True):
            self.assertEqual(isinstance(each, Method), isfunction(typed()[name]), name)
            if isinstance(each, Method):
                [_, *parameters] = signature(typed()[name]).parameters
                self.assertEqual(parameters, list(each.positional))

    def test_writable(self) -> None:
        """Only what policies may set can be set, to type checkers."""
        self.assertEqual(set(get_type_hints(Exchange)), SETTABLE)

    def test_annotated(self) -> None:
        """Each attribute has a type."""
        for name in set(typed()) - SETTABLE:
            function = getattr(typed()[name], "fget", typed()[name])
            hints = get_type_hints(function, localns={"SitioError": SitioError})
            self.assertIn("return", hints, name)

    def test_real(self) -> None:
        """An exchange of the proxy provides the interface, and so all attributes of the types."""
        exchange = asTyped(runPolicy([], request()).exchange)
        self.assertTrue(verifyObject(IExchange, exchange))
        for name in typed():
            self.assertTrue(hasattr(exchange, name), name)
