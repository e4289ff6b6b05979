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

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain as joined
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.errors import PolicyFailed, ResponseWithheld, SitioError
from sitio.http.failures import asResponse
from sitio.http.message import Response
from sitio.interfaces import (
    IExchangeObserver,
    IRequestPolicy,
    IResponsePolicy,
    ISendPolicy,
)
from sitio.policy.answers import (
    SavedRequest,
    accepted,
    allowed,
    forgetLength,
    restoreRequest,
    restoreResponse,
    savedRequest,
    savedResponse,
)
from sitio.policy.coroutines import started
from sitio.policy.member import JudgedExchange, Member, MembersByStatus
from sitio.policy.pending import CANCELLED, bounded, then
from sitio.policy.sending import SentHead, checkSent
from sitio.policy.verify import verifyPolicy

#: In place of an answer: the policy is still to be called.
_NOT_CALLED: Any = object()

#: Where the request policies have got to: the rest, the length of the body as announced, the
#: request before the first of the rest was called, if that fails open, and when it was called.
_AskTurn = tuple[Iterator[Member], int | None, SavedRequest | None, float]

#: A policy that is interested in a response, and those after it that want its status.
Interested = tuple[Member, Iterator[Member]]

#: Where the response policies have got to: the policy whose turn it is, those after it, the
#: response whose length may have to be forgotten (L{forgetLength}), the response before the
#: policy was called, and when it was.
_JudgeTurn = tuple[Any, Iterator[Member], Response | None, Any, float]


