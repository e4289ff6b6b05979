"""
A start in the background that fails is told to the operator as one in the foreground is.

C{twistd} forks, and its first process waits for the daemon's report.  It shows the first hundred
bytes of that as Python writes bytes, within a sentence of its own.  L{InBackground} writes the
whole sentence to the terminal instead, before the report, and what C{twistd} says of it is dropped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

from twisted.application.service import IServiceCollection, MultiService

from sitio.errors import CannotStart


class _Quiet(StringIO):
    """
    Takes what C{twistd} says of a start that has failed, in its process that waits.

    Other failures are not sitio's to explain: they pass.
    """

    def __init__(self, terminal: int) -> None:
        StringIO.__init__(self)
        self._terminal = terminal

    def write(self, text: str) -> int:
        """Write to the terminal what L{InBackground} has not written already."""
        if CannotStart.__name__ not in text:
            os.write(self._terminal, text.encode("utf-8", "backslashreplace"))
        return len(text)


class InBackground(MultiService):
    """
    The parent of a service that may be started by a daemon.

    If its start raises L{CannotStart}, the sentence goes to the standard error of the process
    that was called, which the daemon no longer has.
    """

    def __init__(self, stderr: int = 2) -> None:
        """
        Made before the fork.

        @param stderr: the descriptor of that standard error.
        """
        MultiService.__init__(self)
        # Not inherited by workers.
        self._terminal: int | None = os.dup(stderr)
        self._original = sys.__stderr__
        # Where twistd's waiting process writes.
        sys.__stderr__ = _Quiet(self._terminal)  # type: ignore[misc, assignment]

    def privilegedStartService(self) -> None:
        """Open ports that need privileges."""
        with self._told():
            MultiService.privilegedStartService(self)

    def startService(self) -> None:
        """Start the service; from then on its log has all that it says."""
        with self._told():
            MultiService.startService(self)
        self._close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except CannotStart as error:
            if self._terminal is not None:
                os.write(self._terminal, f"{error}\n".encode("utf-8", "backslashreplace"))
            self._close()
            raise

    def _close(self) -> None:
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            sys.__stderr__ = self._original  # type: ignore[misc]
            os.close(terminal)


def toldInTerminal(service: Any) -> InBackground:
    """This service, with a parent that tells the terminal why it can't start."""
    parent = InBackground()
    service.setServiceParent(IServiceCollection(parent))
    return parent
