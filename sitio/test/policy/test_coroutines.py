"""
Tests of L{sitio.policy.coroutines}.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any
from unittest import skipIf

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.coroutines import Cancelled, PolicyTask, started, taskOf
from sitio.testing.loop import ClockLoop

try:
    import anyio
except ImportError:
    anyio = None  # type: ignore[assignment]

colour = ContextVar("colour", default="none")


class WithLoop(SynchronousTestCase):
    """Tests with a running loop, on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.loop = ClockLoop(self.clock)
        self.trace: list[Any] = []

    def tearDown(self) -> None:
        """No timer and no task is left."""
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(asyncio.all_tasks(self.loop), set())

    def start(self, awaitable: Any) -> Any:
        """Start a coroutine."""
        with self.loop.running():
            return started(awaitable)

    def advance(self, seconds: float) -> None:
        """Let time pass in steps, so that timers of timers start in time."""
        for step in [0, *[1 / 64] * int(seconds * 64)]:
            self.clock.advance(step)

    def resultAfter(self, seconds: float, awaitable: Any) -> Any:
        """The result of a coroutine that waits, after so many seconds and not before."""
        result = self.start(awaitable)
        if seconds:
            self.advance(seconds - 1 / 64)
            self.assertNoResult(result)
            self.clock.advance(1 / 64)
        self.clock.advance(0)
        return self.successResultOf(result)


