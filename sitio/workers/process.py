"""
A worker process as the supervisor sees it.

Contract: the clock is passed in.
"""

from __future__ import annotations

import select
import signal
import socket
from contextlib import suppress
from typing import Any, Protocol as Typing

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from sitio.net.singleflight import SingleFlight
from sitio.telemetry.certificates import TLSMetrics
from sitio.workers.channel import Channel, decodeFirst

#: Seconds that the start of sitio waits for its first worker.
FIRST_WORKER_SECONDS = 30.0

#: Seconds that a worker may take to send its metrics.
ANSWER_SECONDS = 1.0

#: Seconds between the two ends of a worker: its channel closes and its process exits.
#: After that it is killed.
EXIT_SECONDS = 5.0


class WorkerListener(Typing):
    """What is called when a worker process reports something; the supervisor."""

    def workerReady(self, process: WorkerProcess) -> None:
        """It accepts clients."""

    def workerStopping(self, process: WorkerProcess) -> None:
        """It accepts no more clients."""

    def workerEnded(self, process: WorkerProcess) -> None:
        """Its process has exited, and all its messages have been read."""


class Pulse:
    """
    The signs of life of one worker; each message is one.

    @ivar missed: how many turns of the heartbeat have passed since the last.
    @ivar late: whether a request has gone unanswered for L{ANSWER_SECONDS}, and nothing has
        come since; true also before the first message, while the worker starts.
    """

    def __init__(self) -> None:
        self.missed = 0
        self.late = True

    def beat(self) -> None:
        """A message has come."""
        self.missed = 0
        self.late = False


class RemoteValue:
    """
    A value that the supervisor asks a worker for.

    @ivar value: the last received value, or L{None}.
    """

    def __init__(self, name: str, channel: Channel, clock: IReactorTime, pulse: Pulse) -> None:
        """
        @param name: the name of the request, and of the message with the value.
        """
        self.value: Any = None
        self._pulse = pulse
        self._name = name
        self._channel = channel
        self._clock = clock
        self._response: Deferred[None] | None = None
        # A worker that is late is not asked again until it has responded.
        self._requests: SingleFlight[None] = SingleFlight(self._request)

    def refresh(self) -> Deferred[None]:
        """
        Ask for the value.

        @return: fires when C{value} is new, when the worker has ended, and after
            L{ANSWER_SECONDS} at the latest.  It never fails.  A worker that starts,
            or that was late, is not waited for until something comes from it.
        """
        if self._pulse.late:
            return succeed(None)
        response = self._requests.run().addTimeout(ANSWER_SECONDS, self._clock)
        return response.addErrback(self._noResponse)

    def _noResponse(self, reason: Failure) -> None:
        # Otherwise the caller has cancelled.
        if reason.check(TimeoutError):
            self._pulse.late = True

    def _request(self) -> Deferred[None]:
        self._channel.send(self._name)
        response = self._response = Deferred()
        return response

    def received(self, value: Any) -> None:
        """The worker has sent the value, asked or unasked."""
        self.value = value
        self.ended()

    def ended(self) -> None:
        """Nothing more comes: callers of L{refresh} get on with what there is."""
        response, self._response = self._response, None
        if response is not None:
            response.callback(None)


