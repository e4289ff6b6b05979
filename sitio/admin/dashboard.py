"""
The live dashboard: one page, and the events that feed it.

L{dashboard} makes the web resource: C{/} is the page, C{/events} its server-sent
events, one a second.  While nobody listens nothing is asked, counted or kept up
to date.

  1. L{Audience} asks the sidecar once a second, for all listeners together, and has
     L{Feed<sitio.admin.events.Feed>} turn the answer into the text of one event.
  2. L{Listener} is one open page.  It takes an event or, while its connection is
     full, skips it: what is sent is never more than one event ahead of the reader.
     Who has skipped one is sent all with the next.

Contract: the sidecar and the clock are passed in; the page lies beside this file,
in C{page}, and is served as one document that loads nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred, FirstError, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import CACHED, FORBIDDEN, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from sitio.admin.events import Feed, aboutOf
from sitio.net.periodic import Periodic
from sitio.telemetry.records import ExchangeLists
from sitio.telemetry.sidecar import ISidecar
from sitio.telemetry.snapshot import SidecarSnapshot

#: Seconds between two events.
BEAT = 1.0

#: Seconds that the sidecar may take to answer.  Then listeners are told that it is
#: late, so that they can tell a busy sidecar from a lost connection.
LATE = 3.0

#: Seconds for which it counts whether the upstream is there: asking costs it a
#: connection.
CHECK = 5.0

#: Open pages.  A team looks at a sidecar, not the public, and each may hold up to
#: an event of some 400 KB.
MAX_LISTENERS = 32

#: Seconds that a connection may be full before it is given up.
SLOW_LIMIT = 30.0

#: Milliseconds after which a browser connects again.
RETRY = 2000

_PAGE = Path(__file__).parent / "page"

#: One script in parts, each using those before it.
_SCRIPTS = ("metrics", "charts", "tables", "dashboard")

#: Says in a sentence what keeps the upstream from taking requests, or L{None}.
Trouble = Callable[[], Deferred[str | None]]


def dashboard(
    sidecar: ISidecar,
    clock: IReactorTime,
    config: dict[str, Any] | None = None,
    trouble: Trouble | None = None,
) -> Dashboard:
    """
    The resource, with C{/} and C{/events} as its children.

    @param config: what the sidecar was told, as the page /config has it.
    @param trouble: whether its upstream is there.
    """
    return Dashboard(
        Audience(sidecar, clock, Feed(aboutOf(config or {})), trouble or (lambda: succeed(None)))
    )


class Dashboard(Resource):
    """
    The root of the dashboard; other pages can be put beside it.

    @ivar stop: to be called when the port stops.
    """

    def __init__(self, audience: Audience) -> None:
        Resource.__init__(self)
        self.stop = audience.stop
        self.putChild(b"", Page())
        self.putChild(b"events", Events(audience))


class Page(Resource):
    """The page: HTML with its style and its script inside, and nothing from elsewhere."""

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        style = (_PAGE / "dashboard.css").read_text("utf-8")
        script = "".join((_PAGE / f"{each}.js").read_text("utf-8") for each in _SCRIPTS)
        html = (_PAGE / "dashboard.html").read_text("utf-8")
        html = html.replace("/* style */", style).replace("/* script */", script)
        self._body = html.encode()
        self._tag = f'"{sha256(self._body).hexdigest()[:16]}"'.encode()
        self._headers = {
            b"Content-Type": b"text/html; charset=utf-8",
            b"Content-Security-Policy": _policyFor(style, script),
            b"Cache-Control": b"no-cache",
            b"Referrer-Policy": b"no-referrer",
            b"X-Content-Type-Options": b"nosniff",
        }

    def render_GET(self, request: Request) -> bytes:
        """The whole page, or a 304 for who has it (RFC 9110, section 13.1.2)."""
        for name, value in self._headers.items():
            request.setHeader(name, value)
        return b"" if request.setETag(self._tag) is CACHED else self._body


def _policyFor(style: str, script: str) -> bytes:
    """A Content-Security-Policy by which nothing runs but what is in the page."""

    def only(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {only(script)}",
            f"style-src {only(style)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ).encode()


class Events(Resource):
    """Where pages listen."""

    isLeaf = True

    def __init__(self, audience: Audience) -> None:
        Resource.__init__(self)
        self._audience = audience

    def render_HEAD(self, request: Request) -> bytes:
        """What a GET would say, to nobody who listens."""
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        return b""

    def render_GET(self, request: Request) -> bytes | int:
        """Listen until the client goes."""
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        if request.getHeader(b"Sec-Fetch-Site") in (b"cross-site", b"same-site"):
            # It could not read them, but it could keep others from listening.
            return _refusal(request, FORBIDDEN, "These events are for the page beside them.")
        if self._audience.full:
            request.setHeader(b"Retry-After", b"10")
            sentence = f"{MAX_LISTENERS} pages listen already: close one, or try again later."
            return _refusal(request, SERVICE_UNAVAILABLE, sentence)
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        # A buffering proxy would hold events back.
        request.setHeader(b"X-Accel-Buffering", b"no")
        self._audience.join(request)
        return NOT_DONE_YET


def _refusal(request: Request, status: int, sentence: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    return f"{sentence}\n".encode()


@implementer(IPushProducer)
@define(eq=False)
class Listener:
    """
    One open page.

    @ivar behind: whether it lacks an event, and has to be sent all.
    @ivar fullSince: since when its connection takes no more, or L{None}.
    """

    request: Request
    clock: IReactorTime
    behind: bool = field(default=True, init=False)
    fullSince: float | None = field(default=None, init=False)

    def tell(self, event: bytes) -> None:
        """Send an event; not while the connection is full."""
        self.request.write(event)

    def pauseProducing(self) -> None:
        """The connection is full."""
        self.fullSince = self.clock.seconds()

    def resumeProducing(self) -> None:
        """It is not any more."""
        self.fullSince = None

    def stopProducing(self) -> None:
        """It is gone, which its request is told as well."""

    def end(self) -> None:
        """Say that there is nothing more to come, or break off where nobody reads it."""
        if self.fullSince is None:
            self.request.unregisterProducer()
            self.request.finish()
        else:
            cast(Any, self.request.transport).abortConnection()


class Audience:
    """Asks the sidecar while somebody listens, and tells all who do."""

    log = Logger(namespace="sitio.admin.dashboard")

    def __init__(
        self,
        sidecar: ISidecar,
        clock: IReactorTime,
        feed: Feed,
        trouble: Trouble,
    ) -> None:
        """
        @param feed: makes events of what the sidecar says.
        @param trouble: whether its upstream is there.
        """
        self._sidecar = sidecar
        self._clock = clock
        self._feed = feed
        self._trouble = trouble
        self._beats = Periodic(
            clock,
            BEAT,
            self._beat,
            log=self.log,
            whenFails="The dashboard's events failed",
            now=True,
        )
        self._listeners: list[Listener] = []
        self._stopped = False
        self._late = False
        self._checkedAt = float("-inf")
        self._check: str | None = None

    # Who listens.

    @property
    def full(self) -> bool:
        """Whether one more would be too many."""
        return self._stopped or len(self._listeners) >= MAX_LISTENERS

    def join(self, request: Request) -> None:
        """From the next beat on, tell whoever makes this request, until it leaves."""
        listener = Listener(request, self._clock)
        request.notifyFinish().addBoth(lambda _: self._left(listener))
        request.registerProducer(listener, True)
        request.write(b"retry: %d\n\n" % RETRY)
        self._listeners.append(listener)
        if not self._beats.running:
            self._beats.startService()

    def _left(self, listener: Listener) -> None:
        self._listeners.remove(listener)
        if not self._listeners and self._beats.running:
            self._beats.stopService()

    def stop(self) -> None:
        """End all, and let nobody in any more."""
        self._stopped = True
        for each in list(self._listeners):
            each.end()

    def _beat(self) -> Deferred[None]:
        asked: Deferred[Any] = gatherResults(
            [
                maybeDeferred(self._sidecar.snapshot),
                maybeDeferred(self._sidecar.exchanges),
                self._checked(),
            ],
            consumeErrors=True,
        )
        asked.addTimeout(LATE, self._clock)
        return asked.addCallback(lambda told: self._told(*told)).addErrback(self._untold)

    def _checked(self) -> Deferred[str | None]:
        """What keeps the upstream from taking requests, as far as was asked lately."""
        now = self._clock.seconds()
        if now - self._checkedAt < CHECK:
            return succeed(self._check)
        self._checkedAt = now

        def found(trouble: str | None) -> str | None:
            self._check = trouble
            return trouble

        return maybeDeferred(self._trouble).addCallback(found)

    def _untold(self, reason: Failure) -> None:
        """Whoever listens learns that the connection is there, and that sitio is late."""
        if isinstance(reason.value, FirstError):
            reason = reason.value.subFailure
        if not self._late:
            self.log.failure("The dashboard has no metrics to show", reason)
        self._late = True
        for each in self._ready():
            each.behind = True
            each.tell(b"event: late\ndata: {}\n\n")

    def _told(
        self, snapshot: SidecarSnapshot, exchanges: ExchangeLists, trouble: str | None
    ) -> None:
        self._late = False
        now = self._clock.seconds()
        on = self._feed.take(now, time(), self._sidecar.state, snapshot, exchanges, trouble)
        changes, whole = self._feed.changes(), b""
        for each in self._ready():
            if on and not each.behind:
                each.tell(changes)
            else:
                whole = whole or self._feed.all()
                each.tell(whole)
                each.behind = False

    def _ready(self) -> list[Listener]:
        """Those who can be told; who can't misses an event, or has done so for too long."""
        now = self._clock.seconds()
        for each in list(self._listeners):
            if each.fullSince is not None:
                each.behind = True
                if now - each.fullSince > SLOW_LIMIT:
                    each.end()
        return [each for each in self._listeners if each.fullSince is None]
