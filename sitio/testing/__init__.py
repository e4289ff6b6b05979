"""
The test kit: policies, and sitio itself, without a socket or a reactor.

For authors of policies, L{runPolicy} shows a request to a policy, with the
upstream's responses given as arguments, and returns what came of it::

    outcome = runPolicy(friendly, request("/x"), response(404))
    self.assertEqual((outcome.status, outcome.attempts), (404, 1))

L{Runner} does so with one sidecar that is kept, for policies that remember::

    with Runner("last-good:max-age=60") as runner:
        runner.run(request("/"), response(200, text="good"))
        self.assertEqual(runner.run(request("/"), refused()).text, "good")

Both stand on the real core.  L{Harness} is that core in memory, and tests
of sitio speak to it in bytes.

Time is a L{Clock}, C{runner.clock}.  It moves when it is advanced, and as far as
L{Runner.run} needs it: through the wait of a Retry, a timeout.  A policy tells
time by C{exchange.began}, which is read from that clock; or by an attribute
C{seconds}, a function such as C{time.monotonic}, that a L{Runner} sets to the
clock's.
"""

from sitio.testing.harness import Harness
from sitio.testing.network import (
    CLIENT_ADDRESS,
    CLOSED,
    HALF_CLOSED,
    OPEN,
    RESET,
    MemoryEndpoint,
    Peer,
    readRequests,
    readResponses,
)
from sitio.testing.runner import (
    Outcome,
    Runner,
    brokenOff,
    refused,
    request,
    reset,
    response,
    runPolicy,
    silence,
)

__all__ = [
    "CLIENT_ADDRESS",
    "CLOSED",
    "HALF_CLOSED",
    "OPEN",
    "RESET",
    "Harness",
    "MemoryEndpoint",
    "Outcome",
    "Peer",
    "Runner",
    "brokenOff",
    "readRequests",
    "readResponses",
    "refused",
    "request",
    "reset",
    "response",
    "runPolicy",
    "silence",
]
