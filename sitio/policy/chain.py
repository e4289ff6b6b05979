"""
Runs policies in order and contains their failures: L{Chain}.

These are steps 3, 7 and 9 of a request (docs/request.md).

Request policies fail closed: a failure answers the request with status 500.  Response
policies fail open: the response is sent as it was before.  A policy may say otherwise by its
C{failOpen}; a response policy that fails closed has its response replaced by a 502.  The
failure of an observer or of a send policy changes nothing.  Each failure is counted under the
policy's name (L{Member}).
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from functools import partial
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sitio.errors import PolicyFailed, ResponseWithheld
from sitio.http.failures import asResponse
from sitio.http.message import Response, Retry
from sitio.interfaces import (
    IExchangeObserver,
    IRequestPolicy,
    IResponsePolicy,
    ISendPolicy,
)
from sitio.policy.answers import (
    SavedRequest,
    SavedResponse,
    accepted,
    allowed,
    forgetLength,
)
from sitio.policy.coroutines import started
from sitio.policy.member import JudgedExchange, Member, MembersByStatus
from sitio.policy.pending import CANCELLED, bounded, settle
from sitio.policy.sending import SentHead, checkSent
from sitio.policy.verify import verifyPolicy


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


def _tooLong() -> ResponseWithheld:
    return ResponseWithheld(
        "the response is longer than --buffer-limit, or than what --buffer-total leaves"
    )


class Chain:
    """
    The policies of a proxy, in the operator's order.

    A chain never changes.  To swap policies while traffic flows, put another chain in its
    place: exchanges under way keep the one they started with.

    @ivar interested: response policies by the status of the responses they want to see.
    @ivar hasRequestPolicies: whether there is a request policy.
    @ivar hasObservers: whether there is an observer.
    @ivar hasSendPolicies: whether there is a send policy.
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
        for each in self._members:
            each.filterFailed = partial(self._failed, each)
        self._request = self._providing(IRequestPolicy)
        self._response = self._providing(IResponsePolicy)
        self._observers = self._providing(IExchangeObserver)
        self._send = self._providing(ISendPolicy)
        self.hasRequestPolicies = bool(self._request)
        self.hasObservers = bool(self._observers)
        self.hasSendPolicies = bool(self._send)
        # Bounded: there are 900 statuses of three digits.
        self.interested = MembersByStatus(self._response, self._isInterestedInStatus)

    def _providing(self, interface: Any) -> list[Member]:
        return [each for each in self._members if interface.providedBy(each.policy)]

    @property
    def policies(self) -> list[Any]:
        """The policies, in order."""
        return [each.policy for each in self._members]

    def snapshot(self) -> list[dict[str, Any]]:
        """Name and counters of each policy, as data for JSON."""
        return [each.snapshot() for each in self._members]

    def requestReceived(self, exchange: JudgedExchange) -> Any:
        """
        Step 3: run the request policies.

        @return: L{None} to go on to the upstream, the L{Response} that one of them made,
            or a L{Deferred} of either.  A policy that fails makes a response of status
            500.  The Deferred fails only if it is cancelled because the client left.
        """
        return settle(self._runRequest(exchange))

    async def _runRequest(self, exchange: JudgedExchange) -> Response | None:
        request = exchange.request
        length = request.length
        for member in self._request:
            if member.buffersRequest and request.content is None and member.needsWhole(exchange):
                error = await exchange.wholeRequest()
                if error is not None:
                    if not member.requestFailsOpen:
                        return asResponse(error)
                    self._skipped(member, "it does not get this request", error, exchange)
                    continue
            saved = SavedRequest(request) if member.requestFailsOpen else None
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
                answer = allowed(request, answer, length, member.filterFailed)
            except BaseException as error:
                _reraiseIfGivenUp(exchange, answer, error)
                answer = self._requestFailed(member, exchange, saved)
            finally:
                self._took(member, exchange, self._seconds() - began)
            if answer is not None:
                self._acted(member, exchange)
                if answer.failure is None:
                    exchange.answeredBy = member.name
                return cast(Response, answer)
        return None

    def _requestFailed(
        self,
        member: Member,
        exchange: JudgedExchange,
        saved: SavedRequest | None,
    ) -> Response | None:
        """Undo what a policy that fails open has done, or make a response of status 500."""
        if saved is not None:
            self._failed(member, "the request goes on as it was before", exchange)
            saved.restore(exchange.request)
            return None
        self._failed(member, "the request is answered with status 500", exchange)
        return asResponse(PolicyFailed(f"the policy {member.name} failed"))

    def _isInterestedInStatus(self, member: Member, status: int) -> bool:
        try:
            return status in cast(Container[int], member.policy.statuses)
        except BaseException:
            if member.responseFailsOpen:
                self._failed(member, "it gets no responses of this status")
                return False
            self._failed(member, "it gets all responses of this status")
            return True

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
                if not member.responseFailsOpen:
                    response = self._withhold(member, exchange, _tooLong(), response)
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
                answer = accepted(response, answer, saved, member.filterFailed)
            except BaseException as error:
                _reraiseIfGivenUp(exchange, answer, error)
                saved.restore(response)
                if not member.responseFailsOpen:
                    response = self._withhold(member, exchange, error, response)
                    continue
                self._failed(member, "the response is sent as it was before", exchange)
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
            if member.responseFailsOpen:
                self._failed(member, "it does not get this response", exchange)
                return False
            self._failed(member, "it gets this response", exchange)
            return True

    def _withhold(
        self,
        member: Member,
        exchange: JudgedExchange,
        cause: BaseException,
        response: Response,
    ) -> Response:
        """The response in place of one that a policy which fails closed has not judged."""
        error = ResponseWithheld(f"the policy {member.name} failed", cause=cause)
        self._skipped(member, "the response is replaced by one of status 502", cause, exchange)
        self._acted(member, exchange)
        exchange.answeredBy = None
        exchange.failure = error
        return asResponse(error)

    def responseSending(self, exchange: JudgedExchange, response: Response) -> None:
        """Step 8: show the head of a response to the send policies."""
        for member in self._send:
            saved = SavedResponse(response)
            began = self._seconds()
            try:
                member.called += 1
                checkSent(member.name, member.policy.responseSending(exchange, SentHead(response)))
            except BaseException:
                self._failed(member, "the head is sent as it was before", exchange)
                saved.restore(response)
            self._took(member, exchange, self._seconds() - began)

    def _pending(self, member: Member, answer: Any) -> Any:
        """What a policy returned, or a L{Deferred} that has it in time."""
        answer = started(answer)
        if isinstance(answer, Deferred):
            answer = bounded(
                answer,
                self._timeout,
                self._clock,
                lambda: self._failed(member, "what it waits for can't be cancelled"),
                "it took longer than {:g} s, the --policy-timeout",
            )
        return answer

    def exchangeFinished(self, exchange: JudgedExchange) -> None:
        """Step 9: call the observers."""
        for member in self._observers:
            member.called += 1
            try:
                member.policy.exchangeFinished(exchange)
            except BaseException:
                self._failed(member, "it missed one exchange", exchange)

    def _took(self, member: Member, exchange: JudgedExchange, seconds: float) -> None:
        member.seconds += seconds
        exchange.policyTime += seconds

    def _acted(self, member: Member, exchange: JudgedExchange) -> None:
        member.acted += 1
        exchange.acted += (member.name,)

    def _skipped(
        self, member: Member, consequence: str, cause: BaseException, exchange: JudgedExchange
    ) -> None:
        """Count and log a policy that could not be called, or has raised this."""
        try:
            raise cause
        except BaseException:
            self._failed(member, consequence, exchange)

    def _failed(
        self, member: Member, consequence: str, exchange: JudgedExchange | None = None
    ) -> None:
        id = None if exchange is None else exchange.id
        member.logFailure(self.log, self._clock.seconds(), consequence, id)
