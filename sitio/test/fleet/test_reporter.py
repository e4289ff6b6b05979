"""
Promises of L{sitio.fleet.reporter}: what a fleet dashboard gets, and what happens while
it is down.
"""

from __future__ import annotations

from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseNeverReceived
from twisted.web.iweb import IAgent
from zope.interface import implementer

from sitio.fleet.address import Address, parseAddress
from sitio.fleet.reporter import (
    FIRST_DELAY_SECONDS,
    MAX_DELAY_SECONDS,
    MAX_POSTS,
    MAX_RESPONSE_BYTES,
    POST_SECONDS,
    RESOURCES_INTERVAL_SECONDS,
    STATS_INTERVAL_SECONDS,
    STOP_SECONDS,
    Reporter,
)
from sitio.fleet.resources import Resources
from sitio.telemetry.sidecar import droppedBy
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import ended
from sitio.test.helpers.fleet import Receiver
from sitio.test.helpers.logs import LogRecorder

MACHINE: Resources = {"free_memory": 1, "total_memory": 2, "cpus": []}


@implementer(IAgent)
class Wire:
    """
    An agent to a receiver in memory.

    @ivar error: with which each request fails.
    @ivar asked: how many requests there were.
    """

    def __init__(self, receiver: Receiver) -> None:
        self.error: Exception | None = None
        self.asked = 0
        self.agent = RequestTraversalAgent(receiver)

    def request(
        self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None
    ) -> Deferred[Any]:
        """See C{IAgent}."""
        self.asked += 1
        if self.error is not None:
            return fail(self.error)
        response: Deferred[Any] = self.agent.request(method, uri, headers, bodyProducer)
        return response


class Source:
    """Gives a sidecar's metrics, and counts how often."""

    def __init__(self, clock: Clock) -> None:
        self.stats = Stats(clock)
        self.asked = 0
        self.waiting: Deferred[None] | None = None

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        """See L{ISnapshotSource<sitio.telemetry.sidecar.ISnapshotSource>}."""
        self.asked += 1
        told: Any = {"metrics": self.stats.snapshot()}
        return succeed(told)

    def hits(self, count: int = 1, target: str = "/") -> None:
        """Count so many requests."""
        for _ in range(count):
            self.stats.exchangeFinished(ended(target))


