"""
Named states, and tables of the transitions between them: L{Transitions}.

A class that is in one state at a time keeps its name in C{state}, and changes it
by an event of its table only::

    TRANSITIONS = Transitions("Door", {("open", "push"): "shut"})
    _PUSH = TRANSITIONS.on("push")

    self.state = _PUSH[self.state]

That is one dictionary lookup, so the table is enforced where every request passes
as well.
"""

from __future__ import annotations

from collections.abc import Mapping


class IllegalTransition(Exception):
    """An event in a state that does not know it: a mistake in sitio."""


class Event(dict[str, str]):
    """
    The state after one event, by the state before it.

    Looking up a state that does not know the event raises L{IllegalTransition},
    which names the owner, the event and the state.
    """

    __slots__ = ("_name", "_owner")

    def __init__(self, owner: str, name: str, after: Mapping[str, str]) -> None:
        dict.__init__(self, after)
        self._owner = owner
        self._name = name

    def __missing__(self, state: str) -> str:
        raise IllegalTransition(f"{self._owner}: {self._name} while {state}")


class Transitions:
    """
    A table of transitions.

    @ivar table: the state after an event, by the state before it and the event.
    """

    def __init__(self, owner: str, table: Mapping[tuple[str, str], str]) -> None:
        """@param owner: whose states these are; errors name it."""
        self.table = dict(table)
        self._owner = owner

    def on(self, event: str) -> Event:
        """
        What this event does.

        @raise ValueError: the table does not know the event.
        """
        after = {state: to for (state, name), to in self.table.items() if name == event}
        if not after:
            raise ValueError(f"{self._owner}: the table has no event {event!r}")
        return Event(self._owner, event, after)
