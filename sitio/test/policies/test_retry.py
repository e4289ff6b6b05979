"""
Tests of L{sitio.policies.retry}.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.interfaces import IResponsePolicy
from sitio.policies.retry import (
    MAX_PAUSE_SECONDS,
    MAX_TIMES,
    Retries,
    makePolicy as declared,
)
from sitio.test.helpers.policies import FakeExchange, exchangeFor, fromText, upstreamResponse
from sitio.testing import (
    Runner,
    connectionRefused,
    connectionReset,
    request,
    response,
    runPolicy,
)
from sitio.upstream.budget import MINIMUM, SHARE, WINDOW_SECONDS

#: Makes a policy of the texts of a description.
makePolicy = fromText(declared)


class RetryTests(SynchronousTestCase):
    """When a request is sent again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(784111777)
        now = self.clock.seconds
        self.policy = Retries(now=now, random=lambda: 0.0)

    def pause(self, exchange: FakeExchange, *lines: tuple[str, str]) -> float | None:
        """Seconds until the next attempt after a failure with these fields, or L{None}."""
        answer = self.policy.responseReceived(exchange, upstreamResponse(503, *lines))
        return None if answer is None else answer.after

    def test_interface(self) -> None:
        """It is a response policy that needs no body."""
        verifyObject(IResponsePolicy, self.policy)
        self.assertFalse(self.policy.buffered)
        self.assertEqual(self.policy.statuses, {502, 503, 504})

    def test_times(self) -> None:
        """A request is sent again C{times} times, with pauses that double."""
        exchange = exchangeFor()
        self.assertEqual([self.pause(exchange) for _ in range(4)], [0.1, 0.2, None, None])

    def test_eachRequest(self) -> None:
        """Attempts are counted for each request and each policy."""
        exchange = exchangeFor()
        self.pause(exchange)
        self.assertEqual(self.pause(exchangeFor()), 0.1)
        self.policy = Retries(random=lambda: 0.0)
        self.assertEqual(self.pause(exchange), 0.1)

    def test_safeOnly(self) -> None:
        """Only requests with safe methods are sent again."""
        for method in ("GET", "HEAD", "OPTIONS", "TRACE"):
            self.assertIsNotNone(self.pause(exchangeFor(method=method)), method)
        for method in ("POST", "PUT", "DELETE", "PATCH", "PROPFIND", "get"):
            self.assertIsNone(self.pause(exchangeFor(method=method)), method)

    def test_longestPause(self) -> None:
        """A pause is bounded."""
        self.policy = Retries(times=MAX_TIMES, after=4.0)
        exchange = exchangeFor()
        pauses = [self.pause(exchange) for _ in range(MAX_TIMES)]
        self.assertTrue(
            all(each is not None and each <= MAX_PAUSE_SECONDS for each in pauses), pauses
        )

    @given(st.floats(0, 1), st.integers(1, MAX_TIMES), st.floats(0, MAX_PAUSE_SECONDS))
    def test_jitter(self, chance: float, times: int, after: float) -> None:
        """Each pause is between half and all of its nominal length, and at most the longest one."""
        policy = Retries(times, after=after, random=lambda: chance)
        exchange = exchangeFor()
        for n in range(times):
            answer = policy.responseReceived(exchange, upstreamResponse(503))
            assert answer is not None
            whole = min(MAX_PAUSE_SECONDS, after * 2**n)
            self.assertTrue(whole / 2 <= answer.after <= whole, (n, answer))

    def test_retryAfter(self) -> None:
        """Retry-After, in seconds or as a date, prolongs a pause and never shortens it."""
        for value, pause in (
            ("3", 3),
            ("5", 5),
            ("0", 0.1),
            ("Sun, 06 Nov 1994 08:49:39 GMT", 2),
            ("Sunday, 06-Nov-94 08:49:39 GMT", 2),
            ("Sun Nov  6 08:49:39 1994", 2),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0.1),
            ("Mon, 01 Jan 1990 00:00:00 GMT", 0.1),
            ("soon", 0.1),
            ("-1", 0.1),
            ("\u00b2", 0.1),
            ("", 0.1),
            ("Sun, 06 Nov 99999 08:49:37 GMT", 0.1),
        ):
            self.assertEqual(self.pause(exchangeFor(), ("Retry-After", value)), pause, value)

    def test_retryAfterTooLong(self) -> None:
        """There is no retry after a Retry-After over the longest pause."""
        for value in ("6", "120", "9" * 5000, "Sun, 06 Nov 1994 08:49:43 GMT"):
            self.assertIsNone(self.pause(exchangeFor(), ("Retry-After", value)), value)

    @given(st.text(st.characters(max_codepoint=255, blacklist_categories=["Cc"]), max_size=40))
    def test_anyRetryAfter(self, value: str) -> None:
        """No malformed Retry-After raises, or makes a pause too long."""
        policy = Retries()
        answer = policy.responseReceived(
            exchangeFor(), upstreamResponse(503, ("Retry-After", value))
        )
        self.assertTrue(answer is None or 0 <= answer.after <= MAX_PAUSE_SECONDS)


