"""
When Python's garbage collector runs: L{Collector}.

Python's own rule makes the collector look at all objects now and then, which holds up all
traffic for tens of milliseconds.  sitio's connections and exchanges leave no cycles, so they
are freed without it.  What it is for here are the cycles of policies, of libraries and of
tracebacks: most of them are young when it looks.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

#: Number of new objects (made and not freed) after which the collector looks at those.  That
#: takes some 0.1 ms.  Python's own 700 would make it run several times on each turn of the
#: reactor when hundreds of connections are busy.
NEW_OBJECTS = 3000

#: Such looks after which it looks once more at all that they have left: less than 1 ms.  It
#: never looks at these again, but for the rare look at all.
LOOKS = 3

#: Such second looks after which it looks at all objects: half a million more than there
#: were, unless they were freed meanwhile.
LOOKS_BEFORE_ALL = 40

#: Seconds between two tries to look at all objects, and the tries that wait for a moment
#: without exchanges.
TRY_SECONDS = 0.5
MAX_TRIES = 120


class Collector:
    """
    Makes the collector look at few objects at a time.

    The rare look at all objects waits for a moment in which nothing is under way, for a
    minute at most.
    """

    def __init__(self, reactor: Any, isBusy: Callable[[], bool] = lambda: False) -> None:
        """
        @param reactor: its clock, and C{callFromThread}.
        @param isBusy: whether somebody would wait for the collector now.
        """
        self._reactor = reactor
        self._isBusy = isBusy
        self._looks = 0
        self._isAsked = False
        self._tries = 0

    def start(self) -> None:
        """
        Begin, once everything has started.  The collector may be disabled until then.

        PyPy's collector is enabled, and else stays as it is.
        """
        if hasattr(gc, "freeze"):
            gc.freeze()
            gc.set_threshold(NEW_OBJECTS, LOOKS, 2**31 - 1)
            gc.callbacks.append(self._ran)
        gc.enable()

    def _ran(self, phase: str, info: dict[str, Any]) -> None:
        if phase != "stop" or info["generation"] == 0:
            return
        gc.freeze()
        self._looks += info["generation"] == 1
        if self._looks >= LOOKS_BEFORE_ALL and not self._isAsked:
            self._isAsked = True
            # The collector runs in any thread, and in the middle of anything, such as the
            # reactor's own work at its timers.
            self._reactor.callFromThread(self._begin)

    def _begin(self) -> None:
        self._tries = 0
        self._reactor.callLater(TRY_SECONDS, self._lookAtAll)

    def _lookAtAll(self) -> None:
        self._tries += 1
        if self._isBusy() and self._tries < MAX_TRIES:
            self._reactor.callLater(TRY_SECONDS, self._lookAtAll)
            return
        self._looks = 0
        self._isAsked = False
        gc.unfreeze()
        gc.collect()
