"""
Tests of the admin pages of C{twistd sitio}, alone and with workers.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import treq
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from sitio.test.helpers.loopback import (
    LIMIT_SECONDS,
    LOCALHOST,
    LoopbackTestCase,
    Process,
    Received,
    Upstream,
    reactor,
)


class Service(Resource):
    """An upstream with a broken page and a slow page."""

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        self.slow: list[Request] = []
        self.asked = Received()

    def render_GET(self, request: Request) -> Any:
        if request.path == b"/slow":
            self.slow.append(request)
            self.asked.add(b"+")
            return NOT_DONE_YET
        request.setResponseCode(500 if request.path == b"/broken" else 200)
        return b"ok"


class ProcessTests(LoopbackTestCase):
    """The admin pages of processes."""

    async def begun(self, *arguments: str) -> tuple[Process, int]:
        """Start sitio in front of a service, and return its port."""
        self.service = Service()
        upstream = await self.listen(Site(self.service))
        admin = f"--admin=tcp:0:interface={LOCALHOST}"
        process, port = await self.sitio(upstream, admin, *arguments)
        found = await process.out.expect(rb"admin pages are on (http://127\.0\.0\.1:[0-9]+)/")
        self.url = found[1].decode()
        return process, port

    async def asked(self, method: str, path: str) -> tuple[int, str]:
        """Request a page, and return its status and text."""
        response = await treq.request(
            method, f"{self.url}{path}", persistent=False, timeout=LIMIT_SECONDS
        )
        return response.code, await response.text()

    async def metrics(self) -> dict[str, float]:
        """The metrics; those of routes are named by template and status."""
        found = {}
        for line in (await self.asked("GET", "/metrics"))[1].splitlines():
            name, _, value = line.rpartition(" ")
            route = re.search('http_route="(.*?)"', name)
            status = re.search('code="(.*?)"', name)
            if route and status:
                name = f"{name.partition('{')[0]} {route[1]} {status[1]}"
            if not line.startswith("#"):
                found[name] = float(value)
        return found

    async def carries(self, port: int, path: str = "/") -> None:
        """Send a request on a connection of its own."""
        client = await self.connect(port, f"GET {path} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        await client.got.waitForEnd()

    async def test_pages(self) -> None:
        """
        A process is ready when it logs the address of its pages.  It counts exchanges, shows
        them, and quits on request.
        """
        process, port = await self.begun("--route=/", "--route=/{rest...}")
        self.assertEqual(await self.asked("GET", "/ready"), (200, "sitio is ready\n"))
        for path in ("/", "/", "/broken"):
            await self.carries(port, path)
        metrics = await self.metrics()
        self.assertEqual(metrics["http_server_request_duration_seconds_count / 200"], 2)
        self.assertEqual(metrics["http_server_request_duration_seconds_count /{rest...} 500"], 1)
        exchanges = json.loads((await self.asked("GET", "/exchanges"))[1])
        self.assertEqual([each["path"] for each in exchanges["failed"]], ["/broken"])
        self.assertEqual(exchanges["recent"], [])
        config = json.loads((await self.asked("GET", "/config"))[1])
        self.assertEqual(config["options"]["admin"], f"tcp:0:interface={LOCALHOST}")
        self.assertEqual((await self.asked("GET", "/"))[0], 200)
        self.assertEqual((await self.asked("POST", "/quit"))[0], 200)
        self.assertEqual(await process.finish(), 0)
        self.assertNotIn("Traceback", process.output())
        self.assertNotIn("#error", process.output())

    async def test_drain(self) -> None:
        """
        A draining process is not ready, and still serves new clients, with one response
        each.  After /quit it finishes exchanges under way, and its pages stay open to the
        end.
        """
        process, port = await self.begun()
        client = await self.connect(port, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await self.service.asked.expect(b"\\+")
        self.assertEqual((await self.asked("POST", "/drain"))[0], 200)
        self.assertEqual(await self.asked("GET", "/ready"), (503, "sitio is draining\n"))
        late = await self.connect(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await late.got.waitForEnd()
        self.assertIn(b"\r\nConnection: close\r\n", late.got.data)
        self.assertEqual((await self.asked("POST", "/quit"))[0], 200)
        await process.out.expect(b"Port %d Closed" % port)
        [exchange] = json.loads((await self.asked("GET", "/exchanges"))[1])["open"]
        self.assertEqual(
            (exchange["path"], exchange["state"]), ("/slow", "waiting for the response")
        )
        self.service.slow[0].write(b"at last")
        self.service.slow[0].finish()
        await client.got.waitForEnd()
        self.assertIn(b"at last", client.got.data)
        self.assertEqual(await process.finish(), 0)
        self.assertNotIn("Traceback", process.output())

    async def test_workers(self) -> None:
        """The pages show the sums of all workers, and /drain and /quit reach all of them."""
        process, port = await self.begun("--workers=2", "--stats-interval=0", "--route=/{path}")
        await self.until(lambda: process.output().count("takes requests on") == 2)
        clients = []
        processes: set[str] = set()
        # The kernel distributes clients: connect until both workers have a client.
        while len(processes) < 2:
            clients.append(await self.connect(port, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"))
            await self.service.asked.waitUntil(lambda: len(self.service.slow) == len(clients))
            exchanges = json.loads((await self.asked("GET", "/exchanges"))[1])
            self.assertEqual(len(exchanges["open"]), len(clients))
            processes = {each["key"].partition("-")[0] for each in exchanges["open"]}
        metrics = await self.metrics()
        self.assertEqual(metrics["http_server_active_requests"], len(clients))
        self.assertEqual(metrics["sitio_workers"], 2)
        self.assertEqual((await self.asked("POST", "/drain"))[0], 200)
        self.assertEqual(await self.asked("GET", "/ready"), (503, "sitio is draining\n"))
        for request in self.service.slow:
            request.finish()
        for client in clients:
            await client.got.waitForEnd()
            self.assertIn(b"\r\nConnection: close\r\n", client.got.data)
        metrics = await self.metrics()
        self.assertEqual(
            metrics["http_server_request_duration_seconds_count /{path} 200"], len(clients)
        )
        exchanges = json.loads((await self.asked("GET", "/exchanges"))[1])
        self.assertEqual({each["key"].partition("-")[0] for each in exchanges["recent"]}, processes)
        self.assertEqual((await self.asked("POST", "/quit"))[0], 200)
        self.assertEqual(await process.finish(), 0)
        self.assertNotIn("Traceback", process.output())

    async def test_probes(self) -> None:
        """
        A port for probes has their pages and no others, with the admin port and without, alone
        and with workers; it tells of a drain, and stays open to the end.
        """
        for arguments in ((), ("--workers=2",)):
            process, _ = await self.begun(f"--probes=tcp:0:interface={LOCALHOST}", *arguments)
            admin = self.url
            found = await process.out.expect(rb"pages for probes are on (http://[^/]+)/")
            probes = self.url = found[1].decode()
            self.assertEqual((await self.asked("GET", "/live"))[0], 200)
            await self.isReady()
            self.assertIn("sitio_uptime_seconds", (await self.asked("GET", "/metrics"))[1])
            for path in ("/", "/exchanges", "/stats.json", "/config", "/policies", "/help"):
                self.assertEqual((await self.asked("GET", path))[0], 404, path)
            for path in ("/drain", "/quit"):
                self.assertEqual((await self.asked("POST", path))[0], 404, path)
            self.url = admin
            self.assertEqual((await self.asked("POST", "/drain"))[0], 200)
            self.url = probes
            self.assertEqual(await self.asked("GET", "/ready"), (503, "sitio is draining\n"))
            self.url = admin
            self.assertEqual((await self.asked("POST", "/quit"))[0], 200)
            self.assertEqual(await process.finish(), 0)
            self.assertNotIn("Traceback", process.output())

    async def isReady(self) -> None:
        """Wait until sitio is ready: with workers it may be a moment later than its pages."""
        while (await self.asked("GET", "/ready"))[0] != 200:
            await deferLater(reactor, 0.05)

    async def test_probesAlone(self) -> None:
        """Without an admin port, there may be one for probes."""
        process, _ = await self.sitio(
            await self.listen(Site(Service())), "--admin=", f"--probes=tcp:0:interface={LOCALHOST}"
        )
        found = await process.out.expect(rb"pages for probes are on (http://[^/]+)/")
        self.url = found[1].decode()
        self.assertEqual((await self.asked("GET", "/ready"))[0], 200)
        self.assertNotIn("admin pages are on", process.output())

    async def test_light(self) -> None:
        """
        At the start, sitio loads neither the web server of the pages nor an HTTP client, nor
        what only a sidecar of several processes or one in a fleet uses.
        """
        heavy = [
            "twisted.web",
            "treq",
            "prometheus_client",
            "sitio.admin.pages",
            "sitio.fleet",
            "sitio.net.httpclient",
            "sitio.workers",
        ]
        script = f"""
