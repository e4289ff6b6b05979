"""
The pages of the admin port, for who runs sitio.

    GET   /            the live dashboard, fed by /events
    GET   /help        this list
    GET   /live        200 while the process answers at all
    GET   /ready       200 while clients may come, else 503 and the reason
    GET   /metrics     all metrics, for Prometheus
    GET   /stats.json  all metrics, for programs
    GET   /exchanges   the last exchanges and the open ones, each with its cause
    GET   /policies    the policies, what each did, and how long it took
    GET   /config      what this sitio was told, without secrets
    POST  /drain       let clients go elsewhere; from this host only
    POST  /quit        finish what is in flight, and end; from this host only

It sees the rest of sitio as snapshots, L{ISidecar<sitio.telemetry.sidecar.ISidecar>}, be that
one process or many.

There are no passwords, so L{AdminSite} lets nobody be tricked into asking: a browser
that shows another site's page reaches nothing but what probes and Prometheus may ask
under any name, and posts nothing.

Contract: the reactor is passed in; bodies of requests are dropped as they come.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

from attrs import frozen
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from sitio.admin.dashboard import dashboard
from sitio.admin.health import Health
from sitio.http.grammar import isHostname, splitHost
from sitio.net.singleflight import SingleFlight
from sitio.telemetry.sidecar import SERVING, ISidecar

#: Seconds in which a connection has to send its next request.
IDLE = 60.0

#: Seconds in which the answer to /quit leaves.
FAREWELL = 0.1

#: What may be asked for under any name: probes and Prometheus know sitio by whatever
#: name the cluster gave it, and a stranger's page would learn no more than metrics.
UNDER_ANY_NAME = frozenset((b"/live", b"/ready", b"/metrics"))

#: Last labels of names that nobody can register, so that they can't be made to point
#: here by a stranger: RFC 6761, RFC 6762, RFC 8375 (home.arpa), and ICANN's .internal.
_PRIVATE = ("localhost", "local", "internal", "test", "home.arpa", "svc")

_TEXT = b"text/plain; charset=utf-8"
_JSON = b"application/json"

_log = Logger(namespace="sitio.admin.pages")


@frozen
class Answer:
    """What a page answers."""

    body: bytes
    status: int = 200
    type: bytes = _TEXT


def _text(sentence: str, status: int = 200) -> Answer:
    return Answer(f"{sentence}\n".encode(), status)


def _json(data: Any) -> Answer:
    return Answer(json.dumps(data).encode() + b"\n", type=_JSON)


class Branch(Resource):
    """What is not there is said in a line."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        missing = _text("404 There is no such page; /help lists those that are.", 404)
        return Page(lambda _: missing, request.method)


class Page(Branch):
    """One page: a method, and a function of the request that gives an L{Answer}."""

    def __init__(self, answer: Callable[[Request], Any], method: bytes = b"GET") -> None:
        """@param answer: may give a L{Deferred} as well."""
        Resource.__init__(self)
        self._answer = answer
        self.allowed = (b"GET", b"HEAD") if method == b"GET" else (method,)

    def render(self, request: Request) -> int:
        """Answer, now or later; 405 for another method (RFC 9110, section 15.5.6)."""
        if request.method not in self.allowed:
            methods = b", ".join(self.allowed)
            request.setHeader(b"Allow", methods)
            _send(request, _text(f"405 Ask this by {methods.decode()}.", 405))
            return NOT_DONE_YET
        answer = maybeDeferred(self._answer, request)
        gone = request.notifyFinish()
        gone.addErrback(lambda reason: answer.cancel())
        answer.addErrback(_broken, request)
        # Who is asked may answer even when it is cancelled.
        answer.addCallback(lambda given: None if gone.called else _send(request, given))
        return NOT_DONE_YET


def _broken(why: Failure, request: Request) -> Answer:
    if not why.check(CancelledError):
        _log.failure("An admin page can't be shown: {path}", why, path=request.path)
    return _text("500 This page is broken; the log has more.", 500)


def _send(request: Request, answer: Answer) -> None:
    # 421 is younger than the rest (RFC 9110, section 15.5.20).
    request.setResponseCode(answer.status, b"Misdirected Request" if answer.status == 421 else None)
    request.setHeader(b"Content-Type", answer.type)
    request.setHeader(b"Content-Length", b"%d" % len(answer.body))
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    request.write(answer.body)
    request.finish()


def _isLocal(address: IAddress) -> bool:
    """Whether a client is on this host, by its own address and not by what it says."""
    if isinstance(address, UNIXAddress):
        return True
    try:
        host = ip_address(getattr(address, "host", ""))
    except ValueError:
        return False
    mapped = getattr(host, "ipv4_mapped", None)
    return (mapped or host).is_loopback


def _isOurs(host: str) -> bool:
    """
    Whether a Host can't be a stranger's name: one that anybody can register could be
    made to point here, and a page of that name would read what it likes.
    """
    name = (splitHost(host) or ("", ""))[0].lower()
    with suppress(ValueError):
        return bool(ip_address(name.strip("[]")).version)
    # Names of containers may have underscores.
    if not isHostname(name.replace("_", "-")):
        return False
    return "." not in name or name.endswith(tuple(f".{each}" for each in _PRIVATE))


def _fields(request: Request, name: bytes) -> list[str]:
    """The values of a field, whatever bytes they are."""
    return [each.decode("latin-1") for each in request.requestHeaders.getRawHeaders(name, [])]


