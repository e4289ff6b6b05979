"""
Promises of L{sitio.net.signals}.  L{sitio.test.system.test_signals} tests whole processes.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.error import ReactorNotRunning
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.signals import (
    NOTHING,
    STACK_SIGNAL,
    Signals,
    held,
    openAnew,
    prepareSignals,
    prepareWorkerSignals,
)
from sitio.test.helpers.logs import recorded

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, STACK_SIGNAL)


class PreparationTests(SynchronousTestCase):
    """What happens to the signals of this process before C{twistd} opens its log."""

    def setUp(self) -> None:
        # Another test may have registered it.  Then faulthandler would not install its handler
        # again, and the signal would end this process.
        faulthandler.unregister(STACK_SIGNAL)
        for each in SIGNALS:
            self.addCleanup(signal.signal, each, signal.signal(each, signal.SIG_DFL))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.addCleanup(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        self.addCleanup(faulthandler.unregister, STACK_SIGNAL)

    def test_harmless(self) -> None:
        """HUP and USR1 do nothing, and USR2 writes stacks."""
        prepareSignals()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGUSR1)
        written = Path(self.mktemp())
        with written.open("w") as error, patch.object(sys, "__stderr__", error):
            prepareSignals()
            signal.raise_signal(STACK_SIGNAL)
        self.assertIn("most recent call first", written.read_text())

    def test_twistd(self) -> None:
        """C{twistd} still installs its handler, as it takes ours for none."""
        prepareSignals()
        self.assertFalse(signal.getsignal(signal.SIGUSR1))

    def test_handled(self) -> None:
        """Handlers that are there already stay."""
        handlers = {each: lambda number, frame: None for each in (signal.SIGUSR1, STACK_SIGNAL)}
        for each, handler in handlers.items():
            signal.signal(each, handler)
        prepareSignals()
        self.assertEqual({each: signal.getsignal(each) for each in handlers}, handlers)

    def test_closed(self) -> None:
        """Without standard error USR2 writes nowhere."""
        with patch.object(sys, "__stderr__", None):
            prepareSignals()
        self.assertIs(signal.getsignal(STACK_SIGNAL), signal.SIG_IGN)

    def test_worker(self) -> None:
        """What a new worker gets too early is held, and then does nothing."""
        with held():
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            self.assertLessEqual(set(SIGNALS), mask)
            signal.raise_signal(signal.SIGUSR1)
            for each in SIGNALS[:3]:
                signal.raise_signal(each)
            prepareWorkerSignals()
        ignored = [signal.getsignal(each) for each in SIGNALS[:3]]
        self.assertEqual(ignored, [signal.SIG_IGN] * 3)
        self.assertFalse(signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(SIGNALS))


class ServiceTests(SynchronousTestCase):
    """The handlers that the service installs."""

    def setUp(self) -> None:
        self.calls: list[str] = []
        self.reload: Any = lambda cause: self.calls.append(f"reload at {cause}")
        self.running = True
        self.handlers: dict[int, Any] = dict.fromkeys(SIGNALS, signal.SIG_DFL)

    def callFromThread(self, call: Callable[..., None], *arguments: Any) -> None:
        """As a reactor does."""
        call(*arguments)

    def stop(self) -> None:
        """As a reactor does."""
        if not self.running:
            raise ReactorNotRunning("again")
        self.running = False
        self.calls.append("stop")

    def start(self) -> None:
        """Start the service, twice, as a sidecar does."""
        signals = Signals(
            self,
            lambda: self.calls.append("reopen"),
            self.reload,
            onSignal=self.handlers.__setitem__,
            handlerOf=self.handlers.__getitem__,
        )
        signals.privilegedStartService()
        signals.privilegedStartService()

    def get(self, number: int) -> None:
        """Get a signal."""
        self.handlers[number](number, None)

    def test_stop(self) -> None:
        """QUIT stops the reactor, once; so does HUP where nothing can be read anew."""
        for each, reload in ((signal.SIGQUIT, self.reload), (signal.SIGHUP, None)):
            self.setUp()
            self.reload = reload
            self.start()
            with recorded() as recorder:
                self.get(each)
                self.get(each)
            self.assertEqual(self.calls, ["stop"])
            self.assertEqual(
                recorder.texts(),
                [f"sitio got {each.name}: it finishes what is in flight, then it ends"],
            )

    def test_reload(self) -> None:
        """HUP has the configuration read anew, each time, also where it did nothing before."""
        for before in (signal.SIG_DFL, NOTHING):
            self.setUp()
            self.handlers[signal.SIGHUP] = before
            self.start()
            self.get(signal.SIGHUP)
            self.get(signal.SIGHUP)
            self.assertEqual(self.calls, ["reload at SIGHUP"] * 2)

    def test_left(self) -> None:
        """Those that are ignored or handled already stay so."""
        self.handlers[signal.SIGHUP] = signal.SIG_IGN
        mine = self.handlers[signal.SIGQUIT] = lambda number, frame: None
        self.start()
        self.assertIs(self.handlers[signal.SIGHUP], signal.SIG_IGN)
        self.assertIs(self.handlers[signal.SIGQUIT], mine)

    def test_reopen(self) -> None:
        """USR1 calls the function, and the handler before it, whatever that is."""
        for before in (signal.SIG_DFL, signal.SIG_IGN, None, NOTHING):
            self.setUp()
            self.handlers[signal.SIGUSR1] = before
            self.start()
            self.get(signal.SIGUSR1)
            self.assertEqual(self.calls, ["reopen"])
        self.setUp()
        self.handlers[signal.SIGUSR1] = lambda number, frame: self.calls.append("before")
        self.start()
        self.get(signal.SIGUSR1)
        self.assertEqual(self.calls, ["reopen", "before"])

    def test_twistd(self) -> None:
        """It finds the log file of C{twistd} in its handler, and opens it anew."""
        path = Path(self.mktemp())
        logFile = LogFile.fromFullPath(str(path))
        self.addCleanup(logFile.close)

        def rotateLog(number: int, frame: Any) -> None:
            logFile.rotate()

        self.handlers[signal.SIGUSR1] = rotateLog
        self.start()
        logFile.write("old\n")
        path.rename(f"{path}.old")
        self.get(signal.SIGUSR1)
        logFile.write("new\n")
        self.assertEqual(path.read_text(), "new\n")


class LogFileTests(SynchronousTestCase):
    """What happens to the log of C{twistd}."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "twistd.log"
        self.log = LogFile.fromFullPath(str(self.path))
        self.addCleanup(self.log.close)
        self.log.write("one\n")

    def files(self) -> dict[str, str]:
        """What is in the folder, after one more line."""
        self.log.write("two\n")
        return {each.name: each.read_text() for each in self.folder.iterdir()}

    def test_renamed(self) -> None:
        """A renamed log is opened anew, whether or not there is a new, empty file."""
        for creates in (False, True):
            self.setUp()
            self.path.rename(self.folder / "old")
            if creates:
                self.path.touch()
            openAnew(self.log)
            self.assertEqual(self.files(), {"old": "one\n", "twistd.log": "two\n"})

    def test_rotated(self) -> None:
        """One that still has its name is rotated."""
        openAnew(self.log)
        self.assertEqual(self.files(), {"twistd.log.1": "one\n", "twistd.log": "two\n"})

    def test_unusable(self) -> None:
        """One that can't be opened anew is written on, and a line says so."""
        self.path.rename(self.folder / "old")
        denied = PermissionError(13, os.strerror(13))
        with patch("builtins.open", side_effect=denied), recorded() as recorder:
            openAnew(self.log)
        self.assertEqual(self.files(), {"old": "one\ntwo\n"})
        self.assertIn("can't be opened anew: Permission denied;", recorder.texts()[0])
