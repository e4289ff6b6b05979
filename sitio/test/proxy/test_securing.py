"""
Promises of L{sitio.proxy.securing}: a client that does not finish its handshake takes no place of
others, and ends in time.
"""

from __future__ import annotations

from unittest import mock

from twisted.logger import capturedLogs

from sitio.net.deadlines import PERIOD_SECONDS
from sitio.net.room import Room
from sitio.proxy import factory
from sitio.proxy.securing import PLACE_SECONDS
from sitio.settings import DRAIN_IDLE_SECONDS, Settings
from sitio.test.helpers.tls import SecureClient
from sitio.test.helpers.tlscase import TLSTestCase
from sitio.testing.harness import Harness
from sitio.testing.network import OPEN, RESET

HEAD_SECONDS = 8
CLIENTS = 4


class SecuringTests(TLSTestCase):
    """Handshakes of clients that have all the time in the world."""

    def setUp(self) -> None:
        super().setUp()
        self.sidecar = Harness(settings=Settings(headTimeout=HEAD_SECONDS, maxClients=CLIENTS))
        self.room = self.sidecar.factory.room = Room(CLIENTS)
        self.factory = self.port()
        self.patch(factory, "STALLED_SHARE", 1)

    def begin(self) -> SecureClient:
        """Connect a client that has not begun its handshake, as a port does it."""
        self.room.take()
        client = self.connect()
        lost = client.peer.transport.protocol.connectionLost

        def gone(reason: object) -> None:
            lost(reason)  # type: ignore[arg-type]
            self.room.leave()

        self.patch(client.peer.transport.protocol, "connectionLost", gone)
        return client

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(int(seconds / PERIOD_SECONDS)):
            self.sidecar.advance(PERIOD_SECONDS)

    def test_inTime(self) -> None:
        """A handshake in time keeps the place that the client has from the start."""
        client = self.begin()
        self.assertEqual((self.sidecar.factory.connections, self.room.taken), (1, 1))
        client.handshake()
        self.pass_(PLACE_SECONDS + 1)
        self.assertEqual((self.sidecar.factory.connections, self.room.taken), (1, 1))
        self.served(client)
        self.assertEqual(client.data[-2:], b"hi")

    def test_slow(self) -> None:
        """A slow one has no place after a second, and gets one when it has ended."""
        slow = self.begin()
        self.pass_(PLACE_SECONDS + 2 * PERIOD_SECONDS)
        self.assertEqual((self.sidecar.factory.connections, self.room.taken), (0, 0))
        for _ in range(CLIENTS - 1):
            self.begin().handshake()
        slow.handshake()
        self.assertEqual((self.sidecar.factory.connections, self.room.taken), (CLIENTS, CLIENTS))
        self.served(slow)

    def test_noPlaceLeft(self) -> None:
        """If all places are taken by then, it is refused."""
        slow = self.begin()
        self.pass_(PLACE_SECONDS + 2 * PERIOD_SECONDS)
        for _ in range(CLIENTS):
            self.begin().handshake()
        with capturedLogs() as events:
            slow.handshake()
            self.sidecar.settle()
        self.assertEqual(slow.peer.state, RESET)
        self.assertEqual([each["clients"] for each in events], [CLIENTS])
        self.assertEqual((self.sidecar.factory.connections, self.room.taken), (CLIENTS, CLIENTS))

    def test_timeout(self) -> None:
        """The whole handshake has the time of a head, measured from the start."""
        slow = self.begin()
        slow.peer.sends(b"\x16\x03\x01")
        self.pass_(HEAD_SECONDS - 1)
        self.assertEqual(slow.peer.state, OPEN)
        slow.peer.sends(b"\x02\x00")
        self.pass_(1 + 2 * PERIOD_SECONDS)
        self.assertEqual(slow.peer.state, RESET)
        self.assertEqual(self.room.taken, 0)
        self.sidecar.assertQuiet()

    def test_shortTimeout(self) -> None:
        """That is so also if a head has less than a second."""
        self.sidecar = Harness(settings=Settings(headTimeout=0.5))
        self.sidecar.factory.room = self.room
        self.factory = self.port()
        slow = self.begin()
        self.pass_(0.5 + 2 * PERIOD_SECONDS)
        self.assertEqual(slow.peer.state, RESET)
        self.assertEqual(self.room.taken, 0)

    def test_bounded(self) -> None:
        """Of too many slow ones, the oldest is aborted: a part of the clients, and so many."""
        for most in (1, 2):
            with mock.patch.multiple(factory, MAX_STALLED=most, STALLED_SHARE=most / CLIENTS):
                slow = []
                for _ in range(3):
                    # At one look the order is any.
                    slow.append(self.begin())
                    self.pass_(2 * PERIOD_SECONDS)
                self.pass_(PLACE_SECONDS + 2 * PERIOD_SECONDS)
                states = [each.peer.state for each in slow]
                self.assertEqual(states, [*[RESET] * (3 - most), *[OPEN] * most])
                self.assertEqual(self.room.taken, 0)
                for each in slow[-most:]:
                    each.peer.resets()
                self.assertEqual(self.room.taken, 0)

    def test_drain(self) -> None:
        """When sitio stops, it waits for no handshake for long."""
        early, slow = self.begin(), self.begin()
        self.pass_(PLACE_SECONDS + 2 * PERIOD_SECONDS)
        late = self.begin()
        drained = self.sidecar.factory.drain()
        early.handshake()
        self.served(early)
        self.assertIn(b"Connection: close", early.data)
        early.closes()
        self.assertNoResult(drained)
        self.pass_(DRAIN_IDLE_SECONDS + 2 * PERIOD_SECONDS)
        self.assertEqual((slow.peer.state, late.peer.state), (RESET, RESET))
        self.successResultOf(drained)
        self.assertEqual(self.room.taken, 0)

    def test_abort(self) -> None:
        """At the end of the grace all handshakes are aborted."""
        slow = self.begin()
        self.pass_(PLACE_SECONDS + 2 * PERIOD_SECONDS)
        fresh = self.begin()
        self.sidecar.factory.abort()
        self.sidecar.settle()
        self.assertEqual((slow.peer.state, fresh.peer.state), (RESET, RESET))
