"""
Promises of L{sitio.telemetry.accesslog} and C{logformat}: the content of lines, that
clients can't forge one, and that traffic never waits for a write.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.errors import CannotStart, ConnectFailed
from sitio.http.message import Headers, Request, Response
from sitio.interfaces import IExchangeObserver
from sitio.policy.functions import onRequest, onResponse
from sitio.policy.labels import MAX_LABELS
from sitio.telemetry.accesslog import (
    BATCH_SIZE,
    INTERVAL_SECONDS,
    MAX_QUEUED_BYTES,
    RECOVERY_SECONDS,
    STOP_SECONDS,
    AccessLog,
)
from sitio.telemetry.logfile import ATOMIC_BYTES
from sitio.telemetry.logformat import CommonFormat, JsonFormat, LineFormat, quoted
from sitio.telemetry.sidecar import IDropCounts, droppedBy
from sitio.test.helpers.exchanges import FinishedExchange, ended
from sitio.test.helpers.logs import LogRecorder
from sitio.test.helpers.messages import OK
from sitio.testing import Harness

#: Seconds since 1970 when clocks of these tests show 0.
EPOCH = 1_542_985_009.25


@define
class Paper:
    """A log file in memory, which can fail."""

    path: str = "access.log"
    written: bytes = b""
    opened: int = 0
    closed: bool = False
    stale: bool = False
    error: OSError | None = None
    left: int = 0

    def open(self) -> None:
        """Count the call."""
        if self.error is not None:
            raise self.error
        self.opened += 1

    def reopen(self) -> None:
        """Note the call."""
        self.stale = True

    def close(self) -> None:
        """Note the call."""
        self.closed = True

    def write(self, data: bytes) -> tuple[int, OSError | None]:
        """Keep the data."""
        if self.error is not None:
            return data.count(b"\n"), self.error
        self.written += data
        return 0, None


@define
class Aside:
    """Runs calls as a thread would: at once, or when the test says so."""

    atOnce: bool = True
    waiting: list[Any] = field(factory=list)

    def __call__(self, call: Any, *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append(lambda: done.callback(call(*arguments)))
        if self.atOnce:
            self.go()
        return done

    def go(self) -> None:
        """Run the waiting calls."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()


class LogTestCase(SynchronousTestCase):
    """An access log in memory."""

    lines: type[LineFormat] = JsonFormat

    def setUp(self) -> None:
        self.clock = Clock()
        self.paper = Paper()
        self.aside = Aside()
        self.said = LogRecorder()
        self.onReopen: list[Any] = []
        self.log = self.make()

    def make(self, query: bool = False) -> AccessLog:
        """Make a log that writes to C{self.paper}."""
        return AccessLog(
            self.clock,
            self.lines(query),
            self.paper,  # type: ignore[arg-type]
            self.aside,
            onReopen=self.onReopen.append,
            now=lambda: self.clock.seconds() + EPOCH,
            log=Logger(namespace="sitio.telemetry.accesslog", observer=self.said),
        )

    def tick(self, times: int = 1) -> list[str]:
        """Let so many intervals pass; returns all lines that were written."""
        for _ in range(times):
            self.clock.advance(INTERVAL_SECONDS)
        return self.paper.written.decode("ascii").splitlines()

    def lineOf(self, exchange: FinishedExchange, query: bool = False) -> str:
        """The line of one exchange."""
        self.log = self.make(query)
        self.log.startService()
        self.log.exchangeFinished(exchange)
        return self.tick()[-1]

    def sayings(self) -> list[str]:
        """The lines in sitio's own log."""
        return [formatEvent(each) for each in self.said.events]