class BudgetTests(SynchronousTestCase):
    """The policy has no budget of its own: that of the upstream counts."""

    def test_upstreamsBudget(self) -> None:
        """When the budget is used up, the response passes as it is."""
        runner = Runner("retry:times=1:after=0")
        most = MINIMUM * WINDOW_SECONDS
        attempts = 0
        for number in range(100):
            outcome = runner.run(request("/"), response(503), response(503))
            self.assertEqual(outcome.status, 503)
            self.assertEqual(outcome.exchange.lacksBudget, outcome.attempts == 1)
            attempts += outcome.attempts
            self.assertLessEqual(attempts, number + 1 + most + (number + 1) * SHARE)
        self.assertEqual(attempts, 100 + most + 100 * SHARE)


class OptionTests(SynchronousTestCase):
    """The options of an operator's description."""

    def test_defaults(self) -> None:
        """All options may be missing."""
        policy = makePolicy()
        self.assertEqual((policy.times, policy.after), (2, 0.1))
        self.assertEqual(policy.statuses, {502, 503, 504})

    def test_options(self) -> None:
        """Each option has its effect."""
        policy = makePolicy(times="1", after="5")
        self.assertEqual((policy.times, policy.after), (1, 5.0))
        policy = makePolicy(times="10", statuses="5xx,429,502-503", after="0.25")
        self.assertEqual((policy.times, policy.after), (10, 0.25))
        self.assertEqual(policy.statuses, {429, *range(500, 600)})

    def test_refused(self) -> None:
        """A wrong value is named in one sentence, with what is expected."""
        for options, words in (
            ({"times": "0"}, "times=0: a whole number from 1 to 10 is expected"),
            ({"times": "11"}, "times=11: a whole number"),
            ({"times": "many"}, "times=many: a whole number"),
            ({"times": "9" * 5000}, "times=9+: a whole number"),
            ({"after": "5.1"}, "after=5.1: a duration from 0s to 5s is expected"),
            ({"after": "-1"}, "after=-1: a duration"),
            ({"after": "nan"}, "after=nan: a duration"),
            ({"statuses": "200"}, "'200' is not an error status: write 404, 500-504 or 5xx"),
            ({"statuses": ""}, "'' is not an error status"),
            (
                {"statuses": "504-502"},
                "'504-502' is not a range of statuses: the lower one comes first",
            ),
        ):
            with self.assertRaisesRegex(ValueError, words):
                makePolicy(**options)


class ProxyTests(SynchronousTestCase):
    """The policy in a whole proxy."""

    def test_repeated(self) -> None:
        """After a failure there is another attempt; the client gets only the good response."""
        for mishap in (response(503), connectionRefused(), connectionReset()):
            outcome = runPolicy("retry", request("/"), mishap, response(200, text="good"))
            self.assertEqual((outcome.status, outcome.text, outcome.attempts), (200, "good", 2))
            self.assertEqual(outcome.exchange.acted, ("retry",))

    def test_allFail(self) -> None:
        """When every attempt fails, the client gets the last failure."""
        outcome = runPolicy("retry:times=3:after=1", request("/"), response(502), response(503))
        self.assertEqual((outcome.status, outcome.attempts), (503, 4))

    def test_notRepeated(self) -> None:
        """A POST is sent once, even if it fails."""
        outcome = runPolicy(
            "retry", request("/", "POST", body=b"x"), connectionReset(), response(200)
        )
        self.assertEqual((outcome.status, outcome.attempts), (502, 1))

    def test_otherStatuses(self) -> None:
        """A status that is not in the option is not a failure."""
        outcome = runPolicy("retry:statuses=503", request("/"), response(500), response(200))
        self.assertEqual((outcome.status, outcome.attempts), (500, 1))
