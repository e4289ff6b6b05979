"""
Requests that sitio itself sends again, as C{[upstream.retries]} says; and the budget, which bounds
all repetitions.  Through a whole proxy.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import Exchange, Response, Retry, onResponse
from sitio.errors import UpstreamTimeout
from sitio.net.deadlines import PERIOD_SECONDS
from sitio.settings import Settings
from sitio.test.helpers.messages import OK
from sitio.test.helpers.upstreams import ClusterHarness, byAddress, listed
from sitio.upstream.budget import MINIMUM, SHARE, WINDOW_SECONDS
from sitio.upstream.retries import FIRST_PAUSE_SECONDS, RetrySettings

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


def status(number: int, *lines: str) -> bytes:
    """A response without a body."""
    return "\r\n".join([f"HTTP/1.1 {number} X", "Content-Length: 0", *lines, "", ""]).encode()


def behind(*addresses: str, policies: Any = (), proxy: Any = None, **retries: Any) -> Any:
    """A proxy in front of these endpoints, which have retries."""
    settings = listed(*addresses, retries=RetrySettings(**retries))
    return ClusterHarness(settings, policies, proxy)


class AgainTests(SynchronousTestCase):
    """What is sent again."""

    def begin(self, *addresses: str, **more: Any) -> ClusterHarness:
        self.proxy = behind(*(addresses or ("a:1", "b:1")), **more)
        self.addCleanup(self.proxy.assertQuiet)
        return self.proxy

    def rest(self, seconds: float = FIRST_PAUSE_SECONDS) -> None:
        """The pause before the second attempt passes."""
        self.proxy.harness.advance(seconds)

    def test_statuses(self) -> None:
        """
        502, 503 and 504 are sent again, to another endpoint; policies, observers and the client
        see one response.  Other statuses pass.
        """
        seen: list[int] = []

        @onResponse()
        def see(exchange: Exchange, response: Response) -> None:
            seen.append(response.status)

        for number, isRepeated in (
            *((each, True) for each in (502, 503, 504)),
            *((each, False) for each in (200, 404, 429, 500, 501, 505, 599)),
        ):
            proxy = self.begin(policies=see)
            proxy.asks(GET)
            self.assertEqual(proxy.answers("a:1", status(number)), 1)
            self.rest()
            self.assertEqual(proxy.answers("b:1", OK), isRepeated, number)
            self.assertEqual(proxy.client.gotResponse().status, 200 if isRepeated else number)
            self.assertEqual(proxy.exchange.attempts, 1 + isRepeated)
            self.assertEqual(seen.pop(), 200 if isRepeated else number)
            self.assertEqual(seen, [])
            first = proxy.exchange.attemptsMade()[0]
            self.assertEqual((first.status, first.failure), (number, None))

    def test_connectionKept(self) -> None:
        """The connection of a response that is not passed is used again."""
        proxy = self.begin()
        proxy.asks(GET)
        proxy.answers("a:1", b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nsome")
        self.rest()
        proxy.network.peers("a:1")[0].sends(b" rest")
        proxy.answers("b:1", OK)
        self.assertEqual(proxy.client.gotResponse().body, b"ok")
        self.assertEqual(byAddress(proxy.cluster)["a:1"]["idle"], 1)

    def test_failures(self) -> None:
        """A connection that is lost, and a response that is malformed, are sent again."""
        for fails in (
            lambda peer: peer.resets(),
            lambda peer: peer.closes(),
            lambda peer: peer.sends(b"nonsense\r\n\r\n"),
            lambda peer: (peer.sends(b"HTTP/1.1 200 OK\r\nContent-"), peer.resets()),
        ):
            proxy = self.begin()
            proxy.asks(GET)
            fails(proxy.asked("a:1")[0])
            self.rest()
            self.assertEqual(proxy.answers("b:1", OK), 1)
            self.assertEqual(proxy.client.gotResponse().status, 200)
            self.assertEqual([each.status for each in proxy.exchange.attemptsMade()], [None, 200])
            self.assertEqual(byAddress(proxy.cluster)["a:1"]["failed"], 1)

    def test_refused(self) -> None:
        """
        If no endpoint accepts a connection, that is one attempt, and there is another: with any
        method, as nothing was sent.
        """
        proxy = self.begin(attempts=2)
        for each in ("a:1", "b:1"):
            proxy.decide(each, "refuse")
        proxy.asks(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
        for each in ("a:1", "b:1"):
            self.assertEqual(byAddress(proxy.cluster)[each]["failed"], 1)
            proxy.decide(each, "accept")
        self.rest()
        self.assertEqual(proxy.answers("a:1", OK), 1)
        self.assertEqual(proxy.client.gotResponse("POST").status, 200)
        self.assertEqual(proxy.exchange.attempts, 2)

    def test_methods(self) -> None:
        """What may have arrived is sent again only if its method is idempotent."""
        for method, isRepeated in (
            *((each, True) for each in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")),
            *((each, False) for each in ("POST", "PATCH", "BREW")),
        ):
            proxy = self.begin()
            proxy.asks(f"{method} / HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            proxy.answers("a:1", BUSY)
            self.rest()
            self.assertEqual(len(proxy.asked("b:1")), isRepeated, method)
            if not isRepeated:
                self.assertEqual(proxy.client.gotResponse(method).status, 503)

    def test_bodies(self) -> None:
        """A body is sent again if all of it has arrived, and else not."""
        for rest, isRepeated in ((b"cd", True), (b"c", False)):
            proxy = self.begin()
            proxy.asks(PUT + b"ab")
            proxy.asks(rest)
            proxy.answers("a:1", BUSY)
            self.rest()
            asked = proxy.asked("b:1")
            self.assertEqual(len(asked), isRepeated)
            if isRepeated:
                self.assertTrue(asked[0].got().endswith(b"\r\n\r\nabcd"))

    def test_attempts(self) -> None:
        """There are as many attempts as configured; then the failure passes."""
        proxy = self.begin(attempts=3)
        proxy.asks(GET)
        for address, seconds in (("a:1", 1), ("b:1", 2), ("a:1", 0)):
            self.assertEqual(proxy.answers(address, BUSY), 1)
            self.rest(seconds * FIRST_PAUSE_SECONDS)
        self.assertEqual(proxy.client.gotResponse().status, 503)
        self.assertEqual(proxy.exchange.attempts, 3)
        proxy = self.begin(attempts=1)
        proxy.asks(GET)
        proxy.answers("a:1", BUSY)
        self.assertEqual(proxy.client.gotResponse().status, 503)

    def test_pause(self) -> None:
        """There is a pause between attempts; a client that leaves ends it."""
        proxy = self.begin()
        proxy.asks(GET)
        proxy.answers("a:1", BUSY)
        self.rest(0.9 * FIRST_PAUSE_SECONDS)
        self.assertEqual(proxy.asked("b:1"), [])
        proxy.client.closes()
        self.rest()
        self.assertEqual(proxy.asked("b:1"), [])
        self.assertEqual(proxy.exchange.status, 499)

    def test_retryAfter(self) -> None:
        """Retry-After is waited for, and if it is too long the response passes at once."""
        proxy = self.begin()
        proxy.asks(GET)
        proxy.answers("a:1", status(503, "Retry-After: 2"))
        self.rest(1.9)
        self.assertEqual(proxy.asked("b:1"), [])
        self.rest(0.1)
        proxy.answers("b:1", status(503, "Retry-After: 60"))
        self.assertEqual(proxy.client.gotResponse().headers.get("Retry-After"), "60")

    def test_afterTheHead(self) -> None:
        """A response that breaks off is not asked for again, whether or not its head is sent."""

        @onResponse(buffered=True)
        def whole(exchange: Exchange, response: Response) -> None:
            """Wait for the body."""

        for policies in ((), whole):
            proxy = self.begin(policies=policies)
            proxy.asks(GET)
            [peer] = proxy.asked("a:1")
            peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome")
            peer.resets()
            self.rest()
            self.assertEqual(proxy.asked("b:1"), [])
            self.assertEqual(proxy.exchange.attempts, 1)

    def test_notTheEndpoint(self) -> None:
        """What no endpoint is to blame for is not tried again: no endpoint, a full pool."""
        proxy = self.begin(proxy=Settings())
        proxy.cluster._balancer.update([], [])
        proxy.asks(GET)
        self.assertEqual(proxy.client.gotResponse().status, 503)
        self.assertEqual(proxy.exchange.attempts, 1)

    def test_withPolicy(self) -> None:
        """A policy gets the last failure, and may ask for more; the time for all is one."""

        @onResponse(503)
        def again(exchange: Exchange, response: Response) -> Retry:
            return Retry(0.5)

        proxy = self.begin("a:1", attempts=2, policies=again)
        proxy.asks(GET)
        proxy.answers("a:1", BUSY)
        self.rest()
        proxy.answers("a:1", BUSY)
        self.assertEqual(proxy.asked("a:1"), [])
        self.rest(0.5)
        proxy.answers("a:1", OK)
        self.assertEqual(proxy.client.gotResponse().status, 200)
        self.assertEqual((proxy.exchange.attempts, proxy.exchange.acted), (3, ("again",)))


class PerTryTests(SynchronousTestCase):
    """The time for the head of one attempt, and that for all."""

    def begin(self, *addresses: str, timeout: float = 3.0, **retries: Any) -> ClusterHarness:
        settings = Settings(responseTimeout=timeout)
        self.proxy = behind(*(addresses or ("a:1", "b:1")), proxy=settings, **retries)
        self.addCleanup(self.proxy.assertQuiet)
        return self.proxy

    def test_another(self) -> None:
        """A silent endpoint is given up, counts as failed, and another one gets the request."""
        proxy = self.begin(perTryTimeout=1.0)
        proxy.asks(GET)
        [silent] = proxy.asked("a:1")
        proxy.harness.advance(0.9)
        self.assertFalse(silent.reset)
        proxy.harness.advance(0.1 + PERIOD_SECONDS + FIRST_PAUSE_SECONDS)
        self.assertTrue(silent.reset)
        self.assertEqual(byAddress(proxy.cluster)["a:1"]["failed"], 1)
        self.assertEqual(proxy.answers("b:1", OK), 1)
        self.assertEqual(proxy.client.gotResponse().status, 200)
        first, second = proxy.exchange.attemptsMade()
        self.assertIsInstance(first.failure, UpstreamTimeout)
        self.assertIn("no response in 1 seconds", str(first.failure))
        self.assertTrue(1 <= first.seconds <= 1 + PERIOD_SECONDS, first)
        self.assertEqual(second.status, 200)

    def test_newConnection(self) -> None:
        """The time begins when the request is sent, on a new connection or an old one."""
        for isOld in (False, True):
            proxy = self.begin(perTryTimeout=1.0)
            if isOld:
                proxy.asks(GET)
                proxy.answers("a:1", OK)
                proxy.client.got()
            proxy.decide("a:1", None)
            proxy.asks(GET)
            if not isOld:
                proxy.harness.advance(2)
                proxy.decide("a:1", "accept")
            proxy.harness.advance(0.9)
            self.assertEqual(proxy.answers("a:1", OK), 1)
            self.assertEqual(proxy.client.gotResponse().status, 200)

    def test_whole(self) -> None:
        """All attempts have the response timeout together."""
        proxy = self.begin("a:1", "b:1", "c:1", "d:1", perTryTimeout=1.0, attempts=9)
        proxy.asks(GET)
        proxy.harness.advance(3 + PERIOD_SECONDS)
        self.assertEqual(proxy.client.gotResponse().status, 504)
        self.assertEqual(proxy.exchange.attempts, 3)
        self.assertTrue(3 <= proxy.exchange.duration <= 3 + PERIOD_SECONDS)

    def test_policy(self) -> None:
        """After that time a policy gets no other attempt: it could not end in time."""

        @onResponse(504)
        def again(exchange: Exchange, response: Response) -> Retry:
            return Retry()

        proxy = behind("a:1", "b:1", policies=again, proxy=Settings(responseTimeout=3.0))
        proxy.asks(GET)
        proxy.harness.advance(3 + PERIOD_SECONDS)
        self.assertEqual(proxy.client.gotResponse().status, 504)
        self.assertEqual((proxy.exchange.attempts, proxy.cluster.budget.retries), (1, 0))
        self.assertFalse(proxy.exchange.lacksBudget)
        proxy.assertQuiet()

    def test_without(self) -> None:
        """Without a time for each attempt, the second has what the first has left."""
        proxy = self.begin()
        proxy.asks(GET)
        proxy.harness.advance(2)
        proxy.answers("a:1", BUSY)
        proxy.harness.advance(1 + PERIOD_SECONDS)
        self.assertEqual(proxy.client.gotResponse().status, 504)
        self.assertIn("no response in 3 seconds", str(proxy.exchange.failure))
        self.assertEqual(proxy.exchange.attempts, 2)

    def test_pauseTooLong(self) -> None:
        """A pause that would outlast the time is not begun."""
        proxy = self.begin()
        proxy.asks(GET)
        proxy.harness.advance(2)
        proxy.answers("a:1", status(503, "Retry-After: 1"))
        self.assertEqual(proxy.client.gotResponse().status, 503)

    def test_interim(self) -> None:
        """An interim response begins the time anew: the endpoint works on the request."""
        proxy = self.begin(perTryTimeout=1.0)
        proxy.asks(GET)
        [peer] = proxy.asked("a:1")
        for _ in range(8):
            proxy.harness.advance(0.7)
            peer.sends(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        peer.sends(OK)
        self.assertTrue(proxy.client.got().endswith(b"ok"))
        self.assertEqual((proxy.exchange.status, proxy.exchange.attempts), (200, 1))

    def test_upload(self) -> None:
        """For a body, the time begins when all of it is sent."""
        proxy = self.begin(perTryTimeout=1.0)
        proxy.asks(PUT + b"ab")
        proxy.harness.advance(5)
        proxy.asks(b"cd")
        proxy.harness.advance(1 + PERIOD_SECONDS + FIRST_PAUSE_SECONDS)
        [peer] = proxy.asked("b:1")
        self.assertTrue(peer.got().endswith(b"\r\n\r\nabcd"))
        peer.sends(OK)
        self.assertEqual(proxy.client.gotResponse("PUT").status, 200)


class BudgetTests(SynchronousTestCase):
    """An upstream that is down gets little more than the requests of clients."""

    #: Requests and their rate.
    COUNT, PER_SECOND = 2000, 100

    def outage(self, proxy: ClusterHarness, answer: bytes = BUSY) -> tuple[int, int]:
        """
        Clients send requests, and each endpoint fails each of them.

        @return: how many requests the endpoints got, and the most that the budget allows.
        """
        got = 0
        addresses = list(proxy.network.endpoints)
        clients = [proxy.harness.connect() for _ in range(self.PER_SECOND)]
        for number in range(self.COUNT):
            client = clients[number % self.PER_SECOND]
            proxy.asks(GET, client)
            proxy.harness.advance(1 / self.PER_SECOND)
            got += sum(proxy.answers(each, answer) for each in addresses)
            client.got()
        for _ in range(20):
            proxy.harness.advance(1)
            got += sum(proxy.answers(each, answer) for each in addresses)
        self.assertEqual(len(proxy.harness.exchanges), self.COUNT)
        windows = self.COUNT / self.PER_SECOND // WINDOW_SECONDS + 1
        return got, int(self.COUNT * (1 + SHARE) + MINIMUM * WINDOW_SECONDS * windows)

    def test_outage(self) -> None:
        """
        Whoever asks for repetitions, there are not more than the budget allows, and about as
        many; and the client gets what the last attempt got.
        """

        @onResponse(503)
        def always(exchange: Exchange, response: Response) -> Retry:
            return Retry()

        for policies, retries in (
            ((), RetrySettings(attempts=10)),
            ("retry:times=10:after=0", None),
            (always, None),
            ((always, "retry:times=3"), RetrySettings(attempts=5, hedgeAfter=0.02)),
        ):
            proxy = ClusterHarness(listed("a:1", "b:1", retries=retries), policies)
            got, most = self.outage(proxy)
            self.assertLessEqual(got, most)
            self.assertGreater(got, self.COUNT * (1 + SHARE) * 0.95)
            budget = proxy.cluster.budget
            self.assertEqual(budget.retries, got - self.COUNT)
            self.assertGreater(budget.refused, self.COUNT * (1 - SHARE))
            self.assertTrue(any(each.lacksBudget for each in proxy.harness.exchanges))
            self.assertEqual({each.status for each in proxy.harness.exchanges}, {503})

    def test_slow(self) -> None:
        """So it is if endpoints hang, and each attempt ends by its timeout."""
        settings = listed("a:1", "b:1", retries=RetrySettings(perTryTimeout=0.5, hedgeAfter=0.1))
        proxy = ClusterHarness(settings)
        clients = [proxy.harness.connect() for _ in range(600)]
        for each in clients:
            proxy.asks(GET, each)
            proxy.harness.advance(0.01)
        proxy.harness.advance(10)
        got = sum(
            each.got().count(b"GET ")
            for address in proxy.network.endpoints
            for each in proxy.network.peers(address)
        )
        self.assertLessEqual(got, 600 * (1 + SHARE) + 2 * MINIMUM * WINDOW_SECONDS)
        self.assertGreater(got, 600 * (1 + SHARE) * 0.95)
        self.assertEqual(proxy.cluster.budget.retries, got - 600)

    def test_settings(self) -> None:
        """Share and minimum are configured."""
        for retries, repeated in (
            (RetrySettings(share=0.5, minimum=0.0), 50),
            (RetrySettings(share=0.0, minimum=0.5), 5),
            (RetrySettings(share=1.0, minimum=0.0), 100),
            (RetrySettings(share=0.0, minimum=0.0), 0),
        ):
            proxy = ClusterHarness(listed("a:1", "b:1", retries=retries))
            for _ in range(100):
                proxy.asks(GET, proxy.harness.connect())
            self.assertEqual(proxy.answers("a:1", BUSY) + proxy.answers("b:1", BUSY), 100)
            proxy.harness.advance(FIRST_PAUSE_SECONDS)
            again = proxy.answers("a:1", OK) + proxy.answers("b:1", OK)
            self.assertEqual(again, repeated)

    def test_quiet(self) -> None:
        """A service with few requests has each failure repeated."""
        proxy = behind("a:1", "b:1")
        for _ in range(50):
            proxy.harness.advance(5)
            proxy.asks(GET)
            proxy.answers("a:1", BUSY)
            proxy.harness.advance(FIRST_PAUSE_SECONDS)
            proxy.answers("b:1", OK)
            self.assertEqual(proxy.client.gotResponse().status, 200)

    def test_idleClosed(self) -> None:
        """
        The repetition after an idle connection was closed is not refused, but counts; another
        endpoint instead of one that refuses connections does not.
        """
        proxy = behind("a:1", "b:1", share=0.0, minimum=0.1)
        for number in range(1, 4):
            proxy.asks(GET)
            proxy.answers("a:1", OK)
            proxy.client.got()
            proxy.asks(GET)
            [peer] = proxy.asked("a:1")
            peer.got()
            peer.closes()
            proxy.harness.settle()
            self.assertEqual(proxy.answers("b:1", OK), 1)
            self.assertEqual(proxy.client.gotResponse().status, 200)
            self.assertEqual(proxy.cluster.budget.retries, number)
        proxy.decide("a:1", "refuse")
        proxy.asks(GET)
        proxy.answers("b:1", BUSY)
        self.assertEqual(proxy.client.gotResponse().status, 503)
        self.assertEqual((proxy.cluster.budget.retries, proxy.cluster.budget.refused), (3, 1))
        self.assertTrue(proxy.exchange.lacksBudget)
