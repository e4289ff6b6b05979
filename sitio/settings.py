"""
Every limit and timeout, with its default and the reason for it.

C{service} makes its options from this list, so that a limit has one name, one
default and one explanation.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from sitio.http.framing import Limits

SECONDS = "seconds"
BYTES = "bytes"
COUNT = "number"


def _setting(default: Any, unit: str, help: str) -> Any:
    return field(default=default, metadata={"unit": unit, "help": help})


@frozen
class Settings:
    """
    What bounds every wait and every buffer; seconds, bytes and counts.

    The fields' metadata hold the unit and a line of help.
    """

    # Waits.  A client that is slow to begin is cheap, one that is slow to end
    # holds an upstream connection: the defaults are those of common proxies.
    connectTimeout: float = _setting(5.0, SECONDS, "to connect to the upstream")
    headTimeout: float = _setting(10.0, SECONDS, "for the head of a request, from its first byte")
    responseTimeout: float = _setting(
        60.0, SECONDS, "for the head of a response, from the request's end"
    )
    stallTimeout: float = _setting(60.0, SECONDS, "in which no byte of a body moves")
    idleTimeout: float = _setting(75.0, SECONDS, "between the requests of a client's connection")
    poolTimeout: float = _setting(5.0, SECONDS, "for a free upstream connection")
    # Shorter than the 5 seconds after which Node and uvicorn close theirs: a
    # connection that is closed while a POST goes out on it costs that POST.
    upstreamIdleTimeout: float = _setting(4.0, SECONDS, "an idle upstream connection is kept")
    tunnelTimeout: float = _setting(3600.0, SECONDS, "in which no byte moves in a tunnel")
    policyTimeout: float = _setting(30.0, SECONDS, "for the answer of a policy")
    grace: float = _setting(30.0, SECONDS, "to finish what is in flight when told to stop")

    # Sizes.  32 KiB hold any head that browsers send, cookies included.
    maxHead: int = _setting(32 * 1024, BYTES, "of a head, request or response")
    maxFields: int = _setting(100, COUNT, "of fields in a head")
    maxBody: int = _setting(0, BYTES, "of a request's body; 0 for no limit, as it streams")
    bufferLimit: int = _setting(1024 * 1024, BYTES, "of a response that a policy wants whole")
    replayLimit: int = _setting(
        64 * 1024, BYTES, "of a request's body kept so that it can be sent again"
    )

    # Numbers of connections.
    maxClients: int = _setting(10_000, COUNT, "of client connections at a time")
    poolSize: int = _setting(1024, COUNT, "of upstream connections at a time")
    poolQueue: int = _setting(1024, COUNT, "of requests that wait for an upstream connection")

    def limits(self) -> Limits:
        """What the readers of L{sitio.http.codec} need of it, for requests."""
        return Limits(head=self.maxHead, fields=self.maxFields, body=self.maxBody or None)

    def responseLimits(self) -> Limits:
        """The same for responses, whose bodies have no limit: they stream."""
        return Limits(head=self.maxHead, fields=self.maxFields)


#: Seconds in which the rest of a request is read and dropped after its response has
#: gone out, so that the response isn't lost to a reset (RFC 9112, section 9.6).
LINGER = 2.0

#: Seconds for which an idle connection is kept once sitio has been told to stop:
#: a request may be on its way to it, and would be lost.
DRAIN_IDLE = 1.0
