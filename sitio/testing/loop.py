"""
An asyncio loop without sockets, on a L{Clock<twisted.internet.task.Clock>}: L{ClockLoop}.
"""

from __future__ import annotations

from asyncio import (
    AbstractEventLoop,
    Future,
    Handle,
    TimerHandle,
    _enter_task,
    _get_running_loop,
    _leave_task,
    _set_running_loop,
    current_task,
)
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure

from sitio.policy.coroutines import taskOf, useTasks
from sitio.policy.threads import stopped

_log = Logger()

#: What only a real loop has.
_MISSING = (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "remove_reader",
    "remove_writer",
    "run_forever",
    "run_until_complete",
    "sendfile",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
    "start_tls",
    "subprocess_exec",
    "subprocess_shell",
)


#: Without types: those of the methods that are missing, and of their arguments, say nothing.
_Loop: Any = AbstractEventLoop


class ClockLoop(_Loop):
    """
    Runs what awaits asyncio, with the time of a L{Clock<twisted.internet.task.Clock>}.

    It is the running loop while the clock advances.  It has calls, timers, futures and tasks.
    Functions for threads are called at once.  All that needs a socket, a process or a signal
    raises C{NotImplementedError}, which says so.

    @ivar clock: the clock.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        advance = clock.advance

        def advanceInLoop(amount: float) -> None:
            with self.running():
                advance(amount)

        # Whoever moves the clock runs policies.
        clock.advance = advanceInLoop  # type: ignore[method-assign]
        #: By the id of the handle, as asyncio takes handles with one time for equal.
        self._timers: dict[int, IDelayedCall] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the running loop, also if a test runs in another loop."""
        outer: Any = _get_running_loop()
        if outer is self:
            yield
            return
        task = current_task(outer) if outer is not None else None
        if outer is not None and task is not None:
            _leave_task(outer, task)
        _set_running_loop(self)
        useTasks(self)
        try:
            yield
        finally:
            _set_running_loop(outer)
            if outer is not None and task is not None:
                _enter_task(outer, task)

    def time(self) -> float:
        return self.clock.seconds()

    def is_running(self) -> bool:
        return _get_running_loop() is self

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    # Calls.

    def _run(self, handle: Handle) -> None:
        if not handle.cancelled():
            with self.running():
                handle._run()

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, self, context)
        self.clock.callLater(0, self._run, handle)
        return handle

    # No thread calls this, as functions for threads are called at once.
    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        handle = TimerHandle(when, callback, args, self, context)

        def due() -> None:
            del self._timers[id(handle)]
            self._run(handle)

        self._timers[id(handle)] = self.clock.callLater(max(0.0, when - self.time()), due)
        return handle

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        timer = self._timers.pop(id(handle), None)
        if timer is not None:
            timer.cancel()

    # Futures and tasks.

    def create_future(self) -> Future[Any]:
        return Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **how: Any) -> Future[Any]:
        return taskOf(self, coro, **how)

    def run_in_executor(
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> Future[Any]:
        future = self.create_future()
        try:
            result = func(*args)
        except StopIteration as error:
            future.set_exception(stopped(error))
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    # Errors.

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        failure = Failure(error or RuntimeError(context.get("message")))
        _log.failure("{message}", failure, message=context.get("message"))

    default_exception_handler = call_exception_handler

    # Asked for by libraries.

    def get_task_factory(self) -> Callable[..., Future[Any]]:
        return taskOf

    def get_exception_handler(self) -> None:
        return None

    async def shutdown_asyncgens(self) -> None:
        pass


def _missing(name: str) -> Callable[..., Any]:
    def refuse(self: ClockLoop, *args: object, **how: object) -> Any:
        raise NotImplementedError(
            f"the test kit has no sockets and no processes ({name}): give the policy a client"
            " that answers in memory, such as httpx.MockTransport, or test it with a real sitio"
        )

    return refuse


for _name in _MISSING:
    setattr(ClockLoop, _name, _missing(_name))
