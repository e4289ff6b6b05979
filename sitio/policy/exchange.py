"""
What policies receive, for type checkers and editors: L{Exchange}.

It has the attributes of L{IExchange<sitio.interfaces.IExchange>}, which describes them, with
their types.  A test compares both, and the exchanges of the proxy with both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sitio.http.message import Request, Response
from sitio.http.peer import PeerCertificate
from sitio.policy.labels import Labels

if TYPE_CHECKING:
    from sitio.errors import SitioError


class Exchange(Protocol):
    """
    One request, and what came of it.  A policy sets only C{timeout}, C{masking}, C{upstream},
    C{labels}, C{notes}, and the attributes of C{request} before that is sent.

    @ivar timeout: seconds from the end of the request to the head of its response; above 0 to
        86400.
    @ivar masking: whether policies may mask a failure of this exchange with another response.
    @ivar upstream: the name of the upstream that gets the request.
    """

    timeout: float
    masking: bool
    upstream: str

    @property
    def request(self) -> Request:
        """The request of the client."""

    @property
    def response(self) -> Response | None:
        """The response whose head was sent to the client; L{None} before that."""

    @property
    def state(self) -> str:
        """The state it is in: one of L{ExchangeState<sitio.interfaces.ExchangeState>}."""

    @property
    def status(self) -> int | None:
        """The status that was sent; 499 if the client closed early; L{None} before that."""

    @property
    def upstreamStatus(self) -> int | None:
        """The status of the upstream's last response, or 502 to 504; L{None} if not asked."""

    @property
    def failure(self) -> SitioError | None:
        """The last failure, also if a policy masked it."""

    @property
    def attempts(self) -> int:
        """How many times sitio tried to send the request upstream."""

    @property
    def clientAddress(self) -> str:
        """The client's address, without its port, as proxies of C{--trusted} tell it."""

    @property
    def peerAddress(self) -> str:
        """The address of the connection's other end, without its port."""

    @property
    def secure(self) -> bool:
        """Whether the client uses TLS."""

    @property
    def peer(self) -> PeerCertificate | None:
        """What the certificate of the client says; L{None} if it has shown none."""

    @property
    def id(self) -> str:
        """The id of the request."""

    @property
    def began(self) -> float:
        """When the head of the request was read, in seconds on sitio's clock."""

    @property
    def now(self) -> float:
        """The time, in seconds on the clock of C{began}."""

    @property
    def duration(self) -> float | None:
        """Seconds from C{began} to the last byte; L{None} before the end."""

    @property
    def upstreamTime(self) -> float:
        """Seconds of waiting for the upstream, summed over all attempts."""

    @property
    def connectTime(self) -> float:
        """Seconds of waiting for connections to the upstream."""

    @property
    def policyTime(self) -> float:
        """Seconds that policies took for their decisions, with the pauses before retries."""

    @property
    def bytesIn(self) -> int:
        """Bytes of the request's body that were received from the client."""

    @property
    def bytesOut(self) -> int:
        """Bytes of the response's body that were written to the client."""

    @property
    def acted(self) -> tuple[str, ...]:
        """Names of the policies that answered, replaced or retried, in order."""

    @property
    def answeredBy(self) -> str | None:
        """Name of the policy that made the response, if one did."""

    @property
    def labels(self) -> Labels:
        """Labels for the access log and /exchanges, at most 8."""

    @property
    def ownLabels(self) -> Labels | None:
        """The same, or L{None} if there are none; for observers."""

    @property
    def notes(self) -> dict[Any, Any]:
        """The data that policies keep about this exchange."""

    @property
    def sentFields(self) -> Sequence[tuple[bytes, bytes]]:
        """Name and value of each field line of the request as the upstream gets it."""

    @property
    def mayHaveArrived(self) -> bool:
        """Whether the upstream may have got some of the request."""

    def isAsReceived(self, response: Response) -> bool:
        """Whether status and body of this response are those that the upstream sent."""
