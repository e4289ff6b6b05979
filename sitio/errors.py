"""
Failures: what went wrong, on whose side, and how far the request had got.

L{sitio.http.failures.asResponse} makes a response of one.
"""

from __future__ import annotations

import re
from enum import Enum, IntEnum

from twisted.python.failure import Failure


class Side(Enum):
    """Whose fault it is."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    SITIO = "sitio"


class Reached(IntEnum):
    """How far the request had got towards the upstream; higher is further."""

    #: No byte of it was written: any request may be sent again.
    NOTHING = 0
    #: Some of it may have arrived: only an idempotent one may.
    SENT = 1
    #: Bytes of a response have come: none may.
    ANSWERED = 2


class CannotStart(SystemExit, Exception):
    """
    sitio can't start, for a reason that the operator can correct.

    It is a C{SystemExit}, so it ends the process with one sentence and no traceback.
    It is an C{Exception}, so C{twistd} passes it to the parent of a daemon, which
    prints the first hundred bytes: keep the sentences short.
    """


#: What only the author of the code that raised an error can read: signatures, special names,
#: and how Python and OpenSSL write objects.
_forProgrammers = re.compile(
    r"""\(\)\ (?:missing|takes|got)|\b__\w+__\b|\bb(?:'|")|\((?:'[^']*'|"[^"]*"),
    |<class|<function|<module|\ object\ at\ 0x|Traceback""",
    re.VERBOSE,
)


def inOneLine(error: BaseException, name: bool = True) -> str:
    """
    The message of an exception for a person, in one line: C{""} if it is for programmers.

    @param name: whether the name of the exception's type stands before it, or alone.
    """
    text = " ".join(str(error).split())
    if _forProgrammers.search(text):
        text = ""
    return ": ".join(filter(None, (type(error).__name__, text))) if name else text


class SitioError(Exception):
    """
    A failure of an exchange.

    C{str()} is one sentence for the operator, with the cause.  C{status} and
    C{summary} are for the client, and name no address.

    @ivar reached: see L{Reached}.
    @ivar cause: the exception behind this one, or L{None}.
    """

    side = Side.SITIO
    status = 500
    summary = "sitio could not carry this request."
    errorType = "internal"

    def __init__(
        self,
        detail: str = "",
        reached: Reached = Reached.NOTHING,
        cause: BaseException | None = None,
    ) -> None:
        Exception.__init__(self, detail)
        self.detail = detail or self.summary
        self.reached = reached
        self.cause = cause

    def __str__(self) -> str:
        because = f": {self.cause}" if self.cause is not None and str(self.cause) else ""
        return f"{self.detail}{because}"


class BadMessage(SitioError):
    """Bytes that are not a message, or an ambiguous one.  Readers of both sides raise it."""

    side = Side.CLIENT
    status = 400
    summary = "The request is malformed."
    errorType = "malformed_request"


class HeadTooLong(BadMessage):
    """A head with more bytes or fields than the limit (RFC 6585, section 5)."""

    status = 431
    summary = "The head of the request is too long."


class BodyTooLong(BadMessage):
    """A request body beyond the operator's limit (RFC 9110, section 15.5.14)."""

    status = 413
    summary = "The body of the request is too long."


class BadVersion(BadMessage):
    """A version of HTTP that is neither 1.0 nor 1.1 (RFC 9110, section 15.6.6)."""

    status = 505
    summary = "Only HTTP/1.0 and HTTP/1.1 are spoken here."


class MethodRefused(BadMessage):
    """
    CONNECT: sitio stands before one service and opens no tunnels to others
    (RFC 9110, section 15.6.2).
    """

    status = 501
    summary = "CONNECT is not served here."


class AmbiguousPath(BadMessage):
    """A path that services may read in another way, which takes another route."""


class NoRoute(SitioError):
    """The request takes none of the routes (RFC 9110, section 15.5.5)."""

    side = Side.CLIENT
    status = 404
    summary = "There is nothing here."
    errorType = "no_route"


class RequestTimeout(SitioError):
    """The client took too long over its request (RFC 9110, section 15.5.9)."""

    side = Side.CLIENT
    status = 408
    summary = "The request took too long to arrive."
    errorType = "request_timeout"


class LoopDetected(SitioError):
    """A request has come back to the sitio that sent it (RFC 5842, section 7.2)."""

    status = 508
    summary = "This request has been here before: the service behind this proxy leads back to it."
    errorType = "loop_detected"


class ClientGone(SitioError):
    """The client closed before it had its response.  499 is counted, never sent."""

    side = Side.CLIENT
    status = 499
    summary = "The client went away."
    errorType = "client_gone"


class ConnectFailed(SitioError):
    """The upstream could not be connected to."""

    side = Side.UPSTREAM
    status = 502
    summary = "The service behind this proxy could not be reached."
    errorType = "connection_failed"


class ConnectTimeout(ConnectFailed):
    """The upstream did not accept a connection in time."""

    status = 504
    summary = "The service behind this proxy did not accept a connection in time."
    errorType = "connection_timeout"


class NoEndpoint(ConnectFailed):
    """The upstream has no endpoint: its name has no address."""

    status = 503
    summary = "The service behind this proxy has no address."
    errorType = "no_endpoint"


class UpstreamLost(SitioError):
    """The upstream closed or reset before its response was whole."""

    side = Side.UPSTREAM
    status = 502
    summary = "The service behind this proxy broke off."
    errorType = "connection_lost"


class BadResponse(SitioError):
    """The upstream sent what is no response, or an ambiguous one."""

    side = Side.UPSTREAM
    status = 502
    summary = "The service behind this proxy sent a malformed response."
    errorType = "malformed_response"


class InterimTooLong(BadResponse):
    """The upstream sent more interim responses (1xx) than C{--max-interim} allows."""

    summary = "The service behind this proxy sent too many interim responses."


class UpstreamTimeout(SitioError):
    """The upstream took too long over its response."""

    side = Side.UPSTREAM
    status = 504
    summary = "The service behind this proxy took too long."
    errorType = "timeout"


class Outrun(SitioError):
    """
    An attempt that was given up, as another one beside it got its response first.  It is no
    failure of an exchange, and becomes no response.
    """

    status = 502
    summary = "Another attempt had its response first."
    errorType = "outrun"


class PoolExhausted(SitioError):
    """All upstream connections were busy for longer than a request may wait."""

    side = Side.SITIO
    status = 503
    summary = "The service behind this proxy is busy."
    errorType = "pool_exhausted"


class Stalled(SitioError):
    """No byte of a body moved for too long, whichever side stopped."""

    side = Side.SITIO
    status = 504
    summary = "The transfer stalled."
    errorType = "stalled"


class Stopped(SitioError):
    """sitio stops, and the grace period is over."""

    status = 503
    summary = "sitio stopped before this exchange had ended."
    errorType = "stopped"


class PolicyFailed(SitioError):
    """A request policy that fails closed has failed: the request is not let in."""

    status = 500
    summary = "sitio could not decide about this request."
    errorType = "policy_failed"


class ResponseWithheld(PolicyFailed):
    """
    A response policy that fails closed has failed: the response is not let out.

    The policy, or a filter of it, has raised or took too long, or the response is longer than
    a policy may buffer.
    """

    status = 502
    summary = "sitio could not check the response of the service behind this proxy."


class BuffersFull(SitioError):
    """A policy needs a whole request body, and C{--buffer-total} has no room for it."""

    status = 503
    summary = "This proxy is busy."
    errorType = "buffers_full"


def asSitioError(failure: Failure, detail: str) -> SitioError:
    """
    The error of this failure if it is a L{SitioError}; else a L{SitioError} caused by it.

    @param detail: a description of the failed action, for the log.
    """
    error = failure.value
    return error if isinstance(error, SitioError) else SitioError(detail, cause=error)
