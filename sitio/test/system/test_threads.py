"""
Tests of processes whose policies keep all threads of the reactor's pool busy.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

from sitio.net.threads import STOP_SECONDS
from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    Client,
    LoopbackTestCase,
    Upstream,
)
from sitio.test.helpers.processes import answerEach

#: A policy that waits in a thread, as docs/policies.md has it, and says when it does.
POLICY = """\
import time
from twisted.internet.threads import deferToThread
from sitio import onRequest

@onRequest
async def slow(exchange):
    if exchange.request.path == "/slow":
        print("slow", flush=True)
        await deferToThread(time.sleep, 20)
"""

SLOW = b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n"

#: The connection is not kept, so that each request needs a new one.
FAST = b"GET /fast HTTP/1.1\r\nHost: here\r\n\r\n"

#: More than the pool has threads.
CALLS = 40

#: Seconds of C{--grace}.
GRACE = 1


class BusyThreadsTestCase(LoopbackTestCase):
    """C{twistd sitio} with a policy of slow calls, on one reactor."""

    #: The reactor, as C{twistd --reactor} names it, and what clients of the upstream use.
    reactorName = "uv"
    upstream = "tcp:localhost:{port}"

    async def test_others(self) -> None:
        """Slow calls of a policy delay neither other requests, nor the metrics, nor the end."""
        policy = Path(self.mktemp()).absolute()
        policy.mkdir()
        (policy / "slow.py").write_text(POLICY)
        port = await self.listen(Upstream(answerEach))
        process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", f"--reactor={self.reactorName}", "sitio"),
            *(f"--admin=tcp:0:interface={LOCALHOST}", f"--policy=file:{policy}/slow.py"),
            *("--port", f"tcp:0:interface={LOCALHOST}", "--upstream-idle-timeout=0"),
            f"--grace={GRACE}",
            *("--upstream", self.upstream.format(port=port)),
        )
        port = int((await process.out.expect(LISTENING_LINE))[1])
        admin = int((await process.out.expect(rb"pages are on http://[0-9.]+:([0-9]+)/"))[1])
        for _ in range(CALLS):
            await self.connect(port, SLOW)
        # Not the line at the start, which ends with the name of the policy.
        await process.out.waitUntil(lambda: process.out.data.count(b"] slow\n") == CALLS)
        since = time.monotonic()
        for _ in range(5):
            await self.answered(await self.connect(port, FAST))
        page = await self.connect(admin, b"GET /metrics HTTP/1.0\r\nHost: here\r\n\r\n")
        await self.answered(page)
        self.assertLess(time.monotonic() - since, 5)
        since = time.monotonic()
        process.signal(signal.SIGTERM)
        await process.finish()
        self.assertLess(time.monotonic() - since, GRACE + STOP_SECONDS + 3)

    async def answered(self, client: Client) -> None:
        """Wait for a response, which is good."""
        await client.got.expect(rb"\AHTTP/1\.[01] 200 ")


class UvTests(BusyThreadsTestCase):
    """The reactor on uvloop."""


class EpollTests(BusyThreadsTestCase):
    """Twisted's reactor on epoll."""

    reactorName = "epoll"


del BusyThreadsTestCase
