"""
The modules of tests, by folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from twisted.trial.runner import TestLoader
from twisted.trial.unittest import TestSuite

TESTS = Path(__file__).parent.parent

#: The folders whose tests open sockets, start processes or use the installed reactor.
SLOW = ("integration", "system")


def testModules() -> list[str]:
    """The names of all modules of tests below C{sitio.test}: C{"http.test_codec"}."""
    return [
        ".".join(path.relative_to(TESTS).with_suffix("").parts)
        for path in sorted(TESTS.rglob("test_*.py"))
    ]


def load(names: Iterable[str]) -> TestSuite:
    """The tests of these modules."""
    return TestLoader().loadByNames([f"sitio.test.{each}" for each in names])
