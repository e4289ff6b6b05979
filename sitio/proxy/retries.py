"""
The rules for sending a request to the upstream again.

  - If no byte of it was written, it may always be repeated.
  - If it may have arrived, only a request with an idempotent method (RFC 9110, section
    9.2.2) may be repeated, and only if sitio still has its whole body.
  - sitio itself repeats a request if the upstream closed or reset an idle connection just as
    sitio used it (RFC 9112, section 9.3.1).  In all other cases a policy must ask for the
    repetition, or C{[upstream.retries]} is configured.

All repetitions count in the budget of the upstream, and need a retry that is left in it, but the
first kind: each of those takes the place of a connection that has carried a response, so there
are not many if the upstream is down.  To connect to another endpoint is no repetition: nothing
was sent.
"""

from __future__ import annotations

from sitio.errors import NoEndpoint, Reached, Side, SitioError
from sitio.http.grammar import IDEMPOTENT_METHODS
from sitio.http.message import Request, Response
from sitio.proxy.upload import Upload
from sitio.proxy.upstream import Connection
from sitio.proxy.visible import VisibleExchange

#: Most attempts for one request.  It ends the loop of a policy that always asks for
#: another attempt.
MAX_ATTEMPTS = 10

#: Statuses, of responses and of failed attempts, after which sitio itself sends a request again,
#: where that is configured: the service is not there, and another endpoint may be.
FAILED = frozenset((502, 503, 504))


def isRepeatable(request: Request, upload: Upload | None) -> bool:
    """
    Whether the request can be sent a second time.

    @param request: the request after the policies, which may have changed its method.
    @param upload: its body, if that streams.
    """
    return request.method in IDEMPOTENT_METHODS and (upload is None or upload.isRepeatable)


def mayRetry(attempts: int, reached: Reached, request: Request, upload: Upload | None) -> bool:
    """
    Whether there may be another attempt, as far as the request and the attempts so far say.

    @param attempts: the number of attempts so far.
    @param reached: how far the last attempt got.
    """
    if attempts >= MAX_ATTEMPTS:
        return False
    return reached is Reached.NOTHING or isRepeatable(request, upload)


def takeRetry(exchange: VisibleExchange) -> bool:
    """Take a retry of the upstream's budget, if one is left."""
    route = exchange.routeOfRetry or exchange.route
    isLeft = route.budget.spend(exchange.context.seconds())
    exchange.lacksBudget = not isLeft
    return isLeft


def pauseBefore(
    exchange: VisibleExchange, response: Response, upload: Upload | None
) -> float | None:
    """
    Seconds until sitio itself makes another attempt, for which it takes a retry of the budget.

    @param response: what the last attempt got; a failure is also a response.

    @return: L{None} if it makes none.
    """
    upstream = exchange.route.upstream
    retries = None if upstream is None else upstream.retries
    if retries is None or response.status not in FAILED or exchange.attempts >= retries.attempts:
        return None
    failure = response.failure
    if isinstance(failure, SitioError) and not _mayPass(failure):
        return None
    if not mayRetry(exchange.attempts, exchange._reached, exchange.request, upload):
        return None
    pause = retries.pause(exchange.attempts, response)
    if pause is None or exchange.context.seconds() + pause >= exchange.lateAt:
        return None
    return pause if takeRetry(exchange) else None


def _mayPass(failure: SitioError) -> bool:
    """Whether another attempt may have another outcome."""
    return failure.side is Side.UPSTREAM and not isinstance(failure, NoEndpoint)


def repeatsByItself(
    reached: Reached, connection: Connection | None, request: Request, upload: Upload | None
) -> bool:
    """
    Whether sitio sends the request again without asking a policy.

    @param connection: the connection that failed.  If it has carried an earlier
        request, it was idle before this request.
    """
    wasIdle = connection is not None and connection.carried > 1
    return reached <= Reached.SENT and wasIdle and isRepeatable(request, upload)


def rewind(
    exchange: VisibleExchange,
    upload: Upload | None,
    reached: Reached,
    failure: SitioError | None = None,
) -> None:
    """
    End an attempt that another one follows: the upload starts again.

    @param reached: how far the attempt got.
    @param failure: what ended it early.
    """
    exchange.endAttempt(failure)
    if upload is not None and reached is not Reached.NOTHING:
        upload.rewind()
