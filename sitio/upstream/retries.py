"""
What is configured of the retries of an upstream: L{RetrySettings}, and L{Retries}.

Contract: pure; the source of random numbers and the time of day are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time

from attrs import frozen

from sitio.http.message import Response
from sitio.http.retryafter import retryAfter
from sitio.upstream.budget import MINIMUM, SHARE

#: Seconds before the second attempt, as Envoy has them: it goes to another endpoint if there is
#: one.  And at most between two attempts, as a client waits.
FIRST_PAUSE_SECONDS = 0.025
LONGEST_PAUSE_SECONDS = 1.0

#: The longest C{Retry-After} that sitio waits for, as the client waits too.
MAX_RETRY_AFTER_SECONDS = 5.0


@frozen
class RetrySettings:
    """
    How an upstream's requests are sent again; C{[upstream.retries]}.

    @ivar share: retries as a share of the requests, 0 to 1.
    @ivar minimum: retries per second that are allowed however few requests there are.
    @ivar attempts: of one request, the first included: 1 for no retries but those that policies
        ask for.
    @ivar perTryTimeout: seconds of one attempt to the head of its response; L{None} for all that
        the request has.
    @ivar hedgeAfter: seconds after which a second attempt runs beside the first; L{None} for
        never.
    """

    share: float = SHARE
    minimum: float = MINIMUM
    attempts: int = 3
    perTryTimeout: float | None = None
    hedgeAfter: float | None = None


class Retries:
    """
    The same, as exchanges use it.

    @ivar attempts: see L{RetrySettings}, as those below.
    @ivar perTryTimeout: C{}
    @ivar hedgeAfter: C{}
    """

    def __init__(
        self,
        settings: RetrySettings,
        random: Callable[[], float],
        now: Callable[[], float] = time,
    ) -> None:
        """
        @param random: returns a number from 0 up to, but not including, 1.
        @param now: returns the time of day, in seconds since 1970.
        """
        self.attempts = settings.attempts
        self.perTryTimeout = settings.perTryTimeout
        self.hedgeAfter = settings.hedgeAfter
        self._random = random
        self._now = now

    def pause(self, attempts: int, response: Response) -> float | None:
        """
        Seconds until the next attempt: they double with each, and are shortened at random by up
        to half, so that requests that failed together do not return together.

        @param attempts: those that were made, 1 or more.
        @param response: that of the last; its C{Retry-After} makes the pause longer.

        @return: L{None} if the response asks for too long a pause.
        """
        asked = retryAfter(response.headers, self._now())
        if asked > MAX_RETRY_AFTER_SECONDS:
            return None
        whole = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempts - 1))
        return max(asked, whole * (1 - self._random() / 2))