import sys
from sitio.assembly import makeService
from sitio.config.options import Options
options = Options({{}})
options.parseOptions(["--port=0", "--upstream=tcp:a:1", "--admin=0"])
service = makeService(options)
print([each for each in {heavy} if each in sys.modules])
"""
        run = self.spawn(sys.executable, "-c", script)
        self.assertEqual(await run.finish(), 0)
        self.assertEqual(run.output().splitlines()[-1], "[]")

    async def test_pieces(self) -> None:
        """
        The modules that are imported one a turn are those that the pages need, and no turn
        imports many others with it.
        """
        script = """
import sys
from sitio.assembly import makeService
from sitio.admin.port import MODULES
from importlib import import_module
before, most = set(sys.modules), 0
if sys.argv[1:]:
    import sitio.admin.pages, sitio.telemetry.metrics
for name in MODULES:
    known = len(sys.modules)
    import_module(name)
    most = max(most, len(sys.modules) - known)
print(most, len(sys.modules.keys() - before))
"""
        found = []
        for arguments in ((), ("whole",)):
            run = self.spawn(sys.executable, "-c", script, *arguments)
            self.assertEqual(await run.finish(), 0)
            found.append([int(each) for each in run.output().splitlines()[-1].split()])
        (most, loaded), (more, whole) = found
        self.assertEqual((more, loaded), (0, whole))
        self.assertLess(most, 25)

    async def test_upstreamGone(self) -> None:
        """
        Without its upstream sitio is not ready, with a health check and without.  Not every
        request for /ready adds a log line.
        """
        for arguments, why in (
            ((), "the upstream can't be reached: Connection was refused"),
            (("--health-path=/",), "the upstream's health check failed: Connection"),
        ):
            process, _ = await self.sitio(
                "tcp:127.0.0.1:1", f"--admin=tcp:0:interface={LOCALHOST}", *arguments
            )
            found = await process.out.expect(rb"admin pages are on (http://127\.0\.0\.1:[0-9]+)/")
            self.url = found[1].decode()
            code, text = await self.asked("GET", "/ready")
            while "not been checked" in text:
                code, text = await self.asked("GET", "/ready")
            self.assertEqual((code, text[: len(why)]), (503, why))
            self.assertNotIn("factory", process.output().lower())

    async def test_taken(self) -> None:
        """If the port of C{--admin} is taken, sitio ends with an error message."""
        taken = await self.listen(Upstream())
        loopback = f"tcp:0:interface={LOCALHOST}"
        named = self.twistd("--port", loopback, "--upstream", "tcp:a:1", f"--admin={taken}")
        self.assertEqual(await named.finish(), 1)
        self.assertIn(f"sitio: --admin: can't listen on port {taken}: Address", named.output())
        self.assertNotIn("Traceback", named.output())
