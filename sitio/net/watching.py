"""
Watches files, and calls back when their content has changed: L{Watcher}.

One timer looks at all files once a second.  A look is a few calls of C{stat}, by the resolved
path: so it also sees when a symbolic link above a file is replaced, which is how Kubernetes
updates the files of a Secret or a ConfigMap.  A file is read only if its C{stat} has changed.

A change is reported at the first look at which nothing changes any more.  So a certificate and
its key, which are written one after the other, are one change, and a file that is half written
is not read.

Contract: the clock is passed in.  Files are local: a file system that does not respond would
hold up the process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sitio.net.periodic import Periodic

_log = Logger(namespace="sitio")

#: Seconds between two looks.
LOOK_SECONDS = 1.0

#: Looks after which a change is reported although files still change: somebody may write to
#: one of them without end.
MAX_UNSETTLED = 5

#: Bytes of the longest file that is read.  Of a longer one, a new C{stat} is a new content.
MAX_BYTES = 4 * 1024 * 1024

#: What C{stat} says of a file, with its resolved path; L{None} if there is no such file.
_Stamp = tuple[Any, ...] | None


def _stampOf(path: Path) -> _Stamp:
    try:
        resolved = os.path.realpath(path)
        found = os.stat(resolved)
    except (OSError, ValueError):
        return None
    return (
        *(resolved, found.st_dev, found.st_ino, found.st_size),
        *(found.st_mtime_ns, found.st_ctime_ns),
    )


def _contentOf(path: Path, stamp: _Stamp) -> Any:
    """Something that is equal as long as the content is; L{None} for no readable file."""
    if stamp is None:
        return None
    try:
        # A named pipe would block for ever.
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return stamp
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:
        return None


class Watch:
    """Some files that are watched for one purpose."""

    def __init__(
        self, watcher: Watcher, paths: Iterable[str | Path], changed: Callable[[], object]
    ) -> None:
        self._watcher = watcher
        self._changed = changed
        self.follow(paths)

    def follow(self, paths: Iterable[str | Path]) -> None:
        """
        Watch these files from now on, in place of those before.

        Call it before the files are read: then no change is missed.
        """
        self._paths = sorted({Path(each) for each in paths})
        self._stamps = [_stampOf(each) for each in self._paths]
        self._contents = self._read()
        self._unsettled = 0

    def _read(self) -> list[Any]:
        return [_contentOf(*each) for each in zip(self._paths, self._stamps)]

    def look(self) -> None:
        """Look at the files, and call back if their content has changed."""
        stamps = [_stampOf(each) for each in self._paths]
        if stamps != self._stamps:
            self._stamps = stamps
            self._unsettled += 1
            if self._unsettled < MAX_UNSETTLED:
                return
        if self._unsettled:
            self._unsettled = 0
            contents = self._read()
            if contents != self._contents:
                self._contents = contents
                self._changed()

    def stop(self) -> None:
        """Watch them no longer."""
        self._watcher.forget(self)


class Watcher(Service):
    """
    Looks at files once in L{LOOK_SECONDS} while it runs.

    A callback that raises is logged, and the other files are looked at nevertheless.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._watches: dict[Watch, None] = {}
        self._looks = Periodic(
            clock, LOOK_SECONDS, self.look, log=_log, whenFails="Files can't be watched"
        )

    def watch(self, paths: Iterable[str | Path], changed: Callable[[], object]) -> Watch:
        """
        Watch these files, which need not exist.

        Call it before the files are read: then no change is missed.

        @param changed: called when the content of one or more of them has changed; also if
            a file has gone, or can't be read any more.
        """
        watch = Watch(self, paths, changed)
        self._watches[watch] = None
        return watch

    def forget(self, watch: Watch) -> None:
        """Look at these no longer; more than once is no error."""
        self._watches.pop(watch, None)

    def look(self) -> None:
        """Look at all files now."""
        for each in list(self._watches):
            if each in self._watches:
                with _log.failuresHandled("A change of files was not taken over"):
                    each.look()

    def startService(self) -> None:
        """Begin to look."""
        Service.startService(self)
        self._looks.startService()

    def stopService(self) -> Any:
        """Look no more."""
        Service.stopService(self)
        return self._looks.stopService()
