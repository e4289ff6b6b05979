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
    """A sidecar in memory, whose exchanges are noted down."""

    def begin(self, *policies: Any) -> None:
        """With these policies."""
        self.clock = Clock()
        self.recent = History(self.clock, lambda: THEN + self.clock.seconds(), 7)
        self.talk = Harness([*policies, ("recent", self.recent)], clock=self.clock)
        self.talk.acceptConnections()

    def ask(self, *responses: bytes, after: float = 0.0, request: bytes = GET) -> None:
        """One request, to which the upstream says this, after so many seconds."""
        client = self.talk.connect()
        client.sends(request)
        for each in responses:
            self.talk.advance(after)
            self.talk.upstreams[-1].sends(each)
        self.talk.settle()
        client.closes()
        self.talk.settle()

    def told(self) -> ExchangeLists:
        """What is known."""
        return self.recent.exchanges(list(self.talk.context.exchanges))

    def only(self, kind: str = "failed") -> ExchangeRecord:
        """The one exchange of this kind."""
        told: Any = self.told()
        [exchange] = told[kind]
        found: ExchangeRecord = exchange
        return found


class AttentionTests(RecentTestCase):
    """What is noted down, and when."""

    def test_interface(self) -> None:
        """It is an observer like any other."""
        self.begin()
        verifyObject(IExchangeObserver, self.recent)

    def test_nobodyLooks(self) -> None:
        """While nobody looks, what goes well is not noted down; what fails is."""
        self.begin()
        self.ask(OK)
        self.ask(BROKEN)
        told = self.told()
        self.assertEqual((told["recent"], len(told["failed"])), ([], 1))

    def test_somebodyLooks(self) -> None:
        """For a minute after each look everything is."""
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
        """Of each kind so many are kept, the last ones; what clients break has its own share."""
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
        """In one second so many are noted down, whatever comes; the next second has its own."""
        self.begin()
        self.told()
        for _ in range(2):
            for _ in range(MAX_RECENT + 10):
                self.ask(OK)
            self.ask(BROKEN)
            self.clock.advance(1)
        told = self.told()
        ids = [int(each["id"].partition("-")[2]) for each in told["recent"]]
        # One of each second is a failure, and has its own place.
        self.assertEqual(ids, list(range(2 * MAX_RECENT + 1, MAX_RECENT + 1, -1)))
        self.assertEqual(len(told["failed"]), 2)

    def test_openBounded(self) -> None:
        """Of those under way, those that take longest are told."""
        self.begin()
        for _ in range(MAX_OPEN + 1):
            self.talk.connect().sends(GET)
            self.clock.advance(1 / 8)
        told = [each["duration"] * 8 for each in self.told()["open"]]
        self.assertEqual(told, list(range(MAX_OPEN + 1, 1, -1)))

    def test_letsGo(self) -> None:
        """No exchange is kept alive, open ones that were told included."""
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
        """Neither queries nor fields nor bodies are told, and all of it is plain data."""
        self.begin()
        self.told()
        self.ask(OK)
        self.ask(BROKEN)
        told = self.told()
        text = json.dumps(told)
        self.assertNotIn("secret", text)
        self.assertEqual(json.loads(text), told)

    def test_long(self) -> None:
        """What a client makes long is cut."""
        self.begin()
        self.told()
        self.ask(BROKEN, request=GET.replace(b"/photos/", b"/" + b"a" * 5000))
        path = self.only()["path"]
        self.assertEqual((len(path), path[:3], path[-3:]), (MAX_TEXT, "/aa", "..."))

    def test_together(self) -> None:
        """Those of several processes stand in one order, within the same bounds."""
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
    """What is told of an exchange."""

    def why(self, *responses: bytes, request: bytes = GET) -> tuple[str | None, str]:
        """Who made the response, and what came of it."""
        self.told()
        self.ask(*responses, request=request)
        facts = self.told()["recent"][0]
        return facts["answeredBy"], facts["why"]

    def test_plain(self) -> None:
        """Who asked for what, when, what came, how long it took."""
        self.begin()
        self.told()
        self.clock.advance(5)
        self.ask(OK, after=0.5)
        self.clock.advance(5)
        facts = self.only("recent")
        self.assertEqual(
            facts,
            {
                "id": "7-1",
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
            },
        )

    def test_masked(self) -> None:
        """Of a masked failure, the truth and the mask, and whose it is."""
        self.begin(("nice", onResponse(503)(lambda exchange, response: Response(200, text="fine"))))
        self.assertEqual(
            self.why(BROKEN), ("policy nice", "the service answered 503; nice sent 200")
        )
        facts = self.only()
        self.assertEqual(
            (facts["upstreamStatus"], facts["status"], facts["failed"]), (503, 200, True)
        )

    def test_passedOn(self) -> None:
        """Of a failure that nobody masks."""
        self.begin()
        self.assertEqual(self.why(BROKEN), ("upstream", "the service answered 503"))

    def test_answered(self) -> None:
        """Of a request that a policy answers."""
        self.begin(("rule", onRequest(lambda exchange: Response(403))))
        self.assertEqual(self.why(), ("policy rule", "the service was not asked; rule sent 403"))
        self.assertEqual(self.told()["failed"], [])

    def test_refused(self) -> None:
        """Of one that can't be read."""
        self.begin()
        self.assertEqual(
            self.why(request=b"nonsense\r\n\r\n"),
            ("sitio", "a malformed request line; sitio sent 400"),
        )

    def test_lastHop(self) -> None:
        """Of one that sitio answers itself, as it is to go no further, and that went well."""
        self.begin()
        self.told()
        self.ask(request=b"OPTIONS /x HTTP/1.1\r\nHost: here\r\nMax-Forwards: 0\r\n\r\n")
        facts = self.only("recent")
        self.assertEqual(
            (facts["answeredBy"], facts["why"]),
            ("sitio", "the service was not asked; sitio sent 204"),
        )

    def test_unreachable(self) -> None:
        """Of one for which there is no upstream."""
        self.begin()
        self.talk.refuseConnections()
        by, why = self.why()
        self.assertEqual(by, "sitio")
        self.assertIn("no connection to the upstream: Connection was refused", why)
        self.assertTrue(why.endswith("; sitio sent 502"), why)

    def test_unreachableMasked(self) -> None:
        """Of the same when it is masked."""
        self.begin(("nice", onResponse(502)(lambda exchange, response: Response(200))))
        self.talk.refuseConnections()
        by, why = self.why()
        self.assertEqual(by, "policy nice")
        self.assertTrue(why.endswith("; nice sent 200"), why)
        self.assertEqual(self.only()["upstreamStatus"], 502)

    def test_brokenOff(self) -> None:
        """Of a response that ends too early."""
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
        """Of a client that did not wait."""
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
        """Of one that was sent again: how often, whose response it is, whose the pauses are."""
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
        """Of one of which an attempt failed and another did well: both."""
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

    def test_steps(self) -> None:
        """Each step has its time: policies, a connection, the upstream's wait, the rest."""
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
        Of one whose client has gone, the time counts for what was waited for: a policy, a
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
        """An open one is told with its step, to which its time counts; its name stays."""
        wait: Deferred[None] = Deferred()
        self.begin(("slow", onRequest(lambda exchange: wait)))
        self.talk.holdConnections()
        client = self.talk.connect()
        client.sends(GET)

        def now() -> tuple[str, str, Any]:
            self.talk.advance(1)
            facts = self.only("open")
            return facts["id"], facts["state"], list(facts["steps"].values())

        self.assertEqual(now(), ("7-1", "running the request policies", [1, 0, 0, 0]))
        wait.callback(None)
        self.assertEqual(now(), ("7-1", "waiting for a connection", [1, 1, 0, 0]))
        self.talk.accept()
        self.assertEqual(now(), ("7-1", "waiting for the response", [1, 1, 1, 0]))
        self.talk.upstreams[-1].sends(OK[:-3])
        self.assertEqual(now(), ("7-1", "sending the response", [1, 1, 1, 1]))
        self.talk.upstreams[-1].sends(OK[-3:])
        self.assertEqual(self.only("recent")["id"], "7-1")
        self.assertEqual(self.told()["open"], [])
