"""
Tests of L{sitio.workers.sockets} on real sockets: one port, opened once, with several
listeners.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
)
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IListeningPort, IReactorTCP
from twisted.internet.protocol import Factory

from sitio.errors import CannotStart
from sitio.net.endpoints import serverEndpoint
from sitio.net.portreactor import BACKLOG
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.loopback import (
    LOCALHOST,
    Client,
    LoopbackTestCase,
    Upstream,
    reactor,
)
from sitio.workers import sockets
from sitio.workers.sockets import InheritingReactor, SharedPort

LOOPBACK = f"tcp:0:interface={LOCALHOST}"


class SharingTestCase(LoopbackTestCase):
    """Supervisor and workers in one process."""

    def shared(self, description: str) -> SharedPort:
        """An open port, as the supervisor holds it."""
        port = SharedPort(reactor, description, 2)
        port.open()
        self.addCleanup(port.close)
        return port

    async def listening(
        self, shared: SharedPort, description: str, factory: Any, own: int = 0
    ) -> tuple[InheritingReactor, IListeningPort]:
        """A worker that listens: its reactor and its port."""
        sockets = [socket.socket(fileno=os.dup(each.fileno())) for each in shared.sockets]
        ports = InheritingReactor(reactor, sockets, own)
        port: IListeningPort = await serverEndpoint(ports, description).listen(factory)
        for each in sockets:
            each.close()
        self.addCleanup(port.stopListening)
        return ports, port

    def portOf(self, shared: SharedPort) -> int:
        """The number of a port."""
        number: int = shared.sockets[0].getsockname()[1]
        return number

    def towards(self, shared: SharedPort) -> str:
        """The description of a client endpoint for a port."""
        name = shared.sockets[0].getsockname()
        return f"unix:{name}" if isinstance(name, str) else f"tcp:{name[0]}:{name[1]}"

    def socketPath(self) -> str:
        """A short path for a socket."""
        folder = self.mktemp()
        os.makedirs(folder)
        return os.path.relpath(f"{folder}/s")

    async def client(self, description: str) -> Client:
        """A client that is connected to this endpoint."""
        factory: Any = Factory.forProtocol(Client)
        client: Any = await clientFromString(reactor, description).connect(factory)
        self.addCleanup(self._close, client)
        return client

    async def carries(self, client: Client, upstream: Upstream, number: int = 0) -> None:
        """Wait until a client's bytes have reached an upstream, and its bytes the client."""
        client.send(b"there")
        script = await upstream.connection(number)
        await script.got.expect(b"there$")
        script.send(b"back")
        await client.got.expect(b"back")


