"""
The tests in memory, for C{trial sitio.test.fast}: no sockets, processes or browser.
"""

from __future__ import annotations

from twisted.trial.unittest import TestSuite

from sitio.test.helpers.modules import SLOW, load, testModules


def testSuite() -> TestSuite:
    """All tests but those of the folders L{SLOW}."""
    return load(each for each in testModules() if each.partition(".")[0] not in SLOW)
