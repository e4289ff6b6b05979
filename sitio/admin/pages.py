"""
The pages of the admin port, for operators, probes and Prometheus.

    GET   /            the live dashboard; its events are at /events
    GET   /help        this list
    GET   /live        200 while the process runs
    GET   /ready       200 while sitio is ready for clients, else 503 with the reason
    GET   /metrics     all metrics, for Prometheus
    GET   /stats.json  all metrics, as JSON
    GET   /exchanges   the last exchanges and the open ones, each with its outcome
    GET   /policies    the policies, with counts and times
    GET   /config      the options of this sitio, without secrets, and the last reload
    POST  /reload      read the configuration anew; from this host only
    POST  /drain       send clients elsewhere; from this host only
    POST  /quit        finish requests in progress, then end; from this host only

The pages know the sidecar as L{ISidecar<sitio.telemetry.sidecar.ISidecar>}, one process
or several.

There are no passwords, so L{AdminSite} protects operators against other web sites: from
a page of another site a browser can read nothing but what probes may read, and can post
nothing.

Contract: the reactor is passed in.  Bodies of requests are dropped as they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any, cast

from attrs import frozen
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, maybeDeferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from sitio.admin.channel import FairChannel
from sitio.admin.dashboard import dashboard
from sitio.admin.health import HealthCheck
from sitio.admin.pace import PacedSidecar
from sitio.http.grammar import isHostname, splitHost
from sitio.net.families import unmappedIP
from sitio.net.singleflight import SingleFlight
from sitio.net.turns import PART_BYTES, SENT, Steps, inTurns, writeJson
from sitio.telemetry.sidecar import SERVING, ISidecar
from sitio.telemetry.upstreams import present

#: Seconds that a connection may be idle.
IDLE_SECONDS = 60.0

#: Seconds in which the response to /quit is sent.
QUIT_DELAY_SECONDS = 0.1

#: Paths that may be requested with any Host: probes use whatever name the cluster gave to
#: sitio.  All other pages tell paths of requests, in which there may be secrets.
ANY_HOST_PATHS = frozenset((b"/live", b"/ready"))

#: Domains in which strangers can't register names that point here: RFC 6761, RFC 6762,
#: RFC 8375 (home.arpa), ICANN's .internal, and those of Kubernetes services.
_PRIVATE_DOMAINS = ("localhost", "local", "internal", "test", "home.arpa", "svc")

_TEXT = b"text/plain; charset=utf-8"
_JSON = b"application/json"

_log = Logger(namespace="sitio.admin.pages")


@frozen
class PageContent:
    """The response of a page; its body is in parts."""

    body: Sequence[bytes]
    status: int = 200
    type: bytes = _TEXT


def _text(sentence: str, status: int = 200) -> PageContent:
    return PageContent([f"{sentence}\n".encode()], status)


class Branch(Resource):
    """A resource whose unknown children answer 404 in one line."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        missing = _text("404 There is no such page; /help lists all pages.", 404)
        return Page(lambda _: missing, request.method)


class Page(Branch):
    """One page: a method, and a function that makes its L{PageContent} of a request."""

    def __init__(self, answer: Callable[[Request], Any], method: bytes = b"GET") -> None:
        """@param answer: may return a L{Deferred} or a coroutine."""
        Resource.__init__(self)
        self._answer = answer
        self.allowed = (b"GET", b"HEAD") if method == b"GET" else (method,)

    def render(self, request: Request) -> int:
        """Respond, now or later; 405 for another method (RFC 9110, section 15.5.6)."""
        gone = request.notifyFinish()
        if request.method in self.allowed:
            answer = maybeDeferred(self._answer, request)
        else:
            methods = b", ".join(self.allowed)
            request.setHeader(b"Allow", methods)
            answer = succeed(_text(f"405 Use {methods.decode()} for this page.", 405))
        gone.addErrback(lambda reason: answer.cancel())
        answer.addErrback(_broken, request)
        # A cancelled Deferred may fire with a result nevertheless.
        answer.addCallback(partial(_sending, request, gone))
        answer.addCallback(inTurns, cast(AdminSite, request.site).reactor)
        answer.addErrback(lambda why: why.trap(CancelledError))
        return NOT_DONE_YET


def _broken(why: Failure, request: Request) -> PageContent:
    if not why.check(CancelledError):
        _log.failure("The admin page {path} failed", why, path=request.path)
    return _text("500 This page failed; see the log.", 500)