def refusal(request: Request) -> Answer | None:
    """Why a request is refused, whatever it asks for; L{None} if it is not."""
    hosts = _fields(request, b"host")
    host = next((each for each in hosts if not _isOurs(each)), None)
    if request.path not in UNDER_ANY_NAME and host is not None:
        return _text(
            f"421 {host!r} could be anybody's name: ask by an address, or as localhost.", 421
        )
    if request.method in (b"GET", b"HEAD"):
        return None
    own = {f"{scheme}://{each}" for scheme in ("http", "https") for each in hosts}
    sites = _fields(request, b"sec-fetch-site")
    stranger = any(each not in own for each in _fields(request, b"origin"))
    if stranger or any(each not in ("same-origin", "none") for each in sites):
        return _text("403 Another site's page can't do this.", 403)
    if not _isLocal(request.getClientAddress()):
        return _text("403 This can be done from the same host, or pod, only.", 403)
    return None


class _Request(Request):
    """A request whose body nobody reads: it is dropped, and not stored."""

    def gotLength(self, length: int | None) -> None:
        Request.gotLength(self, 0)

    def handleContentChunk(self, data: bytes) -> None:
        """See above."""


class AdminSite(Site):
    """The site that keeps strangers out, whatever page they ask for."""

    noisy = False

    def __init__(self, reactor: Any, root: Resource, whenStopped: Callable[[], object]) -> None:
        Site.__init__(self, root, _Request, timeout=IDLE, reactor=reactor)
        self._whenStopped = whenStopped

    def stopFactory(self) -> None:
        """Its last port has closed."""
        Site.stopFactory(self)
        self._whenStopped()

    def getResourceFor(self, request: Request) -> Any:
        """The page, or why there is none for this request."""
        answer = refusal(request)
        if answer is not None:
            return Page(lambda _: answer, request.method)
        return Site.getResourceFor(self, request)

    def log(self, request: Any) -> None:
        """Nothing: probes ask every few seconds, for ever."""


class Admin:
    """What the pages say."""

    def __init__(
        self,
        reactor: Any,
        sidecar: ISidecar,
        health: Health,
        config: dict[str, Any],
        quit: Callable[[], object],
        inThread: Callable[..., Deferred[Any]],
    ) -> None:
        """
        @param reactor: the clock.
        @param sidecar: what they are about.
        @param health: whether its upstream is there.
        @param config: for /config, as plain data, without secrets.
        @param quit: ends the process, once what is in flight has ended.
        @param inThread: calls a function elsewhere, as C{deferToThread} does.
        """
        self._reactor = reactor
        self._sidecar = sidecar
        self._health = health
        self._config = config
        self._quit = quit
        self._inThread = inThread
        # Text and OpenMetrics are two: one after the other.
        turn = DeferredLock()
        self._metrics: SingleFlight[tuple[bytes, str]] = SingleFlight(
            lambda accept: turn.run(self._exposition, accept)
        )

    def site(self) -> AdminSite:
        """All pages, for a port."""
        live = dashboard(self._sidecar, self._reactor, self._config, self._health.trouble)
        root = Branch()
        for path, page in live.listEntities():
            root.putChild(path, page)
        for path, answer, method in (
            (b"help", self.index, b"GET"),
            (b"live", self.live, b"GET"),
            (b"ready", self.ready, b"GET"),
            (b"metrics", self.metrics, b"GET"),
            (b"stats.json", self.stats, b"GET"),
            (b"exchanges", self.exchanges, b"GET"),
            (b"policies", self.policies, b"GET"),
            (b"config", self.config, b"GET"),
            (b"drain", self.drain, b"POST"),
            (b"quit", self.quit, b"POST"),
        ):
            root.putChild(path, Page(answer, method))
        return AdminSite(self._reactor, root, live.stop)

    def index(self, request: Request) -> Answer:
        """The list at the head of this file."""
        listed = [each[4:] for each in (__doc__ or "").splitlines() if each[:4] == "    "]
        return _text("\n".join(listed))

    def live(self, request: Request) -> Answer:
        """That this comes is all that it says."""
        return _text("sitio is alive")

    async def ready(self, request: Request) -> Answer:
        """Whether clients may come."""
        if self._sidecar.state != SERVING:
            return _text(f"sitio is {self._sidecar.state}", 503)
        trouble = await self._health.trouble()
        return _text("sitio is ready") if trouble is None else _text(trouble, 503)

    async def metrics(self, request: Request) -> Answer:
        """All metrics, as Prometheus reads them."""
        body, kind = await self._metrics.run(", ".join(_fields(request, b"accept")))
        return Answer(body, type=kind.encode())

    def _exposition(self, accept: str) -> Deferred[tuple[bytes, str]]:
        # Not before somebody asks: it takes memory.
        from sitio.telemetry.metrics import exposition

        # A full table is a page of megabytes, which traffic must not wait for.
        snapshot = self._sidecar.snapshot()
        return snapshot.addCallback(partial(self._inThread, exposition), accept)

    async def stats(self, request: Request) -> Answer:
        """All metrics."""
        return _json(await self._sidecar.snapshot())

    async def exchanges(self, request: Request) -> Answer:
        """Single exchanges."""
        return _json(await self._sidecar.exchanges())

    async def policies(self, request: Request) -> Answer:
        """The policies in order."""
        return _json((await self._sidecar.snapshot())["policies"])

    def config(self, request: Request) -> Answer:
        """What this sitio was told."""
        return _json(self._config)

    def drain(self, request: Request) -> Answer:
        """Clients go elsewhere."""
        self._sidecar.drain()
        return _text("sitio drains: it is not ready, and ends connections after their responses")

    def quit(self, request: Request) -> Answer:
        """The end."""
        self._reactor.callLater(FAREWELL, self._end)
        return _text("sitio finishes what is in flight, and ends")

    def _end(self) -> None:
        # It may be told twice, or by a signal meanwhile.
        with suppress(ReactorNotRunning):
            self._quit()
