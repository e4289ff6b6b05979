"""
Promises of L{sitio.telemetry.history}: single exchanges, for people.
"""

from __future__ import annotations

import gc
import json
import weakref
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio import Response, Retry, onRequest, onResponse
from sitio.interfaces import IExchangeObserver
from sitio.telemetry.history import MAX_TEXT, RECORD_SECONDS, History
from sitio.telemetry.records import (
    MAX_FAILED,
    MAX_OPEN,
    MAX_RECENT,
    ExchangeLists,
    ExchangeRecord,
    mergeExchanges,
)
from sitio.testing.harness import Harness

GET = b"GET /photos/1.png?token=secret HTTP/1.1\r\nHost: here\r\nAuthorization: secret\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
BROKEN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

#: When the clocks of these tests stand at 0: seconds since 1970.
THEN = 1_790_000_000.0


class RecentTestCase(SynchronousTestCase):
    """A proxy in memory whose exchanges are recorded."""

    def begin(self, *policies: Any) -> None:
        """Start with these policies."""
        self.clock = Clock()
        self.recent = History(self.clock, lambda: THEN + self.clock.seconds(), 7)
        self.talk = Harness([*policies, ("recent", self.recent)], clock=self.clock)
        self.talk.acceptConnections()

    def ask(self, *responses: bytes, after: float = 0.0, request: bytes = GET) -> None:
        """One request, to which the upstream sends this after so many seconds."""
        client = self.talk.connect()
        client.sends(request)
        for each in responses:
            self.talk.advance(after)
            self.talk.upstreams[-1].sends(each)
        self.talk.settle()
        client.closes()
        self.talk.settle()

    def told(self) -> ExchangeLists:
        """The recorded exchanges."""
        return self.recent.exchanges(list(self.talk.context.exchanges))

    def only(self, kind: str = "failed") -> ExchangeRecord:
        """The one exchange in this list."""
        told: Any = self.told()
        [exchange] = told[kind]
        found: ExchangeRecord = exchange
        return found


