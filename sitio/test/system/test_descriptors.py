"""
Tests of C{twistd sitio} at its limit of file descriptors: what it does there, and that it
works afterwards as before.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

import treq

from sitio.test.helpers.loopback import (
    LIMIT_SECONDS,
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    Client,
    LoopbackTestCase,
    Process,
    ServerConnection,
    Upstream,
    descriptorsOf,
)
from sitio.test.helpers.messages import OK
from sitio.test.helpers.processes import kill

#: A process with so many descriptors gets 32 clients and 32 upstream connections.
DESCRIPTORS = 128
CLIENTS = 32

REQUEST = b"GET / HTTP/1.0\r\nHost: here\r\n\r\n"

#: A policy that takes all descriptors, and gives them back.
HOARD_POLICY = """\
import os
from sitio import Response, onRequest

hoard = []

@onRequest
def hoarding(exchange):
    if exchange.request.path == "/hoard":
        try:
            while True:
                hoard.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return Response(200, text="all")
    if exchange.request.path == "/release":
        while hoard:
            os.close(hoard.pop())
        return Response(200, text="none")
"""


class Service:
    """
    A service that answers each request at once, or not yet.

    @ivar holding: whether it keeps requests waiting.
    @ivar held: the connections with a request that waits.
    """

    def __init__(self) -> None:
        self.holding = False
        self.held: list[ServerConnection] = []

    def begin(self, script: ServerConnection) -> None:
        """Answer the requests of a connection, one after the other."""

        def asked(match: object) -> None:
            script.got.data = b""
            if self.holding:
                self.held.append(script)
            else:
                script.send(OK)
            self.begin(script)

        script.got.expect(b"\r\n\r\n").addCallbacks(asked, lambda _: None)

    def release(self) -> None:
        """Answer all."""
        self.holding = False
        while self.held:
            self.held.pop().send(OK)


class LimitCase(LoopbackTestCase):
    """A sitio with few descriptors, in front of a service in this process."""

    async def start(
        self, service: Upstream, *arguments: str, twistd: tuple[str, ...] = (), workers: int = 1
    ) -> None:
        """Start it with its admin port."""
        self.service = service
        upstream = await self.listen(service)
        self.process = self.spawn(
            *("/bin/sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh"),
            *(*TWISTD, "-n", "--pidfile=", *twistd, "sitio", "--stats-interval=0.1"),
            *(f"--admin=tcp:0:interface={LOCALHOST}", "--port", f"tcp:0:interface={LOCALHOST}"),
            *("--upstream", f"tcp:{LOCALHOST}:{upstream}", f"--workers={workers}", *arguments),
        )
        out = self.process.out
        found = await out.expect(rb"admin pages are on (http://127\.0\.0\.1:[0-9]+)/")
        self.admin = found[1].decode()
        ports = await out.waitUntil(
            lambda: len(found := re.findall(LISTENING_LINE, out.data)) >= workers and found
        )
        self.port = int(ports[0])
        self.pids = [self.process.pid]
        if workers > 1:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            self.pids = [int(each) for each in children.read_text().split()]
            for each in self.pids:
                self.addCleanup(kill, each)

    async def live(self) -> str:
        """What the admin port answers a probe of the process."""
        response = await treq.get(f"{self.admin}/live", persistent=False, timeout=LIMIT_SECONDS)
        self.assertEqual(response.code, 200)
        return await response.text()

    async def served(self) -> bytes:
        """The status of a request on a new connection."""
        client = await self.connect(self.port, REQUEST)
        await client.got.waitForEnd()
        return client.got.data[9:12]

    def descriptors(self) -> Counter[str]:
        """How many descriptors of each kind sitio has."""
        return Counter(
            target.partition(":")[0] for pid in self.pids for target in descriptorsOf(pid)
        )

    async def usual(self) -> Counter[str]:
        """
        What L{descriptors} are while nothing goes on: when all that is opened at the first
        use has been opened, and no connection is left.
        """
        for _ in range(4 * len(self.pids)):
            self.assertEqual(await self.served(), b"200")
        await self.until(lambda: all(each.got.ended for each in self.service.connections))
        return self.descriptors()

    async def countsStats(self, process: Process) -> None:
        """One more request is served, and the stats line goes on with it."""
        before = len(process.out.data)
        self.assertEqual(await self.served(), b"200")
        await process.out.waitUntil(lambda: b"stats: " in process.out.data[before:])


class ClientsTests(LimitCase):
    """More clients than descriptors."""

    async def burst(self, twistd: tuple[str, ...] = (), workers: int = 1) -> None:
        """
        Of 300 clients at once, as many as can be served are accepted; the others wait, and
        each gets its response, none a 5xx.  The admin port answers meanwhile.  At the end
        sitio has the descriptors that it had before.
        """
        service = Service()
        await self.start(Upstream(service.begin), twistd=twistd, workers=workers)
        most = workers * CLIENTS
        self.assertEqual(
            self.process.output().count(
                "A process may have 128 file descriptors open (ulimit -n):"
                " so --max-clients is 32 and --pool-size 32"
            ),
            1,
        )
        await self.live()
        before = await self.usual()
        service.holding = True
        clients = [await self.connect(self.port, REQUEST) for _ in range(300)]
        # With workers the kernel chooses, and one may not fill.
        await self.until(lambda: len(service.held) >= CLIENTS and b"wait:" in self.process.out.data)
        for _ in range(3):
            self.assertIn("alive", await self.live())
        self.assertLessEqual(len(service.held), most)
        self.assertFalse([each for each in clients if each.got.data])
        service.release()
        for client in clients:
            await client.got.waitForEnd()
        statuses = Counter(each.got.data[9:12] for each in clients)
        self.assertEqual(statuses, {b"200": 300})
        self.assertNotIn("Traceback", self.process.output())
        await self.countsStats(self.process)
        # If one was silent in the burst, the others keep copies of its listening socket.
        before["socket"] += workers * (workers - 1)
        await self.until(lambda: self.descriptors() <= before)

    async def test_uv(self) -> None:
        """On the reactor of C{twistd sitio}."""
        await self.burst()

    async def test_epoll(self) -> None:
        """On Twisted's own reactor."""
        await self.burst(("--reactor=epoll",))

    async def idle(self, *twistd: str) -> None:
        """Clients that keep idle connections make room for others within some seconds."""
        await self.start(Upstream(Service().begin), twistd=tuple(twistd))
        for _ in range(CLIENTS):
            client = await self.connect(self.port, REQUEST.replace(b"1.0", b"1.1"))
            await client.got.expect(b"^HTTP/1.1 200 ")
        for _ in range(3):
            self.assertEqual(await self.served(), b"200")
        # Fewer than 75 seconds, after which idle connections end in any case.
        process = self.process
        process.signal(signal.SIGTERM)
        await process.finish()
        self.assertNotIn("Traceback", process.output())

    async def test_idle(self) -> None:
        """On the reactor of C{twistd sitio}."""
        await self.idle()

    async def test_idleEpoll(self) -> None:
        """On Twisted's own reactor."""
        await self.idle("--reactor=epoll")

    async def test_workers(self) -> None:
        """With workers, each has its own limit."""
        await self.burst(workers=2)

    async def test_workersEpoll(self) -> None:
        """With workers on Twisted's own reactor."""
        await self.burst(("--reactor=epoll",), workers=2)


