"""
Process-wide setup: standard streams, the reactor, its clock and lookups.

Only C{twistd sitio} and its worker processes call these functions.  A program that embeds
sitio keeps its own settings.
"""

from __future__ import annotations

import codecs
import os
import sys
from time import monotonic
from typing import Any

from twisted.internet._resolver import GAIResolver
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from sitio.net.lookups import Lookups
from sitio.net.threads import limitThreadPool

_log = Logger(namespace="sitio")

#: Standard error's.
LAST_STANDARD_DESCRIPTOR = 2

#: Codecs of the stats line, of names of hosts, and of bodies of policies.
CODECS = ("unicode_escape", "idna", "ascii", "latin-1", "utf-8")


def openStandardStreams() -> None:
    """
    Open those of the descriptors 0, 1 and 2 that are closed, as C{/dev/null}.

    Otherwise the next file has such a number, the reactor's own say, and loses it when
    C{twistd} goes into the background.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= LAST_STANDARD_DESCRIPTOR:
        os.set_inheritable(opened, True)
    os.close(opened)


def installReactor() -> None:
    """Install the reactor on uvloop, unless one is installed already, as by C{--reactor}."""
    if "twisted.internet.reactor" in sys.modules:
        return
    try:
        from sitio.net.reactor import install
    except ImportError as error:
        _log.warn(
            "sitio runs on Twisted's default reactor and takes more CPU time: the reactor on"
            " uvloop can't be imported ({error}); pip install uvloop",
            error=error,
        )
    else:
        install()


def useMonotonicClock(reactor: Any) -> None:
    """
    Make a reactor measure time with a clock that is never set.

    Twisted's reactors go by the time of day.  If that is set back, nothing that waits ends;
    if it is set forward, all that waits ends at once.  Calls that are waiting stay as long
    as they were to wait.

    Afterwards C{reactor.seconds()} is no longer the time of day.

    @param reactor: one of Twisted's reactors, or one derived from them.
    """
    if reactor.seconds is monotonic:
        return
    shift = monotonic() - reactor.seconds()
    reactor.seconds = monotonic
    # Cancelled calls too: both are heaps, and stay in order.
    for each in (*reactor._pendingTimedCalls, *reactor._newTimedCalls):
        each.time += shift
        each.seconds = monotonic


def silenceFactories() -> None:
    """
    Have no factory log its start and stop, as those of treq's connections do for each of them.
    """
    Factory.noisy = False


def useOwnLookups(reactor: Any) -> None:
    """
    Make a reactor look names up with L{Lookups}, unless somebody has installed another
    resolver.

    Call this before endpoints are made: C{tls:} endpoints keep the resolver.
    """
    if isinstance(reactor.nameResolver, GAIResolver):
        reactor.installNameResolver(Lookups(reactor))


def prepareReactor(reactor: Any) -> None:
    """
    Make a reactor of Twisted's fit for C{twistd sitio}: its clock, its lookups, its threads,
    and what its factories log.

    Call this before endpoints are made.
    """
    useMonotonicClock(reactor)
    useOwnLookups(reactor)
    limitThreadPool(reactor)
    silenceFactories()


def loadCodecs() -> None:
    """
    Load the codecs that Python would load at their first use, from a file: when there are no
    descriptors left, that fails.
    """
    for each in CODECS:
        codecs.lookup(each)
