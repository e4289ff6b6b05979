"""
What a process gets that is sitio's alone: a reactor, and a garbage collector with
less to do.

For C{twistd sitio} and its workers, and never for a program that embeds sitio.
"""

from __future__ import annotations

import gc
import sys

from twisted.logger import Logger

_log = Logger(namespace="sitio")

#: Objects that may be made, beyond those that went, before the garbage collector looks
#: at them.  With Python's own 700 it does so several times a turn when hundreds of
#: connections are busy, and takes 5 % of the time to see that all is in use.
YOUNG = 10_000


def installReactor() -> None:
    """Install the reactor on uvloop, unless there is one: of the operator's, by --reactor."""
    if "twisted.internet.reactor" in sys.modules:
        return
    try:
        from sitio.net.reactor import install
    except ImportError as error:
        _log.warn(
            "sitio runs on Twisted's default reactor, and takes more CPU, as the one on uvloop"
            " can't be imported: {error}; pip install uvloop",
            error=error,
        )
    else:
        install()


def spareCollector() -> None:
    """
    To be called when all has started: the garbage collector looks no more at what is
    there by now, which would hold up all traffic for some 20 ms each time, and less
    often at the rest.

    Of what requests and connections leave behind next to nothing needs it.
    """
    if hasattr(gc, "freeze"):  # PyPy's is another.
        gc.freeze()
        gc.set_threshold(YOUNG)