class ReporterTestCase(SynchronousTestCase):
    """A sidecar, and a fleet dashboard in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.source = Source(self.clock)
        self.receiver = Receiver()
        self.wire = Wire(self.receiver)
        self.said = LogRecorder()
        self.machine: Resources | None = MACHINE

    def started(self, address: str = "http://dashboard:8080") -> Reporter:
        """Start a reporter."""
        self.reporter = Reporter(
            self.clock,
            self.source,  # type: ignore[arg-type]
            self.wire,
            parseAddress(address),
            "pod-1",
            machine=lambda: self.machine,
            now=lambda: self.clock.seconds() + 1_000_000,
            chance=lambda: 0.0,
            log=Logger(namespace="sitio.fleet.reporter", observer=self.said),
        )
        self.reporter.startService()
        self.turns()
        return self.reporter

    def passes(self, seconds: float) -> None:
        """Let time pass, in steps in which posts are sent and answered."""
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)
            self.turns()

    def turns(self) -> None:
        """Some turns of the reactor, in which no time passes."""
        for _ in range(3 * MAX_POSTS):
            self.clock.advance(0)
            self.wire.agent.flush()

    def sayings(self) -> list[str]:
        """The log lines."""
        return [formatEvent(each) for each in self.said.events]


class PostTests(ReporterTestCase):
    """What is posted, where and when."""

    def test_stats(self) -> None:
        """Requests are posted every five seconds, in the protocol's form, if there are any."""
        self.started()
        self.source.hits(2, "/x")
        self.passes(STATS_INTERVAL_SECONDS - 0.25)
        self.assertEqual(self.receiver.count("/stats"), 0)
        self.passes(0.25)
        [(_, fields, content)] = [each for each in self.receiver.posts if each[0] == "/stats"]
        self.assertEqual(fields["content-type"], "application/json")
        self.assertEqual(list(content), ["pod", "stats"])
        self.assertEqual(content["pod"], "pod-1")
        self.assertEqual(
            content["stats"],
            [
                {
                    "endpoint": "/x",
                    "method": "GET",
                    "response": {"status": "200", "message": "OK"},
                    "time": 2.0,
                    "started": 1_000_004_998,
                    "file": False,
                }
            ]
            * 2,
        )
        self.passes(3 * STATS_INTERVAL_SECONDS)
        self.assertEqual(self.receiver.count("/stats"), 1)

    def test_resources(self) -> None:
        """Memory and processors are posted at once and every second."""
        self.started()
        self.passes(10)
        self.assertEqual(self.receiver.count("/resources"), 11)
        self.assertEqual(self.receiver.posts[0][2], {"pod": "pod-1", "resource": MACHINE})

    def test_noResources(self) -> None:
        """On a system without these values no resources are posted."""
        self.machine = None
        self.started()
        self.source.hits()
        self.passes(10)
        self.assertEqual((self.receiver.count("/resources"), self.receiver.count("/stats")), (0, 1))

    def test_address(self) -> None:
        """The address's path precedes the protocol's; its user and password are sent."""
        self.started("http://me:secret@dashboard:8080/base/")
        path, fields, _ = self.receiver.posts[0]
        self.assertEqual((path, fields["host"]), ("/base/resources", "dashboard:8080"))
        self.assertTrue(fields["authorization"].startswith("Basic "))

    def test_hosts(self) -> None:
        """The host may be a name, an IPv4 or an IPv6 address."""
        for host in ("web-1.example:81", "127.0.0.1:81", "[::1]:81", "[2001:db8::1]"):
            self.receiver.posts.clear()
            reporter = self.started(f"http://{host}/base")
            self.successResultOf(reporter.stopService())
            self.assertEqual(self.sayings(), [], host)
            [(path, fields, _)] = self.receiver.posts
            self.assertEqual((path, fields["host"]), ("/base/resources", host))

    def test_many(self) -> None:
        """More than fits into one post is sent in several, each within the size limit."""
        self.started()
        self.source.hits(2000)
        self.passes(STATS_INTERVAL_SECONDS)
        self.assertGreater(self.receiver.count("/stats"), 2)
        self.assertEqual(len(self.receiver.entries()), 2000)
        for _, fields, _ in self.receiver.posts:
            self.assertLess(int(fields["content-length"]), 100 * 1024)

    def test_tooMany(self) -> None:
        """At most so many posts follow each other; the rest waits for the next time."""
        self.started()
        self.source.hits(10_000)
        self.passes(STATS_INTERVAL_SECONDS)
        self.assertEqual(self.receiver.count("/stats"), MAX_POSTS)
        self.passes(3 * STATS_INTERVAL_SECONDS)
        self.assertEqual(len(self.receiver.entries()), 10_000)

    def test_sample(self) -> None:
        """If there are too many requests, entries are dropped, and that is logged once."""
        reporter: Any = self.started()
        reporter._backlog._most = 10
        for _ in range(3):
            self.source.hits(50)
            self.passes(STATS_INTERVAL_SECONDS)
        self.assertEqual(len(self.receiver.entries()), 30)
        self.assertEqual(droppedBy([reporter])["fleetEntries"], 120)
        self.assertEqual(
            self.sayings(),
            ["The fleet dashboard gets a sample: there are too many requests"],
        )


