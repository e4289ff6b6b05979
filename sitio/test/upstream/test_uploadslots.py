"""
Tests of L{sitio.upstream.uploadslots} and of the slowest rate of a body.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import ClientGone, PoolExhausted, RequestTimeout
from sitio.http.codec import chunk
from sitio.net.deadlines import PERIOD_SECONDS
from sitio.policy.functions import onRequest
from sitio.settings import BODY_GRACE_SECONDS, Settings
from sitio.test.helpers.observed import ObservedCase
from sitio.testing import Harness
from sitio.upstream.uploadslots import UploadSlots, slotsOf

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
CHUNKS = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


class SlotsTests(SynchronousTestCase):
    """A bounded number of slots, given in order."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.slots = UploadSlots(self.clock, Settings(poolUploads=1, poolQueue=2, poolTimeout=5.0))

    def test_default(self) -> None:
        """By default three quarters of the pool, at least one; an option says otherwise."""
        self.assertEqual(slotsOf(Settings(poolSize=1024)), 768)
        self.assertEqual(slotsOf(Settings(poolSize=1)), 1)
        self.assertEqual(slotsOf(Settings(poolSize=8, poolUploads=8)), 8)
        self.assertEqual(slotsOf(Settings(poolSize=4, poolUploads=8)), 4)

    def test_inOrder(self) -> None:
        """A slot that becomes free goes to the one that waits longest, and not past it."""
        self.assertTrue(self.slots.take())
        self.assertFalse(self.slots.take())
        first, second = self.slots.wait(), self.slots.wait()
        self.slots.release()
        self.assertTrue(self.successResultOf(first))
        self.assertNoResult(second)
        self.assertFalse(self.slots.take())
        self.slots.release()
        self.assertTrue(self.successResultOf(second))
        self.slots.release()
        self.assertTrue(self.slots.take())

    def test_bounds(self) -> None:
        """Neither the queue nor the time in it is endless."""
        self.slots.take()
        waiting = [self.slots.wait() for _ in range(3)]
        self.failureResultOf(waiting[2], PoolExhausted)
        self.clock.advance(5.0)
        for each in waiting[:2]:
            self.failureResultOf(each, PoolExhausted)
        self.slots.release()
        self.assertTrue(self.slots.take())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """One that is cancelled, or needs no slot any more, takes none."""
        self.slots.take()
        cancelled, skipped = self.slots.wait(), self.slots.wait()
        cancelled.cancel()
        self.failureResultOf(cancelled)
        self.slots.skip(skipped)
        self.assertFalse(self.successResultOf(skipped))
        self.slots.release()
        self.assertTrue(self.slots.take())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class UploadCase(ObservedCase):
    """A sidecar in memory."""

    def statuses(self) -> list[int | None]:
        """Those of the exchanges that have ended."""
        return [each.status for each in self.told]

    def assertSlots(self) -> None:
        """All slots are free again, and nothing else is left."""
        self.sidecar.assertQuiet()
        uploads: Any = self.sidecar.pool.uploads
        self.assertEqual(uploads._free, slotsOf(self.sidecar.context.settings))
        self.assertEqual(len(uploads._waiting), 0)


class HoldingTests(UploadCase):
    """Uploads hold only a part of the upstream's connections."""

    def test_flood(self) -> None:
        """Many slow uploads leave connections to other requests, which pass at once."""
        self.sidecar = Harness(settings=Settings(poolSize=8, poolQueue=50))
        slow = [self.sidecar.connect() for _ in range(20)]
        for each in slow:
            each.sends(POST % 1000 + b"x")
        self.assertEqual(len(self.sidecar.upstreams), 6)
        for _ in range(3):
            for each in slow:
                each.sends(b"x")
            client = self.sidecar.connect()
            client.sends(GET)
            self.sidecar.upstreams[6].sends(OK)
            self.assertEqual(client.gotResponse().status, 200)
            self.sidecar.advance(1.0)
        self.sidecar.advance(2.0 + PERIOD_SECONDS)
        # Those that waited for a slot have got 503.
        self.assertEqual([each.gotResponse().status for each in slow[6:]], [503] * 14)
        self.assertEqual(len(self.sidecar.upstreams), 7)
        for each in slow[:6]:
            each.resets()
        self.assertSlots()

    def test_next(self) -> None:
        """The end of a body frees its slot for the next upload, before its response."""
        self.open(poolSize=1, poolUploads=1)
        self.sidecar = Harness(settings=Settings(poolSize=4, poolUploads=1))
        first, second, third = (self.sidecar.connect() for _ in range(3))
        for each in (first, second, third):
            each.sends(POST % 4 + b"bo")
        self.assertEqual(len(self.sidecar.upstreams), 1)
        first.sends(b"dy")
        self.assertEqual(len(self.sidecar.upstreams), 2)
        # The third is complete while it waits: it needs no slot.
        third.sends(b"dy")
        self.assertEqual(len(self.sidecar.upstreams), 3)
        second.sends(b"dy")
        for client, upstream in zip((first, second, third), self.sidecar.upstreams):
            self.assertTrue(upstream.got().endswith(b"body"))
            upstream.sends(OK)
            self.assertEqual(client.gotResponse().status, 200)
        self.assertSlots()

    def test_ends(self) -> None:
        """Each way in which an upload ends gives its slot back."""

        def answers() -> None:
            self.upstream.sends(OK)

        def breaks() -> None:
            self.upstream.resets()

        def leaves() -> None:
            self.client.resets()

        def malformed() -> None:
            self.client.sends(b"no chunk\r\n")

        def stops() -> None:
            self.sidecar.factory.abort()

        for end in (answers, breaks, leaves, malformed, stops):
            self.open(poolUploads=1)
            self.client.sends(CHUNKS + chunk(b"x"))
            self.assertEqual(len(self.sidecar.upstreams), 1)
            end()
            self.sidecar.settle()
            self.assertEqual(len(self.told), 1, end)
            self.assertSlots()

    def test_goneWhileWaiting(self) -> None:
        """A client that leaves while it waits for a slot, or a connection, leaves nothing."""
        self.open(poolUploads=1)
        self.sidecar.holdConnections()
        other = self.sidecar.connect()
        for each in (other, self.client):
            each.sends(POST % 4 + b"x")
        self.client.resets()
        other.resets()
        self.sidecar.settle()
        self.assertEqual([type(each.failure) for each in self.told], [ClientGone] * 2)
        self.assertSlots()

    def test_retried(self) -> None:
        """A failed connection keeps the slot to the end of the exchange, not longer."""
        self.open(poolUploads=1)
        self.sidecar.refuseConnections()
        self.client.sends(POST % 4 + b"x")
        self.assertEqual(self.client.gotResponse().status, 502)
        self.assertSlots()

    def test_policyAnswers(self) -> None:
        """A policy that replaces the body ends the upload, so that it needs no slot."""

        @onRequest
        def replaces(exchange: Any) -> None:
            exchange.request.body = b"mine"

        self.open(replaces, poolUploads=1)
        first = self.client
        second = self.sidecar.connect()
        for each in (first, second):
            each.sends(POST % 4 + b"x")
        self.assertEqual(len(self.sidecar.upstreams), 2)
        self.sidecar.closeAll()
        self.assertSlots()


