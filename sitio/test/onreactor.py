"""
The tests that use the installed reactor, for C{trial --reactor=NAME sitio.test.onreactor}.

All other tests do the same on any reactor.
"""

from __future__ import annotations

from twisted.trial.unittest import TestSuite

from sitio.test.helpers.modules import SLOW, load, testModules

#: Modules of the folders L{SLOW} that are left out, and why.
LEFT_OUT = {
    "integration.test_reactor": "each test makes a reactor of its own",
    "integration.test_transport_random": "as the one before",
    "system.test_bench": "the benchmark starts processes on reactors that it names",
    "system.test_instructions": "what it counts has no reactor",
    "system.test_soak": "the soak starts processes on reactors that it names",
    "system.test_browser": "a browser sees no difference, and takes a minute",
    "system.test_examples": "pip installs a package, and processes start",
    "system.test_types": "type checkers know of no reactor",
}


def testSuite() -> TestSuite:
    """The tests of the folders L{SLOW}, less L{LEFT_OUT}."""
    return load(
        each for each in testModules() if each.partition(".")[0] in SLOW and each not in LEFT_OUT
    )
