"""
Tests of L{sitio.demo}.
"""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet import task
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, Cooperator
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from sitio import demo
from sitio.demo import PATTERN, SLOW_SECONDS, DemoService, demoService, demoSite

HERE = Path(demo.__file__).parent
PHOTOS = sorted((HERE / "site" / "photos").iterdir())


class Links(HTMLParser):
    """The link targets and the elements of a page."""

    def __init__(self, page: str) -> None:
        HTMLParser.__init__(self)
        self.targets: list[str] = []
        self.elements: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.targets += [value for name, value in attrs if name in ("href", "src") and value]


class SiteTests(SynchronousTestCase):
    """The pages and files of the site."""

    def setUp(self) -> None:
        self.clock = Clock()
        # Twisted's global cooperator sends files piece by piece.
        cooperator = Cooperator(scheduler=lambda call: self.clock.callLater(0, call))
        self.patch(task, "_theCooperator", cooperator)
        self.visit(demoSite(self.clock))

    def visit(self, site: Site) -> None:
        """Send further requests to this site."""
        self.agent = RequestTraversalAgent(site.resource)
        self.treq = HTTPClient(self.agent)

    def settled(self, deferred: Deferred[Any]) -> Any:
        """The result of a request, after all written data has arrived."""
        for _ in range(10):
            self.clock.advance(0)
            self.agent.flush()
        return self.successResultOf(deferred)

    def request(self, path: str, method: str = "GET", **options: Any) -> Any:
        """treq's response to a request."""
        return self.settled(self.treq.request(method, f"http://127.0.0.1:8087{path}", **options))

    def field(self, response: Any, name: str) -> str:
        """The value of a field that occurs once in a response."""
        (value,) = response.headers.getRawHeaders(name)
        assert isinstance(value, str)
        return value

    def text(self, response: Any) -> str:
        """The body of a response."""
        text = self.settled(response.text())
        assert isinstance(text, str)
        return text

    def test_index(self) -> None:
        """The first page is HTML in UTF-8, with its heading."""
        response = self.request("/")
        self.assertEqual(response.code, 200)
        self.assertEqual(self.field(response, "Content-Type"), "text/html; charset=utf-8")
        page = self.text(response)
        self.assertIn("<h1>Served by the demo upstream,<br>through sitio</h1>", page)

    def test_links(self) -> None:
        """All link targets of the first page exist, except the missing picture."""
        links = Links(self.text(self.request("/")))
        missing = set()
        for target in links.targets:
            if target == "http://127.0.0.1:8087/":
                continue
            self.assertTrue(target.startswith("/"), f"{target} is another site's")
            if target == "/slow":
                continue
            code = self.request(target).code
            if code != 200:
                self.assertEqual(code, 404, target)
                missing.add(target)
        self.assertEqual(missing, {"/photos/volcano"})
        self.assertLessEqual({"/slow", "/flaky"}, set(links.targets))
        self.assertNotIn("script", links.elements)

    def test_photos(self) -> None:
        """The page shows each photo; all are JPEG files, and small."""
        targets = Links(self.text(self.request("/"))).targets
        self.assertEqual(len(PHOTOS), 8)
        for photo in PHOTOS:
            self.assertIn(f"/photos/{photo.name}", targets)
            response = self.request(f"/photos/{photo.name}")
            self.assertEqual(self.field(response, "Content-Type"), "image/jpeg")
            body = self.settled(response.content())
            self.assertEqual(body, photo.read_bytes())
            self.assertEqual((body[:3], body[-2:]), (b"\xff\xd8\xff", b"\xff\xd9"))
        self.assertLess(sum(photo.stat().st_size for photo in PHOTOS), 350_000)

    def test_types(self) -> None:
        """Content types do not depend on the host's table of types."""
        self.assertEqual({path.suffix for path in (HERE / "site").rglob("*.*")}, set(demo.TYPES))
        for path, kind in (
            ("/style.css", "text/css; charset=utf-8"),
            ("/icon.svg", "image/svg+xml"),
        ):
            self.assertEqual(self.field(self.request(path), "Content-Type"), kind)

    def test_notModified(self) -> None:
        """A client with the current file gets 304, by entity tag and by date."""
        response = self.request("/photos/lake.jpg")
        for condition, proof in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
            again = self.request(
                "/photos/lake.jpg", headers={condition: self.field(response, proof)}
            )
            self.assertEqual(again.code, 304, condition)
            self.assertEqual(self.settled(again.content()), b"")
        other = self.request("/photos/lake.jpg", headers={"If-None-Match": '"other"'})
        self.assertEqual(other.code, 200)

    def test_tags(self) -> None:
        """Each file has a different entity tag."""
        tags = {self.field(self.request(f"/photos/{photo.name}"), "ETag") for photo in PHOTOS}
        self.assertEqual(len(tags), len(PHOTOS))

    def test_caching(self) -> None:
        """Browsers revalidate on each visit, and caches may keep a copy."""
        for path in ("/", "/style.css", "/photos/lake.jpg", "/flaky"):
            self.assertEqual(self.field(self.request(path), "Cache-Control"), "public, max-age=0")

    def test_range(self) -> None:
        """The site answers a range request for a photo."""
        response = self.request("/photos/lake.jpg", headers={"Range": "bytes=0-99"})
        self.assertEqual(response.code, 206)
        self.assertEqual(
            self.settled(response.content()), (HERE / "site/photos/lake.jpg").read_bytes()[:100]
        )

    def test_nothingElse(self) -> None:
        """Only files of the site are served: no directory list, no source, no parent folder."""
        for path in (
            "/photos/",
            "/photos/volcano.jpg",
            "/__init__.py",
            "/../__init__.py",
            "/%2e%2e/__init__.py",
            "/photos/%2e%2e/%2e%2e/page.html",
            "/%2e%2e%2f__init__.py",
        ):
            self.assertEqual(self.request(path).code, 404, path)

    def test_missing(self) -> None:
        """A missing page is the site's own 404, for any method."""
        for method in ("GET", "POST", "DELETE"):
            response = self.request("/photos/volcano", method)
            self.assertEqual(response.code, 404)
            self.assertIn("the service's own 404", self.text(response))

    def test_flaky(self) -> None:
        """The third, fourth and fifth of every six requests fail with 500."""
        codes = [self.request("/flaky").code for _ in range(12)]
        self.assertEqual(codes, [200, 200, 500, 500, 500, 200] * 2)
        self.assertEqual(codes, [*PATTERN, *PATTERN])

    def test_flakyNumber(self) -> None:
        """Each response of the flaky page has its number, so that a masked one is recognised."""
        for number in range(1, 9):
            page = self.text(self.request("/flaky"))
            self.assertIn(f"response <strong>{number}</strong>", page)
            self.assertEqual(page.count('aria-current="step"'), 1)
            self.assertEqual(page.count('class="bad"'), 3)

    def test_flakyForEachSite(self) -> None:
        """Each site starts the pattern from the beginning."""
        self.request("/flaky")
        self.visit(demoSite(self.clock))
        self.assertIn("response <strong>1</strong>", self.text(self.request("/flaky")))

    def test_slow(self) -> None:
        """The slow page takes a second and a half of the given clock."""
        asked = self.treq.get("http://127.0.0.1:8087/slow")
        self.clock.advance(SLOW_SECONDS - 0.01)
        self.agent.flush()
        self.assertNoResult(asked)
        self.clock.advance(0.01)
        response = self.settled(asked)
        self.assertEqual(response.code, 200)
        self.assertIn("1.5 seconds", self.text(response))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slowAndGone(self) -> None:
        """A client that disconnects early leaves no delayed call."""
        asked = self.treq.get("http://127.0.0.1:8087/slow")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        asked.cancel()
        self.agent.flush()
        self.failureResultOf(asked)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_head(self) -> None:
        """A HEAD gets the same head as a GET, and no body."""
        for path in ("/", "/photos/lake.jpg", "/flaky", "/slow", "/nowhere"):
            got = []
            for method in ("HEAD", "GET"):
                asked = self.treq.request(method, f"http://127.0.0.1:8087{path}")
                self.clock.advance(SLOW_SECONDS)
                got.append(self.settled(asked))
            head, whole = got
            self.assertEqual((head.code, self.text(head)), (whole.code, ""))
            self.assertEqual(self.field(head, "Content-Type"), self.field(whole, "Content-Type"))
            self.assertEqual(
                int(self.field(head, "Content-Length")), len(self.settled(whole.content())), path
            )

    def test_silence(self) -> None:
        """Requests are not logged."""
        site = demoSite(self.clock)
        with capturedLogs() as events:
            for method in ("GET", "HEAD"):
                for path in ("/", "/flaky", "/nowhere", "/photos/lake.jpg"):
                    self.request(path, method)
            site.log(None)  # type: ignore[arg-type]
        self.assertEqual(events, [])


