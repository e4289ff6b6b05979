"""
What the tests of the policy C{last-good} share: L{LastGoodTestCase}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.message import Response
from sitio.policies.lastgood.policy import LastGood
from sitio.test.helpers.policies import FakeExchange, exchangeFor, upstreamResponse

#: Two dates, an hour apart.
WAS = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 09:49:37 GMT"

STALE = "sitio; fwd=stale; fwd-status=503; detail=last-good"

#: Request fields of the tests that identify nobody.
OURS = frozenset("abcdx")


class LastGoodTestCase(SynchronousTestCase):
    """A policy with a clock, and methods that let responses pass it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.policy = self.make()

    def make(self, **options: Any) -> LastGood:
        """Make the policy of this test again, with these options."""
        options.setdefault("impersonal", OURS)
        self.policy = LastGood(seconds=self.clock.seconds, **options)
        return self.policy

    def response(self, exchange: FakeExchange, response: Response) -> Response:
        """What the client gets: the policy is asked like in the proxy, first with the head only."""
        if response.status in self.policy.statuses and self.policy.isInterested(exchange, response):
            return self.policy.responseReceived(exchange, response) or response
        return response

    def keep(self, *lines: tuple[str, str], body: bytes = b"good", **request: Any) -> None:
        """Let a good response pass, which is stored if it may be."""
        response = upstreamResponse(200, *lines, body=body)
        self.assertIs(self.response(exchangeFor(**request), response), response)

    def failed(self, status: int = 503, **request: Any) -> Response:
        """What the client gets when the upstream fails with this status."""
        return self.response(exchangeFor(**request), upstreamResponse(status, body=b"bad"))

    def assertMasked(self, response: Response, body: bytes = b"good") -> None:
        """Assert that the response is a mask with this body."""
        self.assertEqual((response.status, response.body), (200, body))
        self.assertIn("detail=last-good", response.headers["Cache-Status"])

    def assertNotMasked(self, response: Response) -> None:
        """Assert that the response is the failure itself."""
        self.assertEqual((response.status, response.body), (503, b"bad"))