def _sending(request: Request, gone: Deferred[None], answer: PageContent) -> Steps[None]:
    # Twisted has no phrase for 421 (RFC 9110, section 15.5.20).
    request.setResponseCode(answer.status, b"Misdirected Request" if answer.status == 421 else None)
    request.setHeader(b"Content-Type", answer.type)
    request.setHeader(b"Content-Length", b"%d" % sum(map(len, answer.body)))
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    for part in answer.body:
        if gone.called:
            return
        request.write(part)
        yield SENT * len(part) // PART_BYTES
    request.finish()


def _isLocal(address: IAddress) -> bool:
    """Whether a client is on this host, by the address of its connection."""
    if isinstance(address, UNIXAddress):
        return True
    try:
        return unmappedIP(ip_address(getattr(address, "host", ""))).is_loopback
    except ValueError:
        return False


def _isKnownHost(host: str, known: Container[str]) -> bool:
    """
    Whether the value of a Host field can't be a name that a stranger has registered.  A
    stranger could make such a name point here, and a page of that name could then read
    the admin pages (DNS rebinding).

    @param known: names that the operator knows, in small letters.
    """
    name = (splitHost(host) or ("", ""))[0].lower()
    if name and name in known:
        return True
    with suppress(ValueError):
        return bool(ip_address(name.strip("[]")).version)
    # Names of containers may have underscores.
    if not isHostname(name.replace("_", "-")):
        return False
    return "." not in name or name.endswith(tuple(f".{each}" for each in _PRIVATE_DOMAINS))


def _fields(request: Request, name: bytes) -> list[str]:
    """The values of a request field."""
    return [each.decode("latin-1") for each in request.requestHeaders.getRawHeaders(name, [])]


def refusal(request: Request, known: Container[str] = ()) -> PageContent | None:
    """
    The response to a request that is refused for any page; L{None} if it is allowed.

    @param known: names of hosts that the operator knows, in small letters.
    """
    hosts = _fields(request, b"host")
    host = next((each for each in hosts if not _isKnownHost(each, known)), None)
    if request.path not in ANY_HOST_PATHS and host is not None:
        return _text(
            f"421 {host!r} may be a public name: use an IP address or localhost, or start sitio"
            " with --admin-hosts.",
            421,
        )
    if request.method in (b"GET", b"HEAD"):
        return None
    own = {f"{scheme}://{each}" for scheme in ("http", "https") for each in hosts}
    sites = _fields(request, b"sec-fetch-site")
    stranger = any(each not in own for each in _fields(request, b"origin"))
    if stranger or any(each not in ("same-origin", "none") for each in sites):
        return _text("403 Pages of other sites can't do this.", 403)
    if not _isLocal(request.getClientAddress()):
        return _text("403 This is allowed from the same host or pod only.", 403)
    return None


class _Request(Request):
    """A request whose body is dropped as it arrives."""

    def gotLength(self, length: int | None) -> None:
        Request.gotLength(self, 0)

    def handleContentChunk(self, data: bytes) -> None:
        """Drop it."""


class AdminSite(Site):
    """The web site of the admin port; refuses requests of other sites for all pages."""

    noisy = False
    protocol: Any = FairChannel

    def __init__(
        self,
        reactor: Any,
        root: Resource,
        whenStopped: Callable[[], object],
        hosts: Container[str] = (),
    ) -> None:
        Site.__init__(self, root, _Request, timeout=IDLE_SECONDS, reactor=reactor)
        self._whenStopped = whenStopped
        self._hosts = hosts

    def stopFactory(self) -> None:
        """Called when its last port has closed."""
        Site.stopFactory(self)
        self._whenStopped()

    def getResourceFor(self, request: Request) -> Any:
        """The page, or a refusal."""
        answer = refusal(request, self._hosts)
        if answer is not None:
            return Page(lambda _: answer, request.method)
        return Site.getResourceFor(self, request)

    def log(self, request: Any) -> None:
        """Log nothing: probes make a request every few seconds."""


