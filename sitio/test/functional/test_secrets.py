"""
What stays in memory of a request that has ended, and what is shown of it.
"""

from __future__ import annotations

import gc
from types import FrameType
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest
from sitio.policy.loader import loadPolicies
from sitio.telemetry.history import recordOf
from sitio.telemetry.stats import Stats
from sitio.testing.harness import Harness


def holders(secret: bytes) -> list[str]:
    """The types of objects that hold text with these bytes, but for this very object."""
    text = secret.decode()
    found = []
    gc.collect()
    for each in gc.get_objects():
        if isinstance(each, FrameType) or each is gc.garbage:
            continue
        for held in gc.get_referents(each):
            if (
                (isinstance(held, (bytes, bytearray)) and held is not secret and secret in held)
                or (isinstance(held, str) and held is not text and text in held)
            ):  # fmt: skip
                found.append(type(each).__name__)
    return found


class SecretTests(SynchronousTestCase):
    """sitio keeps no byte of a request beyond its end."""

    def test_gone(self) -> None:
        """
        Once a request and its response have ended, nothing holds a cookie, a token or a query
        of it, whatever policies have seen; no cache and no idle connection.
        """
        secret = b"a8f1c0ffee%d" % id(self)
        policies = [*loadPolicies("error-page:404"), *loadPolicies("last-good")]
        policies += loadPolicies("deny:PUT:/private") + loadPolicies("headers:set X-A b")
        harness = Harness(policies)
        client = harness.connect()
        for method, status in ((b"GET", 200), (b"GET", 404), (b"HEAD", 304), (b"DELETE", 200)):
            client.sends(
                b"%b /a?key=%b HTTP/1.1\r\nHost: h\r\nCookie: s=%b\r\nAuthorization: Bearer %b\r\n"
                b"X-Request-Id: %b\r\nX-Api-Key: %b\r\nX_Odd: %b\r\n\r\n" % (method, *[secret] * 6)
            )
            upstream = harness.upstream()
            sent = upstream.got()
            self.assertIn(secret, sent)
            upstream.sends(
                b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nSet-Cookie: s=%b\r\n\r\n" % (status, secret)
            )
            self.assertTrue(client.got().startswith(b"HTTP/1.1 %d " % status))
            self.assertEqual((client.pieces, upstream.pieces), ([], []))
            del sent
        harness.exchanges.clear()
        self.assertEqual(holders(secret), [])


class AddedTests(SynchronousTestCase):
    """What a policy puts into a request is for the upstream only."""

    def test_target(self) -> None:
        """Metrics, /exchanges, the failure's log line and an error page have the client's path."""
        secret = "a8f1c0ffee"

        @onRequest
        def call(exchange: Any) -> None:
            exchange.request.method = "PUT"
            exchange.request.target = f"/{secret}/orders?key={secret}"

        stats = Stats(Clock())
        policies = [*loadPolicies("error-page:5xx"), ("call", call)]
        harness = Harness(policies, observers=[stats])
        stats.watch(harness.context.exchanges)
        client = harness.connect()
        client.sends(b"GET /orders?a=b HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(
            harness.upstream().got().startswith(f"PUT /{secret}/orders?key={secret} HTTP".encode())
        )
        shown = [str(stats.snapshot()), str(list(harness.context.exchanges))]
        with capturedLogs() as events:
            harness.upstream().sends(b"garbage\r\n\r\n")
        [exchange] = harness.exchanges
        record = recordOf(exchange, "1", 0.0, 0.0)
        self.assertEqual((record["method"], record["path"]), ("GET", "/orders"))
        metrics = stats.snapshot()
        [endpoint] = metrics["endpoints"]
        self.assertEqual((endpoint["method"], endpoint["route"]), ("GET", "/orders"))
        [event] = [each for each in events if "An exchange failed" in each["log_format"]]
        self.assertEqual((event["method"], event["path"]), ("GET", "/orders"))
        response = client.got()
        self.assertIn(b"/orders", response)
        for each in (*shown, str(record), str(metrics), str(events), response.decode()):
            self.assertNotIn(secret, each)
