"""
Tests of L{sitio.net.reactor} as the reactor of C{twistd}.
"""

from __future__ import annotations

import contextlib
import os
import signal

from twisted.application.reactors import Reactor, getReactorTypes

from sitio.test.helpers.loopback import LOCALHOST, TWISTD, LoopbackTestCase


class ProcessTests(LoopbackTestCase):
    """The reactor of a whole process."""

    def test_plugin(self) -> None:
        """C{twistd --reactor uv} and C{trial --reactor uv} find the reactor."""
        found = {each.shortName: each for each in getReactorTypes() if isinstance(each, Reactor)}
        self.assertEqual(found["uv"].moduleName, "sitio.net.reactor")

    async def test_inBackground(self) -> None:
        """A reactor that was made before twistd goes into the background works there."""
        work = self.mktemp()
        os.mkdir(work)
        with open(f"{work}/echo.tac", "w") as tac:
            tac.write(
                "from twisted.application.service import Application\n"
                "from twisted.application.internet import TCPServer\n"
                "from twisted.internet.protocol import Factory\n"
                "from twisted.protocols.wire import Echo\n"
                "application = Application('echo')\n"
                f"service = TCPServer(0, Factory.forProtocol(Echo), interface={LOCALHOST!r})\n"
                "service.setServiceParent(application)\n"
                "def said():\n"
                "    print('port', service._port.getHost().port, type(reactor).__name__)\n"
                "from twisted.internet import reactor\n"
                "reactor.callWhenRunning(said)\n"
            )
        started = self.spawn(*TWISTD, "--reactor", "uv", "-y", "echo.tac", cwd=work)
        self.assertEqual(await started.finish(), 0, started.output())
        pid = int(await self.until(lambda: _text(f"{work}/twistd.pid")))
        self.addCleanup(self._end, pid)
        said = await self.until(lambda: _text(f"{work}/twistd.log").partition("port ")[2])
        port, kind = said.split()[:2]
        self.assertEqual(kind, "UVReactor")
        client = await self.connect(int(port), b"echo")
        await client.got.expect(b"echo")
        self._end(pid)
        await self.until(lambda: not os.path.exists(f"{work}/twistd.pid"))
        self.assertNotIn("Traceback", _text(f"{work}/twistd.log"))

    def _end(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _text(path: str) -> str:
    """The content of a file; empty if there is none."""
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""
