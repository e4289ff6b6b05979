"""
The live dashboard: one page, and the event stream that feeds it.

L{dashboard} makes the web resource: C{/} is the page, C{/events} its server-sent events,
one a second.  Without viewers nothing is asked, counted or kept.

  1. L{EventBroadcaster} asks the sidecar once a second, for all viewers together.  Its
     L{EventBuilder<sitio.admin.events.EventBuilder>} makes the text of one event.
  2. L{Viewer} is one open page.  It is sent the event or, while its connection is
     blocked, misses it: a viewer never has more than one event queued.  A viewer that
     missed an event gets a full snapshot.

Contract: the sidecar and the clock are passed in.  The page lies in C{page} and is served
as one document that loads nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
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

from sitio.admin.events import EventBuilder, describeSidecar
from sitio.net.periodic import Periodic
from sitio.net.turns import SENT, Steps, inTurns
from sitio.telemetry.records import ExchangeLists
from sitio.telemetry.sidecar import ISidecar
from sitio.telemetry.snapshot import SidecarSnapshot

#: Seconds between two events.
INTERVAL_SECONDS = 1.0

#: Seconds that the sidecar may take to answer.  Then viewers get the event C{late}, by
#: which they can tell a busy sidecar from a lost connection.
ANSWER_SECONDS = 3.0

#: Seconds between two health checks of the upstream; each may cost it a connection.
CHECK_SECONDS = 5.0

#: Open pages.  A team looks at a sidecar, not the public; each page may have an event of
#: some 400 KB queued.
MAX_VIEWERS = 32

#: Seconds that a connection may be blocked before it is aborted.
MAX_BLOCKED_SECONDS = 30.0

#: Milliseconds after which a browser reconnects.
RECONNECT_MILLISECONDS = 2000

_PAGE = Path(__file__).parent / "page"

#: The parts of the script; each uses those before it.
_SCRIPTS = ("metrics", "charts", "tables", "upstreams", "dashboard")

#: Returns what keeps the upstream from accepting requests, or L{None}.
FindProblem = Callable[[], Deferred[str | None]]


def dashboard(
    sidecar: ISidecar,
    clock: IReactorTime,
    config: dict[str, Any] | None = None,
    findProblem: FindProblem | None = None,
) -> Dashboard:
    """
    Make the resource, with C{/} and C{/events} as its children.

    @param config: the options of the sidecar, as on the page /config.
    @param findProblem: checks the upstream's health.
    """
    builder = EventBuilder(describeSidecar(config or {}))
    noProblem: FindProblem = lambda: succeed(None)  # noqa: E731
    return Dashboard(EventBroadcaster(sidecar, clock, builder, findProblem or noProblem))


class Dashboard(Resource):
    """
    The root of the live dashboard; other pages can be added beside it.

    @ivar stop: ends the event streams; to be called when the port stops.
    """

    def __init__(self, broadcaster: EventBroadcaster) -> None:
        Resource.__init__(self)
        self.stop = broadcaster.stop
        self.putChild(b"", DashboardDocument())
        self.putChild(b"events", EventStream(broadcaster))


class DashboardDocument(Resource):
    """The page: HTML with its style and script inline, which loads nothing else."""

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
        """The page, or 304 if the browser has it already (RFC 9110, section 13.1.2)."""
        for name, value in self._headers.items():
            request.setHeader(name, value)
        return b"" if request.setETag(self._tag) is CACHED else self._body


def _policyFor(style: str, script: str) -> bytes:
    """A Content-Security-Policy that allows only this style and this script."""

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


class EventStream(Resource):
    """The server-sent events, for each open page."""

    isLeaf = True

    def __init__(self, broadcaster: EventBroadcaster) -> None:
        Resource.__init__(self)
        self._broadcaster = broadcaster

    def render_HEAD(self, request: Request) -> bytes:
        """The head of a GET's response; adds no viewer."""
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        return b""

    def render_GET(self, request: Request) -> bytes | int:
        """Send events until the client closes the connection."""
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        if request.getHeader(b"Sec-Fetch-Site") in (b"cross-site", b"same-site"):
            # It could not read the events, but it could use up the places of viewers.
            return _refuse(request, FORBIDDEN, "These events are for the dashboard's own page.")
        if self._broadcaster.full:
            request.setHeader(b"Retry-After", b"10")
            sentence = f"{MAX_VIEWERS} dashboards are open already; close one, or try again later."
            return _refuse(request, SERVICE_UNAVAILABLE, sentence)
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        # Asks nginx not to buffer the events.
        request.setHeader(b"X-Accel-Buffering", b"no")
        self._broadcaster.add(request)
        return NOT_DONE_YET


