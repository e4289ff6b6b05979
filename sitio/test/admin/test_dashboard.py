"""
Promises of L{sitio.admin.dashboard}, on a twisted.web site whose connections are in memory.

What the page does with the events is test_browser's.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from bisect import bisect_left
from hashlib import sha256
from socket import gethostname
from typing import Any, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from sitio.admin import dashboard as module, events
from sitio.admin.dashboard import Dashboard, dashboard
from sitio.admin.events import describeSidecar
from sitio.errors import UpstreamLost
from sitio.telemetry.histogram import FINE_BOUNDS
from sitio.telemetry.records import ExchangeRecord
from sitio.telemetry.sidecar import SERVING
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import facts
from sitio.test.helpers.sidecars import Source
from sitio.test.helpers.snapshots import upstreamEndpoint, upstreamOf


class Visit:
    """A connection to the site: the request on it, and what was received."""

    def __init__(self, site: Site, target: str = "/events", method: str = "GET", fields: str = ""):
        self.transport = StringTransportWithDisconnection()
        self.protocol: Any = site.buildProtocol(None)
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)
        # 1.0, as its responses come without chunks.
        self.protocol.dataReceived(f"{method} {target} HTTP/1.0\r\n{fields}\r\n".encode())

    @property
    def text(self) -> str:
        """All bytes that were received."""
        return self.transport.value().decode()

    @property
    def status(self) -> int:
        """The status of the response."""
        return int(self.text.split(" ", 2)[1])

    def field(self, name: str) -> str | None:
        """A field of the response."""
        found = re.search(rf"(?im)^{name}: (.*)\r$", self.text.partition("\r\n\r\n")[0] + "\r\n")
        return found and found[1]

    @property
    def body(self) -> str:
        """The body of the response."""
        return self.text.partition("\r\n\r\n")[2]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events with metrics that were received."""
        blocks = self.body.split("\n\n")
        return [json.loads(each[6:]) for each in blocks if each.startswith("data: ")]

    @property
    def open(self) -> bool:
        """Whether the connection is open."""
        return bool(self.transport.connected)

    def fill(self) -> None:
        """The client stops reading, and the transport's buffer is full."""
        cast(Any, self.transport.producer).pauseProducing()

    def drain(self) -> None:
        """The client reads again."""
        cast(Any, self.transport.producer).resumeProducing()

    def leave(self) -> None:
        """The client closes the connection."""
        self.transport.loseConnection()


