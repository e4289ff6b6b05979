"""
Three services under load, of which one is killed, one hangs and one becomes slow: clients notice
nothing, as L{sitio.upstream.cluster} promises.

The services are processes of their own.  They are killed and stopped by signals.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from sitio.net.deadlines import Deadlines
from sitio.policies.retry import Retries
from sitio.policy.chain import Chain
from sitio.policy.loader import namedPolicies
from sitio.proxy.generation import Generation, Route
from sitio.service import SidecarService
from sitio.settings import Settings
from sitio.test.helpers.loopback import LOCALHOST, LoopbackTestCase, Process, reactor
from sitio.test.helpers.nameserver import ZONE, NameServer
from sitio.upstream.cluster import Cluster, ClusterSettings, EndpointSettings
from sitio.upstream.dnssettings import DnsSettings
from sitio.upstream.ejection import EjectionSettings
from sitio.upstream.resolvers import SystemResolver

#: A service that answers with its name after 5 ms, and after 400 ms once it got SIGUSR1.
SERVICE = """\
import asyncio, signal, sys

HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n"
delay = 0.005

def slowDown():
    global delay
    delay = 0.4

async def serve(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            await asyncio.sleep(delay)
            writer.write(HEAD + sys.argv[1].encode())
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, slowDown)
    server = await asyncio.start_server(serve, sys.argv[3], int(sys.argv[2]))
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

REQUEST = b"GET / HTTP/1.1\r\nHost: photos\r\n\r\n"

#: Clients, and requests a second of all of them.
CLIENTS = 40
RATE = 200

#: Seconds after which a request is tried again.
TRY_SECONDS = 0.5

#: Seconds of the first ejection.
EJECTION_SECONDS = 5.0

#: The longest time, in seconds, of 99 % of the requests that need no second try: a busy machine
#: takes some of it.
WELL_SECONDS = 0.25


@define
class Answer:
    """A request that was answered: when it began, how long that took, and by whom."""

    began: float
    seconds: float
    status: int
    name: str


