"""
Runs policies in order and contains their failures: L{Chain}.

These are steps 3, 7 and 9 of a request (docs/request.md).

Request policies fail closed: a failure answers the request with status 500.  Response
policies fail open: the response is sent as it was before.  The failure of an observer
changes nothing.  Each failure is counted under the policy's name, and its traceback is
logged at most once in L{TRACEBACK_INTERVAL_SECONDS}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable
from typing import Any, Protocol, cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.errors import PolicyFailed
from sitio.http.failures import asResponse
from sitio.http.message import Request, Response, Retry
from sitio.interfaces import (
    IExchangeObserver,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
)
from sitio.policy.answers import (
    SavedResponse,
    checkRequest,
    checkResponse,
    copied,
    forgetLength,
)
from sitio.policy.coroutines import started
from sitio.policy.pending import CANCELLED, bounded, settle
from sitio.policy.verify import verifyPolicy

#: Seconds between two tracebacks of the same policy.
TRACEBACK_INTERVAL_SECONDS = 60.0


class JudgedExchange(Protocol):
    """
    What a chain needs of an exchange.

    @ivar duration: L{None} until the exchange has ended.
    @ivar policyTime: seconds spent in policies; the chain adds to it.
    @ivar acted: names of the policies that changed something; the chain adds to it.
    @ivar answeredBy: the policy that made the response; set by the chain.
    """

    request: Request
    duration: float | None
    policyTime: float
    acted: tuple[str, ...]
    answeredBy: str | None

    def wholeBody(self, response: Response) -> Awaitable[bool]:
        """
        Read the rest of the body into C{response.body}.

        @return: C{False} if it is longer than the buffer limit: it streams then.
        """

    def mayRetry(self) -> bool:
        """Whether the request can be sent to the upstream again."""


@define(eq=False)
class Member:
    """A policy in a chain, with its name and its counters."""

    name: str
    policy: Any
    selective: bool = field(init=False)
    buffered: bool = field(init=False)
    called: int = 0
    acted: int = 0
    failed: int = 0
    seconds: float = 0.0
    loggedAt: float = float("-inf")
    unlogged: int = 0

    def __attrs_post_init__(self) -> None:
        self.selective = ISelectivePolicy.providedBy(self.policy)
        self.buffered = bool(getattr(self.policy, "buffered", False))


class _MembersByStatus(dict[int, list[Member]]):
    """Policies by the status they are interested in; each is asked once for each status."""

    def __init__(self, members: list[Member], isInterested: Callable[[Member, int], bool]) -> None:
        self._members = members
        self._isInterested = isInterested

    def __missing__(self, status: int) -> list[Member]:
        self[status] = [each for each in self._members if self._isInterested(each, status)]
        return self[status]


def _checkKind(member: Member, answer: Any, kinds: tuple[type, ...]) -> None:
    """
    Raise if a policy returned something else.

    @param kinds: the types that it may return, beside L{None}.
    """
    if answer is not None and not isinstance(answer, kinds):
        allowed = "None, a Response or a Retry" if Retry in kinds else "None or a Response"
        raise TypeError(
            f"{member.name} returned {answer!r} ({type(answer).__name__}); return {allowed}"
        )


def _reraiseIfGivenUp(exchange: JudgedExchange, answer: Any, error: BaseException) -> None:
    """
    Raise the error again if the policy did not fail: the client left while it waited, or
    Python closes the waiting coroutine, of which nothing is left.

    @param answer: a L{Deferred} if the chain waits for the policy.
    """
    if isinstance(error, CANCELLED) and exchange.duration is not None:
        raise error
    if isinstance(error, GeneratorExit) and isinstance(answer, Deferred):
        raise error


class Chain:
    """
    The policies of a proxy, in the operator's order.

    A chain never changes.  To swap policies while traffic flows, put another chain in its
    place: exchanges under way keep the one they started with.

    @ivar interested: response policies by the status of the responses they want to see.
    @ivar hasRequestPolicies: whether there is a request policy.
    @ivar hasObservers: whether there is an observer.
    """

    log = Logger()

    def __init__(
        self,
        policies: Iterable[tuple[str, Any]] = (),
        *,
        clock: IReactorTime,
        timeout: float = 30.0,
    ) -> None:
        """
        @param policies: names and policies.
        @param timeout: seconds that a policy may take for one call.

        @raise ValueError: one of them is not a policy, or an incomplete one.
        """
        self._clock = clock
        self._seconds = clock.seconds
        self._timeout = timeout
        self._members = [Member(name, verifyPolicy(name, policy)) for name, policy in policies]
        self._request = self._providing(IRequestPolicy)
        self._response = self._providing(IResponsePolicy)
        self._observers = self._providing(IExchangeObserver)
        self.hasRequestPolicies = bool(self._request)
        self.hasObservers = bool(self._observers)
        # Bounded: there are 900 statuses of three digits.
        self.interested = _MembersByStatus(self._response, self._isInterestedInStatus)

    def _providing(self, interface: Any) -> list[Member]:
        return [each for each in self._members if interface.providedBy(each.policy)]

    @property
    def policies(self) -> list[Any]:
        """The policies, in order."""
        return [each.policy for each in self._members]

    def snapshot(self) -> list[dict[str, Any]]:
        """Name and counters of each policy, as data for JSON."""
        return [
            {
                "name": each.name,
                "sees": ", ".join(
                    what
                    for what, members in (
                        ("requests", self._request),
                        ("responses", self._response),
                        ("exchanges", self._observers),
                    )
                    if each in members
                ),
                "called": each.called,
                "acted": each.acted,
                "failed": each.failed,
                "seconds": each.seconds,
            }
            for each in self._members
        ]

    def requestReceived(self, exchange: JudgedExchange) -> Any:
        """
        Step 3: run the request policies.

        @return: L{None} to go on to the upstream, the L{Response} that one of them made,
            or a L{Deferred} of either.  A policy that fails makes a response of status
            500.  The Deferred fails only if it is cancelled because the client left.
        """
        return settle(self._runRequest(exchange))

    async def _runRequest(self, exchange: JudgedExchange) -> Response | None:
        for member in self._request:
            began = self._seconds()
            answer: Any = None
            try:
                member.called += 1
                answer = member.policy.requestReceived(exchange)
                if answer is not None and type(answer) is not Response:
                    answer = self._pending(member, answer)
                    if isinstance(answer, Deferred):
                        answer = await answer
                    _checkKind(member, answer, (Response,))
                if answer is not None:
                    checkResponse(answer, mayStream=False)
                    answer = copied(answer)
                checkRequest(exchange.request)
            except BaseException as error:
                _reraiseIfGivenUp(exchange, answer, error)
                self._failed(member, "the request is answered with status 500")
                answer = asResponse(PolicyFailed(f"the policy {member.name} failed"))
            finally:
                self._took(member, exchange, self._seconds() - began)
            if answer is not None:
                self._acted(member, exchange)
                if answer.failure is None:
                    exchange.answeredBy = member.name
                return cast(Response, answer)
        return None

    def _isInterestedInStatus(self, member: Member, status: int) -> bool:
        try:
            return status in cast(Container[int], member.policy.statuses)
        except BaseException:
            self._failed(member, "it gets no responses of this status")
            return False

    def firstInterested(self, exchange: JudgedExchange, response: Response) -> Member | None:
        """The first policy that is interested in this response; L{None} for most responses."""
        for member in self.interested[response.status]:
            if not member.selective or self._isInterested(member, exchange, response):
                return member
        return None

    def responseReceived(
        self, exchange: JudgedExchange, response: Response, first: Member | None = None
    ) -> Any:
        """
        Step 7: run the response policies.

        Calls C{exchange.wholeBody} if a policy needs the whole body, and
        C{exchange.mayRetry} if one returns a L{Retry}.

        @param first: what L{firstInterested} returned, if it was called before.

        @return: the L{Response} to send, a L{Retry} to follow, or a L{Deferred} of either.
            The Deferred fails if C{wholeBody} does, or if it is cancelled because the
            client left.
        """
        first = first or self.firstInterested(exchange, response)
        if first is None:
            return response
        return settle(self._runResponse(exchange, response, first))

    async def _runResponse(
        self, exchange: JudgedExchange, response: Response, first: Member | None
    ) -> Response | Retry:
        status = response.status
        received: Response | None = response
        interested = self.interested[status]
        for member in self._response:
            if response.status != status:
                # A policy changed the status: the next ones are chosen by the new one.
                status = response.status
                interested = self.interested[status]
            if member is first:
                first = None
            elif (
                first is not None
                or member not in interested
                or (member.selective and not self._isInterested(member, exchange, response))
            ):
                continue
            if response.body is None and member.buffered and not await exchange.wholeBody(response):
                continue
            saved = SavedResponse(response)
            began = self._seconds()
            answer: Any = None
            try:
                member.called += 1
                answer = member.policy.responseReceived(exchange, response)
                if answer is not None and type(answer) is not Response:
                    answer = self._pending(member, answer)
                    if isinstance(answer, Deferred):
                        answer = await answer
                    _checkKind(member, answer, (Response, Retry))
                if answer is response:
                    answer = None
                if isinstance(answer, Response):
                    checkResponse(answer, mayStream=False)
                    answer = copied(answer)
                else:
                    checkResponse(response, mayStream=True)
            except BaseException as error:
                _reraiseIfGivenUp(exchange, answer, error)
                self._failed(member, "the response is sent as it was before")
                saved.restore(response)
                answer = None
            finally:
                self._took(member, exchange, self._seconds() - began)
            if member.buffered and response is received:
                received = forgetLength(exchange.request, response, answer)
            if answer is None:
                continue
            if isinstance(answer, Response):
                self._acted(member, exchange)
                exchange.answeredBy = member.name
                answer.failure = answer.failure or response.failure
                response = answer
            elif exchange.mayRetry():
                self._acted(member, exchange)
                exchange.answeredBy = None
                return cast(Retry, answer)
        return response

    def _isInterested(self, member: Member, exchange: JudgedExchange, response: Response) -> bool:
        try:
            return bool(member.policy.isInterested(exchange, response))
        except BaseException:
            self._failed(member, "it does not get this response")
            return False

    def _pending(self, member: Member, answer: Any) -> Any:
        """What a policy returned, or a L{Deferred} that has it in time."""
        answer = started(answer)
        if isinstance(answer, Deferred):
            answer = bounded(
                answer,
                self._timeout,
                self._clock,
                lambda: self._failed(member, "what it waits for can't be cancelled"),
            )
        return answer

    def exchangeFinished(self, exchange: JudgedExchange) -> None:
        """Step 9: call the observers."""
        for member in self._observers:
            member.called += 1
            try:
                member.policy.exchangeFinished(exchange)
            except BaseException:
                self._failed(member, "it missed one exchange")

    def _took(self, member: Member, exchange: JudgedExchange, seconds: float) -> None:
        member.seconds += seconds
        exchange.policyTime += seconds

    def _acted(self, member: Member, exchange: JudgedExchange) -> None:
        member.acted += 1
        exchange.acted += (member.name,)

    def _failed(self, member: Member, consequence: str) -> None:
        member.failed += 1
        now = self._clock.seconds()
        if now - member.loggedAt < TRACEBACK_INTERVAL_SECONDS:
            member.unlogged += 1
            return
        self.log.failure(
            "The policy {name} failed: {consequence} ({unlogged} failures since the last"
            " report were not logged)",
            failure=Failure(),
            name=member.name,
            consequence=consequence,
            unlogged=member.unlogged,
        )
        member.loggedAt = now
        member.unlogged = 0
