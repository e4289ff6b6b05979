"""
Reads the configuration anew: at SIGHUP, by the page /reload, and when its files change:
L{Reloads}.

Contract: clock, time and what is replaced are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time as _time
from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.config.places import ConfigErrors
from sitio.errors import inOneLine
from sitio.telemetry.configstate import ConfigState

if TYPE_CHECKING:
    from pathlib import Path

    from sitio.net.watching import Watch, Watcher
    from sitio.wiring.replacement import Replaceable

#: Mistakes that are kept for the page /config.
MAX_KEPT = 100

#: Seconds that it may take to prepare a configuration, beside what its policies do at once:
#: more than self-tests and workers have.
PREPARE_SECONDS = 60.0


def watchable(options: Mapping[str, Any]) -> bool:
    """Whether there are files that a configuration is read from."""
    return options["config"] is not None or any(
        each.startswith("file:") for each in options["descriptions"]
    )


class Reloads(Service):
    """
    Reloads, one after the other.

    A reload that is asked for while another is under way runs after it, once for all who ask.
    """

    log = Logger(namespace="sitio")

    def __init__(
        self,
        clock: IReactorTime,
        state: ConfigState,
        make: Callable[[], Replaceable],
        watcher: Watcher | None = None,
        time: Callable[[], float] = _time,
    ) -> None:
        """
        @param state: of the sidecar; it is changed.
        @param make: makes what is replaced, before the first reload.
        @param watcher: says when files have changed; L{None} to reload only when asked to.
        @param time: the time in seconds since 1970.
        """
        self.state = state
        self._clock = clock
        self._make = make
        self._time = time
        self._made: Replaceable | None = None
        self._running = False
        self._cause = ""
        self._asked: list[Deferred[ConfigState]] = []
        self._watcher = watcher
        self._watch: Watch | None = None
        self._watched: set[Path] = set()

    def startService(self) -> None:
        """Begin to watch the files, if there is what watches them."""
        Service.startService(self)
        if self._watcher is not None:
            self._watched = set(self.target.files())
            self._watch = self._watcher.watch(self._watched, self._filesChanged)

    def _filesChanged(self) -> None:
        self.request("files have changed")

    def _follow(self) -> None:
        """Watch the files that count now."""
        files = set(self.target.files())
        if self._watch is not None and files != self._watched:
            self._watched = files
            self._watch.follow(files)

    @property
    def target(self) -> Replaceable:
        """What is replaced."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def request(self, cause: str) -> None:
        """Reload, now or after the one that is under way."""
        self._cause = cause
        if not self._running:
            self._begin()

    def reload(self, cause: str) -> Deferred[ConfigState]:
        """
        The same.

        @param cause: for the log: C{SIGHUP}.

        @return: the state, when this reload has ended.  It fails only if it is cancelled,
            which does not cancel the reload.
        """
        asked: Deferred[ConfigState] = Deferred()
        self._asked.append(asked)
        self.request(cause)
        return asked

    def _begin(self) -> None:
        cause, self._cause = self._cause, ""
        asked, self._asked = self._asked, []
        self._running = True
        preparing: Deferred[Any] = maybeDeferred(self._prepare)
        preparing.addTimeout(PREPARE_SECONDS, self._clock)
        preparing.addCallback(self._adopt, cause)
        preparing.addErrback(self._refuse, cause)
        preparing.addBoth(self._ended, asked)

    def _prepare(self) -> Deferred[list[str]]:
        if self._watch is not None:
            # Before they are read: so no change is missed, and none seen twice.
            self._watch.follow(self._watched)
        return self.target.prepare()

    def _adopt(self, waiting: Sequence[str], cause: str) -> None:
        if self.parent is not None and not self.running:
            # sitio has stopped meanwhile.
            self.target.discard()
            return
        number = self.target.adopt()
        self.state.adopted(number, self._time(), waiting)
        self.log.info(
            "sitio has read its configuration anew ({cause}): generation {number} is in use",
            cause=cause,
            number=number,
        )
        if waiting:
            self.log.warn(
                "These keys of the configuration need a restart of sitio: {keys}",
                keys=", ".join(waiting),
            )

    def _refuse(self, why: Failure, cause: str) -> None:
        error = cast(BaseException, why.value)
        if isinstance(error, ConfigErrors):
            mistakes = [str(each) for each in error.mistakes[:MAX_KEPT]]
        else:
            self.log.failure("The configuration could not be read anew", why)
            mistakes = [inOneLine(error)]
        self.state.refused(mistakes, self._time())
        self.log.error(
            "The new configuration is not used ({cause}), generation {number} stays in use:\n"
            "{mistakes}",
            cause=cause,
            number=self.state.generation,
            mistakes="\n".join(mistakes),
        )

    def _ended(self, result: object, asked: Sequence[Deferred[ConfigState]]) -> None:
        self._running = False
        self._follow()
        for each in asked:
            # Who has cancelled it has its result.
            if not each.called:
                each.callback(self.state)
        if self._cause:
            self._begin()

    def stopService(self) -> None:
        """Adopt nothing any more."""
        Service.stopService(self)
        if self._watch is not None:
            self._watch.stop()
