"""
Promises of L{sitio.fleet.reporter}: what a dashboard gets, and that one which takes
nothing costs nothing.
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

from sitio.fleet.address import Address, addressOf
from sitio.fleet.reporter import (
    FIRST_DELAY,
    MAX_DELAY,
    MAX_POSTS,
    MAX_RESPONSE,
    PATIENCE,
    RESOURCES_INTERVAL,
    STATS_INTERVAL,
    TIMEOUT,
    Dashboard,
)
from sitio.fleet.resources import Resources
from sitio.telemetry.sidecar import droppedBy
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import ended
from sitio.test.helpers.fleet import Receiver
from sitio.test.helpers.logs import Noted

MACHINE: Resources = {"free_memory": 1, "total_memory": 2, "cpus": []}


@implementer(IAgent)
class Wire:
    """
    An agent to a receiver in memory.

    @ivar error: why nobody can be reached.
    @ivar asked: how many times somebody was to be.
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
    """A sidecar's metrics; how often they were asked for."""

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
        """So many requests."""
        for _ in range(count):
            self.stats.exchangeFinished(ended(target))


class DashboardTestCase(SynchronousTestCase):
    """A sidecar, and a dashboard in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.source = Source(self.clock)
        self.receiver = Receiver()
        self.wire = Wire(self.receiver)
        self.said = Noted()
        self.machine: Resources | None = MACHINE

    def started(self, address: str = "http://dashboard:8080") -> Dashboard:
        """One that posts."""
        self.dashboard = Dashboard(
            self.clock,
            self.source,  # type: ignore[arg-type]
            self.wire,
            addressOf(address),
            "pod-1",
            machine=lambda: self.machine,
            now=lambda: self.clock.seconds() + 1_000_000,
            chance=lambda: 0.0,
            log=Logger(namespace="sitio.fleet.reporter", observer=self.said),
        )
        self.dashboard.startService()
        self.turns()
        return self.dashboard

    def passes(self, seconds: float) -> None:
        """Let time pass, in steps in which posts go out and responses may come."""
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)
            self.turns()

    def turns(self) -> None:
        """Some turns of the reactor, in no time."""
        for _ in range(3 * MAX_POSTS):
            self.clock.advance(0)
            self.wire.agent.flush()

    def sayings(self) -> list[str]:
        """What was said in the log."""
        return [formatEvent(each) for each in self.said.events]


class PostTests(DashboardTestCase):
    """What is posted, where to, and when."""

    def test_stats(self) -> None:
        """Requests are posted every five seconds, in the protocol's form, and only if there are."""
        self.started()
        self.source.hits(2, "/x")
        self.passes(STATS_INTERVAL - 0.25)
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
        self.passes(3 * STATS_INTERVAL)
        self.assertEqual(self.receiver.count("/stats"), 1)

    def test_resources(self) -> None:
        """Memory and processors are posted at once and every second: silence is taken for gone."""
        self.started()
        self.passes(10)
        self.assertEqual(self.receiver.count("/resources"), 11)
        self.assertEqual(self.receiver.posts[0][2], {"pod": "pod-1", "resource": MACHINE})

    def test_noResources(self) -> None:
        """Where there is nothing to tell of the machine, nothing is posted of it."""
        self.machine = None
        self.started()
        self.source.hits()
        self.passes(10)
        self.assertEqual((self.receiver.count("/resources"), self.receiver.count("/stats")), (0, 1))

    def test_address(self) -> None:
        """The path of the address stands before those of the protocol; a user is told as such."""
        self.started("http://me:secret@dashboard:8080/base/")
        path, fields, _ = self.receiver.posts[0]
        self.assertEqual((path, fields["host"]), ("/base/resources", "dashboard:8080"))
        self.assertTrue(fields["authorization"].startswith("Basic "))

    def test_hosts(self) -> None:
        """A dashboard may be at a name, or an address of either version."""
        for host in ("web-1.example:81", "127.0.0.1:81", "[::1]:81", "[2001:db8::1]"):
            self.receiver.posts.clear()
            dashboard = self.started(f"http://{host}/base")
            self.successResultOf(dashboard.stopService())
            self.assertEqual(self.sayings(), [], host)
            [(path, fields, _)] = self.receiver.posts
            self.assertEqual((path, fields["host"]), ("/base/resources", host))

    def test_many(self) -> None:
        """More than fits into one post goes in several, each of which a dashboard takes."""
        self.started()
        self.source.hits(2000)
        self.passes(STATS_INTERVAL)
        self.assertGreater(self.receiver.count("/stats"), 2)
        self.assertEqual(len(self.receiver.entries()), 2000)
        for _, fields, _ in self.receiver.posts:
            self.assertLess(int(fields["content-length"]), 100 * 1024)

    def test_tooMany(self) -> None:
        """What is more than may be posted in a row waits for the next time."""
        self.started()
        self.source.hits(10_000)
        self.passes(STATS_INTERVAL)
        self.assertEqual(self.receiver.count("/stats"), MAX_POSTS)
        self.passes(3 * STATS_INTERVAL)
        self.assertEqual(len(self.receiver.entries()), 10_000)

    def test_sample(self) -> None:
        """That there are more requests than can be told is said, once."""
        dashboard: Any = self.started()
        dashboard._ledger._most = 10
        for _ in range(3):
            self.source.hits(50)
            self.passes(STATS_INTERVAL)
        self.assertEqual(len(self.receiver.entries()), 30)
        self.assertEqual(droppedBy([dashboard])["fleetEntries"], 120)
        self.assertEqual(
            self.sayings(),
            ["There are more requests than a dashboard can be told: it gets a sample"],
        )


