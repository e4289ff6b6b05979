"""
Runs coroutines of policies, which may await Deferreds and asyncio alike: L{started}.

On a reactor that runs an asyncio loop a coroutine is a task of that loop from its first step,
so C{asyncio.current_task}, C{asyncio.timeout} and libraries such as httpx work.  The task is
L{PolicyTask} and not C{asyncio.Task}: it takes the first step at once, without a turn of the
loop, on each version of Python; it goes on at once when a Deferred fires; and C{SystemExit}
ends the policy and not the loop.  The tasks that a policy starts with C{gather} or
C{create_task} are such tasks, too (L{taskOf}).

On any other reactor a coroutine may await Deferreds only (L{sitio.policy.noasyncio}).
"""

from __future__ import annotations

from asyncio import (
    AbstractEventLoop,
    CancelledError as FutureCancelled,
    Future,
    Task,
    _enter_task,
    _get_running_loop,
    _leave_task,
    _register_task,
    _set_running_loop,
    _unregister_task,
    current_task,
    iscoroutine,
)
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from inspect import isawaitable
from types import CoroutineType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from sitio.policy.noasyncio import startedWithoutLoop

#: The loop that makes tasks with L{taskOf}; a process has one.
_knownLoop: AbstractEventLoop | None = None


def started(answer: Any) -> Any:
    """
    Run what a policy has returned as far as it goes without waiting.

    @return: a result that is there, else a L{Deferred} of it.  To cancel it throws
        C{asyncio.CancelledError} into a coroutine that waits for asyncio, and L{Cancelled} into
        one that waits for a Deferred (on a reactor without asyncio Twisted's error).
    """
    if type(answer) is not CoroutineType:
        if isinstance(answer, Deferred) or not isawaitable(answer):
            return answer
        answer = _awaiting(answer)
    loop = _knownLoop
    if loop is None or not loop.is_running():
        # This asks the system for the id of the process, each time.
        loop = _get_running_loop()
        if loop is None:
            return startedWithoutLoop(answer)
        useTasks(loop)
    # Most coroutines end in their first step, so here is no call that can be left out.
    task = PolicyTask(loop=loop)
    task.coroutine = answer
    task.context = context = copy_context()
    try:
        _enter_task(loop, task)
    except RuntimeError:
        # Another task has fired a Deferred, and this policy is the next one.
        with _paused(loop):
            return started(answer)
    try:
        waitsFor = context.run(answer.send, None)
    except StopIteration as stop:
        _setResult(task, stop.value)
        return stop.value
    except BaseException as error:
        task.hasFailed(error)
        raise
    finally:
        _leave_task(loop, task)
    return task.goOn(waitsFor)


def useTasks(loop: AbstractEventLoop) -> None:
    """Let a loop make tasks with L{taskOf}, unless the program has a factory of its own."""
    global _knownLoop
    if loop is _knownLoop:
        return
    _knownLoop = loop
    if loop.get_task_factory() is None:
        loop.set_task_factory(taskOf)


def taskOf(
    loop: AbstractEventLoop,
    coroutine: Any,
    *,
    name: str | None = None,
    context: Context | None = None,
    **how: Any,
) -> Future[Any]:
    """
    A task of this loop, as C{create_task} returns it.

    What a policy starts is a L{PolicyTask}: it may await Deferreds, and C{sys.exit} in it does
    not end sitio.  All others are asyncio's own.
    """
    if not (isinstance(current_task(loop), PolicyTask) and iscoroutine(coroutine)):
        return Task(coroutine, loop=loop, name=name, context=context, **how)
    task = PolicyTask(loop=loop)
    task.coroutine = coroutine
    task.context = copy_context() if context is None else context
    if name is not None:
        task.set_name(name)
    task.isChild = True
    _register_task(task)
    loop.call_soon(task.resume)
    return task


