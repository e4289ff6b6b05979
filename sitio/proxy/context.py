"""
The state shared by all exchanges of one proxy: L{ProxyContext}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sitio.errors import SitioError
from sitio.http.dates import DateLine
from sitio.http.marks import lineWith, newMark
from sitio.http.requestids import RequestIds
from sitio.net.loglimit import LogLimit
from sitio.policy.chain import Chain
from sitio.proxy.buffers import Buffers
from sitio.proxy.generation import Generation
from sitio.proxy.trust import ForwardedSettings, forwardedSettings
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
    @ivar generation: what is configured now; L{adopt} puts another one in its place.
    @ivar host: the Host for an HTTP/1.0 request without one.
    @ivar keepsFolded: whether requests keep fields that CGI takes for those of sitio.
    @ivar forwarded: what requests tell of clients, and whom sitio believes, as the generation
        says.  It may be given as one of L{MODES<sitio.http.claims.MODES>}.
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
    @ivar date: returns the line Date for responses without one.
    @ivar seconds: returns the clock's time, in seconds.
    """

    clock: IReactorTime
    generation: Generation
    host: bytes = b"localhost"
    observers: list[Any] = field(factory=list, converter=list)
    keepsFolded: bool = False
    mark: str = field(factory=newMark)
    forwarded: ForwardedSettings = field(factory=ForwardedSettings, converter=forwardedSettings)
    date: Callable[[], bytes] = field(factory=DateLine)
    log: Logger = field(factory=lambda: Logger(namespace="sitio"))
    ids: RequestIds = field(factory=RequestIds, init=False)
    exchanges: set[Exchange] = field(factory=set, init=False)
    brokenOff: int = field(default=0, init=False)
    tooLong: int = field(default=0, init=False)
    buffers: Buffers = field(init=False)
    seconds: Callable[[], float] = field(init=False)
    markLine: bytes = field(init=False)
    _failureLimit: LogLimit = field(init=False)
    _observerLimit: LogLimit = field(init=False)
    _loopLimit: LogLimit = field(init=False)
    _observerFailures: int = field(default=0, init=False)
    # Generations that have ended but for these exchanges, and what fires then.
    _ending: list[tuple[set[Exchange], Deferred[None]]] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.seconds = self.clock.seconds
        self.useMark(self.mark)
        self.forwarded = self.generation.forwarded or self.forwarded
        self.buffers = Buffers(self.settings.bufferTotal)
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

    @property
    def settings(self) -> Settings:
        """Limits and timeouts of connections, and of the whole process."""
        return self.generation.settings

    @property
    def chain(self) -> Chain:
        """
        The policies, where all requests take the same route; else those of requests that take
        none.

        Assign another chain to swap policies while traffic flows, where there is one route.
        """
        return (self.generation.only or self.generation.fallback).chain

    @chain.setter
    def chain(self, chain: Chain) -> None:
        route = self.generation.only
        if route is None:
            raise ValueError("there are several routes: replace the whole generation")
        self.adopt(Generation.ofOne(evolve(route, chain=chain), self.generation.number + 1))

    def adopt(self, generation: Generation) -> Deferred[None]:
        """
        Use another generation from the next request on.

        @return: fires when the last exchange of the former one has ended.
        """
        self.generation = generation
        self.forwarded = generation.forwarded or self.forwarded
        earlier: set[Exchange] = set().union(*(left for left, _ in self._ending))
        left = self.exchanges - earlier
        if not left:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._ending.append((left, ended))
        return ended

    def _leaves(self, exchange: Exchange) -> None:
        """An exchange has ended while some belong to former generations."""
        for entry in self._ending:
            left, ended = entry
            if exchange in left:
                left.discard(exchange)
                if not left:
                    self._ending.remove(entry)
                    ended.callback(None)
                return

    def exchangeFailed(self, error: SitioError, exchange: Exchange) -> None:
        """Tell its endpoint that an exchange failed, and the log, at most once in ten seconds."""
        if exchange.endpoint is not None:
            exchange.endpoint.failed(error)
        unlogged = self._failureLimit.due()
        if unlogged is None:
            return
        line = exchange.request.receivedLine
        self.log.warn(
            "An exchange failed: {method} {path} (id {id}), upstream {upstream}: {error}"
            " ({unlogged} more failures since the last report)",
            method=line.method[:MAX_PATH],
            path=line.path[:MAX_PATH],
            id=exchange.id,
            upstream=exchange.upstreamAddress,
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
        if self._ending:
            # Last, as it may stop the policies of a generation.
            self._leaves(exchange)
