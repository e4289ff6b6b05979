"""
Tests of fairness: a client that floods sitio does not make other clients wait.

Flood, upstream and sitio are processes of their own.  L{floods<sitio.test.helpers.floods>}
has the floods.  The bounds themselves are tested in memory, in C{functional/test_turns} and
C{admin/test_pace}.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from twisted.internet.threads import deferToThread

from sitio.telemetry.stats import MAX_ENDPOINTS
from sitio.test.helpers.certificates import certify
from sitio.test.helpers.floods import ADMIN_CLIENTS, CLIENTS, KEY_UPDATES, VIEWERS, probe
from sitio.test.helpers.loopback import LISTENING_LINE, LOCALHOST, TWISTD, LoopbackTestCase

#: Seconds that a flood may add to a request of another client.
BOUND_SECONDS = 0.05

#: Seconds for which another client probes.
PROBE_SECONDS = 0.3

#: A machine with other work to do may hold up any process.  A flood fails only if all tries
#: do; before there were bounds, each took seconds.
TRIES = 4


class FairnessCase(LoopbackTestCase):
    """Another client, and /live, beside each flood."""

    reactorName: ClassVar[str] = ""
    timeout = 300.0

    async def start(self, *arguments: str, port: str = "tcp:0") -> tuple[int, int]:
        """Start an upstream and sitio in front of it; returns sitio's port and admin port."""
        upstream = self.flooding("upstream")
        number = int((await upstream.out.expect(rb"listens on ([0-9]+)"))[1])
        process = self.spawn(
            *TWISTD,
            *("--reactor", self.reactorName, "-n", "--pidfile=", "sitio"),
            *("--port", f"{port}:interface={LOCALHOST}"),
            *("--admin", f"tcp:0:interface={LOCALHOST}"),
            *("--upstream", f"tcp:{LOCALHOST}:{number}", "--policy", "deny:*:/denied"),
            *("--max-interim", str(10**12), *arguments),
        )
        admin = await process.out.expect(rb"admin pages are on http://127\.0\.0\.1:([0-9]+)/")
        listening = await process.out.expect(LISTENING_LINE)
        return int(listening[1]), int(admin[1])

    def flooding(self, *arguments: str):  # type: ignore[no-untyped-def]
        """Start a process that floods, or the upstream."""
        return self.spawn(sys.executable, "-m", "sitio.test.helpers.floods", *arguments)

    async def slowest(self, port: int, admin: int, tls: bool) -> float:
        """The seconds that the slowest request of another client takes."""
        slowest = 0.0
        for number, path, secure in ((admin, b"/live", False), (port, b"/", tls)):
            took = await deferToThread(probe, number, PROBE_SECONDS, path, secure)
            slowest = max(slowest, *took)
        return slowest

    async def added(self, port: int, admin: int, tls: bool, target: int, kind: str) -> float:
        """The seconds that a flood adds to the slowest request of another client."""
        before = await self.slowest(port, admin, tls)
        more = ("tls",) if tls and target == port else ()
        flood = self.flooding("client", str(target), kind, *more)
        during = await self.slowest(port, admin, tls)
        await self._reap(flood)
        return during - before

    async def check(
        self, port: int, admin: int, kinds: Iterable[str], tls: bool = False, target: int = 0
    ) -> None:
        """
        No request of another client waits longer than L{BOUND_SECONDS} for any of these floods.

        @param target: the port that is flooded; 0 for that of clients.
        """
        late = {}
        for kind in kinds:
            for _ in range(TRIES):
                seconds = await self.added(port, admin, tls, target or port, kind)
                if seconds <= BOUND_SECONDS:
                    break
            else:
                late[kind] = seconds
        self.assertEqual(late, {})


def fill(port: int) -> None:
    """Fill the table of endpoints, so that the admin pages are as long as they can be."""
    for number in range(MAX_ENDPOINTS):
        with socket.create_connection((LOCALHOST, port), timeout=20) as sock:
            sock.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % number)
            while sock.recv(65536):
                pass


class UVTests(FairnessCase):
    """On uvloop."""

    reactorName = "uv"

    async def test_plain(self) -> None:
        """Each flood without TLS."""
        await self.check(*await self.start(), CLIENTS)

    async def test_admin(self) -> None:
        """Each page of the admin port, asked for without end, with a full table."""
        port, admin = await self.start()
        await deferToThread(fill, port)
        await self.check(port, admin, (*ADMIN_CLIENTS, VIEWERS), target=admin)

    async def test_tls(self) -> None:
        """Floods in TLS records of one byte, and of TLS's own records."""
        folder = Path(self.mktemp())
        folder.mkdir()
        key, certificate = certify(folder)
        port = f"ssl:0:privateKey={key.absolute()}:certKey={certificate.absolute()}"
        ports = await self.start(port=port)
        await self.check(*ports, ("hops", "denied", "chunks", "body", *KEY_UPDATES), tls=True)


class EpollTests(UVTests):
    """On Twisted's epoll reactor."""

    reactorName = "epoll"
