"""
Exchanges and responses for tests that call a policy directly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import Factory, define
from zope.interface import implementer

from sitio.http.message import Request, Response
from sitio.http.peer import PeerCertificate
from sitio.interfaces import ExchangeState, IExchange
from sitio.policy.declaration import Declaration


@implementer(IExchange)
@define(eq=False)
class FakeExchange:
    """An exchange with the attributes that policies read."""

    request: Request
    state: str = ExchangeState.JUDGING
    secure: bool = False
    peer: PeerCertificate | None = None
    attempts: int = 1
    notes: dict[Any, Any] = Factory(dict)
    response: Response | None = None
    upstreamStatus: int | None = None
    status: int | None = None
    failure: Exception | None = None
    clientAddress: str = "192.0.2.1"
    peerAddress: str = "192.0.2.1"
    began: float = 0.0
    duration: float | None = None
    upstreamTime: float = 0.0
    bytesIn: int = 0
    bytesOut: int = 0
    acted: tuple[str, ...] = ()
    answeredBy: str | None = None
    connectTime: float = 0.0
    policyTime: float = 0.0
    now: float = 0.0
    mayHaveArrived: bool = True
    asReceived: bool = True
    id: str = "1-1"
    timeout: float = 60.0
    masking: bool = True
    upstream: str = "upstream"
    labels: dict[str, str] = Factory(dict)
    ownLabels: dict[str, str] | None = None

    @property
    def sentFields(self) -> Sequence[tuple[bytes, bytes]]:
        return self.request.rawFields

    def isAsReceived(self, response: Response) -> bool:
        return self.asReceived


def fromText(make: Callable[..., Any]) -> Callable[..., Any]:
    """C{makePolicy} of a policy, as a function of the texts of its options."""

    def made(*arguments: str, **options: str) -> Any:
        texts = {name: [text] for name, text in options.items()}
        return Declaration.of(make).fromText(arguments, texts)

    return made


def exchangeFor(target: str = "/", method: str = "GET", **fields: str) -> FakeExchange:
    """Make an exchange for a request.  C{if_range="x"} is the field If-Range."""
    request = Request(method, target)
    request.headers.add("Host", "photos.example")
    for name, value in fields.items():
        request.headers.add(name.replace("_", "-"), value)
    return FakeExchange(request)


def upstreamResponse(status: int, *lines: tuple[str, str], body: bytes = b"theirs") -> Response:
    """Make a response of the upstream, with its framing and its whole body."""
    fields = [(name.encode(), value.encode("latin-1")) for name, value in lines]
    fields.append((b"Content-Length", b"%d" % len(body)))
    response = Response.fromWire(status, Response(status).reason, fields, len(body))
    response.body = body
    return response