class JsonTests(LogTestCase):
    """The content of a line of JSON."""

    def facts(self, exchange: FinishedExchange, **options: Any) -> dict[str, Any]:
        """The JSON object of an exchange."""
        facts: dict[str, Any] = json.loads(self.lineOf(exchange, **options))
        return facts

    def test_all(self) -> None:
        """A plain exchange has these members and no others."""
        facts = self.facts(
            ended(
                "/a%20b?token=secret",
                "POST",
                status=201,
                upstreamStatus=201,
                bytesIn=3,
                bytesOut=4,
                duration=0.25,
                policyTime=0.03125,
                connectTime=0.0625,
                upstreamTime=0.125,
                response=Response(201),
            )
        )
        self.assertRegex(facts.pop("id"), "^[0-9a-f]{12}-1$")
        self.assertEqual(
            facts,
            {
                "time": "2018-11-23T14:56:49.250Z",
                "client": "192.0.2.1",
                "method": "POST",
                "path": "/a%20b",
                "protocol": "HTTP/1.1",
                "status": 201,
                "upstreamStatus": 201,
                "answeredBy": "upstream",
                "duration": 0.25,
                "steps": {
                    "policies": 0.03125,
                    "connection": 0.0625,
                    "upstream": 0.125,
                    "transfer": 0.03125,
                },
                "bytesIn": 3,
                "bytesOut": 4,
                "attempts": 1,
            },
        )

    def test_query(self) -> None:
        """The query is written if that is asked for."""
        self.assertEqual(self.facts(ended("/a?b=c"), query=True)["path"], "/a?b=c")

    def test_mask(self) -> None:
        """A mask has both statuses, the policy that made it, and the failure."""
        facts = self.facts(
            ended(
                upstreamStatus=502,
                response=Response(200),
                answeredBy="last-good",
                acted=("retry", "last-good"),
                failure=ConnectFailed("refused"),
                attempts=2,
            )
        )
        self.assertEqual((facts["status"], facts["upstreamStatus"]), (200, 502))
        self.assertEqual(facts["answeredBy"], "policy last-good")
        self.assertEqual(facts["acted"], ["retry", "last-good"])
        self.assertEqual((facts["side"], facts["failure"]), ("upstream", "refused"))
        self.assertEqual(facts["attempts"], 2)

    def test_otherFailure(self) -> None:
        """An exception that is not a SitioError counts as sitio's fault."""
        facts = self.facts(ended(failure=ValueError("odd")))
        self.assertEqual((facts["side"], facts["failure"]), ("sitio", "odd"))

    def test_nothingSent(self) -> None:
        """If nothing was sent, status and C{answeredBy} are null."""
        facts = self.facts(ended(status=None, upstreamStatus=None))
        self.assertEqual(
            (facts["status"], facts["upstreamStatus"], facts["answeredBy"]), (None, None, None)
        )

    def test_idGiven(self) -> None:
        """A request that has an id keeps it, so that other logs match."""
        request = Request("GET", "/", headers=headersOf("3e1f-Ab/c+d=:@_.9"))
        self.assertEqual(self.facts(FinishedExchange(request))["id"], "3e1f-Ab/c+d=:@_.9")

    def test_idRefused(self) -> None:
        """An id that is empty, too long or ambiguous is replaced by a new one."""
        for given in ("", "a b", 'a"b', "a" * 129, "caf\xe9", "a, b"):
            request = Request("GET", "/", headers=headersOf(given))
            self.assertRegex(self.facts(FinishedExchange(request))["id"], "^[0-9a-f]{12}-1$", given)

    def test_idTwice(self) -> None:
        """Two ids are ignored."""
        request = Request("GET", "/", headers=headersOf("one"))
        request.headers.add("x-request-id", "two")
        self.assertRegex(self.facts(FinishedExchange(request))["id"], "^[0-9a-f]{12}-1$")

    def test_idsDiffer(self) -> None:
        """Each exchange has its own id; no two processes make the same."""
        ids = [self.facts(ended())["id"] for _ in range(2)]
        self.assertNotEqual(*[each.partition("-")[0] for each in ids])
        self.log.exchangeFinished(ended())
        self.log.exchangeFinished(ended())
        ids = [json.loads(each)["id"] for each in self.tick()]
        self.assertEqual(len(set(ids)), len(ids))

    def test_agent(self) -> None:
        """The user agent is cut, and cannot forge a line; it is left out if there is none."""
        for given, shown in (
            ("curl/8.5", "curl/8.5"),
            ("", None),
            (None, None),
            ('Evil"}\\', 'Evil"}\\'),
            ("caf\xe9\t\x9b2J", "caf\xe9\t\x9b2J"),
            ("a" * 300, "a" * 254),
            ("\x9b" * 300, "\x9b" * 41),
        ):
            fields = [] if given is None else [(b"User-Agent", given.encode("latin-1"))]
            request = Request("GET", "/", headers=Headers.fromWire(fields))
            self.assertEqual(self.facts(FinishedExchange(request)).get("userAgent"), shown)
            line = self.lineOf(FinishedExchange(request))
            self.assertTrue(line.isascii() and line.isprintable(), line)

    def test_agents(self) -> None:
        """Each request has its own, those with the same lines too."""
        self.log.startService()
        for name in ("one", "one", "two", "one"):
            request = Request("GET", "/", Headers({"User-Agent": name, "Accept": "*/*"}))
            self.log.exchangeFinished(FinishedExchange(request))
        agents = [json.loads(each)["userAgent"] for each in self.tick()]
        self.assertEqual(agents, ["one", "one", "two", "one"])

    def test_time(self) -> None:
        """The time is that of the request's head, not of the line."""
        self.clock.advance(100.5)
        self.assertEqual(self.facts(ended(began=99.5))["time"], "2018-11-23T14:58:28.750Z")