class Taken(MemoryReactorClock):
    """A reactor where port 8087 is in use, and port 0 becomes 40000."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port == 8087:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return MemoryReactorClock.listenTCP(self, port or 40000, factory, backlog, interface)


class ServiceTests(SynchronousTestCase):
    """The service listens on loopback, and is an endpoint."""

    def started(self, reactor: Any) -> DemoService:
        """A started service."""
        service = demoService(reactor)
        service.startService()
        return service

    def test_endpoint(self) -> None:
        """The service provides L{IStreamClientEndpoint}."""
        verifyObject(IStreamClientEndpoint, demoService(MemoryReactorClock()))

    def test_loopback(self) -> None:
        """The site listens on port 8087 of loopback only."""
        reactor = MemoryReactorClock()
        self.started(reactor)
        ((port, site, _, interface),) = reactor.tcpServers
        self.assertEqual((port, interface), (8087, "127.0.0.1"))
        self.assertIsInstance(site, demo.DemoSite)

    def test_logged(self) -> None:
        """The address of the site is logged."""
        with capturedLogs() as events:
            self.started(MemoryReactorClock())
        self.assertEqual([(e["host"], e["port"]) for e in events], [("127.0.0.1", 8087)])

    def test_notBefore(self) -> None:
        """Nothing listens before the service starts."""
        reactor = MemoryReactorClock()
        demoService(reactor)
        self.assertEqual(reactor.tcpServers, [])

    def test_taken(self) -> None:
        """If the port is in use, the site uses another, logs that, and clients connect to it."""
        reactor = Taken()
        with capturedLogs() as events:
            service = self.started(reactor)
        self.assertEqual([event.get("port") for event in events], [None, 40000])
        self.assertEqual(events[0]["wanted"], 8087)
        self.assertIn("already in use", str(events[0]["reason"]))
        service.connect(Factory.forProtocol(Protocol))
        ((host, port, *_),) = reactor.tcpClients
        self.assertEqual((host, port), ("127.0.0.1", 40000))

    def test_connect(self) -> None:
        """Connecting to the service connects to the port of the site."""
        reactor = MemoryReactorClock()
        service = self.started(reactor)
        service.connect(Factory.forProtocol(Protocol))
        ((host, port, *_),) = reactor.tcpClients
        self.assertEqual((host, port), ("127.0.0.1", 8087))

    def test_stop(self) -> None:
        """After a stop the port is closed, and connecting fails; a second stop does nothing."""
        stopped = []

        class Port:
            """A port that records that it was closed."""

            def getHost(self) -> IPv4Address:
                return IPv4Address("TCP", "127.0.0.1", 8087)

            def stopListening(self) -> None:
                stopped.append(self)

        class Reactor(MemoryReactorClock):
            """A reactor with such ports."""

            def listenTCP(self, *arguments: Any, **options: Any) -> Any:
                return Port()

        service = self.started(Reactor())
        service.stopService()
        service.stopService()
        self.assertEqual(len(stopped), 1)
        failed = service.connect(Factory.forProtocol(Protocol))
        self.failureResultOf(failed, ConnectError)
