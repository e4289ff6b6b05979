"""
Puts another configuration in place of a running sidecar's, in one process: L{Replacement}.

In this order: the file and the files of policies are read and made, all of it, as at a start;
policies start, and test themselves; ports that are new are opened.  Up to here nothing has
changed, and a mistake in any of this leaves it so.  Then, within one turn of the reactor,
policies hand their state over, and the next request has the new configuration.

Contract: the reactor is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol as Typing

from attrs import evolve, fields, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sitio.config.limits import optionName
from sitio.config.loading import Loaded, everyPolicy
from sitio.config.model import Config
from sitio.config.options import Options
from sitio.config.places import ConfigErrors, Mistake
from sitio.errors import CannotStart, inOneLine
from sitio.policy.files import LoadedAnew, importedFiles
from sitio.policy.handover import handOver, kindOf, selfTests
from sitio.proxy.generation import Generation
from sitio.wiring.endpoints import Connects, hostOf, listening, peersOf
from sitio.wiring.fitting import descriptorLimit, fitDescriptors, fitted
from sitio.wiring.generations import Prepared
from sitio.wiring.plan import Plan, templatesOf

if TYPE_CHECKING:
    from sitio.service import SidecarService

_log = Logger(namespace="sitio")

#: What a process takes from its configuration only when it starts.
AT_START = (
    *("workers", "workerTimeout", "statsInterval", "accessLog", "accessLogQuery"),
    *("logLevel", "logFormat", "fleet", "demo", "watch"),
)


class Replaceable(Typing):
    """What L{Reloads<sitio.wiring.reloading.Reloads>} does in two steps: a process, or several."""

    def prepare(self) -> Deferred[list[str]]:
        """
        Make another configuration; nothing changes.

        @return: the keys whose new values need a restart.  Fails with L{ConfigErrors}: then
            nothing is left of it.
        """

    def adopt(self) -> int:
        """Put in place what was prepared.  Returns the number of its generation."""

    def discard(self) -> None:
        """Drop what was prepared."""

    def files(self) -> Iterable[Path]:
        """The files of the configuration and of policies."""


@frozen
class _Pending:
    """A configuration that is prepared."""

    loaded: Loaded
    config: Config
    prepared: Prepared
    modules: LoadedAnew
    opened: frozenset[str]
    adoptTLS: Callable[[], None]


class Replacement:
    """See this module's docstring.  It provides L{Replaceable}."""

    def __init__(
        self,
        reactor: Any,
        options: Options,
        sidecar: SidecarService,
        connects: Connects,
        *,
        hasPorts: bool = True,
    ) -> None:
        """
        @param options: of the running sidecar; they are changed.
        @param connects: what its upstreams connect with.
        @param hasPorts: whether ports can be opened and closed: a worker's are its parent's.
        """
        self._reactor = reactor
        self._options = options
        self._sidecar = sidecar
        self._connects = connects
        self._hasPorts = hasPorts
        self._pending: _Pending | None = None
        # Policy files of a configuration with mistakes: they may be corrected.
        self._tried: set[Path] = set()

    def prepare(self, text: str | None = None) -> Deferred[list[str]]:
        """
        See L{Replaceable}.

        @param text: the text of the file; L{None} to read it.
        """
        return Deferred.fromCoroutine(self._prepare(text))

    async def _prepare(self, text: str | None) -> list[str]:
        self.discard()
        modules = LoadedAnew()
        with modules:
            loaded, config = self._read(text)
            prepared = self._made(loaded, config)
        try:
            failed = await selfTests(prepared.generation.policies(), self._reactor, _log)
            if failed:
                raise ConfigErrors(Mistake("", 0, "", each) for each in failed)
            adoptTLS = self._connects.tls.prepare(config)
            opened = self._open(config)
        except BaseException:
            self._sidecar.generations.discard(prepared)
            raise
        self._pending = _Pending(loaded, config, prepared, modules, opened, adoptTLS)
        return atStart(self._options.loaded.config, loaded.config, self._hasPorts)

    def _read(self, text: str | None) -> tuple[Loaded, Config]:
        """What is configured, and the same with numbers that fit into the limits."""
        loaded = _loaded(self._options, self._tried, text)
        limits = fitted(loaded.config.limits, descriptorLimit(self._reactor))
        config = evolve(loaded.config, limits=limits)
        mistakes = list(self._connects.mistakes(config))
        if mistakes:
            raise ConfigErrors(mistakes)
        return loaded, config

    def _made(self, loaded: Loaded, config: Config) -> Prepared:
        """The generation, with policies that have started."""
        plan = Plan(config, self._reactor, self._connects, loaded.policies)
        with _told(config):
            return self._sidecar.generations.prepare(plan.make)

    def _open(self, config: Config) -> frozenset[str]:
        """Open the ports that are new."""
        ports = self._sidecar.ports
        new = tuple(each for each in config.listeners if each.address not in ports.names)
        if not new or not self._hasPorts:
            return frozenset()
        more = {each.address for each in new}
        try:
            with _told(config):
                listeners = evolve(config, listeners=new)
                ports.add(listening(self._reactor, listeners, self._connects.tls))
        except BaseException:
            self._connects.tls.forget(more)
            raise
        return frozenset(more)

    def adopt(self) -> int:
        """See L{Replaceable}."""
        pending, self._pending = self._pending, None
        assert pending is not None, "nothing is prepared"
        sidecar, config, options = self._sidecar, pending.config, self._options
        context, generation = sidecar.context, pending.prepared.generation
        handOver(_byPlace(context.generation), _byPlace(generation), _log)
        options.use(pending.loaded)
        fitDescriptors(self._reactor, options)
        # For connections that are made from now on.
        context.host = hostOf(config)
        context.keepsFolded = config.forwarded.keepUnderscores
        sidecar.peers = peersOf(config)
        sidecar.stats.useRoutes(templatesOf(config))
        sidecar.adopt(pending.prepared)
        pending.modules.use()
        pending.adoptTLS()
        if self._hasPorts:
            kept = {each.address for each in config.listeners}
            self._close(sidecar.ports.names - kept)
        return generation.number

    def discard(self) -> None:
        """See L{Replaceable}."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._close(pending.opened)
            self._sidecar.generations.discard(pending.prepared)

    def _close(self, ports: Iterable[str]) -> None:
        self._sidecar.ports.remove(ports)
        self._connects.tls.forget(ports)

    def files(self) -> set[Path]:
        """See L{Replaceable}."""
        return filesOf(self._options, self._tried)


class SeveralProcesses:
    """
    The same for workers: this process reads all of it to find mistakes, and they have it.  It
    provides L{Replaceable}.
    """

    def __init__(self, options: Options, connects: Connects, workers: Any) -> None:
        """
        @param workers: a L{WorkersReplacement<sitio.workers.replacing.WorkersReplacement>}.
        """
        self._options = options
        self._connects = connects
        self._workers = workers
        self._loaded: Loaded | None = None
        self._modules = LoadedAnew()
        self._tried: set[Path] = set()

    def prepare(self) -> Deferred[list[str]]:
        """See L{Replaceable}."""
        return Deferred.fromCoroutine(self._prepare())

    async def _prepare(self) -> list[str]:
        self._modules = LoadedAnew()
        with self._modules:
            loaded = _loaded(self._options, self._tried)
        mistakes = list(self._connects.mistakes(loaded.config))
        if mistakes:
            raise ConfigErrors(mistakes)
        try:
            await self._workers.prepare(loaded.text)
        except Exception as error:
            found = [Mistake(*each) for each in getattr(error, "mistakes", ())]
            if not found:
                raise
            raise ConfigErrors(found) from error
        self._loaded = loaded
        return atStart(self._options.loaded.config, loaded.config, hasPorts=False)

    def adopt(self) -> int:
        """See L{Replaceable}."""
        loaded, self._loaded = self._loaded, None
        assert loaded is not None, "nothing is prepared"
        self._options.use(loaded)
        self._modules.use()
        number: int = self._workers.adopt()
        return number

    def discard(self) -> None:
        """See L{Replaceable}."""
        if self._loaded is not None:
            self._loaded = None
            self._workers.discard()

    def files(self) -> set[Path]:
        """See L{Replaceable}."""
        return filesOf(self._options, self._tried)


def _loaded(options: Options, tried: set[Path], text: str | None = None) -> Loaded:
    """
    What is configured now.

    @param tried: gets the files of policies, if there are mistakes.
    """
    try:
        loaded = options.load(text)
    except ConfigErrors as error:
        if error.config is not None:
            tried.update(policyFiles(error.config))
        raise
    tried.clear()
    return loaded


@contextmanager
def _told(config: Config) -> Iterator[None]:
    """Whatever goes wrong within is a mistake for the operator."""
    try:
        yield
    except ConfigErrors:
        raise
    except CannotStart as error:
        sentence = str(error).removeprefix("sitio: ")
        raise ConfigErrors([Mistake(config.places.file, 0, "", sentence)]) from error
    except Exception as error:
        _log.failure("A policy of the new configuration can't start")
        sentence = f"a policy can't start: {inOneLine(error)}"
        raise ConfigErrors([Mistake(config.places.file, 0, "", sentence)]) from error


class _PolicyPlace(NamedTuple):
    """What tells policies apart: a number if several are equal in all else."""

    route: str
    name: str
    kind: str
    number: int

    def __str__(self) -> str:
        return self.name


def _byPlace(generation: Generation) -> dict[Hashable, Any]:
    """The policies of a generation by what tells them apart."""
    found: dict[Hashable, Any] = {}
    seen: set[int] = set()
    for route in (generation.fallback, *generation.routes):
        for member in route.chain.members:
            if id(member.policy) in seen:
                # It is one for all routes.
                continue
            seen.add(id(member.policy))
            place = _PolicyPlace(route.name, member.name, kindOf(member.policy), 1)
            while place in found:
                place = place._replace(number=place.number + 1)
            found[place] = member.policy
    return found


def policyFiles(config: Config) -> Iterator[Path]:
    """The files of policies that a configuration names."""
    for each in everyPolicy(config):
        kind, _, rest = each.description.partition(":")
        if kind == "file" and rest:
            # The rest may have options, which no path of a file that can be loaded has.
            yield Path(each.folder, rest.partition(".py")[0] + ".py").absolute()


def filesOf(options: Options, more: Iterable[Path] = ()) -> set[Path]:
    """The file of the configuration, the files of policies, and more."""
    found = {*policyFiles(options.loaded.config), *importedFiles(), *more}
    if options["config"] is not None:
        found.add(Path(options["config"]))
    return found


def atStart(before: Config, now: Config, hasPorts: bool = True) -> list[str]:
    """The keys whose new values take effect at the next start only."""
    keys = [
        optionName(each)
        for each in AT_START
        if getattr(before, each, None) != getattr(now, each, None)
    ]
    keys += [
        f"admin.{optionName(each.name)}"
        for each in fields(type(now.admin))
        if each.name != "place"
        and getattr(before.admin, each.name) != getattr(now.admin, each.name)
    ]
    earlier = {each.address: each for each in before.listeners}
    if not hasPorts and earlier.keys() != {each.address for each in now.listeners}:
        keys.append("listeners")
    for each in now.listeners:
        if each.address in earlier and (earlier[each.address].tls is None) != (each.tls is None):
            keys.append(f"{each.place}.tls")
    return keys
