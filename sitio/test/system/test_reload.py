"""
Tests of reloads of whole processes: under load, with mistakes, with workers, and as Kubernetes
changes files.

C{SITIO_RELOADS=60} makes the first of them shorter.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory

from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    Client,
    LoopbackTestCase,
    Process,
    ServerConnection,
    Upstream,
    reactor,
)

#: Reloads under load.
RELOADS = int(os.environ.get("SITIO_RELOADS", "500"))

#: Those that come first, until the memory is what it is in the long run.
WARM = 20

#: Bytes by which memory may grow.
MAX_GROWTH = 5_000_000

#: Clients that send one request after the other.
CLIENTS = 6

#: Writes its number into each request, as the upstream gets it, and into each response.
STAMP = """\
from sitio import onRequest, onSend

GENERATION = "{number}"

@onRequest
def stampRequest(exchange):
    exchange.request.headers["X-Generation"] = GENERATION

@onSend
def stampResponse(exchange, response):
    response.headers["X-Generation"] = GENERATION
"""

#: A policy whose self-test fails.
FAILING = """\
from sitio import ISelfTest, Response, onRequest
from zope.interface import implementer

@implementer(ISelfTest)
class Guard:
    async def selfTest(self):
        raise LookupError("no keys")

    def requestReceived(self, exchange):
        pass

