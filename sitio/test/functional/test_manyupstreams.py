"""
Random conversations with several upstreams: routes, retries, hedges, PROXY headers, names whose
endpoints change, and generations that replace each other.  sitio keeps its promises.

All chances of a conversation come from its seed, and time from a clock in memory, so that each
conversation is the same at each run.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from traceback import format_exc
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.proxyheader import LOCAL
from sitio.proxy import server
from sitio.proxy.exchange import Exchange
from sitio.proxy.generation import Generation
from sitio.test.helpers.logs import recorded
from sitio.test.helpers.manyupstreams import GOOD, NAMED, OTHER, SWITCHED, Configurations, request
from sitio.test.helpers.rows import eachRow
from sitio.testing import Harness, MemoryEndpoint, Peer
from sitio.upstream.ejection import EjectionSettings
from sitio.upstream.pool import UpstreamPool
from sitio.upstream.uploadslots import slotsOf
from sitio.wiring.generations import Generations

#: How many conversations there are.  They take a few seconds in all; the first third of them
#: reaches all rare events.
SEEDS = 150

#: How many events a conversation has, at least and at most.  Few events find what goes wrong at
#: the beginning, and many find what others have left behind.
EVENTS_FEW, EVENTS_MANY = 5, 160

#: Seconds after which each wait is over, also that of a request with all ten attempts: each waits
#: for policies, for a connection and for the head of a response.
ALL_WAITS = 120.0

#: How each PROXY header begins.
SIGNATURE = LOCAL[:12]

#: What an upstream may do with a connection.
WAYS = (*("closes", "stopsReading") * 3, "resets", "resumesReading")

# --- Who takes part


def brief(data: bytes) -> str:
    """Bytes as a step shows them; of many only the first ones."""
    return repr(data) if len(data) < 200 else f"{data[:150]!r}... ({len(data)} bytes)"


@define(eq=False)
class Client:
    """
    A client.

    @ivar rest: the part of its last request that it has not sent.
    @ivar hasEnded: whether it sends no more.
    """

    peer: Peer
    rest: bytes = b""
    hasEnded: bool = False


@define
class Observer:
    """Counts how often each exchange is observed."""

    seen: Counter[Any] = field(factory=Counter)

    def exchangeFinished(self, exchange: Any) -> None:
        self.seen[exchange] += 1


class World:
    """
    A proxy with three upstreams, its clients, and the network behind it.

    @ivar steps: what has happened, for people.
    @ivar ended: the upstreams' ends of connections that send no more.
    @ivar broken: promises about former generations that did not hold.
    @ivar reached: rare events, and how often they happened.
    """

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.steps: list[str] = []
        self.clients: list[Client] = []
        self.ended: set[Peer] = set()
        self.broken: list[str] = []
        self.reached: Counter[str] = Counter()
        self.observer = Observer()
        # Its clock is that of all.
        self.configured = configured = Configurations(random, Clock())
        self.harness = Harness(
            configured.someFirst(),
            settings=configured.settings,
            clock=configured.clock,
            observers=[self.observer],
            generation=configured.first,
        )
        self.context = self.harness.context
        self.generations = Generations(configured.clock, configured.deadlines, self.context)
        self.generations.startService()
        if random.random() < 0.3:
            for each in self.places:
                each.decision = None

    # --- Who is there

    @property
    def places(self) -> list[MemoryEndpoint]:
        """All places in the network."""
        return [each for places in self.configured.network.endpoints.values() for each in places]

    @property
    def peers(self) -> list[Peer]:
        """The upstreams' ends of connections that may still send."""
        found = [peer for place in self.places for peer in place.peers]
        return [each for each in found if not each.closed and each not in self.ended]

    @property
    def pools(self) -> list[UpstreamPool]:
        return [pool for cluster in self.configured.clusters for pool in cluster.pools]

    @property
    def unnoticed(self) -> list[Client]:
        """
        Clients from which sitio does not read now: an upstream takes no more of their body or
        of their tunnel, or they wait for a connection.  sitio does not notice that they leave
        before it reads again, or before a timeout.  That is accepted.
        """
        return [each for each in self.clients if each.peer.paused and each.peer.transport.connected]

    def tell(self, what: str) -> None:
        self.steps.append(f"{self.configured.clock.seconds():g} s: {what}")

    # --- What may happen

    def happens(self) -> None:
        """One event."""
        self.random.choice(EVENTS)(self)
        self.harness.settle()

    def asks(self) -> None:
        """A client, perhaps a new one, sends requests, a part of one, or the rest of it."""
        random = self.random
        if not self.clients or random.random() < 0.2:
            self.clients.append(Client(self.harness.connect()))
        begun = [each for each in self.clients if each.rest]
        client = random.choice(begun if begun and random.random() < 0.5 else self.clients)
        if client.hasEnded or client.peer.closed:
            return
        count = random.choice((1, 1, 1, 1, 2))
        data = client.rest or b"".join(request(random) for _ in range(count))
        at = random.randrange(1, len(data) + 1) if random.random() < 0.5 else len(data)
        client.rest = data[at:]
        self.tell(f"client {self.clients.index(client)} sends {brief(data[:at])}")
        client.peer.sends(data[:at])

    def onePeer(self) -> Peer | None:
        """An end of a connection, mostly one that was asked something."""
        random, peers = self.random, self.peers
        asked = [each for each in peers if each.pieces]
        if asked and random.random() < 0.9:
            peers = asked
        return random.choice(peers) if peers else None

    def responds(self) -> None:
        """An upstream sends a response, a part of one, or something else."""
        random, peer = self.random, self.onePeer()
        if peer is None:
            return
        # One that leaves its bytes unread counts as asked, and responds once more.
        data = peer.got() if random.random() < 0.7 else b""
        self.reached["PROXY header"] += data.startswith(SIGNATURE)
        sent = random.choice(GOOD if random.random() < 0.5 else OTHER)
        if b"Upgrade: " in data and random.random() < 0.7:
            sent = SWITCHED
        self.tell(f"an upstream sends {sent!r}")
        peer.sends(sent)

    def disturbs(self) -> None:
        """An upstream ends a connection, stops reading, or reads again."""
        peer = self.onePeer()
        way = self.random.choice(WAYS)
        if peer is not None:
            self.tell(f"an upstream {way}")
            if way in ("closes", "resets"):
                self.ended.add(peer)
            getattr(peer, way)()

    def decides(self) -> None:
        """A place accepts connections from now on, refuses them, or leaves them pending."""
        pending = [each for each in self.places if each.pending]
        place = self.random.choice(pending or self.places)
        verdict = self.random.choice((place.accept, place.accept, place.accept, place.refuse, None))
        self.tell(f"connections: {verdict.__name__ if verdict else 'pending'}")
        place.decision = verdict
        place.decide()

    def passes(self) -> None:
        """Time passes: less than any timeout, or more than some."""
        seconds = self.random.choice((0.1, 0.3, 0.6, 1.1, 3, 5))
        self.tell(f"{seconds} seconds pass")
        self.harness.advance(seconds)

    def leaves(self) -> None:
        """A client ends its connection, or its direction."""
        here = [each for each in self.clients if not each.hasEnded and not each.peer.closed]
        if here:
            client = self.random.choice(here)
            way = self.random.choice(("closes", "resets", "halfCloses"))
            self.tell(f"client {self.clients.index(client)} {way}")
            client.hasEnded = True
            getattr(client.peer, way)()

    def adopts(self) -> None:
        """Another generation takes the place of the current one, perhaps with another upstream."""
        former = self.context.generation
        upstreams: dict[str, Any] = dict(former.upstreams)
        if self.random.random() < 0.4:
            name = self.random.choice(("photos", "canary"))
            addresses = self.random.choice((("a:1", "g:1"), ("d:1",)))
            upstreams[name] = self.configured.cluster(name, *addresses, ejection=EjectionSettings())
        self.tell(f"another generation, {len(self.harness.exchanges)} exchanges have ended")
        after = self.configured.generation(upstreams, former.number + 1)
        ended = self.generations.adopt(self.generations.prepare(lambda *_: after))
        self.reached["outlived generation"] += not ended.called
        ended.addCallback(self._formerEnded, former)
        ended.addErrback(lambda failure: self.broken.append(failure.getTraceback()))

    def _formerEnded(self, _: object, former: Generation) -> None:
        under = self.context.exchanges
        if any(each.route.upstreams is former.upstreams for each in under):
            self.broken.append("a generation ended before its exchanges")

    def discovers(self) -> None:
        """DNS names other endpoints of an upstream, or none."""
        # An upstream with a single endpoint that never changes has no name to look up.
        named = [each for each in self.generations.upstreams if each.only is None]
        cluster = self.random.choice(named)
        found = [(each, 1) for each in NAMED if self.random.random() < 0.5]
        self.tell(f"DNS has {found} for {cluster.name}")
        # As its discovery calls it.
        cluster._found(found)

    # --- The end

    def everybodyLeaves(self) -> None:
        """All clients leave at once."""
        self.tell("all clients leave")
        for each in self.clients:
            if not each.peer.closed:
                each.peer.resets()
        # Some of a turn's work is put off to the next.
        self.harness.advance(0.01)

    def stops(self) -> Deferred[Any]:
        """All upstreams stop, and end their connections."""
        stopped = self.generations.stopUpstreams()
        for place in self.places:
            place.decision = place.refuse
            place.decide()
            for peer in place.peers:
                if not peer.closed:
                    peer.resets()
        self.harness.settle()
        return stopped