class Admin:
    """Makes the content of the pages."""

    def __init__(
        self,
        reactor: Any,
        sidecar: ISidecar,
        health: HealthCheck,
        config: Callable[[], dict[str, Any]],
        quit: Callable[[], object],
        hosts: Container[str] = (),
        isRouted: bool = False,
        reload: Callable[[str], Any] | None = None,
    ) -> None:
        """
        @param reactor: the clock.
        @param sidecar: the sidecar that the pages show.
        @param health: checks the upstream.
        @param config: returns the content of /config, without secrets.
        @param quit: ends the process, after the requests in progress.
        @param hosts: names under which the pages may be asked for, besides addresses and
            names that strangers can't register; in small letters.
        @param isRouted: whether there are templates of routes.
        @param reload: reads the configuration anew, see
            L{Reloads.reload<sitio.wiring.reloading.Reloads.reload>}; L{None} if this sidecar can't.
        """
        self._reactor = reactor
        self._reload = reload
        self._sidecar = PacedSidecar(sidecar, reactor)
        self._health = health
        self._config = config
        self._quit = quit
        self._hosts = hosts
        self._isRouted = isRouted
        self._series: Any = None
        # The text format and OpenMetrics are two runs: one after the other.
        turn = DeferredLock()
        self._metrics: SingleFlight[tuple[list[bytes], str]] = SingleFlight(
            lambda accept: turn.run(self._exposition, accept)
        )

    def site(self) -> AdminSite:
        """Make the web site of all pages."""
        live = dashboard(self._sidecar, self._reactor, self._config(), self._health.problem)
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
            (b"reload", self.reload, b"POST"),
            (b"drain", self.drain, b"POST"),
            (b"quit", self.quit, b"POST"),
        ):
            root.putChild(path, Page(answer, method))
        return AdminSite(self._reactor, root, live.stop, self._hosts)

    def index(self, request: Request) -> PageContent:
        """The list of pages in this module's docstring."""
        listed = [each[4:] for each in (__doc__ or "").splitlines() if each[:4] == "    "]
        return _text("\n".join(listed))

    def live(self, request: Request) -> PageContent:
        """Always 200: the process runs."""
        return _text("sitio is alive")

    async def ready(self, request: Request) -> PageContent:
        """Whether sitio is ready for clients."""
        if self._sidecar.state != SERVING:
            return _text(f"sitio is {self._sidecar.state}", 503)
        problem = await self._health.problem()
        if problem is not None:
            return _text(problem, 503)
        return _text("; ".join(("sitio is ready", *self._sidecar.warnings())))

    async def metrics(self, request: Request) -> PageContent:
        """All metrics, for Prometheus."""
        body, kind = await self._metrics.run(", ".join(_fields(request, b"accept")))
        return PageContent(body, type=kind.encode())

    def _exposition(self, accept: str) -> Deferred[tuple[list[bytes], str]]:
        # Imported at the first request, as it takes memory.
        from sitio.telemetry.metrics import exposition
        from sitio.telemetry.series import Series

        self._series = self._series or Series(self._isRouted)
        steps = partial(exposition, accept=accept, series=self._series)
        return self._sidecar.snapshot().addCallback(lambda now: inTurns(steps(now), self._reactor))

    async def stats(self, request: Request) -> PageContent:
        """All metrics, as JSON."""
        snapshot = await self._sidecar.snapshot()
        return await self._json({**snapshot, "upstreams": present(snapshot["upstreams"])})

    async def exchanges(self, request: Request) -> PageContent:
        """The last exchanges and the open ones."""
        return await self._json(await self._sidecar.exchanges(), levels=2)

    async def policies(self, request: Request) -> PageContent:
        """The policies, in order."""
        return await self._json((await self._sidecar.snapshot())["policies"])

    async def config(self, request: Request) -> PageContent:
        """The options."""
        return await self._json(self._config())

    async def _json(self, data: Any, levels: int = 3) -> PageContent:
        return PageContent(await inTurns(writeJson(data, levels=levels), self._reactor), type=_JSON)

    async def reload(self, request: Request) -> PageContent:
        """Read the configuration anew; 422 with the mistakes if it can't be used."""
        if self._reload is None:
            return _text("404 This sitio is a part of a program, which configures it.", 404)
        state = await self._reload("POST /reload")
        if state.mistakes:
            return _text("\n".join(state.mistakes), 422)
        told = f"sitio uses generation {state.generation} of its configuration"
        if state.waiting:
            told += f"; these keys need a restart: {', '.join(state.waiting)}"
        return _text(told)

    def drain(self, request: Request) -> PageContent:
        """Send clients elsewhere."""
        self._sidecar.drain()
        return _text("sitio drains: it is not ready, and closes connections after their responses")

    def quit(self, request: Request) -> PageContent:
        """End the process."""
        self._reactor.callLater(QUIT_DELAY_SECONDS, self._end)
        return _text("sitio finishes the requests in progress, and ends")

    def _end(self) -> None:
        # A second /quit or a signal may have stopped the reactor already.
        with suppress(ReactorNotRunning):
            self._quit()
