"""
Decorators that make a policy of a function: L{onRequest}, L{onResponse}, L{onSend},
L{onFinish}.

Wrong use raises C{TypeError} or C{ValueError} when the decorator runs, with one sentence
that says how to write it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Container
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from attrs import frozen
from zope.interface import implementer

from sitio.interfaces import IExchangeObserver, IRequestPolicy, IResponsePolicy, ISendPolicy

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from sitio.http.message import Response, Retry
    from sitio.policy.exchange import Exchange
    from sitio.policy.sending import SentHead

    # What a policy returns at once, or later: any awaitable.  A Deferred is none to type
    # checkers.
    _Answer = Response | None
    _Verdict = Response | Retry | None
    _RequestResult = (
        _Answer
        | Awaitable[_Answer]
        | Deferred[Response]
        | Deferred[None]
        | Deferred[Response | None]
    )
    _ResponseResult = (
        _Verdict
        | Awaitable[_Verdict]
        | Deferred[Response]
        | Deferred[Retry]
        | Deferred[None]
        | Deferred[Response | None]
        | Deferred[Retry | None]
        | Deferred[Response | Retry]
        | Deferred[Response | Retry | None]
    )

# Functions of policies.  More parameters are right if they have defaults.
_Request = TypeVar("_Request", bound="Callable[[Exchange], _RequestResult]")
_Response = TypeVar("_Response", bound="Callable[[Exchange, Response], _ResponseResult]")
_Send = TypeVar("_Send", bound="Callable[[Exchange, SentHead], None]")
_Finish = TypeVar("_Finish", bound="Callable[[Exchange], None]")

_F = TypeVar("_F", bound=Callable[..., Any], covariant=True)
_P = ParamSpec("_P")
_R = TypeVar("_R")


@implementer(IRequestPolicy)
@frozen
class RequestFunction(Generic[_F]):
    """A request policy that is a function.  Calling the policy calls the function."""

    function: _F
    buffered: bool | Callable[[Exchange], bool] = False
    failOpen: bool = False

    def requestReceived(self, exchange: Any) -> Any:
        return self.function(exchange)

    def __call__(self: RequestFunction[Callable[_P, _R]], *args: _P.args, **kw: _P.kwargs) -> _R:
        return self.function(*args, **kw)


@implementer(IResponsePolicy)
@frozen
class ResponseFunction(Generic[_F]):
    """A response policy that is a function.  Calling the policy calls the function."""

    function: _F
    statuses: Container[int]
    buffered: bool
    failOpen: bool = True

    def responseReceived(self, exchange: Any, response: Response) -> Any:
        return self.function(exchange, response)

    def __call__(self: ResponseFunction[Callable[_P, _R]], *args: _P.args, **kw: _P.kwargs) -> _R:
        return self.function(*args, **kw)


@implementer(ISendPolicy)
@frozen
class SendFunction(Generic[_F]):
    """A send policy that is a function.  Calling the policy calls the function."""

    function: _F

    def responseSending(self, exchange: Any, response: SentHead) -> Any:
        return self.function(exchange, response)

    def __call__(self: SendFunction[Callable[_P, _R]], *args: _P.args, **kw: _P.kwargs) -> _R:
        return self.function(*args, **kw)


@implementer(IExchangeObserver)
@frozen
class FinishFunction(Generic[_F]):
    """An observer that is a function.  Calling the observer calls the function."""

    function: _F

    def exchangeFinished(self, exchange: Any) -> None:
        self.function(exchange)

    def __call__(self: FinishFunction[Callable[_P, _R]], *args: _P.args, **kw: _P.kwargs) -> _R:
        return self.function(*args, **kw)


#: Policies that call a function as sitio calls them.
FUNCTIONS = (RequestFunction, ResponseFunction, SendFunction, FinishFunction)


@overload
def onRequest(function: _Request, /) -> RequestFunction[_Request]: ...


@overload
def onRequest(
    *, buffered: bool | Callable[[Exchange], bool] = ..., failOpen: bool = ...
) -> Callable[[_Request], RequestFunction[_Request]]: ...


def onRequest(
    function: Callable[..., Any] | None = None,
    /,
    *,
    buffered: bool | Callable[[Exchange], bool] = False,
    failOpen: bool = False,
) -> Any:
    """
    Make a request policy of C{function(exchange)}: C{@onRequest}, C{@onRequest()} or
    C{@onRequest(buffered=True)}.

    The function may be a coroutine function.  What it may return and raise is said in
    L{IRequestPolicy<sitio.interfaces.IRequestPolicy>}.

    @param buffered: whether C{request.body} is to be complete.  A body longer than the
        request buffer limit is answered with 413.  A function of the exchange tells it for
        each request, by its head.
    @param failOpen: whether a request goes on when the function fails, or when its body is too
        long; by default it is refused.

    @raise TypeError: the argument is not a function, or it is a policy already.
    """
    if function is None:
        return lambda function: RequestFunction(_plain(function), buffered, failOpen)
    if not callable(function):
        raise TypeError("write @onRequest above a function of the exchange")
    return RequestFunction(_plain(function), buffered, failOpen)


@overload
def onResponse(function: _Response, /) -> ResponseFunction[_Response]: ...


@overload
def onResponse(
    *statuses: int | range, buffered: bool = ..., failOpen: bool = ...
) -> Callable[[_Response], ResponseFunction[_Response]]: ...


def onResponse(*statuses: Any, buffered: bool = False, failOpen: bool = True) -> Any:
    """
    Make a response policy of C{function(exchange, response)}: C{@onResponse} or
    C{@onResponse()} for all responses, C{@onResponse(404)} for some.

    The function may be a coroutine function.  What it may return and raise is said in
    L{IResponsePolicy<sitio.interfaces.IResponsePolicy>}.

    @param statuses: the statuses of the responses that it is called with, as numbers
        from 100 to 999 or ranges of them; no argument means all.
    @param buffered: whether C{response.body} is to be complete.  A body longer than the
        buffer limit is sent as it is, and the function is not called.
    @param failOpen: whether a response is sent as it was when the function fails, or when its
        body is too long; otherwise the client gets 502.

    @raise TypeError: a status is neither a number nor a range, or C{buffered} is a function.
    @raise ValueError: a status does not have three digits.
    """
    if callable(buffered):
        raise TypeError("write buffered=True; a class with isInterested chooses among responses")
    if len(statuses) == 1 and callable(statuses[0]):
        function = _plain(statuses[0])
        return ResponseFunction(function, frozenset(range(100, 1000)), buffered, failOpen)
    wanted: set[int] = set()
    for each in statuses or (range(100, 1000),):
        if not isinstance(each, int | range):
            raise TypeError(
                "write @onResponse(404), with statuses, or @onResponse for all responses"
            )
        wanted |= {each} if isinstance(each, int) else set(each)
    if not wanted <= set(range(100, 1000)):
        raise ValueError("a status has three digits: 100 to 999")
    return lambda function: ResponseFunction(
        _plain(function), frozenset(wanted), buffered, failOpen
    )


@overload
def onSend(function: _Send, /) -> SendFunction[_Send]: ...


@overload
def onSend() -> Callable[[_Send], SendFunction[_Send]]: ...


def onSend(function: Callable[..., Any] | None = None, /) -> Any:
    """
    Make a send policy of C{function(exchange, response)}, which is called before the head of
    each response is sent, whoever made it.  It may change C{response.headers}.

    See L{ISendPolicy<sitio.interfaces.ISendPolicy>}.

    @raise TypeError: the argument is not a function, or it is a coroutine function, which
        nothing would wait for.
    """
    if function is None:
        return onSend
    if not callable(function):
        raise TypeError("write @onSend above a function of the exchange and the response")
    if inspect.iscoroutinefunction(function):
        raise TypeError("nothing waits for a send policy: write def, not async def")
    return SendFunction(_plain(function))


@overload
def onFinish(function: _Finish, /) -> FinishFunction[_Finish]: ...


@overload
def onFinish() -> Callable[[_Finish], FinishFunction[_Finish]]: ...


def onFinish(function: Callable[..., Any] | None = None, /) -> Any:
    """
    Make an observer of C{function(exchange)}, which is called after the last byte: C{@onFinish}
    or C{@onFinish()}.

    See L{IExchangeObserver<sitio.interfaces.IExchangeObserver>}.

    @raise TypeError: the argument is not a function, or it is a coroutine function, which
        nothing would wait for.
    """
    if function is None:
        return onFinish
    if not callable(function):
        raise TypeError("write @onFinish above a function of the exchange")
    if inspect.iscoroutinefunction(function):
        raise TypeError("nothing waits for an observer: write def, not async def")
    return FinishFunction(_plain(function))


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    A function that is no policy yet.

    @raise TypeError: it is one.  Of two decorators only the upper one would count.
    """
    if isinstance(function, FUNCTIONS):
        raise TypeError(
            "a function has one decorator: write a function for each, or a class with both methods"
        )
    return function