class DownTests(DashboardTestCase):
    """A dashboard that takes nothing."""

    def down(self, error: Exception | None = None) -> None:
        """From now on it can't be reached."""
        self.wire.error = error or ConnectionRefusedError()

    def test_saidOnce(self) -> None:
        """
        Its outage is said once, and its end; in between each kind of post is tried at
        growing distances, and nobody asks for metrics in vain.
        """
        self.started()
        self.passes(STATS_INTERVAL)
        self.source.hits(3)
        self.down()
        asked = self.wire.asked
        self.passes(600)
        self.assertEqual(
            self.sayings(),
            [
                "The dashboard does not take metrics: Connection was refused by other side;"
                " they are posted when it does"
            ],
        )
        self.assertEqual(self.said.events[0]["url"], "http://dashboard:8080")
        # Two kinds: 2, 4, 8, 16, 32 and then every 60 seconds.
        self.assertLess(self.wire.asked - asked, 2 * (6 + 600 / MAX_DELAY))
        self.assertLess(self.source.asked, 20)
        self.wire.error = None
        self.passes(MAX_DELAY + STATS_INTERVAL)
        self.assertEqual(self.sayings()[1:], ["The dashboard takes metrics again"])
        self.assertEqual(len(self.receiver.entries()), 3)

    def test_jitter(self) -> None:
        """Up to half of a pause is left off at random."""
        for chance, rest in ((0.0, FIRST_DELAY), (1.0, FIRST_DELAY / 2)):
            self.down()
            dashboard: Any = self.started()
            dashboard._chance = lambda chance=chance: chance
            self.passes(RESOURCES_INTERVAL)
            dashboard._resources.delay = FIRST_DELAY
            dashboard._failed(dashboard._resources, ConnectionRefusedError())
            self.assertEqual(dashboard._resources.rests, self.clock.seconds() + rest)

    def test_atLeastOnce(self) -> None:
        """
        A batch that may or may not have been taken is posted again as it was, and with
        the same key, until it is; what comes meanwhile follows it.
        """
        self.started()
        self.source.hits(2)
        self.receiver.status = 500
        self.passes(STATS_INTERVAL)
        self.source.hits(3, "/later")
        self.receiver.status = 200
        self.passes(3 * STATS_INTERVAL)
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
        """A status other than one of success is no success, and no redirect is followed."""
        for status in (302, 404, 413, 503):
            self.setUp()
            self.receiver.status = status
            self.started()
            self.assertEqual(
                self.sayings(),
                [
                    f"The dashboard does not take metrics: it answers {status};"
                    " they are posted when it does"
                ],
            )
            self.assertEqual(len(self.receiver.posts), 1)

    def test_oneOfTwo(self) -> None:
        """One that takes the one kind and not the other fails, and that is said once."""
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
        One that does not answer is given up after a while, and never more is under
        way than one post of each kind.
        """
        self.receiver.silent = True
        self.started()
        self.source.hits()
        self.passes(TIMEOUT - 0.25)
        self.assertEqual(self.wire.asked, 1)
        self.passes(0.25)
        self.assertEqual(
            self.sayings(),
            [
                "The dashboard does not take metrics: no answer in 5 seconds;"
                " they are posted when it does"
            ],
        )

    def test_longResponse(self) -> None:
        """A response without end is not read to its end."""
        self.receiver.body = b"x" * (2 * MAX_RESPONSE)
        self.started()
        self.passes(5)
        self.assertEqual(self.receiver.count("/resources"), 6)

    def test_reasons(self) -> None:
        """Why it failed is said in plain words, also where the agent wraps it."""
        wrapped = ResponseNeverReceived([Failure(ConnectionRefusedError("no. "))])
        self.down(wrapped)
        self.started()
        self.assertIn("metrics: Connection was refused by other side: no", self.sayings()[0])

    def test_secret(self) -> None:
        """User and password of an address are not in what is said."""
        self.down()
        self.started("http://me:secret@dashboard")
        self.assertEqual(len(self.said.events), 1)
        self.assertNotIn("secret", repr(self.said.events) + "".join(self.sayings()))
        self.assertNotIn("secret", repr(self.dashboard.__dict__))

    def test_noFigures(self) -> None:
        """Metrics that can't be had are said in the log, and asked for again."""
        self.started()

        def broken() -> Any:
            raise ZeroDivisionError

        self.patch(self.source, "snapshot", broken)
        self.passes(STATS_INTERVAL)
        self.assertEqual(self.sayings(), ["Metrics can't be posted to the dashboard"])
        self.patch(self.source, "snapshot", Source.snapshot.__get__(self.source))
        self.source.hits()
        self.passes(STATS_INTERVAL)
        self.assertEqual(len(self.receiver.entries()), 1)


