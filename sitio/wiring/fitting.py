"""
Brings what is configured into the limits of the process: L{fitDescriptors}.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import Logger

from sitio.config.options import Options
from sitio.errors import CannotStart
from sitio.net.descriptors import MIN_DESCRIPTORS, raiseLimit, share
from sitio.net.process import loadCodecs
from sitio.settings import Settings

#: The descriptors that C{select} can watch.
SELECT_DESCRIPTORS = 1024


def descriptorLimit(reactor: Any) -> int | None:
    """Raise the limit of this process, and return it; L{None} if there is none."""
    limit = raiseLimit()
    if isinstance(reactor, SelectReactor):
        return min(limit or SELECT_DESCRIPTORS, SELECT_DESCRIPTORS)
    return limit


def fitted(settings: Settings, limit: int | None) -> Settings:
    """
    Settings with numbers of connections for which there are descriptors.

    @param limit: as L{descriptorLimit} returns it.
    """
    clients, connections = share(limit, settings.maxClients, settings.poolSize)
    return evolve(settings, maxClients=clients, poolSize=connections)


def fitDescriptors(reactor: Any, options: Options, log: Logger | None = None) -> None:
    """
    Raise this process's limit of file descriptors, bring the numbers of connections in the
    options into it, and load early what can't be loaded at the limit.

    @param log: where one line goes if that makes them smaller.
    @raise CannotStart: the limit is below C{MIN_DESCRIPTORS}.
    """
    limit = descriptorLimit(reactor)
    if limit is not None and limit < MIN_DESCRIPTORS:
        raise CannotStart(
            f"sitio: this process may have {limit} file descriptors open, and needs"
            f" {MIN_DESCRIPTORS} at least; raise the limit (ulimit -n)"
        )
    loadCodecs()
    settings = fitted(options["settings"], limit)
    if settings == options["settings"]:
        return
    options["settings"] = settings
    clients, connections = settings.maxClients, settings.poolSize
    for name, fitting in (("max-clients", clients), ("pool-size", connections)):
        if options[name] != str(fitting):
            options[name] = str(fitting)
            options.lowered.add(name)
    if log is not None:
        log.warn(
            "A process may have {limit} file descriptors open (ulimit -n): so --max-clients is"
            " {clients} and --pool-size {connections}",
            limit=limit,
            clients=clients,
            connections=connections,
        )
