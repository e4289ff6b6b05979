"""Promises of L{sitio.net.statemachine}."""

from __future__ import annotations

from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from sitio.net.statemachine import IllegalTransition, StateMachine
from sitio.proxy import server
from sitio.upstream import client


class Door(StateMachine):
    """Open or shut."""

    moves: ClassVar = {("open", "push"): "shut"}

    def __init__(self) -> None:
        self.state = "open"

    def push(self) -> None:
        """Push it."""
        self._move("push")


class StatefulTests(SynchronousTestCase):
    """Moves are those of the table."""

    def test_move(self) -> None:
        """A move of the table leads to its state."""
        door = Door()
        door.push()
        self.assertEqual(door.state, "shut")

    def test_illegal(self) -> None:
        """Any other raises, naming state and event, and the state stays."""
        door = Door()
        door.push()
        error = self.assertRaises(IllegalTransition, door.push)
        self.assertEqual((str(error), door.state), ("Door: push while shut", "shut"))

    def test_tables(self) -> None:
        """In both halves each state that a move leads to, but the last, knows a way on."""
        for half, last in (
            (client.ProxyClient, client.CLOSED),
            (server.ProxyServer, server.CLOSED),
        ):
            known = {state for state, _ in half.moves}
            self.assertEqual(set(half.moves.values()) - known, {last})
