"""
The access log: one line for each exchange, of JSON or in the common log format.

L{AccessLog} is an observer, there only when it was asked for.  Of an exchange
that ends it takes down what its line needs, and no more.  It makes lines of
L{SLICE} of them at a time, and four times a second a thread writes what there is
to the L{LogFile}.  So a disk that is slow or full, or a pipe that nobody reads,
holds up that thread and nothing else: the loop goes on, what waits is bounded,
and lines beyond that are dropped, counted, and spoken of once.

The loop makes the lines, and not the thread: a thread that computes keeps the
loop waiting for Python's lock, for longer than a slice takes.

What clients send can't forge a line: nothing but printable ASCII gets into one,
quotes and backslashes escaped, and none is longer than
L{ATOMIC<sitio.telemetry.logfile.ATOMIC>} bytes.

Contract: clock, log, threads and signals are passed in.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from functools import lru_cache, partial
from json.encoder import encode_basestring_ascii as _escaped
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.errors import CannotStart, SitioError
from sitio.interfaces import IExchange, IExchangeObserver
from sitio.net.periodic import Periodic
from sitio.telemetry.logfile import LogFile, aside, onUserSignal
from sitio.telemetry.snapshot import ILoses, stepsOf, whoAnswered

#: Seconds between two batches: soon enough for who watches the file.
INTERVAL = 0.25

#: Exchanges of which lines are made at a time; others wait less than a millisecond
#: for that.
SLICE = 64

#: Bytes of lines that wait to be written, and as many may be on their way: some
#: 15,000 lines, which a disk that is slow for a moment catches up with.
MAX_WAITING = 4 * 1024 * 1024

#: Characters of texts in a line, quotes and escapes included; longer ones are cut.
#: Together they leave room within L{ATOMIC<sitio.telemetry.logfile.ATOMIC>}.
MAX_PATH = 1024
MAX_FAILURE = 256
MAX_NAME = 64

#: Names of policies in a line: more is a policy that asks for retry after retry.
MAX_ACTED = 8

#: Seconds without a loss after which the log counts as whole again.
QUIET = 10.0

#: Seconds for the last lines when sitio stops.
PATIENCE = 2.0

#: A request id that is taken from a client: what tracing tools make fits easily.
_isId = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}").fullmatch

#: What a line is made of, in the order in which L{AccessLog} takes it down.
Entry = tuple[Any, ...]


@lru_cache(512)
def quoted(text: str, most: int = MAX_NAME) -> str:
    """A text in quotes, as JSON has it, in printable ASCII and at most so long."""
    whole: str = _escaped(text[: most - 2])
    # Full of what needs escapes of up to six characters: nobody wants to read that.
    return whole if len(whole) <= most else _escaped(text[: most // 6 - 1])


class Lines:
    """
    Makes lines of what was taken down.

    An exchange has the id that its client gave it, in X-Request-Id, or else one
    that is made here: no two processes make the same.
    """

    #: The time of day, by the second, as this kind of line has it.
    dated: Callable[[float], str]

    def __init__(self, query: bool = False) -> None:
        """
        @param query: show targets with their query, which may hold secrets.
        """
        self._query = query
        self._prefix = os.urandom(6).hex()
        self._number = 0
        self._without: Any = None
        self._second = -1
        self._date = ""

    def line(self, entry: Entry, offset: float) -> str:
        """
        The line of one exchange, with its end.

        @param offset: seconds from the time in the entry to that since 1970.
        """
        raise NotImplementedError

    def idOf(self, headers: Any) -> str:
        """The id of an exchange, by the fields of its request."""
        lines = headers.lines
        # Most bring none; those of one client are often the same, and shared.
        if lines is None or lines is not self._without:
            given = headers.getAll("X-Request-Id")
            if len(given) == 1 and _isId(given[0]):
                return str(given[0])
            self._without = lines
        self._number += 1
        return f"{self._prefix}-{self._number:x}"

    def date(self, second: int) -> str:
        """The time of day; that of the last line, as a rule."""
        if second != self._second:
            self._second = second
            self._date = self.dated(second)
        return self._date

    def target(self, line: Any) -> str:
        """What was asked for."""
        target: str = line.target if self._query else line.path
        return target


# Most come again, with the same answer; the others cost less than a megabyte.
@lru_cache(512)
def _asJson(
    method: str,
    target: str,
    version: str,
    status: int | None,
    upstream: int | None,
    answeredBy: str | None,
) -> str:
    return (
        f'"method":{quoted(method)},"path":{quoted(target, MAX_PATH)},"protocol":"HTTP/{version}"'
        f',"status":{status or "null"},"upstreamStatus":{upstream or "null"}'
        f',"answeredBy":{quoted(answeredBy) if answeredBy else "null"}'
    )


@lru_cache(512)
def _asCommon(method: str, target: str, version: str, status: int | None) -> str:
    request = f"{quoted(method)[1:-1]} {quoted(target, MAX_PATH)[1:-1]} HTTP/{version}"
    return f'"{request}" {status or 0:03d}'


# Faster than the same as an f-string.
_OBJECT = (
    '{"time":"%s.%03dZ","id":"%s","client":%s,%s,"duration":%.6f,"steps":{"policies":%.6f'
    ',"connection":%.6f,"upstream":%.6f,"transfer":%.6f},"bytesIn":%d,"bytesOut":%d'
    ',"attempts":%d%s}\n'
)


class JsonLines(Lines):
    """
    Each line is an object, with the names of
    L{ExchangeFacts<sitio.telemetry.snapshot.ExchangeFacts>} for what is in both.
    What does not apply is left out, or C{null}.
    """

    @staticmethod
    def dated(when: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))

    def line(self, entry: Entry, offset: float) -> str:
        """See L{Lines}."""
        began, client, version, line, headers, answeredBy, acted, failure, *numbers = entry
        status, upstreamStatus, attempts, duration, policies, connection, upstream, *sizes = numbers
        second, millis = divmod(int((began + offset) * 1000), 1000)
        more = ""
        if acted:
            more = f',"acted":[{",".join([quoted(each) for each in acted[:MAX_ACTED]])}]'
        if failure is not None:
            side = failure.side.value if isinstance(failure, SitioError) else "sitio"
            more += f',"side":"{side}","failure":{quoted(str(failure), MAX_FAILURE)}'
        asked = _asJson(line.method, self.target(line), version, status, upstreamStatus, answeredBy)
        return _OBJECT % (
            self.date(second),
            millis,
            self.idOf(headers),
            quoted(client),
            asked,
            duration,
            *stepsOf(policies, connection, upstream, duration).values(),
            *sizes,
            attempts,
            more,
        )


_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class CommonLines(Lines):
    """
    The common log format, as web servers have it since 1993.

    It has a place for one status, which is the one that was sent.  Where the
    upstream had said another, that and who replaced it stand behind the seven parts.
    """

    @staticmethod
    def dated(when: float) -> str:
        day, month, rest = time.strftime("%d %m %Y:%H:%M:%S", time.gmtime(when)).split()
        # In English, whatever the language of this process.
        return f"[{day}/{_MONTHS[int(month) - 1]}/{rest} +0000]"

    def line(self, entry: Entry, offset: float) -> str:
        """See L{Lines}."""
        began, client, version, line, _, answeredBy, _, _, status, upstream, *_, size = entry
        more = ""
        if status != upstream and upstream is not None:
            more = f" upstreamStatus={upstream} answeredBy={quoted(answeredBy or '-')}"
        date = self.date(int(began + offset))
        asked = _asCommon(line.method, self.target(line), version, status)
        return f"{quoted(client)[1:-1]} - - {date} {asked} {size or '-'}{more}\n"


#: By the names that C{--access-log} knows.
FORMATS: dict[str, type[Lines]] = {"json": JsonLines, "common": CommonLines}


@implementer(IExchangeObserver, ILoses)
class AccessLog(Service):
    """
    Writes lines while it runs.

    @ivar dropped: how many lines were lost.
    """

    def __init__(
        self,
        clock: IReactorTime,
        lines: Lines,
        logFile: LogFile,
        run: Callable[..., Deferred[Any]],
        *,
        onReopen: Callable[[Callable[[], Any]], Any],
        now: Callable[[], float] = time.time,
        log: Logger | None = None,
    ) -> None:
        """
        @param run: calls what may take its time, with its arguments, elsewhere.
        @param onReopen: is told what to call when the file is to be opened anew.
        @param now: the time of day.
        """
        self.dropped = 0
        self._clock = clock
        self._lines = lines
        self._outlet = logFile
        self._run = run
        self._onReopen = onReopen
        self._now = now
        self._log = Logger(namespace="sitio.telemetry.accesslog") if log is None else log
        self._turns = Periodic(
            clock, INTERVAL, self._write, log=self._log, whenFails="The access log failed"
        )
        self._entries: list[Entry] = []
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._writing: Deferred[Any] | None = None
        # When a line was lost last, until the log is whole again.
        self._lostAt: float | None = None
        self._ended: Deferred[None] | None = None

    @property
    def losses(self) -> dict[str, int]:
        """See L{ILoses}."""
        return {"accessLogLines": self.dropped}

    def exchangeFinished(self, exchange: IExchange) -> None:
        """Take down one exchange.  See L{IExchangeObserver}."""
        request = exchange.request
        self._entries.append(
            (
                exchange.began,
                exchange.clientAddress,
                request.version,
                request.line,
                request.headers,
                whoAnswered(exchange),
                exchange.acted,
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
        if len(self._entries) >= SLICE:
            self._makeLines()

    def _makeLines(self) -> None:
        """Make lines of what was taken down."""
        entries, self._entries = self._entries, []
        if not entries:
            return
        if self._bytes >= MAX_WAITING:
            self._lose(len(entries), "it is written more slowly than lines come")
            return
        offset = self._now() - self._clock.seconds()
        line = self._lines.line
        lines = "".join([line(each, offset) for each in entries]).encode("ascii")
        self._waiting.append(lines)
        self._bytes += len(lines)

    # Writing: a service.

    def startService(self) -> None:
        """
        From now on write four times a second.

        @raise CannotStart: the file can't be opened.
        """
        try:
            self._outlet.open()
        except OSError as error:
            why = f"{self._outlet.path}: {error.strerror}"
            raise CannotStart(f"sitio: --access-log can't write to {why}") from error
        Service.startService(self)
        self._onReopen(self.reopen)
        self._turns.startService()

    def reopen(self) -> None:
        """Open the file anew, as it was renamed; and at once, even if nothing comes."""
        self._outlet.reopen()
        if self._writing is None and self._turns.running:
            self._send()

    def _write(self) -> None:
        """Have all that waits written, unless something is being written still."""
        self._makeLines()
        if self._waiting and self._writing is None:
            self._send()

    def _send(self) -> None:
        data, self._waiting, self._bytes = b"".join(self._waiting), [], 0
        self._writing = maybeDeferred(self._run, self._outlet.write, data)
        self._writing.addErrback(self._broke, data.count(b"\n")).addCallback(self._written)

    def _broke(self, reason: Failure, lines: int) -> tuple[int, None]:
        # That there is no thread to be had, or a mistake of sitio's own, must not keep
        # what comes from being written.
        if self._lostAt is None:
            self._log.failure("The access log was not written", reason)
        self._lose(lines, reason.getErrorMessage())
        return 0, None

    def _written(self, result: tuple[int, OSError | None]) -> None:
        self._writing = None
        lost, error = result
        if error is not None:
            self._lose(lost, error.strerror or str(error))
        elif self._lostAt is not None and self._clock.seconds() - self._lostAt >= QUIET:
            self._lostAt = None
            self._log.info(
                "The access log is written again; {dropped} lines were lost", dropped=self.dropped
            )
        if self._ended is not None:
            self._finish(self._ended)

    def _lose(self, lines: int, why: str) -> None:
        self.dropped += lines
        if self._lostAt is None:
            self._log.warn(
                "The access log loses lines, until this is mended: {why}",
                why=why,
                path=self._outlet.path,
            )
        self._lostAt = self._clock.seconds()

    def stopService(self) -> Deferred[None]:
        """Write what there is, for L{PATIENCE} at most."""
        Service.stopService(self)
        if not self._turns.running:
            return succeed(None)
        self._turns.stopService()
        self._makeLines()
        ended = self._ended = Deferred()
        if self._writing is None:
            self._finish(ended)
        ended.addTimeout(PATIENCE, self._clock).addErrback(self._late)
        return ended.addCallback(self._sayLost)

    def _finish(self, ended: Deferred[None]) -> None:
        if self._waiting:
            self._send()
        elif not ended.called:
            self._outlet.close()
            ended.callback(None)

    def _late(self, reason: Failure) -> None:
        waiting, self._waiting = self._waiting, []
        lines = self._outlet.left + sum(each.count(b"\n") for each in waiting)
        self._lose(lines, "what is being written takes too long")

    def _sayLost(self, result: None) -> None:
        if self.dropped:
            self._log.warn("{dropped} lines of the access log were lost", dropped=self.dropped)


def accessLog(
    reactor: Any, asked: tuple[str, str | None], query: bool = False, stdout: int = 1
) -> AccessLog:
    """
    One on a reactor.

    @param asked: see L{accessLogTarget<sitio.config.values.accessLogTarget>}.
    @param stdout: the descriptor of standard output.
    """
    form, path = asked
    return AccessLog(
        reactor,
        FORMATS[form](query),
        LogFile(path, stdout),
        partial(aside, reactor),
        onReopen=partial(onUserSignal, reactor),
    )