def headersOf(id: str) -> Headers:
    """Request headers with this request id."""
    return Headers({"X-Request-Id": id})


class CommonTests(LogTestCase):
    """The content of a line in the common log format."""

    lines = CommonFormat

    def test_plain(self) -> None:
        """A response of the upstream has the seven fields and no more."""
        self.assertEqual(
            self.lineOf(ended("/a?b", bytesOut=7, response=Response(200))),
            '192.0.2.1 - - [23/Nov/2018:14:56:49 +0000] "GET /a HTTP/1.1" 200 7',
        )

    def test_noBody(self) -> None:
        """No bytes is a hyphen, as web servers write it; no status is 000."""
        self.assertTrue(self.lineOf(ended()).endswith('HTTP/1.1" 200 -'))
        line = self.lineOf(ended(status=None, upstreamStatus=None))
        self.assertTrue(line.endswith('HTTP/1.1" 000 -'), line)

    def test_mask(self) -> None:
        """A mask is recognisable, though the format has no field for it."""
        line = self.lineOf(ended(status=200, upstreamStatus=500, answeredBy="last-good"))
        self.assertTrue(
            line.endswith(' 200 - upstreamStatus=500 answeredBy="policy last-good"'), line
        )

    def test_ownAnswer(self) -> None:
        """A request that the upstream was not asked for has one status."""
        line = self.lineOf(ended(status=403, upstreamStatus=None, answeredBy="deny"))
        self.assertTrue(line.endswith(" 403 -"), line)


