"""
Posts metrics to a fleet dashboard, in the protocol of the articles that sitio comes from.

The fleet dashboard is a small service to which every sidecar posts, and which shows a
card for each pod:

  - C{POST /stats}: a list with one entry for each request, every five seconds, if there
    was a request;
  - C{POST /resources}: memory and processors, every second, as a pod that is silent for
    two seconds counts as gone.

L{Reporter} posts both.  The L{Backlog<sitio.fleet.backlog.Backlog>} makes the entries of
metrics.  So entries cost a request nothing, they work for one process and for several,
and during an outage of the fleet dashboard only numbers are kept.  A batch that was not
accepted is posted again unchanged, with the same C{Idempotency-Key}: each request arrives
at least once.

Contract: clock, log, metrics and the agent that posts are passed in.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, NoReturn

from attrs import define
from treq.client import HTTPClient
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from sitio.fleet.address import Address
from sitio.fleet.backlog import Backlog
from sitio.fleet.resources import Resources, resources
from sitio.net.httpclient import PLACEHOLDER_URL, BaseURLAgent, agentByURL
from sitio.net.periodic import Periodic
from sitio.telemetry.sidecar import IDropCounts, ISnapshotSource

#: Seconds between two posts of each kind, from the protocol.
STATS_INTERVAL_SECONDS = 5.0
RESOURCES_INTERVAL_SECONDS = 1.0

#: Seconds for a post, from connecting to the end of its response.
POST_SECONDS = 5.0

#: Seconds from a failed post to the next attempt: the first delay, doubled each time up
#: to the largest.  A delay is cut at random by up to a half, so that the sidecars of a
#: cluster don't come back all at once.
FIRST_DELAY_SECONDS = 2.0
MAX_DELAY_SECONDS = 60.0

#: Seconds that the last posts may take when sitio stops.
STOP_SECONDS = 2.0

#: Posts in a row: some 5,000 entries every five seconds.
MAX_POSTS = 10

#: Bytes of a response that are read; it should have 20.
MAX_RESPONSE_BYTES = 64 * 1024


class PostFailed(Exception):
    """The fleet dashboard answered with an error, or not in time."""


class _BodyDiscarder(Protocol):
    """Reads the body of a response, up to L{MAX_RESPONSE_BYTES}, and drops it."""

    transport: Any

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred(lambda _: self.transport.loseConnection())
        self._bytes = 0

    def dataReceived(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MAX_RESPONSE_BYTES:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ended.called:
            self.ended.callback(None)


@define(eq=False)
class _Target:
    """
    One of the two paths to which the reporter posts.

    @ivar delay: seconds from the next failure to the attempt after it.
    @ivar pausedUntil: when the next attempt may be made.
    """

    path: str
    delay: float = FIRST_DELAY_SECONDS
    pausedUntil: float = float("-inf")


@implementer(IDropCounts)
class Reporter(Service):
    """
    Posts metrics to a fleet dashboard while it runs.
    """

    def __init__(
        self,
        clock: Any,
        source: ISnapshotSource,
        agent: IAgent,
        address: Address,
        pod: str,
        *,
        machine: Callable[[], Resources | None] = resources,
        now: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        log: Logger | None = None,
    ) -> None:
        """
        @param clock: an C{IReactorTime}.
        @param source: gives the metrics.
        @param agent: sends the posts.
        @param pod: the name of this pod.
        @param machine: gives memory and processors.
        @param now: gives seconds since 1970.
        @param chance: gives random numbers from 0 to 1.
        """
        self._clock = clock
        self._source = source
        self._agent = BaseURLAgent(agent, address.url)
        self._address = address
        self._pod = pod
        self._machine = machine
        self._now = now
        self._chance = chance
        self._log = Logger(namespace="sitio.fleet.reporter") if log is None else log
        self._backlog = Backlog()
        self._stats = _Target("/stats")
        self._resources = _Target("/resources")
        self._failing: set[str] = set()
        self._reportedDropped = 0
        # The batch that is not accepted yet, and its number.
        self._batch = b""
        self._number = 0
        self._prefix = os.urandom(6).hex()
        self._cooperator = Cooperator(scheduler=partial(clock.callLater, 0))
        self._statsPosts = self._periodic(STATS_INTERVAL_SECONDS, self._postStats)
        self._resourcesPosts = self._periodic(
            RESOURCES_INTERVAL_SECONDS, self._postResources, now=True
        )

    def _periodic(self, interval: float, post: Callable[[], Any], now: bool = False) -> Periodic:
        return Periodic(
            self._clock,
            interval,
            post,
            log=self._log,
            whenFails="Metrics can't be posted to the fleet dashboard",
            now=now,
        )

    @property
    def dropped(self) -> dict[str, int]:
        """See L{IDropCounts}."""
        return {"fleetEntries": self._backlog.dropped}

    def startService(self) -> None:
        """Begin to post."""
        Service.startService(self)
        self._statsPosts.startService()
        self._resourcesPosts.startService()

    async def _postResources(self) -> None:
        if self._clock.seconds() < self._resources.pausedUntil:
            return
        resource = self._machine()
        if resource is not None:
            content = json.dumps({"pod": self._pod, "resource": resource}).encode()
            await self._post(self._resources, content)

    async def _postStats(self) -> None:
        if self._clock.seconds() < self._stats.pausedUntil:
            return
        self._backlog.update((await self._source.snapshot())["metrics"])
        self._reportDropped()
        for _ in range(MAX_POSTS):
            self._batch = self._batch or self._nextBatch()
            if not self._batch or not await self._post(self._stats, self._batch):
                break
            self._batch = b""

    def _nextBatch(self) -> bytes:
        entries = self._backlog.takeEntries(self._now())
        if not entries:
            return b""
        self._number += 1
        return f'{{"pod":{json.dumps(self._pod)},"stats":[{",".join(entries)}]}}'.encode()

    def _reportDropped(self) -> None:
        if self._backlog.dropped and not self._reportedDropped:
            self._log.warn("The fleet dashboard gets a sample: there are too many requests")
        self._reportedDropped = self._backlog.dropped

    async def _post(self, target: _Target, content: bytes) -> bool:
        """Post once; returns whether it was accepted."""
        try:
            sending = Deferred.fromCoroutine(self._send(target, content))
            await sending.addTimeout(POST_SECONDS, self._clock, _late)
        except Exception as error:
            why = _causeOf(error)
            if isinstance(why, (CancelledError, ConnectingCancelledError)):
                # sitio stops.
                raise CancelledError() from error
            self._failed(target, why)
            return False
        target.delay, target.pausedUntil = FIRST_DELAY_SECONDS, float("-inf")
        if target.path in self._failing:
            self._failing.discard(target.path)
            if not self._failing:
                self._log.info("The fleet dashboard accepts metrics again")
        return True

    async def _send(self, target: _Target, content: bytes) -> None:
        headers = Headers({"Content-Type": ["application/json"], "User-Agent": ["sitio"]})
        if target is self._stats:
            headers.addRawHeader("Idempotency-Key", f'"{self._prefix}-{self._number}"')
        if self._address.authorization is not None:
            headers.addRawHeader("Authorization", self._address.authorization)
        # A new client each time, as a client keeps cookies.
        client = HTTPClient(self._agent)
        response = await client.post(
            PLACEHOLDER_URL + target.path,
            data=FileBodyProducer(BytesIO(content), self._cooperator),
            headers=headers,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,
        )
        body = _BodyDiscarder()
        response.deliverBody(body)
        await body.ended
        if response.code // 100 != 2:
            raise PostFailed(f"it answers {response.code}")

    def _failed(self, target: _Target, why: BaseException) -> None:
        target.pausedUntil = self._clock.seconds() + target.delay * (1 - self._chance() / 2)
        target.delay = min(2 * target.delay, MAX_DELAY_SECONDS)
        if not self._failing:
            self._log.warn(
                "The fleet dashboard does not accept metrics: {why}; sitio tries again",
                why=str(why).rstrip(" .") or type(why).__name__,
                url=self._address.shown,
            )
        self._failing.add(target.path)

    def stopService(self) -> Deferred[None]:
        """Post what is left, for at most L{STOP_SECONDS}."""
        Service.stopService(self)
        if not self._statsPosts.running:
            return succeed(None)
        stopped = [self._statsPosts.stopService(), self._resourcesPosts.stopService()]
        late = self._clock.callLater(STOP_SECONDS, self._giveUp)
        return Deferred.fromCoroutine(self._postLast(stopped, late))

    async def _postLast(self, stopped: list[Deferred[None]], late: IDelayedCall) -> None:
        for each in stopped:
            await each
        if late.active():
            await self._statsPosts.turn()
        if late.active():
            late.cancel()
        # Also count requests that have ended since the last post.
        self._backlog.update((await self._source.snapshot())["metrics"])
        if self._batch or self._backlog.hits:
            self._log.warn("The fleet dashboard did not accept the last metrics")

    def _giveUp(self) -> None:
        self._statsPosts.cancel()
        self._resourcesPosts.cancel()


def _late(result: object, timeout: float) -> NoReturn:
    raise PostFailed(f"no answer in {timeout:g} seconds")


def _causeOf(error: BaseException) -> BaseException:
    """The error that a ResponseFailed wraps."""
    if isinstance(error, ResponseFailed) and error.reasons:
        return _causeOf(error.reasons[0].value)
    return error


def makeReporter(reactor: Any, source: ISnapshotSource, address: Address) -> Reporter:
    """Make the reporter of this pod."""
    agent = agentByURL(reactor, POST_SECONDS)
    return Reporter(reactor, source, agent, address, socket.gethostname())