class LiveTestCase(SynchronousTestCase):
    """A dashboard on a site, with a source of metrics and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.source = Source(self.clock)
        self.dashboard: Dashboard = dashboard(
            self.source, self.clock, findProblem=self.source.findProblem
        )
        self.site = Site(self.dashboard, reactor=self.clock)
        self.site.startFactory()
        self.addCleanup(self.site.stopFactory)
        self.visits: list[Visit] = []

    def visit(self, *arguments: str, **more: str) -> Visit:
        """Make a request on a new connection."""
        self.visits.append(Visit(self.site, *arguments, **more))
        self.clock.advance(0)
        return self.visits[-1]

    def beat(self, times: int = 1) -> None:
        """Let so many seconds pass."""
        for _ in range(times):
            self.clock.advance(module.INTERVAL_SECONDS)


class PageTests(LiveTestCase):
    """The page as it is served."""

    def test_document(self) -> None:
        """The page is one HTML document with its style and script inline."""
        page = self.visit("/")
        self.assertEqual(page.status, 200)
        self.assertEqual(page.field("Content-Type"), "text/html; charset=utf-8")
        self.assertTrue(page.body.startswith("<!DOCTYPE html>"))
        self.assertTrue(page.body.endswith("</html>\n"))
        self.assertNotIn("/* style */", page.body)
        self.assertNotIn("/* script */", page.body)
        self.assertEqual(page.body.count("<script"), 1)
        self.assertEqual(page.body.count("</script"), 1)
        self.assertEqual(page.body.count("</style"), 1)

    def test_security(self) -> None:
        """
        The Content-Security-Policy allows the page's own script and style by their hashes,
        connections to its own origin, and nothing else; no page may frame it.
        """
        page = self.visit("/")
        rules = dict(
            each.strip().split(" ", 1)
            for each in (page.field("Content-Security-Policy") or "").split(";")
        )
        for tag, rule in (("script", "script-src"), ("style", "style-src")):
            [inside] = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page.body, re.DOTALL)
            digest = b64encode(sha256(inside.encode()).digest()).decode()
            self.assertEqual(rules.pop(rule), f"'sha256-{digest}'")
        self.assertEqual(
            rules,
            {
                "default-src": "'none'",
                "connect-src": "'self'",
                "img-src": "data:",
                "base-uri": "'none'",
                "form-action": "'none'",
                "frame-ancestors": "'none'",
            },
        )
        self.assertEqual(page.field("X-Content-Type-Options"), "nosniff")

    def test_nothingFromElsewhere(self) -> None:
        """The page names no other host, and has no attribute with code or style."""
        body = self.visit("/").body
        addresses = set(re.findall(r"https?://[^\s'\"<>`]+", body))
        self.assertEqual(addresses, {"http://www.w3.org/2000/svg"})
        self.assertEqual(re.findall(r"<[^>]+\s(?:on\w+|style)=", body), [])
        self.assertNotIn("innerHTML", body)
        self.assertNotIn("insertAdjacentHTML", body)
        self.assertNotIn("eval(", body)

    def test_again(self) -> None:
        """A browser that has the page gets 304; a changed page has another ETag."""
        tag = self.visit("/").field("ETag")
        again = self.visit("/", fields=f"If-None-Match: {tag}\r\n")
        self.assertEqual((again.status, again.body), (304, ""))
        self.assertEqual(self.visit("/", fields='If-None-Match: "other"\r\n').status, 200)

    def test_head(self) -> None:
        """HEAD gives the head only; other methods are refused."""
        head = self.visit("/", "HEAD")
        self.assertEqual((head.status, head.body), (200, ""))
        self.assertEqual(self.visit("/", "POST").status, 405)

    def test_nobodyAsked(self) -> None:
        """The page alone requests nothing from the sidecar."""
        self.visit("/")
        self.beat(5)
        self.assertEqual(self.source.asked, 0)


class ListeningTests(LiveTestCase):
    """The event stream, and what it costs."""

    def test_head(self) -> None:
        """The event stream has its media type, and must not be stored or buffered."""
        visit = self.visit()
        self.assertEqual(visit.status, 200)
        self.assertEqual(visit.field("Content-Type"), "text/event-stream; charset=utf-8")
        self.assertEqual(visit.field("Cache-Control"), "no-store")
        self.assertEqual(visit.field("X-Accel-Buffering"), "no")
        self.assertTrue(visit.body.startswith("retry: 2000\n\n"))

    def test_asking(self) -> None:
        """The source is asked once a second for all viewers, while there are any."""
        self.beat(3)
        self.assertEqual(self.source.asked, 0)
        waits = len(self.clock.getDelayedCalls())
        first = self.visit()
        self.assertEqual(self.source.asked, 1)
        second = self.visit()
        self.beat(4)
        self.assertEqual(self.source.asked, 5)
        first.leave()
        self.beat()
        self.assertEqual(self.source.asked, 6)
        second.leave()
        self.beat(10)
        self.assertEqual(self.source.asked, 6)
        self.assertEqual(len(self.clock.getDelayedCalls()), waits)

    def test_event(self) -> None:
        """Each event has the open exchanges, the policies' counts and the state of sitio."""
        visit = self.visit()
        self.source.state = "draining"
        self.beat(3)
        self.assertEqual(len(visit.events), 4)
        for each in visit.events:
            self.assertEqual(each["pool"], {"open": 3, "idle": 2, "waiting": 0})
            self.assertEqual(each["policies"][0]["name"], "last-good")
            self.assertEqual((each["clients"], each["inFlight"], each["workers"]), (4, 0, []))
        self.assertEqual([each["state"] for each in visit.events], [SERVING] + ["draining"] * 3)

    def test_problem(self) -> None:
        """The upstream's health is checked every five seconds, and is in each event."""
        self.source.problem = "the upstream can't be reached"
        visit = self.visit()
        self.source.problem = None
        self.beat(5)
        told = [each["problem"] for each in visit.events]
        self.assertEqual(told, ["the upstream can't be reached"] * 5 + [None])
        self.assertEqual(self.source.checked, 2)

    def test_again(self) -> None:
        """A viewer that comes after all others have left gets events."""
        self.visit().leave()
        self.beat(3)
        visit = self.visit()
        self.beat()
        self.assertEqual(["full" in each for each in visit.events], [True, False])

    def test_tooMany(self) -> None:
        """One viewer too many is refused with a sentence; when one leaves there is a place."""
        self.patch(module, "MAX_VIEWERS", 2)
        first, second, third = self.visit(), self.visit(), self.visit()
        self.assertEqual((first.status, second.status, third.status), (200, 200, 503))
        self.assertEqual(
            third.body, "2 dashboards are open already; close one, or try again later.\n"
        )
        self.assertEqual(third.field("Retry-After"), "10")
        self.assertFalse(third.open)
        first.leave()
        self.assertEqual(self.visit().status, 200)

    def test_otherSites(self) -> None:
        """A page of another origin is refused; a client without these fields is not."""
        for kind, status in (
            ("cross-site", 403),
            ("same-site", 403),
            ("same-origin", 200),
            ("none", 200),
        ):
            visit = self.visit(fields=f"Sec-Fetch-Site: {kind}\r\n")
            self.assertEqual((kind, visit.status), (kind, status))

    def test_onlyHead(self) -> None:
        """HEAD is answered and adds no viewer."""
        self.assertEqual(self.visit("/events", "HEAD").status, 200)
        self.beat(2)
        self.assertEqual(self.source.asked, 0)

    def test_stop(self) -> None:
        """When the dashboard stops, streams end, blocked ones are aborted, new ones are refused."""
        first, second = self.visit(), self.visit()
        second.fill()
        self.dashboard.stop()
        self.assertFalse(first.open)
        self.assertFalse(second.open)
        self.assertEqual(self.visit().status, 503)
        asked = self.source.asked
        self.beat(3)
        self.assertEqual(self.source.asked, asked)

    def test_stopWithinEvent(self) -> None:
        """An event that is being made when its last viewer goes is given up, without a log line."""

        def turns() -> int:
            return sum("turn" in str(each) for each in self.clock.getDelayedCalls())

        for number in range(512):
            self.source.count(f"/{number}", 1)
        for leave in (lambda visit: visit.leave(), lambda visit: self.dashboard.stop()):
            visit = Visit(self.site)
            self.assertEqual(turns(), 1)
            leave(visit)
            self.assertEqual(turns(), 0, self.clock.getDelayedCalls())
        self.assertEqual(self.flushLoggedErrors(), [])


