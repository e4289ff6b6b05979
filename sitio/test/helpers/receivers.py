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
class Heard:
    """An exchange that notes down what it is told; C{onResponse} may act on the head."""

    said: list[Any] = field(factory=list)
    onResponse: Any = None

    def informed(self, response: Response) -> None:
        self.said.append(("informed", response.status))

    def responseReceived(self, response: Response, body: bytes, ended: bool) -> None:
        self.said.append(("response", response.status, body, ended))
        if self.onResponse is not None:
            self.onResponse()

    def responseBody(self, data: bytes) -> None:
        self.said.append(("body", data))

    def responseEnded(self, trailers: head.Fields) -> None:
        self.said.append(("ended", trailers))

    def bufferGrew(self) -> None:
        self.said.append(("grew",))

    def spliced(self, size: int) -> None:
        self.said.append(("spliced", size))

    def sinkLost(self) -> None:
        self.said.append(("sink lost",))

    def bufferEnded(self, body: bytes | None) -> None:
        self.said.append(("buffered", body))

    def switched(self, response: Response, data: bytes) -> None:
        self.said.append(("switched", response.upgrade, data))

    def tunnelReceived(self, data: bytes) -> None:
        self.said.append(("tunnel", data))

    def tunnelEnded(self) -> None:
        self.said.append(("tunnelEnded",))

    def tunnelLost(self) -> None:
        self.said.append(("tunnelLost",))

    def upstreamFailed(self, error: SitioError) -> None:
        self.said.append(("failed", type(error), error.reached))

    def pauseUpload(self) -> None:
        self.said.append(("pause",))

    def resumeUpload(self) -> None:
        self.said.append(("resume",))
