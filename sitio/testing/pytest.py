"""
Fixtures for pytest.  A test file, or the C{conftest.py} of the top folder, asks for them::

    pytest_plugins = ["sitio.testing.pytest"]

They are no entry point: pytest would load sitio, and its fixtures, in each project of an
environment where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from twisted.logger import LogEvent, globalLogPublisher

from sitio.settings import Settings
from sitio.testing.runner import Runner


@pytest.fixture
def loggedErrors() -> Iterator[list[BaseException]]:
    """
    The exceptions that were logged so far.

    A test with exceptions left in this list fails, as a test of trial does.  A test that
    expects some checks them, and clears the list.
    """
    errors: list[BaseException] = []

    def note(event: LogEvent) -> None:
        if "log_failure" in event:
            errors.append(event["log_failure"].value)

    observe: Any = note
    globalLogPublisher.addObserver(observe)
    try:
        yield errors
    finally:
        globalLogPublisher.removeObserver(observe)
    if errors:
        pytest.fail(f"the test has logged {errors!r}", pytrace=False)


@pytest.fixture
def startRunner(loggedErrors: list[BaseException]) -> Iterator[Callable[..., Runner]]:
    """
    A function that starts a L{Runner}, which is stopped after the test.

    Its parameters are those of the runner.  Policies that are services run until then.
    """
    with ExitStack() as stack:

        def start(policy: Any, *, settings: Settings | None = None, clock: Any = None) -> Runner:
            return stack.enter_context(Runner(policy, settings=settings, clock=clock))

        yield start
