"""
Promises of L{sitio.demo}.
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
from sitio.demo import PATTERN, SLOWNESS, DemoService, demoService, demoSite

HERE = Path(demo.__file__).parent
PHOTOS = sorted((HERE / "site" / "photos").iterdir())


class Links(HTMLParser):
    """What a page points to, and the elements that it has."""

    def __init__(self, page: str) -> None:
        HTMLParser.__init__(self)
        self.targets: list[str] = []
        self.elements: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.targets += [value for name, value in attrs if name in ("href", "src") and value]


class SiteTests(SynchronousTestCase):
    """What a visitor gets."""

    def setUp(self) -> None:
        self.clock = Clock()
        # Files go out piece by piece, by the one cooperator that Twisted has for all.
        cooperator = Cooperator(scheduler=lambda call: self.clock.callLater(0, call))
        self.patch(task, "_theCooperator", cooperator)
        self.visit(demoSite(self.clock))

    def visit(self, site: Site) -> None:
        """From now on ask this site."""
        self.agent = RequestTraversalAgent(site.resource)
        self.treq = HTTPClient(self.agent)

    def settled(self, deferred: Deferred[Any]) -> Any:
        """What a request comes to when all that was written has arrived."""
        for _ in range(10):
            self.clock.advance(0)
            self.agent.flush()
        return self.successResultOf(deferred)

    def asked(self, path: str, method: str = "GET", **options: Any) -> Any:
        """The response to a request, as treq has it."""
        return self.settled(self.treq.request(method, f"http://127.0.0.1:8087{path}", **options))

    def field(self, response: Any, name: str) -> str:
        """A field of a response that stands there once."""
        (value,) = response.headers.getRawHeaders(name)
        assert isinstance(value, str)
        return value

    def text(self, response: Any) -> str:
        """The body of a response."""
        text = self.settled(response.text())
        assert isinstance(text, str)
        return text

    def test_index(self) -> None:
        """The first page is HTML in UTF-8 that says what it shows."""
        response = self.asked("/")
        self.assertEqual(response.code, 200)
        self.assertEqual(self.field(response, "Content-Type"), "text/html; charset=utf-8")
        page = self.text(response)
        self.assertIn("<h1>Served by the demo upstream,<br>through sitio</h1>", page)

    def test_links(self) -> None:
        """All that the first page points to is there, but for the picture that is missing."""
        links = Links(self.text(self.asked("/")))
        missing = set()
        for target in links.targets:
            if target == "http://127.0.0.1:8087/":
                continue
            self.assertTrue(target.startswith("/"), f"{target} is another site's")
            if target == "/slow":
                continue
            code = self.asked(target).code
            if code != 200:
                self.assertEqual(code, 404, target)
                missing.add(target)
        self.assertEqual(missing, {"/photos/volcano"})
        self.assertLessEqual({"/slow", "/flaky"}, set(links.targets))
        self.assertNotIn("script", links.elements)

    def test_photos(self) -> None:
        """The page shows each photo, and they are JPEG pictures that are quick to fetch."""
        targets = Links(self.text(self.asked("/"))).targets
        self.assertEqual(len(PHOTOS), 8)
        for photo in PHOTOS:
            self.assertIn(f"/photos/{photo.name}", targets)
            response = self.asked(f"/photos/{photo.name}")
            self.assertEqual(self.field(response, "Content-Type"), "image/jpeg")
            body = self.settled(response.content())
            self.assertEqual(body, photo.read_bytes())
            self.assertEqual((body[:3], body[-2:]), (b"\xff\xd8\xff", b"\xff\xd9"))
        self.assertLess(sum(photo.stat().st_size for photo in PHOTOS), 350_000)

    def test_types(self) -> None:
        """Types do not depend on what the host knows of them."""
        self.assertEqual({path.suffix for path in (HERE / "site").rglob("*.*")}, set(demo.TYPES))
        for path, kind in (
            ("/style.css", "text/css; charset=utf-8"),
            ("/icon.svg", "image/svg+xml"),
        ):
            self.assertEqual(self.field(self.asked(path), "Content-Type"), kind)

    def test_notModified(self) -> None:
        """Who has a file already is told so, by its tag and by its date."""
        response = self.asked("/photos/lake.jpg")
        for condition, proof in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
            again = self.asked("/photos/lake.jpg", headers={condition: self.field(response, proof)})
            self.assertEqual(again.code, 304, condition)
            self.assertEqual(self.settled(again.content()), b"")
        other = self.asked("/photos/lake.jpg", headers={"If-None-Match": '"other"'})
        self.assertEqual(other.code, 200)

    def test_tags(self) -> None:
        """Each file has a tag of its own."""
        tags = {self.field(self.asked(f"/photos/{photo.name}"), "ETag") for photo in PHOTOS}
        self.assertEqual(len(tags), len(PHOTOS))

    def test_caching(self) -> None:
        """Browsers ask on each visit, and nothing forbids keeping a copy for bad times."""
        for path in ("/", "/style.css", "/photos/lake.jpg", "/flaky"):
            self.assertEqual(self.field(self.asked(path), "Cache-Control"), "public, max-age=0")

    def test_range(self) -> None:
        """A part of a photo can be asked for."""
        response = self.asked("/photos/lake.jpg", headers={"Range": "bytes=0-99"})
        self.assertEqual(response.code, 206)
        self.assertEqual(
            self.settled(response.content()), (HERE / "site/photos/lake.jpg").read_bytes()[:100]
        )

    def test_nothingElse(self) -> None:
        """Only the site's files are served: no directory, no source, nothing above it."""
        for path in (
            "/photos/",
            "/photos/volcano.jpg",
            "/__init__.py",
            "/../__init__.py",
            "/%2e%2e/__init__.py",
            "/photos/%2e%2e/%2e%2e/page.html",
            "/%2e%2e%2f__init__.py",
        ):
            self.assertEqual(self.asked(path).code, 404, path)

    def test_missing(self) -> None:
        """What is not there is a 404 of this site's own, whatever it is asked."""
        for method in ("GET", "POST", "DELETE"):
            response = self.asked("/photos/volcano", method)
            self.assertEqual(response.code, 404)
            self.assertIn("the service's own 404", self.text(response))

    def test_flaky(self) -> None:
        """Of each six requests the third, fourth and fifth fail with 500, over and over."""
        codes = [self.asked("/flaky").code for _ in range(12)]
        self.assertEqual(codes, [200, 200, 500, 500, 500, 200] * 2)
        self.assertEqual(codes, [*PATTERN, *PATTERN])

    def test_flakyTellsWhich(self) -> None:
        """Each response of the flaky page says which it is, so that an old one is known."""
        for number in range(1, 9):
            page = self.text(self.asked("/flaky"))
            self.assertIn(f"response <strong>{number}</strong>", page)
            self.assertEqual(page.count('aria-current="step"'), 1)
            self.assertEqual(page.count('class="bad"'), 3)

    def test_flakyForEachSite(self) -> None:
        """A site of its own starts the pattern anew."""
        self.asked("/flaky")
        self.visit(demoSite(self.clock))
        self.assertIn("response <strong>1</strong>", self.text(self.asked("/flaky")))

    def test_slow(self) -> None:
        """The slow page takes a second and a half, by the clock that was given."""
        asked = self.treq.get("http://127.0.0.1:8087/slow")
        self.clock.advance(SLOWNESS - 0.01)
        self.agent.flush()
        self.assertNoResult(asked)
        self.clock.advance(0.01)
        response = self.settled(asked)
        self.assertEqual(response.code, 200)
        self.assertIn("1.5 seconds", self.text(response))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slowAndGone(self) -> None:
        """A client that does not wait leaves no delayed call behind."""
        asked = self.treq.get("http://127.0.0.1:8087/slow")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        asked.cancel()
        self.agent.flush()
        self.failureResultOf(asked)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_head(self) -> None:
        """A HEAD is answered with the head that a GET has, and nothing else."""
        for path in ("/", "/photos/lake.jpg", "/flaky", "/slow", "/nowhere"):
            got = []
            for method in ("HEAD", "GET"):
                asked = self.treq.request(method, f"http://127.0.0.1:8087{path}")
                self.clock.advance(SLOWNESS)
                got.append(self.settled(asked))
            head, whole = got
            self.assertEqual((head.code, self.text(head)), (whole.code, ""))
            self.assertEqual(self.field(head, "Content-Type"), self.field(whole, "Content-Type"))
            self.assertEqual(
                int(self.field(head, "Content-Length")), len(self.settled(whole.content())), path
            )

    def test_silence(self) -> None:
        """Requests leave nothing in the log, which the stats line has to itself."""
        site = demoSite(self.clock)
        with capturedLogs() as events:
            for method in ("GET", "HEAD"):
                for path in ("/", "/flaky", "/nowhere", "/photos/lake.jpg"):
                    self.asked(path, method)
            site.log(None)  # type: ignore[arg-type]
        self.assertEqual(events, [])


