"""
C{twistd sitio} with workers, and services that answer at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

from sitio.test.helpers.loopback import (
    LISTENING_LINE,
    LOCALHOST,
    TWISTD,
    LoopbackTestCase,
    Process,
    ServerConnection,
)
from sitio.test.helpers.messages import OK

LOOPBACK = f"tcp:0:interface={LOCALHOST}"

#: An upstream that no test connects to.
NOWHERE = f"tcp:{LOCALHOST}:1"

REQUEST = b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n"

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


def answerAll(script: ServerConnection) -> None:
    """Answer the first request on a connection at once."""

    def answer(match: object) -> None:
        script.got.data = b""
        script.send(HEAD + b"0123456789")

    script.got.expect(b"\r\n\r\n").addCallbacks(answer, lambda _: None)


def kill(pid: int) -> None:
    """Kill a process, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


#: A policy that answers with the process id and the reactor.
WHO_POLICY = """\
import os
from sitio import Response, onRequest

@onRequest
def who(exchange):
    from twisted.internet import reactor
    if exchange.request.path == "/who":
        return Response(200, text=f"{os.getpid()} {type(reactor).__name__}.")
"""


WHO_REQUEST = b"GET /who HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


class WorkersTestCase(LoopbackTestCase):
    """C{twistd sitio} with two workers."""

    def folder(self) -> Path:
        """Make a directory with the policy L{WHO_POLICY}."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "who.py").write_text(WHO_POLICY)
        return folder

    async def startWorkers(
        self, *arguments: str, upstream: str = NOWHERE, twistd: tuple[str, ...] = ()
    ) -> tuple[Process, int]:
        """
        Start a supervisor, and wait until its two workers are ready.

        @return: the supervisor, and the port.
        """
        who = f"file:{self.folder()}/who.py"
        process = self.spawn(
            *(
                *TWISTD,
                "-n",
                "--pidfile=",
                *twistd,
                "sitio",
                "--admin=",
                "--workers=2",
                "--port",
                LOOPBACK,
            ),
            *("--upstream", upstream, "--policy", who, *arguments),
        )
        return process, await self.waitUntilReady(process)

    async def waitUntilReady(self, process: Process, count: int = 2) -> int:
        """Wait until this number of workers is ready, and return the port."""
        ports = await process.out.waitUntil(
            lambda: len(found := re.findall(LISTENING_LINE, process.out.data)) >= count and found
        )
        self.addCleanup(self.killAll, self.workerPids(process.pid))
        return int(ports[0])

    def workerPids(self, parent: int) -> list[int]:
        """The process ids of a supervisor's workers."""
        return [
            int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        ]

    def killAll(self, pids: list[int]) -> None:
        """Kill those of these processes that still run."""
        for each in pids:
            kill(each)

    async def ask(self, port: int) -> tuple[int, str]:
        """
        Send a request on a new connection.

        @return: the process id of the worker that has answered, and its reactor.
        """
        client = await self.connect(port, WHO_REQUEST)
        await client.got.waitForEnd()
        found = re.search(rb"\r\n\r\n([0-9]+) (\w+)\.$", client.got.data)
        assert found is not None, client.got.data
        return int(found[1]), found[2].decode()

    async def hits(self, process: Process, count: int) -> None:
        """Wait for the stats line with this number of hits."""
        await process.out.expect(rb"stats: %d hits " % count)


def answerEach(script: ServerConnection) -> None:
    """Answer all requests on a connection at once."""

    def answer(match: object) -> None:
        script.got.data = b""
        script.send(OK)
        answerEach(script)

    script.got.expect(b"\r\n\r\n").addCallbacks(answer, lambda _: None)
