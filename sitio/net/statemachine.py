"""
States with names, and tables of the moves between them: L{Stateful}.
"""

from __future__ import annotations

from typing import ClassVar


class IllegalMove(Exception):
    """An event in a state that does not know it: a mistake in sitio."""


class Stateful:
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

        @raise IllegalMove: naming the state and the event.
        """
        try:
            self.state = self.moves[self.state, event]
        except KeyError:
            raise IllegalMove(f"{type(self).__name__}: {event} while {self.state}") from None
