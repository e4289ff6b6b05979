"""
Tests of request bodies that arrive while an exchange is in any of its states.

The table has each state before the request is sent, and when it is: a part of the body
comes in one, the rest in the same or a later one.
"""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from typing import Any

from twisted.internet.defer import Deferred

from sitio import Retry, onRequest, onResponse
from sitio.test.helpers.messages import FRAMINGS
from sitio.test.helpers.observed import ObservedCase
from sitio.test.helpers.rows import eachRow

#: In the order in which an exchange is in them.
STATES = (
    "a request policy decides",
    "it connects",
    "a policy judges the failure",
    "it rests",
    "it connects again",
    "the request is sent",
)


@eachRow(
    [
        (f"{method}, {framing}, more while {more}, the rest while {rest}",
         method, framing, more, rest)
        for method, framing, (more, rest) in product(
            ("PUT", "POST"), FRAMINGS, combinations_with_replacement(STATES, 2)
        )
    ]
)  # fmt: skip
class StateTests(ObservedCase):
    """Each byte of the body reaches the upstream once, whenever it comes."""

    def check(self, method: str, framing: str, more: str, rest: str) -> None:
        """Send a request of which the first attempt to connect fails."""
        field, begin, second, third = FRAMINGS[framing]
        self._parts = {more: second, rest: third}
        if more == rest:
            self._parts = {more: second + third}
        deciding: Deferred[Any] = Deferred()
        judging: Deferred[Any] = Deferred()
        self.open(
            onRequest(lambda exchange: deciding), onResponse(502)(lambda exchange, _: judging)
        )
        network = self.sidecar
        network.holdConnections()
        self.client.sends(
            b"%b / HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n%b" % (method.encode(), field, begin)
        )
        self._arrive("a request policy decides")
        deciding.callback(None)
        self._arrive("it connects")
        network.refuseConnections()
        self._arrive("a policy judges the failure")
        judging.callback(Retry(1.0))
        self._arrive("it rests")
        network.holdConnections()
        network.advance(1.0)
        self._arrive("it connects again")
        network.acceptConnections()
        self._arrive("the request is sent")
        self.assertEqual(len(network.upstreams), 1)
        request = self.upstream.gotRequest()
        self.assertEqual((request.method, request.body), (method, b"abcdefghi"))
        self.upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.client.gotResponse().status, 200)
        network.assertQuiet()

    def _arrive(self, state: str) -> None:
        if state in self._parts:
            self.client.sends(self._parts[state])
