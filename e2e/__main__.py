"""
C{python -m e2e}: all tests, or those that are named as C{unittest} wants it.

The last line is as trial's: C{PASSED (successes=9)}.  Where Pods can't be run, one
line that begins with C{e2e: } says why.
"""

import fcntl
import os
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.runtime import NoRuntime, find

#: Seconds to wait for another who runs this: images and Pods are the machine's.
PATIENCE = 900


@contextmanager
def alone() -> Iterator[None]:
    """Raises L{TimeoutError} when another doesn't end."""
    path = Path(tempfile.gettempdir()) / f"sitio-e2e-{os.getuid()}.lock"
    until = time.monotonic() + PATIENCE
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError(f"another holds {path} for too long") from None
                time.sleep(1)
        yield


def main(arguments: list[str]) -> int:
    """The status with which the process ends: 0, 1 for a failure, 2 where no Pods can be run."""
    with alone():
        try:
            find()
        except NoRuntime as error:
            print(f"e2e: {error}", file=sys.stderr)
            return 2
        argv = ["e2e", "-v", *arguments]
        ran = unittest.main(module="e2e.test_pods", argv=argv, exit=False).result
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