guard = Guard()
"""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n"
UPGRADE = b"GET /talk HTTP/1.1\r\nHost: here\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n"


class Service(ServerConnection):
    """
    A connection of the service: tells which generation a request had, and streams events.

    @ivar isTunnel: whether it echoes what comes.
    """

    isTunnel = False

    def dataReceived(self, data: bytes) -> None:
        if self.isTunnel:
            self.transport.write(data)
            return
        self.got.add(data)
        while (end := self.got.data.find(b"\r\n\r\n")) >= 0:
            head, self.got.data = self.got.data[:end], self.got.data[end + 4 :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"GET /talk "):
            self.isTunnel = True
            self.transport.write(SWITCH)
        elif head.startswith(b"GET /events "):
            self.transport.write(HEAD)
        else:
            found = re.search(rb"(?i)x-generation: (\w+)", head)
            seen = b"-" if found is None else found[1]
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nX-Seen: %b\r\nContent-Length: 2\r\n\r\nhi" % seen
            )


class Services(Upstream):
    """The service."""

    def buildProtocol(self, addr: object) -> ServerConnection:
        made = Service(None)
        self.connections.append(made)
        return made


def residentMemoryOf(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class ReloadTestCase(LoopbackTestCase):
    """C{twistd sitio --config}, with an admin port on a UNIX socket."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.folder = self.shortFolder()
        self.service = Services()
        self.upstream = await self.listen(self.service)
        self.number = 1
        self.stamp()
        self.configure()

    def stamp(self, number: int = 1) -> None:
        """Write the policy of a generation."""
        (self.folder / "stamp.py").write_text(STAMP.format(number=number))

    def configure(self, extra: str = "", listener: str = f"{LOCALHOST}:0", top: str = "") -> None:
        """Write the configuration."""
        (self.folder / "sitio.toml").write_text(
            f'policies = ["file:stamp.py"]\nstats-interval = 0\n{top}\n'
            f'[listener]\naddress = "{listener}"\n[admin]\naddress = "unix:admin.sock"\n'
            f'[upstream]\naddress = "{LOCALHOST}:{self.upstream}"\n{extra}\n'
        )

    async def start(self, *arguments: str) -> None:
        """Start sitio."""
        self.process: Process = self.spawn(
            *(*TWISTD, "-n", "--pidfile=", "sitio", "--config", "sitio.toml", *arguments),
            cwd=str(self.folder),
        )
        self.port = int((await self.process.out.expect(LISTENING_LINE))[1])
        await self.process.out.expect(b"admin pages are on")

    async def ask(self, line: str) -> bytes:
        """Ask for a page of the admin port."""
        endpoint = UNIXClientEndpoint(reactor, str(self.folder / "admin.sock"))
        client: Client = await endpoint.connect(Factory.forProtocol(Client))
        client.send(f"{line} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        await client.got.waitForEnd()
        return client.got.data

    async def reload(self) -> tuple[int, str]:
        """Reload; returns the status, and what the page says."""
        head, _, body = (await self.ask("POST /reload")).partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    async def generation(self, port: int = 0) -> str:
        """The number that a response has, which is that of its request."""
        client = await self.connect(port or self.port)
        return await self.exchange(client)

    async def exchange(self, client: Client) -> str:
        """Send a request, and take its response; returns the generation of both."""
        client.got.data = b""
        client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await client.got.expect(rb"\r\n\r\nhi$")
        data = client.got.data
        self.assertTrue(data.startswith(b"HTTP/1.1 200 OK\r\n"), data)
        seen = re.search(rb"X-Seen: (\w+)", data)
        sent = re.search(rb"X-Generation: (\w+)", data)
        assert seen is not None and sent is not None, data
        self.assertEqual(seen[1], sent[1])
        return sent[1].decode()


class LoadTests(ReloadTestCase):
    """Reloads under load."""

    timeout = 600

    async def test_many(self) -> None:
        """
        No request fails, none has parts of two generations; a tunnel and a stream of events live
        on; memory does not grow.
        """
        await self.start("--no-watch")
        tunnel = await self.connect(self.port, UPGRADE)
        await tunnel.got.expect(rb"101 Switching")
        events = await self.connect(self.port, b"GET /events HTTP/1.1\r\nHost: here\r\n\r\n")
        await events.got.expect(rb"event-stream")
        stream = self.service.connections[1]
        self.isOver = False
        seen: list[set[str]] = [set() for _ in range(CLIENTS)]
        clients = [Deferred.fromCoroutine(self.keepAsking(each)) for each in seen]
        before = 0
        for number in range(2, RELOADS + 2):
            if number == WARM:
                before = residentMemoryOf(self.process.pid)
            self.stamp(number)
            self.assertEqual(
                await self.reload(),
                (200, f"sitio uses generation {number} of its configuration\n"),
            )
            stream.send(b"data: %d\n\n" % number)
            tunnel.send(b"<%d>" % number)
        self.isOver = True
        await gatherResults(clients)
        grown = residentMemoryOf(self.process.pid) - before
        self.assertLess(grown, MAX_GROWTH)
        await tunnel.got.expect(rb"<%d>" % (RELOADS + 1))
        await events.got.expect(rb"data: %d\n" % (RELOADS + 1))
        self.assertEqual(len(re.findall(rb"<\d+>", tunnel.got.data)), RELOADS)
        for each in seen:
            self.assertGreater(len(each), RELOADS / 4)
        self.assertNotIn("Traceback", self.process.output())
        config = await self.ask("GET /config")
        self.assertIn(b'"generation": %d' % (RELOADS + 1), config)

    async def keepAsking(self, seen: set[str]) -> None:
        """Send requests on one connection."""
        client = await self.connect(self.port)
        while not self.isOver:
            seen.add(await self.exchange(client))


class MistakeTests(ReloadTestCase):
    """What can't be used changes nothing."""

    async def test_mistakes(self) -> None:
        """A broken file, a failing self-test, a port that is taken: told, until all is good."""
        await self.start("--no-watch")
        taken = await self.listen(Services())
        (self.folder / "failing.py").write_text(FAILING)
        for more, said in (
            ({"extra": "routs = 1"}, r"sitio\.toml:10: upstream\.routs: there is no such key"),
            ({"extra": '[[routes]]\npolicies = ["file:failing.py"]'}, "guard fails: LookupError"),
            ({"listener": f"{LOCALHOST}:{taken}"}, "can't listen on port .*: Address already"),
        ):
            self.stamp(2)
            self.configure(**more)
            status, text = await self.reload()
            self.assertEqual(status, 422)
            self.assertRegex(text, said)
            self.assertEqual(await self.generation(), "1")
            metrics = await self.ask("GET /metrics")
            self.assertIn(b"\nsitio_config_last_reload_successful 0.0\n", metrics)
            self.assertIn(b"\nsitio_config_generation 1.0\n", metrics)
            self.assertRegex((await self.ask("GET /config")).decode(), said)
            self.assertRegex(self.process.output(), said)
        self.configure()
        self.assertEqual((await self.reload())[0], 200)
        self.assertEqual(await self.generation(), "2")
        metrics = await self.ask("GET /metrics")
        self.assertIn(b"\nsitio_config_last_reload_successful 1.0\n", metrics)
        self.assertNotIn(b"refused", await self.ask("GET /config"))

    async def test_ports(self) -> None:
        """A port may be replaced by another; connections of the old one live on."""
        await self.start("--no-watch")
        client = await self.connect(self.port)
        self.assertEqual(await self.exchange(client), "1")
        self.stamp(2)
        self.configure(listener="127.0.0.2:0")
        self.assertEqual((await self.reload())[0], 200)
        self.assertEqual(await self.exchange(client), "2")
        await self.process.out.expect(rb"takes requests on 127\.0\.0\.2:")
        await self.assertFailure(
            Deferred.fromCoroutine(self.connect(self.port)), ConnectionRefusedError
        )


class WatchTests(ReloadTestCase):
    """Files that change."""

    async def test_policy(self) -> None:
        """A policy file that was changed is in use soon after, and so is the configuration."""
        await self.start()
        self.stamp(2)
        await self.process.out.expect(rb"\(files have changed\): generation 2 is in use")
        self.assertEqual(await self.generation(), "2")
        self.configure(top="forwarded = { via = true }\n")
        await self.process.out.expect(rb"\(files have changed\): generation 3 is in use")

    async def test_symlinks(self) -> None:
        """Kubernetes replaces a symbolic link above the files of a ConfigMap."""
        text = (self.folder / "sitio.toml").read_text()
        for number in (1, 2):
            version = self.folder / f"..version{number}"
            version.mkdir()
            (version / "sitio.toml").write_text(text)
            (version / "stamp.py").write_text(STAMP.format(number=number))
        (self.folder / "..data").symlink_to("..version1")
        for name in ("sitio.toml", "stamp.py"):
            (self.folder / name).unlink()
            (self.folder / name).symlink_to(f"..data/{name}")
        await self.start()
        self.assertEqual(await self.generation(), "1")
        (self.folder / "..tmp").symlink_to("..version2")
        (self.folder / "..tmp").rename(self.folder / "..data")
        await self.process.out.expect(rb"generation 2 is in use")
        self.assertEqual(await self.generation(), "2")

    async def test_signal(self) -> None:
        """SIGHUP has the files read, also if nobody watches them."""
        await self.start("--no-watch")
        self.stamp(2)
        self.process.signal(signal.SIGHUP)
        await self.process.out.expect(rb"\(SIGHUP\): generation 2 is in use")
        self.assertEqual(await self.generation(), "2")


class WorkersTests(ReloadTestCase):
    """Several processes."""

    async def startWorkers(self) -> None:
        """Start sitio with two workers."""
        await self.start("--no-watch", "--workers=2")
        await self.until(lambda: self.process.output().count("takes requests on") == 2)

    async def generations(self) -> set[str]:
        """The generations that several connections meet."""
        return {await self.generation() for _ in range(12)}

    async def test_all(self) -> None:
        """All workers change, or none does."""
        await self.startWorkers()
        self.assertEqual(await self.generations(), {"1"})
        self.stamp(2)
        self.assertEqual((await self.reload())[0], 200)
        self.assertEqual(await self.generations(), {"2"})
        self.configure("routs = 1")
        self.assertEqual((await self.reload())[0], 422)
        (self.folder / "failing.py").write_text(FAILING)
        self.configure('[[routes]]\npolicies = ["file:failing.py"]')
        self.stamp(3)
        status, text = await self.reload()
        self.assertEqual((status, text.count("LookupError: no keys")), (422, 1))
        self.assertEqual(await self.generations(), {"2"})
        metrics = await self.ask("GET /metrics")
        self.assertIn(b"\nsitio_config_generation 2.0\n", metrics)

    async def test_replaced(self) -> None:
        """A worker that starts later has the text that is in use, and not that of the file now."""
        await self.startWorkers()
        self.configure("[forwarded]\nvia = true")
        self.assertEqual((await self.reload())[0], 200)
        self.configure("routs = 1")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in map(int, children.read_text().split()):
            os.kill(pid, signal.SIGKILL)
        await self.until(lambda: self.process.output().count("takes requests on") == 4)
        self.assertEqual(await self.generations(), {"1"})

    async def test_ports(self) -> None:
        """Another port needs a restart; the rest counts."""
        await self.startWorkers()
        self.configure(listener="127.0.0.2:0")
        self.stamp(2)
        status, text = await self.reload()
        self.assertEqual(status, 200)
        self.assertIn("these keys need a restart: listeners", text)
        self.assertEqual(await self.generations(), {"2"})