class DownTests(ReporterTestCase):
    """A fleet dashboard that does not accept posts."""

    def down(self, error: Exception | None = None) -> None:
        """Make it unreachable."""
        self.wire.error = error or ConnectionRefusedError()

    def test_saidOnce(self) -> None:
        """
        Its outage is logged once, and its end.  In between each kind of post is tried with
        growing delays, and no snapshot is made in vain.
        """
        self.started()
        self.passes(STATS_INTERVAL_SECONDS)
        self.source.hits(3)
        self.down()
        asked = self.wire.asked
        self.passes(600)
        self.assertEqual(
            self.sayings(),
            [
                "The fleet dashboard does not accept metrics: Connection was refused by other side;"
                " sitio tries again"
            ],
        )
        self.assertEqual(self.said.events[0]["url"], "http://dashboard:8080")
        # Two kinds: 2, 4, 8, 16, 32 and then every 60 seconds.
        self.assertLess(self.wire.asked - asked, 2 * (6 + 600 / MAX_DELAY_SECONDS))
        self.assertLess(self.source.asked, 20)
        self.wire.error = None
        self.passes(MAX_DELAY_SECONDS + STATS_INTERVAL_SECONDS)
        self.assertEqual(self.sayings()[1:], ["The fleet dashboard accepts metrics again"])
        self.assertEqual(len(self.receiver.entries()), 3)

    def test_jitter(self) -> None:
        """A delay is cut at random by up to a half."""
        for chance, rest in ((0.0, FIRST_DELAY_SECONDS), (1.0, FIRST_DELAY_SECONDS / 2)):
            self.down()
            reporter: Any = self.started()
            reporter._chance = lambda chance=chance: chance
            self.passes(RESOURCES_INTERVAL_SECONDS)
            reporter._resources.delay = FIRST_DELAY_SECONDS
            reporter._failed(reporter._resources, ConnectionRefusedError())
            self.assertEqual(reporter._resources.pausedUntil, self.clock.seconds() + rest)

    def test_atLeastOnce(self) -> None:
        """
        A batch that was not accepted is posted again unchanged, with the same key, until
        it is; later requests follow in a batch of their own.
        """
        self.started()
        self.source.hits(2)
        self.receiver.status = 500
        self.passes(STATS_INTERVAL_SECONDS)
        self.source.hits(3, "/later")
        self.receiver.status = 200
        self.passes(3 * STATS_INTERVAL_SECONDS)
        batches = [
            (fields["idempotency-key"], [each["endpoint"] for each in content["stats"]])
            for path, fields, content in self.receiver.posts
            if path == "/stats"
        ]
        self.assertEqual([each for _, each in batches], [["/"] * 2, ["/"] * 2, ["/later"] * 3])
        keys = [key for key, _ in batches]
        self.assertEqual(keys[0], keys[1])
        self.assertNotEqual(keys[1], keys[2])
        self.assertRegex(keys[0], r'^"[0-9a-f]{12}-1"$')

    def test_refusals(self) -> None:
        """Only 2xx means accepted; redirects are not followed."""
        for status in (302, 404, 413, 503):
            self.setUp()
            self.receiver.status = status
            self.started()
            self.assertEqual(
                self.sayings(),
                [
                    f"The fleet dashboard does not accept metrics: it answers {status};"
                    " sitio tries again"
                ],
            )
            self.assertEqual(len(self.receiver.posts), 1)

    def test_oneOfTwo(self) -> None:
        """If one of the two kinds of posts fails, that is logged once; the other goes on."""
        self.started()
        render = self.receiver.render_POST

        def half(request: Any) -> Any:
            self.receiver.status = 404 if request.path == b"/stats" else 200
            return render(request)

        self.patch(self.receiver, "render_POST", half)
        self.source.hits()
        self.passes(300)
        self.assertEqual(len(self.sayings()), 1)
        self.assertEqual(self.receiver.count("/resources"), 301)

    def test_silent(self) -> None:
        """
        A post without an answer is given up after a time limit; there is never more than
        one post of each kind in progress.
        """
        self.receiver.silent = True
        self.started()
        self.source.hits()
        self.passes(POST_SECONDS - 0.25)
        self.assertEqual(self.wire.asked, 1)
        self.passes(0.25)
        self.assertEqual(
            self.sayings(),
            [
                "The fleet dashboard does not accept metrics: no answer in 5 seconds;"
                " sitio tries again"
            ],
        )

    def test_longResponse(self) -> None:
        """A response that is too long is not read to its end."""
        self.receiver.body = b"x" * (2 * MAX_RESPONSE_BYTES)
        self.started()
        self.passes(5)
        self.assertEqual(self.receiver.count("/resources"), 6)

    def test_reasons(self) -> None:
        """The log has the cause, also if the agent wraps it."""
        wrapped = ResponseNeverReceived([Failure(ConnectionRefusedError("no. "))])
        self.down(wrapped)
        self.started()
        self.assertIn("metrics: Connection was refused by other side: no", self.sayings()[0])

    def test_secret(self) -> None:
        """User and password are not in the log."""
        self.down()
        self.started("http://me:secret@dashboard")
        self.assertEqual(len(self.said.events), 1)
        self.assertNotIn("secret", repr(self.said.events) + "".join(self.sayings()))
        self.assertNotIn("secret", repr(self.reporter.__dict__))

    def test_noMetrics(self) -> None:
        """If no snapshot can be made, that is logged, and the reporter tries again."""
        self.started()

        def broken() -> Any:
            raise ZeroDivisionError

        self.patch(self.source, "snapshot", broken)
        self.passes(STATS_INTERVAL_SECONDS)
        self.assertEqual(self.sayings(), ["Metrics can't be posted to the fleet dashboard"])
        self.patch(self.source, "snapshot", Source.snapshot.__get__(self.source))
        self.source.hits()
        self.passes(STATS_INTERVAL_SECONDS)
        self.assertEqual(len(self.receiver.entries()), 1)


