"""
Metrics for a dashboard elsewhere, in the protocol of the articles that sitio is from:
every sidecar posts what passed through it to a small service, which shows a card for
each pod.

  - C{POST /stats}: a list with one entry for each request, every five seconds in
    which there was one;
  - C{POST /resources}: memory and processors, every second, as a pod that is silent
    for two is taken for gone.

L{Dashboard} posts them.  The entries are made of the metrics, by the
L{Backlog<sitio.fleet.backlog.Backlog>}: so they cost a request nothing, hold for one process
and for many, and an outage of the dashboard leaves numbers behind and not a heap of
entries.  A batch that was not taken is posted again as it was, with the same
C{Idempotency-Key}, until it is: each hit arrives at least once.

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

#: Seconds between two posts of each kind: the protocol's.
STATS_INTERVAL = 5.0
RESOURCES_INTERVAL = 1.0

#: Seconds for a post, from the connection to the end of its response.
TIMEOUT = 5.0

#: Seconds until the next attempt after one that failed, and what that grows to,
#: doubled each time; up to half of it is left off at random, so that the sidecars of
#: a cluster don't come back all at a time.
FIRST_DELAY = 2.0
MAX_DELAY = 60.0

#: Seconds for the last metrics when sitio stops.
PATIENCE = 2.0

#: Posts in a row: some 5,000 requests every five seconds.
MAX_POSTS = 10

#: Bytes of a response; it has 20.
MAX_RESPONSE = 64 * 1024


class NotTaken(Exception):
    """The dashboard has answered, but not that it has taken a post."""


class _Rest(Protocol):
    """What a response has beyond its head: read as far as it may go, and dropped."""

    transport: Any

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred(lambda _: self.transport.loseConnection())
        self._bytes = 0

    def dataReceived(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MAX_RESPONSE:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ended.called:
            self.ended.callback(None)


@define(eq=False)
class _Way:
    """
    One of the two that posts go.

    @ivar delay: seconds until the next attempt, should the next one fail.
    @ivar rests: until when there is none.
    """

    path: str
    delay: float = FIRST_DELAY
    rests: float = float("-inf")


@implementer(IDropCounts)
class Dashboard(Service):
    """
    Posts to a dashboard while it runs.
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
        @param source: where the metrics are.
        @param pod: the name of this pod.
        @param machine: tells what there is of memory and processors.
        @param now: seconds since 1970.
        @param chance: from 0 to 1.
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
        self._ledger = Backlog()
        self._stats = _Way("/stats")
        self._resources = _Way("/resources")
        self._failing: set[str] = set()
        self._leftOut = 0
        # A batch that was not taken yet, and its number.
        self._batch = b""
        self._number = 0
        self._prefix = os.urandom(6).hex()
        self._cooperator = Cooperator(scheduler=partial(clock.callLater, 0))
        self._statsPosts = self._periodic(STATS_INTERVAL, self._postStats)
        self._resourcesPosts = self._periodic(RESOURCES_INTERVAL, self._postResources, now=True)

    def _periodic(self, interval: float, post: Callable[[], Any], now: bool = False) -> Periodic:
        return Periodic(
            self._clock,
            interval,
            post,
            log=self._log,
            whenFails="Metrics can't be posted to the dashboard",
            now=now,
        )

    @property
    def dropped(self) -> dict[str, int]:
        """See L{IDropCounts}."""
        return {"fleetEntries": self._ledger.leftOut}

    def startService(self) -> None:
        """From now on."""
        Service.startService(self)
        self._statsPosts.startService()
        self._resourcesPosts.startService()

    async def _postResources(self) -> None:
        if self._clock.seconds() < self._resources.rests:
            return
        resource = self._machine()
        if resource is not None:
            content = json.dumps({"pod": self._pod, "resource": resource}).encode()
            await self._post(self._resources, content)

    async def _postStats(self) -> None:
        if self._clock.seconds() < self._stats.rests:
            return
        self._ledger.count((await self._source.snapshot())["metrics"])
        self._sayLeftOut()
        for _ in range(MAX_POSTS):
            self._batch = self._batch or self._nextBatch()
            if not self._batch or not await self._post(self._stats, self._batch):
                break
            self._batch = b""

    def _nextBatch(self) -> bytes:
        entries = self._ledger.entries(self._now())
        if not entries:
            return b""
        self._number += 1
        return f'{{"pod":{json.dumps(self._pod)},"stats":[{",".join(entries)}]}}'.encode()

    def _sayLeftOut(self) -> None:
        if self._ledger.leftOut and not self._leftOut:
            self._log.warn("There are more requests than a dashboard can be told: it gets a sample")
        self._leftOut = self._ledger.leftOut

    async def _post(self, way: _Way, content: bytes) -> bool:
        """Whether it was taken."""
        try:
            sending = Deferred.fromCoroutine(self._send(way, content))
            await sending.addTimeout(TIMEOUT, self._clock, _late)
        except Exception as error:
            why = _causeOf(error)
            if isinstance(why, (CancelledError, ConnectingCancelledError)):
                # As sitio stops.
                raise CancelledError() from error
            self._failed(way, why)
            return False
        way.delay, way.rests = FIRST_DELAY, float("-inf")
        if way.path in self._failing:
            self._failing.discard(way.path)
            if not self._failing:
                self._log.info("The dashboard takes metrics again")
        return True

    async def _send(self, way: _Way, content: bytes) -> None:
        headers = Headers({"Content-Type": ["application/json"], "User-Agent": ["sitio"]})
        if way is self._stats:
            headers.addRawHeader("Idempotency-Key", f'"{self._prefix}-{self._number}"')
        if self._address.authorization is not None:
            headers.addRawHeader("Authorization", self._address.authorization)
        # A new one each time keeps no cookies.
        client = HTTPClient(self._agent)
        response = await client.post(
            PLACEHOLDER_URL + way.path,
            data=FileBodyProducer(BytesIO(content), self._cooperator),
            headers=headers,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,
        )
        rest = _Rest()
        response.deliverBody(rest)
        await rest.ended
        if response.code // 100 != 2:
            raise NotTaken(f"it answers {response.code}")

    def _failed(self, way: _Way, why: BaseException) -> None:
        way.rests = self._clock.seconds() + way.delay * (1 - self._chance() / 2)
        way.delay = min(2 * way.delay, MAX_DELAY)
        if not self._failing:
            self._log.warn(
                "The dashboard does not take metrics: {why}; they are posted when it does",
                why=str(why).rstrip(" .") or type(why).__name__,
                url=self._address.url,
            )
        self._failing.add(way.path)

    def stopService(self) -> Deferred[None]:
        """Post what was not posted yet, for L{PATIENCE} at most, unless nobody takes it."""
        Service.stopService(self)
        if not self._statsPosts.running:
            return succeed(None)
        stopped = [self._statsPosts.stopService(), self._resourcesPosts.stopService()]
        late = self._clock.callLater(PATIENCE, self._giveUp)
        return Deferred.fromCoroutine(self._postLast(stopped, late))

    async def _postLast(self, stopped: list[Deferred[None]], late: IDelayedCall) -> None:
        for each in stopped:
            await each
        if late.active():
            await self._statsPosts.turn()
        if late.active():
            late.cancel()
        # What has come since is not posted either.
        self._ledger.count((await self._source.snapshot())["metrics"])
        if self._batch or self._ledger.hits:
            self._log.warn("The dashboard has not taken the last metrics")

    def _giveUp(self) -> None:
        self._statsPosts.cancel()
        self._resourcesPosts.cancel()


def _late(result: object, timeout: float) -> NoReturn:
    raise NotTaken(f"no answer in {timeout:g} seconds")


def _causeOf(error: BaseException) -> BaseException:
    """What is wrapped in it, which says more."""
    if isinstance(error, ResponseFailed) and error.reasons:
        return _causeOf(error.reasons[0].value)
    return error


def dashboard(reactor: Any, source: ISnapshotSource, address: Address) -> Dashboard:
    """One on a reactor, for this pod."""
    agent = agentByURL(reactor, TIMEOUT)
    return Dashboard(reactor, source, agent, address, socket.gethostname())