#: How often each event happens, in relation to others.
EVENTS = (
    *(World.asks,) * 11,
    *(World.responds,) * 9,
    *(World.disturbs,) * 3,
    *(World.decides,) * 4,
    *(World.passes,) * 4,
    World.leaves,
    World.adopts,
    World.discovers,
)


def isError(event: LogEvent) -> bool:
    """Whether a line of the log tells of a mistake in sitio."""
    severe = event.get("log_level") in (LogLevel.error, LogLevel.critical)
    return severe or "log_failure" in event


class Conversing(SynchronousTestCase):
    """Plays conversations."""

    def begin(self, seed: int) -> World:
        """The world of this seed; C{self.made} has the exchanges that begin in it."""
        made: list[Any] = []
        self.made = made

        class Numbered(Exchange):
            """
            Has a hash that is the same at each run: sitio looks at deadlines in the order of a
            set, and what policies do depends on that order.
            """

            __slots__ = ("number",)

            def __init__(self, *arguments: Any) -> None:
                self.number = len(made)
                made.append(self)
                Exchange.__init__(self, *arguments)

            def __hash__(self) -> int:
                return self.number

            __eq__ = object.__eq__

        self.patch(server, "Exchange", Numbered)
        return World(seed)

    def converse(self, world: World) -> None:
        """What happens before all clients leave."""
        for _ in range(world.random.randrange(EVENTS_FEW, EVENTS_MANY)):
            world.happens()


