"""
The generations of a sidecar, one after the other: L{Generations}.

What is configured, a L{Generation}, is replaced in two steps while traffic flows:
L{Generations.prepare} makes another one and starts its policies; L{Generations.adopt} puts it in
place, or L{Generations.discard} drops it.  The former one ends with its last exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, cast

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from sitio.net.deadlines import Deadlines
from sitio.policy.chain import Chain
from sitio.policy.loader import namedPolicies
from sitio.policy.services import PolicyServices
from sitio.proxy.context import ProxyContext
from sitio.proxy.generation import Generation, Route
from sitio.settings import Settings
from sitio.telemetry.snapshot import PolicyMetrics, mergePolicies
from sitio.upstream.fixed import FixedUpstream
from sitio.upstream.pool import NO_COUNTS, PoolCounts, UpstreamPool, addCounts

#: Makes a generation of the deadlines of all connections and the generation before; L{None} for
#: the first.  It may use upstreams of that again.
MakeGeneration = Callable[[Deadlines, Generation | None], Generation]


class Prepared:
    """
    A generation that no exchange uses yet.

    @ivar services: its policies that are services; they have started.
    """

    def __init__(
        self, generation: Generation, services: PolicyServices, former: Generation | None = None
    ) -> None:
        """
        @param former: the generation that it can replace: it may have upstreams of that.
        """
        self.generation = generation
        self.services = services
        self.former = former


class Generations(MultiService):
    """
    Starts and stops the upstreams and the policies of each generation.

    @ivar context: has the current generation.
    @ivar prepared: those that exchanges may use, the current one last.
    """

    def __init__(self, clock: IReactorTime, deadlines: Deadlines, context: ProxyContext) -> None:
        MultiService.__init__(self)
        self.context = context
        self._clock = clock
        self._deadlines = deadlines
        # What the policies of former generations have counted.
        self._counted: list[PolicyMetrics] = []
        # What the pools of upstreams that were dropped have counted.
        self._ended: PoolCounts = {**NO_COUNTS}
        self.prepared = [self._prepared(context.generation)]

    def _prepared(self, generation: Generation, former: Generation | None = None) -> Prepared:
        """
        Start the policies of a generation, if this runs.

        @raise Exception: one can't start; none of them is started then.
        """
        services = PolicyServices(self._clock)
        for _, each in generation.policies():
            # A program may use a policy in several generations.
            if IService.providedBy(each) and IService(each).parent is None:
                IService(each).setServiceParent(services)
        try:
            services.setServiceParent(self)
        except BaseException:
            maybeDeferred(services.disownServiceParent)
            raise
        return Prepared(generation, services, former)

    def startService(self) -> None:
        """Start the policies, and then the upstreams."""
        MultiService.startService(self)
        for each in self.upstreams:
            each.start()

    def prepare(self, make: MakeGeneration) -> Prepared:
        """
        Make another generation, and start its policies.  Nothing else changes before L{adopt}.

        @raise Exception: it can't be made, or a policy can't start; nothing of it is left.
        """
        former = self.context.generation
        generation = make(self._deadlines, former)
        try:
            return self._prepared(generation, former)
        except BaseException:
            self._stop(generation.upstreams.values())
            raise

    def adopt(self, prepared: Prepared) -> Deferred[None]:
        """
        Use a generation from the next request on.

        @return: fires when the last exchange of the former one has ended, and what only that
            one needs has stopped.

        @raise ValueError: another generation was adopted after this one was prepared; it is
            dropped, as upstreams of it may have stopped.
        """
        if prepared.former is not self.context.generation:
            self.discard(prepared)
            raise ValueError(
                "another generation was adopted after this one was prepared: prepare it again"
            )
        # Nothing keeps a generation that has ended.
        prepared.former = None
        former = self.prepared[-1]
        before = set(map(id, self.upstreams))
        for each in prepared.generation.upstreams.values():
            if self.running and id(each) not in before:
                each.start()
        self.prepared.append(prepared)
        left = self.context.adopt(prepared.generation)
        return left.addCallback(lambda _: self._retire(former))

    def discard(self, prepared: Prepared) -> Deferred[None]:
        """Drop a generation that was prepared; fires when what was made for it has stopped."""
        return self._end(prepared)

    def _retire(self, former: Prepared) -> Deferred[None]:
        """The last exchange of a generation has ended."""
        self.prepared.remove(former)
        self._counted = mergePolicies(self._counted, policyMetrics(former.generation))
        policies = {id(p) for each in self.prepared for _, p in each.generation.policies()}
        heir = self.prepared[-1].services
        for each in list(former.services):
            if id(each) in policies:
                # It goes on with the generation that has it as well.
                former.services.services.remove(each)
                heir.services.append(each)
                cast(Any, each).parent = heir
        return self._end(former)

    def _end(self, prepared: Prepared) -> Deferred[None]:
        ended: Deferred[Any] = maybeDeferred(prepared.services.disownServiceParent)
        stopped = self._stop(prepared.generation.upstreams.values())
        return gatherResults([ended, stopped]).addCallback(lambda _: None)

    def _stop(self, upstreams: Iterable[Any]) -> Deferred[Any]:
        """Stop those of some upstreams that no generation needs."""
        needed = set(map(id, self.upstreams))
        ended = [each for each in upstreams if id(each) not in needed]
        stopping = [each.stop() for each in ended]
        self._ended = reduce(addCounts, (each.counts() for each in ended), self._ended)
        return gatherResults(stopping)

    def poolCounts(self) -> PoolCounts:
        """What the pools of all upstreams have counted, also in former generations."""
        return reduce(addCounts, (each.counts() for each in self.upstreams), self._ended)

    def stopUpstreams(self) -> Deferred[Any]:
        """Close the connections to all upstreams."""
        return gatherResults([each.stop() for each in self.upstreams])

    @property
    def upstreams(self) -> list[Any]:
        """The upstreams that exchanges may use, each once."""
        found = {id(u): u for each in self.prepared for u in each.generation.upstreams.values()}
        return list(found.values())

    @property
    def policyServices(self) -> list[Any]:
        """The policies that are services."""
        return [service for each in self.prepared for service in each.services]

    def policyMetrics(self) -> list[PolicyMetrics]:
        """
        What the policies have counted, also in former generations: only those that there are
        now, so that the list does not grow.
        """
        now = policyMetrics(self.context.generation)
        former = [policyMetrics(each.generation) for each in self.prepared[:-1]]
        names = {each["name"] for each in now}
        total = reduce(mergePolicies, [*former, self._counted], now)
        return [each for each in total if each["name"] in names]


def policyMetrics(generation: Generation) -> list[PolicyMetrics]:
    """What the policies of a generation have counted."""
    return cast("list[PolicyMetrics]", generation.snapshot())


def ofOne(
    pooled: Callable[[Settings, Deadlines], UpstreamPool],
    address: str,
    policies: Iterable[tuple[str, Any] | Any],
    settings: Settings,
    via: bytes | None,
) -> MakeGeneration:
    """
    Makes a generation with one route to one endpoint.

    @param pooled: makes the pool of its connections.
    @param address: the endpoint, as log lines name it.
    """

    def make(deadlines: Deadlines, former: Generation | None) -> Generation:
        pool = pooled(settings, deadlines)
        chain = Chain(namedPolicies(policies), clock=pool.clock, timeout=settings.policyTimeout)
        number = 1 if former is None else former.number + 1
        route = Route(chain, FixedUpstream("upstream", pool, address), settings, via=via)
        return Generation.ofOne(route, number)

    return make
