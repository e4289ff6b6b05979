"""
Starts processes on chosen cores, and ends them, whatever happens.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.machine import tree

#: Seconds that a process has until its first response.
START_TIME = 20.0


class Unusable(Exception):
    """Something is missing, does not start, or does not do what is compared."""


def pinned(command: Sequence[str], cores: Collection[int]) -> list[str]:
    """
    The command on these cores.

    By a program and not by a function between fork and exec: what Python runs there
    swallows the KeyboardInterrupt of a Ctrl-C that comes in that moment.
    """
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]


@contextmanager
def running(
    command: Sequence[str],
    cores: Collection[int],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """
    A process that runs on these cores and is ended, with its descendants, at the end.

    @param log: where its output goes.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            pinned(command, cores),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            # A group of its own: Ctrl-C reaches the benchmark alone, which then
            # ends all that it has started.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    # Nothing of theirs is wanted any more, and some take their time to drain.
    # Parents first, so that none starts another child.
    for each in tree(process.pid):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    process.wait()


def checkAlive(process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """
    @raise Unusable: it has ended, with the last that it said.
    """
    if process.poll() is not None:
        said = log.read_text("utf-8", "replace").strip().splitlines() or ["nothing"]
        raise Unusable(f"{name} ended with status {process.returncode}; it said: {said[-1]}")


def output(
    command: Sequence[str],
    timeout: float = 30.0,
    environment: Mapping[str, str] | None = None,
    cores: Collection[int] | None = None,
) -> str:
    """
    What a command that ends soon prints, its errors included.

    @raise Unusable: it can't be run, or takes too long.
    """
    try:
        result = subprocess.run(
            pinned(command, cores) if cores else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"{command[0]} can't be run: {error}") from error
    return result.stdout.decode("utf-8", "replace")


def pause(seconds: float) -> None:
    """Let things settle."""
    time.sleep(seconds)
