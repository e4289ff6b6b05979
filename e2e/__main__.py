"""
C{python -m e2e}: runs all tests, or those that are named in C{unittest}'s form, as in
C{make e2e E2E=Deleted}.

The last line is like trial's: C{PASSED (successes=9)}.  If this machine can't run Pods,
one line that begins with C{e2e: } has the reason.
"""

import fcntl
import os
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from e2e.runtime import NoRuntime, find

#: Seconds to wait for another run on this machine: both use the same names of images and Pods.
LOCK_SECONDS = 900

#: The modules with tests.
MODULES = (
    "e2e.test_pods",
    "e2e.test_strangers",
    "e2e.test_reloads",
    "e2e.test_ends",
    "e2e.test_drains",
)


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of this machine; raises L{TimeoutError} if another run does not end."""
    path = Path(tempfile.gettempdir()) / f"sitio-e2e-{os.getuid()}.lock"
    until = time.monotonic() + LOCK_SECONDS
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError(f"another run holds {path} for too long") from None
                time.sleep(1)
        yield


def whole(word: str) -> str:
    """The whole name of a class or test of L{MODULES}; any other word as it is."""
    for each in MODULES:
        if hasattr(import_module(each), word.partition(".")[0]):
            return f"{each}.{word}"
    return word


def main(arguments: list[str]) -> int:
    """Run the tests; the exit status: 0, 1 for a failure, 2 if this machine can't run Pods."""
    with alone():
        try:
            find()
        except NoRuntime as error:
            print(f"e2e: {error}", file=sys.stderr)
            return 2
        argv = ["e2e", "-v", *map(whole, arguments or MODULES)]
        ran = unittest.main(module=None, argv=argv, exit=False).result
    outcomes = {
        "skips": len(ran.skipped),
        "failures": len(ran.failures),
        "errors": len(ran.errors),
        "successes": max(0, ran.testsRun - len(ran.skipped + ran.failures + ran.errors)),
    }
    said = ", ".join(f"{name}={times}" for name, times in outcomes.items() if times)
    print(f"{'PASSED' if ran.wasSuccessful() else 'FAILED'} ({said})")
    return 0 if ran.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
