"""
Every limit and timeout, with its default and the reason for it.

L{sitio.config.options} makes an option from each field, so a limit has one name,
one default and one line of help.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

SECONDS = "seconds"
BYTES = "bytes"
COUNT = "number"


def _setting(default: Any, unit: str, help: str) -> Any:
    return field(default=default, metadata={"unit": unit, "help": help})


@frozen
class Settings:
    """
    The limits of all waits and buffers.

    The metadata of each field have its unit and its help.
    """

    # Times.  The defaults are those of common proxies.
    connectTimeout: float = _setting(
        5.0, SECONDS, "longest time, in seconds, to connect to the upstream"
    )
    headTimeout: float = _setting(
        10.0,
        SECONDS,
        "longest time, in seconds, from the first byte of a request's head to its last",
    )
    responseTimeout: float = _setting(
        60.0,
        SECONDS,
        "longest time, in seconds, from the end of a request to the head of its response",
    )
    stallTimeout: float = _setting(
        60.0, SECONDS, "longest pause, in seconds, in the transfer of a body"
    )
    idleTimeout: float = _setting(
        75.0, SECONDS, "longest time, in seconds, that a client connection is idle between requests"
    )
    poolTimeout: float = _setting(
        5.0,
        SECONDS,
        "longest time, in seconds, that a request waits for a free upstream connection",
    )
    # Shorter than the 5 seconds after which Node and uvicorn close idle connections:
    # if one is closed while a POST is sent on it, that POST fails.
    upstreamIdleTimeout: float = _setting(
        4.0, SECONDS, "longest time, in seconds, that an idle upstream connection is kept"
    )
    # A client that is gone must cost the upstream nothing, and looks the same.
    halfClose: float = _setting(
        0.0,
        SECONDS,
        "longest time, in seconds, that a client which has closed its sending half waits for"
        " the response to begin; 0 takes it for disconnected",
    )
    tunnelTimeout: float = _setting(3600.0, SECONDS, "longest pause, in seconds, in a tunnel")
    policyTimeout: float = _setting(
        30.0, SECONDS, "longest time, in seconds, that a policy may take"
    )
    grace: float = _setting(
        30.0, SECONDS, "longest time, in seconds, to finish requests in flight when sitio stops"
    )

    # Sizes.  32 KiB hold any head that browsers send, cookies included.
    maxHead: int = _setting(32 * 1024, BYTES, "largest head of a request or response, in bytes")
    maxFields: int = _setting(100, COUNT, "largest number of fields in a head")
    maxInterim: int = _setting(
        1024 * 1024, BYTES, "largest size, in bytes, of all interim responses to one request"
    )
    maxBody: int = _setting(
        0, BYTES, "largest request body, in bytes; 0 for no limit, as bodies are streamed"
    )
    # Kestrel's.  A client on the slowest of mobile networks is faster.
    minBodyRate: int = _setting(
        240,
        BYTES,
        "slowest average rate, in bytes per second, at which a request's body may come; 0 for"
        " no limit",
    )
    bufferLimit: int = _setting(
        1024 * 1024, BYTES, "largest response body, in bytes, that a policy may buffer"
    )
    requestBufferLimit: int = _setting(
        1024 * 1024,
        BYTES,
        "largest request body, in bytes, that a policy may buffer; a longer one gets 413",
    )
    # 256 messages of the sizes above.
    bufferTotal: int = _setting(
        256 * 1024 * 1024,
        BYTES,
        "largest number of bytes of requests and responses that are buffered at one time, in"
        " each process; beyond it a policy gets no whole body",
    )
    replayLimit: int = _setting(
        64 * 1024,
        BYTES,
        "largest request body, in bytes, that is kept so that it can be sent again",
    )

    # Numbers of connections.
    maxClients: int = _setting(10_000, COUNT, "largest number of client connections")
    poolSize: int = _setting(1024, COUNT, "largest number of upstream connections")
    poolUploads: int = _setting(
        0,
        COUNT,
        "largest number of upstream connections for requests whose body is incomplete; 0 for"
        " three quarters of --pool-size",
    )
    # As many as there may be clients: poolTimeout bounds the wait, not this number.  See
    # docs/decisions/0022.
    poolQueue: int = _setting(
        10_000, COUNT, "largest number of requests that wait for an upstream connection"
    )


#: Seconds that a request's body may be slower than C{minBodyRate} at its beginning, and
#: later has as a reserve.  Apache's mod_reqtimeout has as many.
BODY_GRACE_SECONDS = 20.0

#: After a response, the rest of its request is read and dropped, so that the response
#: isn't lost to a reset (RFC 9112, section 9.6).  That ends after this many seconds
#: without a byte, and after this many in all.  They are nginx's.
LINGER_SECONDS = 5.0
LINGER_LIMIT_SECONDS = 30.0

#: The same after the end of that request: requests that the client has pipelined may be
#: on their way.  A client that reads the end of the connection closes it earlier.
LINGER_AFTER_SECONDS = 2.0

#: Longest time, in seconds, to flush what was written to a client that has closed its
#: sending half.
CLOSE_SECONDS = 2.0

#: Seconds for which an idle connection is kept once sitio has been told to stop:
#: a request may be on its way to it, and would be lost.
DRAIN_IDLE_SECONDS = 1.0
