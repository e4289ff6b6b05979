"""
The state shared by all exchanges of one proxy: L{ProxyContext}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sitio.errors import SitioError
from sitio.http.dates import DateLine
from sitio.http.marks import lineWith, newMark
from sitio.http.requestids import RequestIds
from sitio.net.loglimit import LogLimit
from sitio.policy.chain import Chain
from sitio.proxy.buffers import Buffers
from sitio.proxy.trust import ForwardedSettings, forwardedSettings
from sitio.proxy.uploadslots import UploadSlots
from sitio.proxy.upstream import Connections
from sitio.settings import Settings

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange

#: Seconds between two log lines about failed exchanges.
FAILURE_INTERVAL_SECONDS = 10.0

#: Characters of a path in such a line.
MAX_PATH = 200

#: Seconds between two log lines about requests that come back.
LOOP_INTERVAL_SECONDS = 60.0


@define(eq=False)
class ProxyContext:
    """
    The state shared by all exchanges of one proxy.

    @ivar clock: measures every wait.
    @ivar connections: the pool of connections to the upstream.
    @ivar chain: the policies.  Assign another chain to swap them while traffic flows;
        exchanges under way keep theirs.
    @ivar settings: limits and timeouts.
    @ivar host: the Host for an HTTP/1.0 request without one.
    @ivar via: the pseudonym in added Via fields; L{None} adds no Via.
    @ivar keepsFolded: whether requests keep fields that CGI takes for those of sitio.
    @ivar forwarded: what requests tell of clients, and whom sitio believes.  It may be given
        as one of L{MODES<sitio.http.claims.MODES>}.
    @ivar mark: marks requests, so that those that come back are known; C{""} for no mark.
    @ivar markLine: the line with that mark.
    @ivar observers: the L{IExchangeObserver<sitio.interfaces.IExchangeObserver>}s that
        stay when policies are swapped: stats, history, access log.
    @ivar ids: gives the ids of requests.
    @ivar exchanges: the exchanges under way.
    @ivar brokenOff: how many responses broke off after their head was sent while the
        client was still connected.
    @ivar tooLong: how many responses were over a limit of what may be buffered, so that
        a policy that needs the whole body was skipped.
    @ivar buffers: counts the bytes of responses that are buffered.
    @ivar uploads: bounds the connections that uploads hold.
    @ivar upstream: the name of the upstream in log lines.
    @ivar date: returns the line Date for responses without one.
    @ivar seconds: returns the clock's time, in seconds.
    """

    clock: IReactorTime
    connections: Connections
    chain: Chain
    settings: Settings = field(factory=Settings)
    host: bytes = b"localhost"
    via: bytes | None = None
    observers: list[Any] = field(factory=list, converter=list)
    keepsFolded: bool = False
    mark: str = field(factory=newMark)
    forwarded: ForwardedSettings = field(factory=ForwardedSettings, converter=forwardedSettings)
    upstream: str = "the upstream"
    date: Callable[[], bytes] = field(factory=DateLine)
    log: Logger = field(factory=lambda: Logger(namespace="sitio"))
    ids: RequestIds = field(factory=RequestIds, init=False)
    exchanges: set[Exchange] = field(factory=set, init=False)
    brokenOff: int = field(default=0, init=False)
    tooLong: int = field(default=0, init=False)
    buffers: Buffers = field(init=False)
    uploads: UploadSlots = field(init=False)
    seconds: Callable[[], float] = field(init=False)
    markLine: bytes = field(init=False)
    _failureLimit: LogLimit = field(init=False)
    _observerLimit: LogLimit = field(init=False)
    _loopLimit: LogLimit = field(init=False)
    _observerFailures: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.seconds = self.clock.seconds
        self.useMark(self.mark)
        self.buffers = Buffers(self.settings.bufferTotal)
        self.uploads = UploadSlots(self.clock, self.settings)
        self._failureLimit = LogLimit(self.clock, FAILURE_INTERVAL_SECONDS)
        self._observerLimit = LogLimit(self.clock, FAILURE_INTERVAL_SECONDS)
        self._loopLimit = LogLimit(self.clock, LOOP_INTERVAL_SECONDS)

    def useMark(self, mark: str) -> None:
        """
        Mark requests with this, as other processes of the same sitio do.  Called before the
        first client connects.
        """
        self.mark = mark
        self.markLine = lineWith(mark)

    def exchangeFailed(self, error: SitioError, exchange: Exchange) -> None:
        """Log that an exchange failed, at most once in ten seconds."""
        unlogged = self._failureLimit.due()
        if unlogged is None:
            return
        line = exchange.request.line
        self.log.warn(
            "An exchange failed: {method} {path} (id {id}), upstream {upstream}: {error}"
            " ({unlogged} more failures since the last report)",
            method=line.method[:MAX_PATH],
            path=line.path[:MAX_PATH],
            id=exchange.id,
            upstream=self.upstream,
            error=error,
            side=error.side.value,
            status=error.status,
            unlogged=unlogged,
        )

    def clientRefused(self, clients: int) -> None:
        """Log that a client finds no room beside so many, at most once in ten seconds."""
        unlogged = self._failureLimit.due()
        if unlogged is not None:
            self.log.warn(
                "A client is refused: {clients} are connected already ({unlogged} more failures"
                " since the last report)",
                clients=clients,
                unlogged=unlogged,
            )

    def cameBack(self, method: str, target: str, peer: str) -> None:
        """
        Log that a request came back, at most once in a minute.

        @param peer: the address of the proxy that sent it back.
        """
        skipped = self._loopLimit.due()
        if skipped is not None:
            self.log.error(
                "{method} {target} came back to sitio by {peer}: the upstream leads to sitio"
                " itself. Such requests get 508; correct --upstream or what is behind it"
                " ({skipped} more since the last report)",
                method=method,
                target=target.partition("?")[0],
                peer=peer,
                skipped=skipped,
            )

    def _observerFailed(self, observer: Any) -> None:
        """Log that an observer failed, at most once in ten seconds."""
        self._observerFailures += 1
        if self._observerLimit.due() is not None:
            self.log.failure(
                "{observer} failed to record an exchange ({failures} failures of observers so far)",
                observer=observer,
                failures=self._observerFailures,
            )

    def exchangeFinished(self, exchange: Exchange) -> None:
        """Call the chain's observers, then the proxy's, for an exchange that has ended."""
        self.exchanges.discard(exchange)
        chain = exchange.chain
        if chain.hasObservers:
            chain.exchangeFinished(exchange)
        for each in self.observers:
            try:
                each.exchangeFinished(exchange)
            except BaseException:
                self._observerFailed(each)
