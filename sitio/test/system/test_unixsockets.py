"""
Tests of C{twistd sitio} on UNIX sockets: what a killed process leaves does not keep the next
one from starting.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory

from sitio.test.helpers.loopback import TWISTD, Client, Process, reactor
from sitio.test.helpers.processes import NOWHERE, WHO_REQUEST, WorkersTestCase, kill


class StaleSocketTests(WorkersTestCase):
    """A socket on which nothing listens is replaced; any other is refused by its name."""

    def start(self, path: str, *arguments: str, twistd: tuple[str, ...] = ()) -> Process:
        """Start sitio on a socket."""
        return self.spawn(
            *(*TWISTD, "-n", "--pidfile=", *twistd, "sitio", "--admin=", f"--port=unix:{path}"),
            *("--upstream", NOWHERE, "--policy", f"file:{self.folder()}/who.py", *arguments),
        )

    async def serves(self, path: str) -> bool:
        """Whether a request on this socket is answered."""
        client = await UNIXClientEndpoint(reactor, path).connect(Factory.forProtocol(Client))
        assert isinstance(client, Client)
        client.send(WHO_REQUEST)
        await client.got.waitForEnd()
        return client.got.data.startswith(b"HTTP/1.1 200 ")

    async def killed(self, *arguments: str, twistd: tuple[str, ...] = ()) -> None:
        """
        Kill sitio, and start it again where the lock names a running process, as always in
        a container: the new process has the number of the old one.
        """
        path = os.path.relpath(self.folder() / "s")
        lock = Path(f"{path}.lock")
        process = self.start(path, *arguments, twistd=twistd)
        await process.out.expect(b"takes requests on")
        workers = self.workerPids(process.pid)
        self.addCleanup(self.killAll, workers)
        process.signal(signal.SIGKILL)
        self.killAll(workers)
        await process.finish()
        self.assertTrue(os.path.lexists(path) and lock.is_symlink())
        lock.unlink()
        lock.symlink_to(str(os.getpid()))
        process = self.start(path, *arguments, twistd=twistd)
        await process.out.expect(b"takes requests on")
        for each in self.workerPids(process.pid):
            self.addCleanup(kill, each)
        self.assertTrue(await self.serves(path))
        process.signal(signal.SIGTERM)
        await process.finish()
        self.assertFalse(os.path.lexists(path) or os.path.lexists(lock))

    async def test_killed(self) -> None:
        """After SIGKILL sitio starts again."""
        await self.killed()

    async def test_killedEpoll(self) -> None:
        """It does so on Twisted's reactor."""
        await self.killed(twistd=("--reactor=epoll",))

    async def test_killedWorkers(self) -> None:
        """It does so with workers."""
        await self.killed("--workers=2")

    async def test_inUse(self) -> None:
        """A second sitio on the same socket ends with the name of the file; the first goes on."""
        path = os.path.relpath(self.folder() / "s")
        first = self.start(path)
        await first.out.expect(b"takes requests on")
        for arguments in ((), ("--workers=2",)):
            second = self.start(path, *arguments)
            self.assertEqual(await second.finish(), 1)
            self.assertIn(
                f"sitio: can't listen on {path}: another process listens on this socket",
                second.output(),
            )
            self.assertNotIn("Traceback", second.output())
        self.assertTrue(await self.serves(path))
