"""
Starts processes on given cores, and always ends them.
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

#: Seconds until a process must have sent its first response.
START_TIME = 20.0

#: What is measured keeps its bytecode, as what pip or an image installs does, also where the
#: benchmark itself is told not to: without it, a start in Python takes half as long again.
INSTALLED = {"PYTHONDONTWRITEBYTECODE": ""}


class Unusable(Exception):
    """A program is missing, does not start, or does not behave as all proxies must."""


def pinned(command: Sequence[str], cores: Collection[int]) -> list[str]:
    """
    The command, pinned to these cores.

    A program does that and not a function between fork and exec: Python code there
    would swallow the KeyboardInterrupt of a Ctrl-C at that moment.
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
    Run a process on these cores; end it and its descendants at the end.

    @param log: the file for its output.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            pinned(command, cores),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **INSTALLED, **(environment or {})},
            # A process group of its own: Ctrl-C reaches only the benchmark, which then
            # ends all that it has started.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    # SIGKILL: nothing of them is needed, and some drain slowly.
    # Parents first, so that they start no more children.
    for each in tree(process.pid):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    process.wait()


def checkAlive(process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """
    @raise Unusable: it has ended; the text has its last output.
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
    The output of a short command, errors included.

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
    """Wait."""
    time.sleep(seconds)
