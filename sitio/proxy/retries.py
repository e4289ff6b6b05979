"""
When a request may be sent to the upstream again: the rules, and nothing else.

  - No byte of it was written: always.
  - It may have arrived, and no response has begun: only an idempotent method
    (RFC 9110, section 9.2.2), and only if its whole body is still here.
  - sitio repeats by itself in one case: an idle connection that the upstream closed
    or reset just as it was used (RFC 9112, section 9.3.1).  Any other repetition is
    a policy's wish.
"""

from __future__ import annotations

from sitio.errors import Reached
from sitio.http.grammar import IDEMPOTENT_METHODS
from sitio.http.message import Request
from sitio.proxy.upload import Upload
from sitio.proxy.upstream import Connection

#: Attempts to have one request answered.  A policy that asks for another each time
#: would hold its client, and a failing upstream, for ever.
MAX_ATTEMPTS = 10


def isRepeatable(request: Request, upload: Upload | None) -> bool:
    """
    Whether the request can be sent a second time.

    @param request: as policies left it: they may have changed its method.
    @param upload: its body, where that streams.
    """
    return request.method in IDEMPOTENT_METHODS and (upload is None or upload.isRepeatable)


def mayRetry(attempts: int, reached: Reached, request: Request, upload: Upload | None) -> bool:
    """
    Whether another attempt is allowed where a policy asks for one.

    @param attempts: how many there have been.
    @param reached: how far the last one got.
    """
    if attempts >= MAX_ATTEMPTS:
        return False
    return reached is Reached.NOTHING or isRepeatable(request, upload)


def repeatsByItself(
    reached: Reached, connection: Connection | None, request: Request, upload: Upload | None
) -> bool:
    """
    Whether sitio sends the request again without asking a policy.

    @param connection: the one that failed.  It had been idle if it has carried more
        than this request.
    """
    wasIdle = connection is not None and connection.carried > 1
    return reached <= Reached.SENT and wasIdle and isRepeatable(request, upload)
