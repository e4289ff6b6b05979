"""
Tests of policies that call C{sys.exit}: C{twistd sitio} goes on, and ends by a signal.
"""

from __future__ import annotations

import signal
from pathlib import Path

from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    LoopbackTestCase,
    Upstream,
)
from sitio.test.helpers.processes import LOOPBACK, answerEach

#: Policies that end their process, wherever they are called.
POLICIES = """\
import sys
from twisted.application.service import Service
from twisted.internet import task, threads
from zope.interface import implementer
from sitio import IRequestPolicy, onFinish, onRequest, onResponse

@onRequest
def atOnce(exchange):
    if exchange.request.path == "/at-once":
        sys.exit("now")

@onRequest
async def later(exchange):
    from twisted.internet import reactor
    if exchange.request.path == "/later":
        await task.deferLater(reactor, 0.01)
        raise KeyboardInterrupt
    if exchange.request.path == "/thread":
        await threads.deferToThread(sys.exit)

@onResponse()
def exits(exchange, response):
    response.addFilter(lambda data: sys.exit(), keepsLength=True)

@onResponse()
def judges(exchange, response):
    sys.exit()

@onFinish
def finishes(exchange):
    sys.exit()

@implementer(IRequestPolicy)
class Stops(Service):
    def requestReceived(self, exchange):
        pass

    def stopService(self):
        sys.exit()

stops = Stops()
"""


class ExitTests(LoopbackTestCase):
    """C{sys.exit} in a policy neither ends nor hangs sitio, on any reactor."""

    async def test_reactors(self) -> None:
        """Each request is answered; SIGINT and SIGTERM end the process in order."""
        path = Path(self.mktemp() + ".py").absolute()
        path.write_text(POLICIES)
        upstream = await self.listen(Upstream(answerEach))
        for options, number in (
            ([], signal.SIGINT),
            (["--reactor=epoll"], signal.SIGTERM),
        ):
            process = self.spawn(
                *(*TWISTD, "-n", "--pidfile=", *options, "sitio", "--admin="),
                *("--port", LOOPBACK, "--upstream", f"tcp:{LOCALHOST}:{upstream}"),
                *("--policy", f"file:{path}"),
            )
            port = int((await process.out.expect(LISTENING_LINE))[1])
            client = await self.connect(port)
            for target, status in (
                (b"/", b"200"),
                (b"/at-once", b"500"),
                (b"/later", b"500"),
                (b"/thread", b"500"),
                (b"/", b"200"),
            ):
                client.send(b"GET %b HTTP/1.1\r\nHost: here\r\n\r\n" % target)
                await client.got.expect(b"^HTTP/1.1 %b (?s:.*)\r\n\r\n.+" % status)
                client.got.data = b""
            process.signal(number)
            self.assertIn(await process.finish(), (0, -number))
            self.assertIn("Server Shut Down", process.output())
