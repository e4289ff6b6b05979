"""
The worker channel: messages between the supervisor and one worker.

Each worker has a socket of its own to the supervisor.  When one side closes it, the other
side knows that the process has gone, however it ended.

A message is a name and plain data (JSON), with its length in front.

From the worker:

  - C{ready}: it accepts clients.
  - C{failed}, with a sentence: it can't start.
  - C{snapshot}, with a L{SidecarSnapshot<sitio.telemetry.snapshot.SidecarSnapshot>}: the
    response to C{snapshot}; also sent unasked at the end.
  - C{exchanges}, with L{ExchangeLists<sitio.telemetry.records.ExchangeLists>}: the response to
    C{exchanges}.
  - C{pong}: the response to C{ping}.
  - C{stopping}: it accepts no more clients.
  - C{prepared}, with its mistakes: the response to C{prepare}.

From the supervisor:

  - C{snapshot} and C{exchanges}: requests for these.
  - C{ping}: a question whether it is alive.
  - C{absent}, with worker numbers: accept clients in place of these workers too.
  - C{reopen}: files were renamed, open them anew.
  - C{prepare}, with the C{text} of a configuration file and the C{number} of the generation:
    make all of it, and change nothing yet.
  - C{adopt}, with the number: use what was prepared; or C{discard} it.
  - C{drain}: make clients go elsewhere.
  - C{stop}: finish what is in flight, and exit.
  - C{abort}: exit without finishing it.

Both sides are the same version of sitio, so messages are not validated.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any

from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from sitio.net.turns import Steps, atOnce, writeJson

#: The longest message.  The metrics of a full table of endpoints take 400 KiB.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_LENGTH = Struct("!I")


def writeMessage(name: str, content: Any = None) -> Steps[list[bytes]]:
    """Write one message, in parts."""
    data = yield from writeJson([name, content], levels=4)
    data[0] = _LENGTH.pack(sum(map(len, data))) + data[0]
    return data


def encodeMessage(name: str, content: Any = None) -> bytes:
    """One message as bytes."""
    return b"".join(atOnce(writeMessage(name, content)))


def decodeFirst(data: bytes) -> tuple[str, Any]:
    """Name and content of the message that these bytes begin with."""
    [length] = _LENGTH.unpack_from(data)
    name, content = json.loads(data[_LENGTH.size : _LENGTH.size + length])
    return name, content


@implementer(IPullProducer)
class Channel(Int32StringReceiver):
    """
    One end of a worker channel.

    A long message leaves in parts, each when the one before has left: to join and to send a
    megabyte takes longer than a turn of the reactor.  Others wait for its end.
    """

    MAX_LENGTH = MAX_MESSAGE_BYTES
    transport: Any = None

    def __init__(self, onMessage: Callable[[str, Any], None], onClosed: Callable[[], None]) -> None:
        """
        @param onMessage: is called with the name and the content of each message.
        @param onClosed: is called once, when either side has closed the channel.
        """
        self._onMessage = onMessage
        self._onClosed = onClosed
        self._parts: deque[bytes] = deque()

    def send(self, name: str, content: Any = None) -> None:
        """Send a message; does nothing while the channel is not open."""
        message = encodeMessage(name, content)
        if self._parts:
            self._parts.append(message)
        elif self.transport is not None:
            self.transport.write(message)

    def write(self, parts: list[bytes]) -> None:
        """Send a message that is written; does nothing while the channel is not open."""
        if self.transport is None:
            return
        isFree = not self._parts
        self._parts.extend(parts)
        if isFree:
            self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """What was written has left."""
        self.transport.write(self._parts.popleft())
        if not self._parts:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        """The channel is closed."""
        self._parts.clear()

    def abort(self) -> None:
        """Close the channel at once."""
        if self.transport is not None:
            self.transport.abortConnection()

    def stringReceived(self, data: bytes) -> None:
        self._onMessage(*json.loads(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._onClosed()


class SingleProtocolFactory(Factory):
    """Returns one given protocol, for a socket that a reactor adopts."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        return self._protocol