class ExhaustedTests(LimitCase):
    """No descriptor is left at all, for example because a policy has taken them."""

    async def exhaust(self, *twistd: str) -> None:
        """
        While there are none, the admin port answers, although it was not asked before; a kept
        connection is served; new clients wait and are not refused.  Afterwards all works
        as before.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "hoard.py").write_text(HOARD_POLICY)
        await self.start(
            Upstream(Service().begin), "--policy", f"file:{folder}/hoard.py", twistd=tuple(twistd)
        )
        before = await self.usual()
        kept = await self.connect(self.port)
        await self.ask(kept, b"/")
        await self.ask(kept, b"/hoard")
        for _ in range(3):
            self.assertIn("alive", await self.live())
        waiting = [await self.connect(self.port, REQUEST) for _ in range(20)]
        await self.process.out.expect(rb"New connections wait: there are no file descriptors left")
        for _ in range(3):
            await self.ask(kept, b"/")
        self.assertIn("alive", await self.live())
        # Some are served meanwhile, as probes of the admin port free one.
        self.assertLessEqual({each.got.data[9:12] for each in waiting}, {b"200", b""})
        self.assertFalse([each for each in waiting if each.got.ended and not each.got.data])
        await self.ask(kept, b"/release")
        for client in waiting:
            await client.got.waitForEnd()
        self.assertEqual({each.got.data[9:12] for each in waiting}, {b"200"})
        await self.countsStats(self.process)
        response = await treq.get(f"{self.admin}/metrics", persistent=False)
        self.assertEqual(response.code, 200)
        await response.text()
        kept.transport.loseConnection()
        await self.until(lambda: self.descriptors() <= before)
        self.assertNotIn("Traceback", self.process.output())

    async def ask(self, client: Client, path: bytes) -> None:
        """Send a request on a kept connection, and wait for its response."""
        client.got.data = b""
        client.send(b"GET %b HTTP/1.1\r\nHost: here\r\n\r\n" % path)
        await client.got.expect(b"^HTTP/1.1 200 OK\r\n")

    async def test_uv(self) -> None:
        """On the reactor of C{twistd sitio}."""
        await self.exhaust()

    async def test_epoll(self) -> None:
        """On Twisted's own reactor."""
        await self.exhaust("--reactor=epoll")
