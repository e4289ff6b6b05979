"""
The access log: one line for each exchange, as JSON or in the common log format.

L{AccessLog} observes exchanges; it exists only if C{--access-log} asks for it.  When an
exchange ends, it notes an L{Entry<sitio.telemetry.logformat.Entry>}.  It makes lines of
L{BATCH_SIZE} entries at a time, and every L{INTERVAL_SECONDS} a thread writes them to
the L{LogFile}.  So a slow disk, a full disk or a pipe without a reader blocks that thread
only; the queue is bounded, and lines that do not fit are dropped, counted and reported
once.

The reactor's thread makes the lines: a thread that computes would make the reactor
wait for Python's global lock for longer than a batch takes.

Contract: clock, log, threads and signals are passed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.errors import CannotStart
from sitio.interfaces import IExchange, IExchangeObserver
from sitio.net.periodic import Periodic
from sitio.net.threads import callInThread
from sitio.telemetry.logfile import LogFile
from sitio.telemetry.logformat import FORMATS, Entry, LineFormat
from sitio.telemetry.records import whoAnswered
from sitio.telemetry.reopen import callOnReopenSignal
from sitio.telemetry.sidecar import IDropCounts

#: Seconds between two writes: short enough for a person who watches the file.
INTERVAL_SECONDS = 0.25

#: Entries of which lines are made at a time; it takes less than a millisecond.
BATCH_SIZE = 64

#: Bytes of lines that wait to be written; as many again may be in the thread.  These
#: are some 15,000 lines, enough to bridge a short delay of the disk.
MAX_QUEUED_BYTES = 4 * 1024 * 1024

#: Seconds without a dropped line after which the log reports that it works again.
RECOVERY_SECONDS = 10.0

#: Seconds that the last lines may take when sitio stops.
STOP_SECONDS = 2.0


@implementer(IExchangeObserver, IDropCounts)
class AccessLog(Service):
    """
    Writes a line for each exchange, while it runs.

    @ivar droppedLines: how many lines were dropped.
    """

    def __init__(
        self,
        clock: IReactorTime,
        lines: LineFormat,
        logFile: LogFile,
        run: Callable[..., Deferred[Any]],
        *,
        onReopen: Callable[[Callable[[], Any]], Any],
        now: Callable[[], float] = time.time,
        log: Logger | None = None,
    ) -> None:
        """
        @param lines: the format.
        @param run: runs a call with its arguments in a thread.
        @param onReopen: takes a function and calls it when the file is to be opened anew.
        @param now: gives seconds since 1970.
        """
        self.droppedLines = 0
        self._clock = clock
        self._lines = lines
        self._logFile = logFile
        self._run = run
        self._onReopen = onReopen
        self._now = now
        self._log = Logger(namespace="sitio.telemetry.accesslog") if log is None else log
        self._turns = Periodic(
            clock, INTERVAL_SECONDS, self._write, log=self._log, whenFails="The access log failed"
        )
        self._entries: list[Entry] = []
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._writing: Deferred[Any] | None = None
        # When a line was dropped last; None once the log has recovered.
        self._droppedAt: float | None = None
        self._ended: Deferred[None] | None = None

    @property
    def dropped(self) -> dict[str, int]:
        """See L{IDropCounts}."""
        return {"accessLogLines": self.droppedLines}

    def exchangeFinished(self, exchange: IExchange) -> None:
        """Note one exchange.  See L{IExchangeObserver}."""
        request = exchange.request
        self._entries.append(
            (
                exchange.began,
                exchange.clientAddress,
                request.version,
                request.receivedLine,
                exchange.id,
                request.headers,
                whoAnswered(exchange),
                exchange.acted,
                exchange.ownLabels,
                exchange.failure,
                exchange.status,
                exchange.upstreamStatus,
                exchange.attempts,
                exchange.duration,
                exchange.policyTime,
                exchange.connectTime,
                exchange.upstreamTime,
                exchange.bytesIn,
                exchange.bytesOut,
            )
        )
        if len(self._entries) >= BATCH_SIZE:
            self._makeLines()

    def _makeLines(self) -> None:
        """Make lines of the entries that were noted."""
        entries, self._entries = self._entries, []
        if not entries:
            return
        if self._bytes >= MAX_QUEUED_BYTES:
            self._drop(len(entries), "lines are made faster than they can be written")
            return
        offset = self._now() - self._clock.seconds()
        line = self._lines.line
        lines = "".join([line(each, offset) for each in entries]).encode("ascii")
        self._waiting.append(lines)
        self._bytes += len(lines)

    # Writing: a service.

    def startService(self) -> None:
        """
        Begin to write every L{INTERVAL_SECONDS}.

        @raise CannotStart: the file can't be opened.
        """
        try:
            self._logFile.open()
        except OSError as error:
            why = f"{self._logFile.path}: {error.strerror}"
            raise CannotStart(f"sitio: --access-log can't write to {why}") from error
        Service.startService(self)
        self._onReopen(self.reopen)
        self._turns.startService()

    def reopen(self) -> None:
        """Open the file anew at once, as it was renamed; an idle sitio creates the new one too."""
        self._logFile.reopen()
        if self._writing is None and self._turns.running:
            self._send()

    def _write(self) -> None:
        """Write all lines that wait, unless the last write is still going on."""
        self._makeLines()
        if self._waiting and self._writing is None:
            self._send()

    def _send(self) -> None:
        data, self._waiting, self._bytes = b"".join(self._waiting), [], 0
        self._writing = maybeDeferred(self._run, self._logFile.write, data)
        self._writing.addErrback(self._broke, data.count(b"\n")).addCallback(self._written)

    def _broke(self, reason: Failure, lines: int) -> tuple[int, None]:
        # No thread could be started, or sitio has a bug.  Later lines are still tried.
        if self._droppedAt is None:
            self._log.failure("The access log was not written", reason)
        self._drop(lines, reason.getErrorMessage())
        return 0, None

    def _written(self, result: tuple[int, OSError | None]) -> None:
        self._writing = None
        unwritten, error = result
        if error is not None:
            self._drop(unwritten, error.strerror or str(error))
        elif self._droppedAt is not None:
            self._reportRecovery(self._droppedAt)
        if self._ended is not None:
            self._finish(self._ended)

    def _reportRecovery(self, droppedAt: float) -> None:
        if self._clock.seconds() - droppedAt >= RECOVERY_SECONDS:
            self._droppedAt = None
            self._log.info(
                "The access log works again; {dropped} lines were dropped",
                dropped=self.droppedLines,
            )

    def _drop(self, lines: int, why: str) -> None:
        self.droppedLines += lines
        if self._droppedAt is None:
            self._log.warn(
                "The access log drops lines: {why}",
                why=why,
                path=self._logFile.path,
            )
        self._droppedAt = self._clock.seconds()

    def stopService(self) -> Deferred[None]:
        """Write the lines that are left, for at most L{STOP_SECONDS}."""
        Service.stopService(self)
        if not self._turns.running:
            return succeed(None)
        self._turns.stopService()
        self._makeLines()
        ended = self._ended = Deferred()
        if self._writing is None:
            self._finish(ended)
        ended.addTimeout(STOP_SECONDS, self._clock).addErrback(self._late)
        return ended.addCallback(self._reportDropped)

    def _finish(self, ended: Deferred[None]) -> None:
        if self._waiting:
            self._send()
        elif not ended.called:
            self._logFile.close()
            ended.callback(None)

    def _late(self, reason: Failure) -> None:
        waiting, self._waiting = self._waiting, []
        lines = self._logFile.left + sum(each.count(b"\n") for each in waiting)
        self._drop(lines, f"writing the last lines takes longer than {STOP_SECONDS:g} seconds")

    def _reportDropped(self, result: None) -> None:
        if self.droppedLines:
            self._log.warn("The access log has dropped {dropped} lines", dropped=self.droppedLines)


def makeAccessLog(
    reactor: Any, asked: tuple[str, str | None], query: bool = False, stdout: int = 1
) -> AccessLog:
    """
    Make the access log that C{--access-log} asks for.

    @param asked: format and path; see L{accessLogTarget<sitio.config.values.accessLogTarget>}.
    @param query: write targets with their query.
    @param stdout: the descriptor of standard output.
    """
    formatName, path = asked
    return AccessLog(
        reactor,
        FORMATS[formatName](query),
        LogFile(path, stdout),
        partial(callInThread, reactor),
        onReopen=partial(callOnReopenSignal, reactor),
    )