def _refuse(request: Request, status: int, sentence: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    return f"{sentence}\n".encode()


@implementer(IPushProducer)
@define(eq=False)
class Viewer:
    """
    One open page.

    @ivar behind: whether it has missed an event, and needs a full snapshot.
    @ivar blockedSince: since when its connection is blocked, or L{None}.
    """

    request: Request
    clock: IReactorTime
    behind: bool = field(default=True, init=False)
    blockedSince: float | None = field(default=None, init=False)

    def send(self, event: Iterable[bytes]) -> None:
        """Send an event, in parts; only while the connection is not blocked."""
        for part in event:
            self.request.write(part)

    def pauseProducing(self) -> None:
        """The connection is blocked."""
        self.blockedSince = self.clock.seconds()

    def resumeProducing(self) -> None:
        """The connection is free again."""
        self.blockedSince = None

    def stopProducing(self) -> None:
        """The connection is lost; C{request.notifyFinish} handles that."""

    def end(self) -> None:
        """End the stream, or abort a blocked connection."""
        if self.blockedSince is None:
            self.request.unregisterProducer()
            self.request.finish()
        else:
            cast(Any, self.request.transport).abortConnection()


class EventBroadcaster:
    """Asks the sidecar while there are viewers, and sends each an event."""

    log = Logger(namespace="sitio.admin.dashboard")

    def __init__(
        self,
        sidecar: ISidecar,
        clock: IReactorTime,
        builder: EventBuilder,
        findProblem: FindProblem,
    ) -> None:
        """
        @param builder: makes the text of events.
        @param findProblem: checks the upstream's health.
        """
        self._sidecar = sidecar
        self._clock = clock
        self._builder = builder
        self._findProblem = findProblem
        self._polls = Periodic(
            clock,
            INTERVAL_SECONDS,
            self._poll,
            log=self.log,
            whenFails="The dashboard's events failed",
            now=True,
        )
        self._viewers: list[Viewer] = []
        self._stopped = False
        self._late = False
        self._checkedAt = float("-inf")
        self._problem: str | None = None

    # The viewers.

    @property
    def full(self) -> bool:
        """Whether there is no place for one more viewer."""
        return self._stopped or len(self._viewers) >= MAX_VIEWERS

    def add(self, request: Request) -> None:
        """Send events to the client of this request, until it closes the connection."""
        viewer = Viewer(request, self._clock)
        request.notifyFinish().addBoth(lambda _: self._remove(viewer))
        request.registerProducer(viewer, True)
        request.write(b"retry: %d\n\n" % RECONNECT_MILLISECONDS)
        self._viewers.append(viewer)
        if not self._polls.running:
            self._polls.startService()

    def _remove(self, viewer: Viewer) -> None:
        self._viewers.remove(viewer)
        if not self._viewers and self._polls.running:
            self._polls.stopService()
            # Without viewers, the event is not finished.
            self._polls.cancel()

    def stop(self) -> None:
        """End all streams, and accept no more viewers."""
        self._stopped = True
        for each in list(self._viewers):
            each.end()

    async def _poll(self) -> None:
        answers: Deferred[Any] = gatherResults(
            [
                maybeDeferred(self._sidecar.snapshot),
                maybeDeferred(self._sidecar.exchanges),
                self._checkHealth(),
            ],
            consumeErrors=True,
        )
        answers.addTimeout(ANSWER_SECONDS, self._clock)
        try:
            steps = self._broadcasting(*await answers)
            await inTurns(steps, self._clock)
        except Exception:
            self._broadcastLate(Failure())

    def _checkHealth(self) -> Deferred[str | None]:
        """The result of the upstream's health check, at most L{CHECK_SECONDS} old."""
        now = self._clock.seconds()
        if now - self._checkedAt < CHECK_SECONDS:
            return succeed(self._problem)
        self._checkedAt = now

        def remember(problem: str | None) -> str | None:
            self._problem = problem
            return problem

        return maybeDeferred(self._findProblem).addCallback(remember)

    def _broadcastLate(self, reason: Failure) -> None:
        """Send the event C{late}: the connection works, but sitio does not answer in time."""
        if isinstance(reason.value, FirstError):
            reason = reason.value.subFailure
        if not self._polls.running:
            return
        if not self._late:
            self.log.failure("The dashboard can't get its metrics", reason)
        self._late = True
        for each in self._ready():
            each.behind = True
            each.send([b"event: late\ndata: {}\n\n"])

    def _broadcasting(
        self, snapshot: SidecarSnapshot, exchanges: ExchangeLists, problem: str | None
    ) -> Steps[None]:
        self._late = False
        now, state = self._clock.seconds(), self._sidecar.state
        build = self._builder
        continues = yield from build.update(now, time(), state, snapshot, exchanges, problem)
        changes, full = (yield from build.changes()), list[bytes]()
        for each in self._ready():
            event = changes
            if each.behind or not continues:
                event = full = full or (yield from build.full())
            yield SENT * (len(event) - 1)
            each.behind = each.blockedSince is not None
            if each in self._viewers and not each.behind:
                each.send(event)

    def _ready(self) -> list[Viewer]:
        """The viewers whose connection is not blocked; ends those that are blocked for too long."""
        now = self._clock.seconds()
        for each in list(self._viewers):
            if each.blockedSince is not None:
                each.behind = True
                if now - each.blockedSince > MAX_BLOCKED_SECONDS:
                    each.end()
        return [each for each in self._viewers if each.blockedSince is None]