class WorkerProcess(ProcessProtocol):
    """
    One worker process, from its start to its end.

    @ivar number: the worker's number.
    @ivar startedAt: when it was started, in seconds on the clock.
    @ivar channel: the supervisor's end of its L{Channel}.
    @ivar ready: whether it has begun to accept clients.
    @ivar ending: whether its process has exited or its channel has closed.
    @ivar accepts: whether it accepts clients.
    @ivar pulse: its L{Pulse}.
    @ivar snapshot: its L{SidecarSnapshot<sitio.telemetry.snapshot.SidecarSnapshot>}.
    @ivar exchanges: its L{ExchangeLists<sitio.telemetry.records.ExchangeLists>}.
    @ivar startError: why it can't start, if it has said so.
    @ivar exitReason: how it has ended; empty before that.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, number: int, listener: WorkerListener) -> None:
        """
        @param number: the worker's number, from 1.
        """
        self.number = number
        self.startedAt = clock.seconds()
        self.ready = False
        self.ending = False
        self.accepts = False
        self.pulse = Pulse()
        self.startError: str | None = None
        self.exitReason = ""
        self.channel = Channel(self._messageReceived, self._halfEnded)
        self.snapshot = RemoteValue("snapshot", self.channel, clock, self.pulse)
        self.exchanges = RemoteValue("exchanges", self.channel, clock, self.pulse)
        self._clock = clock
        self._listener = listener
        # The process exits and the channel closes, in either order.
        self._endsLeft = 2
        self._killTimer: IDelayedCall | None = None
        # While it prepares a configuration: fires with its mistakes.
        self._preparing: Deferred[list[Any]] | None = None

    def prepare(self, content: Any) -> Deferred[list[Any]]:
        """
        Let it prepare another configuration.

        @return: its mistakes; one that has ended says so.
        """
        if self.ending:
            return succeed([])
        self._preparing = Deferred()
        self.channel.send("prepare", content)
        return self._preparing

    def _prepared(self, mistakes: list[Any]) -> None:
        preparing, self._preparing = self._preparing, None
        if preparing is not None and not preparing.called:
            preparing.callback(mistakes)

    @property
    def tls(self) -> list[TLSMetrics]:
        """What it has said last of the TLS of its ports and upstreams."""
        return [] if self.snapshot.value is None else self.snapshot.value["tls"]

    def kill(self) -> None:
        """Kill the process, if it has not exited."""
        self.signal("KILL")

    def signal(self, signal: str | int) -> None:
        """Send a signal to the process, if it has not exited."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(signal)

    def _messageReceived(self, name: str, content: Any) -> None:
        self.pulse.beat()
        if name == "ready":
            self.ready = self.accepts = True
            self._listener.workerReady(self)
        elif name == "stopping":
            self.accepts = False
            self._listener.workerStopping(self)
        elif name == "failed":
            self.startError = content
        elif name == "snapshot":
            self.snapshot.received(content)
        elif name == "exchanges":
            self.exchanges.received(content)
        elif name == "prepared":
            self._prepared(content)

    def processEnded(self, reason: Failure) -> None:
        self.exitReason = _describeExit(reason.value)
        self._halfEnded()

    def _halfEnded(self) -> None:
        self.ending = True
        self._prepared([("", 0, "", f"worker {self.number} has ended meanwhile")])
        self._endsLeft -= 1
        if self._endsLeft:
            # The second end may never come: a child process may hold the channel open, a
            # thread may keep the process from exiting.
            self._killTimer = self._clock.callLater(EXIT_SECONDS, self._forceEnd)
            return
        if self._killTimer is not None and self._killTimer.active():
            self._killTimer.cancel()
        self.snapshot.ended()
        self.exchanges.ended()
        self._listener.workerEnded(self)

    def _forceEnd(self) -> None:
        self.kill()
        self.channel.abort()


def _describeExit(status: Any) -> str:
    if status.signal is not None:
        return f"ended by {signal.Signals(status.signal).name}"
    return f"ended with status {status.exitCode}"


def waitForFirstWorker(
    channel: socket.socket, output: socket.socket, seconds: float = FIRST_WORKER_SECONDS
) -> str | None:
    """
    Wait for the first message of a worker.  This blocks: the reactor does not run yet.

    The message stays in the socket, to be read again.

    @param channel: the supervisor's socket of the worker channel.
    @param output: the other end of the worker's standard output.
    @param seconds: the time to wait at most.

    @return: why the worker can't start, as a sentence; L{None} if it is ready, or has
        sent nothing by then.
    """
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    if not poll.poll(seconds * 1000):
        return None
    received = channel.recv(65536, socket.MSG_PEEK)
    if received:
        name, content = decodeFirst(received)
        return str(content) if name == "failed" else None
    try:
        printed = output.recv(65536, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        printed = b""
    *_, last = b"", *printed.splitlines()
    return f"a worker has ended as soon as it was started: {last.decode('utf-8', 'replace')}"
