"""
Endpoints from DNS: L{Discovery} asks again and again.

It asks for A and AAAA records of a name, as of a headless Service of Kubernetes, or for SRV
records.  It asks again when the answer is no longer valid, between a floor and a ceiling.  The
last good answer outlives a name server that fails: endpoints never leave because DNS is down.

Contract: the clock, the resolver and the source of random numbers are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any, NamedTuple, NoReturn

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.names import dns
from twisted.names.error import AuthoritativeDomainError, DNSNameError
from twisted.python.failure import Failure

from sitio.errors import inOneLine
from sitio.upstream.dnssettings import DnsSettings
from sitio.upstream.resolvers import NameResolver

#: Endpoints of one answer; others are ignored.  A Service with more Pods than that has a
#: load balancer.
MAX_ENDPOINTS = 256

#: Seconds after which a lookup is given up, whatever the resolver does.
LOOKUP_SECONDS = 15.0

#: Seconds for which endpoints stay when DNS says that there are none.  A Service has none for a
#: moment when all of its Pods are restarted, and none are better than those of another.
HOLD_SECONDS = 30.0

#: The part by which a question comes later than the answer expires, so that many sidecars
#: don't ask together.
JITTER = 0.1


class Found(NamedTuple):
    """An endpoint of an answer."""

    address: str
    weight: int = 1


class LookupFailed(Exception):
    """The name servers have said nothing about a name; the message says why."""


class _Records(NamedTuple):
    """
    The records of one kind that a name has: their payloads, the seconds for which they are
    valid, and all records that came along.
    """

    payloads: list[Any]
    seconds: float
    more: Sequence[Any] = ()


_KINDS = [dns.A, dns.AAAA]
_FAMILIES = {dns.A: AF_INET, dns.AAAA: AF_INET6}

#: Of a name that does not exist, or has no such records.
_NONE = _Records([], float("inf"))


def hostPort(host: str, port: int) -> str:
    """An address and a port as one text, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _select(records: Iterable[Any], kind: int, name: str | None = None) -> _Records:
    found = [
        each
        for each in records
        if each.type == kind
        and (name is None or str(each.name).rstrip(".").lower() == name.lower())
    ]
    seconds = min((float(each.ttl) for each in found), default=float("inf"))
    return _Records([each.payload for each in found], seconds)


class Lookup:
    """
    One round of questions: it finds the endpoints that DNS has for a name.

    @ivar seconds: for how long its answers are valid.
    @ivar failures: why some questions had no answer, and older answers were taken.
    @ivar answers: the addresses of each name and kind of record, for the next round.
    """

    def __init__(self, resolver: NameResolver, before: dict[tuple[str, int], list[str]]) -> None:
        """@param before: the C{answers} of earlier rounds, for questions that fail."""
        self.seconds = float("inf")
        self.failures: list[str] = []
        self.answers: dict[tuple[str, int], list[str]] = {}
        self._resolver = resolver
        self._before = before

    async def endpoints(self, settings: DnsSettings) -> list[Found]:
        """
        The endpoints, sorted; an empty list if DNS says that there are none.

        @raise LookupFailed: name servers have failed, and there is no earlier answer.
        """
        if settings.port:
            hosts = await self._firstOf(settings.name)
            return [Found(hostPort(each, settings.port)) for each in hosts]
        return await self._service(settings.name)

    async def _firstOf(self, name: str) -> list[str]:
        """The addresses of the first name of the search list that has any."""
        for each in self._resolver.candidates(name):
            hosts = await self._hosts(each)
            if hosts:
                return hosts
        return []

    async def _hosts(self, name: str, more: Sequence[Any] = ()) -> list[str]:
        """The IPv4 and IPv6 addresses of exactly this name."""
        kinds = [each for each in _KINDS if _select(more, each, name).payloads] or _KINDS
        both = [Deferred.fromCoroutine(self._addresses(name, each, more)) for each in kinds]
        results: list[Any] = await gatherResults(both, consumeErrors=True)
        failed = [each for each in results if isinstance(each, LookupFailed)]
        hosts = [host for each in results if isinstance(each, list) for host in each]
        if failed and not hosts:
            raise failed[0]
        return hosts

    async def _addresses(
        self, name: str, kind: int, more: Sequence[Any]
    ) -> list[str] | LookupFailed:
        key = (name.lower(), kind)
        found = _select(more, kind, name)
        try:
            if not found.payloads:
                found = await self._records(name, kind)
        except LookupFailed as error:
            self.failures.append(str(error))
            if key not in self._before:
                return error
            hosts = self._before[key]
        else:
            self.seconds = min(self.seconds, found.seconds)
            hosts = sorted(inet_ntop(_FAMILIES[kind], each.address) for each in found.payloads)
        self.answers[key] = hosts
        return hosts

    async def _records(self, name: str, kind: int) -> _Records:
        resolver = self._resolver
        ask: Callable[[str], Deferred[Any]] = {
            dns.A: resolver.lookupAddress,
            dns.AAAA: resolver.lookupIPV6Address,
            dns.SRV: resolver.lookupService,
        }[kind]
        try:
            answers, _, additional = await ask(name)
        except (DNSNameError, AuthoritativeDomainError):
            return _NONE
        except CancelledError:
            raise
        except Exception as error:
            raise LookupFailed(f"no answer about {name}: {inOneLine(error)}") from error
        # Aliases (CNAME) may stand before the records that they lead to.
        return _select(answers, kind)._replace(more=additional)

    async def _service(self, name: str) -> list[Found]:
        for each in self._resolver.candidates(name):
            found = await self._records(each, dns.SRV)
            if found.payloads:
                self.seconds = min(self.seconds, found.seconds)
                return await self._targets(found)
        return []

    async def _targets(self, found: _Records) -> list[Found]:
        """
        The endpoints of the records with the best priority (RFC 2782).  The others are for
        clients that could not connect to any of these.
        """
        best = min(each.priority for each in found.payloads)
        targets = sorted(
            (str(each.target).rstrip("."), each.port, max(each.weight, 1))
            for each in found.payloads
            if each.priority == best
        )
        endpoints = []
        failed: LookupFailed | None = None
        for name, port, weight in targets[:MAX_ENDPOINTS]:
            if not name:
                # "." says that there is no such service.
                continue
            try:
                hosts = await self._hosts(name, found.more)
            except LookupFailed as error:
                failed = error
            else:
                endpoints += [Found(hostPort(each, port), weight) for each in hosts]
        if failed is not None and not endpoints:
            raise failed
        return endpoints


