"""
Policies put in order, run, and kept from doing harm: L{Chain}.

It owns steps 3 and 7 of a request's life (docs/request.md).  How policies are
made is said in C{making}.

The rule on failures, in one place: a request policy that fails answers 500, a
response policy or an observer that fails is passed over; each is counted by
name, and its traceback logged not more than once a minute.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Coroutine, Iterable
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.errors import PolicyFailed
from sitio.http.failures import asResponse
from sitio.http.headers import Headers
from sitio.http.message import Request, Response, Retry
from sitio.interfaces import (
    IExchangeObserver,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
)
from sitio.policy.loader import verified

#: Seconds between two tracebacks of the same policy.
TRACEBACK_INTERVAL = 60.0


@define(eq=False)
class _Member:
    """A policy in a chain, with its name and metrics."""

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


def _settle(run: Coroutine[Any, Any, Any]) -> Any:
    """
    Run a coroutine; its result if it never had to wait, else a L{Deferred}.

    A Deferred that is awaited again yields itself again, so what has been
    started can be handed over.
    """
    try:
        run.send(None)
    except StopIteration as stop:
        return stop.value
    return Deferred.fromCoroutine(run)


def _sendable(response: Response, streams: bool = False) -> Response:
    """
    The response; raises if it can't be sent as a policy made or left it.

    @param streams: whether its body may be yet to come.
    """
    if not isinstance(response.body, bytes) and not (streams and response.body is None):
        raise TypeError(f"its body is no bytes: {type(response.body).__name__}")
    if not (isinstance(response.status, int) and 200 <= response.status <= 999):
        raise ValueError(f"its status is {response.status!r}: 200 to 999 can be sent")
    if not isinstance(response.reason, str):
        raise TypeError(f"its reason is no text: {type(response.reason).__name__}")
    return response


def _checkRequest(request: Request) -> None:
    """Raise if it can't be sent as a policy left it; all but its body sees to itself."""
    if not (request.body is None or isinstance(request.body, bytes)):
        raise TypeError(f"the request's body is no bytes: {type(request.body).__name__}")


def _copied(response: Response) -> Response:
    """The same once more: a policy may give one response to many exchanges."""
    twin = Response.fromHead(
        response.status,
        response.reason,
        response.lines,
        response.length,
        response.upgrade,
        response.version,
    )
    if response.lines is None:
        twin.headers = response.headers.copy()
    twin.body = response.body
    twin.failure = response.failure
    twin.filters = response.filters and list(response.filters)
    return twin


class _Before:
    """A response as it was before a policy saw it, to undo what one did until it failed."""

    __slots__ = ("_body", "_filters", "_headers", "_reason", "_status")

    def __init__(self, response: Response) -> None:
        self._status = response.status
        self._reason = response.reason
        self._body = response.body
        self._filters = response.filters and list(response.filters)
        # Lines never change; only what may have been changed needs a copy.
        lines = response.lines
        self._headers = response.headers.copy() if lines is None else Headers.fromLines(lines)

    def restore(self, response: Response) -> None:
        """Make it again what it was."""
        response.status = self._status
        response.reason = self._reason
        response.headers = self._headers
        response.body = self._body
        response.filters = self._filters


class _Interested(dict[int, list[_Member]]):
    """Policies by the status that they want to see; each is asked once for each status."""

    def __init__(self, members: list[_Member], wants: Callable[[_Member, int], bool]) -> None:
        self._members = members
        self._wants = wants

    def __missing__(self, status: int) -> list[_Member]:
        self[status] = [each for each in self._members if self._wants(each, status)]
        return self[status]


