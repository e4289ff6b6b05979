"""
A policy in a chain, and what the chain needs of an exchange: L{Member}, L{JudgedExchange}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from sys import exc_info
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.errors import SitioError
from sitio.http.message import Request, Response
from sitio.interfaces import (
    IExchangeObserver,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
    ISendPolicy,
)
from sitio.policy.functions import FUNCTIONS

#: Seconds between two tracebacks of the same failure of a policy.
TRACEBACK_INTERVAL_SECONDS = 60.0

#: How many different failures of a policy are logged in that time: a new error shows at once, and
#: many of them don't fill the log.
MAX_TRACEBACKS = 8

_SEES = (
    ("requests", IRequestPolicy, "requestReceived"),
    ("responses", IResponsePolicy, "responseReceived"),
    ("heads", ISendPolicy, "responseSending"),
    ("exchanges", IExchangeObserver, "exchangeFinished"),
)


class JudgedExchange(Protocol):
    """
    What a chain needs of an exchange.

    @ivar duration: L{None} until the exchange has ended.
    @ivar policyTime: seconds spent in policies; the chain adds to it.
    @ivar acted: names of the policies that changed something; the chain adds to it.
    @ivar answeredBy: the policy that made the response; set by the chain.
    @ivar failure: the error of a policy that fails closed; set by the chain.
    """

    request: Request
    duration: float | None
    policyTime: float
    acted: tuple[str, ...]
    answeredBy: str | None
    failure: SitioError | None

    @property
    def id(self) -> str:
        """The id of the request."""

    def wholeRequest(self) -> SitioError | Deferred[SitioError | None] | None:
        """
        Read the rest of the request's body into C{request.body}.

        @return: why policies can't have it; it streams then.
        """

    def wholeBody(self, response: Response) -> bool | Deferred[bool]:
        """
        Read the rest of the body into C{response.body}.

        @return: C{False} if it is longer than the buffer limit: it streams then.
        """

    def mayRetry(self) -> bool:
        """Whether the request can be sent to the upstream again."""


@define(eq=False)
class Member:
    """
    A policy in a chain, with its name and its counters, and all that is read of it for each
    exchange.

    @ivar at: its place in the chain.
    @ivar requestReceived: calls the policy; so do the other three.
    @ivar selective: whether it is asked first whether it is interested in a response.
    @ivar buffered: whether it needs whole responses.
    @ivar needsRequest: whether it needs whole requests, or some.
    @ivar chooses: tells of a request whether it needs the whole; L{None} if it needs all.
    @ivar requestFailsOpen: whether a request goes on without it when it fails.
    @ivar responseFailsOpen: the same for a response.
    @ivar reportFailure: is called with the consequence, and the exchange if there is one, when
        it or one of its filters fails; set by the chain.
    """

    at: int
    name: str
    policy: Any
    requestReceived: Callable[..., Any] = field(init=False)
    responseReceived: Callable[..., Any] = field(init=False)
    responseSending: Callable[..., Any] = field(init=False)
    exchangeFinished: Callable[..., Any] = field(init=False)
    selective: bool = field(init=False)
    buffered: bool = field(init=False)
    needsRequest: bool = field(init=False)
    chooses: Callable[[Any], object] | None = field(init=False)
    requestFailsOpen: bool = field(init=False)
    responseFailsOpen: bool = field(init=False)
    reportFailure: Callable[..., object] = field(init=False)
    called: int = 0
    acted: int = 0
    failed: int = 0
    seconds: float = 0.0
    unlogged: int = 0
    _loggedAt: dict[object, float] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        policy = self.policy
        for _, interface, method in _SEES:
            if interface.providedBy(policy):
                # To call the function itself is a call less.
                name = "function" if type(policy) in FUNCTIONS else method
                setattr(self, method, getattr(policy, name))
        self.selective = ISelectivePolicy.providedBy(policy)
        self.buffered = buffersResponses(policy)
        whole = _buffersRequests(policy)
        self.needsRequest = bool(whole)
        self.chooses = whole if callable(whole) else None
        failOpen = getattr(policy, "failOpen", None)
        self.requestFailsOpen = bool(failOpen)
        self.responseFailsOpen = failOpen is None or bool(failOpen)

    def needsWhole(self, exchange: JudgedExchange) -> bool:
        """Whether it needs this whole request.  If it can't tell, it gets that."""
        if self.chooses is None:
            return True
        try:
            return bool(self.chooses(exchange))
        except BaseException:
            self.reportFailure("it gets the whole request", exchange)
            return True

    def wantsStatus(self, status: int) -> bool:
        """Whether it is interested in responses of a status."""
        try:
            return status in self.policy.statuses
        except BaseException:
            return self._getsIt("it gets {} responses of this status", "no", "all")

    def isInterested(self, exchange: JudgedExchange, response: Response) -> bool:
        """Whether it, which is selective, is interested in a response."""
        try:
            return bool(self.policy.isInterested(exchange, response))
        except BaseException:
            return self._getsIt("it {} this response", "does not get", "gets", exchange)

    def _getsIt(self, consequence: str, no: str, yes: str, *exchange: JudgedExchange) -> bool:
        """Whether it gets responses of which it can't tell whether it is interested."""
        self.reportFailure(consequence.format(no if self.responseFailsOpen else yes), *exchange)
        return not self.responseFailsOpen

    def countAct(self, exchange: JudgedExchange, answeredBy: str | None) -> None:
        """
        Count that it has answered, replaced or retried.

        @param answeredBy: the policy that has made the response now, or L{None}.
        """
        self.acted += 1
        exchange.acted += (self.name,)
        exchange.answeredBy = answeredBy

    def reportSkipped(
        self, consequence: str, cause: BaseException, exchange: JudgedExchange
    ) -> None:
        """Report that it could not be called, or has raised this."""
        try:
            raise cause
        except BaseException:
            self.reportFailure(consequence, exchange)

    def snapshot(self) -> dict[str, Any]:
        """Name and counters, as data for JSON."""
        return {
            "name": self.name,
            "sees": ", ".join(
                what for what, interface, _ in _SEES if interface.providedBy(self.policy)
            ),
            "called": self.called,
            "acted": self.acted,
            "failed": self.failed,
            "seconds": self.seconds,
        }

    def logFailure(self, log: Logger, now: float, consequence: str, id: str | None) -> None:
        """
        Count the exception at hand, and log it if the last one of its class and its place in
        the source is long ago.

        @param id: of the exchange, if there is one.
        """
        self.failed += 1
        if not self._isNews(now):
            self.unlogged += 1
            return
        log.failure(
            "The policy {name} failed{where}: {consequence} ({unlogged} failures since the last"
            " report were not logged)",
            failure=Failure(),
            name=self.name,
            where="" if id is None else f" (id {id})",
            id=id,
            consequence=consequence,
            unlogged=self.unlogged,
        )
        self.unlogged = 0

    def _isNews(self, now: float) -> bool:
        """Whether to log the exception at hand."""
        kind, _, trace = exc_info()
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (kind, trace and trace.tb_frame.f_code.co_filename, trace and trace.tb_lineno)
        since = now - TRACEBACK_INTERVAL_SECONDS
        self._loggedAt = {each: at for each, at in self._loggedAt.items() if at > since}
        if place in self._loggedAt or len(self._loggedAt) >= MAX_TRACEBACKS:
            return False
        self._loggedAt[place] = now
        return True


def buffersResponses(policy: Any) -> bool:
    """Whether a policy needs whole responses."""
    return IResponsePolicy.providedBy(policy) and bool(getattr(policy, "buffered", False))


def buffersRequests(policy: Any) -> bool:
    """Whether a policy needs whole requests, or some."""
    return bool(_buffersRequests(policy))


def _buffersRequests(policy: Any) -> Any:
    """
    What a policy says of whole requests: C{True}, C{False}, or a function that tells.

    C{buffered} of a policy that also gets responses speaks of those.
    """
    if not IRequestPolicy.providedBy(policy):
        return False
    default = not IResponsePolicy.providedBy(policy) and getattr(policy, "buffered", False)
    return getattr(policy, "requestBuffered", default)


class MembersByStatus(dict[int, tuple[Member, ...]]):
    """Policies by the status they are interested in; each is asked once for each status."""

    def __init__(self, members: list[Member]) -> None:
        self._members = members

    def __missing__(self, status: int) -> tuple[Member, ...]:
        self[status] = tuple([each for each in self._members if each.wantsStatus(status)])
        return self[status]

    def after(self, member: Member, status: int) -> Iterator[Member]:
        """The policies after this one that are interested in a status."""
        return iter([each for each in self[status] if each.at > member.at])