class RateTests(UploadCase):
    """A body that comes too slowly gets 408."""

    def drip(self, seconds: float, times: int, size: int = 1) -> None:
        """Send a few bytes, with pauses between them."""
        for _ in range(times):
            self.sidecar.advance(seconds)
            if self.client.transport.connected:
                self.client.sends(chunk(b"x" * size))

    def begin(self, **settings: Any) -> None:
        """Begin an upload."""
        self.open(**settings)
        self.client.sends(CHUNKS)
        self.client.sends(chunk(b"x"))

    def assertSlow(self) -> None:
        """The client got 408, and the upstream's connection is closed."""
        self.sidecar.settle()
        self.assertEqual(self.client.gotResponse().status, 408)
        [exchange] = self.told
        self.assertIs(type(exchange.failure), RequestTimeout)
        self.assertIn("240 bytes per second", str(exchange.failure))
        self.assertTrue(self.upstream.reset)
        self.assertSlots()

    def test_drip(self) -> None:
        """One byte in five seconds: 408 after the time that each body has."""
        self.begin()
        self.drip(5.0, 3)
        self.assertEqual(self.told, [])
        self.sidecar.advance(BODY_GRACE_SECONDS - 15.0 + PERIOD_SECONDS)
        self.assertSlow()

    def test_fast(self) -> None:
        """A body that is fast enough goes on for hours."""
        self.begin()
        self.drip(5.0, 1000, 1200)
        self.assertEqual(self.told, [])
        self.client.sends(b"0\r\n\r\n")
        self.upstream.sends(OK)
        self.assertEqual(self.client.gotResponse().status, 200)
        self.assertSlots()

    def test_fastThenSlow(self) -> None:
        """A long fast beginning pays for a pause, not for hours of drips."""
        self.begin()
        self.client.sends(chunk(b"x" * 1_000_000))
        self.drip(5.0, 11)
        self.assertEqual(self.told, [])
        self.drip(5.0, 2)
        self.assertSlow()

    def test_off(self) -> None:
        """With 0 only pauses count."""
        self.begin(minBodyRate=0)
        self.drip(50.0, 20)
        self.assertEqual(self.told, [])
        self.client.resets()
        self.assertSlots()

    def test_slowUpstream(self) -> None:
        """A pause that the upstream asks for does not count against the client."""
        self.begin()
        self.upstream.stopsReading()
        self.client.sends(chunk(b"x" * 100_000))
        self.assertTrue(self.client.paused)
        self.sidecar.advance(50.0)
        self.upstream.resumesReading()
        self.assertFalse(self.client.paused)
        self.drip(5.0, 2)
        self.assertEqual(self.told, [])
        self.client.resets()
        self.assertSlots()

    def test_beforeTheFirstByte(self) -> None:
        """A client may wait for 100 (Continue) for longer than that."""
        self.open()
        self.client.sends(POST[:-2] % 4 + b"Expect: 100-continue\r\n\r\n")
        self.sidecar.advance(40.0)
        self.upstream.sends(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.sidecar.advance(15.0)
        self.client.sends(b"body")
        self.upstream.sends(OK)
        self.assertIn(b"200 OK", self.client.got())
        self.assertSlots()

    def test_responseStreams(self) -> None:
        """Once the response has begun, both directions may be as slow as they like."""
        self.begin()
        self.upstream.sends(b"HTTP/1.1 200 OK\r\n\r\n")
        self.drip(15.0, 20)
        self.assertEqual(self.told, [])
        self.client.resets()
        self.assertSlots()
