"""
Tests of L{sitio.policy.noasyncio}.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any
from unittest import skipIf

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.coroutines import started
from sitio.policy.noasyncio import NoAsyncio
from sitio.testing.loop import ClockLoop

try:
    import anyio
except ImportError:
    anyio = None  # type: ignore[assignment]

colour = ContextVar("colour", default="none")


class WithoutLoopTests(SynchronousTestCase):
    """A reactor without asyncio, such as Twisted's on epoll."""

    def fails(self, run: Coroutine[Any, Any, Any]) -> None:
        """Check that a coroutine fails with the sentence."""
        try:
            error = self.failureResultOf(started(run)).value
        except NoAsyncio as raised:
            error = raised
        self.assertIsInstance(error, NoAsyncio)
        self.assertIn("--reactor=uv (sitio's default", str(error))
        self.assertIn("--reactor=asyncio", str(error))

    def test_sentence(self) -> None:
        """Each wait for asyncio fails with one sentence that names the reactors to use."""

        async def timeout() -> None:
            async with asyncio.timeout(1):
                pass

        async def afterDeferred() -> None:
            waits: Deferred[None] = Deferred()
            waits.addCallback(lambda result: asyncio.current_task())
            self.waits = waits
            await waits

        async def turn() -> None:
            await asyncio.sleep(0)

        async def future() -> None:
            await asyncio.Future(loop=ClockLoop(Clock()))

        async def wrapped() -> None:
            try:
                await asyncio.sleep(1)
            except RuntimeError as error:
                raise ValueError("the database is away") from error

        for each in (asyncio.sleep(1), timeout(), turn(), future(), wrapped()):
            self.fails(each)
        result = started(afterDeferred())
        self.waits.callback(None)
        self.failureResultOf(result, NoAsyncio)

    @skipIf(anyio is None, "anyio is not installed")
    def test_anyio(self) -> None:
        """So do libraries on anyio."""
        self.fails(anyio.sleep(1))

    def test_deferreds(self) -> None:
        """Deferreds are awaited with results, failures and cancelling, in one context."""
        waits: list[Deferred[int]] = [Deferred(), Deferred(), Deferred()]
        trace: list[Any] = []

        async def run() -> int:
            colour.set("red")
            trace.append(await waits[0])
            try:
                await waits[1]
            except ZeroDivisionError:
                trace.append(colour.get())
            try:
                return await waits[2]
            except CancelledError:
                return 9

        result = started(run())
        self.assertEqual(colour.get(), "none")
        waits[0].callback(5)
        waits[1].errback(ZeroDivisionError())
        self.assertEqual(trace, [5, "red"])
        result.cancel()
        self.assertEqual(self.successResultOf(result), 9)

    def test_otherErrors(self) -> None:
        """Other exceptions stay as they are."""

        async def run() -> None:
            await succeed(None)
            raise RuntimeError("no luck")

        error = self.assertRaises(RuntimeError, started, run())
        self.assertNotIsInstance(error, NoAsyncio)
