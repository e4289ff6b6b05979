"""
Tests of C{twistd sitio --fleet}, alone and with workers.
"""

from __future__ import annotations

import re
import signal
from collections import Counter

from twisted.web.server import Site

from sitio.test.helpers.fleet import Receiver
from sitio.test.helpers.loopback import LOCALHOST, LoopbackTestCase, Process, Upstream
from sitio.test.helpers.processes import WorkersTestCase, answerEach


class ProcessTests(LoopbackTestCase):
    """One process and a fleet dashboard."""

    async def receiver(self) -> tuple[Receiver, str]:
        """Start a dashboard, and return it with its address."""
        receiver = Receiver()
        port = await self.listen(Site(receiver))
        return receiver, f"http://me:secret@{LOCALHOST}:{port}/base"

    async def test_posts(self) -> None:
        """sitio reports all requests up to the last one, and logs no password."""
        receiver, url = await self.receiver()
        upstream = await self.listen(Upstream(answerEach))
        process, port = await self.sitio(upstream, "--fleet", url)
        for path in ("/a.png", "/b?secret", "/b"):
            request = f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            client = await self.connect(port, request.encode())
            await client.got.waitForEnd()
        await self.until(lambda: receiver.count("/base/resources"))
        process.signal(signal.SIGTERM)
        await process.finish()
        told = Counter((each["endpoint"], each["file"]) for each in receiver.entries())
        self.assertEqual(told, {("/a.png", True): 1, ("/b", False): 2})
        self.assertNotIn("secret", process.output())
        self.assertNotIn("Traceback", process.output())
        self.assertNotIn("Starting factory", process.output())

    async def test_down(self) -> None:
        """Without a dashboard, sitio serves on, logs this once, and stops without a delay."""
        receiver, url = await self.receiver()
        upstream = await self.listen(Upstream(answerEach))
        nobody = re.sub(r":\d+/", ":1/", url)
        process, port = await self.sitio(upstream, "--fleet", nobody)
        await process.out.expect(b"does not accept metrics")
        client = await self.connect(port, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        await client.got.waitForEnd()
        self.assertTrue(client.got.data.endswith(b"ok"))
        process.signal(signal.SIGTERM)
        await process.finish()
        self.assertEqual(process.output().count("does not accept metrics"), 1)
        self.assertEqual(receiver.posts, [])


class WorkersTests(WorkersTestCase):
    """Several workers and a fleet dashboard."""

    async def test_addsUp(self) -> None:
        """The supervisor reports the requests of all workers once, up to the last one."""
        receiver = Receiver()
        place = await self.listen(Site(receiver))
        process, port = await self.startWorkers("--fleet", f"http://{LOCALHOST}:{place}")
        pids = [(await self.ask(port))[0] for _ in range(30)]
        self.assertEqual(len(set(pids)), 2)
        await self.ended(process)
        self.assertEqual(len(receiver.entries()), 30)
        pods = {content["pod"] for _, _, content in receiver.posts}
        self.assertEqual(len(pods), 1)

    async def ended(self, process: Process) -> None:
        """Stop a process, and wait for its end."""
        process.signal(signal.SIGTERM)
        await process.finish()