class SharedPortTests(SharingTestCase):
    """One process opens a port, and others listen on it."""

    async def test_waits(self) -> None:
        """The supervisor accepts no client: clients wait for the first worker that listens."""
        for description in (LOOPBACK, f"unix:{self.socketPath()}"):
            shared = self.shared(description)
            client = await self.client(self.towards(shared))
            upstream = Upstream()
            for own in range(len(shared.sockets)):
                await self.listening(shared, description, upstream, own)
            await self.carries(client, upstream)

    async def test_dealt(self) -> None:
        """The kernel distributes the clients of a TCP port among the workers."""
        shared = self.shared(LOOPBACK)
        upstreams = [Upstream(), Upstream()]
        for own, upstream in enumerate(upstreams):
            await self.listening(shared, LOOPBACK, upstream, own)
        # The probability that one of them gets all is 2 ** -49.
        for _ in range(50):
            await self.connect(self.portOf(shared))
        counts = [each.connections for each in upstreams]
        await self.until(lambda: sum(map(len, counts)) == 50)
        self.assertTrue(all(counts), counts)

    async def test_standIn(self) -> None:
        """
        A worker accepts the clients of an absent worker until it is told to stop; then
        they wait.
        """
        shared = self.shared(LOOPBACK)
        upstream = Upstream()
        ports, port = await self.listening(shared, LOOPBACK, upstream)
        for _ in range(50):
            await self.connect(self.portOf(shared))
        ports.acceptFor([1])
        await self.until(lambda: len(upstream.connections) == 50)
        ports.acceptFor([])
        other = Upstream()
        await self.listening(shared, LOOPBACK, other, 1)
        for _ in range(50):
            await self.connect(self.portOf(shared))
        await self.until(lambda: len(upstream.connections) + len(other.connections) == 100)
        self.assertTrue(other.connections)
        await maybeDeferred(port.stopListening)
        ports.acceptFor([1])
        for _ in range(10):
            client = await self.connect(self.portOf(shared))
            client.transport.abortConnection()
        self.assertLess(len(upstream.connections), 100)

    async def test_standInAgain(self) -> None:
        """A worker can start and stop accepting for others any number of times."""
        shared = self.shared(LOOPBACK)
        upstream = Upstream()
        ports, _ = await self.listening(shared, LOOPBACK, upstream)
        for count in (20, 40, 60):
            for others in ([1], [], [1]):
                ports.acceptFor(others)
            for _ in range(20):
                await self.connect(self.portOf(shared))
            await self.until(lambda: len(upstream.connections) >= count)  # noqa: B023

    async def test_alone(self) -> None:
        """No other process can open the port, not even another supervisor."""
        shared = self.shared(LOOPBACK)
        again = SharedPort(reactor, f"tcp:{self.portOf(shared)}:interface={LOCALHOST}", 2)
        self.assertRaises(CannotStart, again.open)

    async def test_openTwice(self) -> None:
        """Opening it a second time has no effect."""
        shared = self.shared(LOOPBACK)
        port = self.portOf(shared)
        shared.open()
        self.assertEqual(self.portOf(shared), port)

    async def test_room(self) -> None:
        """The backlog of the description, or the default, applies to each socket."""
        for description, backlog in ((f"{LOOPBACK}:backlog=77", 77), (LOOPBACK, BACKLOG)):
            for each in self.shared(description).sockets:
                info = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
                # Linux reports here how many clients wait, and the limit.
                self.assertEqual(struct.unpack_from("II", info, 24), (0, backlog))

    async def test_neverBlocks(self) -> None:
        """No worker makes a socket blocking for the others."""
        for description in (LOOPBACK, f"unix:{self.socketPath()}"):
            shared = self.shared(description)
            await self.listening(shared, description, Upstream())
            for each in shared.sockets:
                self.assertFalse(os.get_blocking(each.fileno()))

    async def test_closed(self) -> None:
        """A port is closed when both the supervisor and the workers have closed it."""
        shared = self.shared(LOOPBACK)
        number = self.portOf(shared)
        upstream = Upstream()
        ports, port = await self.listening(shared, LOOPBACK, upstream)
        ports.acceptFor([1])
        await shared.close()
        await self.carries(await self.connect(number), upstream)
        await maybeDeferred(port.stopListening)
        with self.assertRaises(ConnectError):
            await self.connect(number)

    async def test_cannotListen(self) -> None:
        """The error message names a port that is in use."""
        port = await self.listen(Upstream())
        shared = SharedPort(reactor, f"tcp:{port}:interface={LOCALHOST}", 2)
        why = self.assertRaises(CannotStart, shared.open)
        self.assertIn(f"sitio: can't listen on port {port}: Address already in use (", str(why))

    def test_noAddress(self) -> None:
        """An address of another machine is an error."""
        why = self.assertRaises(
            CannotStart, SharedPort(reactor, "tcp:8080:interface=192.0.2.1", 2).open
        )
        self.assertEqual(
            str(why),
            "sitio: can't listen on 192.0.2.1, which must be an address of this host:"
            " Cannot assign requested address",
        )

    def test_elsewhere(self) -> None:
        """On systems other than Linux, all workers share one socket."""
        self.patch(sys, "platform", "darwin")
        self.assertEqual(len(self.shared(LOOPBACK).sockets), 1)

    def test_cannotBeShared(self) -> None:
        """A description that opens no port, or opens it late, is refused."""

        class Elsewhere:
            result: Deferred[None]

            def listen(self, factory: object) -> Deferred[None]:
                return self.result

        endpoint = Elsewhere()
        self.patch(sockets, "portFromString", lambda reactor, description: endpoint)
        for endpoint.result in (succeed(None), Deferred()):
            why = self.assertRaises(CannotStart, SharedPort(reactor, "stdio:", 2).open)
            self.assertEqual(
                str(why),
                "sitio: --port can't be shared by several processes with this kind of endpoint;"
                " --workers 1 can use it",
            )


