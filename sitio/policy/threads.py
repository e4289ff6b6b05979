"""
Blocking calls of policies, in threads of their own: L{inThread}.

They use neither the threads in which sitio looks names up nor the reactor's pool.

A function that calls this holds no reactor, so the reactor is the one of the process.
"""

from __future__ import annotations

import sys
from asyncio import _get_running_loop
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import cache, partial
from threading import Condition, Thread
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")

#: Calls that run at a time.  They share one interpreter with the reactor, so more threads than
#: this help only calls that wait, and those have asyncio and Twisted.
MAX_THREADS = 8

#: Calls that wait for a thread.  A call of 50 ms then waits for 0.6 s at most.
MAX_WAITING = 100


class ThreadsBusy(RuntimeError):
    """All threads are busy, and as many calls wait as may."""


class PolicyThreads(Executor):
    """
    Threads that start when they are needed.  They do not keep the process from ending.

    @ivar threads: how many calls run at a time.
    @ivar waiting: how many calls wait for a thread.
    """

    def __init__(self, threads: int = MAX_THREADS, waiting: int = MAX_WAITING) -> None:
        self.threads = threads
        self.waiting = waiting
        self._changed = Condition()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._started = 0
        self._busy = 0
        self._isStopped = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **kw: P.kwargs) -> Future[T]:
        """
        Call a function in a thread, in the context of the caller.

        @return: cancelling it drops a call that still waits, or the result of one that runs.

        @raise ThreadsBusy: too many calls wait.
        @raise RuntimeError: sitio stops.
        """
        done: Future[T] = Future()
        call = partial(copy_context().run, function, *args, **kw)
        with self._changed:
            if self._isStopped:
                raise RuntimeError("sitio stops: inThread starts no more calls")
            if self._busy + len(self._calls) >= self.threads + self.waiting:
                self._calls = deque(each for each in self._calls if not each[0].cancelled())
            if self._busy + len(self._calls) >= self.threads + self.waiting:
                raise ThreadsBusy(
                    f"inThread: {self.threads} calls run and {self.waiting} wait;"
                    " answer such requests without it, or make the calls shorter"
                )
            self._calls.append((done, call))
            if self._busy + len(self._calls) > self._started < self.threads:
                self._started += 1
                Thread(target=self._work, name="sitio-policy", daemon=True).start()
            self._changed.notify()
        return done

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._calls:
                    if self._isStopped:
                        return
                    self._changed.wait()
                done, call = self._calls.popleft()
                self._busy += 1
            try:
                _finish(done, call)
            finally:
                # They may be large, and the next call may be far.
                del done, call
                with self._changed:
                    self._busy -= 1

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Stop: drop the calls that wait, and the threads end after the calls that run."""
        with self._changed:
            self._isStopped = True
            dropped, self._calls = self._calls, deque()
            self._changed.notify_all()
        for done, _ in dropped:
            done.cancel()


def _finish(done: Future[Any], call: Callable[[], Any]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except StopIteration as error:
        # It would end a coroutine that awaits it, and asyncio's futures take none.
        done.set_exception(stopped(error))
    except BaseException as error:
        done.set_exception(error)
    else:
        done.set_result(result)


def stopped(error: StopIteration) -> RuntimeError:
    """What a C{StopIteration} becomes where somebody awaits it, as in a coroutine."""
    raised = RuntimeError("the function raised StopIteration")
    raised.__cause__ = error
    return raised


def inThread(function: Callable[P, T], /, *args: P.args, **kw: P.kwargs) -> Awaitable[T]:
    """
    Call a function that blocks or computes for long, in a thread: C{await inThread(f, x)}.

    It runs in the context of the caller.  It must not touch the exchange, nor what else
    belongs to the reactor.  At most L{MAX_THREADS} calls run and L{MAX_WAITING} wait.

    If the policy is cancelled, a call that waits is dropped.  One that runs goes on, and its
    result is dropped.  When sitio stops it waits for neither.  The test kit calls the function
    at once, in the thread of the test.

    @return: the result to await: a C{Future} of asyncio on a reactor that runs it, else a
        L{Deferred}.

    @raise ThreadsBusy: too many calls wait.
    """
    loop = _get_running_loop()
    if loop is not None:
        return loop.run_in_executor(_threads(), partial(function, *args, **kw))
    return _deferred(_threads().submit(function, *args, **kw), _reactor())


def _deferred(done: Future[T], reactor: Any) -> Deferred[T]:
    """The Deferred of a call; it fires in the reactor's thread."""

    def drop(result: Deferred[T]) -> None:
        done.cancel()

    result: Deferred[T] = Deferred(drop)

    def fire() -> None:
        if result.called:
            return
        error = done.exception()
        result.callback(done.result() if error is None else Failure(error))

    def ended(done: Future[T]) -> None:
        if not done.cancelled():
            reactor.callFromThread(fire)

    done.add_done_callback(ended)
    return result


def _reactor() -> Any:
    """The reactor of the process, or L{None}; this never installs one."""
    return sys.modules.get("twisted.internet.reactor")


@cache
def _threads() -> PolicyThreads:
    """The threads of the process, which stop with its reactor."""
    threads = PolicyThreads()
    if (reactor := _reactor()) is not None:
        reactor.addSystemEventTrigger("during", "shutdown", threads.shutdown)
    return threads