class HostileTests(LogTestCase):
    """No text from a client can forge a line or make it too long."""

    #: What might end a line or a text, or move a cursor.
    TRICKS = '"\\\r\n\t\x00\x1b[2J\x7f\x85\u2028\xe9 \U0001f600'

    def hostile(self, text: str) -> FinishedExchange:
        """An exchange whose texts are all this text."""
        exchange = ended(
            acted=(text,) * 100, answeredBy=text, failure=ValueError(text), clientAddress=text
        )
        for number in range(MAX_LABELS):
            exchange.labels["n" * 31 + str(number)] = (text * 64)[:64]
        line: Any = exchange.request.line
        line.method = line.path = line.target = text
        return exchange

    def test_escaped(self) -> None:
        """Each exchange is one line of printable ASCII, from which the texts can be read back."""
        for lines in (JsonFormat, CommonFormat):
            self.lines = lines
            line = self.lineOf(self.hostile(self.TRICKS), query=True)
            self.assertEqual(self.paper.written.count(b"\n"), 1)
            self.assertTrue(re.fullmatch(r"[ -~]*", line), line)
            self.paper.written = b""
        self.lines = JsonFormat
        facts = json.loads(self.lineOf(self.hostile(self.TRICKS)))
        for name in ("method", "path", "failure", "client"):
            self.assertEqual(facts[name], self.TRICKS, name)

    def test_bounded(self) -> None:
        """No line is longer than a pipe takes in one piece, whatever it contains."""
        for text in ("x", '"', "\x00", "\U0001f600"):
            for lines in (JsonFormat, CommonFormat):
                self.lines = lines
                line = self.lineOf(self.hostile(text * 100_000), query=True)
                self.assertLess(len(line) + 1, ATOMIC_BYTES)

    def test_quoted(self) -> None:
        """A text is whole as long as it fits; otherwise it is cut."""
        self.assertEqual(quoted("x" * 62), f'"{"x" * 62}"')
        self.assertEqual(quoted("x" * 63), f'"{"x" * 62}"')
        self.assertEqual(quoted('"' * 31), f'"{QUOTE * 31}"')
        self.assertEqual(quoted('"' * 32), f'"{QUOTE * 9}"')
        self.assertEqual(json.loads(quoted("\U0001f600" * 9)), "\U0001f600" * 4)

    def test_unreadable(self) -> None:
        """A request that could not be read has a line that shows that."""
        log = self.make()
        log.startService()
        sidecar = Harness([("access-log", log)])
        client = sidecar.connect()
        client.sends(b"\x16\x03\x01 no HTTP\r\n\r\n")
        self.assertEqual(client.gotResponse().status, 400)
        facts = json.loads(self.tick()[0])
        self.assertEqual((facts["method"], facts["path"], facts["status"]), ("-", "-", 400))
        self.assertEqual((facts["answeredBy"], facts["side"]), ("sitio", "client"))


QUOTE = '\\"'


class AnsweredByTests(LogTestCase):
    """Who made the response, with a real proxy."""

    def facts(self, *policies: Any, answer: bytes = OK) -> dict[str, Any]:
        """The line of a GET to which the upstream sends this, before it closes."""
        self.log.startService()
        sidecar = Harness([*policies, ("access-log", self.log)])
        client = sidecar.connect()
        client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        if sidecar.upstreams:
            sidecar.upstream().got()
            sidecar.upstream().sends(answer)
            sidecar.upstream().closes()
        facts: dict[str, Any] = json.loads(self.tick()[0])
        return facts

    def test_upstream(self) -> None:
        """The upstream made it."""
        facts = self.facts()
        self.assertEqual((facts["answeredBy"], facts["bytesOut"]), ("upstream", 2))

    def test_policy(self) -> None:
        """A policy replaced the upstream's response."""
        facts = self.facts(("page", onResponse(200)(lambda *_: Response(404))))
        self.assertEqual(
            (facts["answeredBy"], facts["status"], facts["upstreamStatus"]),
            ("policy page", 404, 200),
        )

    def test_answer(self) -> None:
        """A policy answered without asking the upstream."""
        facts = self.facts(("door", onRequest(lambda _: Response(403))))
        self.assertEqual((facts["answeredBy"], facts["upstreamStatus"]), ("policy door", None))
        self.assertEqual(facts["attempts"], 0)

    def test_sitio(self) -> None:
        """sitio made it, and the line has the failure: the upstream closed too early."""
        facts = self.facts(answer=b"")
        self.assertEqual(
            (facts["answeredBy"], facts["status"], facts["upstreamStatus"]), ("sitio", 502, 502)
        )
        self.assertEqual(facts["side"], "upstream")
        self.assertIn("closed", facts["failure"])

    def test_brokenOff(self) -> None:
        """A response that broke off has the status that was sent, and the failure."""
        facts = self.facts(answer=OK[:-1])
        self.assertEqual(
            (facts["answeredBy"], facts["status"], facts["upstreamStatus"]), ("upstream", 200, 200)
        )
        self.assertEqual(facts["side"], "upstream")
        self.assertIn("closed", facts["failure"])

    def test_policyFailed(self) -> None:
        """A request policy that fails has not answered: sitio sends 500."""
        facts = self.facts(("door", onRequest(lambda _: 1 / 0)))  # type: ignore[type-var]
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((facts["answeredBy"], facts["status"]), ("sitio", 500))
        self.assertEqual(facts["failure"], "the policy door failed")


