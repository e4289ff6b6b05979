"""
Tests of requests that last: each kind is seen in the metrics while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest, onResponse
from sitio.telemetry.stats import Stats
from sitio.test.helpers.rows import Row, eachRow
from sitio.test.helpers.snapshots import endpointsByName
from sitio.testing import Harness
from sitio.testing.network import Peer

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n0123456789"
UPGRADE = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n"

wait: Any = onRequest(lambda exchange: Deferred())
upper = onResponse()(lambda exchange, response: response.addFilter(bytes.upper))
collect = onResponse(buffered=True)(lambda exchange, response: None)

#: The promise, policies, what the client sends, what the upstream sends in pieces, and the
#: bytes of the request and of the response that count while it runs.
ROWS: list[Row] = [
    ("an event stream in chunks", [], GET, [EVENTS + b"Transfer-Encoding: chunked\r\n\r\n",
     b"5\r\nhello\r\n", b"5\r\nworld\r\n"], 0, 10),
    ("an event stream that ends with the connection", [], GET, [EVENTS + b"\r\n", b"hello",
     b"world"], 0, 10),
    ("a download with a length", [], GET, [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
     b"hello"], 0, 5),
    ("a stream before its first event", [], GET, [EVENTS + b"Transfer-Encoding: chunked\r\n\r\n"],
     0, 0),
    ("a filtered stream", [upper], GET, [EVENTS + b"\r\n", b"hello"], 0, 5),
    ("a long poll", [], GET, [], 0, 0),
    ("an upload before its response", [], POST, [], 0, 0),
    ("an upload whose response has begun", [], POST,
     [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n"], 10, 5),
    ("a tunnel", [], UPGRADE, [SWITCH, b"hello"], 0, 5),
    ("a policy that waits", [wait], GET, [], 0, 0),
    ("a body that is collected", [collect], GET,
     [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", b"hello"], 0, 0),
]  # fmt: skip


@eachRow(ROWS)
class RunningTests(SynchronousTestCase):
    """While it runs it has a row, is counted as under way, and its bytes are counted."""

    def check(
        self, policies: list[Any], sends: bytes, pieces: list[bytes], bytesIn: int, bytesOut: int
    ) -> None:
        """Let it run, look, let it end in two ways, and look again."""
        endings: tuple[Callable[[Peer], None], ...] = (Peer.resets, Peer.closes)
        for ending in endings:
            harness = Harness(policies)
            stats = Stats(harness.clock)
            stats.watch(harness.context.exchanges)
            harness.context.observers.append(stats)
            client = harness.connect()
            client.sends(sends)
            if policies != [wait]:
                upstream = harness.upstream()
                for piece in pieces:
                    upstream.sends(piece)
            harness.settle()
            self.assertEqual(endpointsByName(stats.snapshot()), {})
            harness.advance(1)
            row = endpointsByName(stats.snapshot())[f"{sends.split()[0].decode()} /x"]
            self.assertEqual(
                (row["hits"], row["underWay"], row["bytesIn"], row["bytesOut"]),
                (0, 1, bytesIn, bytesOut),
            )
            ending(client)
            harness.closeAll()
            row = endpointsByName(stats.snapshot())[f"{sends.split()[0].decode()} /x"]
            self.assertEqual((row["hits"], row["underWay"]), (1, 0))
            self.assertGreaterEqual(row["bytesIn"], bytesIn)
            self.assertEqual(row["bytesOut"], bytesOut)
