"""
Policies: found, built, put in order, run, and kept from doing harm.

L{Chain} runs them; steps 3 and 7 of a request's life (docs/request.md).
L{loadPolicies} turns what the operator wrote into policies.  The function form
of a policy, L{onRequest}, L{onReply} and L{onFinish}, stands here too.

The rule on failures, in one place: a request policy that fails answers 500, a
response policy or an observer that fails is passed over; each is counted by
name, and its traceback logged not more than once a minute.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Container, Coroutine, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from zlib import crc32

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from zope.interface import Invalid, implementer
from zope.interface.verify import verifyObject

from sitio.errors import PolicyFailed, asReply
from sitio.interfaces import (
    IExchangeObserver,
    IPolicyMaker,
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
)
from sitio.message import Headers, Request, Response, Retry

#: Seconds between two tracebacks of the same policy.
TRACEBACK_INTERVAL = 60.0

_POLICIES = (IRequestPolicy, IResponsePolicy, IExchangeObserver)


# --- Running


@define(eq=False)
class _Member:
    """A policy in a chain, with its name and figures."""

    name: str
    policy: Any
    selective: bool = field(init=False)
    buffered: bool = field(init=False)
    called: int = 0
    acted: int = 0
    failed: int = 0
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


def _verified(name: str, policy: Any) -> Any:
    """The policy; raises C{ValueError} if it lacks what its interfaces promise."""
    provided = [each for each in (*_POLICIES, ISelectivePolicy) if each.providedBy(policy)]
    if not provided:
        raise ValueError(
            f"{name} is no policy: {policy!r} provides none of "
            + ", ".join(each.__name__ for each in _POLICIES)
        )
    for each in provided:
        try:
            verifyObject(each, policy)
        except Invalid as error:
            # Without the repr that it begins with.
            lack = str(error).partition(" has failed to implement interface ")[2]
            raise ValueError(f"{name} is no whole policy: {lack}") from error
    return policy


def _sendable(response: Response, streams: bool = False) -> Response:
    """
    The response; raises if it can't be sent as a policy made or left it.

    @param streams: whether its body may be yet to come.
    """
    if not isinstance(response.headers, Headers):
        raise TypeError(f"its headers are no Headers: {response.headers!r}")
    if not isinstance(response.body, bytes) and not (streams and response.body is None):
        raise TypeError(f"its body is no bytes: {type(response.body).__name__}")
    if not (isinstance(response.status, int) and 200 <= response.status <= 999):
        raise ValueError(f"its status is {response.status!r}: 200 to 999 can be sent")
    return response


def _checkRequest(request: Request) -> None:
    """Raise if it can't be sent as a policy left it; method and target see to themselves."""
    if not isinstance(request.headers, Headers):
        raise TypeError(f"the request's headers are no Headers: {request.headers!r}")
    if not (request.body is None or isinstance(request.body, bytes)):
        raise TypeError(f"the request's body is no bytes: {type(request.body).__name__}")


def _copied(response: Response) -> Response:
    """The same once more: a policy may give one response to many exchanges."""
    twin = Response.fromWire(
        response.status,
        response.reason,
        list(response.headers.fields),
        response.length,
        response.upgrade,
    )
    twin.body = response.body
    twin.failure = response.failure
    twin.filters = response.filters and list(response.filters)
    return twin


