"""
What C{sitio run} and C{sitio check} use of C{twistd}: its plugin, options and runner.

C{twistd} looks through all plugins for the one that it runs; here it is known.

Contract: L{parsed} installs the reactor, as the options of C{twistd sitio} do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger, globalLogPublisher
from twisted.scripts._twistd_unix import (
    ServerOptions as _ServerOptions,
    UnixApplicationRunner,
    UnixAppLogger,
)

from sitio.errors import CannotStart

_log = Logger(namespace="sitio")

#: C{twistd}'s options: in the foreground, without a file of its process id.
_TWISTD = ("--nodaemon", "--pidfile=", "sitio")


class ServerOptions(_ServerOptions):
    """The options of C{twistd}, for a command that has one of its own name."""

    def __init__(self, program: str) -> None:
        """@param program: the command, as sentences name it: C{sitio run}."""
        _ServerOptions.__init__(self)
        self._program = program
        self.loadedPlugins: dict[str, Any] = {}

    @property
    def subCommands(self) -> list[Any]:
        """The only plugin."""
        from twisted.plugins.sitio_plugin import sitio as plugin

        self.loadedPlugins = {"sitio": plugin}

        def options() -> Any:
            made = plugin.options()
            made.program = self._program
            return made

        return [("sitio", None, options, plugin.description)]


class _Log(UnixAppLogger):
    """Logs no lines of C{twistd}: the line that sitio logs at its start says what runs."""

    def _initialLog(self) -> None:
        pass

    def stop(self) -> None:
        """Log that the process ends, and log no more."""
        _log.info("sitio has stopped")
        if self._observer is not None:
            globalLogPublisher.removeObserver(self._observer)
            self._observer = None


class Runner(UnixApplicationRunner):
    """C{twistd}'s runner."""

    loggerFactory = _Log


def parsed(program: str, arguments: Sequence[str]) -> ServerOptions:
    """
    The options of C{twistd}, with those of sitio.

    @param program: as above.
    @param arguments: those of sitio.

    @raise CannotStart: an option is wrong.
    """
    config = ServerOptions(program)
    config.parseOptions([*_TWISTD, *arguments])
    return config


def built(program: str, arguments: Sequence[str]) -> IService:
    """
    The service that C{twistd} would start; it opens nothing before that.

    @raise CannotStart: something is wrong.
    """
    config = parsed(program, arguments)
    try:
        service: IService = config.loadedPlugins["sitio"].makeService(config.subOptions)
    except ValueError as error:
        raise CannotStart(f"sitio: {error}") from error
    return service
