"""
C{python -m e2e}: all tests, or those that are named as C{unittest} wants it.

The last line is as trial's: C{PASSED (successes=9)}.
"""

import sys
import unittest

from e2e.runtime import NoRuntime, find


def main(arguments: list[str]) -> int:
    """The status with which the process ends: 0, 1 for a failure, 2 where no Pods can be run."""
    try:
        find()
    except NoRuntime as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 2
    ran = unittest.main(module="e2e.test_pods", argv=["e2e", "-v", *arguments], exit=False).result
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