class LoadClient(Protocol):
    """A client with one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._got = b""
        self._began = 0.0

    def connectionMade(self) -> None:
        self._load.idle.append(self)

    def ask(self) -> None:
        """Send a request."""
        self._began = reactor.seconds()
        assert self.transport is not None
        self.transport.write(REQUEST)

    def dataReceived(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        length = next(
            (
                int(each[16:])
                for each in head.split(b"\r\n")
                if each.startswith(b"Content-Length: ")
            ),
            0,
        )
        if end and len(body) >= length:
            self._got = b""
            seconds = reactor.seconds() - self._began
            status = int(head.split(b" ")[1])
            self._load.answers.append(Answer(self._began, seconds, status, body.decode()))
            self._load.idle.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._load.lost += 1


@define
class Load:
    """
    Requests at an even rate, by clients that are free.

    @ivar answers: all that were answered.
    @ivar lost: connections that were closed.
    @ivar skipped: requests that were not sent, as no client was free.
    """

    port: int
    idle: list[LoadClient] = field(factory=list)
    answers: list[Answer] = field(factory=list)
    lost: int = 0
    skipped: int = 0
    loop: Any = None

    async def start(self) -> None:
        for _ in range(CLIENTS):
            endpoint = TCP4ClientEndpoint(reactor, LOCALHOST, self.port)
            await endpoint.connect(Factory.forProtocol(lambda: LoadClient(self)))
        self.begin()

    def begin(self) -> None:
        """Begin to send requests."""
        self.loop = LoopingCall.withCount(self._ask)
        self.loop.start(1 / RATE, now=False)

    def stop(self) -> None:
        """Send no more."""
        if self.loop is not None and self.loop.running:
            self.loop.stop()

    def _ask(self, count: int) -> None:
        for _ in range(count):
            if self.idle:
                self.idle.pop(0).ask()
            else:
                self.skipped += 1

    def between(self, begin: float, end: float) -> list[Answer]:
        """The answers to requests that began in this time."""
        return [each for each in self.answers if begin <= each.began < end]


def connect(address: str) -> TCP4ClientEndpoint:
    """Connects to an IPv4 address with a port."""
    host, _, port = address.partition(":")
    return TCP4ClientEndpoint(reactor, host, int(port))


class UpstreamsTests(LoopbackTestCase):
    """sitio before three services."""

    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.services: dict[str, Process] = {}
        self.ports: dict[str, int] = {}

    async def serve(self, name: str, host: str = LOCALHOST) -> None:
        """Start a service, on the port that it had before if there is one."""
        arguments = name, str(self.ports.get(name, 0)), host
        process = self.services[name] = self.spawn(sys.executable, "-c", SERVICE, *arguments)
        self.ports[name] = int((await process.out.expect(rb"port ([0-9]+)"))[1])

    async def start(self, *policies: Any) -> None:
        """Start the services, sitio before them, and the load."""
        for name in ("a", "b", "c"):
            await self.serve(name)
        await self.startBefore(
            *policies,
            endpoints=[EndpointSettings(f"{LOCALHOST}:{port}") for port in self.ports.values()],
        )

    async def startBefore(self, *policies: Any, **upstream: Any) -> None:
        """Start sitio before this upstream, and the load."""
        settings = Settings(responseTimeout=TRY_SECONDS)

        def make(deadlines: Deadlines, former: Generation | None) -> Generation:
            cluster: Any = Cluster(
                "photos",
                ClusterSettings(
                    **upstream,
                    ejection=EjectionSettings(time=EJECTION_SECONDS),
                    slowStart=2.0,
                    pool=settings,
                ),
                clock=reactor,
                connect=connect,
                deadlines=deadlines,
                makeResolver=lambda servers: SystemResolver(reactor, servers),
            )
            self.cluster = cluster
            named = namedPolicies(policies)
            chain = Chain(named, clock=reactor, timeout=settings.policyTimeout)
            return Generation.ofOne(Route(chain, cluster, settings))

        listen = TCP4ServerEndpoint(reactor, 0, interface=LOCALHOST)
        sidecar = SidecarService(reactor, listen, make, statsInterval=0)
        sidecar.startService()
        self.addCleanup(sidecar.stopService)
        while sidecar.port is None:
            await deferLater(reactor, 0.01)
        address: Any = sidecar.port.getHost()
        self.load = Load(address.port)
        self.addCleanup(self.load.stop)
        await self.load.start()

    def later(self, seconds: float) -> Deferred[None]:
        return deferLater(reactor, seconds, lambda: None)

    async def observe(self, what: str) -> Counter[str]:
        """
        Wait; check that no request has failed, and that a second later all are as quick as ever.

        @return: how many answers came from each service since then.
        """
        begin = reactor.seconds() + 1.0
        await self.later(4.0)
        # Those that were sent last are still under way.
        found = self.load.between(begin, begin + 2.5)
        times = sorted(each.seconds for each in found)
        self.assertGreater(len(times), RATE, what)
        self.assertLess(times[int(len(times) * 0.99)], WELL_SECONDS, f"{what}: {times[-20:]}")
        self.assertEqual({each.status for each in self.load.answers}, {200}, what)
        self.assertEqual((self.load.lost, self.load.skipped), (0, 0), what)
        return Counter(each.name for each in found)

    async def test_well(self) -> None:
        """While all are well, each gets its share."""
        await self.start()
        found = await self.observe("all are well")
        for name in ("a", "b", "c"):
            self.assertGreater(found[name], sum(found.values()) / 5, found)

    async def test_killed(self) -> None:
        """One that is killed gets nothing more; its requests are sent to another."""
        await self.start(Retries(after=0.02))
        await self.later(1.0)
        self.services["a"].signal(signal.SIGKILL)
        found = await self.observe("one is killed")
        self.assertEqual(found["a"], 0)
        self.assertGreater(found["b"], found["c"] / 2)

    async def test_hangs(self) -> None:
        """One that hangs gets almost nothing more; what it held is tried elsewhere."""
        await self.start(Retries(after=0.02))
        await self.later(1.0)
        self.services["b"].signal(signal.SIGSTOP)
        self.addCleanup(self.services["b"].signal, signal.SIGCONT)
        found = await self.observe("one hangs")
        self.assertEqual(found["b"], 0)

    async def test_slow(self) -> None:
        """One that becomes slow gets few requests, though it answers all of them."""
        await self.start()
        await self.later(1.0)
        self.services["c"].signal(signal.SIGUSR1)
        found = await self.observe("one is slow")
        self.assertLess(found["c"], sum(found.values()) / 50, found)

    async def test_refused(self) -> None:
        """A service that refuses connections costs no attempt: no policy has to retry."""
        await self.start()
        await self.later(1.0)
        self.load.stop()
        await self.later(0.5)
        self.services["a"].signal(signal.SIGKILL)
        await self.services["a"].finish()
        self.load.begin()
        found = await self.observe("one refuses connections")
        self.assertEqual(set(found), {"b", "c"})

    async def test_all(self) -> None:
        """One is killed, then one hangs, and the last carries all; then both return."""
        await self.start(Retries(after=0.02))
        await self.later(1.0)
        self.services["a"].signal(signal.SIGKILL)
        await self.observe("one is killed")
        self.services["b"].signal(signal.SIGSTOP)
        self.addCleanup(self.services["b"].signal, signal.SIGCONT)
        found = await self.observe("one is killed, and one hangs")
        self.assertEqual(set(found), {"c"})
        await self.serve("a")
        self.services["b"].signal(signal.SIGCONT)
        while {each.name for each in self.load.answers[-RATE:]} != {"a", "b", "c"}:
            await self.later(0.1)
        found = await self.observe("all are well again")
        self.assertEqual(set(found), {"a", "b", "c"})

    async def test_discovered(self) -> None:
        """Services come and go in DNS, and end after they have left; no request fails."""
        server = NameServer(reactor)
        self.addCleanup(server.stop)
        await self.serve("a")
        for name, host in (("b", "127.0.0.2"), ("c", "127.0.0.3")):
            self.ports[name] = self.ports["a"]
            await self.serve(name, host)
        server.zone.has("127.0.0.1", "127.0.0.2")
        await self.startBefore(
            dns=DnsSettings(f"{ZONE}.", self.ports["a"], 0.1, 0.2, (server.address,))
        )
        found = await self.observe("two services")
        self.assertEqual(set(found), {"a", "b"})
        server.zone.has("127.0.0.2", "127.0.0.3")
        await self.later(0.9)
        self.services["a"].signal(signal.SIGKILL)
        found = await self.observe("one has left, and one has joined")
        self.assertEqual(set(found), {"b", "c"})
        await server.stopUDP()
        found = await self.observe("the name server is away")
        self.assertEqual(set(found), {"b", "c"})
        server.zone.has("127.0.0.2")
        server.listenUDP()
        # A question that was lost is asked again after a second.
        await self.later(3.0)
        found = await self.observe("the name server is back")
        self.assertEqual(set(found), {"b"})
