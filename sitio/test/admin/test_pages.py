"""
Promises of L{sitio.admin.pages}: its pages, who may ask for them, and its port.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    CannotListenError,
    ConnectionDone,
    ConnectionLost,
    ReactorNotRunning,
)
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sitio.admin import pages, port as module
from sitio.admin.channel import MAX_BYTES, MAX_HELD_BYTES
from sitio.admin.pages import IDLE_SECONDS, QUIT_DELAY_SECONDS, Admin, AdminSite, PageContent
from sitio.admin.port import MAX_CONNECTIONS, SPARE_DESCRIPTORS, AdminPort
from sitio.errors import CannotStart
from sitio.net.room import PausingPort
from sitio.net.turns import MAX_WORK, PART_BYTES, Steps
from sitio.telemetry import metrics
from sitio.telemetry.sidecar import DRAINING, SERVING, STARTING, ISidecar
from sitio.telemetry.snapshot import SidecarSnapshot
from sitio.test.helpers.admin import (
    ADMIN,
    GETS,
    LOCAL,
    PAGES,
    POSTS,
    REMOTE,
    AdminTestCase,
    Visitor,
    read,
)
from sitio.test.helpers.logs import LogRecorder
from sitio.test.helpers.snapshots import workerSnapshot


class PageTests(AdminTestCase):
    """The content of the pages."""

    def test_listed(self) -> None:
        """The page /help lists each page with its method, as the module's docstring does."""
        lines = self.ask("GET", "/help").text.splitlines()
        known = [*(["GET", path] for path in ("/", *GETS)), *(["POST", path] for path in POSTS)]
        self.assertEqual([line.split()[:2] for line in lines], known)
        self.assertIn("\n".join(f"    {line}" for line in lines), pages.__doc__ or "")

    def test_dashboard(self) -> None:
        """The first page is the dashboard; its event stream ends when the port closes."""
        self.assertIn("<!doctype html>", self.ask("GET", "/").text.lower())
        visitor = Visitor(self.site)
        self.assertIn(
            b"text/event-stream", visitor.sends(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        )
        self.assertEqual(self.ask("GET", "/events", host="evil.example").status, 421)
        self.site.doStart()
        self.site.doStop()
        self.assertTrue(visitor.transport.value().endswith(b"\r\n0\r\n\r\n"))

    def test_gets(self) -> None:
        """Each page can be read; HEAD gives its head only."""
        for path in GETS:
            response = self.ask("GET", path)
            self.assertEqual(response.status, 200, path)
            self.assertEqual(response.headers["Cache-Control"], "no-store")
            self.assertEqual(response.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(int(response.headers["Content-Length"]), len(response.text.encode()))
            head = self.ask("HEAD", path)
            self.assertEqual((head.status, head.text), (200, ""), path)

    def test_missing(self) -> None:
        """An unknown page is a 404 in one line; pages have no pages below them."""
        for path in ("/nothing", "/nothing/below", "/config/below", "/config/"):
            response = self.ask("GET", path)
            self.assertEqual(response.status, 404)
            self.assertEqual(response.text, "404 There is no such page; /help lists all pages.\n")

    def test_live(self) -> None:
        """It is alive in any state."""
        for state in (STARTING, SERVING, DRAINING):
            self.sidecar.state = state
            self.health.why = "the upstream is gone"
            self.assertEqual(self.ask("GET", "/live").status, 200)

    def test_ready(self) -> None:
        """It is ready while it serves and the upstream is healthy; else it gives the reason."""
        for state, why, status, text in (
            (SERVING, None, 200, "sitio is ready\n"),
            (STARTING, None, 503, "sitio is starting\n"),
            (DRAINING, None, 503, "sitio is draining\n"),
            (SERVING, "the upstream is gone", 503, "the upstream is gone\n"),
        ):
            self.sidecar.state = state
            self.health.why = why
            response = self.ask("GET", "/ready")
            self.assertEqual((response.status, response.text), (status, text))

    def test_warnings(self) -> None:
        """While it is ready it says what an operator has to know, such as a certificate's end."""
        self.sidecar.warned = ["the certificate CN=a expires in 3 days", "another"]
        response = self.ask("GET", "/ready")
        self.assertEqual(response.status, 200)
        self.assertEqual(
            response.text, "sitio is ready; the certificate CN=a expires in 3 days; another\n"
        )

    def test_json(self) -> None:
        """Metrics, policies, exchanges and options are JSON."""
        for path, data in (
            ("/stats.json", workerSnapshot(3)),
            ("/policies", workerSnapshot(3)["policies"]),
            ("/exchanges", {"failed": [], "recent": [], "open": []}),
            ("/config", {"sitio": "1", "options": {}}),
        ):
            response = self.ask("GET", path)
            self.assertEqual(response.headers["Content-Type"], "application/json")
            self.assertEqual(json.loads(response.text), data)

    def test_metrics(self) -> None:
        """The metrics are in the format that Prometheus asks for."""
        response = self.ask("GET", "/metrics")
        self.assertTrue(response.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        self.assertIn('http_route=""', response.text)
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        response = self.ask("GET", "/metrics", accept=accept)
        self.assertTrue(response.headers["Content-Type"].startswith("application/openmetrics-text"))
        self.assertTrue(response.text.endswith("# EOF\n"))

    def test_metricsShared(self) -> None:
        """
        Concurrent requests share one page for each format; the formats are made one after
        the other.  A client that leaves does not disturb the others.
        """
        made: list[str] = []

        def page(snapshot: object, accept: str, series: object) -> Steps[tuple[list[bytes], str]]:
            made.append(accept)
            if len(made) == 2:
                raise ZeroDivisionError
            yield MAX_WORK
            return [b"a", b"ll"], "text/plain"

        self.patch(metrics, "exposition", page)
        head = b"GET /metrics HTTP/1.1\r\nHost: a\r\n"
        visitors = [Visitor(self.site) for _ in range(50)]
        for each in visitors:
            each.sends(head + b"\r\n")
        other = Visitor(self.site)
        other.sends(head + b"Accept: application/openmetrics-text\r\n\r\n")
        self.assertEqual(made, [""])
        visitors.pop(0).channel.connectionLost(Failure(ConnectionDone()))
        late = Visitor(self.site)
        late.sends(head + b"\r\n")
        self.clock.advance(0)
        for each in (*visitors, late):
            self.assertEqual(read(each.transport.value()).text, "all")
        self.assertEqual(made[1:], ["application/openmetrics-text"])
        self.assertEqual(read(other.transport.value()).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        again = Visitor(self.site)
        again.sends(head + b"\r\n")
        self.assertEqual(len(made), 3)

    def test_parts(self) -> None:
        """A long page leaves in turns; of one whose client has left no more is sent."""
        for leaves in (False, True):
            body = [b"x" * PART_BYTES] * 40
            self.patch(pages, "_text", lambda sentence, body=body: PageContent(body))
            visitor = Visitor(self.site)
            visitor.sends(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
            sent = len(visitor.transport.value())
            self.assertLess(sent, 10 * PART_BYTES)
            if leaves:
                visitor.channel.connectionLost(Failure(ConnectionDone()))
            self.clock.pump([0] * 40)
            now = len(visitor.transport.value())
            self.assertEqual(now > 40 * PART_BYTES, not leaves)
            self.assertTrue(now == sent or not leaves)
            self.assertEqual(self.clock.getDelayedCalls()[1:], [])

    def test_reload(self) -> None:
        """/reload tells which generation is in use, or all mistakes, each in a line."""
        response = self.ask("POST", "/reload")
        self.assertEqual(self.reloads, ["POST /reload"])
        self.assertEqual(
            (response.status, response.text),
            (200, "sitio uses generation 1 of its configuration\n"),
        )
        self.configState.adopted(2, 0.0, ["workers", "fleet"])
        text = self.ask("POST", "/reload").text
        self.assertIn(
            "generation 2 of its configuration; these keys need a restart: workers, ", text
        )
        self.configState.refused(["a.toml:1: no", "a.toml:2: not"], 0.0)
        response = self.ask("POST", "/reload")
        self.assertEqual((response.status, response.text), (422, "a.toml:1: no\na.toml:2: not\n"))

    def test_configured(self) -> None:
        """A sidecar that a program configures can't do that."""
        self.pages._reload = None
        self.assertEqual(self.ask("POST", "/reload").status, 404)

    def test_drain(self) -> None:
        """After /drain it is not ready."""
        self.assertEqual(self.ask("POST", "/drain").status, 200)
        self.assertEqual(self.sidecar.state, DRAINING)
        self.assertEqual(self.ask("GET", "/ready").status, 503)

    def test_quit(self) -> None:
        """After /quit it responds first, and then ends."""
        self.assertEqual(self.ask("POST", "/quit").status, 200)
        self.assertEqual(self.quits, [])
        self.clock.advance(QUIT_DELAY_SECONDS)
        self.assertEqual(self.quits, ["quit"])

    def test_quitTwice(self) -> None:
        """/quit may come twice, and with a signal."""

        def quit() -> None:
            raise ReactorNotRunning()

        self.quit = quit
        for _ in range(2):
            self.assertEqual(self.ask("POST", "/quit").status, 200)
        self.clock.advance(QUIT_DELAY_SECONDS)

    def test_broken(self) -> None:
        """A page that fails is a 500 without details; these are logged."""
        self.sidecar.late = Deferred()
        visitor = Visitor(self.site)
        self.assertEqual(visitor.sends(b"GET /stats.json HTTP/1.1\r\nHost: a\r\n\r\n"), b"")
        self.sidecar.late.errback(RuntimeError("a secret"))
        response = read(visitor.transport.value())
        self.assertEqual(
            (response.status, response.text), (500, "500 This page failed; see the log.\n")
        )
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_gone(self) -> None:
        """A client that leaves cancels the page; this is not logged as an error."""
        self.sidecar.late = Deferred()
        visitor = Visitor(self.site)
        visitor.sends(b"GET /stats.json HTTP/1.1\r\nHost: a\r\n\r\n")
        visitor.channel.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.sidecar.late.called)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_goneAnswered(self) -> None:
        """The same if the cancelled Deferred fires with a result, as that of Workers does."""
        self.sidecar.late = Deferred(lambda late: late.callback(workerSnapshot()))
        visitor = Visitor(self.site)
        visitor.sends(b"GET /stats.json HTTP/1.1\r\nHost: a\r\n\r\n")
        visitor.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((visitor.transport.value(), self.flushLoggedErrors()), (b"", []))


class StrangerTests(AdminTestCase):
    """Who may request which page."""

    def test_methods(self) -> None:
        """Another method gets 405, and Allow has the right one."""
        for path in GETS:
            for method in ("POST", "PUT", "DELETE", "FOO"):
                response = self.ask(method, path)
                self.assertEqual(
                    (response.status, response.headers["Allow"]), (405, "GET, HEAD"), path
                )
        for path in POSTS:
            for method in ("GET", "HEAD", "PUT", "OPTIONS"):
                response = self.ask(method, path)
                self.assertEqual((response.status, response.headers["Allow"]), (405, "POST"), path)
        self.clock.advance(QUIT_DELAY_SECONDS)
        self.assertEqual((self.sidecar.state, self.quits), (SERVING, []))

    def test_loopbackOnly(self) -> None:
        """POST is allowed from this host only, by the address of the connection."""
        for peer, status in (
            (LOCAL, 200),
            (IPv4Address("TCP", "127.9.9.9", 1), 200),
            (IPv6Address("TCP", "::1", 1), 200),
            (IPv6Address("TCP", "::ffff:127.0.0.1", 1), 200),
            (UNIXAddress(None), 200),
            (REMOTE, 403),
            (IPv6Address("TCP", "::ffff:192.0.2.7", 1), 403),
            (IPv6Address("TCP", "fe80::1%eth0", 1), 403),
        ):
            self.sidecar.state = SERVING
            response = self.ask("POST", "/drain", peer=peer, x_forwarded_for="127.0.0.1")
            self.assertEqual(response.status, status, peer)
            self.assertEqual(self.sidecar.state, DRAINING if status == 200 else SERVING)
            self.assertEqual(self.ask("POST", "/quit", peer=peer).status, status, peer)

    def test_crossSite(self) -> None:
        """A page of another site can't POST; sitio's own page and a program can."""
        cases: Any = (
            ({}, 200),
            ({"origin": "http://localhost:9901"}, 200),
            ({"sec_fetch_site": "same-origin"}, 200),
            ({"sec_fetch_site": "none"}, 200),
            ({"origin": "http://evil.example"}, 403),
            ({"origin": "http://localhost:8080"}, 403),
            ({"origin": "null"}, 403),
            ({"origin": ""}, 403),
            ({"sec_fetch_site": "cross-site"}, 403),
            ({"sec_fetch_site": "same-site"}, 403),
            ({"origin": "http://localhost:9901", "sec_fetch_site": "cross-site"}, 403),
        )
        for fields, status in cases:
            for path in POSTS:
                self.assertEqual(self.ask("POST", path, **fields).status, status, fields)

    def test_rebinding(self) -> None:
        """With a public name as Host every page is refused."""
        for host in (
            *("evil.example", "evil.example:9901", "127.0.0.1.evil.example", "a.b", "[::1"),
            *("evil.example\\.local", "evil.example/.local", "evil.example#.local", "[a]", ""),
        ):
            for path in PAGES:
                self.assertEqual(self.ask("GET", path, host=host).status, 421, host)
                self.assertEqual(self.ask("HEAD", path, host=host).status, 421, host)
            for path in POSTS:
                origin = f"http://{host}"
                self.assertEqual(self.ask("POST", path, host=host, origin=origin).status, 421)
        self.clock.advance(QUIT_DELAY_SECONDS)
        self.assertEqual((self.sidecar.state, self.quits), (SERVING, []))

    def test_twoHosts(self) -> None:
        """Each of several Host fields must be allowed."""
        for one, two, status in (
            ("localhost", "evil.example", 421),
            ("evil.example", "localhost", 421),
            ("localhost", "127.0.0.1", 200),
        ):
            head = f"GET /config HTTP/1.1\r\nHost: {one}\r\nHost: {two}\r\n\r\n"
            self.assertEqual(read(Visitor(self.site).sends(head.encode())).status, status)

    def test_badOrigin(self) -> None:
        """An Origin that is not a URL is refused."""
        for origin in ("http://[::1", "http://localhost:9901]", "["):
            self.assertEqual(self.ask("POST", "/drain", origin=origin).status, 403, origin)

    def test_noText(self) -> None:
        """Fields that are not valid text are refused or ignored; no page fails."""
        for head, status in (
            (b"GET /config HTTP/1.1\r\nHost: \xff\r\n", 421),
            (b"POST /drain HTTP/1.1\r\nHost: localhost\r\nOrigin: \xff\r\n", 403),
            (b"POST /drain HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: \xff\r\n", 403),
            (b"GET /metrics HTTP/1.1\r\nHost: \xff\r\nAccept: \xff\r\n", 421),
            (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: \xff\r\n", 200),
        ):
            visitor = Visitor(self.site)
            visitor.sends(head + b"\r\n")
            self.clock.advance(0)
            self.assertEqual(read(visitor.transport.value()).status, status, head)
        self.assertEqual(self.sidecar.state, SERVING)

    def test_ownNames(self) -> None:
        """An address, localhost, and names that exist in clusters only are allowed as Host."""
        for host in (
            *("127.0.0.1:9901", "10.1.2.3", "[::1]:9901", "[fe80::1]", "localhost", "proxy:9901"),
            *("a.localhost", "host.docker.internal:9901", "web.shop.svc", "web.svc.cluster.local"),
        ):
            self.assertEqual(self.ask("GET", "/config", host=host).status, 200, host)

    def test_anyName(self) -> None:
        """Probes may use any Host; so they learn no path of a request."""
        for path in ("/live", "/ready"):
            response = self.ask("GET", path, host="web.example.com")
            self.assertEqual(response.status, 200)
            self.assertRegex(response.text, "^sitio is [a-z]+\n$")

    def test_knownNames(self) -> None:
        """The operator can name further hosts."""
        site = Admin(
            self.clock,
            self.sidecar,
            self.health,
            dict,
            list,
            frozenset(("a.example",)),
        ).site()
        for host, status in (
            ("a.example", 200),
            ("A.Example:9901", 200),
            ("b.example", 421),
            ("a.example.evil.example", 421),
            ("xa.example", 421),
            ("", 421),
        ):
            self.assertEqual(Visitor(site).asks("GET", "/config", host=host).status, status, host)

    def test_noHost(self) -> None:
        """A probe in HTTP/1.0 without a Host is allowed; browsers send one."""
        response = read(Visitor(self.site).sends(b"GET /config HTTP/1.0\r\n\r\n"))
        self.assertEqual(response.status, 200)

    def test_body(self) -> None:
        """A body is dropped as it arrives: it is not kept in memory or on disk."""
        visitor = Visitor(self.site)
        length = 10_000_000
        head = f"POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        visitor.sends(head.encode())
        [request] = visitor.channel.requests
        for _ in range(99):
            visitor.sends(bytes(length // 100))
            self.clock.advance(0)
        self.assertEqual(request.content.getvalue(), b"")
        visitor.sends(bytes(length // 100))
        self.clock.advance(0)
        response = read(visitor.transport.value())
        self.assertEqual(response.status, 200)

    def test_idle(self) -> None:
        """An idle connection is closed."""
        visitor = Visitor(self.site)
        self.clock.advance(IDLE_SECONDS)
        self.assertTrue(visitor.transport.disconnecting)


@implementer(IStreamServerEndpoint)
@define
class Taken:
    """An endpoint that is in use, or listens late."""

    error: Exception | None = None
    factory: Any = None
    listening: Deferred[Any] = field(factory=Deferred)

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        self.factory = protocolFactory
        if self.error is not None:
            self.listening.errback(self.error)
        return self.listening


@define
class Port:
    """A listening port."""

    address: Any = ADMIN
    stopped: bool = False

    def getHost(self) -> Any:
        return self.address

    def stopListening(self) -> None:
        self.stopped = True


class PortTests(AdminTestCase):
    """The port opens first and closes last."""

    def setUp(self) -> None:
        AdminTestCase.setUp(self)
        self.recorder = LogRecorder()
        globalLogPublisher.addObserver(self.recorder)
        self.addCleanup(globalLogPublisher.removeObserver, self.recorder)
        self.taken = CannotListenError("127.0.0.1", 9901, OSError(98, "Address already in use"))

    def lines(self) -> list[str]:
        """The log lines since the last call."""
        lines = [str(formatEvent(each)) for each in self.recorder.events]
        self.recorder.events.clear()
        return lines

    def test_listens(self) -> None:
        """It listens at its endpoint, logs the address, and stops."""
        endpoint, port = Taken(), Port()
        service = AdminPort(lambda: self.site, endpoint)
        service.startService()
        endpoint.listening.callback(port)
        self.assertEqual(self.lines(), ["The admin pages are on http://127.0.0.1:9901/"])
        service.stopService()
        self.assertTrue(port.stopped)

    def test_addresses(self) -> None:
        """The logged address can be opened, for each kind of address."""
        for address, said in (
            (IPv6Address("TCP", "::1", 9901), "http://[::1]:9901/"),
            (UNIXAddress("/run/sitio"), "/run/sitio"),
        ):
            endpoint = Taken()
            AdminPort(lambda: self.site, endpoint).startService()
            endpoint.listening.callback(Port(address))
            self.assertEqual(self.lines(), [f"The admin pages are on {said}"])

    def test_takenByName(self) -> None:
        """If a port that was asked for is in use, the start fails with a sentence."""
        service = AdminPort(lambda: self.site, Taken(self.taken))
        error = self.assertRaises(CannotStart, service.startService)
        self.assertIn(
            "sitio: --admin: can't listen on port 9901: Address already in use", str(error)
        )
        service = AdminPort(lambda: self.site, Taken(self.taken), option="--probes")
        self.assertIn(
            "sitio: --probes: can't listen",
            str(self.assertRaises(CannotStart, service.startService)),
        )

    def test_takenByDefault(self) -> None:
        """If the default port is in use, another one is used, and that is logged."""
        spare = Taken()
        AdminPort(lambda: self.site, Taken(self.taken), spare).startService()
        spare.listening.callback(Port(IPv4Address("TCP", "127.0.0.1", 40404)))
        self.assertEqual(
            self.lines(),
            [
                "sitio can't listen on port 9901: Address already in use; so its admin pages"
                " are on another port",
                "The admin pages are on http://127.0.0.1:40404/",
            ],
        )

    def test_late(self) -> None:
        """An endpoint that fails after the start is logged."""
        endpoint = Taken()
        AdminPort(lambda: self.site, endpoint).startService()
        endpoint.listening.errback(self.taken)
        self.assertEqual(
            self.lines(),
            ["sitio has no admin pages: can't listen on port 9901: Address already in use"],
        )

    def test_stoppedEarly(self) -> None:
        """It may be stopped before it listens."""
        endpoint = Taken()
        service = AdminPort(lambda: self.site, endpoint)
        service.startService()
        service.stopService()
        self.assertTrue(endpoint.listening.called)
        self.assertEqual((service.port, self.lines()), (None, []))

    def test_few(self) -> None:
        """
        The number of open connections is limited: a new one, which may be a probe's,
        aborts the oldest.
        """
        endpoint = Taken()
        service = AdminPort(lambda: self.site, endpoint)
        service.startService()
        endpoint.listening.callback(Port())
        visitors = [Visitor(endpoint.factory) for _ in range(MAX_CONNECTIONS)]
        self.assertFalse(any(each.transport.disconnected for each in visitors))
        for count in (1, 2):
            self.assertEqual(Visitor(endpoint.factory).asks("GET", "/live").status, 200)
            # Their end comes later, as that of a connection may.
            gone = [each.transport.disconnected for each in visitors]
            self.assertEqual(gone, [True] * count + [False] * (MAX_CONNECTIONS - count))
        for each in visitors:
            each.channel.connectionLost(Failure(ConnectionDone()))
        more = [Visitor(endpoint.factory) for _ in range(MAX_CONNECTIONS - 2)]
        self.assertFalse(any(each.transport.disconnected for each in more))

    def test_closes(self) -> None:
        """When it stops, each connection is closed after its response is sent."""
        endpoint = Taken()
        service = AdminPort(lambda: self.site, endpoint)
        service.startService()
        endpoint.listening.callback(Port())
        visitor = Visitor(endpoint.factory)
        service.stopService()
        self.assertTrue(visitor.transport.disconnecting)

    def test_made(self) -> None:
        """The pages are made once, for the first connection, and end with the port."""
        made: list[AdminSite] = []

        def make() -> AdminSite:
            made.append(self.pages.site())
            return made[0]

        endpoint = Taken()
        AdminPort(make, endpoint).startService()
        endpoint.factory.doStart()
        endpoint.listening.callback(Port())
        self.assertEqual(made, [])
        visitor = Visitor(endpoint.factory)
        self.assertIn(b"event-stream", visitor.sends(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n"))
        self.assertEqual(Visitor(endpoint.factory).asks("GET", "/live").status, 200)
        self.assertEqual(len(made), 1)
        endpoint.factory.doStop()
        self.assertTrue(visitor.transport.value().endswith(b"\r\n0\r\n\r\n"))

    def lazy(self, make: Callable[[], AdminSite]) -> tuple[Taken, list[str]]:
        """A port that imports three modules, one of which there is not; and what it imports."""
        imported: list[str] = []

        def importing(name: str) -> None:
            imported.append(name)
            if name == "no.b":
                raise ImportError(name)

        self.patch(module, "MODULES", ("no.a", "os", "no.b", "no.c"))
        self.patch(module, "import_module", importing)
        endpoint = Taken()
        AdminPort(make, endpoint, clock=self.clock).startService()
        endpoint.factory.doStart()
        endpoint.listening.callback(Port())
        return endpoint, imported

    def test_inTurns(self) -> None:
        """
        Each turn imports one module.  Connections wait meanwhile, nothing is read from them,
        and one may leave.
        """
        clock = self.clock
        endpoint, imported = self.lazy(lambda: self.site)
        visitors = [Visitor(endpoint.factory) for _ in range(3)]
        visitors[1].channel.connectionLost(Failure(ConnectionDone()))
        for each in (visitors[0], visitors[2]):
            self.assertEqual(each.transport.producerState, "paused")
        self.assertEqual(imported, ["no.a"])
        clock.advance(0)
        self.assertEqual(imported, ["no.a", "no.b", "no.c"])
        for each in (visitors[0], visitors[2], Visitor(endpoint.factory)):
            self.assertEqual(each.transport.producerState, "producing")
            self.assertEqual(each.asks("GET", "/live").status, 200)
        endpoint.factory.doStop()

    def test_inTurnsUnmakeable(self) -> None:
        """If the pages can't be made, connections that wait are closed."""
        endpoint, _ = self.lazy(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        visitor = Visitor(endpoint.factory)
        self.clock.advance(0)
        self.assertTrue(visitor.transport.disconnecting)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_inTurnsStopped(self) -> None:
        """A stop in between ends it."""
        endpoint, imported = self.lazy(lambda: self.fail("made"))
        visitor = Visitor(endpoint.factory)
        endpoint.factory.doStop()
        self.clock.advance(0)
        self.assertEqual((imported, self.clock.getDelayedCalls()), (["no.a"], []))
        self.assertTrue(visitor.transport.disconnecting)

    def test_neverMade(self) -> None:
        """If there was no connection, there are no pages to end."""
        endpoint = Taken()
        AdminPort(lambda: self.fail("made"), endpoint).startService()
        endpoint.factory.doStart()
        endpoint.factory.doStop()

    def test_unmakeable(self) -> None:
        """
        If the pages can't be made, that is logged once, and connections are closed.  The next
        connection makes another attempt: the reason may be gone.
        """
        made: list[None] = []

        def make() -> AdminSite:
            made.append(None)
            if len(made) < 4:
                raise OSError(24, "Too many open files")
            return self.site

        endpoint = Taken()
        AdminPort(make, endpoint).startService()
        endpoint.factory.doStart()
        endpoint.listening.callback(Port())
        self.lines()
        for _ in range(3):
            self.assertIs(endpoint.factory.buildProtocol(REMOTE), None)
        self.assertEqual(self.lines(), ["sitio has no admin pages for now: they can't be made"])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        for _ in range(2):
            self.assertEqual(Visitor(endpoint.factory).asks("GET", "/live").status, 200)
        self.assertEqual(len(made), 4)
        endpoint.factory.doStop()

    def test_spare(self) -> None:
        """
        The port keeps descriptors.  They are free while the pages are made, which imports
        files, and kept again afterwards.  When they are used up, the oldest connection is
        aborted for the next one.  At the end they are given back.
        """
        before = len(os.listdir("/proc/self/fd"))
        counts: list[int] = []

        def kept() -> int:
            return len(os.listdir("/proc/self/fd")) - before

        def make() -> AdminSite:
            counts.append(kept())
            return self.site

        endpoint = Taken()
        port = AdminPort(make, endpoint)
        port.startService()
        endpoint.factory.doStart()
        listening: Any = type("Pausing", (Port, PausingPort), {})()
        endpoint.listening.callback(listening)
        self.assertEqual(kept(), SPARE_DESCRIPTORS)
        visitor = Visitor(endpoint.factory)
        self.assertEqual((counts, kept()), ([0], SPARE_DESCRIPTORS))
        assert listening.spare is not None
        for _ in range(SPARE_DESCRIPTORS):
            self.assertTrue(listening.spare.give())
        self.assertFalse(visitor.transport.disconnecting or visitor.transport.disconnected)
        self.assertFalse(listening.spare.give())
        self.assertTrue(visitor.transport.disconnecting or visitor.transport.disconnected)
        self.assertFalse(listening.spare.give())
        listening.spare.keep()
        port.stopService()
        self.assertEqual(kept(), 0)

    def test_interface(self) -> None:
        """The sidecar of these tests provides ISidecar."""
        verifyObject(ISidecar, self.sidecar)
        self.assertIsInstance(self.site, AdminSite)


PATHS = (b"/live", b"/help", b"/none", b"/config", b"/ready")

#: Requests of a flood.
MANY = 200


def get(path: bytes) -> bytes:
    """A request without a body."""
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path


def post(chunks: int) -> bytes:
    """A request with many chunks of one byte."""
    head = b"POST /live HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"1\r\na\r\n" * chunks + b"0\r\n\r\n"


class FairChannelTests(AdminTestCase):
    """What a client of the admin port sends at once is answered in many turns."""

    def setUp(self) -> None:
        super().setUp()
        self.visitor = Visitor(self.site)

    def statuses(self) -> list[int]:
        """The statuses of all responses so far."""
        lines = self.visitor.transport.value().split(b"HTTP/1.1 ")[1:]
        return [int(each[:3]) for each in lines]

    @property
    def paused(self) -> bool:
        """Whether the connection reads nothing."""
        return self.visitor.transport.producerState == "paused"

    def turn(self) -> bool:
        """One turn of the reactor; returns whether there was something to do."""
        now = self.clock.seconds()
        waiting: Any = self.clock.getDelayedCalls()
        due = [each for each in waiting if each.getTime() <= now]
        for each in due:
            self.clock.calls.remove(each)
            each.called = 1
            each.func(*each.args, **each.kw)
        return bool(due)

    def settle(self) -> int:
        """Let all turns pass; returns how many there were."""
        turns = 0
        while self.turn():
            turns += 1
            self.assertLess(turns, 10_000)
        return turns

    def test_pipelined(self) -> None:
        """One is answered in each turn, in order, and then the connection reads on."""
        for path, status in zip(PATHS, (200, 200, 404, 200, 200), strict=True):
            self.visitor = Visitor(self.site)
            self.visitor.sends(get(path) * MANY)
            self.assertEqual(self.statuses(), [status])
            self.assertTrue(self.paused)
            self.turn()
            self.assertEqual(self.statuses(), [status] * 2)
            self.settle()
            self.assertEqual(self.statuses(), [status] * MANY)
            self.assertFalse(self.paused)

    def test_pieces(self) -> None:
        """It does not matter where reads cut the requests."""
        data = b"".join(map(get, PATHS)) * 3
        for size in (1, 7, 40, 999):
            self.visitor = Visitor(self.site)
            for at in range(0, len(data), size):
                self.visitor.channel.dataReceived(data[at : at + size])
            self.settle()
            self.assertEqual(self.statuses(), [200, 200, 404, 200, 200] * 3)
            self.assertFalse(self.paused)

    def test_chunks(self) -> None:
        """A body of many chunks is parsed in pieces."""
        data = post(20_000)
        self.visitor.sends(data)
        self.assertEqual(self.statuses(), [])
        self.assertTrue(self.paused)
        self.assertGreaterEqual(self.settle(), len(data) // MAX_BYTES)
        self.assertEqual(self.statuses(), [405])
        self.assertFalse(self.paused)

    def test_late(self) -> None:
        """Behind a response that takes time, little is held, and answered afterwards."""
        late = self.sidecar.late = Deferred[SidecarSnapshot]()
        self.visitor.sends(get(b"/stats.json") + get(b"/live") * 3)
        self.settle()
        self.assertFalse(self.paused)
        self.visitor.channel.dataReceived(get(b"/live") * MANY)
        self.settle()
        self.assertFalse(self.paused)
        self.visitor.channel.dataReceived(get(b"/live") * (MAX_HELD_BYTES // 30))
        self.assertTrue(self.paused)
        self.settle()
        self.assertEqual(self.statuses(), [])
        self.sidecar.late = None
        late.callback(workerSnapshot(3))
        self.settle()
        self.assertEqual(self.statuses(), [200] * (1 + 3 + MANY + MAX_HELD_BYTES // 30))
        self.assertFalse(self.paused)

    def test_notRead(self) -> None:
        """A client that does not read its responses gets no more of them."""
        self.visitor.sends(get(b"/live") * MANY)
        self.visitor.channel.pauseProducing()
        self.settle()
        self.assertEqual(self.statuses(), [200])
        self.assertTrue(self.paused)
        self.visitor.channel.resumeProducing()
        self.settle()
        self.assertEqual(self.statuses(), [200] * MANY)
        self.assertFalse(self.paused)

    def test_lostMeanwhile(self) -> None:
        """If the connection is lost meanwhile, nothing is left behind."""
        self.visitor.sends(get(b"/live") * MANY)
        self.visitor.channel.connectionLost(Failure(ConnectionLost()))
        self.settle()
        self.assertEqual(self.statuses(), [200])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_last(self) -> None:
        """What comes after the last request of a connection is dropped."""
        close = get(b"/live").replace(b"Host", b"Connection: close\r\nHost")
        self.visitor.sends(get(b"/live") + close + get(b"/live") * MANY)
        self.settle()
        self.assertEqual(self.statuses(), [200, 200])
        self.assertTrue(self.visitor.transport.disconnecting)
