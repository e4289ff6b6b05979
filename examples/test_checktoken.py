"""Tests of the token check, for pytest: `cd examples; python -m pytest test_checktoken.py`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from checktoken import TokenCheck

from sitio.testing import Runner, request, runPolicy

pytest_plugins = ["sitio.testing.pytest"]

ASKS = request("/", headers={"Authorization": "Bearer abc"})


class Accounts:
    """The other service, with what treq has of it."""

    def __init__(self) -> None:
        self.code, self.asked = 200, 0

    async def get(self, url: str, **how: Any) -> SimpleNamespace:
        self.asked += 1
        return SimpleNamespace(code=self.code)

    async def collect(self, answer: SimpleNamespace, collector: Any) -> None:
        pass


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.mark.parametrize(("code", "status"), [(200, 200), (401, 401), (302, 401), (500, 503)])
def test_answers(accounts: Accounts, code: int, status: int) -> None:
    """A good token is let in; a bad one is not, and none while the service fails."""
    accounts.code = code
    runPolicy(TokenCheck(client=accounts), ASKS).assertResponse(status)


def test_none(accounts: Accounts) -> None:
    """Without a token nobody is asked."""
    outcome = runPolicy(TokenCheck(client=accounts), request())
    outcome.assertResponse(401, headers={"WWW-Authenticate": "Bearer"}, text="Please log in.\n")
    assert (outcome.attempts, accounts.asked) == (0, 0)


def test_cache(accounts: Accounts, startRunner: Callable[..., Runner]) -> None:
    """A good token is asked for again after a minute."""
    runner = startRunner(TokenCheck(client=accounts))
    for seconds, asked in ((0, 1), (59, 1), (2, 2)):
        runner.advance(seconds)
        runner.run(ASKS).assertResponse(200)
        assert accounts.asked == asked
