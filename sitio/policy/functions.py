"""
Decorators that make a policy of a function: L{onRequest}, L{onResponse}, L{onFinish}.

Wrong use raises C{TypeError} or C{ValueError} when the decorator runs, with one sentence
that says how to write it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from typing import Any, overload

from attrs import frozen
from zope.interface import implementer

from sitio.http.message import Response
from sitio.interfaces import IExchangeObserver, IRequestPolicy, IResponsePolicy


@implementer(IRequestPolicy)
@frozen
class RequestFunction:
    """A request policy that is a function.  Calling the policy calls the function."""

    function: Callable[..., Any]

    def requestReceived(self, exchange: Any) -> Any:
        return self.function(exchange)

    __call__ = requestReceived


@implementer(IResponsePolicy)
@frozen
class ResponseFunction:
    """A response policy that is a function.  Calling the policy calls the function."""

    function: Callable[..., Any]
    statuses: Container[int]
    buffered: bool

    def responseReceived(self, exchange: Any, response: Response) -> Any:
        return self.function(exchange, response)

    __call__ = responseReceived


@implementer(IExchangeObserver)
@frozen
class FinishFunction:
    """An observer that is a function.  Calling the observer calls the function."""

    function: Callable[..., Any]

    def exchangeFinished(self, exchange: Any) -> None:
        self.function(exchange)

    __call__ = exchangeFinished


@overload
def onRequest(function: Callable[..., Any], /) -> RequestFunction: ...


@overload
def onRequest() -> Callable[[Callable[..., Any]], RequestFunction]: ...


def onRequest(
    function: Callable[..., Any] | None = None, /
) -> RequestFunction | Callable[[Callable[..., Any]], RequestFunction]:
    """
    Make a request policy of C{function(exchange)}: C{@onRequest} or C{@onRequest()}.

    The function may be a coroutine function.  What it may return and raise is said in
    L{IRequestPolicy<sitio.interfaces.IRequestPolicy>}.

    @raise TypeError: the argument is not a function.
    """
    if function is None:
        return RequestFunction
    if not callable(function):
        raise TypeError("write @onRequest above a function of the exchange")
    return RequestFunction(function)


@overload
def onResponse(function: Callable[..., Any], /) -> ResponseFunction: ...


@overload
def onResponse(
    *statuses: int | range, buffered: bool = ...
) -> Callable[[Callable[..., Any]], ResponseFunction]: ...


def onResponse(*statuses: Any, buffered: bool = False) -> Any:
    """
    Make a response policy of C{function(exchange, response)}: C{@onResponse} or
    C{@onResponse()} for all responses, C{@onResponse(404)} for some.

    The function may be a coroutine function.  What it may return and raise is said in
    L{IResponsePolicy<sitio.interfaces.IResponsePolicy>}.

    @param statuses: the statuses of the responses that it is called with, as numbers
        from 100 to 999 or ranges of them; no argument means all.
    @param buffered: whether C{response.body} is to be complete.  A body longer than the
        buffer limit is sent as it is, and the function is not called.

    @raise TypeError: a status is neither a number nor a range.
    @raise ValueError: a status does not have three digits.
    """
    if len(statuses) == 1 and callable(statuses[0]):
        return ResponseFunction(statuses[0], frozenset(range(100, 1000)), buffered)
    wanted: set[int] = set()
    for each in statuses or (range(100, 1000),):
        if not isinstance(each, int | range):
            raise TypeError(
                "write @onResponse(404), with statuses, or @onResponse for all responses"
            )
        wanted |= {each} if isinstance(each, int) else set(each)
    if not wanted <= set(range(100, 1000)):
        raise ValueError("a status has three digits: 100 to 999")
    return lambda function: ResponseFunction(function, frozenset(wanted), buffered)


def onFinish(function: Callable[..., Any]) -> FinishFunction:
    """
    Make an observer of C{function(exchange)}, which is called after the last byte.

    See L{IExchangeObserver<sitio.interfaces.IExchangeObserver>}.

    @raise TypeError: the argument is not a function (write C{@onFinish}, without
        parentheses), or it is a coroutine function, which nothing would wait for.
    """
    if not callable(function):
        raise TypeError("write @onFinish without parentheses")
    if inspect.iscoroutinefunction(function):
        raise TypeError("nothing waits for an observer: write def, not async def")
    return FinishFunction(function)
