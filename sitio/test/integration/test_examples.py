"""
Tests of C{examples/embedded.py}, over loopback.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import sitio
from sitio.test.helpers.loopback import LISTENING_LINE, LOCALHOST, TWISTD, LoopbackTestCase, reactor

EXAMPLES = Path(sitio.__file__).parent.parent / "examples"

if not EXAMPLES.exists():
    skip = "this is no checkout, and only a checkout has examples"


class EmbeddedTests(LoopbackTestCase):
    """C{embedded.py}: a sidecar in another application's service tree."""

    async def ask(self, port: int) -> None:
        """Check that it serves the application behind the policy."""
        client = await self.connect(port, b"GET /hello HTTP/1.1\r\nHost: here\r\n\r\n")
        await client.got.expect(rb"^HTTP/1\.1 200 OK\r\n(?s:.*)\r\n\r\nhello\n$")
        client = await self.connect(port, b"GET /x HTTP/1.1\r\nHost: here\r\n\r\n")
        await client.got.expect(
            rb"^HTTP/1\.1 404 Not Found\r\n(?s:.*)\r\n\r\nNot here\. Try /hello\n$"
        )

    async def test_inside(self) -> None:
        """The example's service starts and stops as a part of any service tree."""
        makeService = runpy.run_path(str(EXAMPLES / "embedded.py"))["makeService"]
        service = makeService(reactor, f"tcp:0:interface={LOCALHOST}", self.mktemp())
        service.startService()
        self.addCleanup(service.stopService)
        [sidecar] = [each for each in service if hasattr(each, "context")]
        await self.ask(sidecar.port.getHost().port)

    async def test_twistd(self) -> None:
        """C{twistd -ny} runs the example, and SIGTERM ends it."""
        folder = Path(self.mktemp())
        folder.mkdir()
        process = self.spawn(
            *(*TWISTD, "--pidfile=", "-ny", str(EXAMPLES / "embedded.py")),
            cwd=str(folder),
            PORT=f"tcp:0:interface={LOCALHOST}",
        )
        await self.ask(int((await process.out.expect(LISTENING_LINE))[1]))
        process.signal(15)
        # twistd ends by the same signal.
        self.assertEqual(await process.finish(), -15, process.output())
        self.assertNotIn("Traceback", process.output())
        self.assertEqual(os.listdir(folder), [])