@contextmanager
def _paused(loop: AbstractEventLoop) -> Iterator[None]:
    """Make room for another task while a task runs."""
    outer: Any = current_task(loop)
    _leave_task(loop, outer)
    try:
        yield
    finally:
        _enter_task(loop, outer)


async def _awaiting(answer: Awaitable[Any]) -> Any:
    return await answer


class Cancelled(CancelledError, FutureCancelled):
    """
    What a wait for a Deferred raises when the client has left or the policy takes too long:
    those who expect Twisted's error catch it, and those who expect asyncio's.
    """


class _DeferredWait:
    """A Deferred that a task waits for, with the methods of a Future that cancelling needs."""

    __slots__ = ("_deferred", "_isGivenUp", "_isOver", "_task")

    def __init__(self, task: PolicyTask, deferred: Deferred[Any]) -> None:
        self._task = task
        self._deferred = deferred
        self._isGivenUp = False
        self._isOver = False
        deferred.addBoth(self._fired)

    def _fired(self, result: Any) -> Any:
        if self._isOver:
            return None
        self._isOver = True
        if isinstance(result, Failure):
            isCancelled = self._isGivenUp and result.check(CancelledError)
            self._task.resume(Cancelled() if isCancelled else result.value)
            return None
        self._task.resume()
        return result

    def done(self) -> bool:
        return self._isOver

    def cancel(self, msg: object = None) -> bool:
        """Cancel the Deferred, and end the wait in the next turn, as a Future does."""
        if self._isOver:
            return False
        self._isOver = True
        self._task.get_loop().call_soon(self._task.resume, _cancelledError(msg))
        self._deferred.cancel()
        return True

    def giveUp(self) -> None:
        """Cancel the Deferred; the task goes on at once with what comes of that."""
        self._isGivenUp = True
        try:
            self._deferred.cancel()
        except BaseException:
            self._fired(Failure(CancelledError()))
            raise


def _cancelledError(message: object) -> FutureCancelled:
    return FutureCancelled() if message is None else FutureCancelled(message)