class SlowTests(LiveTestCase):
    """Viewers that don't read."""

    def test_skipped(self) -> None:
        """A blocked viewer gets nothing, others do; when it reads again it gets a full event."""
        slow, quick = self.visit(), self.visit()
        self.beat()
        before = len(slow.text)
        slow.fill()
        self.source.count("/a", 3)
        self.beat(5)
        self.assertEqual(len(slow.text), before)
        self.assertEqual(len(quick.events), 6)
        slow.drain()
        self.beat()
        self.assertEqual(["full" in each for each in slow.events], [True, False, True])
        self.assertEqual(slow.events[-1]["endpoints"][0]["hits"], 3)
        self.beat()
        self.assertNotIn("full", slow.events[-1])

    def test_givenUp(self) -> None:
        """A viewer that has not read for 30 seconds is disconnected, and its place is free."""
        self.patch(module, "MAX_VIEWERS", 1)
        slow = self.visit()
        slow.fill()
        self.beat(30)
        self.assertTrue(slow.open)
        self.beat(1)
        self.assertFalse(slow.open)
        self.assertEqual(self.visit().status, 200)

    def test_late(self) -> None:
        """
        When the source takes longer than three seconds or fails, viewers get the event
        C{late}, and a full event afterwards; this is logged once.
        """
        visit = self.visit()
        never: list[Deferred[Any]] = []

        def wait() -> Deferred[Any]:
            never.append(Deferred())
            return never[-1]

        self.source.answer = wait
        self.beat()
        self.assertNotIn("event: late", visit.body)
        self.beat(3)
        self.assertEqual(visit.body.count("event: late\ndata: {}\n\n"), 1)
        self.source.answer = lambda: fail(RuntimeError("no metrics"))
        self.beat(2)
        self.assertGreater(visit.body.count("event: late"), 1)
        self.source.answer = None
        self.beat()
        self.assertEqual([each.get("full") for each in visit.events if each], [True, True])
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_raises(self) -> None:
        """A source that raises does not end the streams."""
        visit = self.visit()

        def refuse() -> Any:
            raise RuntimeError("no metrics")

        self.source.answer = refuse
        self.beat()
        self.source.answer = None
        self.beat()
        self.assertTrue(visit.open)
        self.assertEqual(len(visit.events), 2)
        self.flushLoggedErrors(RuntimeError)


