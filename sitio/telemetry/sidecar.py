"""
The interfaces through which the admin port, the reports and the log see a sidecar.

A sidecar is one process (L{sitio.service.SidecarService}) or several
(L{sitio.workers.supervisor.Supervisor}); both provide L{ISidecar}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from sitio.telemetry.records import ExchangeLists
from sitio.telemetry.snapshot import Dropped, SidecarSnapshot, addUp

#: The states of a sidecar.
STARTING = "starting"  # it does not accept clients yet
SERVING = "serving"
DRAINING = "draining"  # new clients should go elsewhere


class ISnapshotSource(Interface):
    """Gives snapshots of a sidecar, be it one process or several."""

    def snapshot() -> Deferred[SidecarSnapshot]:
        """
        The sidecar's metrics now.  Takes at most a second and never fails: for a worker
        that does not answer, its last snapshot is used.
        """

    def exchanges() -> Deferred[ExchangeLists]:
        """
        Single exchanges, within the same time.  Each call has all exchanges of the next
        minute recorded, also those that go well.
        """


class ISidecar(ISnapshotSource):
    """What an operator can see of a sidecar and do with it."""

    state = Attribute(
        "C{starting}, C{serving} or C{draining}; else what keeps it from serving, as words that"
        " may follow C{sitio is}."
    )

    def warnings() -> list[str]:
        """
        What an operator has to know although the sidecar serves, such as a certificate that
        expires; sentences without full stops.
        """

    def drain() -> None:
        """
        Send clients elsewhere: the sidecar counts as draining, and each client connection
        ends after its next response.  New connections are still accepted, as load
        balancers may not know yet.
        """


class IDropCounts(Interface):
    """A part of a sidecar with a bounded queue, which drops what does not fit."""

    dropped = Attribute("How many items it has dropped, by names of L{Dropped}.")


def droppedBy(parts: Iterable[Any], before: Dropped | None = None) -> Dropped:
    """
    Add up what these parts have dropped; only those that provide L{IDropCounts} count.

    @param before: what was dropped before, by others.
    """
    total: Dropped = before or {"accessLogLines": 0, "fleetEntries": 0}
    for each in parts:
        if IDropCounts.providedBy(each):
            total = addUp(total, each.dropped)
    return total
