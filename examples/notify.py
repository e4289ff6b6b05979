"""Post failed requests to a webhook: `file:examples/notify.py:url=URL`."""

from collections import deque
from typing import Any

import treq
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from sitio import Exchange
from sitio.policy.kinds import Secret

#: Time between two messages, and how many failures one lists: the last ones.
INTERVAL_SECONDS, MAX_LISTED = 10.0, 20


class Notify(Service):
    log = Logger()

    def __init__(self, url: str, client: Any = treq, clock: Any = None) -> None:
        self.url, self.client, self.clock = url, client, clock
        self.failures: deque[str] = deque(maxlen=MAX_LISTED)
        self.count = 0

    def exchangeFinished(self, exchange: Exchange) -> None:
        # The upstream's status counts: a failure may have been masked.
        status = exchange.upstreamStatus or exchange.status or 0
        if status >= 500:
            self.count += 1
            self.failures.append(f"{status} {exchange.request.method} {exchange.request.path}")

    def startService(self) -> None:
        super().startService()
        self.loop = LoopingCall(self.post)
        self.loop.clock = self.clock or self.loop.clock
        self.loop.start(INTERVAL_SECONDS, now=False)

    # Any, as the types of Twisted do not know that it may wait.
    def stopService(self) -> Any:
        super().stopService()
        self.loop.stop()
        return self.post()

    def post(self) -> Deferred[None] | None:
        if not self.count:
            return None
        text = "\n".join([f"{self.count} requests failed. The last ones:", *self.failures])
        self.count = 0
        self.failures.clear()
        posted: Deferred[Any] = self.client.post(self.url, json={"text": text}, timeout=5)
        posted.addCallback(self.client.collect, lambda data: None)
        return posted.addErrback(lambda failure: self.log.failure("The webhook failed", failure))


def makePolicy(*, url: Secret = "http://localhost:8089/") -> Notify:
    """Post failed requests to a webhook, whose URL is secret."""
    return Notify(url)
