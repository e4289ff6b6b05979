"""
Promises of L{sitio.telemetry.attempts}: what came of each attempt to ask the upstream.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, Retry, onRequest, onResponse
from sitio.telemetry.attempts import MAX_KINDS
from sitio.telemetry.snapshot import Snapshot
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import ended
from sitio.testing.harness import Harness

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def answer(status: int) -> bytes:
    """A response without a body."""
    return b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status


def counts(snapshot: Snapshot) -> dict[str, int]:
    """How many attempts there were of each kind."""
    return {key: sum(each["counts"]) for key, each in snapshot["attempts"].items()}


class KindTests(SynchronousTestCase):
    """The kinds that are told apart."""

    def test_statuses(self) -> None:
        """An attempt counts by the status that the upstream sent, whatever the client got."""
        counting = Stats(Clock())
        for exchange in (
            ended(),
            ended("/b", duration=9.0, upstreamTime=0.25, connectTime=0.5),
            ended(status=200, upstreamStatus=503),
            ended(status=500, upstreamStatus=404),
            ended("/new", "BREW"),
            ended(status=403, upstreamStatus=None, attempts=0),
        ):
            counting.exchangeFinished(exchange)
        snapshot = counting.snapshot()
        self.assertEqual(
            counts(snapshot), {"GET 200": 2, "GET 503": 1, "GET 404": 1, "_OTHER 200": 1}
        )
        self.assertEqual(snapshot["attempts"]["GET 200"]["seconds"], 0.751)

    def test_limit(self) -> None:
        """However many statuses an upstream makes up, the number of kinds is limited."""
        counting = Stats(Clock())
        for status in range(200, 1000):
            counting.exchangeFinished(ended(f"/{status}", status=status, upstreamStatus=status))
        found = counts(counting.snapshot())
        self.assertLessEqual(len(found), MAX_KINDS + 8)
        self.assertEqual(sum(found.values()), 800)
        self.assertIn("GET 9xx", found)

    def test_manyOutcomes(self) -> None:
        """Attempts of outcomes that a row counts by class are counted by their status."""
        counting = Stats(Clock())
        for status in (*range(200, 290), 289):
            counting.exchangeFinished(ended(status=status, upstreamStatus=status))
        self.assertEqual(counts(counting.snapshot())["GET 289"], 2)


class RealTests(SynchronousTestCase):
    """Real exchanges, in memory."""

    def begin(self, *policies: Any, accept: bool = True) -> None:
        """Start with these policies."""
        self.clock = Clock()
        self.stats = Stats(self.clock)
        self.harness = Harness([*policies, ("stats", self.stats)], clock=self.clock)
        if accept:
            self.harness.acceptConnections()
        self.client = self.harness.connect()

    def counted(self) -> dict[str, int]:
        """The attempts that were counted."""
        self.harness.settle()
        return counts(self.stats.snapshot())

    def test_retries(self) -> None:
        """Each attempt of a policy that retries is counted, with the time that it took."""

        def again(exchange: Any, response: Response) -> Any:
            return Retry() if exchange.attempts < 3 else None

        self.begin(("again", onResponse(503)(again)))
        self.client.sends(GET)
        for seconds, status in ((1.0, 503), (2.0, 503), (4.0, 200)):
            self.harness.advance(seconds)
            self.harness.upstreams[-1].sends(answer(status))
            self.harness.settle()
        self.assertEqual(self.counted(), {"GET 503": 2, "GET 200": 1})
        attempts = self.stats.snapshot()["attempts"]
        self.assertEqual((attempts["GET 503"]["seconds"], attempts["GET 200"]["seconds"]), (3, 4))

    def test_lostThenGood(self) -> None:
        """An idle connection that the upstream closed is an attempt; so is the next."""
        self.begin()
        self.client.sends(GET)
        self.harness.upstreams[-1].sends(answer(200))
        self.client.sends(GET)
        self.harness.upstreams[-1].closes()
        self.harness.settle()
        self.harness.upstreams[-1].sends(answer(204))
        self.assertEqual(
            self.counted(), {"GET 200": 1, "GET none connection_lost": 1, "GET 204": 1}
        )

    def test_refused(self) -> None:
        """A refused connection has no status, but a name; a mask changes nothing of that."""
        for policies in ((), (("nice", onResponse(502)(lambda *_: Response(200, text="ok"))),)):
            self.begin(*policies, accept=False)
            self.harness.refuseConnections()
            self.client.sends(GET)
            self.assertEqual(self.counted(), {"GET none connection_refused": 1})

    def test_timeout(self) -> None:
        """An upstream that does not answer in time counts with the time that was waited."""
        self.begin()
        self.client.sends(GET)
        self.harness.advance(61)
        self.assertEqual(self.counted(), {"GET none timeout": 1})
        seconds = self.stats.snapshot()["attempts"]["GET none timeout"]["seconds"]
        self.assertTrue(60 <= seconds <= 61, seconds)

    def test_brokenOff(self) -> None:
        """A response that breaks off has its status and a name, also while it is held."""
        held = onResponse(200, buffered=True)(lambda exchange, response: None)
        for policies in ((), (("held", held),)):
            self.begin(*policies)
            self.client.sends(b"POST" + GET[3:-2] + b"Content-Length: 0\r\n\r\n")
            self.harness.upstreams[-1].sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
            self.harness.upstreams[-1].closes()
            self.assertEqual(self.counted(), {"POST 200 connection_lost": 1})

    def test_clientGone(self) -> None:
        """A client that leaves while the upstream is asked ends the attempt, without a status."""
        self.begin()
        self.client.sends(GET)
        self.client.closes()
        self.assertEqual(self.counted(), {"GET none client_gone": 1})

    def test_notAsked(self) -> None:
        """What policies answer and what sitio refuses is no attempt."""
        self.begin(("no", onRequest(lambda exchange: Response(403))))
        self.client.sends(GET)
        self.client.sends(b"nonsense\r\n\r\n")
        self.assertEqual(self.counted(), {})
