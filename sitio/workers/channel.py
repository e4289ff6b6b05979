"""
Several processes behind one port: what passes between the parent and one worker.

They talk over a socket of their own, in L{Channel}; a second socket is the worker's
standard output, which carries its log to L{Output}.  When the first is closed,
the other side has gone, whatever came of it.  L{Process} is a worker as its
parent sees it.

Contract: clock and log are passed in.  Both sides are sitio's own, of one
version: what they say is not checked.
"""

from __future__ import annotations

import json
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Any, Protocol as Typing

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.logger import LogEvent, Logger, eventAsJSON, eventFromJSON
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

#: Seconds that the start waits for the first worker; later ones are not waited for.
START = 30.0

#: Seconds that a worker may take over its metrics.
ANSWER = 1.0

#: Seconds that it may take from one end to the other: of its process, and of what
#: it has to say.
PATIENCE = 5.0

#: Bytes of one message: the metrics of a full table are 400 KiB.
MAX_MESSAGE = 16 * 1024 * 1024

#: Bytes of a line that a worker logs; what is longer is logged in pieces.
MAX_LINE = 1024 * 1024

_RECORD = "\x1e"
_LENGTH = Struct("!I")


def framed(word: str, content: Any = None) -> bytes:
    """One message as bytes."""
    data = json.dumps([word, content]).encode()
    return _LENGTH.pack(len(data)) + data


