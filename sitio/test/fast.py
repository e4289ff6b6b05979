"""
The tests that run in memory: all but those of sockets, processes and the browser.

C{make test-fast} and C{trial sitio.test.fast} run them, in a fraction of the time
that all tests take.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.runner import TestLoader
from twisted.trial.unittest import TestSuite

#: Folders whose tests open sockets and start processes.
SLOW = ("integration", "system")


def testSuite() -> TestSuite:
    """The tests of all folders but L{SLOW}, for C{trial}."""
    here = Path(__file__).parent
    names = [
        ".".join(("sitio.test", *path.relative_to(here).with_suffix("").parts))
        for path in sorted(here.rglob("test_*.py"))
        if path.parent.name not in SLOW
    ]
    return TestLoader().loadByNames(names)
