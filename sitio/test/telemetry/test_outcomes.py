"""
Promises of L{sitio.telemetry.outcomes}: what counts as failed, for everybody who shows it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import error as internet
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, onResponse
from sitio.errors import (
    BadMessage,
    BadResponse,
    BadVersion,
    BodyTooLong,
    ClientGone,
    ConnectFailed,
    ConnectTimeout,
    HeadTooLong,
    InterimTooLong,
    LoopDetected,
    MethodRefused,
    PolicyFailed,
    PoolExhausted,
    RequestTimeout,
    SitioError,
    Stalled,
    Stopped,
    UpstreamLost,
    UpstreamTimeout,
)
from sitio.http.message import Response as SentResponse
from sitio.telemetry.history import History
from sitio.telemetry.outcomes import (
    brokeOff,
    failed,
    failureName,
    masked,
    outcomeOf,
    sentFailed,
)
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import ended
from sitio.testing.harness import Harness

LOST = UpstreamLost()
GONE = ClientGone()

#: Facts of an exchange; then whether it failed, was sent as failed, was masked, broke off.
TABLE: tuple[tuple[dict[str, Any], tuple[bool, bool, bool, bool]], ...] = (
    ({}, (False, False, False, False)),
    ({"status": 101, "upstreamStatus": 101}, (False, False, False, False)),
    ({"status": 304, "upstreamStatus": 304}, (False, False, False, False)),
    ({"status": 404, "upstreamStatus": 404}, (False, False, False, False)),
    ({"status": 500, "upstreamStatus": 500}, (True, True, False, False)),
    ({"status": 599, "upstreamStatus": 599}, (True, True, False, False)),
    ({"status": 200, "upstreamStatus": 503}, (True, False, True, False)),
    ({"status": 404, "upstreamStatus": 503}, (True, False, True, False)),
    ({"status": 502, "upstreamStatus": 503}, (True, True, False, False)),
    # A policy failed, the upstream did not.
    ({"status": 500, "upstreamStatus": 200}, (False, True, False, False)),
    # The upstream was not asked.
    ({"status": 403, "upstreamStatus": None}, (False, False, False, False)),
    ({"status": 503, "upstreamStatus": None}, (True, True, False, False)),
    # A failure that became a response, and one that a policy masked.
    ({"status": 502, "upstreamStatus": 502, "failure": LOST}, (True, True, False, False)),
    ({"status": 200, "upstreamStatus": 502, "failure": LOST}, (True, False, True, False)),
    # A later attempt went well.
    ({"failure": LOST, "attempts": 2}, (False, False, False, False)),
    # Responses that broke off.
    ({"failure": LOST, "brokeOff": True}, (True, True, False, True)),
    ({"failure": Stalled(), "brokeOff": True}, (True, True, False, True)),
    ({"failure": Stopped(), "brokeOff": True}, (True, True, False, True)),
    (
        {"status": 404, "upstreamStatus": 404, "failure": LOST, "brokeOff": True},
        (True, True, False, True),
    ),
    (
        {"status": 503, "upstreamStatus": 503, "failure": LOST, "brokeOff": True},
        (True, True, False, True),
    ),
    # Nothing was sent, as sitio stopped.
    ({"status": None, "upstreamStatus": None, "failure": Stopped()}, (True, True, False, False)),
    ({"status": None, "upstreamStatus": 200, "failure": Stopped()}, (True, True, False, False)),
    ({"status": None, "upstreamStatus": None}, (True, True, False, False)),
    # What clients cause.
    ({"status": 499, "failure": GONE}, (False, False, False, False)),
    ({"status": 499, "upstreamStatus": None, "failure": GONE}, (False, False, False, False)),
    ({"status": 499, "upstreamStatus": 503, "failure": GONE}, (True, False, False, False)),
    ({"failure": BadMessage(), "brokeOff": True}, (False, False, False, False)),
    ({"failure": RequestTimeout(), "brokeOff": True}, (False, False, False, False)),
    (
        {"status": 400, "upstreamStatus": None, "failure": BadMessage()},
        (False, False, False, False),
    ),
)


class RuleTests(SynchronousTestCase):
    """The rule."""

    def test_table(self) -> None:
        """Each kind of outcome is a failure or none, for the upstream and for the client."""
        for facts, expected in TABLE:
            outcome = outcomeOf(ended(**facts))
            found = tuple(rule(outcome) for rule in (failed, sentFailed, masked, brokeOff))
            self.assertEqual(found, expected, facts)

    def test_metrics(self) -> None:
        """The metrics count by the same rule, each exchange once, also with many statuses."""
        for facts, expected in TABLE:
            for before in ([], [ended(status=each) for each in range(200, 300)]):
                counting = Stats(Clock())
                for exchange in (*before, ended(**facts), ended(**facts)):
                    counting.exchangeFinished(exchange)
                total = counting.snapshot()["total"]
                found = (
                    total["failed"],
                    total["sentFailed"],
                    sum(total["masked"].values()),
                    sum(total["broken"].values()),
                )
                self.assertEqual(found, tuple(2 * each for each in expected), facts)
                self.assertEqual(sum(total["sentBroken"].values()), found[3])

    def test_sentHead(self) -> None:
        """The status of a client that went away is the one whose head it got, if any."""
        for response, status in ((None, None), (SentResponse(206), 206)):
            exchange = ended(status=499, upstreamStatus=206, failure=GONE, response=response)
            self.assertEqual(outcomeOf(exchange), (status, 206, "client_gone"))

    def test_oneAnswer(self) -> None:
        """
        Of 100 exchanges 80 are good, 10 are errors and 10 break off: 20 failed, for metrics,
        lists of exchanges and rows alike.
        """
        stats = Stats(Clock())
        clock = Clock()
        history = History(clock, clock.seconds, 7)
        history.exchanges(())
        for number in range(100):
            facts: dict[str, Any] = {}
            if number % 10 == 0:
                facts = {"status": 500, "upstreamStatus": 500}
            elif number % 10 == 1:
                facts = {"failure": LOST, "brokeOff": True}
            exchange = ended(**facts)
            stats.exchangeFinished(exchange)
            history.exchangeFinished(exchange)
        snapshot = stats.snapshot()
        total, [row] = snapshot["total"], snapshot["endpoints"]
        self.assertEqual((total["failed"], total["sentFailed"], row["failed"]), (20, 20, 20))
        listed = history.exchanges(())
        self.assertEqual(sum(each["failed"] for each in listed["recent"]), 20)
        self.assertEqual(sum(each["failed"] for each in listed["failed"]), 20)
        self.assertEqual(sum(each["brokeOff"] for each in listed["recent"]), 10)


class NameTests(SynchronousTestCase):
    """The names of failures."""

    def test_names(self) -> None:
        """Each failure has a name, from a short list that no client can make longer."""
        for error, name in (
            (SitioError(), "internal"),
            (PolicyFailed("no"), "policy_failed"),
            (BadMessage("x"), "malformed_request"),
            (HeadTooLong(), "malformed_request"),
            (BodyTooLong(), "malformed_request"),
            (BadVersion(), "malformed_request"),
            (MethodRefused(), "malformed_request"),
            (RequestTimeout(), "request_timeout"),
            (ClientGone(), "client_gone"),
            (ConnectFailed(), "connection_failed"),
            (ConnectFailed(cause=internet.ConnectionRefusedError()), "connection_refused"),
            (ConnectFailed(cause=internet.DNSLookupError()), "name_not_resolved"),
            (ConnectFailed(cause=internet.UnknownHostError()), "name_not_resolved"),
            (ConnectFailed(cause=internet.NoRouteError()), "host_unreachable"),
            (ConnectFailed(cause=OSError("whatever")), "connection_failed"),
            (ConnectTimeout(), "connection_timeout"),
            (UpstreamLost(), "connection_lost"),
            (BadResponse(), "malformed_response"),
            (InterimTooLong(), "malformed_response"),
            (UpstreamTimeout(), "timeout"),
            (PoolExhausted(), "pool_exhausted"),
            (Stalled(), "stalled"),
            (Stopped(), "stopped"),
            (LoopDetected(), "loop_detected"),
            (ValueError("x"), "internal"),
        ):
            self.assertEqual(failureName(error), name)


class RealTests(SynchronousTestCase):
    """Real exchanges, in memory."""

    def run_(self, *pieces: bytes, policies: Any = (), lost: bool = True) -> Stats:
        """One request, and what the upstream sends; then it closes."""
        clock = Clock()
        stats = Stats(clock)
        harness = Harness([*policies, ("stats", stats)], clock=clock)
        harness.acceptConnections()
        client = harness.connect()
        client.sends(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        for each in pieces:
            harness.upstreams[-1].sends(each)
        if lost:
            harness.upstreams[-1].closes()
        else:
            client.closes()
        harness.settle()
        return stats

    HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"

    def test_brokenOff(self) -> None:
        """A 200 that the upstream breaks off failed, for the upstream and for the client."""
        total = (snapshot := self.run_(self.HEAD).snapshot())["total"]
        self.assertEqual((total["hits"], total["failed"], total["sentFailed"]), (1, 1, 1))
        self.assertEqual(total["broken"], {"200": 1})
        self.assertEqual(list(snapshot["routes"][0]["durations"]), ["200 connection_lost"])

    def test_clientLeft(self) -> None:
        """A client that leaves within its response is no failure; its status was 200."""
        total = (snapshot := self.run_(self.HEAD, lost=False).snapshot())["total"]
        self.assertEqual((total["failed"], total["statuses"]), (0, {"499": 1}))
        self.assertEqual(list(snapshot["routes"][0]["durations"]), ["200 client_gone"])

    def test_brokeOffWhileHeld(self) -> None:
        """A response that breaks off while a policy holds it is a 502 and no broken one."""
        policy = onResponse(200, buffered=True)(lambda exchange, response: None)
        snapshot = self.run_(self.HEAD, policies=[("held", policy)]).snapshot()
        total = snapshot["total"]
        self.assertEqual((total["failed"], total["broken"]), (1, {}))
        self.assertEqual(list(snapshot["routes"][0]["durations"]), ["502"])

    def test_masked(self) -> None:
        """A policy's page instead of a lost connection is a masked 502."""
        policy = onResponse(502)(lambda exchange, response: Response(200, text="fine"))
        total = self.run_(policies=[("nice", policy)]).snapshot()["total"]
        self.assertEqual(
            (total["failed"], total["sentFailed"], total["masked"]), (1, 0, {"502": 1})
        )
