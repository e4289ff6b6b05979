"""
Endpoints whose requests fail get none for a while: L{Ejections}.

Contract: the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import ceil

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from sitio.upstream.endpoint import Endpoint


@frozen
class EjectionSettings:
    """
    When endpoints are ejected.

    @ivar consecutive: failures in a row that eject an endpoint.
    @ivar time: seconds of the first ejection; the second lasts twice as long, the third
        three times.
    @ivar maxTime: seconds of the longest ejection.  An endpoint that stays for as long is
        one that has never been ejected.
    @ivar maxShare: the part of the endpoints that may be ejected at one time, rounded up;
        never all.
    """

    consecutive: int = 5
    time: float = 30.0
    maxTime: float = 300.0
    maxShare: float = 0.5


@define
class _Past:
    """The ejections of one endpoint: how many lately, and when the last one ended."""

    times: int = 0
    ended: float = field(default=float("-inf"))
    call: IDelayedCall | None = None


class Ejections:
    """
    Ejects endpoints that fail several times in a row: a connection that is refused, a
    response that does not come in time or breaks off, a status of 500 and above.

    An endpoint that returns is on probation: until it has answered once, one failure ejects
    it again.
    """

    def __init__(
        self,
        settings: EjectionSettings,
        clock: IReactorTime,
        members: Callable[[], Collection[Endpoint]],
        changed: Callable[[], None],
        log: Logger,
        name: str,
    ) -> None:
        """
        @param members: returns the endpoints of the upstream.
        @param changed: called when an endpoint was ejected or has returned.
        @param name: of the upstream, for the log.
        """
        self._settings = settings
        self._clock = clock
        self._members = members
        self._changed = changed
        self._log = log
        self._name = name
        self._past: dict[Endpoint, _Past] = {}

    def failedInARow(self, endpoint: Endpoint) -> None:
        """See L{Judge<sitio.upstream.endpoint.Judge>}."""
        if endpoint.inARow < self._settings.consecutive:
            return
        if endpoint.isEjected or endpoint.isDraining or not self._hasRoom():
            return
        self._eject(endpoint)

    def _hasRoom(self) -> bool:
        members = self._members()
        ejected = sum(each.isEjected for each in members)
        most = min(ceil(self._settings.maxShare * len(members)), len(members) - 1)
        return ejected < most

    def _eject(self, endpoint: Endpoint) -> None:
        settings, past = self._settings, self._past.setdefault(endpoint, _Past())
        if self._clock.seconds() - past.ended > settings.maxTime:
            past.times = 0
        past.times += 1
        seconds = min(settings.time * past.times, settings.maxTime)
        past.call = self._clock.callLater(seconds, self._returns, endpoint)
        endpoint.isEjected = True
        endpoint.ejections += 1
        self._log.warn(
            "{address} of the upstream {name} is ejected for {seconds:g} seconds, after {failures}"
            " failures in a row: {why}",
            address=endpoint.address,
            name=self._name,
            seconds=seconds,
            failures=endpoint.inARow,
            why=endpoint.lastFailure,
        )
        self._changed()

    def _returns(self, endpoint: Endpoint) -> None:
        past = self._past[endpoint]
        past.call = None
        past.ended = self._clock.seconds()
        endpoint.isEjected = False
        endpoint.inARow = self._settings.consecutive - 1
        endpoint.warm()
        self._log.info(
            "{address} of the upstream {name} returns after its ejection",
            address=endpoint.address,
            name=self._name,
        )
        self._changed()

    def forget(self, endpoint: Endpoint) -> None:
        """The endpoint has left the upstream."""
        past = self._past.pop(endpoint, None)
        if past is not None and past.call is not None:
            past.call.cancel()

    def stop(self) -> None:
        """Cancel all that is planned."""
        for each in list(self._past):
            self.forget(each)
