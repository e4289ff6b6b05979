"""
Calls that may block, each in a thread of its own.

The reactor has a pool of ten threads, which policies use with C{deferToThread}.  A call of
sitio's own does not wait there until a slow policy leaves a thread free.

Contract: the reactor is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

#: Seconds that calls in the reactor's pool of threads have at the end, after all exchanges.
STOP_SECONDS = 2.0


def callInThread(
    reactor: IReactorFromThreads, call: Callable[..., Any], *arguments: Any
) -> Deferred[Any]:
    """
    Run a call in a thread that does not keep the process from ending.  Threads of the
    reactor's pool do keep it, for as long as a pipe without a reader blocks them.

    The caller limits how many calls run at a time.

    @return: fires with the result or the failure.  It fails with L{RuntimeError} if no
        thread can be started.
    """
    done: Deferred[Any] = Deferred()

    def run() -> None:
        try:
            result = call(*arguments)
        except Exception:
            result = Failure()
        reactor.callFromThread(done.callback, result)

    Thread(target=run, name="sitio", daemon=True).start()
    return done


def limitThreadPool(reactor: Any) -> None:
    """
    Make the threads of a reactor's pool keep the process from ending for L{STOP_SECONDS} at
    most.  Twisted waits until all calls have been made, those included that wait for a thread.
    """
    pool = reactor.getThreadPool()
    pool.threadFactory = partial(Thread, daemon=True)
    stop = pool.stop

    def stopSoon() -> None:
        stopping = Thread(target=stop, name="sitio", daemon=True)
        stopping.start()
        stopping.join(STOP_SECONDS)

    pool.stop = stopSoon
