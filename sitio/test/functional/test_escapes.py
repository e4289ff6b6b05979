"""
Tests of policies that raise what is no C{Exception}: it counts as a failure like any other,
wherever it is raised.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks
from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio import Response, onFinish, onRequest, onResponse
from sitio.interfaces import IResponsePolicy, ISelectivePolicy
from sitio.test.helpers.logs import LogRecorder
from sitio.testing import Harness

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Odd(BaseException):
    """An exception that only C{except BaseException} catches."""


def leave() -> None:
    """Call C{sys.exit}, as a script does."""
    sys.exit("bye")


def raising(kind: type[BaseException]) -> Callable[[], None]:
    """A function that raises this."""

    def function() -> None:
        raise kind("on purpose")

    return function


ESCAPES: tuple[Callable[[], None], ...] = (
    leave,
    *map(
        raising,
        (
            SystemExit,
            KeyboardInterrupt,
            GeneratorExit,
            asyncio.CancelledError,
            CancelledError,
            Odd,
            # For comparison.
            ValueError,
        ),
    ),
)


def atOnce(clock: Clock, escape: Callable[[], None]) -> Callable[..., Any]:
    """A hook that raises."""

    def hook(*given: Any) -> Any:
        escape()

    return hook


def asCoroutine(clock: Clock, escape: Callable[[], None]) -> Callable[..., Any]:
    """A coroutine that raises at its start."""

    async def hook(*given: Any) -> Any:
        escape()

    return hook


def afterWait(clock: Clock, escape: Callable[[], None]) -> Callable[..., Any]:
    """A coroutine that raises after it has waited."""

    async def hook(*given: Any) -> Any:
        await deferLater(clock, 1)
        escape()

    return hook


def asGenerator(clock: Clock, escape: Callable[[], None]) -> Callable[..., Any]:
    """A generator that raises after it has waited."""

    @inlineCallbacks
    def hook(*given: Any) -> Generator[Deferred[None], Any, None]:
        yield deferLater(clock, 1)
        escape()

    return hook


def asFailure(clock: Clock, escape: Callable[[], None]) -> Callable[..., Any]:
    """A hook that returns a Deferred that has failed."""

    def hook(*given: Any) -> Any:
        try:
            escape()
        except BaseException as error:
            return fail(error)

    return hook


def inCallback(clock: Clock, escape: Callable[[], None]) -> Callable[..., Any]:
    """A hook that returns a Deferred whose callback raises."""

    def hook(*given: Any) -> Any:
        return deferLater(clock, 1).addCallback(lambda _: escape())

    return hook


def whenLate(clock: Clock, escape: Callable[[], None]) -> Callable[..., Any]:
    """A hook that takes too long, and whose Deferred raises when it is cancelled."""

    def hook(*given: Any) -> Any:
        return Deferred(lambda _: escape())

    return hook


def afterCancel(clock: Clock, escape: Callable[[], None]) -> Callable[..., Any]:
    """A coroutine that takes too long, and raises when it is cancelled."""

    async def hook(*given: Any) -> Any:
        try:
            await Deferred()
        except CancelledError:
            escape()

    return hook


def stubborn(clock: Clock, escape: Callable[[], None]) -> Callable[..., Any]:
    """A coroutine that takes too long, and waits on when it is cancelled."""

    async def hook(*given: Any) -> Any:
        try:
            await Deferred()
        except CancelledError:
            await Deferred()

    return hook


WAYS = (
    atOnce,
    asCoroutine,
    afterWait,
    asGenerator,
    asFailure,
    inCallback,
    whenLate,
    afterCancel,
    stubborn,
)


class EscapeCase(SynchronousTestCase):
    """A base for tests with a sidecar whose policies fail."""

    def serve(self, policies: Any, clock: Clock | None = None) -> Harness:
        """Make a sidecar whose log is kept."""
        harness = Harness(policies, clock=clock)
        self.logged = LogRecorder()
        harness.context.chain.log = Logger(observer=self.logged)
        harness.context.log = Logger(observer=self.logged)
        return harness

    def table(self) -> Iterator[tuple[Any, Any]]:
        """Each way to raise, with each exception."""
        for way in WAYS:
            for escape in ESCAPES if way is not stubborn else ESCAPES[:1]:
                yield way, escape

    def ask(self, harness: Harness, answers: bool = True) -> Response:
        """One request and its response; the upstream answers 200 if it is asked."""
        client = harness.connect()
        client.sends(GET)
        if answers:
            upstream = harness.upstream(len(harness.upstreams) - 1)
            upstream.gotRequest()
            upstream.sends(OK)
        harness.advance(harness.context.settings.policyTimeout + 2)
        return client.gotResponse()

    def failed(self, harness: Harness) -> int:
        """How many failures of policies were counted."""
        return sum(each["failed"] for each in harness.context.chain.snapshot())


class HookTests(EscapeCase):
    """A hook may raise anything, at any time."""

    def test_request(self) -> None:
        """The request is answered with 500, and the failure is counted."""
        for way, escape in self.table():
            clock = Clock()
            harness = self.serve([onRequest(way(clock, escape))], clock)
            response = self.ask(harness, answers=False)
            self.assertEqual(response.status, 500, (way, escape))
            self.assertGreaterEqual(self.failed(harness), 1, (way, escape))
            harness.assertQuiet()

    def test_response(self) -> None:
        """The response passes as it was, the next policy runs, and the failure is counted."""
        for way, escape in self.table():
            clock = Clock()
            seen: list[Any] = []
            following = onResponse()(lambda exchange, response, seen=seen: seen.append(1))
            harness = self.serve([onResponse()(way(clock, escape)), following], clock)
            response = self.ask(harness)
            self.assertEqual((response.status, response.body), (200, b"hi"), (way, escape))
            self.assertEqual(seen, [1], (way, escape))
            self.assertGreaterEqual(self.failed(harness), 1, (way, escape))
            harness.assertQuiet()

    def test_clientGone(self) -> None:
        """A client that leaves ends its exchange, whatever the policy does when cancelled."""
        for way, escape in self.table():
            for when in ("request", "response"):
                clock = Clock()
                make: Any = onRequest if when == "request" else onResponse()
                harness = self.serve([make(way(clock, escape))], clock)
                client = harness.connect()
                client.sends(GET)
                if when == "response":
                    harness.upstream().gotRequest()
                    harness.upstream().sends(OK)
                client.resets()
                harness.settle()
                self.assertEqual(harness.context.exchanges, set(), (way, escape, when))
                harness.advance(60)
                harness.assertQuiet()

    def test_cancelledByClient(self) -> None:
        """A wait that is cancelled as the client left is no failure of the policy."""
        for kind in (CancelledError, asyncio.CancelledError):

            def giveUp(waited: Deferred[Any], kind: Any = kind) -> None:
                waited.errback(kind())

            def wait(exchange: Any, giveUp: Any = giveUp) -> Any:
                return Deferred(giveUp)

            harness = self.serve([onRequest(wait)])
            client = harness.connect()
            client.sends(GET)
            client.resets()
            harness.advance(1)
            self.assertEqual((len(harness.exchanges), self.failed(harness)), (1, 0))
            harness.assertQuiet()

    def test_observer(self) -> None:
        """An observer that raises misses the exchange; nothing else is affected."""
        for escape in ESCAPES:
            harness = self.serve(
                [("first", onFinish(atOnce(Clock(), escape))), ("next", onFinish(lambda _: None))]
            )
            self.assertEqual(self.ask(harness).status, 200)
            counted = [
                (each["called"], each["failed"]) for each in harness.context.chain.snapshot()
            ]
            self.assertEqual(counted, [(1, 1), (1, 0)])
            self.assertEqual(harness.context.exchanges, set())
            harness.assertQuiet()

    def test_ownObserver(self) -> None:
        """So does one that a program has added; its tracebacks are few."""
        for escape in ESCAPES:

            class Broken:
                exchangeFinished = staticmethod(atOnce(Clock(), escape))

            seen: list[Any] = []

            class Next:
                exchangeFinished = staticmethod(seen.append)

            harness = self.serve([])
            harness.context.observers[:] = [Broken(), Next()]
            for _ in range(5):
                self.assertEqual(self.ask(harness).status, 200)
            self.assertEqual(len(seen), 5)
            self.assertLess(len(self.logged.events), 6)
            harness.assertQuiet()

    def test_tracebacks(self) -> None:
        """A policy that always fails logs one traceback a minute."""
        for escape in ESCAPES:
            harness = self.serve([onRequest(atOnce(Clock(), escape))])
            client = harness.connect()
            for _ in range(20):
                client.sends(GET)
            self.assertEqual(self.failed(harness), 20)
            self.assertEqual(len(self.logged.events), 1)

    def test_closedCoroutine(self) -> None:
        """A chain that is forgotten while a policy waits runs no further policy."""
        seen: list[Any] = []
        harness = self.serve(
            [
                ("waits", onResponse()(lambda exchange, response: Deferred())),
                ("next", onResponse()(lambda exchange, response: seen.append(1))),
            ]
        )
        chain = harness.context.chain

        class Some:
            duration = None
            policyTime = 0.0
            acted = ()
            answeredBy = None

        waits = chain.responseReceived(Some(), Response(200))  # type: ignore[arg-type]
        for call in harness.clock.getDelayedCalls():
            call.cancel()
        harness.clock.calls.clear()
        del waits, call
        gc.collect()
        self.assertEqual((seen, self.failed(harness)), ([], 0))


class ChoiceTests(EscapeCase):
    """A policy may raise anything when it is asked whether it is interested."""

    def test_isInterested(self) -> None:
        """It does not get the response."""
        for escape in ESCAPES:

            @implementer(IResponsePolicy, ISelectivePolicy)
            class Choosy:
                statuses = (200,)
                buffered = False
                isInterested = staticmethod(atOnce(Clock(), escape))

                def responseReceived(self, exchange: Any, response: Any) -> Any:
                    """Is not called."""
                    return Response(500)

            harness = self.serve([Choosy()])
            self.assertEqual(self.ask(harness).status, 200)
            self.assertEqual(self.failed(harness), 1)
            harness.assertQuiet()

    def test_statuses(self) -> None:
        """It gets no responses of the status."""
        for escape in ESCAPES:

            class Statuses:
                __contains__ = staticmethod(atOnce(Clock(), escape))

            @implementer(IResponsePolicy)
            class Choosy:
                statuses = Statuses()
                buffered = False

                def responseReceived(self, exchange: Any, response: Any) -> Any:
                    """Is not called."""
                    return Response(500)

            harness = self.serve([Choosy()])
            self.assertEqual(self.ask(harness).status, 200)
            self.assertEqual(self.failed(harness), 1)
            harness.assertQuiet()


class FilterTests(EscapeCase):
    """A body filter may raise anything."""

    def filtered(self, escape: Callable[[], None], keepsLength: bool, at: bytes) -> Harness:
        """Make a sidecar with a filter that raises when it gets this."""

        def bodyFilter(data: bytes) -> bytes:
            if data == at:
                escape()
            return data

        def add(exchange: Any, response: Response) -> None:
            response.addFilter(bodyFilter, keepsLength=keepsLength)

        return self.serve([onResponse()(add)])

    def test_keepsLength(self) -> None:
        """A filter that keeps the length is removed, and the body passes."""
        for escape in ESCAPES:
            for at in (b"hi", b""):
                harness = self.filtered(escape, True, at)
                response = self.ask(harness)
                self.assertEqual(response.body, b"hi")
                self.assertEqual((len(harness.failures), self.failed(harness)), (1, 1))
                harness.assertQuiet()

    def test_wrong(self) -> None:
        """A policy that leaves filters of another kind has failed: its changes are undone."""
        wrong: tuple[Any, ...] = (5, (), [len], [(len,)], [(None, False)], [(len, "no")])
        for filters in wrong:
            for new in (False, True):

                def leaves(
                    exchange: Any, response: Any, filters: Any = filters, new: bool = new
                ) -> Response | None:
                    made = Response(203, text="new") if new else response
                    made.filters = filters
                    return made if new else None

                harness = self.serve([onResponse()(leaves)])
                response = self.ask(harness)
                self.assertEqual((response.status, response.body), (200, b"hi"), filters)
                self.assertEqual(self.failed(harness), 1)
                self.assertEqual(harness.context.exchanges, set())
                harness.assertQuiet()

    def test_other(self) -> None:
        """If any other fails, it is a 502, or the response breaks off, and the exchange ends."""
        for escape in ESCAPES:
            for at in (b"hi", b"more", b""):
                harness = self.filtered(escape, False, at)
                client = harness.connect()
                client.sends(GET)
                upstream = harness.upstream()
                upstream.gotRequest()
                upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhi")
                upstream.sends(b"more")
                harness.settle()
                self.assertEqual(client.reset, at != b"hi", (escape, at))
                if at == b"hi":
                    self.assertEqual(client.gotResponse().status, 502)
                self.assertEqual(harness.context.exchanges, set())
                harness.assertQuiet()