class WritingTests(LogTestCase):
    """When lines are written, and what happens if they can't be."""

    def setUp(self) -> None:
        LogTestCase.setUp(self)
        self.log.startService()

    def ends(self, count: int = 1) -> None:
        """So many exchanges end."""
        for _ in range(count):
            self.log.exchangeFinished(ended())

    def fill(self) -> int:
        """Exchanges end until the queue is full; returns how many."""
        count = 0
        while self.log.droppedLines == 0:
            self.ends(BATCH_SIZE)
            count += BATCH_SIZE
        return count

    def test_interface(self) -> None:
        """It is an exchange observer."""
        verifyObject(IExchangeObserver, self.log)
        verifyObject(IDropCounts, self.log)

    def test_batches(self) -> None:
        """Lines are written together every quarter of a second; without lines nothing is."""
        self.ends(3)
        self.assertEqual(self.paper.written, b"")
        self.aside.atOnce = False
        self.assertEqual(self.tick(), [])
        self.assertEqual(len(self.aside.waiting), 1)
        self.aside.go()
        self.assertEqual(len(self.tick()), 3)
        self.assertEqual(self.aside.waiting, [])

    def test_slices(self) -> None:
        """Lines are made of a limited batch, however many exchanges end at a time."""
        made = []
        line = self.log._lines.line

        def counted(entry: Any, offset: float) -> str:
            made.append(entry)
            return line(entry, offset)

        self.patch(self.log._lines, "line", counted)
        self.ends(BATCH_SIZE - 1)
        self.assertEqual(len(made), 0)
        self.ends(1)
        self.assertEqual(len(made), BATCH_SIZE)
        self.ends(BATCH_SIZE // 2)
        self.assertEqual(len(self.tick()), BATCH_SIZE + BATCH_SIZE // 2)

    def test_order(self) -> None:
        """Lines are in the order in which exchanges ended, over batches and writes."""
        for number in range(3 * BATCH_SIZE):
            self.log.exchangeFinished(ended(f"/{number}"))
            if number % 50 == 0:
                self.tick()
        paths = [json.loads(each)["path"] for each in self.tick()]
        self.assertEqual(paths, [f"/{number}" for number in range(3 * BATCH_SIZE)])

    def test_slow(self) -> None:
        """
        During a write no other begins, and the queue is bounded; more lines are dropped,
        counted, and reported once.
        """
        self.aside.atOnce = False
        self.ends()
        self.tick()
        count = self.fill()
        self.ends(10 * BATCH_SIZE)
        self.tick(100)
        self.assertEqual(len(self.aside.waiting), 1)
        self.assertEqual(self.log.droppedLines, 11 * BATCH_SIZE)
        self.assertEqual(
            self.sayings(),
            ["The access log drops lines: lines are made faster than they can be written"],
        )
        self.assertEqual(self.said.events[0]["log_level"], LogLevel.warn)
        self.aside.atOnce = True
        self.aside.go()
        self.tick()
        self.assertEqual(len(self.paper.written.splitlines()), 1 + count - BATCH_SIZE)
        waited = len(self.paper.written)
        self.assertLess(waited, MAX_QUEUED_BYTES + (BATCH_SIZE + 1) * ATOMIC_BYTES)

    def test_failing(self) -> None:
        """
        Lines that can't be written are dropped and counted.  This is logged once, and so
        is the recovery.
        """
        self.paper.error = OSError(28, "No space left on device")
        for _ in range(20):
            self.ends(2)
            self.tick()
        self.assertEqual(droppedBy([self.log])["accessLogLines"], 40)
        self.assertEqual(
            self.sayings(),
            ["The access log drops lines: No space left on device"],
        )
        self.paper.error = None
        self.ends()
        self.assertEqual(len(self.tick()), 1)
        self.assertEqual(len(self.sayings()), 1)
        self.clock.advance(RECOVERY_SECONDS)
        self.ends()
        self.tick()
        self.assertEqual(self.sayings()[1:], ["The access log works again; 40 lines were dropped"])

    def test_mistake(self) -> None:
        """If the write raises, the lines are dropped and counted, and the next write is tried."""

        def broken(*_: Any) -> None:
            raise RuntimeError("can't start new thread")

        failing: Any = self.log
        self.aside.atOnce = False
        self.ends()
        self.tick()
        self.aside.waiting.clear()
        failing._writing.errback(Failure(ZeroDivisionError("mistake")))
        self.ends(3)
        failing._run = broken
        self.tick(10)
        self.assertEqual(self.log.droppedLines, 4)
        self.assertEqual(
            self.sayings(),
            [
                "The access log was not written",
                "The access log drops lines: mistake",
            ],
        )
        failing._run = self.aside
        self.aside.atOnce = True
        self.ends()
        self.assertEqual(len(self.tick()), 1)

    def test_reopen(self) -> None:
        """After the signal the file is opened anew at once, also if there is nothing to write."""
        [reopen] = self.onReopen
        reopen()
        self.assertTrue(self.paper.stale)
        self.aside.atOnce = False
        self.ends()
        self.tick()
        reopen()
        self.assertEqual(len(self.aside.waiting), 1)

    def test_cannotStart(self) -> None:
        """If the file can't be opened, the start fails with a sentence."""
        self.log = self.make()
        self.paper.error = FileNotFoundError(2, "No such file or directory")
        error = self.assertRaises(CannotStart, self.log.startService)
        self.assertEqual(
            str(error),
            "sitio: --access-log can't write to access.log: No such file or directory",
        )


class StopTests(LogTestCase):
    """The last lines are written when sitio stops."""

    def setUp(self) -> None:
        LogTestCase.setUp(self)
        self.log.startService()
        self.log.exchangeFinished(ended())

    def test_last(self) -> None:
        """What is not written yet is written, and the file is closed."""
        self.assertEqual(self.successResultOf(self.log.stopService()), None)
        self.assertEqual(self.paper.written.count(b"\n"), 1)
        self.assertTrue(self.paper.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.sayings(), [])

    def test_behindAnother(self) -> None:
        """Lines behind a write in progress are written after it."""
        self.aside.atOnce = False
        self.tick()
        self.log.exchangeFinished(ended())
        stopped = self.log.stopService()
        self.aside.go()
        self.assertNoResult(stopped)
        self.aside.go()
        self.successResultOf(stopped)
        self.assertEqual(self.paper.written.count(b"\n"), 2)

    def test_bounded(self) -> None:
        """A disk or a pipe that blocks delays the stop by STOP_SECONDS at most."""
        self.aside.atOnce = False
        self.tick()
        self.log.exchangeFinished(ended())
        stopped = self.log.stopService()
        # Of a line before this one, which hangs, nothing has got there.
        self.paper.left = 1
        self.clock.advance(STOP_SECONDS - 0.1)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(
            self.sayings(),
            [
                "The access log drops lines: writing the last lines takes longer than 2 seconds",
                "The access log has dropped 2 lines",
            ],
        )
        self.aside.go()
        self.assertEqual(self.paper.written.count(b"\n"), 1)

    def test_reopenLate(self) -> None:
        """A signal after the stop opens nothing."""
        self.successResultOf(self.log.stopService())
        self.aside.atOnce = False
        self.onReopen[0]()
        self.assertEqual(self.aside.waiting, [])

    def test_neverStarted(self) -> None:
        """A log that was not started can be stopped."""
        self.successResultOf(self.make().stopService())