class Chain:
    """
    The policies of a proxy, in the operator's order.

    A chain never changes.  To swap policies while traffic flows, put another chain in its
    place: exchanges under way keep the one they started with.

    @ivar members: the policies with their counters, in order.
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
        first: Chain | None = None,
    ) -> None:
        """
        @param policies: names and policies.
        @param timeout: seconds that a policy may take for one call.
        @param first: its policies come before, and are counted together with those there.

        @raise ValueError: one of them is not a policy, or an incomplete one.
        """
        self._clock = clock
        self._seconds = clock.seconds
        self._timeout = timeout
        self.members: list[Member] = [] if first is None else list(first.members)
        for at, (name, policy) in enumerate(policies, len(self.members)):
            member = Member(at, name, verifyPolicy(name, policy))
            member.reportFailure = partial(self._failed, member)
            self.members.append(member)
        self._request = self._providing(IRequestPolicy)
        self._observers = self._providing(IExchangeObserver)
        self._send = self._providing(ISendPolicy)
        self.hasRequestPolicies = bool(self._request)
        self.hasObservers = bool(self._observers)
        self.hasSendPolicies = bool(self._send)
        # Bounded: there are 900 statuses of three digits.
        self.interested = MembersByStatus(self._providing(IResponsePolicy))

    def _providing(self, interface: Any) -> list[Member]:
        return [each for each in self.members if interface.providedBy(each.policy)]

    @property
    def policies(self) -> list[Any]:
        """The policies, in order."""
        return [each.policy for each in self.members]

    def snapshot(self) -> list[dict[str, Any]]:
        """Name and counters of each policy, as data for JSON."""
        return [each.snapshot() for each in self.members]

    def requestReceived(self, exchange: JudgedExchange) -> Any:
        """
        Step 3: run the request policies.

        @return: L{None} to go on to the upstream, the L{Response} that one of them made,
            or a L{Deferred} of either.  A policy that fails makes a response of status
            500.  The Deferred fails only if it is cancelled because the client left.
        """
        turn = iter(self._request), exchange.request.length, None, self._seconds()
        return self._ask(_NOT_CALLED, exchange, turn)

    def _ask(self, answer: Any, exchange: JudgedExchange, turn: _AskTurn) -> Any:
        """
        Run the rest of the request policies; see L{requestReceived}.

        @param answer: of the first, which was waited for, or L{_NOT_CALLED}.
        """
        request = exchange.request
        rest, length, saved, began = turn
        for member in rest:
            if answer is _NOT_CALLED:
                if member.needsRequest and request.content is None and member.needsWhole(exchange):
                    turn = rest, length, None, began
                    return then(exchange.wholeRequest(), self._askWhole, member, exchange, turn)
                saved = savedRequest(request) if member.requestFailsOpen else None
            try:
                if answer is _NOT_CALLED:
                    member.called += 1
                    answer = member.requestReceived(exchange)
                    if answer is not None and type(answer) is not Response:
                        answer = self._started(member, answer)
                        if type(answer) is Deferred:
                            turn = joined((member,), rest), length, saved, began
                            return answer.addBoth(self._ask, exchange, turn)
                elif isinstance(answer, Failure):
                    answer.raiseException()
                answer = allowed(request, answer, length, member)
            except BaseException as error:
                self._reraiseIfGivenUp(error, member, exchange, began)
                answer = self._requestFailed(member, exchange, saved)
            began = self._took(member, exchange, began)
            if answer is not None:
                member.countAct(exchange, member.name if answer.failure is None else None)
                return answer
            answer = _NOT_CALLED
        return None

    def _askWhole(
        self, error: SitioError | None, member: Member, exchange: JudgedExchange, turn: _AskTurn
    ) -> Any:
        """Go on with a policy that gets the whole request, or skip it."""
        rest, length, saved, _ = turn
        if error is None:
            rest = joined((member,), rest)
        elif member.requestFailsOpen:
            member.reportSkipped("it does not get this request", error, exchange)
        else:
            return asResponse(error)
        return self._ask(_NOT_CALLED, exchange, (rest, length, saved, self._seconds()))

    def _requestFailed(
        self, member: Member, exchange: JudgedExchange, saved: SavedRequest | None
    ) -> Response | None:
        """Undo what a policy that fails open has done, or make a response of status 500."""
        if saved is not None:
            self._failed(member, "the request goes on as it was before", exchange)
            restoreRequest(exchange.request, saved)
            return None
        self._failed(member, "the request is answered with status 500", exchange)
        return asResponse(PolicyFailed(f"the policy {member.name} failed"))

    def firstInterested(self, exchange: JudgedExchange, response: Response) -> Interested | None:
        """
        The first policy that is interested in this response, and the others that want its
        status; L{None} for most responses.
        """
        rest = iter(self.interested[response.status])
        for member in rest:
            if not member.selective or member.isInterested(exchange, response):
                return member, rest
        return None

    def responseReceived(
        self, exchange: JudgedExchange, response: Response, first: Interested | None = None
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
        member, rest = first or (None, iter(self.interested[response.status]))
        turn = member, rest, response, None, self._seconds()
        return self._judge(_NOT_CALLED, exchange, response, turn)

    def _judge(
        self, answer: Any, exchange: JudgedExchange, response: Response, turn: _JudgeTurn
    ) -> Any:
        """
        Run the rest of the response policies; see L{responseReceived}.

        @param answer: of the policy whose turn it is, if it was waited for; else L{_NOT_CALLED}.
        """
        member, rest, received, saved, began = turn
        while True:
            if member is None:
                for member in rest:
                    if not member.selective or member.isInterested(exchange, response):
                        break
                else:
                    return response
                if member.selective:
                    began = self._seconds()
            if answer is _NOT_CALLED:
                if member.buffered and response.body is None:
                    turn = member, rest, received, None, began
                    whole = exchange.wholeBody(response)
                    return then(whole, self._judgeWhole, exchange, response, turn)
                saved = savedResponse(response)
            try:
                if answer is _NOT_CALLED:
                    member.called += 1
                    answer = member.responseReceived(exchange, response)
                    if answer is not None and type(answer) is not Response:
                        answer = self._started(member, answer)
                        if type(answer) is Deferred:
                            turn = member, rest, received, saved, began
                            return answer.addBoth(self._judge, exchange, response, turn)
                elif isinstance(answer, Failure):
                    answer.raiseException()
                answer = accepted(response, answer, saved, member)
            except BaseException as error:
                self._reraiseIfGivenUp(error, member, exchange, began)
                restoreResponse(response, saved)
                if member.responseFailsOpen:
                    self._failed(member, "the response is sent as it was before", exchange)
                else:
                    response = self._withheld(error, member, exchange)
                answer = None
            began = self._took(member, exchange, began)
            if member.buffered and response is received:
                received = forgetLength(exchange.request, response, answer)
            if type(answer) is Response:
                member.countAct(exchange, member.name)
                answer.failure = answer.failure or response.failure
                response = answer
            elif answer is not None and exchange.mayRetry():
                member.countAct(exchange, None)
                return answer
            if response.status != saved[0]:
                rest = self.interested.after(member, response.status)
            member, answer = None, _NOT_CALLED

    def _judgeWhole(
        self, isWhole: bool, exchange: JudgedExchange, response: Response, turn: _JudgeTurn
    ) -> Any:
        """Go on with a policy that gets the whole response, or skip it."""
        member, rest, received, _, _ = turn
        if not isWhole:
            if not member.responseFailsOpen:
                error = ResponseWithheld(
                    "the response is longer than --buffer-limit, or than what --buffer-total leaves"
                )
                response = self._withheld(error, member, exchange)
                rest = self.interested.after(member, response.status)
            member = None
        turn = member, rest, received, None, self._seconds()
        return self._judge(_NOT_CALLED, exchange, response, turn)

    def _withheld(self, cause: BaseException, member: Member, exchange: JudgedExchange) -> Response:
        """The response in place of one that a policy which fails closed has not judged."""
        error = ResponseWithheld(f"the policy {member.name} failed", cause=cause)
        member.reportSkipped("the response is replaced by one of status 502", cause, exchange)
        member.countAct(exchange, None)
        exchange.failure = error
        return asResponse(error)

    def responseSending(self, exchange: JudgedExchange, response: Response) -> None:
        """Step 8: show the head of a response to the send policies."""
        head = SentHead(response)
        began = self._seconds()
        for member in self._send:
            saved = savedResponse(response)
            member.called += 1
            try:
                answer = member.responseSending(exchange, head)
                if answer is not None:
                    checkSent(member.name, answer)
            except BaseException:
                self._failed(member, "the head is sent as it was before", exchange)
                restoreResponse(response, saved)
            began = self._took(member, exchange, began)

    def _started(self, member: Member, answer: Any) -> Any:
        """What a policy has returned, or a L{Deferred} that has its result in time."""
        answer = started(answer)
        # Most have a result by now, and Deferred is an abstract class, so that it is slow to ask.
        if answer is not None and isinstance(answer, Deferred):
            cancelFailed = partial(self._failed, member, "what it waits for can't be cancelled")
            answer = bounded(answer, self._timeout, self._clock, cancelFailed)
            if answer.called and not isinstance(answer.result, Failure):
                return answer.result
        return answer

    def exchangeFinished(self, exchange: JudgedExchange) -> None:
        """Step 9: call the observers."""
        for member in self._observers:
            member.called += 1
            try:
                member.exchangeFinished(exchange)
            except BaseException:
                self._failed(member, "it missed one exchange", exchange)

    def _took(self, member: Member, exchange: JudgedExchange, began: float) -> float:
        """Count the time that a policy took; the time now, when the next one begins."""
        now = self._seconds()
        spent = now - began
        member.seconds += spent
        exchange.policyTime += spent
        return now

    def _reraiseIfGivenUp(
        self, error: BaseException, member: Member, exchange: JudgedExchange, began: float
    ) -> None:
        """Raise again what is no failure of the policy: the client left while it waited."""
        if isinstance(error, CANCELLED) and exchange.duration is not None:
            self._took(member, exchange, began)
            raise error

    def _failed(
        self, member: Member, consequence: str, exchange: JudgedExchange | None = None
    ) -> None:
        id = None if exchange is None else exchange.id
        member.logFailure(self.log, self._clock.seconds(), consequence, id)