class Taken(MemoryReactorClock):
    """A reactor on which port 8087 is somebody else's, and 0 is 40000."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port == 8087:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return MemoryReactorClock.listenTCP(self, port or 40000, factory, backlog, interface)


class ServiceTests(SynchronousTestCase):
    """Where the site listens."""

    def started(self, reactor: Any) -> DemoService:
        """A service that runs."""
        service = demoService(reactor)
        service.startService()
        return service

    def test_endpoint(self) -> None:
        """The service is an endpoint too."""
        verifyObject(IStreamClientEndpoint, demoService(MemoryReactorClock()))

    def test_loopback(self) -> None:
        """The site listens on loopback 8087, where nobody but this host can reach it."""
        reactor = MemoryReactorClock()
        self.started(reactor)
        ((port, site, _, interface),) = reactor.tcpServers
        self.assertEqual((port, interface), (8087, "127.0.0.1"))
        self.assertIsInstance(site, demo.DemoSite)

    def test_says(self) -> None:
        """The log says where the site is."""
        with capturedLogs() as events:
            self.started(MemoryReactorClock())
        self.assertEqual([(e["host"], e["port"]) for e in events], [("127.0.0.1", 8087)])

    def test_notBefore(self) -> None:
        """Nothing listens before the service starts."""
        reactor = MemoryReactorClock()
        demoService(reactor)
        self.assertEqual(reactor.tcpServers, [])

    def test_taken(self) -> None:
        """When the port is taken the site is on another, the log says so, and clients find it."""
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
        """Connecting to the service leads to where the site listens."""
        reactor = MemoryReactorClock()
        service = self.started(reactor)
        service.connect(Factory.forProtocol(Protocol))
        ((host, port, *_),) = reactor.tcpClients
        self.assertEqual((host, port), ("127.0.0.1", 8087))

    def test_stop(self) -> None:
        """After the stop nothing listens, and to connect fails; stopping twice does no harm."""
        stopped = []

        class Port:
            """A port that notes that it was closed."""

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