class Chain:
    """
    The policies of a sidecar, in the operator's order.

    A chain is never changed: to swap policies while traffic flows, put another
    in its place; exchanges under way keep theirs.
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

        @param timeout: seconds that a policy may take over its answer.

        @raise ValueError: for something that is no policy.
        """
        self._clock = clock
        self._seconds = clock.seconds
        self._timeout = timeout
        self._members = [_Member(name, verified(name, policy)) for name, policy in policies]
        self._request = self._providing(IRequestPolicy)
        self._response = self._providing(IResponsePolicy)
        self._observers = self._providing(IExchangeObserver)
        #: Whether there is a request policy at all.
        self.asks = bool(self._request)
        #: The response policies that want to see responses of a status.
        # Statuses have three digits: this never holds more than 900.
        self.interested = _Interested(self._response, self._wantsStatus)

    def _providing(self, interface: Any) -> list[_Member]:
        return [each for each in self._members if interface.providedBy(each.policy)]

    @property
    def policies(self) -> list[Any]:
        """The policies themselves, in order."""
        return [each.policy for each in self._members]

    def snapshot(self) -> list[dict[str, Any]]:
        """Name and metrics of each policy, as plain data."""
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

    def requestReceived(self, exchange: Any) -> Any:
        """
        Step 3.  L{None} to go on, a L{Response} to answer with, or a L{Deferred}
        of either.  Never fails: see the rule on failures.
        """
        return _settle(self._runRequest(exchange))

    async def _runRequest(self, exchange: Any) -> Response | None:
        for member in self._request:
            began = self._seconds()
            try:
                member.called += 1
                answer = member.policy.requestReceived(exchange)
                if answer is not None:
                    answer = await self._answer(member, answer, (Response,))
                if answer is not None:
                    answer = _copied(_sendable(answer))
                _checkRequest(exchange.request)
            except Exception as error:
                self._reraiseIfCancelled(exchange, error)
                self._failed(member, "decided nothing, so the request is answered 500")
                answer = asResponse(PolicyFailed(f"the policy {member.name} failed"))
            finally:
                self._took(member, exchange, self._seconds() - began)
            if answer is not None:
                self._acted(member, exchange)
                if answer.failure is None:
                    exchange.answeredBy = member.name
                return cast(Response, answer)
        return None

    def _wantsStatus(self, member: _Member, status: int) -> bool:
        try:
            return status in cast(Container[int], member.policy.statuses)
        except Exception:
            self._failed(member, "could not tell its statuses, and is passed over")
            return False

    def wanting(self, exchange: Any, response: Response) -> _Member | None:
        """The first policy that wants this response; L{None} for most."""
        for member in self.interested[response.status]:
            if not member.selective or self._wanted(member, exchange, response):
                return member
        return None

    def responseReceived(
        self, exchange: Any, response: Response, wanting: _Member | None = None
    ) -> Any:
        """
        Step 7.  The L{Response} to send, a L{Retry} that C{exchange} may follow,
        or a L{Deferred} of either.

        C{exchange.wholeBody(response)} is awaited where a policy wants the whole
        response; C{exchange.mayRetry()} is asked where one wants another attempt.
        Fails only where C{wholeBody} does.

        @param wanting: what L{wanting} has found, if it was asked before.
        """
        wanting = wanting or self.wanting(exchange, response)
        if wanting is None:
            return response
        return _settle(self._runResponse(exchange, response, wanting))

    async def _runResponse(
        self, exchange: Any, response: Response, wanting: _Member | None
    ) -> Response | Retry:
        """
        @param wanting: the first that is known to want it.
        """
        status = response.status
        interested = self.interested[status]
        for member in self._response:
            if response.status != status:
                # Those that follow are shown what it was made.
                status = response.status
                interested = self.interested[status]
            if member is wanting:
                wanting = None
            elif (
                wanting is not None
                or member not in interested
                or (member.selective and not self._wanted(member, exchange, response))
            ):
                continue
            if response.body is None and member.buffered and not await exchange.wholeBody(response):
                continue
            before = _Before(response)
            began = self._seconds()
            try:
                member.called += 1
                answer = member.policy.responseReceived(exchange, response)
                if answer is not None:
                    answer = await self._answer(member, answer, (Response, Retry))
                if answer is response:
                    answer = None
                if isinstance(answer, Response):
                    answer = _copied(_sendable(answer))
                else:
                    _sendable(response, streams=True)
            except Exception as error:
                self._reraiseIfCancelled(exchange, error)
                self._failed(member, "is passed over")
                before.restore(response)
                answer = None
            finally:
                self._took(member, exchange, self._seconds() - began)
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

    def _wanted(self, member: _Member, exchange: Any, response: Response) -> bool:
        try:
            return bool(member.policy.wants(exchange, response))
        except Exception:
            self._failed(member, "could not tell whether it wants a response, and is passed over")
            return False

    async def _answer(self, member: _Member, answer: Any, kinds: tuple[type, ...]) -> Any:
        """What a policy answers, once it does."""
        if inspect.iscoroutine(answer):
            answer = _settle(answer)
        if isinstance(answer, Deferred):
            answer = await answer.addTimeout(self._timeout, self._clock)
        if answer is not None and not isinstance(answer, kinds):
            raise TypeError(f"{member.name} gave {answer!r}, which is no answer")
        return answer

    def _reraiseIfCancelled(self, exchange: Any, error: Exception) -> None:
        # The client went away while a policy waited: not the policy's failure.
        if isinstance(error, CancelledError) and exchange.duration is not None:
            raise error

    def exchangeFinished(self, exchange: Any) -> None:
        """Step 9: tell the observers."""
        for member in self._observers:
            member.called += 1
            try:
                member.policy.exchangeFinished(exchange)
            except Exception:
                self._failed(member, "missed an exchange")

    def _took(self, member: _Member, exchange: Any, seconds: float) -> None:
        member.seconds += seconds
        exchange.policyTime += seconds

    def _acted(self, member: _Member, exchange: Any) -> None:
        member.acted += 1
        exchange.acted += (member.name,)

    def _failed(self, member: _Member, outcome: str) -> None:
        member.failed += 1
        now = self._clock.seconds()
        if now - member.loggedAt < TRACEBACK_INTERVAL:
            member.unlogged += 1
            return
        self.log.failure(
            "The policy {name} failed and {outcome} ({unlogged} more failures since then)",
            failure=Failure(),
            name=member.name,
            outcome=outcome,
            unlogged=member.unlogged,
        )
        member.loggedAt = now
        member.unlogged = 0
