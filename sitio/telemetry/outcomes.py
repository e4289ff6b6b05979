"""
What counts as failed, and what a failure is called: one rule for the metrics, the lists of
exchanges, the dashboard and the stats line.

An exchange I{failed} if the upstream failed in it, whether or not a policy masked that:

  - its upstream status is 500 or more; so are the 502 to 504 of attempts without a response,
    and the status that was sent where the upstream was not asked;
  - or its response B{broke off}: the client got a head that promised more;
  - or there was no response at all.

What the client itself causes, by leaving or by what it sends, breaks no response off: it is no
failure.  Beyond this, I{sent as failed} is an exchange of which the client saw a failure.

Metrics have both counts ready: C{failed} and C{sentFailed} of
L{Metrics<sitio.telemetry.snapshot.Metrics>}.  Nobody counts statuses again.

Contract: pure.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import error as internet

from sitio.errors import BadMessage, ClientGone, ConnectFailed, Outrun, RequestTimeout, SitioError

#: Sent status, upstream status, and the name of what ended the exchange early.
Outcome = tuple[int | None, int | None, str | None]

#: The first status that is a failure (RFC 9110, section 15.6).
FAILURE = 500

#: The same of classes of statuses.
FAILURE_CLASS = 5

#: The name for a client that went away.
CLIENT_GONE = ClientGone.errorType

#: Names of what ends an attempt early and is not a failure of the endpoint: the client has left,
#: or another attempt had its response first.  Alerts leave them out.
NO_FAILURES = (CLIENT_GONE, Outrun.errorType)

#: Names of failures that the client causes.
BY_CLIENT = frozenset((CLIENT_GONE, BadMessage.errorType, RequestTimeout.errorType))

#: Names of failures to connect, by the exception behind them.
_CAUSES = (
    (internet.ConnectionRefusedError, "connection_refused"),
    (internet.DNSLookupError, "name_not_resolved"),
    (internet.UnknownHostError, "name_not_resolved"),
    (internet.NoRouteError, "host_unreachable"),
)


def failureName(error: BaseException) -> str:
    """
    The name of a failure, as the label C{error_type} has it.  There are some fifteen names.
    """
    if isinstance(error, ConnectFailed):
        for kind, name in _CAUSES:
            if isinstance(error.cause, kind):
                return name
    return error.errorType if isinstance(error, SitioError) else SitioError.errorType


def outcomeOf(exchange: Any) -> Outcome:
    """The outcome of an exchange that has ended."""
    status, failure = exchange.status, exchange.failure
    if failure is None:
        return status, exchange.upstreamStatus, None
    if status == ClientGone.status:
        # It is never sent.  The client may have got the head of a response.
        status = None if exchange.response is None else exchange.response.status
    elif status is not None and not exchange.brokeOff:
        # The failure became a response, or a later attempt went well.
        return status, exchange.upstreamStatus, None
    return status, exchange.upstreamStatus, failureName(failure)


def failed(outcome: Outcome) -> bool:
    """Whether an exchange with this outcome failed, masked or not."""
    status, upstream, name = outcome
    asked = status if upstream is None else upstream
    return isFailure(asked) or (name not in BY_CLIENT and (asked is None or name is not None))


def sentFailed(outcome: Outcome) -> bool:
    """Whether the client of an exchange with this outcome saw a failure."""
    status, _, name = outcome
    return name not in BY_CLIENT and (isFailure(status) or status is None or name is not None)


def brokeOff(outcome: Outcome) -> bool:
    """Whether the response of an exchange with this outcome broke off."""
    status, _, name = outcome
    return status is not None and name is not None and name not in BY_CLIENT


def masked(outcome: Outcome) -> bool:
    """Whether the upstream failed, and the client was sent something better."""
    status, upstream, name = outcome
    if status in (None, ClientGone.status) or name is not None:
        return False
    return isFailure(upstream) and not isFailure(status)


def isFailure(status: int | None) -> bool:
    """Whether a status is a failure; the class of a status, 1 to 9, counts like the status."""
    return status is not None and (status >= FAILURE or FAILURE_CLASS <= status <= 9)
