"""
Tests of fairness: a client that floods sitio does not make other clients wait.

Flood, upstream and sitio are processes of their own.  L{floods<sitio.test.helpers.floods>}
has the floods.  The bounds themselves are tested in memory, in C{functional/test_turns}.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import ClassVar

from twisted.internet.threads import deferToThread

from sitio.test.helpers.certificates import certify
from sitio.test.helpers.floods import CLIENTS, probe
from sitio.test.helpers.loopback import LISTENING_LINE, LOCALHOST, TWISTD, LoopbackTestCase

#: Seconds that a request of another client may take.
BOUND_SECONDS = 0.05

#: Seconds for which another client probes.
PROBE_SECONDS = 0.4

#: On a machine with other work to do, all waits.  A flood fails only if all tries do; before
#: there were bounds, each took seconds.
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

    async def slowest(self, port: int, admin: int, kind: str, *tls: str) -> float:
        """The seconds that others wait beside this flood: the slowest of nine in ten."""
        flood = self.flooding("client", str(port), kind, *tls)
        took = []
        for number, path in ((admin, b"/live"), *([] if tls else [(port, b"/")])):
            took.append(await deferToThread(probe, number, PROBE_SECONDS, path))
        await self._reap(flood)
        return max(statistics.quantiles(each, n=10)[-1] for each in took)

    async def check(self, port: int, admin: int, kinds: tuple[str, ...], *tls: str) -> None:
        """Nobody waits longer than L{BOUND_SECONDS} beside any of these floods."""
        late = {}
        for kind in kinds:
            for _ in range(TRIES):
                seconds = await self.slowest(port, admin, kind, *tls)
                if seconds <= BOUND_SECONDS:
                    break
            else:
                late[kind] = seconds
        self.assertEqual(late, {})


class UVTests(FairnessCase):
    """On uvloop."""

    reactorName = "uv"

    async def test_plain(self) -> None:
        """Each flood without TLS."""
        await self.check(*await self.start(), tuple(CLIENTS))

    async def test_tls(self) -> None:
        """Floods in TLS records of one byte."""
        folder = Path(self.mktemp())
        folder.mkdir()
        key, certificate = certify(folder)
        port = f"ssl:0:privateKey={key.absolute()}:certKey={certificate.absolute()}"
        ports = await self.start(port=port)
        await self.check(*ports, ("hops", "denied", "chunks", "body"), "tls")


class EpollTests(UVTests):
    """On Twisted's epoll reactor."""

    reactorName = "epoll"