@eachRow([(f"Conversation {seed} keeps all promises", seed) for seed in range(SEEDS)])
class Conversations(Conversing):
    """
    The promises that hold in each conversation.

    Each conversation has a test of its own, named after its seed, so that C{trial} can run it
    alone: C{Conversations.test_Conversation_7_keeps_all_promises} of this module.  A failure
    shows what happened in the conversation.
    """

    def check(self, seed: int) -> None:
        world = self.begin(seed)
        try:
            with recorded() as log:
                self.play(world)
                self.assertNothingIsLeft(world)
            self.assertEqual([formatEvent(each) for each in log.events if isError(each)], [])
        except Exception:
            steps = "\n".join(world.steps)
            raise AssertionError(f"{format_exc()}\nConversation {seed}:\n{steps}") from None

    def play(self, world: World) -> None:
        """A whole conversation, and what holds when all its clients have left."""
        self.converse(world)
        unnoticed = world.unnoticed
        world.everybodyLeaves()
        if not unnoticed:
            self.assertNothingUnderWay(world)
        world.harness.advance(ALL_WAITS)
        self.assertNothingUnderWay(world)
        self.assertPoolsEmpty(world)
        self.assertFormerGenerationsEnded(world)
        self.assertObservedOnce(world)
        for each in self.made:
            self.assertAttemptsTold(each)
            self.assertTimesAddUp(each)

    def assertNothingUnderWay(self, world: World) -> None:
        """No exchange is left, nor what exchanges hold: buffers, slots, places in queues."""
        context = world.context
        self.assertEqual(context.exchanges, set())
        self.assertEqual(context.buffers.held, 0)
        for each in world.pools:
            self.assertEqual(each.snapshot()["waiting"], 0, each)
            self.assertEqual(each.uploads._free, slotsOf(world.configured.settings), each)
            self.assertFalse(each.uploads._waiting, each)

    def assertPoolsEmpty(self, world: World) -> None:
        """No connection is in use.  For a while, some read the rest of an unwanted response."""
        for each in world.pools:
            self.assertEqual(each.outstanding, 0, each)

    def assertFormerGenerationsEnded(self, world: World) -> None:
        """A former generation ends with its last exchange: not before it, and not later."""
        self.assertEqual(world.broken, [])
        current = world.context.generation
        self.assertEqual([each.generation for each in world.generations.prepared], [current])

    def assertObservedOnce(self, world: World) -> None:
        """Each exchange is observed, and once."""
        self.assertEqual(world.observer.seen, Counter(self.made))

    def assertAttemptsTold(self, exchange: Any) -> None:
        """An exchange tells as many attempts as were made, and holds no connection any more."""
        told = exchange.attemptsMade()
        self.assertEqual(len(told), exchange.attempts, told)
        self.assertGreaterEqual(min((each.seconds for each in told), default=0.0), -1e-9)
        self.assertIsNone(exchange.connection)

    def assertTimesAddUp(self, exchange: Any) -> None:
        """The parts of an exchange's time are not negative, and not more than the whole."""
        parts = (exchange.connectTime, exchange.upstreamTime, exchange.policyTime)
        self.assertGreaterEqual(min(parts), -1e-9)
        self.assertLessEqual(sum(parts), exchange.duration + 1e-6)

    def assertNothingIsLeft(self, world: World) -> None:
        """The upstreams stop: no connection is left, no call on the clock, no error of a policy."""
        self.successResultOf(world.stops())
        for each in world.pools:
            self.assertEqual((each.size, each._alive), (0, set()), each)
        self.assertEqual(world.harness.factory.connections, 0)
        self.assertEqual([str(each) for each in world.configured.clock.getDelayedCalls()], [])
        self.assertEqual(world.harness.errors, [])


class Reach(Conversing):
    """The conversations are about what they should be about."""

    def test_reach(self) -> None:
        """There are retries, hedges, PROXY headers, tunnels, and all kinds of failures."""
        reached: Counter[Any] = Counter()
        for seed in range(SEEDS // 3):
            world = self.begin(seed)
            self.converse(world)
            reached += world.reached
            world.everybodyLeaves()
            world.harness.advance(ALL_WAITS)
            reached["hedge"] += sum(each.budget.hedges for each in world.configured.clusters)
            reached["retry"] += sum(each.attempts > 1 for each in self.made)
            reached.update(each.status for each in self.made)
            world.stops()
        statuses = {101, 200, 204, 400, 404, 408, 413, 499, 500, 502, 503, 504}
        events = {"hedge", "retry", "PROXY header", "outlived generation"}
        self.assertEqual({each for each in statuses | events if not reached[each]}, set())
