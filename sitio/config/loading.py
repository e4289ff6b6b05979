"""
Loads what is configured, at the start and again: L{load}.

Contract: reads the file of C{--config}, those that it names, and the files of policies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from attrs import frozen

from sitio.config.merge import Contradiction, merged
from sitio.config.model import Config
from sitio.config.places import ConfigErrors, Mistake
from sitio.config.policies import PolicyConfig, policiesMade

#: Names and policies.
Policies = list[tuple[str, Any]]


@frozen
class Loaded:
    """
    A configuration with its policies, which are new ones each time.

    @ivar config: what is configured.
    @ivar policies: what each L{PolicyConfig} has made, by its place.
    @ivar text: of the file; L{None} if there is none.
    """

    config: Config
    policies: Mapping[str, Policies]
    text: str | None = None

    def policiesOf(self, configured: Iterable[PolicyConfig]) -> Policies:
        """The policies of a list of them, in order."""
        return [one for each in configured for one in self.policies[each.place]]

    @property
    def everyPolicy(self) -> Policies:
        """All policies, those of routes included."""
        return [one for each in self.policies.values() for one in each]


def load(
    path: str | None,
    options: Mapping[str, Any],
    given: Collection[str],
    environ: Mapping[str, str],
    made: Mapping[str, Policies] | None = None,
    text: str | None = None,
) -> Loaded:
    """
    Read the file, bring the options in, and make the policies.

    @param path: of the file; L{None} if there is none.
    @param options: the parsed values of all options.
    @param given: the names of those that were given.
    @param environ: environment variables.
    @param text: of the file; L{None} to read it.
    @param made: policies of options that are made already, by place.

    @raise ConfigErrors: there are mistakes; it has all of them.
    """
    loading = _Loading()
    config = Config() if path is None else loading.read(path, environ, text)
    try:
        config = merged(options, given, config)
    except Contradiction as error:
        loading.mistakes.append(Mistake("", 0, error.option, str(error)))
    else:
        loading.check(config)
    policies = loading.policies(config, made or {})
    if loading.mistakes:
        raise ConfigErrors(loading.mistakes, config)
    return Loaded(config, policies, loading.text)


def everyPolicy(config: Config) -> Iterator[PolicyConfig]:
    """The policies of all routes, and those of each."""
    yield from config.policies
    for route in config.routes:
        yield from route.policies


class _Loading:
    """Collects the mistakes."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.text: str | None = None

    def read(self, path: str, environ: Mapping[str, str], text: str | None) -> Config:
        """What the file says, as far as it is right."""
        # What reads a file is imported only if there is one.
        from sitio.config.checks import partMistakes
        from sitio.config.file import readConfig, readText

        self.text = readText(path) if text is None else text
        config, mistakes = readConfig(path, environ, self.text)
        self.mistakes += mistakes
        self._add(config, partMistakes(config))
        return config

    def check(self, config: Config) -> None:
        """Check what a file and options say together."""
        if config.places.file:
            from sitio.config.checks import wholeMistakes

            self._add(config, wholeMistakes(config, self._isBroken))

    def policies(self, config: Config, made: Mapping[str, Policies]) -> dict[str, Policies]:
        """Make all policies."""
        found: dict[str, Policies] = {}
        for each in everyPolicy(config):
            if each.place in made and (not config.places.file or config.places.option(each.place)):
                found[each.place] = made[each.place]
                continue
            try:
                found[each.place] = policiesMade(each)
            except ValueError as error:
                self._add(config, [(each.place, str(error))])
        return found

    def _isBroken(self, place: str) -> bool:
        """Whether there is a mistake at a place, or in it."""
        inside = (f"{place}.", f"{place}[")
        return any(each.key == place or each.key.startswith(inside) for each in self.mistakes)

    def _add(self, config: Config, found: Iterable[tuple[str, str]]) -> None:
        """Add mistakes, but for those that follow from others."""
        for place, sentence in found:
            if not place or not self._isBroken(place):
                self.mistakes.append(config.places.mistake(place, sentence))
