"""
Tests of what is buffered in all: it is bounded, and each byte is given back.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, onRequest, onResponse
from sitio.settings import Settings
from sitio.testing import Harness
from sitio.testing.network import Peer

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"

#: Long enough that it is counted while its client does not take it.
SIZE = 100_000

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = b"x" * SIZE

SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"


class BufferCase(SynchronousTestCase):
    """A base for tests with a sidecar that may buffer three responses."""

    def serve(self, *policies: Any, limit: int = 1024 * 1024) -> None:
        """Make a sidecar with these policies."""
        settings = Settings(bufferLimit=limit, bufferTotal=3 * SIZE + 1000)
        self.harness = Harness(policies, settings=settings)
        self.seen: list[int] = []

    def ask(self, reads: bool = True) -> tuple[Peer, Peer]:
        """Send a request; returns its client and the upstream that got it."""
        client = self.harness.connect()
        if not reads:
            client.stopsReading()
        client.sends(GET)
        [upstream] = [each for each in self.harness.upstreams if not each.closed][-1:]
        upstream.gotRequest()
        return client, upstream

    def whole(self) -> Any:
        """A policy that records the sizes of the bodies that it gets."""

        def policy(exchange: Any, response: Response) -> None:
            self.seen.append(len(response.body or b""))

        return onResponse(buffered=True)(policy)

    def assertHeld(self, size: int) -> None:
        """Check how many bytes are counted."""
        self.harness.settle()
        self.assertEqual(self.harness.context.buffers.held, size)


class CollectingTests(BufferCase):
    """Bodies that are being collected count, as far as their length is known."""

    def test_announced(self) -> None:
        """
        A body with a length counts from its head on.  One that does not fit streams: the
        policy is skipped, it counts as too long, and nothing of it is lost.
        """
        self.serve(self.whole())
        peers = [self.ask() for _ in range(4)]
        for number, (_, upstream) in enumerate(peers):
            upstream.sends(HEAD + b"x")
            self.assertHeld(min(number + 1, 3) * SIZE)
        self.assertEqual(self.harness.context.tooLong, 1)
        for _, upstream in peers:
            upstream.sends(BODY[1:])
        for client, _ in peers:
            self.assertEqual(client.gotResponse().body, BODY)
        self.assertEqual(self.seen, [SIZE] * 3)
        self.assertHeld(0)
        # There is room again.
        client, upstream = self.ask()
        upstream.sends(HEAD + b"x")
        upstream.sends(BODY[1:])
        self.assertEqual((client.gotResponse().body, len(self.seen)), (BODY, 4))
        self.harness.assertQuiet()

    def test_unknownLength(self) -> None:
        """A body without a length counts as it comes, and streams when it does not fit."""
        self.serve(self.whole())
        peers = [self.ask() for _ in range(4)]
        for _, upstream in peers:
            upstream.sends(CHUNKED)
        for _, upstream in peers:
            upstream.sends(b"%x\r\n%b\r\n" % (SIZE, BODY))
        self.assertHeld(3 * SIZE)
        for _, upstream in peers:
            upstream.sends(b"0\r\n\r\n")
        for client, _ in peers:
            self.assertEqual(client.gotResponse().body, BODY)
        self.assertEqual((self.seen, self.harness.context.tooLong), ([SIZE] * 3, 1))
        self.assertHeld(0)

    def test_ends(self) -> None:
        """However the collecting ends, nothing stays counted."""
        for how in ("client", "upstream", "stall", "end"):
            self.serve(self.whole())
            client, upstream = self.ask()
            upstream.sends(HEAD + b"x")
            self.assertHeld(SIZE)
            if how == "client":
                client.resets()
            elif how == "upstream":
                upstream.resets()
            elif how == "stall":
                self.harness.advance(70)
            else:
                self.harness.factory.abort()
            self.assertHeld(0)
            self.harness.assertQuiet()

    def test_severalPolicies(self) -> None:
        """Two policies that want the same body count it once; a skipped one skips the other."""
        self.serve(self.whole(), self.whole())
        _, upstream = self.ask()
        upstream.sends(HEAD + b"x")
        self.assertHeld(SIZE)
        self.harness.context.buffers.hold(2 * SIZE + 500)
        client, other = self.ask()
        other.sends(HEAD + b"x")
        self.assertHeld(3 * SIZE + 500)
        self.assertEqual((self.seen, self.harness.context.tooLong), ([], 1))
        other.sends(BODY[1:])
        self.assertEqual(client.gotResponse().body, BODY)


class DecidingTests(BufferCase):
    """What is there while a policy takes its time counts, too."""

    def test_waits(self) -> None:
        """A body that came at once counts while a policy waits, and no longer."""
        for buffered in (False, True):
            waits: Deferred[None] = Deferred()
            self.serve(onResponse(buffered=buffered)(lambda exchange, response, waits=waits: waits))
            client, upstream = self.ask()
            upstream.sends(SHORT)
            self.assertHeld(10)
            waits.callback(None)
            self.assertEqual(client.gotResponse().body, b"0123456789")
            self.assertHeld(0)

    def test_clientGone(self) -> None:
        """If the client leaves meanwhile, nothing stays counted."""
        self.serve(onResponse()(lambda exchange, response: Deferred()))
        client, upstream = self.ask()
        upstream.sends(SHORT)
        self.assertHeld(10)
        client.resets()
        self.assertHeld(0)
        self.harness.assertQuiet()


class UnsentTests(BufferCase):
    """A whole body that its client does not take counts until it has left."""

    def test_takenLater(self) -> None:
        """It counts until the client has read it; then the connection goes on."""
        self.serve(self.whole())
        client, upstream = self.ask(reads=False)
        upstream.sends(HEAD + b"x")
        upstream.sends(BODY[1:])
        self.assertHeld(SIZE)
        self.assertEqual(self.harness.context.exchanges, set())
        client.resumesReading()
        self.assertEqual(client.gotResponse().body, BODY)
        self.assertHeld(0)
        client.sends(GET)
        self.harness.upstream().gotRequest()

    def test_neverTaken(self) -> None:
        """It counts until the connection is lost, in whatever way."""
        for how in ("resets", "closes", "timeout"):
            for close in (b"", b"Connection: close\r\n"):
                self.serve(self.whole())
                client = self.harness.connect()
                client.stopsReading()
                client.sends(GET[:-2] + close + b"\r\n")
                upstream = self.harness.upstream()
                upstream.gotRequest()
                upstream.sends(HEAD + b"x")
                upstream.sends(BODY[1:])
                self.assertHeld(SIZE)
                if how != "timeout":
                    getattr(client, how)()
                self.harness.advance(200)

    def test_madeByPolicies(self) -> None:
        """A body that a policy has made counts as well, and is never refused."""
        page = Response(200, body=BODY)
        for policy in (
            onRequest(lambda exchange: page),
            onRequest(lambda exchange: succeed(page)),
        ):
            self.serve(policy)
            clients = []
            for number in range(5):
                client = self.harness.connect()
                client.stopsReading()
                client.sends(GET)
                clients.append(client)
                self.assertHeld((number + 1) * SIZE)
            for client in clients:
                client.resumesReading()
                self.assertEqual(client.gotResponse().body, BODY)
            self.assertHeld(0)

    def test_crowded(self) -> None:
        """While clients take nothing, later responses stream: no policy collects more."""
        self.serve(self.whole())
        peers = []
        for _ in range(10):
            client, upstream = self.ask(reads=False)
            upstream.sends(HEAD + b"x")
            upstream.sends(BODY[1:])
            peers.append(client)
        self.assertHeld(3 * SIZE)
        self.assertEqual((self.seen, self.harness.context.tooLong), ([SIZE] * 3, 7))
        for client in peers:
            client.resumesReading()
        for client in peers:
            self.assertEqual(client.gotResponse().body, BODY)
        self.assertHeld(0)
        self.harness.assertQuiet()

    def test_small(self) -> None:
        """A small response is not counted: what a transport buffers of it is little."""
        self.serve(onRequest(lambda exchange: Response(200, body=b"x" * 10_000)))
        client = self.harness.connect()
        client.stopsReading()
        client.sends(GET)
        self.assertHeld(0)