class DescriptionTests(SharingTestCase):
    """Each kind of endpoint works with workers as with one process."""

    async def test_tls(self) -> None:
        """Each worker speaks TLS."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        key, certificate = certify(folder)
        description = f"ssl:0:interface={LOCALHOST}:privateKey={key}:certKey={certificate}"
        shared = self.shared(description)
        upstream = Upstream()
        ports, _ = await self.listening(shared, description, upstream)
        ports.acceptFor([1])
        trust = f"trustRoots={certificate.parent}"
        client = await self.client(f"tls:localhost:{self.portOf(shared)}:{trust}")
        await self.carries(client, upstream)

    async def test_tcp6(self) -> None:
        """Clients on IPv6 are distributed like those on IPv4."""
        description = "tcp6:0:interface=\\:\\:1"
        shared = self.shared(description)
        self.assertEqual(len(shared.sockets), 2)
        upstream = Upstream()
        for own in range(2):
            await self.listening(shared, description, upstream, own)
        endpoint = TCP6ClientEndpoint(reactor, "::1", self.portOf(shared))
        client: Any = await endpoint.connect(Factory.forProtocol(Client))
        self.addCleanup(self._close, client)
        await self.carries(client, upstream)

    async def test_haproxy(self) -> None:
        """Each worker reads the PROXY protocol and takes the client's address from it."""
        description = f"haproxy:{LOOPBACK}"
        shared = self.shared(description)
        upstream = Upstream()
        ports, _ = await self.listening(shared, description, upstream)
        ports.acceptFor([1])
        client = await self.connect(
            self.portOf(shared), b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"
        )
        await self.carries(client, upstream)
        self.assertEqual(upstream.connections[0].transport.getPeer().host, "192.0.2.7")

    async def test_unix(self) -> None:
        """
        Workers neither change nor remove the file of a UNIX socket.  The supervisor removes it
        at the end.
        """
        path = self.socketPath()
        description = f"unix:{path}:mode=600"
        shared = self.shared(description)
        upstream = Upstream()
        _, first = await self.listening(shared, description, Upstream(), 0)
        await self.listening(shared, description, upstream, 1)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        await maybeDeferred(first.stopListening)
        await self.carries(await self.client(f"unix:{path}"), upstream)
        await shared.close()
        self.assertFalse(os.path.lexists(path))
        self.assertFalse(os.path.lexists(f"{path}.lock"))

    async def test_systemd(self) -> None:
        """Workers listen on a TCP or UNIX socket that another process has opened."""
        for there in (socket.create_server((LOCALHOST, 0)), self.unixServer()):
            self.addCleanup(there.close)

            def described(reactor: Any, description: str, there: Any = there) -> Any:
                # The endpoint closes the descriptor.
                return AdoptedStreamServerEndpoint(reactor, os.dup(there.fileno()), there.family)

            self.patch(sockets, "portFromString", described)
            shared = self.shared("systemd:")
            self.assertEqual(len(shared.sockets), 1)
            upstream = Upstream()
            for own in range(2):
                twin = socket.socket(fileno=os.dup(shared.sockets[0].fileno()))
                ports = InheritingReactor(reactor, [twin], own)
                ports.acceptFor([1])
                port = await described(ports, "systemd:").listen(upstream)
                ports.acceptFor([1])
                twin.close()
                self.addCleanup(port.stopListening)
            await self.carries(await self.client(self.towards(shared)), upstream)

    def unixServer(self) -> socket.socket:
        """A listening UNIX socket."""
        there = socket.socket(socket.AF_UNIX)
        there.bind(self.socketPath())
        there.listen()
        return there

    def test_otherwiseTheSame(self) -> None:
        """In all other respects the reactor behaves like the wrapped reactor."""
        inheriting = InheritingReactor(reactor, [], 0)
        self.assertTrue(IReactorTCP.providedBy(inheriting))
        self.assertEqual(inheriting.callLater, reactor.callLater)