class AwaitTests(WithLoop):
    """A coroutine awaits Deferreds and asyncio alike."""

    def test_ended(self) -> None:
        """The result of a coroutine that does not wait is there at once, an exception too."""

        async def run(result: Deferred[int]) -> int:
            return 1 + await result

        self.assertEqual(self.start(run(succeed(1))), 2)
        with self.assertRaises(ZeroDivisionError):
            self.start(run(fail(ZeroDivisionError())))

    def test_others(self) -> None:
        """What does not have to be awaited is returned as it is, and any awaitable is awaited."""

        class Later:
            def __await__(self) -> Any:
                return (yield from asyncio.sleep(1, "later").__await__())

        waits: Deferred[None] = Deferred()
        for each in (None, "text", waits):
            self.assertIs(self.start(each), each)
        self.assertEqual(self.resultAfter(1, Later()), "later")
        with self.loop.running():
            task = self.loop.create_task(asyncio.sleep(1, "task"))
        self.assertEqual(self.resultAfter(1, task), "task")

    def test_sleep(self) -> None:
        """C{asyncio.sleep} waits, and C{asyncio.sleep(0)} waits for a turn."""

        async def run() -> float:
            await asyncio.sleep(0)
            await asyncio.sleep(2)
            return self.clock.seconds()

        self.assertEqual(self.resultAfter(2, run()), 2)

    def test_mixed(self) -> None:
        """Deferreds and asyncio take turns, with their results and exceptions."""
        deferreds: list[Deferred[int]] = [Deferred(), Deferred()]

        async def fails() -> None:
            await asyncio.sleep(1)
            raise KeyError("asyncio")

        async def run() -> list[Any]:
            got: list[Any] = [await deferreds[0]]
            got += await asyncio.gather(asyncio.sleep(1, "a"), asyncio.sleep(0.5, "b"))
            for each in (deferreds[1], fails()):
                try:
                    await each
                except (LookupError, ValueError) as error:
                    got.append(type(error))
            return got

        result = self.start(run())
        deferreds[0].callback(5)
        self.advance(1)
        deferreds[1].errback(ValueError())
        self.assertNoResult(result)
        self.advance(1)
        self.assertEqual(self.successResultOf(result), [5, "a", "b", ValueError, KeyError])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_deferredAtOnce(self) -> None:
        """When a Deferred fires the coroutine goes on at once, and so does who awaits it."""
        waits: Deferred[int] = Deferred()

        async def run() -> int:
            return await waits

        result = self.start(run())
        waits.callback(3)
        self.assertEqual(self.successResultOf(result), 3)

    def test_shared(self) -> None:
        """Two coroutines that await one Deferred both get its result."""
        waits: Deferred[int] = Deferred()

        async def run() -> int:
            return await waits

        results = [self.start(run()), self.start(run())]
        waits.callback(3)
        self.assertEqual([self.successResultOf(each) for each in results], [3, 3])

    def test_currentTask(self) -> None:
        """The task is the same one at each step, and is listed while it waits."""

        async def run() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.set_name("mine")
            for each in (asyncio.sleep(1), asyncio.sleep(0)):
                await each
                self.assertIs(asyncio.current_task(), task)
                self.assertEqual(asyncio.all_tasks(), {task})
            self.assertEqual((task.get_name(), task.done()), ("mine", False))
            self.trace.append(task)

        self.resultAfter(1, run())
        [task] = self.trace
        self.assertTrue(task.done())
        with self.loop.running():
            self.assertIs(asyncio.current_task(), None)

    def test_withinAnother(self) -> None:
        """A task that fires the Deferred of another is the current one again afterwards."""
        waits: Deferred[None] = Deferred()

        async def other() -> None:
            await waits
            self.trace.append(asyncio.current_task())

        async def run() -> None:
            task = asyncio.current_task()
            waits.callback(None)
            self.trace.append(asyncio.current_task())
            self.assertIs(self.trace[1], task)
            # It can start another as well.
            self.assertEqual(started(ended()), 1)
            self.assertIs(asyncio.current_task(), task)

        async def ended() -> int:
            return 1

        result = self.start(other())
        self.start(run())
        self.successResultOf(result)
        self.assertIsNot(self.trace[0], self.trace[1])

    def test_timeout(self) -> None:
        """C{asyncio.timeout}, entered in the first step, ends a wait for either."""

        async def run(wait: Any) -> str:
            try:
                async with asyncio.timeout(1):
                    await wait
            except TimeoutError:
                return "late"
            return "in time"

        cancelled: list[Any] = []
        waits: Deferred[None] = Deferred(cancelled.append)
        self.assertEqual(self.resultAfter(1, run(waits)), "late")
        self.assertEqual(cancelled, [waits])
        self.assertEqual(self.resultAfter(1, run(asyncio.sleep(5))), "late")
        self.assertEqual(self.resultAfter(0.5, run(asyncio.sleep(0.5))), "in time")
        self.assertEqual(self.start(run(succeed(None))), "in time")

    def test_taskGroup(self) -> None:
        """The failure of a task in a group cancels the coroutine's wait for another."""

        async def fails() -> None:
            await asyncio.sleep(1)
            raise KeyError

        async def run() -> int:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails())
                    await Deferred()
            except* KeyError:
                self.trace.append("failed")
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        self.assertEqual(self.resultAfter(1, run()), 0)
        self.assertEqual(self.trace, ["failed"])

    @skipIf(anyio is None, "anyio is not installed")
    def test_anyio(self) -> None:
        """anyio's scopes and groups work, on which httpx is built."""

        async def run() -> str:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 1)
                with anyio.move_on_after(0.5) as scope:
                    await Deferred()
                assert scope.cancelled_caught
                with anyio.move_on_after(0.5) as scope:
                    await anyio.sleep_forever()
                assert scope.cancelled_caught
            return "done"

        self.assertEqual(self.resultAfter(1, run()), "done")

    def test_context(self) -> None:
        """A context variable keeps its value over each wait, and does not leak out."""
        waits: Deferred[None] = Deferred()

        async def run() -> list[str]:
            seen = [colour.get()]
            colour.set("red")
            for each in (waits, asyncio.sleep(1), asyncio.sleep(0)):
                await each
                seen.append(colour.get())
            return seen

        async def quick() -> None:
            colour.set("blue")

        result = self.start(run())
        self.start(quick())
        self.assertEqual(colour.get(), "none")
        waits.callback(None)
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(result), ["none", "red", "red", "red"])
        self.assertEqual(colour.get(), "none")

    def test_wrong(self) -> None:
        """What can't be awaited raises where it is awaited."""

        class Odd:
            def __await__(self) -> Any:
                yield 5

        async def run(wait: Any) -> str:
            try:
                await wait
            except RuntimeError as error:
                return str(error)
            return ""

        self.assertEqual(self.resultAfter(0, run(Odd())), "a policy can't await 5 here")
        stray: asyncio.Future[None] = asyncio.Future(loop=ClockLoop(self.clock))
        self.assertIn("can't await <Future", self.resultAfter(0, run(stray)))

    def test_returnsDeferred(self) -> None:
        """A coroutine that waited and then returns a Deferred fails, and says what to do."""

        async def run() -> Any:
            await asyncio.sleep(1)
            return succeed(1)

        result = self.start(run())
        self.clock.advance(1)
        self.assertIn("await it", str(self.failureResultOf(result, TypeError).value))

    def test_exits(self) -> None:
        """An exception that would end the loop is a failure of the coroutine alone."""

        async def run(error: BaseException) -> None:
            await asyncio.sleep(1)
            raise error

        for error in (SystemExit(), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()):
            result = self.start(run(error))
            self.clock.advance(1)
            self.assertIs(self.failureResultOf(result).value, error)