class Channel(Int32StringReceiver):
    """
    One end of the talk between the parent and a worker: a word and some plain data
    each time.

    The worker says C{failed} with a sentence why it can't start, or C{ready} when
    it accepts clients; C{snapshot} with its L{SidecarSnapshot}, when it is asked and
    when it ends; C{exchanges} with its L{ExchangeLists}, when it is asked; and C{leaving}
    when it accepts no more clients.  The parent says C{snapshot} and C{exchanges} to
    ask for them, C{absent} with the numbers of workers that are not there, in whose
    place others accept clients, C{reopen} when its files were renamed, C{drain} to
    have its clients go elsewhere, C{stop} to let it finish what is in flight, and
    C{end} to let it break that off.
    """

    MAX_LENGTH = MAX_MESSAGE
    transport: Any = None

    def __init__(self, heard: Callable[[str, Any], None], lost: Callable[[], None]) -> None:
        self._heard = heard
        self._lost = lost

    def tell(self, word: str, content: Any = None) -> None:
        """Say this, if anybody still listens."""
        if self.transport is not None:
            self.transport.write(framed(word, content))

    def abort(self) -> None:
        """Hear no more."""
        if self.transport is not None:
            self.transport.abortConnection()

    def stringReceived(self, data: bytes) -> None:
        self._heard(*json.loads(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost()


class Adopted(Factory):
    """Has one protocol, for a socket that a reactor adopts."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        return self._protocol


def asRecord(event: LogEvent) -> str:
    """An event of the log as the line of text from which L{Output} makes it again."""
    failure = event.get("log_failure")
    if failure is not None:
        event = {**event, "log_error": failure.getErrorMessage()}
    return f"{_RECORD}{eventAsJSON(event)}\n"


class Output(Protocol):
    """
    Logs what a worker prints: events as they were, other lines as text, with the
    worker's number as C{worker}.
    """

    def __init__(self, number: int, log: Logger) -> None:
        self._number = number
        self._log = log
        self._rest = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for each in lines:
            self._publish(each.decode("utf-8", "replace"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._rest:
            self._publish(self._rest.decode("utf-8", "replace"))

    def _publish(self, line: str) -> None:
        event: LogEvent = {}
        if line.startswith(_RECORD):
            # It may be cut off, where the worker was killed.
            with suppress(ValueError, LookupError):
                event = eventFromJSON(line.removeprefix(_RECORD))
        if not event:
            self._log.warn("{line}", line=line, worker=self._number, log_system=self._system())
            return
        if "log_failure" in event:
            # What was raised can't travel, but what it says can.
            event["log_failure"].value = RuntimeError(event["log_error"])
        level = event.get("log_level")
        system = event.get("log_system") or (
            f"{event.get('log_namespace', '-')}#{level.name if level else '-'}"
        )
        self._log.observer({**event, "worker": self._number, "log_system": self._system(system)})

    def _system(self, system: str = "-") -> str:
        return f"{system} worker={self._number}"


class Parent(Typing):
    """What a worker's process needs of its parent."""

    def ready(self, process: Process) -> None:
        """It accepts clients."""

    def leaving(self, process: Process) -> None:
        """It accepts no more."""

    def over(self, process: Process) -> None:
        """It has ended, and nothing more will come of it."""


class Question:
    """
    What is asked of a worker again and again.

    @ivar answer: its last answer.
    """

    def __init__(self, word: str, talk: Channel, clock: IReactorTime) -> None:
        self.answer: Any = None
        self._word = word
        self._talk = talk
        self._clock = clock
        self._asked: list[Deferred[None]] = []
        self._owed = False

    def ask(self) -> Deferred[None]:
        """Ask; fires when C{answer} is new, or will not be for now."""
        if not self._owed:
            self._owed = True
            self._talk.tell(self._word)
        answer: Deferred[None] = Deferred(self._asked.remove)
        self._asked.append(answer)
        return answer.addTimeout(ANSWER, self._clock).addErrback(lambda reason: None)

    def answered(self, content: Any) -> None:
        """This is the answer."""
        self.answer = content
        self._owed = False
        self.over()

    def over(self) -> None:
        """There will be no other for now."""
        asked, self._asked = self._asked, []
        for each in asked:
            each.callback(None)


class Process(ProcessProtocol):
    """
    One worker's process as its parent sees it, from its start to its end.

    @ivar number: its place among the workers.
    @ivar began: when it was started.
    @ivar accepts: whether it accepts clients.
    @ivar snapshot: the L{Question} for its L{SidecarSnapshot}.
    @ivar exchanges: the L{Question} for its L{ExchangeLists}.
    @ivar refusal: why it can't start, if it has said so.
    @ivar why: how it has ended.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, number: int, parent: Parent) -> None:
        """
        @param number: its place among the workers, from 1.
        """
        self.number = number
        self.began = clock.seconds()
        self.accepts = False
        self.refusal: str | None = None
        self.why = ""
        self.talk = Channel(self._heard, self._over)
        self.snapshot = Question("snapshot", self.talk, clock)
        self.exchanges = Question("exchanges", self.talk, clock)
        self._clock = clock
        self._parent = parent
        # It has ended when it has been reaped and all that it said has been read.
        self._left = 2
        self._insistence: Any = None

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def _heard(self, word: str, content: Any) -> None:
        if word == "ready":
            self.accepts = True
            self._parent.ready(self)
        elif word == "leaving":
            self.accepts = False
            self._parent.leaving(self)
        elif word == "failed":
            self.refusal = content
        elif word == "snapshot":
            self.snapshot.answered(content)
        elif word == "exchanges":
            self.exchanges.answered(content)

    def processEnded(self, reason: Failure) -> None:
        self.why = _howItEnded(reason.value)
        self._over()

    def _over(self) -> None:
        self._left -= 1
        if self._left:
            # A process of its own may hold the socket open, a thread may not end.
            self._insistence = self._clock.callLater(PATIENCE, self._insist)
            return
        if self._insistence.active():
            self._insistence.cancel()
        self.snapshot.over()
        self.exchanges.over()
        self._parent.over(self)

    def _insist(self) -> None:
        self.kill()
        self.talk.abort()


def _howItEnded(end: Any) -> str:
    if end.signal is not None:
        return f"ended by {signal.Signals(end.signal).name}"
    return f"ended with status {end.exitCode}"


def whyNot(talk: socket.socket, output: socket.socket, seconds: float = START) -> str | None:
    """
    Wait for a worker's first word, before the reactor runs; why it can't start, if
    it can't.  All stays there to be read.
    """
    poll = select.poll()
    poll.register(talk, select.POLLIN)
    if not poll.poll(seconds * 1000):
        return None
    said = talk.recv(65536, socket.MSG_PEEK)
    if said:
        [length] = _LENGTH.unpack_from(said)
        word, content = json.loads(said[_LENGTH.size : _LENGTH.size + length])
        return str(content) if word == "failed" else None
    try:
        printed = output.recv(65536, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        printed = b""
    *_, last = b"", *printed.splitlines()
    return f"a worker has ended as soon as it was started: {last.decode('utf-8', 'replace')}"
