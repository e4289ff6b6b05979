"""Tests of L{sitio.net.statemachine}."""

from __future__ import annotations

import ast
import inspect
import sys

from twisted.trial.unittest import SynchronousTestCase

from sitio.net.statemachine import IllegalTransition, Transitions
from sitio.proxy import exchange, leaving, securing, server
from sitio.upstream import client

TABLE = {("shut", "open"): "open", ("open", "shut"): "shut", ("ajar", "shut"): "shut"}

#: The modules with a table, the classes that it is for, and the last state.
MODULES = (
    (client, (client.ProxyClient,), client.CLOSED),
    (leaving, (server.ProxyServer, leaving.Leaving, securing.Securing), leaving.CLOSED),
    (exchange, (exchange.Exchange,), exchange.ENDED),
)


def assignments(kind: type) -> list[tuple[str, ast.expr]]:
    """Each assignment to C{self.state} in a class: the method, and what is assigned."""
    tree = ast.parse(inspect.getsource(kind))
    return [
        (method.name, node.value)
        for method in ast.walk(tree)
        if isinstance(method, ast.FunctionDef)
        for node in ast.walk(method)
        if isinstance(node, ast.Assign)
        and any(ast.unparse(target) == "self.state" for target in node.targets)
    ]


def eventsOf(kind: type) -> set[str]:
    """The names of the events that the module of a class looks up in the table."""
    tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    return {
        str(ast.literal_eval(node.args[0]))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "TRANSITIONS.on"
    }


class TransitionTests(SynchronousTestCase):
    """Only the transitions of a table are possible."""

    def test_known(self) -> None:
        """An event leads from a state that knows it to the state after it."""
        shut = Transitions("Door", TABLE).on("shut")
        self.assertEqual((shut["open"], shut["ajar"]), ("shut", "shut"))

    def test_illegal(self) -> None:
        """In any other state it raises, naming the owner, the event and the state."""
        shut = Transitions("Door", TABLE).on("shut")
        error = self.assertRaises(IllegalTransition, lambda: shut["shut"])
        self.assertEqual(str(error), "Door: shut while shut")

    def test_unknownEvent(self) -> None:
        """An event that the table does not have is refused when it is looked up."""
        error = self.assertRaises(ValueError, Transitions("Door", TABLE).on, "lock")
        self.assertIn("lock", str(error))


class TableTests(SynchronousTestCase):
    """The tables of server, client and exchange hold, and nothing goes round them."""

    def test_noDeadEnds(self) -> None:
        """Each state that a transition leads to, but the last, has a way on."""
        for module, _, last in MODULES:
            table = module.TRANSITIONS.table
            self.assertEqual(set(table.values()) - {state for state, _ in table}, {last})

    def test_enforced(self) -> None:
        """Each assignment of a state looks up the state before it in an event of the table."""
        for kind in [each for _, kinds, _ in MODULES for each in kinds]:
            found = [each for each in assignments(kind) if each[0] != "__init__"]
            self.assertTrue(found)
            for method, value in found:
                assert isinstance(value, ast.Subscript), f"{kind.__name__}.{method}"
                self.assertIn(ast.unparse(value.slice), ("self.state", "state"), method)
                self.assertTrue(ast.unparse(value.value).isupper(), method)

    def test_allUsed(self) -> None:
        """Each event of a table is used in the modules of its classes."""
        for module, kinds, _ in MODULES:
            known = {event for _, event in module.TRANSITIONS.table}
            self.assertEqual(set().union(*map(eventsOf, kinds)), known)
            used = {
                ast.unparse(value.value)
                for kind in kinds
                for _, value in assignments(kind)
                if isinstance(value, ast.Subscript)
            }
            self.assertEqual(len(used), len(known))
