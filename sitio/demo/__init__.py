"""
The demo upstream: a small photo site on loopback, made with L{twisted.web}.

C{twistd sitio --demo} is in front of it.  Beside the photos it has a page
that sometimes fails and a page that is slow, to show what policies do.  The pages
and photos are in the folder C{site}; docs/pictures/draw.py draws the photos.

It imports nothing of sitio.  The reactor is passed in.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.web.http import CACHED
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.static import File
from zope.interface import implementer

#: Loopback only: clients from elsewhere go through sitio.
HOST = "127.0.0.1"
PORT = 8087

#: Browsers revalidate on each visit, so that each visit shows in the metrics.  Caches,
#: such as last-good, may keep a copy and use it when the site fails.
CACHING = b"public, max-age=0"

#: The statuses of the flaky page, in a cycle.
PATTERN = (200, 200, 500, 500, 500, 200)

#: Seconds that the slow page takes.
SLOW_SECONDS = 1.5

#: Content types by extension; the tables of hosts differ.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".svg": "image/svg+xml",
}

_HERE = Path(__file__).parent
_page = Template((_HERE / "page.html").read_text("utf-8"))


def _answer(request: Request, title: str, text: str, status: int = 200) -> int:
    """Answer with the page frame around some HTML; twisted.web drops the body for HEAD."""
    body = _page.substitute(title=title, text=text).encode()
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
    request.setHeader(b"Content-Length", str(len(body)).encode())
    request.setHeader(b"Cache-Control", CACHING)
    request.write(body)
    request.finish()
    return NOT_DONE_YET


class Missing(Resource):
    """A missing page, for any method."""

    isLeaf = True

    def render(self, request: Request) -> int:
        """Answer 404, in the words of this site."""
        text = (
            "<p>This is the service's own 404. sitio has passed it on.</p>\n"
            "<p>With <code>--policy error-page:404</code> sitio sends a page of its own"
            " instead.</p>\n"
        )
        return _answer(request, "There is nothing here", text, 404)


class Files(File):
    """The files of a directory, without a list of them."""

    contentTypes = TYPES
    childNotFound: Any = Missing()

    def directoryListing(self) -> Any:
        """No list: answer 404."""
        return self.childNotFound

    def render_GET(self, request: Request) -> Any:
        """Send the file, or 304 to a client that has it (RFC 9110, section 13.1)."""
        if self.isfile():
            request.setHeader(b"Cache-Control", CACHING)
            if request.setETag(self._tag()) is CACHED:
                return b""
        return File.render_GET(self, request)

    render_HEAD = render_GET

    def _tag(self) -> bytes:
        facts = f"{self.basename()} {self.getsize()} {self.getModificationTime()}"
        return f'"{sha256(facts.encode()).hexdigest()[:16]}"'.encode()


class Flaky(Resource):
    """A page that sometimes fails: see L{PATTERN}."""

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        self._asked = 0

    def render_GET(self, request: Request) -> int:
        """Answer with the next status of the pattern, and show its place."""
        place = self._asked % len(PATTERN)
        self._asked += 1
        status = PATTERN[place]
        marks = [f'<li class="{"good" if each == 200 else "bad"}">{each}</li>' for each in PATTERN]
        marks[place] = marks[place].replace("<li", '<li aria-current="step"')
        title = "It worked" if status == 200 else "It failed, as announced"
        text = (
            f"<p>This is response <strong>{self._asked}</strong> of this page,"
            f" number {place + 1} of every six.</p>\n"
            f'<ol class="pattern" aria-label="The six statuses">{"".join(marks)}</ol>\n'
            "<p>Reload and watch. Without a policy, you see each 500.</p>\n"
            "<p>With <code>--policy last-good:max-age=60</code> you see the last good response"
            " instead, with its old number, and the stats line counts the masked failures."
            " With <code>--policy retry</code> sitio sends a failed request again.</p>\n"
        )
        return _answer(request, title, text, status)


class Slow(Resource):
    """A page that takes L{SLOW_SECONDS}."""

    isLeaf = True

    def __init__(self, clock: IReactorTime) -> None:
        Resource.__init__(self)
        self._clock = clock

    def render_GET(self, request: Request) -> int:
        """Answer later, unless the client disconnects first."""
        call = self._clock.callLater(SLOW_SECONDS, self._response, request)
        request.notifyFinish().addErrback(lambda reason: call.cancel())
        return NOT_DONE_YET

    def _response(self, request: Request) -> None:
        text = (
            f"<p>This page always takes <strong>{SLOW_SECONDS} seconds</strong>. The next stats"
            " line shows it.</p>\n"
        )
        _answer(request, "Thank you for waiting", text)


class DemoSite(Site):
    """A site without an access log: sitio in front of it counts the requests."""

    noisy = False

    def log(self, request: Any) -> None:
        """Log nothing, so that the stats line is easy to see."""


def demoSite(reactor: Any) -> Site:
    """
    The photo site.

    @param reactor: provides L{IReactorTime}.
    """
    root = Files(str(_HERE / "site"))
    root.putChild(b"flaky", Flaky())
    root.putChild(b"slow", Slow(reactor))
    return DemoSite(root, reactor=reactor)


@implementer(IStreamClientEndpoint)
class DemoService(Service):
    """
    Serves a site on loopback, and is a client endpoint that connects to it.

    @ivar port: the listening port; L{None} while there is none.
    """

    _log = Logger(namespace="sitio.demo")

    def __init__(self, reactor: Any, port: int, site: IProtocolFactory) -> None:
        self.port: IListeningPort | None = None
        self._reactor = reactor
        self._wanted = port
        self._site = site

    def startService(self) -> None:
        """Listen on the port, or on another if that is in use."""
        Service.startService(self)
        try:
            self.port = self._listen(self._wanted)
        except CannotListenError as error:
            self.port = self._listen(0)
            self._log.warn(
                "The demo upstream can't use port {wanted}, and uses another: {reason}",
                wanted=self._wanted,
                reason=error.socketError,
            )
        self._log.info(
            "The demo upstream is on http://{host}:{port}/", host=HOST, port=self._portOf(self.port)
        )

    def _listen(self, port: int) -> IListeningPort:
        listening: IListeningPort = self._reactor.listenTCP(port, self._site, interface=HOST)
        return listening

    def _portOf(self, listening: IListeningPort) -> int:
        port: int = listening.getHost().port  # type: ignore[attr-defined]
        return port

    def stopService(self) -> Deferred[None] | None:
        """Stop listening; the Deferred fires when the port is closed."""
        Service.stopService(self)
        port, self.port = self.port, None
        return port.stopListening() if port is not None else None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}.  Fails with C{ConnectError} while not running."""
        if self.port is None:
            return fail(ConnectError(string="the demo upstream is not running"))
        endpoint = TCP4ClientEndpoint(self._reactor, HOST, self._portOf(self.port))
        return endpoint.connect(protocolFactory)


def demoService(reactor: Any, port: int = PORT) -> DemoService:
    """
    Make a service that runs the photo site on loopback.

    The service is also the client endpoint for the site: use it to connect, as the
    site listens on another port if C{port} is in use.

    @param reactor: provides L{IReactorTCP} and L{IReactorTime}.
    """
    service = DemoService(reactor, port, demoSite(reactor))
    service.setName("demo")
    return service
