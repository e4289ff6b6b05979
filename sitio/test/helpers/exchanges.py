"""
Finished exchanges, as observers get them and as the dashboard shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from attrs import define, field
from zope.interface import implementer

from sitio.http.message import Request
from sitio.http.peer import PeerCertificate
from sitio.http.requestids import RequestIds
from sitio.interfaces import ExchangeState, IExchange
from sitio.policy.labels import Labels
from sitio.proxy.visible import Attempt
from sitio.telemetry.outcomes import failed, masked
from sitio.telemetry.records import ExchangeRecord


@implementer(IExchange)
@define(eq=False)
class FinishedExchange:
    """A finished exchange, with the attributes that observers read."""

    request: Request
    state: str = ExchangeState.ENDED
    status: int | None = 200
    upstreamStatus: int | None = 200
    failure: Exception | None = None
    duration: float = 0.002
    upstreamTime: float = 0.001
    bytesIn: int = 0
    bytesOut: int = 0
    response: Any = None
    attempts: int = 1
    clientAddress: str = "192.0.2.1"
    peerAddress: str = "192.0.2.1"
    secure: bool = False
    peer: PeerCertificate | None = None
    began: float = 0.0
    acted: tuple[str, ...] = ()
    answeredBy: str | None = None
    connectTime: float = 0.0
    policyTime: float = 0.0
    notes: dict[Any, Any] = field(factory=dict)
    masking: bool = True
    upstream: str = "upstream"
    timeout: float = 60.0
    labels: Labels = field(factory=Labels)
    brokeOff: bool = False
    lacksBudget: bool = False
    earlier: tuple[Attempt, ...] = ()
    now: float = 0.0
    mayHaveArrived: bool = True
    _ids: RequestIds = field(factory=RequestIds)

    @property
    def id(self) -> str:
        return self._ids.idOf(self.request)

    @property
    def ownLabels(self) -> Labels:
        return self.labels

    @property
    def sentFields(self) -> Sequence[tuple[bytes, bytes]]:
        return self.request.rawFields

    def isAsReceived(self, response: Any) -> bool:
        return True

    def attemptsMade(self) -> tuple[Attempt, ...]:
        """The attempts in C{earlier}, or a single one that ended as the exchange did."""
        if self.earlier or not self.attempts:
            return self.earlier
        return (Attempt(self.upstreamStatus, None, self.upstreamTime + self.connectTime),)


def ended(target: str = "/", method: str = "GET", **facts: Any) -> FinishedExchange:
    """Make a finished exchange: a 200 of the upstream, unless C{facts} say otherwise."""
    return FinishedExchange(Request(method, target), **facts)


def refused(status: int = 400) -> FinishedExchange:
    """Make an exchange whose request was refused."""
    return ended("-", "-", status=status, upstreamStatus=None, duration=0.0, upstreamTime=0.0)


def facts(id: str = "1-1", **more: Any) -> ExchangeRecord:
    """
    The record of an exchange for the dashboard: a 200, unless C{more} says otherwise.  Whether
    it failed and was masked follows from its statuses.
    """
    told: dict[str, Any] = {
        "key": id,
        "id": id,
        "labels": {},
        "began": 1_790_000_000.0,
        "duration": 0.002,
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/",
        "status": 200,
        "upstreamStatus": 200,
        "answeredBy": "upstream",
        "acted": [],
        "attempts": 1,
        "bytesIn": 0,
        "bytesOut": 10,
        "steps": {"policies": 0.0, "connection": 0.0, "upstream": 0.001, "transfer": 0.001},
        "state": "ended",
        "why": "the service answered 200",
        "failed": False,
        "masked": False,
        "brokeOff": False,
    }
    told |= more
    outcome = (told["status"], told["upstreamStatus"], None)
    if told["state"] == "ended":
        found = {"failed": failed(outcome), "masked": masked(outcome)}
        told |= {name: value for name, value in found.items() if name not in more}
    return cast(ExchangeRecord, told)
