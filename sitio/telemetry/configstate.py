"""
What came of reading the configuration: L{ConfigState}.

Contract: no I/O; times are passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict


class ConfigSnapshot(TypedDict):
    """
    For metrics: the number of the generation in use, whether the last attempt to read the
    configuration was successful, and when the last successful one was, in seconds since 1970.
    """

    generation: int
    successful: bool
    since: float


FIRST: ConfigSnapshot = {"generation": 1, "successful": True, "since": 0.0}


class ConfigState:
    """
    The configuration in use, and the last attempt to read another one.

    @ivar generation: the number of the one in use; the first is 1.
    @ivar since: when it was read, in seconds since 1970.
    @ivar mistakes: why the last one that was read is not in use, as sentences; empty if it is.
    @ivar failed: when that was.
    @ivar waiting: keys whose new values take effect at the next start only.
    """

    def __init__(self, now: float, generation: int = 1) -> None:
        self.generation = generation
        self.since = now
        self.mistakes: Sequence[str] = ()
        self.failed = 0.0
        self.waiting: Sequence[str] = ()

    def adopted(self, generation: int, now: float, waiting: Sequence[str] = ()) -> None:
        """Another configuration is in use."""
        self.generation, self.since, self.waiting = generation, now, waiting
        self.mistakes, self.failed = (), 0.0

    def refused(self, mistakes: Sequence[str], now: float) -> None:
        """Another configuration can't be used."""
        self.mistakes, self.failed = mistakes, now

    def snapshot(self) -> ConfigSnapshot:
        """For metrics."""
        return {
            "generation": self.generation,
            "successful": not self.mistakes,
            "since": self.since,
        }

    def shown(self) -> dict[str, Any]:
        """For the page /config: as plain data, with times that people can read."""
        told: dict[str, Any] = {"generation": self.generation, "since": _written(self.since)}
        if self.waiting:
            told["needRestart"] = list(self.waiting)
        if self.mistakes:
            told["refused"] = {"at": _written(self.failed), "mistakes": list(self.mistakes)}
        return told


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()