class StopTests(DashboardTestCase):
    """The end."""

    def test_last(self) -> None:
        """What was not posted yet is posted when sitio stops, and nothing after that."""
        dashboard = self.started()
        self.source.hits(2)
        stopped = dashboard.stopService()
        self.turns()
        self.successResultOf(stopped)
        self.assertEqual(len(self.receiver.entries()), 2)
        self.assertEqual(self.sayings(), [])
        posts = len(self.receiver.posts)
        self.passes(20)
        self.assertEqual(len(self.receiver.posts), posts)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_behindAnother(self) -> None:
        """A batch under way is waited for, and not posted a second time."""
        dashboard = self.started()
        self.source.hits()
        self.receiver.silent = True
        self.passes(STATS_INTERVAL)
        self.assertEqual(self.receiver.count("/stats"), 1)
        stopped = dashboard.stopService()
        self.assertNoResult(stopped)
        self.clock.advance(PATIENCE)
        self.turns()
        self.successResultOf(stopped)
        self.assertEqual(self.receiver.count("/stats"), 1)

    def test_bounded(self) -> None:
        """One that does not answer holds up the end for a moment only, and that is said."""
        dashboard = self.started()
        self.source.hits()
        self.receiver.silent = True
        stopped = dashboard.stopService()
        self.clock.advance(PATIENCE - 0.1)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(self.sayings(), ["The dashboard has not taken the last metrics"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connecting(self) -> None:
        """One that is still being connected to is given up, which is no failure of its own."""
        why = ConnectingCancelledError(IPv4Address("TCP", "192.0.2.1", 8080))
        connecting: Deferred[Any] = Deferred(lambda it: it.errback(why))
        self.patch(self.wire, "request", lambda *_: connecting)
        dashboard = self.started()
        self.source.hits()
        stopped = dashboard.stopService()
        self.clock.advance(PATIENCE)
        self.successResultOf(stopped)
        self.assertEqual(self.sayings(), ["The dashboard has not taken the last metrics"])

    def test_down(self) -> None:
        """One that is known to be down is not waited for."""
        self.wire.error = ConnectionRefusedError()
        dashboard = self.started()
        self.source.hits()
        self.passes(STATS_INTERVAL)
        self.successResultOf(dashboard.stopService())
        self.assertEqual(self.sayings()[1:], ["The dashboard has not taken the last metrics"])

    def test_neverStarted(self) -> None:
        """What was not started can be stopped."""
        dashboard = Dashboard(self.clock, self.source, self.wire, Address("http://a"), "p")  # type: ignore[arg-type]
        self.successResultOf(dashboard.stopService())
        self.assertEqual(self.wire.asked, 0)