class ChildTests(WithLoop):
    """Tasks that a policy starts."""

    def waits(self, result: object = "got") -> Deferred[Any]:
        """A Deferred that fires in half a second."""
        waiting: Deferred[Any] = Deferred()
        self.clock.callLater(0.5, waiting.callback, result)
        return waiting

    async def child(self) -> Any:
        """Await a Deferred, and asyncio."""
        got = await self.waits()
        await asyncio.sleep(0.5)
        return got

    def test_deferreds(self) -> None:
        """They may await Deferreds, whatever has started them."""
        child = self.child

        async def gathered() -> Any:
            return await asyncio.gather(child(), self.waits())

        async def deep() -> Any:
            return (await asyncio.gather(gathered()))[0]

        async def created() -> Any:
            task = asyncio.create_task(child(), name="mine")
            return [await task, task.get_name()]

        async def grouped() -> Any:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(child())
            return [task.result()]

        async def inTime() -> Any:
            return [await asyncio.wait_for(child(), 5)]

        for policy, wanted in (
            (gathered, ["got", "got"]),
            (deep, ["got", "got"]),
            (created, ["got", "mine"]),
            (grouped, ["got"]),
            (inTime, ["got"]),
        ):
            self.assertEqual(self.resultAfter(1, policy()), wanted, policy)

    def test_cancelled(self) -> None:
        """A policy that is cancelled cancels them and their Deferreds."""
        cancelled: list[Any] = []

        async def child() -> None:
            try:
                await Deferred(cancelled.append)
            except asyncio.CancelledError:
                self.trace.append("cancelled")
                raise

        async def policy() -> None:
            await asyncio.gather(child(), child())

        result = self.start(policy())
        self.advance(0.1)
        result.cancel()
        self.advance(0.1)
        self.failureResultOf(result, CancelledError)
        self.assertEqual((self.trace, len(cancelled)), (["cancelled"] * 2, 2))

    def test_exits(self) -> None:
        """What is no C{Exception} reaches the policy, and not the loop."""
        for error in (SystemExit(3), KeyboardInterrupt()):

            async def child(error: BaseException = error) -> None:
                raise error

            async def policy(child: Any = child) -> None:
                await asyncio.gather(child())

            result = self.start(policy())
            self.advance(0.1)
            self.assertIs(self.failureResultOf(result).value, error)

    def test_unseen(self) -> None:
        """An error that nobody awaits is logged."""

        async def child() -> None:
            raise KeyError("seen by nobody")

        async def policy() -> None:
            self.trace.append(asyncio.create_task(child()))
            await asyncio.sleep(0.1)
            self.trace.clear()

        result = self.start(policy())
        self.advance(0.5)
        self.successResultOf(result)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_others(self) -> None:
        """What is no policy's is asyncio's own, and a mistake is reported as asyncio does."""

        async def nothing() -> None:
            pass

        with self.loop.running():
            task = asyncio.ensure_future(nothing())
        self.assertIs(type(task), asyncio.Task)

        async def policy() -> None:
            self.trace.append(asyncio.create_task(5))  # type: ignore[arg-type]

        with self.assertRaisesRegex(TypeError, "coroutine was expected"):
            self.start(policy())

    def test_factory(self) -> None:
        """A loop that makes tasks in its own way goes on to do so."""
        made: list[Any] = []

        class OtherLoop(ClockLoop):
            """A loop without or with a factory."""

            factory: Any = None

            def get_task_factory(self) -> Any:
                return self.factory

            def set_task_factory(self, factory: Any) -> None:
                made.append(factory)

        async def nothing() -> None:
            pass

        for factory, wanted in ((None, [taskOf]), (object(), [])):
            loop = OtherLoop(Clock())
            loop.factory = factory
            made.clear()
            for _ in range(2):
                with loop.running():
                    started(nothing())
            self.assertEqual(made, wanted)


