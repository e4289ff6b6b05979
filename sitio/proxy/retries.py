"""
The rules for sending a request to the upstream again.

  - If no byte of it was written, it may always be repeated.
  - If it may have arrived, only a request with an idempotent method (RFC 9110, section
    9.2.2) may be repeated, and only if sitio still has its whole body.
  - sitio itself repeats a request in one case only: the upstream closed or reset an
    idle connection just as sitio used it (RFC 9112, section 9.3.1).  In all other
    cases a policy must ask for the repetition.
"""

from __future__ import annotations

from sitio.errors import Reached, SitioError
from sitio.http.grammar import IDEMPOTENT_METHODS
from sitio.http.message import Request
from sitio.proxy.upload import Upload
from sitio.proxy.upstream import Connection
from sitio.proxy.visible import VisibleExchange

#: Most attempts for one request.  It ends the loop of a policy that always asks for
#: another attempt.
MAX_ATTEMPTS = 10


def isRepeatable(request: Request, upload: Upload | None) -> bool:
    """
    Whether the request can be sent a second time.

    @param request: the request after the policies, which may have changed its method.
    @param upload: its body, if that streams.
    """
    return request.method in IDEMPOTENT_METHODS and (upload is None or upload.isRepeatable)


def mayRetry(attempts: int, reached: Reached, request: Request, upload: Upload | None) -> bool:
    """
    Whether a policy may have another attempt.

    @param attempts: the number of attempts so far.
    @param reached: how far the last attempt got.
    """
    if attempts >= MAX_ATTEMPTS:
        return False
    return reached is Reached.NOTHING or isRepeatable(request, upload)


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
