"""
Tests of L{sitio.policies.retry}.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.http.message import Retry
from sitio.interfaces import IExchangeObserver, IResponsePolicy
from sitio.policies.retry import (
    EARNED_PER_EXCHANGE,
    EARNED_PER_SECOND,
    INITIAL_RETRIES,
    MAX_PAUSE_SECONDS,
    MAX_SAVED_RETRIES,
    MAX_TIMES,
    Budget,
    Retries,
    makePolicy as declared,
)
from sitio.test.helpers.policies import FakeExchange, exchangeFor, fromText, upstreamResponse
from sitio.testing import connectionRefused, connectionReset, request, response, runPolicy

#: Makes a policy of the texts of a description.
makePolicy = fromText(declared)


class RetryTests(SynchronousTestCase):
    """When a request is sent again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(784111777)
        now = self.clock.seconds
        self.policy = Retries(seconds=now, now=now, random=lambda: 0.0)

    def pause(self, exchange: FakeExchange, *lines: tuple[str, str]) -> float | None:
        """Seconds until the next attempt after a failure with these fields, or L{None}."""
        answer = self.policy.responseReceived(exchange, upstreamResponse(503, *lines))
        return None if answer is None else answer.after

    def test_interface(self) -> None:
        """It is a response policy that needs no body, and an observer."""
        verifyObject(IResponsePolicy, self.policy)
        verifyObject(IExchangeObserver, self.policy)
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
        self.policy = Retries(seconds=self.clock.seconds, random=lambda: 0.0)
        self.assertEqual(self.pause(exchange), 0.1)

    def test_safeOnly(self) -> None:
        """Only requests with safe methods are sent again."""
        for method in ("GET", "HEAD", "OPTIONS", "TRACE"):
            self.assertIsNotNone(self.pause(exchangeFor(method=method)), method)
        for method in ("POST", "PUT", "DELETE", "PATCH", "PROPFIND", "get"):
            self.assertIsNone(self.pause(exchangeFor(method=method)), method)

    def test_longestPause(self) -> None:
        """A pause is bounded."""
        self.policy = Retries(times=MAX_TIMES, after=4.0, seconds=self.clock.seconds)
        exchange = exchangeFor()
        pauses = [self.pause(exchange) for _ in range(MAX_TIMES)]
        self.assertTrue(
            all(each is not None and each <= MAX_PAUSE_SECONDS for each in pauses), pauses
        )

    @given(st.floats(0, 1), st.integers(1, MAX_TIMES), st.floats(0, MAX_PAUSE_SECONDS))
    def test_jitter(self, chance: float, times: int, after: float) -> None:
        """Each pause is between half and all of its nominal length, and at most the longest one."""
        policy = Retries(times, after=after, seconds=self.clock.seconds, random=lambda: chance)
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
            self.policy.budget.left = INITIAL_RETRIES
            self.assertEqual(self.pause(exchangeFor(), ("Retry-After", value)), pause, value)

    def test_retryAfterTooLong(self) -> None:
        """There is no retry after a Retry-After over the longest pause."""
        for value in ("6", "120", "9" * 5000, "Sun, 06 Nov 1994 08:49:43 GMT"):
            self.assertIsNone(self.pause(exchangeFor(), ("Retry-After", value)), value)
        self.assertEqual(self.policy.budget.left, INITIAL_RETRIES)

    @given(st.text(st.characters(max_codepoint=255, blacklist_categories=["Cc"]), max_size=40))
    def test_anyRetryAfter(self, value: str) -> None:
        """No malformed Retry-After raises, or makes a pause too long."""
        policy = Retries(seconds=self.clock.seconds)
        answer = policy.responseReceived(
            exchangeFor(), upstreamResponse(503, ("Retry-After", value))
        )
        self.assertTrue(answer is None or 0 <= answer.after <= MAX_PAUSE_SECONDS)


class BudgetTests(SynchronousTestCase):
    """Retries do not multiply the load of a failing upstream."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.policy = Retries(times=1, seconds=self.clock.seconds)

    def repeated(self, attempts: int = 1) -> bool:
        """Whether the request of an exchange that fails was sent again."""
        exchange = exchangeFor()
        exchange.attempts = attempts
        answer = self.policy.responseReceived(exchange, upstreamResponse(503))
        self.policy.exchangeFinished(exchange)
        return isinstance(answer, Retry)

    def test_share(self) -> None:
        """When all requests fail, a fifth of them is sent again, beside the initial retries."""
        repeated = sum(self.repeated() for _ in range(1000))
        self.assertLessEqual(repeated, INITIAL_RETRIES + 1000 * EARNED_PER_EXCHANGE)
        self.assertGreaterEqual(repeated, 1000 * EARNED_PER_EXCHANGE)

    def test_notCounted(self) -> None:
        """Requests that did not reach the upstream earn nothing."""
        self.assertEqual(sum(self.repeated(attempts=0) for _ in range(1000)), INITIAL_RETRIES)

    def test_saved(self) -> None:
        """The number of saved retries is bounded."""
        for _ in range(10_000):
            self.policy.exchangeFinished(exchangeFor())
        self.assertEqual(self.policy.budget.left, MAX_SAVED_RETRIES)
        repeated = [self.repeated(attempts=0) for _ in range(1000)]
        self.assertEqual(sum(repeated), MAX_SAVED_RETRIES)

    def test_floor(self) -> None:
        """A service with few requests earns retries by time."""
        while self.repeated():
            pass
        for _ in range(100):
            self.clock.advance(1 / EARNED_PER_SECOND)
            self.assertTrue(self.repeated())

    def test_floorIsSmall(self) -> None:
        """Retries earned by time are bounded as well."""
        self.repeated()
        self.clock.advance(1_000_000)
        self.assertEqual(sum(self.repeated(attempts=0) for _ in range(1000)), MAX_SAVED_RETRIES)

    def test_clockGoesBack(self) -> None:
        """A clock that goes back changes nothing."""
        budget = Budget()
        self.assertTrue(budget.spend(1000.0))
        self.assertTrue(budget.spend(0.0))
        self.assertEqual(budget.left, INITIAL_RETRIES - 2)


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