def _restore(response: Response, before: Response) -> None:
    """Undo what a policy did to a response until it failed."""
    response.status = before.status
    response.reason = before.reason
    response.headers = before.headers
    response.body = before.body
    response.filters = before.filters


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
        self._timeout = timeout
        self._members = [_Member(name, _verified(name, policy)) for name, policy in policies]
        self._request = self._providing(IRequestPolicy)
        self._response = self._providing(IResponsePolicy)
        self._observers = self._providing(IExchangeObserver)
        #: Whether there is a request policy at all.
        self.asks = bool(self._request)
        # Statuses have three digits: this never holds more than 900.
        self._interested: dict[int, list[_Member]] = {}

    def _providing(self, interface: Any) -> list[_Member]:
        return [each for each in self._members if interface.providedBy(each.policy)]

    @property
    def policies(self) -> list[Any]:
        """The policies themselves, in order."""
        return [each.policy for each in self._members]

    def snapshot(self) -> list[dict[str, Any]]:
        """Name and figures of each policy, as plain data."""
        return [
            {"name": each.name, "called": each.called, "acted": each.acted, "failed": each.failed}
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
            try:
                member.called += 1
                answer = await self._answer(
                    member, member.policy.requestReceived(exchange), (Response,)
                )
                if answer is not None:
                    answer = _copied(_sendable(answer))
                _checkRequest(exchange.request)
            except Exception as error:
                self._reraiseIfCancelled(exchange, error)
                self._failed(member, "decided nothing, so the request is answered 500")
                answer = asReply(PolicyFailed(f"the policy {member.name} failed"))
            if answer is not None:
                self._acted(member, exchange)
                return cast(Response, answer)
        return None

    def interestedIn(self, status: int) -> bool:
        """Whether a response policy wants to see replies of this status."""
        members = self._interested.get(status)
        if members is None:
            members = self._interested[status] = [
                each for each in self._response if self._wantsStatus(each, status)
            ]
        return bool(members)

    def _wantsStatus(self, member: _Member, status: int) -> bool:
        try:
            return status in cast(Container[int], member.policy.statuses)
        except Exception:
            self._failed(member, "could not tell its statuses, and is passed over")
            return False

    def responseReceived(self, exchange: Any, response: Response) -> Any:
        """
        Step 7.  The L{Response} to send, a L{Retry} that C{exchange} may follow,
        or a L{Deferred} of either.

        C{exchange.wholeBody(response)} is awaited where a policy wants the whole
        reply; C{exchange.mayRetry()} is asked where one wants another attempt.
        Fails only where C{wholeBody} does.
        """
        return _settle(self._runResponse(exchange, response))

    async def _runResponse(self, exchange: Any, response: Response) -> Response | Retry:
        for member in self._response:
            self.interestedIn(response.status)
            if member not in self._interested[response.status]:
                continue
            if member.selective and not self._wanted(member, exchange, response):
                continue
            if response.body is None and member.buffered and not await exchange.wholeBody(response):
                continue
            before = _copied(response)
            try:
                member.called += 1
                answer = await self._answer(
                    member, member.policy.responseReceived(exchange, response), (Response, Retry)
                )
                if answer is response:
                    answer = None
                if isinstance(answer, Response):
                    answer = _copied(_sendable(answer))
                else:
                    _sendable(response, streams=True)
            except Exception as error:
                self._reraiseIfCancelled(exchange, error)
                self._failed(member, "is passed over")
                _restore(response, before)
                continue
            if answer is None:
                continue
            if isinstance(answer, Response):
                self._acted(member, exchange)
                answer.failure = answer.failure or response.failure
                response = answer
            elif exchange.mayRetry():
                self._acted(member, exchange)
                return cast(Retry, answer)
        return response

    def _wanted(self, member: _Member, exchange: Any, response: Response) -> bool:
        try:
            return bool(member.policy.wants(exchange, response))
        except Exception:
            self._failed(member, "could not tell whether it wants a reply, and is passed over")
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


# --- The function form


@implementer(IRequestPolicy)
@frozen
class RequestFunction:
    """A request policy that is a function; calling it calls the function."""

    function: Callable[..., Any]

    def requestReceived(self, exchange: Any) -> Any:
        return self.function(exchange)

    __call__ = requestReceived


@implementer(IResponsePolicy)
@frozen
class ReplyFunction:
    """A response policy that is a function; calling it calls the function."""

    function: Callable[..., Any]
    statuses: Container[int]
    buffered: bool

    def responseReceived(self, exchange: Any, response: Response) -> Any:
        return self.function(exchange, response)

    __call__ = responseReceived


@implementer(IExchangeObserver)
@frozen
class FinishFunction:
    """An observer that is a function; calling it calls the function."""

    function: Callable[..., Any]

    def exchangeFinished(self, exchange: Any) -> None:
        self.function(exchange)

    __call__ = exchangeFinished


def onRequest(function: Callable[..., Any]) -> RequestFunction:
    """Make a request policy of C{function(exchange)}; see L{IRequestPolicy}."""
    if not callable(function):
        raise TypeError("write @onRequest, with nothing in parentheses")
    return RequestFunction(function)


def onReply(
    *statuses: int | range, buffered: bool = False
) -> Callable[[Callable[..., Any]], ReplyFunction]:
    """
    Make a response policy of C{function(exchange, response)}; see L{IResponsePolicy}.

    @param statuses: those that interest it, as numbers or ranges; none means all.
    @param buffered: whether C{response.body} is to be complete.
    """
    wanted: set[int] = set()
    for each in statuses or (range(100, 1000),):
        if not isinstance(each, int | range):
            raise TypeError("write @onReply(404) or @onReply(): statuses come before the function")
        wanted |= {each} if isinstance(each, int) else set(each)
    if not wanted <= set(range(100, 1000)):
        raise ValueError("a status has three digits: 100 to 999")
    return lambda function: ReplyFunction(function, frozenset(wanted), buffered)


def onFinish(function: Callable[..., Any]) -> FinishFunction:
    """Make an observer of C{function(exchange)}; see L{IExchangeObserver}."""
    if not callable(function):
        raise TypeError("write @onFinish, with nothing in parentheses")
    if inspect.iscoroutinefunction(function):
        raise TypeError("an observer is not waited for: write def and not async def")
    return FinishFunction(function)


# --- Building


def loadPolicies(description: str) -> list[tuple[str, Any]]:
    """
    The policies that a description names: C{name:argument:key=value}, where a
    backslash keeps a colon from separating, or C{file:path.py} for all policies
    that a file of Python makes at its top level, in that order.

    @raise ValueError: in one sentence what is wrong and what would be right.
    """
    name, arguments, options = _parse(description)
    if name == "file":
        if len(arguments) != 1 or options:
            raise ValueError(f"{description!r}: write file:PATH, where PATH is a file of Python")
        return _loadFile(Path(arguments[0]))
    maker = makers().get(name)
    if maker is None:
        why = _brokenPlugins()
        raise ValueError(
            f"there is no policy {name!r}; there are file, {', '.join(sorted(makers()))}"
            + (f" (plugins that failed to load: {why})" if why else "")
        )
    try:
        return [(name, _verified(name, maker.makePolicy(*arguments, **options)))]
    except ValueError as error:
        raise ValueError(f"{description!r}: {error}; usage: {maker.usage}") from error
    except Exception as error:
        raise ValueError(f"{description!r}: {_said(error)}; usage: {maker.usage}") from error


def makers() -> dict[str, Any]:
    """The makers that are installed, by name."""
    return {each.name: each for each in getPlugins(IPolicyMaker)}


def _brokenPlugins() -> str:
    """Why plugin files can't be imported: twisted.plugin only logs it."""
    import twisted.plugins

    broken = []
    for folder in twisted.plugins.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            if path.stem != "__init__":
                try:
                    importlib.import_module(f"twisted.plugins.{path.stem}")
                except Exception as error:
                    broken.append(f"{path}: {_said(error)}")
    return "; ".join(broken)


def _parse(description: str) -> tuple[str, list[str], dict[str, str]]:
    words = [""]
    for part in re.findall(r"\\.|.", description, re.DOTALL):
        if part == ":":
            words.append("")
        else:
            words[-1] += part[-1]
    arguments: list[str] = []
    options: dict[str, str] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not (equals and re.fullmatch(r"[a-z][a-z0-9-]*", key)):
            arguments.append(word)
            continue
        option = re.sub(r"-(.)", lambda match: match[1].upper(), key)
        if option in options:
            raise ValueError(f"{description!r}: {key} is given twice")
        options[option] = value
    return words[0], arguments, options


def _loadFile(path: Path) -> list[tuple[str, Any]]:
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"{path} is no file of Python: there is none, or its name ends otherwise")
    try:
        module = _import(path.resolve())
    # A file that calls sys.exit is no reason to end without a word.
    except (Exception, SystemExit) as error:
        where = _lineIn(path.resolve(), error)
        raise ValueError(f"{path}{where} can't be loaded: {_said(error)}") from error
    found: dict[int, tuple[str, Any]] = {}
    for name, each in vars(module).items():
        if not inspect.isclass(each) and any(which.providedBy(each) for which in _POLICIES):
            # By identity: a policy with two names is one.
            found.setdefault(id(each), (name, each))
    if not found:
        raise ValueError(
            f"{path} makes no policy: decorate a function with @onReply, @onRequest or"
            " @onFinish, or make an instance of a class of policies"
        )
    return [(name, _verified(f"{path}: {name}", each)) for name, each in found.values()]


def _import(path: Path) -> ModuleType:
    # Files of the same name in two folders are two modules.
    name = f"sitio_policy_{path.stem}_{crc32(bytes(path)):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # attrs and dataclasses look their module up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _said(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _lineIn(path: Path, error: BaseException) -> str:
    """The last line of this file that the traceback names, as C{:12}."""
    lines = [
        each.lineno
        for each in traceback.extract_tb(error.__traceback__)
        if each.filename == str(path)
    ]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f":{lines[-1]}" if lines else ""