class Discovery:
    """
    Asks DNS for the endpoints of one upstream, from L{start} to L{stop}.

    @ivar problem: why the last lookup has failed, as a sentence; L{None} if it has not.
    @ivar isKnown: whether there was an answer.
    """

    def __init__(
        self,
        settings: DnsSettings,
        clock: IReactorTime,
        resolver: NameResolver,
        random: Callable[[], float],
        found: Callable[[Sequence[Found]], None],
        log: Logger,
    ) -> None:
        """@param found: called with the endpoints after each answer."""
        self.problem: str | None = None
        self.isKnown = False
        self._settings = settings
        self._clock = clock
        self._resolver = resolver
        self._random = random
        self._found = found
        self._log = log
        self._answers: dict[tuple[str, int], list[str]] = {}
        self._failures = 0
        self._emptySince: float | None = None
        self._isCut = False
        self._next: IDelayedCall | None = None
        self._asking: Deferred[Any] | None = None
        self._isStopped = True

    def start(self) -> None:
        """Ask now, and then again and again."""
        self._isStopped = False
        self._ask()

    def stop(self) -> None:
        """Ask no more."""
        self._isStopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._asking is not None:
            self._asking.cancel()
        self._resolver.stop()

    def _ask(self) -> None:
        self._next = None
        lookup = Lookup(self._resolver, self._answers)
        asking: Deferred[Any] = Deferred.fromCoroutine(lookup.endpoints(self._settings))
        self._asking = asking
        asking.addTimeout(LOOKUP_SECONDS, self._clock, self._tooLate)
        asking.addCallbacks(self._answered, self._failed, (lookup,))
        asking.addErrback(self._broke)
        asking.addCallback(self._plan)

    def _tooLate(self, result: object, timeout: float) -> NoReturn:
        raise LookupFailed(f"no answer about {self._settings.name} within {timeout:g} seconds")

    def _answered(self, endpoints: list[Found], lookup: Lookup) -> float:
        """Take an answer; returns the seconds until the next question."""
        if self._isStopped:
            return 0.0
        self._answers = lookup.answers
        if lookup.failures:
            self._hasFailed(lookup.failures[0])
        else:
            self._hasSucceeded()
        if endpoints:
            self._emptySince = None
            self.isKnown = True
        elif self._isHeld():
            return self._settings.floor
        self._cut(len(endpoints))
        self._found(sorted(set(endpoints))[:MAX_ENDPOINTS])
        if lookup.failures:
            return self._pause()
        return lookup.seconds if endpoints else self._settings.floor

    def _isHeld(self) -> bool:
        """Whether the known endpoints stay, though DNS says that there are none."""
        self.problem = f"DNS has no endpoint for {self._settings.name}"
        now = self._clock.seconds()
        if self._emptySince is None:
            self._emptySince = now
            self._log.warn(
                "{problem}; known ones stay for {seconds:g} seconds",
                problem=self.problem,
                seconds=HOLD_SECONDS,
            )
        return self.isKnown and now - self._emptySince < HOLD_SECONDS

    def _cut(self, count: int) -> None:
        isCut = count > MAX_ENDPOINTS
        if isCut and not self._isCut:
            self._log.warn(
                "DNS has {count} endpoints for {name}: sitio uses {most} of them",
                count=count,
                name=self._settings.name,
                most=MAX_ENDPOINTS,
            )
        self._isCut = isCut

    def _failed(self, failure: Failure) -> float:
        if self._isStopped:
            return 0.0
        failure.trap(LookupFailed)
        self._hasFailed(str(failure.value))
        return self._pause()

    def _pause(self) -> float:
        # Each time twice as long: a name server that is overloaded needs no more questions.
        return float(self._settings.floor * 2 ** min(self._failures - 1, 16))

    def _hasFailed(self, problem: str) -> None:
        self._failures += 1
        self.problem = problem
        if self._failures == 1:
            self._log.warn(
                "DNS fails for {name}: {problem}; known endpoints stay",
                name=self._settings.name,
                problem=problem,
            )

    def _hasSucceeded(self) -> None:
        if self._failures:
            self._log.info("DNS answers again for {name}", name=self._settings.name)
        self._failures = 0
        self.problem = None

    def _broke(self, failure: Failure) -> float:
        self._log.failure("A bug in the lookup of {name}", failure, name=self._settings.name)
        return self._settings.ceiling

    def _plan(self, seconds: float) -> None:
        self._asking = None
        if self._isStopped:
            return
        wait = min(max(seconds, self._settings.floor), self._settings.ceiling)
        self._next = self._clock.callLater(wait * (1 + JITTER * self._random()), self._ask)
