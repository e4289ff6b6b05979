"""
The part of an exchange that policies and observers see: L{VisibleExchange}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sitio.errors import Reached, SitioError
from sitio.http.lines import pairsOf
from sitio.http.message import Request, Response
from sitio.http.peer import PeerCertificate
from sitio.interfaces import ExchangeState
from sitio.net.deadlines import NEVER
from sitio.policy.labels import Labels

if TYPE_CHECKING:
    from sitio.proxy.context import ProxyContext
    from sitio.proxy.downstream import Downstream
    from sitio.proxy.generation import Route
    from sitio.proxy.heldresponse import HeldResponse
    from sitio.proxy.upstream import Connections, Endpoint


#: Seconds of the longest timeout that a policy may set: a day.
MAX_TIMEOUT_SECONDS = 86400.0


class Attempt(NamedTuple):
    """
    An attempt to send a request to the upstream, after its end: the status of the response,
    what ended it early, and the seconds of waiting for a connection and for the head.
    """

    status: int | None
    failure: SitioError | None
    seconds: float


class VisibleExchange:
    """
    The part of an exchange that policies and observers read; see
    L{IExchange<sitio.interfaces.IExchange>}.

    Attributes that most exchanges never change have their default on the class.

    @ivar tried: the endpoints that it was sent to so far, where an upstream has several.
    @ivar lateAt: when the time for all attempts ends, if the upstream has retries of its own.
    @ivar lacksBudget: whether it was not sent again because the budget of the upstream had no
        retry left.
    @ivar hedged: whether an attempt has begun beside another one.
    @ivar routeOfRetry: where the next attempt goes, if a response policy has chosen another
        upstream; until then the route is that of the response.
    @ivar ownLabels: the labels that policies have set, or L{None} if none has asked for them.
    @ivar brokeOff: whether a failure broke off the response after its head was sent.
    """

    request: Request
    began: float
    state: str
    response: Response | None = None
    upstreamStatus: int | None = None
    status: int | None = None
    failure: SitioError | None = None
    brokeOff = False
    attempts = 0
    duration: float | None = None
    upstreamTime = 0.0
    connectTime = 0.0
    policyTime = 0.0
    bytesIn = 0
    bytesOut = 0
    acted: tuple[str, ...] = ()
    answeredBy: str | None = None
    _masking = True
    ownLabels: Labels | None = None
    context: ProxyContext
    route: Route
    routeOfRetry: Route | None = None
    pool: Connections | None = None
    endpoint: Endpoint | None = None
    tried: tuple[Endpoint, ...] = ()
    held: HeldResponse | None
    _downstream: Downstream
    lateAt = NEVER
    lacksBudget = False
    hedged = False
    _extra: bytes
    _notes: dict[Any, Any] | None = None
    _id: str | None = None
    _clientAddress: str | None = None
    _responseTimeout: float
    _reached = Reached.NOTHING
    _ended: tuple[Attempt, ...] = ()
    #: Seconds of waiting that belong to attempts that have ended.
    _told = 0.0
    #: When the wait of the current state began.
    _since = 0.0

    def __repr__(self) -> str:
        return f"<Exchange {self.id} {self.request!r} {self.state}>"

    @property
    def id(self) -> str:
        """The id of the request; see L{RequestIds<sitio.http.requestids.RequestIds>}."""
        if self._id is None:
            self._id = self.context.ids.idOf(self.request)
        return self._id

    @property
    def labels(self) -> Labels:
        """The labels that policies give this exchange; made at the first access."""
        if self.ownLabels is None:
            self.ownLabels = Labels()
        return self.ownLabels

    @property
    def masking(self) -> bool:
        """Whether policies may mask a failure of this exchange with another response."""
        return self._masking

    @masking.setter
    def masking(self, masking: bool) -> None:
        if not isinstance(masking, bool):
            # Such as "no", which would mean yes.
            raise ValueError(f"masking is True or False, not {masking!r}")
        self._masking = masking

    @property
    def timeout(self) -> float:
        """
        Seconds from the end of the request to the head of its response, for this exchange only;
        C{--response-timeout} unless a policy sets it.  What is set counts for attempts that
        begin later.
        """
        return self._responseTimeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        isNumber = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not (isNumber and 0 < seconds <= MAX_TIMEOUT_SECONDS):
            raise ValueError(
                f"an exchange can't have the timeout {seconds!r}: write a number of seconds"
                f" above 0, and {MAX_TIMEOUT_SECONDS:g} at most"
            )
        self._responseTimeout = seconds

    @property
    def upstream(self) -> str:
        """
        The name of the upstream that gets the request; C{""} if there is none.  A policy may
        choose another one before an attempt begins.  What a response policy chooses counts from
        the next attempt on.
        """
        upstream = self.route.upstream
        return "" if upstream is None else upstream.name

    @upstream.setter
    def upstream(self, name: str) -> None:
        if self.state not in (ExchangeState.DECIDING, ExchangeState.JUDGING):
            raise ValueError("the upstream can't be chosen any more: the request is on its way")
        isOther = self.route.upstream is None or name != self.route.upstream.name
        route = self.route.toward(name) if isOther else self.route
        if self.state is ExchangeState.DECIDING:
            self.route = route
        else:
            self.routeOfRetry = route

    @property
    def upstreamAddress(self) -> str:
        """The endpoint of the current or last attempt, as log lines name it."""
        if self.endpoint is not None:
            return self.endpoint.address
        upstream = self.route.upstream
        only = None if upstream is None else upstream.only
        return "none" if only is None else only.address or self.upstream

    @property
    def notes(self) -> dict[Any, Any]:
        """The data that policies keep about this exchange; made at the first access."""
        if self._notes is None:
            self._notes = {}
        return self._notes

    @property
    def clientAddress(self) -> str:
        """The client's address, without its port, as trusted proxies tell it."""
        if self._clientAddress is None:
            self._clientAddress = self._downstream.clientOf(self.request)
        return self._clientAddress

    @property
    def peerAddress(self) -> str:
        """The address of the connection's other end, without its port."""
        return self._downstream.peerAddress

    @property
    def downstream(self) -> Downstream:
        """The client's side, for the upstream's half."""
        return self._downstream

    @property
    def secure(self) -> bool:
        """Whether the client uses TLS."""
        return self._downstream.secure

    @property
    def peer(self) -> PeerCertificate | None:
        """What the client's certificate says; L{None} if it has shown none."""
        return self._downstream.peer

    @property
    def sentFields(self) -> Sequence[tuple[bytes, bytes]]:
        """Name and value of each field line of the request as the upstream gets them."""
        return pairsOf(self.request.headers.lines + self._extra)

    @property
    def now(self) -> float:
        """The time on the clock of C{began}."""
        return self.context.seconds()

    @property
    def mayHaveArrived(self) -> bool:
        """Whether the upstream may have got some of the request, in any attempt."""
        return self.attempts > 1 or self._reached is not Reached.NOTHING

    def isAsReceived(self, response: Response) -> bool:
        """Whether status and body of this response are those that the upstream sent."""
        # A policy gets a response only after it is held.
        held = self.held
        return held is None or held.isAsReceived(response)

    def endAttempt(self, failure: SitioError | None = None) -> None:
        """
        Remember how the current attempt ended, if that is not done yet: another one follows,
        or its failure becomes a response.  Else L{attemptsMade} tells it.
        """
        if len(self._ended) < self.attempts:
            status = self.upstreamStatus if self._reached is Reached.ANSWERED else None
            self._ended = (*self._ended, Attempt(status, failure, self.waited))
            self._told = self.connectTime + self.upstreamTime

    @property
    def waited(self) -> float:
        """Seconds that the current attempt has waited, but for the wait that is under way."""
        return self.connectTime + self.upstreamTime - self._told

    def endBeside(self, status: int | None, failure: SitioError | None, seconds: float) -> None:
        """Remember an attempt that has ended while one beside it goes on."""
        self._ended = (*self._ended, Attempt(status, failure, seconds))

    def attemptsMade(self) -> tuple[Attempt, ...]:
        """All attempts of an exchange that has ended, in order."""
        self.endAttempt(self.failure if self.brokeOff or self.status in (None, 499) else None)
        return self._ended

    def addWaitedTime(self) -> None:
        """Count the time of a wait that ends without a result."""
        now = self.context.seconds()
        if self.state is ExchangeState.WAITING:
            self.upstreamTime += now - self._since
        elif self.state is ExchangeState.CONNECTING:
            self.connectTime += now - self._since
        elif self.state is ExchangeState.RESTING:
            self.policyTime += now - self._since