class StopTests(ReporterTestCase):
    """What happens when sitio stops."""

    def test_last(self) -> None:
        """What is left is posted when sitio stops, and nothing after that."""
        reporter = self.started()
        self.source.hits(2)
        stopped = reporter.stopService()
        self.turns()
        self.successResultOf(stopped)
        self.assertEqual(len(self.receiver.entries()), 2)
        self.assertEqual(self.sayings(), [])
        posts = len(self.receiver.posts)
        self.passes(20)
        self.assertEqual(len(self.receiver.posts), posts)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_behindAnother(self) -> None:
        """A post in progress is waited for, and not sent a second time."""
        reporter = self.started()
        self.source.hits()
        self.receiver.silent = True
        self.passes(STATS_INTERVAL_SECONDS)
        self.assertEqual(self.receiver.count("/stats"), 1)
        stopped = reporter.stopService()
        self.assertNoResult(stopped)
        self.clock.advance(STOP_SECONDS)
        self.turns()
        self.successResultOf(stopped)
        self.assertEqual(self.receiver.count("/stats"), 1)

    def test_bounded(self) -> None:
        """A fleet dashboard that does not answer delays the end by STOP_SECONDS at most; logged."""
        reporter = self.started()
        self.source.hits()
        self.receiver.silent = True
        stopped = reporter.stopService()
        self.clock.advance(STOP_SECONDS - 0.1)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(self.sayings(), ["The fleet dashboard did not accept the last metrics"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connecting(self) -> None:
        """A connection attempt is cancelled, and that is not logged as an error of its own."""
        why = ConnectingCancelledError(IPv4Address("TCP", "192.0.2.1", 8080))
        connecting: Deferred[Any] = Deferred(lambda it: it.errback(why))
        self.patch(self.wire, "request", lambda *_: connecting)
        reporter = self.started()
        self.source.hits()
        stopped = reporter.stopService()
        self.clock.advance(STOP_SECONDS)
        self.successResultOf(stopped)
        self.assertEqual(self.sayings(), ["The fleet dashboard did not accept the last metrics"])

    def test_down(self) -> None:
        """A fleet dashboard that is known to be down is not waited for."""
        self.wire.error = ConnectionRefusedError()
        reporter = self.started()
        self.source.hits()
        self.passes(STATS_INTERVAL_SECONDS)
        self.successResultOf(reporter.stopService())
        self.assertEqual(
            self.sayings()[1:], ["The fleet dashboard did not accept the last metrics"]
        )

    def test_neverStarted(self) -> None:
        """A reporter that was not started can be stopped."""
        reporter = Reporter(self.clock, self.source, self.wire, Address("http://a"), "p")  # type: ignore[arg-type]
        self.successResultOf(reporter.stopService())
        self.assertEqual(self.wire.asked, 0)