def _forgetOurs(error: BaseException) -> None:
    """
    Cut this module's frames from a traceback.  They would hold the task that holds the error,
    and only when the task is gone asyncio logs an error that nobody has awaited.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    error.__traceback__ = trace


#: Without types: asyncio's functions for such tasks are typed for its own.
_Future: Any = Future
_setResult = _Future.set_result


class _Defaults:
    """The state of a task in its first step, which most tasks end in."""

    _cancelText: object = None
    _cancels = 0
    _deferred: Deferred[Any] | None = None
    _fut_waiter: Any = None
    _must_cancel = False
    _name = "sitio-policy"
    isChild = False


class PolicyTask(_Defaults, _Future):
    """
    A task that runs a coroutine of a policy.

    It has the methods of C{asyncio.Task} that libraries call, and, as they read them, its
    attributes C{_fut_waiter} and C{_must_cancel}.  The documentation of asyncio names the
    functions with which such a task makes itself known to C{current_task} and C{all_tasks}.

    @ivar coroutine: the coroutine.
    @ivar context: the context of its steps.
    @ivar isChild: whether another policy's task has started it.
    """

    __slots__ = ("context", "coroutine")

    def goOn(self, waitsFor: Any) -> Deferred[Any]:
        """
        Run the rest, after the first step.

        @param waitsFor: what the coroutine waits for.

        @return: has its result.
        """
        finished = self._deferred = Deferred(self._giveUp)
        _register_task(self)
        self._wait(waitsFor)
        return finished

    def _take(self, step: Callable[[Any], Any], value: Any) -> Any:
        """Run to the next wait, as the current task."""
        loop = self.get_loop()
        try:
            _enter_task(loop, self)
        except RuntimeError:
            # Another task has fired a Deferred that this one waits for.
            with _paused(loop):
                return self._take(step, value)
        try:
            return self.context.run(step, value)
        finally:
            _leave_task(loop, self)

    def resume(self, error: BaseException | None = None) -> None:
        """
        Take the next step, as the wait is over.

        @param error: what the wait raises.
        """
        self._fut_waiter = None
        if self._must_cancel:
            self._must_cancel = False
            if not isinstance(error, FutureCancelled):
                error = _cancelledError(self._cancelText)
        loop, running = self.get_loop(), _get_running_loop()
        if running is not loop:
            # A test fires or cancels a Deferred, and the loop of the test kit stands still.
            _set_running_loop(loop)
        try:
            if error is None:
                waitsFor = self._take(self.coroutine.send, None)
            else:
                waitsFor = self._take(self.coroutine.throw, error)
        except StopIteration as stop:
            _setResult(self, stop.value)
            self._finish(stop.value)
        except BaseException as raised:
            self.hasFailed(raised)
            self._finish(Failure(raised))
        else:
            self._wait(waitsFor)
        finally:
            if running is not loop:
                _set_running_loop(running)

    def _wait(self, waitsFor: Any) -> None:
        """Wait for what the coroutine has yielded."""
        loop = self.get_loop()
        if isinstance(waitsFor, Deferred):
            self._fut_waiter = _DeferredWait(self, waitsFor)
        elif waitsFor is None:
            # asyncio.sleep(0): one turn of the loop.
            loop.call_soon(self.resume)
            return
        elif (
            not getattr(waitsFor, "_asyncio_future_blocking", None)
            or waitsFor is self
            or waitsFor.get_loop() is not loop
        ):
            loop.call_soon(self.resume, RuntimeError(f"a policy can't await {waitsFor!r} here"))
            return
        else:
            waitsFor._asyncio_future_blocking = False
            self._fut_waiter = waitsFor
            waitsFor.add_done_callback(self._wakeUp)
        if self._must_cancel and self._fut_waiter.cancel(msg=self._cancelText):
            self._must_cancel = False

    def _wakeUp(self, future: Future[Any]) -> None:
        try:
            future.result()
        except BaseException as error:
            self.resume(error)
        else:
            self.resume()

    def hasFailed(self, error: BaseException) -> None:
        """End with an exception."""
        if isinstance(error, FutureCancelled):
            Future.cancel(self)
        else:
            if self.isChild:
                _forgetOurs(error)
            Future.set_exception(self, error)
            if not self.isChild:
                self.exception()  # The chain logs it; asyncio does not.

    def _finish(self, result: Any) -> None:
        _unregister_task(self)
        finished, self._deferred = self._deferred, None
        if finished is None or finished.called:
            return
        if isinstance(result, Deferred):
            result = Failure(TypeError("a coroutine returned a Deferred; await it there"))
        finished.callback(result)

    def _giveUp(self, finished: Deferred[Any]) -> None:
        """Cancel it because its result is no longer wanted."""
        if isinstance(self._fut_waiter, _DeferredWait) and not self._fut_waiter.done():
            self._fut_waiter.giveUp()
        else:
            self.cancel()

    # The methods of asyncio.Task.

    def cancel(self, msg: object = None) -> bool:
        if self.done():
            return False
        self._cancels += 1
        waiter = self._fut_waiter
        if waiter is not None and waiter.cancel(msg=msg):
            return True
        self._must_cancel = True
        self._cancelText = msg
        return True

    def cancelling(self) -> int:
        return self._cancels

    def uncancel(self) -> int:
        self._cancels = max(0, self._cancels - 1)
        if self._cancels == 0:
            # As asyncio.Task from Python 3.13 on: nobody wants it cancelled any more.
            self._must_cancel = False
        return self._cancels

    def get_coro(self) -> Coroutine[Any, Any, Any]:
        return self.coroutine

    def get_context(self) -> Context:
        return self.context

    def get_name(self) -> str:
        return self._name

    def set_name(self, value: object) -> None:
        self._name = str(value)

    def set_result(self, result: object) -> None:
        raise RuntimeError("a task has the result of its coroutine")

    set_exception = set_result
