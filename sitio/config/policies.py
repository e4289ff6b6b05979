"""
Policies as they are configured: L{PolicyConfig}, and L{policiesMade}, which makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from sitio.config.keys import place


@frozen
class PolicyConfig:
    """
    A policy, or the policies of a file.

    @ivar description: as C{--policy} takes it; only a name if there are options.
    @ivar options: the options by name; L{None} if the description has them.
    @ivar folder: what paths of files in it are relative to; C{""} for the working directory.
    """

    # They may have secrets, which must not get into tracebacks.
    description: str = field(repr=False)
    options: Mapping[str, Any] | None = field(default=None, repr=False)
    folder: str = ""
    place: str = place()


def policiesMade(config: PolicyConfig) -> list[tuple[str, Any]]:
    """
    Make policies: their names, and they.

    @raise ValueError: one can't be made; the sentence shows no secrets.
    """
    # Imported with the first policy.
    from sitio.policy.sources import policiesOf, policiesOfText

    folder = Path(config.folder) if config.folder else None
    if config.options is None:
        return policiesOfText(config.description, folder)
    return policiesOf(config.description, config.options, folder)
