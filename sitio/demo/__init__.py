"""
The demo upstream: a small photo site, for who has no service at hand.

It stands for the service that sitio is put in front of, and knows nothing of
it: plain L{twisted.web} on loopback.  Beside the photos it has a page that
fails at times and one that is slow, so that policies have something to do.

Contract: the reactor is passed in; the pages and photos lie beside this file,
in C{site}.  Where the photos come from: docs/pictures/draw.py.
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

#: Only the host itself may see it: it stands behind sitio.
HOST = "127.0.0.1"
PORT = 8087

#: Browsers ask again on each visit, so that it shows in the metrics; who keeps a
#: copy, as last-good does, may use it when the site fails.
CACHING = b"public, max-age=0"

#: What the flaky page does with each six requests, over and over.
PATTERN = (200, 200, 500, 500, 500, 200)

#: Seconds that the slow page takes.
SLOWNESS = 1.5

#: Said here, as what a host knows of types differs from host to host.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".svg": "image/svg+xml",
}

_HERE = Path(__file__).parent
_page = Template((_HERE / "page.html").read_text("utf-8"))


def _answer(request: Request, title: str, text: str, status: int = 200) -> int:
    """Answer with the common page around some HTML; a HEAD with its head alone."""
    body = _page.substitute(title=title, text=text).encode()
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"text/html; charset=utf-8")
    request.setHeader(b"Content-Length", str(len(body)).encode())
    request.setHeader(b"Cache-Control", CACHING)
    request.write(body)
    request.finish()
    return NOT_DONE_YET


class Missing(Resource):
    """What is not there, whatever it is asked."""

    isLeaf = True

    def render(self, request: Request) -> int:
        """A 404 that says whose it is."""
        text = (
            "<p>This is the service's own 404, in plain words: sitio has passed it on.</p>\n"
            "<p>With <code>--policy error-page:404</code> sitio sends a page of its own in"
            " its place.</p>\n"
        )
        return _answer(request, "There is nothing here", text, 404)


class Files(File):
    """The files of a directory, without a list of them."""

    contentTypes = TYPES
    childNotFound: Any = Missing()

    def directoryListing(self) -> Any:
        """There is none."""
        return self.childNotFound

    def render_GET(self, request: Request) -> Any:
        """The file, or a 304 for who has it already (RFC 9110, section 13.1)."""
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
    """A page that fails as L{PATTERN} says."""

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        self._asked = 0

    def render_GET(self, request: Request) -> int:
        """The next of the pattern, and which it is."""
        place = self._asked % len(PATTERN)
        self._asked += 1
        status = PATTERN[place]
        marks = [f'<li class="{"good" if each == 200 else "bad"}">{each}</li>' for each in PATTERN]
        marks[place] = marks[place].replace("<li", '<li aria-current="step"')
        title = "It worked" if status == 200 else "It failed, as promised"
        text = (
            f"<p>This is response <strong>{self._asked}</strong> of this page,"
            f" number {place + 1} of each six.</p>\n"
            f'<ol class="pattern" aria-label="What each six responses are">{"".join(marks)}</ol>\n'
            "<p>Reload and watch. Without a policy for it, you see each 500.</p>\n"
            "<p>With <code>--policy last-good:max-age=60</code> you go on seeing the last"
            " response that worked, its number standing still, while the stats line counts"
            " what was masked. With <code>--policy retry</code> sitio asks again before"
            " it believes a failure.</p>\n"
        )
        return _answer(request, title, text, status)


class Slow(Resource):
    """A page that takes L{SLOWNESS}."""

    isLeaf = True

    def __init__(self, clock: IReactorTime) -> None:
        Resource.__init__(self)
        self._clock = clock

    def render_GET(self, request: Request) -> int:
        """Answer later, unless the client goes away before."""
        call = self._clock.callLater(SLOWNESS, self._response, request)
        request.notifyFinish().addErrback(lambda reason: call.cancel())
        return NOT_DONE_YET

    def _response(self, request: Request) -> None:
        text = (
            f"<p>This page takes <strong>{SLOWNESS} seconds</strong>, whatever is done about"
            " it. Look at the next stats line: the wait is the upstream's.</p>\n"
        )
        _answer(request, "Thank you for waiting", text)


class DemoSite(Site):
    """The site, silent: sitio in front of it says what is asked for."""

    noisy = False

    def log(self, request: Any) -> None:
        """Nothing, or these lines would bury the stats line."""


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
    Serves a site on loopback, and is the endpoint that leads there.

    @ivar port: where it listens, or L{None} while it does not.
    """

    _log = Logger(namespace="sitio.demo")

    def __init__(self, reactor: Any, port: int, site: IProtocolFactory) -> None:
        self.port: IListeningPort | None = None
        self._reactor = reactor
        self._wanted = port
        self._site = site

    def startService(self) -> None:
        """Listen on the port, or on any other where somebody else has it."""
        Service.startService(self)
        try:
            self.port = self._listen(self._wanted)
        except CannotListenError as error:
            self.port = self._listen(0)
            self._log.warn(
                "The demo upstream takes another port than {wanted}: {reason}",
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
        """Listen no more; fires when the port is free."""
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
    A service that runs the photo site on loopback.

    Connect to it by what it returns, which is a client endpoint as well: when
    the port is taken it listens on another.

    @param reactor: provides L{IReactorTCP} and L{IReactorTime}.
    """
    service = DemoService(reactor, port, demoSite(reactor))
    service.setName("demo")
    return service