class CancelTests(WithLoop):
    """Cancelling arrives at the wait."""

    async def waiting(self, wait: Any) -> str:
        """Wait, and note how that ends."""
        try:
            await wait
        except BaseException as error:
            self.trace.append(type(error))
            raise
        finally:
            self.trace.append("finally")
        return "done"

    def test_asyncio(self) -> None:
        """A wait for asyncio ends with C{asyncio.CancelledError}, in the next turn."""
        result = self.start(self.waiting(asyncio.sleep(5)))
        result.cancel()
        self.clock.advance(0)
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.trace, [asyncio.CancelledError, "finally"])

    def test_inner(self) -> None:
        """What it waits for is cancelled as well: each task of C{gather}."""

        async def run() -> None:
            await asyncio.gather(self.waiting(asyncio.sleep(5)), self.waiting(asyncio.sleep(6)))

        result = self.start(run())
        self.clock.advance(0)
        result.cancel()
        self.clock.advance(0)
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.trace, 2 * [asyncio.CancelledError, "finally"])

    def test_deferred(self) -> None:
        """A wait for a Deferred cancels that, and ends at once, with both libraries' error."""
        cancelled: list[Any] = []
        waits: Deferred[None] = Deferred(cancelled.append)
        result = self.start(self.waiting(waits))
        result.cancel()
        self.assertEqual(self.trace, [Cancelled, "finally"])
        self.assertEqual(cancelled, [waits])
        error = self.failureResultOf(result).value
        for each in (asyncio.CancelledError, CancelledError):
            self.assertIsInstance(error, each)

    def test_taskGroup(self) -> None:
        """The tasks of a group are cancelled with the coroutine, which ends as cancelled."""

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.waiting(asyncio.sleep(5)))
                await Deferred()

        result = self.start(run())
        self.clock.advance(0)
        result.cancel()
        self.clock.advance(0)
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.trace, [asyncio.CancelledError, "finally"])

    def test_answers(self) -> None:
        """A coroutine that waits for a Deferred may have a result when it is cancelled."""

        def catches(kind: type[BaseException]) -> Any:
            async def run() -> str:
                try:
                    await Deferred()
                except kind:
                    return "short"
                return "long"

            return run()

        async def given() -> str:
            return await Deferred(lambda deferred: deferred.callback("short"))

        kinds = (asyncio.CancelledError, CancelledError, Exception)
        for each in (given(), *map(catches, kinds)):
            result = self.start(each)
            result.cancel()
            self.assertEqual(self.successResultOf(result), "short")

    def test_betweenTurns(self) -> None:
        """A coroutine that has yielded for a turn is cancelled in that turn."""
        result = self.start(self.waiting(asyncio.sleep(0)))
        result.cancel()
        self.clock.advance(0)
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.trace, [asyncio.CancelledError, "finally"])

    def test_itself(self) -> None:
        """A coroutine that cancels itself ends at its next wait, for either."""

        async def run(wait: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel("enough")
            await self.waiting(wait)

        waits: tuple[Any, ...] = (asyncio.sleep(1), Deferred(), asyncio.sleep(0))
        for each in waits:
            result = self.start(run(each))
            self.clock.advance(0)
            error = self.failureResultOf(result, asyncio.CancelledError).value
            self.assertEqual(str(error), "enough")

    def test_uncancelled(self) -> None:
        """A coroutine that takes its own cancelling back goes on."""

        async def run() -> str:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            self.assertEqual((task.cancelling(), task.uncancel()), (1, 0))
            return await asyncio.sleep(1, "on")

        self.assertEqual(self.resultAfter(1, run()), "on")

    def test_twice(self) -> None:
        """A coroutine that ignores one cancellation gets the next; its late end is dropped."""

        async def run() -> None:
            waits: tuple[Any, ...] = (Deferred(), asyncio.sleep(1), Deferred())
            for each in waits:
                try:
                    await each
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    self.trace.append((task, task and task.cancelling()))
            raise ValueError

        result = self.start(run())
        result.cancel()
        [(task, _)] = self.trace
        self.failureResultOf(result, CancelledError)
        task.cancel()
        task.cancel()
        self.clock.advance(0)
        task.cancel()
        self.clock.advance(0)
        self.assertTrue(task.done())
        self.assertFalse(task.cancel())
        self.assertEqual(task.uncancel(), task.cancelling())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_othersFailure(self) -> None:
        """If cancelling a Deferred gives another failure, the coroutine gets that."""
        result = self.start(self.waiting(Deferred(lambda waits: waits.errback(ValueError()))))
        result.cancel()
        self.failureResultOf(result, ValueError)

    def test_droppedFailure(self) -> None:
        """asyncio's own cancelling drops what cancelling a Deferred gives."""

        async def run() -> None:
            async with asyncio.timeout(1):
                await self.waiting(Deferred(lambda waits: waits.errback(ValueError())))

        result = self.start(run())
        self.clock.advance(1)
        self.failureResultOf(result, TimeoutError)
        self.assertEqual(self.trace, [asyncio.CancelledError, "finally"])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cancellerRaises(self) -> None:
        """The coroutine ends even if the canceller of its Deferred raises."""

        def refuse(waits: object) -> None:
            raise KeyError

        result = self.start(self.waiting(Deferred(refuse)))
        with self.assertRaises(KeyError):
            result.cancel()
        self.assertEqual(self.trace, [Cancelled, "finally"])
        self.failureResultOf(result, CancelledError)

    def test_methods(self) -> None:
        """A task has a result that is its coroutine's, and no other."""

        async def run() -> Any:
            return asyncio.current_task()

        task = self.start(run())
        self.assertIsInstance(task, PolicyTask)
        self.assertIs(task.result(), task)
        self.assertEqual(task.get_coro().__name__, "run")
        self.assertEqual(task.get_context().get(colour, ""), "")
        for each in (task.set_result, task.set_exception):
            with self.assertRaises(RuntimeError):
                each(None)