class EventTests(LiveTestCase):
    """The content of events."""

    def test_moved(self) -> None:
        """After the first event, an event has only the endpoints with new hits."""
        self.source.count("/a")
        self.source.count("/b")
        visit = self.visit()
        self.source.count("/b", 2)
        self.beat(2)
        routes = [[each["route"] for each in one["endpoints"]] for one in visit.events]
        self.assertEqual(routes, [["/a", "/b"], ["/b"], []])

    def test_evicted(self) -> None:
        """An endpoint that has lost its row is listed as evicted."""
        self.source.stats.maxEndpoints = 2
        self.source.count("/a")
        self.source.count("/b", 5)
        visit = self.visit()
        self.source.count("/c", 5)
        self.beat()
        self.assertEqual(visit.events[-1]["evicted"], [["GET", "/a"]])
        routes = [each["route"] for each in visit.events[-1]["endpoints"]]
        self.assertEqual(sorted(routes), ["(other)", "/c"])

    def test_point(self) -> None:
        """
        A point has totals by class of status, masked failures and broken responses.  These
        are failures, whatever their status.
        """
        self.source.count(times=3, failure=UpstreamLost(), brokeOff=True)
        self.source.count(status=200, upstreamStatus=500, times=2)
        self.source.count(status=404, upstreamStatus=404)
        self.source.count(status=None, upstreamStatus=None)
        point = self.visit().events[0]["point"]
        self.assertEqual(point["upstreamStatuses"], [0, 0, 0, 1, 5, 1])
        self.assertEqual(point["statuses"], [0, 2, 0, 1, 3, 1])
        self.assertEqual((point["hits"], point["masked"], point["broken"]), (7, 2, 3))
        self.assertEqual((point["failed"], point["sentFailed"]), (6, 4))
        self.assertEqual(point["latency"], [bisect_left(FINE_BOUNDS, 0.002), 7])

    def test_history(self) -> None:
        """A second page starts with the points that were made for the first."""
        self.visit()
        for _ in range(3):
            self.source.count()
            self.beat()
        late = self.visit()
        self.beat()
        history = late.events[0]["points"]
        self.assertEqual([each["hits"] for each in history], [0, 1, 2, 3, 3])
        self.assertEqual([each["at"] for each in history], [0, 1, 2, 3, 4])
        self.assertEqual(late.events[0]["bars"], [[[1, 0]] * 3 + [[0, 0]]])

    def test_historyAfterPause(self) -> None:
        """Without viewers nothing is kept: a point before, one after, no bars."""
        first = self.visit()
        self.source.count()
        self.beat(2)
        first.leave()
        self.source.count(times=100)
        self.beat(60)
        visit = self.visit()
        history = visit.events[0]["points"]
        self.assertEqual([each["at"] for each in history], [0, 1, 2, 62])
        self.assertEqual(visit.events[0]["bars"], [[]])

    def test_historyForgotten(self) -> None:
        """Points older than five minutes are dropped, and there is one a second at most."""
        self.visit()
        self.beat(400)
        visit = self.visit()
        self.beat()
        times = [each["at"] for each in visit.events[0]["points"]]
        self.assertEqual((times[0], times[-1], len(times)), (101, 401, 301))

    def test_longAgo(self) -> None:
        """A viewer that comes hours later gets no old point."""
        self.visit().leave()
        self.clock.advance(3600)
        self.assertEqual([each["at"] for each in self.visit().events[0]["points"]], [3600])

    def test_countedAnew(self) -> None:
        """When totals fall, the sidecar was restarted: all viewers start anew."""
        self.source.count(times=5)
        visit = self.visit()
        self.source.stats = Stats(self.clock)
        self.source.count("/b")
        self.beat()
        event = visit.events[-1]
        self.assertTrue(event["full"])
        self.assertEqual([each["hits"] for each in event["points"]], [1])
        self.assertEqual([each["route"] for each in event["endpoints"]], ["/b"])

    def test_bars(self) -> None:
        """An endpoint has a bar for each second of a minute, with hits and (masked) failures."""
        self.source.count("/a")
        self.visit()
        self.source.count("/a", 2)
        self.source.count("/a", 1, upstreamStatus=500)
        self.beat()
        other = self.visit()
        self.beat()
        self.assertEqual(other.events[0]["bars"], [[[3, 1], [0, 0]]])
        self.beat(events.MAX_BARS)
        self.assertEqual(self.joined()["bars"], [[[0, 0]] * events.MAX_BARS])

    def joined(self) -> dict[str, Any]:
        """The first event of a new viewer, which joins before all others leave."""
        visit = self.visit()
        self.beat()
        for each in self.visits:
            each.leave()
        self.visits.clear()
        return visit.events[0]

    def test_exchanges(self) -> None:
        """An exchange is sent once to each viewer."""
        for name in ("recent", "failed"):
            known: list[ExchangeRecord] = getattr(self.source, name)
            known[:] = [facts(f"{name} 1")]
            visit = self.visit()
            known.insert(0, facts(f"{name} 2"))
            self.beat(2)
            told = [[one["id"] for one in each[name]] for each in visit.events]
            self.assertEqual(told, [[f"{name} 1"], [f"{name} 2"], []])
            second = self.joined()
            self.assertEqual([each["id"] for each in second[name]], [f"{name} 2", f"{name} 1"])

    def test_exchangesBounded(self) -> None:
        """In one second at most the newest hundred exchanges are sent, and the oldest open ones."""
        visit = self.visit()
        self.source.recent = [facts(str(each)) for each in range(200)]
        self.source.open = [facts(str(each), state="asked") for each in range(200)]
        self.beat()
        event = visit.events[-1]
        self.assertEqual([each["id"] for each in event["recent"]], [str(n) for n in range(100)])
        self.assertEqual([each["id"] for each in event["open"]], [str(n) for n in range(20)])
        self.assertEqual(event["inFlight"], 200)

    def test_about(self) -> None:
        """The first event describes the sidecar, and where clients reach it."""
        about = self.visit().events[0]["sidecar"]
        self.assertEqual(about["name"], gethostname())
        for port, address in (
            ("tcp:8080:backlog=1024", "http://localhost:8080"),
            ("tcp:port=81", "http://localhost:81"),
            ("tcp6:8080", "http://localhost:8080"),
            ("tcp:0", None),
            ("unix:/run/sitio.sock", None),
            ("ssl:8443:privateKey=key.pem", None),
        ):
            about = describeSidecar(
                {"sitio": "1.2", "options": {"port": port, "upstream": "tcp:web:80"}}
            )
            self.assertEqual((about["address"], about["upstream"]), (address, "tcp:web:80"), port)
            self.assertEqual(about["version"], "1.2")

    def test_upstreams(self) -> None:
        """Each upstream has its endpoints, and how many there are and get requests."""
        self.source.upstreams = [
            upstreamOf(
                "photos",
                upstreamEndpoint("a:1", sent=3),
                upstreamEndpoint("b:1", "ejected", lastFailure="it hung"),
            )
        ]
        [photos] = self.visit().events[0]["upstreams"]
        self.assertEqual((photos["name"], photos["count"], photos["usable"]), ("photos", 2, 1))
        self.assertEqual(photos["endpoints"], self.source.upstreams[0]["endpoints"])

    def test_manyEndpoints(self) -> None:
        """Of many endpoints those that get no requests are shown first, in their order."""
        endpoints = [upstreamEndpoint(f"a:{number}") for number in range(200)]
        endpoints[150] = upstreamEndpoint("a:150", "unhealthy")
        self.source.upstreams = [upstreamOf("photos", *endpoints)]
        [photos] = self.visit().events[0]["upstreams"]
        shown = [each["address"] for each in photos["endpoints"]]
        expected = [f"a:{number}" for number in (*range(events.MAX_UPSTREAM_ENDPOINTS - 1), 150)]
        self.assertEqual((photos["count"], shown), (200, expected))

    def test_plainUpstream(self) -> None:
        """One endpoint that nothing judges is not shown: the page says all of it elsewhere."""
        plain = upstreamOf("photos", upstreamEndpoint("a:1"))
        self.source.upstreams = [{**plain, "judged": False}]
        self.assertEqual(self.visit().events[0]["upstreams"], [])

    def test_hostile(self) -> None:
        """No path can end an event, whatever it contains."""
        self.source.count("/\u2028</script>\u0085")
        visit = self.visit()
        self.assertEqual(visit.events[0]["endpoints"][0]["route"], "/\u2028</script>\u0085")
        self.assertNotIn("\u2028", visit.text)

    def test_size(self) -> None:
        """The largest event has some hundred kilobytes; one without traffic is small."""
        for number in range(512):
            self.source.count(f"/items/{number:04}/details", 3)
        visit = self.visit()
        self.assertLess(len(visit.body), 300_000)
        before = len(visit.body)
        self.beat()
        self.assertLess(len(visit.body) - before, 3000)
