"""
States with names, and tables of the moves between them: L{StateMachine}.
"""

from __future__ import annotations

from typing import ClassVar


class IllegalTransition(Exception):
    """An event in a state that does not know it: a mistake in sitio."""


class StateMachine:
    """
    Something that is in one named state at a time.

    @cvar moves: the state after an event, by the state before it and the event;
        what isn't in it is illegal.
    """

    moves: ClassVar[dict[tuple[str, str], str]]
    state: str

    def _move(self, event: str) -> None:
        """
        An event has come.

        @raise IllegalTransition: naming the state and the event.
        """
        try:
            self.state = self.moves[self.state, event]
        except KeyError:
            raise IllegalTransition(f"{type(self).__name__}: {event} while {self.state}") from None