class AttentionTests(RecentTestCase):
    """What is recorded, and when."""

    def test_interface(self) -> None:
        """It is an exchange observer."""
        self.begin()
        verifyObject(IExchangeObserver, self.recent)

    def test_nobodyLooks(self) -> None:
        """Without a reader, failures are recorded and other exchanges are not."""
        self.begin()
        self.ask(OK)
        self.ask(BROKEN)
        told = self.told()
        self.assertEqual((told["recent"], len(told["failed"])), ([], 1))

    def test_somebodyLooks(self) -> None:
        """For a minute after each question all exchanges are recorded."""
        self.begin()
        self.told()
        self.ask(OK)
        self.clock.advance(RECORD_SECONDS - 1)
        self.ask(OK)
        self.clock.advance(1)
        self.ask(OK)
        self.assertEqual(len(self.told()["recent"]), 2)
        self.ask(OK)
        self.assertEqual(len(self.told()["recent"]), 3)

    def test_bounded(self) -> None:
        """Each list keeps its last exchanges; failures of clients have a list of their own."""
        self.begin()
        self.told()
        for _ in range(MAX_FAILED):
            self.ask(BROKEN)
            self.clock.advance(1 / 32)
        for _ in range(MAX_RECENT):
            self.ask(request=b"nonsense\r\n\r\n")
            self.clock.advance(1 / 32)
        told = self.told()
        self.assertEqual(len(told["recent"]), MAX_RECENT)
        self.assertEqual({each["status"] for each in told["recent"]}, {400})
        sent = [each["status"] for each in told["failed"]]
        self.assertEqual((sent.count(400), sent.count(503)), (MAX_FAILED // 2, MAX_FAILED // 2))

    def test_rate(self) -> None:
        """In one second a limited number is recorded; the next second has its own."""
        self.begin()
        self.told()
        for _ in range(2):
            for _ in range(MAX_RECENT + 10):
                self.ask(OK)
            self.ask(BROKEN)
            self.clock.advance(1)
        told = self.told()
        ids = [int(each["key"].partition("-")[2]) for each in told["recent"]]
        # One of each second is a failure, and has its own place.
        self.assertEqual(ids, list(range(2 * MAX_RECENT + 1, MAX_RECENT + 1, -1)))
        self.assertEqual(len(told["failed"]), 2)

    def test_openBounded(self) -> None:
        """Of the open exchanges the oldest are listed."""
        self.begin()
        for _ in range(MAX_OPEN + 1):
            self.talk.connect().sends(GET)
            self.clock.advance(1 / 8)
        told = [each["duration"] * 8 for each in self.told()["open"]]
        self.assertEqual(told, list(range(MAX_OPEN + 1, 1, -1)))

    def test_letsGo(self) -> None:
        """No exchange is kept alive, not even open ones that were listed."""
        self.begin()
        self.told()
        client = self.talk.connect()
        client.sends(GET)
        self.told()
        ghost = weakref.ref(next(iter(self.talk.context.exchanges)))
        self.talk.upstreams[-1].sends(OK)
        self.talk.exchanges.clear()
        gc.collect()
        self.assertIs(ghost(), None)

    def test_secrets(self) -> None:
        """Records have no queries, header fields and bodies, and are plain data."""
        self.begin()
        self.told()
        self.ask(OK)
        self.ask(BROKEN)
        told = self.told()
        text = json.dumps(told)
        self.assertNotIn("secret", text)
        self.assertEqual(json.loads(text), told)

    def test_long(self) -> None:
        """Long texts from clients are cut."""
        self.begin()
        self.told()
        self.ask(BROKEN, request=GET.replace(b"/photos/", b"/" + b"a" * 5000))
        path = self.only()["path"]
        self.assertEqual((len(path), path[:3], path[-3:]), (MAX_TEXT, "/aa", "..."))

    def test_together(self) -> None:
        """The lists of several processes are merged in order, within the same limits."""
        self.begin()
        self.told()
        for _ in range(MAX_RECENT):
            self.clock.advance(1 / 4)
            self.ask(BROKEN)
        one = self.told()
        self.clock.advance(1 / 4)
        self.ask(OK)
        both = mergeExchanges([one, self.told()])
        self.assertEqual(len(both["recent"]), MAX_RECENT)
        began = [each["began"] for each in both["recent"]]
        self.assertEqual(began, sorted(began, reverse=True))
        self.assertEqual(both["recent"][0]["upstreamStatus"], 200)
        self.assertEqual(mergeExchanges([]), {"failed": [], "recent": [], "open": []})


class FactTests(RecentTestCase):
    """The content of a record."""

    def why(self, *responses: bytes, request: bytes = GET) -> tuple[str | None, str]:
        """Who made the response, and the outcome."""
        self.told()
        self.ask(*responses, request=request)
        facts = self.told()["recent"][0]
        return facts["answeredBy"], facts["why"]

    def test_plain(self) -> None:
        """A record has the request, the outcome and the times."""
        self.begin()
        self.told()
        self.clock.advance(5)
        self.ask(OK, after=0.5)
        self.clock.advance(5)
        facts = self.only("recent")
        self.assertEqual(
            facts,
            {
                "key": "7-1",
                "id": facts["id"],
                "labels": {},
                "began": THEN + 5,
                "duration": 0.5,
                "client": facts["client"],
                "method": "GET",
                "path": "/photos/1.png",
                "status": 200,
                "upstreamStatus": 200,
                "answeredBy": "upstream",
                "acted": [],
                "attempts": 1,
                "bytesIn": 0,
                "bytesOut": 6,
                "steps": {"policies": 0, "connection": 0, "upstream": 0.5, "transfer": 0},
                "state": "ended",
                "why": "the service answered 200",
                "failed": False,
                "masked": False,
                "brokeOff": False,
            },
        )

    def test_masked(self) -> None:
        """A masked failure has the upstream status, the sent status and the policy."""
        self.begin(("nice", onResponse(503)(lambda exchange, response: Response(200, text="fine"))))
        self.assertEqual(
            self.why(BROKEN), ("policy nice", "the service answered 503; nice sent 200")
        )
        facts = self.only()
        self.assertEqual(
            (facts["upstreamStatus"], facts["status"], facts["failed"]), (503, 200, True)
        )

    def test_passedOn(self) -> None:
        """A failure that is not masked."""
        self.begin()
        self.assertEqual(self.why(BROKEN), ("upstream", "the service answered 503"))

    def test_answered(self) -> None:
        """A request that a policy answers."""
        self.begin(("rule", onRequest(lambda exchange: Response(403))))
        self.assertEqual(self.why(), ("policy rule", "the service was not asked; rule sent 403"))
        self.assertEqual(self.told()["failed"], [])

    def test_refused(self) -> None:
        """A request that can't be read."""
        self.begin()
        self.assertEqual(
            self.why(request=b"nonsense\r\n\r\n"),
            ("sitio", "a malformed request line; sitio sent 400"),
        )

    def test_lastHop(self) -> None:
        """A response of sitio's own that is not a failure: Max-Forwards was 0."""
        self.begin()
        self.told()
        self.ask(request=b"OPTIONS /x HTTP/1.1\r\nHost: here\r\nMax-Forwards: 0\r\n\r\n")
        facts = self.only("recent")
        self.assertEqual(
            (facts["answeredBy"], facts["why"]),
            ("sitio", "the service was not asked; sitio sent 204"),
        )

    def test_unreachable(self) -> None:
        """A request for which the upstream can't be reached."""
        self.begin()
        self.talk.refuseConnections()
        by, why = self.why()
        self.assertEqual(by, "sitio")
        self.assertIn("no connection to the upstream: Connection was refused", why)
        self.assertTrue(why.endswith("; sitio sent 502"), why)

    def test_unreachableMasked(self) -> None:
        """The same, masked by a policy."""
        self.begin(("nice", onResponse(502)(lambda exchange, response: Response(200))))
        self.talk.refuseConnections()
        by, why = self.why()
        self.assertEqual(by, "policy nice")
        self.assertTrue(why.endswith("; nice sent 200"), why)
        self.assertEqual(self.only()["upstreamStatus"], 502)

    def test_brokenOff(self) -> None:
        """A response that breaks off."""
        self.begin()
        self.told()
        client = self.talk.connect()
        client.sends(GET)
        self.talk.upstreams[-1].sends(OK[:-3])
        self.talk.upstreams[-1].closes()
        self.talk.settle()
        facts = self.only()
        self.assertEqual(facts["answeredBy"], "upstream")
        self.assertTrue(facts["why"].endswith("; the response, a 200, broke off"), facts["why"])
        self.assertEqual(self.talk.context.brokenOff, 1)

    def test_clientGone(self) -> None:
        """A client that goes away."""
        self.begin()
        self.told()
        client = self.talk.connect()
        client.sends(GET)
        client.resets()
        self.talk.settle()
        facts = self.only()
        self.assertEqual((facts["status"], facts["answeredBy"]), (499, None))
        self.assertEqual(facts["why"], "the client went away before its response was complete")

    def test_again(self) -> None:
        """A request that was retried: number of attempts, who answered, and the pause."""
        self.begin(("again", onResponse(503)(lambda exchange, response: Retry(2.0))))
        self.told()
        client = self.talk.connect()
        client.sends(GET)
        self.talk.upstreams[-1].sends(BROKEN)
        self.talk.advance(2)
        self.talk.upstreams[-1].sends(OK)
        self.talk.settle()
        facts = self.only("recent")
        self.assertEqual((facts["attempts"], facts["acted"]), (2, ["again"]))
        self.assertEqual(
            (facts["answeredBy"], facts["why"]),
            ("upstream", "the service answered 200, at attempt 2"),
        )
        self.assertEqual(facts["steps"]["policies"], 2)

    def test_mended(self) -> None:
        """A request of which one attempt failed and the next went well has both."""
        self.begin(("again", onResponse(502)(lambda exchange, response: Retry(0.0))))
        self.told()
        client = self.talk.connect()
        client.sends(GET)
        self.talk.upstreams[-1].closes()
        self.talk.settle()
        self.talk.advance(0)
        self.talk.upstreams[-1].sends(OK)
        self.talk.settle()
        facts = self.only("recent")
        self.assertEqual(
            (facts["answeredBy"], facts["status"], facts["attempts"]), ("upstream", 200, 2)
        )
        self.assertEqual(
            facts["why"],
            "the service answered 200, at attempt 2, after this:"
            " the upstream closed without a response",
        )

    def test_noBudget(self) -> None:
        """A failure that was not retried, as the budget was used up, says so."""
        self.begin(("again", onResponse(503)(lambda exchange, response: Retry(0.0))))
        self.told()
        assert self.talk.context.generation.only is not None
        budget: Any = self.talk.context.generation.only.budget
        budget.share = budget.minimum = 0.0
        client = self.talk.connect()
        client.sends(GET)
        self.talk.upstreams[-1].sends(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        self.talk.settle()
        why = self.only("recent")["why"]
        self.assertEqual(why, "the service answered 503, and the budget had no retry left")

    def test_steps(self) -> None:
        """Each step has its time: policies, connection, upstream, and the rest."""
        wait: Deferred[None] = Deferred()
        self.begin(("slow", onRequest(lambda exchange: wait)))
        self.talk.holdConnections()
        self.told()
        client = self.talk.connect()
        client.sends(GET)
        self.talk.advance(1)
        wait.callback(None)
        self.talk.advance(2)
        self.talk.accept()
        self.talk.advance(4)
        self.talk.upstreams[-1].sends(OK[:-3])
        self.talk.advance(8)
        self.talk.upstreams[-1].sends(OK[-3:])
        facts = self.only("recent")
        self.assertEqual(
            facts["steps"], {"policies": 1, "connection": 2, "upstream": 4, "transfer": 8}
        )
        self.assertEqual(facts["duration"], 15)

    def test_stepsInVain(self) -> None:
        """
        If the client goes away, the time counts for the step in progress: a policy, a
        connection, the upstream, the pause before another attempt.
        """
        never: Deferred[None] = Deferred()
        again = onResponse(503)(lambda exchange, response: Retry(9.0))
        for step, wait in (
            ("policies", never),
            ("connection", None),
            ("upstream", None),
            ("policies", None),
        ):
            self.begin(
                ("slow", onRequest(partial(lambda wait, exchange: wait, wait))), ("again", again)
            )
            if step == "connection":
                self.talk.holdConnections()
            client = self.talk.connect()
            client.sends(GET)
            if step == "policies" and wait is None:
                self.talk.upstreams[-1].sends(BROKEN)
            self.talk.advance(2)
            [underWay] = self.told()["open"]
            self.assertEqual(list(underWay["steps"].values()).count(2), 1, underWay)
            client.resets()
            self.talk.settle()
            spent: Any = self.only()["steps"]
            self.assertEqual({name: spent[name] for name in spent if spent[name]}, {step: 2})

    def test_open(self) -> None:
        """
        An open exchange has its state, and time in the current step; its id stays.  It has not
        failed yet.
        """
        wait: Deferred[None] = Deferred()
        self.begin(("slow", onRequest(lambda exchange: wait)))
        self.talk.holdConnections()
        client = self.talk.connect()
        client.sends(GET)

        def now() -> tuple[str, str, Any]:
            self.talk.advance(1)
            facts = self.only("open")
            self.assertFalse(facts["failed"] or facts["masked"] or facts["brokeOff"])
            return facts["key"], facts["state"], list(facts["steps"].values())

        self.assertEqual(now(), ("7-1", "running the request policies", [1, 0, 0, 0]))
        wait.callback(None)
        self.assertEqual(now(), ("7-1", "waiting for a connection", [1, 1, 0, 0]))
        self.talk.accept()
        self.assertEqual(now(), ("7-1", "waiting for the response", [1, 1, 1, 0]))
        self.talk.upstreams[-1].sends(OK[:-3])
        self.assertEqual(now(), ("7-1", "sending the response", [1, 1, 1, 1]))
        self.talk.upstreams[-1].sends(OK[-3:])
        self.assertEqual(self.only("recent")["key"], "7-1")
        self.assertEqual(self.told()["open"], [])
