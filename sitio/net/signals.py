"""
What a process of C{twistd sitio} does at each signal.

  - HUP: the configuration is read anew.  It is ignored under C{nohup}.
  - QUIT: it stops as at TERM, which is the reactor's.
  - USR1: log files are opened anew, after a log rotation has renamed them.
  - USR2: the stacks of all threads are written to standard error.
  - INT and TERM are the reactor's, CHLD too; Python ignores PIPE, and the system WINCH.

L{prepareSignals} comes first: from then on HUP, USR1 and USR2 end nothing.  L{Signals} is a
service, as C{twistd} opens its log meanwhile.  A worker process calls
L{prepareWorkerSignals}, and has L{held} signals until then.

Contract: the reactor and C{signal.signal} are passed in; POSIX only.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from inspect import getclosurevars, isfunction
from typing import Any

from twisted.application.service import Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

#: The signals that a terminal sends to a whole group of processes.
_TERMINALS = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

#: Makes a process write the stacks of its threads, whatever they do.
STACK_SIGNAL = signal.SIGUSR2

#: Signals that must not end a worker process that has just begun.
_HELD = (*_TERMINALS, signal.SIGPIPE, signal.SIGUSR1, STACK_SIGNAL)

_log = Logger(namespace="sitio")


class _Nothing:
    """
    A signal handler that does nothing.

    It is false, as C{twistd} installs its own handler of USR1 only if there is none.
    """

    def __bool__(self) -> bool:
        return False

    def __call__(self, number: int, frame: Any) -> None:
        pass


NOTHING = _Nothing()


def prepareSignals() -> None:
    """
    Make HUP and USR1 do nothing and USR2 write stacks, unless somebody handles them already.
    """
    for each in (signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(each) is signal.SIG_DFL:
            signal.signal(each, NOTHING)
    if signal.getsignal(STACK_SIGNAL) is signal.SIG_DFL:
        writeStacks()


def writeStacks() -> None:
    """Make USR2 write stacks.  Its handler is in C, as Python may never get to run one."""
    if sys.__stderr__ is None:
        # Standard error is closed, and its number may belong to a connection by now.
        signal.signal(STACK_SIGNAL, signal.SIG_IGN)
    else:
        faulthandler.register(STACK_SIGNAL, sys.__stderr__, all_threads=True)


def prepareWorkerSignals() -> None:
    """
    Prepare a worker process, which has signals L{held} so far.

    It ignores what a terminal sends to a whole group of processes: the supervisor gets it
    too, and tells its workers.
    """
    for each in _TERMINALS:
        signal.signal(each, signal.SIG_IGN)
    prepareSignals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


@contextmanager
def held() -> Iterator[None]:
    """Processes that begin meanwhile get signals only after L{prepareWorkerSignals}."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Signals(Service):
    """The signals HUP, QUIT and USR1 of the process that C{twistd} has started."""

    def __init__(
        self,
        reactor: Any,
        reopen: Callable[[], Any] | None = None,
        reload: Callable[[str], Any] | None = None,
        *,
        onSignal: Callable[[int, Any], Any] = signal.signal,
        handlerOf: Callable[[int], Any] = signal.getsignal,
    ) -> None:
        """
        @param reopen: is also called at USR1.
        @param reload: is called at HUP, with the name of the signal; L{None} to stop then.
        @param onSignal: registers a signal handler.
        @param handlerOf: returns it.
        """
        self._reactor = reactor
        self._reopen = reopen
        self._reload = reload
        self._onSignal = onSignal
        self._handlerOf = handlerOf
        self._installed = False
        self._log: Any = None

    def privilegedStartService(self) -> None:
        """React to the signals, but for those that are ignored or handled already."""
        Service.privilegedStartService(self)
        if self._installed:
            return
        self._installed = True
        for number, react in (
            (signal.SIGHUP, self._stopSignal if self._reload is None else self._reloadSignal),
            (signal.SIGQUIT, self._stopSignal),
        ):
            if self._handlerOf(number) in (signal.SIG_DFL, NOTHING):
                self._onSignal(number, react)
        before = self._handlerOf(signal.SIGUSR1)
        if isfunction(before):
            self._log = getclosurevars(before).nonlocals.get("logFile")

        def reopenSignal(number: int, frame: Any) -> None:
            self._reactor.callFromThread(self._openAnew)
            if self._log is None and callable(before):
                before(number, frame)

        self._onSignal(signal.SIGUSR1, reopenSignal)

    def _reloadSignal(self, number: int, frame: Any) -> None:
        assert self._reload is not None
        self._reactor.callFromThread(self._reload, signal.Signals(number).name)

    def _stopSignal(self, number: int, frame: Any) -> None:
        self._reactor.callFromThread(self._stop, signal.Signals(number).name)

    def _stop(self, name: str) -> None:
        # It has been stopped before, and drains.
        with suppress(ReactorNotRunning):
            self._reactor.stop()
            _log.info(
                "sitio got {signal}: it finishes what is in flight, then it ends", signal=name
            )

    def _openAnew(self) -> None:
        if self._log is not None:
            openAnew(self._log)
        if self._reopen is not None:
            self._reopen()


def openAnew(log: Any) -> None:
    """
    Open C{twistd}'s log anew if it was renamed, else rotate it, as C{twistd} does.

    @param log: a C{twisted.python.logfile.LogFile}.
    """
    if os.path.exists(log.path) and os.path.getsize(log.path):
        log.rotate()
        return
    # There is no such file, or a new one, which is empty.
    try:
        with open(log.path, "a+b"):
            pass
    except OSError as error:
        _log.warn(
            "The log file {path} can't be opened anew: {why}; sitio writes on into the old one",
            path=log.path,
            why=error.strerror,
        )
    else:
        log.reopen()
