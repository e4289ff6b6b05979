"""
Tests of L{sitio.proxy.hedge}, through a whole proxy.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio import Exchange, Response, onResponse
from sitio.errors import ClientGone, ConnectFailed, Outrun, UpstreamLost, UpstreamTimeout
from sitio.net.deadlines import PERIOD_SECONDS
from sitio.settings import Settings
from sitio.test.helpers.messages import OK
from sitio.test.helpers.upstreams import ClusterHarness, byAddress, listed
from sitio.upstream.retries import FIRST_PAUSE_SECONDS, RetrySettings

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
LATE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"

#: Seconds until the hedge.
AFTER = 0.5


class HedgeTests(SynchronousTestCase):
    """A second attempt beside the first."""

    def begin(self, *addresses: str, policies: Any = (), **retries: Any) -> ClusterHarness:
        hedged = RetrySettings(**{"hedgeAfter": AFTER, "attempts": 1, **retries})
        self.proxy = ClusterHarness(
            listed(*(addresses or ("a:1", "b:1")), retries=hedged),
            policies,
            Settings(responseTimeout=3.0),
        )
        self.addCleanup(self.proxy.assertQuiet)
        return self.proxy

    def hedged(self, *addresses: str, **more: Any) -> ClusterHarness:
        """A proxy whose first endpoint is late, so that the second has the request, too."""
        proxy = self.begin(*addresses, **more)
        proxy.asks(GET)
        proxy.harness.advance(AFTER)
        self.assertEqual(len(proxy.asked("a:1") + proxy.asked("b:1")), 2)
        return proxy

    def told(self) -> list[Any]:
        """Status, or kind of failure, of each attempt."""
        return [each.status or type(each.failure) for each in self.proxy.exchange.attemptsMade()]

    def test_inTime(self) -> None:
        """There is no second attempt if the answer comes in time."""
        proxy = self.begin()
        proxy.asks(GET)
        proxy.harness.advance(AFTER - 0.01)
        proxy.answers("a:1", OK)
        proxy.harness.advance(1)
        self.assertEqual(proxy.asked("b:1"), [])
        self.assertEqual(proxy.client.gotResponse().status, 200)
        self.assertEqual(self.told(), [200])
        # And the connection is used again.
        proxy.asks(GET)
        self.assertEqual(proxy.answers("a:1", OK), 1)
        self.assertEqual(len(proxy.network.peers("a:1")), 1)

    def test_secondWins(self) -> None:
        """The answer of the second is sent, the connection of the first is closed."""
        proxy = self.hedged()
        [first] = proxy.asked("a:1")
        proxy.harness.advance(0.2)
        proxy.answers("b:1", OK)
        self.assertEqual(proxy.client.gotResponse().body, b"ok")
        self.assertTrue(first.reset)
        exchange = proxy.exchange
        self.assertEqual((exchange.attempts, exchange.upstreamAddress), (2, "b:1"))
        self.assertEqual(self.told(), [Outrun, 200])
        seconds = [each.seconds for each in exchange.attemptsMade()]
        self.assertEqual([round(each, 6) for each in seconds], [AFTER + 0.2, 0.2])
        self.assertAlmostEqual(exchange.upstreamTime, AFTER + 0.2)
        self.assertIsNone(exchange.failure)
        found = byAddress(proxy.cluster)
        self.assertEqual([found[each]["failed"] for each in ("a:1", "b:1")], [0, 0])
        self.assertEqual((proxy.cluster.budget.retries, proxy.cluster.budget.hedges), (1, 1))

    def test_firstWins(self) -> None:
        """So it is the other way round, also if the second has no connection yet."""
        for hasConnection in (True, False):
            proxy = self.begin()
            proxy.decide("b:1", "accept" if hasConnection else None)
            proxy.asks(GET)
            proxy.harness.advance(AFTER + 0.2)
            proxy.answers("a:1", OK)
            self.assertEqual(proxy.client.gotResponse().body, b"ok")
            self.assertEqual([each.reset for each in proxy.network.peers("b:1")],
                             [True] * hasConnection)  # fmt: skip
            self.assertEqual(proxy.network.endpoints["b:1"][0].pending, 0)
            self.assertEqual(self.told(), [Outrun, 200])
            seconds = [each.seconds for each in proxy.exchange.attemptsMade()]
            self.assertEqual([round(each, 6) for each in seconds], [0.2, AFTER + 0.2])

    def test_idle(self) -> None:
        """The second uses an idle connection, if there is one."""
        proxy = self.begin()
        other = proxy.harness.connect()
        proxy.asks(GET)
        proxy.asks(GET, other)
        proxy.answers("a:1", OK)
        proxy.answers("b:1", OK)
        proxy.client.got()
        proxy.asks(GET)
        proxy.harness.advance(AFTER)
        proxy.answers("b:1", OK)
        self.assertEqual(proxy.client.gotResponse().status, 200)
        self.assertEqual(len(proxy.network.peers("b:1")), 1)

    def test_policies(self) -> None:
        """Policies see one response, whole if they want that."""
        seen: list[Any] = []

        @onResponse(buffered=True)
        def see(exchange: Exchange, response: Response) -> None:
            seen.append((response.status, response.body, exchange.attempts))

        proxy = self.hedged(policies=see)
        [peer] = proxy.asked("b:1")
        peer.sends(LATE[:-2], LATE[-2:])
        self.assertEqual(proxy.client.gotResponse().body, b"late")
        self.assertEqual(seen, [(200, b"late", 2)])

    def test_streams(self) -> None:
        """The rest of a response comes from the one that counts; if it breaks off, so does it."""
        for isWhole in (True, False):
            proxy = self.hedged()
            [peer] = proxy.asked("b:1")
            peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
            self.assertTrue(proxy.network.peers("a:1")[0].reset)
            if isWhole:
                peer.sends(b"x" * 100_000)
                self.assertEqual(len(proxy.client.gotResponse().body or b""), 200_000)
            else:
                peer.resets()
                proxy.harness.settle()
                self.assertTrue(proxy.client.reset)
                self.assertIsInstance(proxy.exchange.failure, UpstreamLost)
            self.assertEqual(self.told()[0], Outrun)

    def test_failures(self) -> None:
        """A failure of one does not count while the other may still go well."""
        for address, other in (("a:1", "b:1"), ("b:1", "a:1")):
            for answer, what in ((BUSY, 503), (b"nonsense\r\n\r\n", None), (None, UpstreamLost)):
                proxy = self.hedged()
                if answer is None:
                    proxy.asked(address)[0].resets()
                    proxy.harness.settle()
                else:
                    proxy.answers(address, answer)
                self.assertEqual(proxy.client.got(), b"")
                self.assertEqual(byAddress(proxy.cluster)[address]["failed"], 1)
                proxy.harness.advance(0.1)
                proxy.answers(other, OK)
                self.assertEqual(proxy.client.gotResponse().status, 200)
                self.assertEqual(proxy.exchange.upstreamAddress, other)
                if what is not None:
                    self.assertEqual(self.told(), [what, 200])
                self.assertIsNone(proxy.exchange.failure)

    def test_otherStatuses(self) -> None:
        """Any other answer counts, as 404 and 500 say nothing of the endpoint."""
        for status in (404, 500):
            proxy = self.hedged()
            proxy.answers("b:1", b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
            self.assertEqual(proxy.client.gotResponse().status, status)

    def test_bothFail(self) -> None:
        """If both fail, the last failure is that of the exchange; or there is a retry."""
        for attempts in (2, 3):
            proxy = self.hedged("a:1", "b:1", "c:1", attempts=attempts)
            proxy.answers("b:1", BUSY)
            proxy.harness.advance(0.1)
            proxy.asked("a:1")[0].resets()
            proxy.harness.advance(4 * FIRST_PAUSE_SECONDS)
            if attempts == 2:
                self.assertEqual(proxy.client.gotResponse().status, 502)
                self.assertEqual(self.told(), [503, UpstreamLost])
            else:
                # There is one hedge for an exchange.
                proxy.harness.advance(2 * AFTER)
                self.assertEqual(proxy.asked("a:1") + proxy.asked("b:1"), proxy.asked("a:1"))
                proxy.answers("c:1", OK)
                self.assertEqual(proxy.client.gotResponse().status, 200)
                self.assertEqual(self.told(), [503, UpstreamLost, 200])
            self.assertEqual(proxy.cluster.budget.hedges, 1)

    def test_firstFails(self) -> None:
        """If the first fails before there is a second, that is the failure of the attempt."""
        proxy = self.begin()
        proxy.asks(GET)
        proxy.asked("a:1")[0].resets()
        proxy.harness.advance(1)
        self.assertEqual(proxy.client.gotResponse().status, 502)
        self.assertEqual(proxy.asked("b:1"), [])
        self.assertEqual(self.told(), [UpstreamLost])

    def test_notConnected(self) -> None:
        """A second that gets no connection leaves the first as it was, or fails as the last."""
        for isFirstGood in (True, False):
            proxy = self.begin()
            proxy.asks(GET)
            proxy.decide("b:1", None if not isFirstGood else "refuse")
            proxy.harness.advance(AFTER)
            if isFirstGood:
                proxy.answers("a:1", OK)
                self.assertEqual(proxy.client.gotResponse().status, 200)
                self.assertEqual(self.told(), [ConnectFailed, 200])
            else:
                proxy.asked("a:1")[0].resets()
                proxy.decide("b:1", "refuse")
                self.assertEqual(proxy.client.gotResponse().status, 502)
                self.assertEqual(self.told(), [UpstreamLost, ConnectFailed])
            self.assertEqual(byAddress(proxy.cluster)["b:1"]["failed"], 1)

    def test_notHedged(self) -> None:
        """Only GET and HEAD without a body, and without an upgrade, have a second attempt."""
        for data, isHedged in (
            (GET, True),
            (b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", True),
            (b"OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n", False),
            (b"DELETE / HTTP/1.1\r\nHost: h\r\n\r\n", False),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", False),
            (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", False),
            (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n", False),
            (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", False),
        ):
            proxy = self.begin()
            proxy.asks(data)
            proxy.harness.advance(2 * AFTER)
            self.assertEqual(len(proxy.asked("b:1")), isHedged, data)
            if data.startswith(b"HEAD"):
                proxy.answers("b:1", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
                self.assertEqual(proxy.client.gotResponse("HEAD").status, 200)

    def test_nobodyElse(self) -> None:
        """There is none without another endpoint, and none without a retry in the budget."""
        for addresses, more in ((("a:1",), {}), (("a:1", "b:1"), {"share": 0.0, "minimum": 0.0})):
            proxy = self.begin(*addresses, **more)
            proxy.asks(GET)
            proxy.harness.advance(2 * AFTER)
            self.assertEqual([len(proxy.asked(each)) for each in addresses[1:]], [0] * bool(more))
            proxy.answers("a:1", OK)
            self.assertEqual(proxy.client.gotResponse().status, 200)
            self.assertEqual(proxy.exchange.lacksBudget, bool(more))

    def test_anotherFirst(self) -> None:
        """The endpoint that stands in for one that refuses connections may be hedged, too."""
        proxy = self.begin("a:1", "b:1", "c:1")
        proxy.decide("a:1", "refuse")
        proxy.asks(GET)
        proxy.harness.advance(AFTER)
        self.assertEqual(len(proxy.asked("b:1")), 1)
        proxy.answers("c:1", OK)
        self.assertEqual(proxy.client.gotResponse().status, 200)
        self.assertEqual(self.told(), [Outrun, 200])

    def test_timeout(self) -> None:
        """If neither answers in time, both endpoints have failed, and both connections close."""
        proxy = self.hedged()
        peers = proxy.asked("a:1") + proxy.asked("b:1")
        proxy.harness.advance(3 - AFTER + PERIOD_SECONDS)
        self.assertEqual(proxy.client.gotResponse().status, 504)
        self.assertEqual([each.reset for each in peers], [True, True])
        self.assertEqual(self.told(), [UpstreamTimeout, UpstreamTimeout])
        found = byAddress(proxy.cluster)
        self.assertEqual([found[each]["failed"] for each in ("a:1", "b:1")], [1, 1])

    def test_timeoutUnconnected(self) -> None:
        """A second that waits for its connection is given up as well, and nobody is blamed."""
        proxy = self.begin()
        proxy.decide("b:1", None)
        proxy.asks(GET)
        proxy.harness.advance(3 + PERIOD_SECONDS)
        self.assertEqual(proxy.client.gotResponse().status, 504)
        self.assertEqual(byAddress(proxy.cluster)["b:1"]["failed"], 0)
        self.assertEqual(proxy.network.endpoints["b:1"][0].pending, 0)

    def test_perTry(self) -> None:
        """The time for an attempt begins anew with the second, within that for all."""
        proxy = self.hedged(perTryTimeout=1.0)
        proxy.harness.advance(0.9)
        proxy.answers("b:1", OK)
        self.assertEqual(proxy.client.gotResponse().status, 200)
        proxy = self.hedged(perTryTimeout=1.0)
        proxy.harness.advance(1 + PERIOD_SECONDS)
        self.assertEqual(proxy.client.gotResponse().status, 504)

    def test_clientGone(self) -> None:
        """If the client leaves, both connections are closed."""
        proxy = self.hedged()
        peers = proxy.asked("a:1") + proxy.asked("b:1")
        proxy.client.closes()
        proxy.harness.settle()
        self.assertEqual([each.reset for each in peers], [True, True])
        self.assertEqual((proxy.exchange.status, self.told()), (499, [ClientGone, ClientGone]))

    def test_idleClosed(self) -> None:
        """A lost idle connection is replaced as ever, without a policy and without a pause."""
        proxy = self.begin()
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

    def test_interim(self) -> None:
        """Interim responses of both pass."""
        proxy = self.hedged()
        for each in ("a:1", "b:1"):
            proxy.asked(each)[0].sends(
                b"HTTP/1.1 103 Early Hints\r\nLink: <%s>\r\n\r\n" % each.encode()
            )
        self.assertEqual(proxy.client.got().count(b"HTTP/1.1 103"), 2)
        proxy.answers("b:1", OK)
        self.assertEqual(proxy.client.gotResponse().status, 200)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("a:1", "b:1", "c:1")),
                st.sampled_from(("ok", "part", "busy", "reset", "close", "bad", "refuse", "accept",
                                 "hold", "hint", "leave")),
                st.sampled_from((0.0, 0.02, 0.3, AFTER, 1.1)),
            ),
            max_size=12,
        ),
        st.sampled_from((None, 1.0)),
        st.integers(1, 4),
    )  # fmt: skip
    def test_any(
        self, steps: list[tuple[str, str, float]], perTry: float | None, attempts: int
    ) -> None:
        """
        Whatever endpoints and client do, and when: the client gets one response or sees its
        connection closed, each attempt is told, and nothing is left.
        """
        proxy = self.begin("a:1", "b:1", "c:1", perTryTimeout=perTry, attempts=attempts)
        proxy.asks(GET)
        for address, what, seconds in steps:
            if what in ("refuse", "accept", "hold"):
                proxy.decide(address, None if what == "hold" else what)
            elif what == "leave":
                proxy.client.closes()
            for peer in proxy.asked(address):
                if peer.gone or not peer.transport.connected:
                    continue
                if what in ("ok", "busy", "bad", "part", "hint"):
                    peer.sends(
                        {
                            "ok": OK,
                            "busy": BUSY,
                            "bad": b"bad\r\n\r\n",
                            "part": LATE[:-2],
                            "hint": b"HTTP/1.1 103 Early Hints\r\n\r\n",
                        }[what]
                    )
                elif what == "reset":
                    peer.resets()
                elif what == "close":
                    peer.closes()
            proxy.harness.advance(seconds)
        for each in ("a:1", "b:1", "c:1"):
            proxy.decide(each, "refuse")
        proxy.harness.advance(120)
        [exchange] = proxy.harness.exchanges
        self.assertEqual(len(exchange.attemptsMade()), exchange.attempts)
        self.assertTrue(all(each.seconds >= -1e-9 for each in exchange.attemptsMade()))
        heads = proxy.client.got().count(b"HTTP/1.1 ")
        self.assertTrue(heads >= 1 or proxy.client.state != "open", proxy.client)
        self.assertLessEqual(proxy.cluster.budget.hedges, 1)
        proxy.assertQuiet()
