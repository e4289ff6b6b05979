"""
A receiver of responses that records the calls it gets.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field

from sitio.errors import SitioError
from sitio.http import head
from sitio.http.message import Response


@define
class Receiver:
    """
    Receives responses, their bodies and tunnels, and notes down each call.

    @ivar calls: what was called, with its arguments.
    @ivar client: the client under test.
    @ivar onResponse: called with the head of a response, if it is set.
    """

    calls: list[Any] = field(factory=list)
    client: Any = None
    onResponse: Any = None

    def interimReceived(self, response: Response) -> None:
        self.calls.append(("interim", response.status))

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None:
        self.calls.append(("response", response.status, body, ended))
        if not ended:
            self.client.deliverTo(self)
        if self.onResponse is not None:
            self.onResponse()

    def responseBody(self, data: bytes) -> None:
        self.calls.append(("body", data))

    def responseEnded(self, trailers: head.Fields) -> None:
        self.calls.append(("ended", trailers))

    def spliced(self, size: int) -> None:
        self.calls.append(("spliced", size))

    def sinkLost(self) -> None:
        self.calls.append(("sink lost",))

    def switched(self, response: Response, data: bytes) -> Receiver:
        self.calls.append(("switched", response.upgrade, data))
        return self

    def fromUpstream(self, data: bytes) -> None:
        self.calls.append(("tunnel", data))

    def upstreamEnded(self) -> None:
        self.calls.append(("tunnel ended",))

    def upstreamLost(self) -> None:
        self.calls.append(("tunnel lost",))

    def upstreamFailed(self, error: SitioError) -> None:
        self.calls.append(("failed", type(error), error.reached))

    def pause(self) -> None:
        self.calls.append(("pause",))

    def resume(self) -> None:
        self.calls.append(("resume",))

    @property
    def clientSide(self) -> Receiver:
        return self
