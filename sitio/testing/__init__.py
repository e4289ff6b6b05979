"""
The test kit: runs policies, and the whole proxy, without sockets and without a reactor.

L{runPolicy} sends a request through a policy.  The upstream answers with the responses in
the arguments::

    outcome = runPolicy(friendly, request("/x"), response(404))
    self.assertEqual((outcome.status, outcome.attempts), (404, 1))

L{Runner} keeps one proxy for many requests, for policies that keep state::

    with Runner("last-good:max-age=60") as runner:
        runner.run(request("/"), response(200, text="good"))
        outcome = runner.run(request("/"), connectionRefused())
        self.assertEqual(outcome.text, "good")

Both run the real proxy.  The time is a L{Clock<twisted.internet.task.Clock>},
C{runner.clock}.  A test advances it, and L{Runner.run} advances it for timeouts and for the
wait before another attempt.  A policy that needs the time reads C{exchange.began}, or has an
attribute C{seconds}: a function such as C{time.monotonic}, which a L{Runner} replaces by that
of its clock.

In reading order:

  - C{runner}: runs policies: L{runPolicy} and L{Runner}.
  - C{outcomes}: what came of a request, and assertions that show the difference: L{Outcome}.
  - C{pytest}: fixtures, for those who test with pytest.
  - C{harness}: the whole proxy in memory, for tests that send and receive bytes.
  - C{network}: connections in memory.
  - C{loop}: an asyncio loop on the clock.
  - C{messages}: parses what a test has got.
"""

from sitio.testing.harness import Harness
from sitio.testing.messages import readRequests, readResponses
from sitio.testing.network import (
    CLIENT_ADDRESS,
    CLOSED,
    HALF_CLOSED,
    OPEN,
    RESET,
    MemoryEndpoint,
    Peer,
)
from sitio.testing.outcomes import Outcome
from sitio.testing.runner import (
    Runner,
    connectionRefused,
    connectionReset,
    incompleteResponse,
    noResponse,
    request,
    response,
    runPolicy,
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
    "connectionRefused",
    "connectionReset",
    "incompleteResponse",
    "noResponse",
    "readRequests",
    "readResponses",
    "request",
    "response",
    "runPolicy",
]
