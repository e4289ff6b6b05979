"""
What is configured, made as a whole: L{Generation}, and its L{Route}s.

A generation never changes.  To configure sitio anew while traffic flows, another one takes its
place.  An exchange keeps the route of the generation in which it began, so it never sees parts
of two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any
from zlib import crc32

from attrs import evolve, field, frozen

from sitio.http.message import Request
from sitio.http.requestmatch import MatchTable, PathRewrite
from sitio.net.deadlines import NEVER
from sitio.policy.chain import Chain
from sitio.proxy.trust import ForwardedSettings
from sitio.proxy.upstream import Budget, Connections, Upstream
from sitio.settings import Settings

#: Steps in which the shares of a split are told apart.
SPLIT_STEPS = 10_000

_random = Random()


@frozen(eq=False)
class Route:
    """
    Where a request goes, and what happens to it on its way.

    @ivar chain: the policies.
    @ivar upstream: the service; L{None} if none is configured: then a request policy answers or
        chooses one, or the client gets 404.
    @ivar settings: limits and timeouts.
    @ivar name: for people, such as C{/users/{id}}; C{""} for the only one.
    @ivar via: the pseudonym in added Via fields; L{None} adds no Via.
    @ivar maxBody: bytes of a request's body; L{None} for no limit of its own.
    @ivar rewrite: makes the path for the upstream; L{None} for the client's.
    @ivar host: the Host that the upstream gets; L{None} for the client's.
    @ivar changes: whether the upstream gets another path or Host.
    @ivar upstreams: those of the generation, by name, for policies that choose one.
    @ivar split: shares the requests between several upstreams; L{None} for one.
    @ivar pool: the connections of an upstream with one endpoint; L{None} if it has to choose
        one for each request.
    @ivar budget: that of the upstream, which counts the requests.
    """

    chain: Chain
    upstream: Upstream | None
    settings: Settings = field(factory=Settings)
    name: str = ""
    via: bytes | None = None
    maxBody: int | None = None
    rewrite: PathRewrite | None = None
    host: str | None = None
    upstreams: Mapping[str, Upstream] = field(factory=dict)
    split: Split | None = None
    pool: Connections | None = field(init=False)
    changes: bool = field(init=False)
    budget: Budget = field(init=False)
    _toward: dict[str, Route] = field(factory=dict, init=False)

    @pool.default
    def _itsPool(self) -> Connections | None:
        only = None if self.upstream is None else self.upstream.only
        return None if only is None else only.pool

    @budget.default
    def _itsBudget(self) -> Budget:
        return _NoBudget() if self.upstream is None else self.upstream.budget

    @changes.default
    def _itChanges(self) -> bool:
        return self.rewrite is not None or self.host is not None

    def toward(self, name: str) -> Route:
        """
        The same route to another upstream of the generation.

        @raise ValueError: there is none of this name; the sentence tells the names.
        """
        found = self._toward.get(name)
        if found is None:
            if name not in self.upstreams:
                known = ", ".join(sorted(self.upstreams))
                raise ValueError(f"there is no upstream {name!r}: the upstreams are {known}")
            found = self._toward[name] = evolve(self, upstream=self.upstreams[name])
        return found


class _NoBudget:
    """In place of that of an upstream, where there is none."""

    requests = hedges = 0
    until = NEVER

    def turn(self, now: float) -> None:
        """Never called."""

    def spend(self, now: float) -> bool:
        return False

    def note(self, now: float) -> None:
        """Nothing was sent."""


@frozen
class Split:
    """
    Shares requests between upstreams.

    @ivar weights: the share of each upstream, by name; above 0 in all.
    @ivar stickyField: requests with equal values of this field go to the same upstream, as long
        as the weights are the same.
    @ivar stickyCookie: the same for a cookie.  Requests without it are shared at random.
    """

    weights: tuple[tuple[str, float], ...]
    stickyField: str | None = None
    stickyCookie: str | None = None
    random: Random = field(default=_random, eq=False)

    def choose(self, request: Request) -> str:
        """The name of an upstream."""
        key: str | None = None
        if self.stickyField is not None:
            key = request.headers.get(self.stickyField)
        elif self.stickyCookie is not None:
            key = request.cookies.get(self.stickyCookie)
        if key:
            # The same in each process and after each start, unlike hash().
            share = (crc32(key.encode("utf-8", "replace")) % SPLIT_STEPS) / SPLIT_STEPS
        else:
            share = self.random.random()
        left = share * sum(weight for _, weight in self.weights)
        for name, weight in self.weights:
            left -= weight
            if left < 0:
                return name
        return self.weights[-1][0]


@frozen(eq=False)
class Generation:
    """
    All that is configured at one time.

    @ivar number: counts generations, from 1.
    @ivar forwarded: what requests tell of clients, and whom sitio believes; L{None} for what was
        so before.
    @ivar table: tells the route of a request, by its place in C{routes}.
    @ivar routes: in the operator's order.
    @ivar fallback: the route of requests that take none of them: with the policies of all
        routes, and without an upstream.  With one route for all requests, that one.
    @ivar upstreams: by name.
    @ivar settings: limits and timeouts of connections.
    @ivar only: the one route that all requests take; L{None} if they have to be told apart.
    """

    fallback: Route
    table: MatchTable = field(factory=lambda: MatchTable(()))
    routes: Sequence[Route] = ()
    upstreams: Mapping[str, Upstream] = field(factory=dict)
    settings: Settings = field(factory=Settings)
    number: int = 1
    forwarded: ForwardedSettings | None = None
    only: Route | None = field(init=False)

    @only.default
    def _theOnly(self) -> Route | None:
        if not self.routes:
            return self.fallback if self.fallback.split is None else None
        if self.table.matches[0].matchesAll and self.routes[0].split is None:
            return self.routes[0]
        return None

    @classmethod
    def ofOne(cls, route: Route, number: int = 1) -> Generation:
        """A generation in which all requests take the same route."""
        upstreams = {} if route.upstream is None else {route.upstream.name: route.upstream}
        return cls(
            evolve(route, upstreams=upstreams),
            upstreams=upstreams,
            settings=route.settings,
            number=number,
        )

    def routeOf(self, request: Request) -> Route:
        """
        The route of a request.

        @raise AmbiguousPath: its path can be read in two ways; see L{MatchTable.find}.
        """
        at = self.table.find(request) if self.routes else -1
        route = self.fallback if at < 0 else self.routes[at]
        split = route.split
        return route if split is None else route.toward(split.choose(request))

    def chains(self) -> list[Chain]:
        """The policies of all routes: each chain once."""
        found: dict[int, Chain] = {}
        for each in (self.fallback, *self.routes):
            found.setdefault(id(each.chain), each.chain)
        return list(found.values())

    def policies(self) -> list[tuple[str, Any]]:
        """Names and policies of all routes: each policy once, in order."""
        found: dict[int, tuple[str, Any]] = {}
        for chain in self.chains():
            for each in chain.members:
                found.setdefault(id(each.policy), (each.name, each.policy))
        return list(found.values())

    def snapshot(self) -> list[dict[str, Any]]:
        """Name and counters of each policy, as data for JSON."""
        members = {id(each): each for chain in self.chains() for each in chain.members}
        return [each.snapshot() for each in members.values()]

    @property
    def maxBody(self) -> int | None:
        """The largest limit of a request's body; L{None} if a route has none."""
        return largestBody((self.fallback, *self.routes))


def largestBody(routes: Iterable[Route]) -> int | None:
    """The largest limit of a request's body of these routes; L{None} if one has none."""
    limits = [each.settings.maxBody for each in routes]
    return max(limits) if all(limits) else None
