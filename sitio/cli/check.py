"""C{sitio check}."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from sitio.cli.passing import PassingCommand
from sitio.errors import CannotStart


@click.command("check", cls=PassingCommand)
@click.pass_context
def command(ctx: click.Context) -> None:
    """
    Find the mistakes in options, configuration file and policies.

    It builds all that `sitio run` would start with the same options, and opens nothing. It prints
    each mistake in a line, and exits with 1 if there is one.
    """
    found = mistakes(ctx.args)
    for each in found:
        click.echo(each)
    if found:
        ctx.exit(1)
    click.echo("sitio has found no mistakes")


def mistakes(arguments: Sequence[str]) -> list[str]:
    """A sentence for each mistake; those in a file begin with file and line."""
    from sitio.cli.plugin import built

    try:
        built("sitio check", arguments)
    except CannotStart as error:
        return list(_sentences(error))
    return []


def _sentences(error: CannotStart) -> Iterable[str]:
    """What is wrong; of a file, each mistake in it."""
    from sitio.config.places import ConfigErrors

    cause = error.__cause__ or error.__context__
    if isinstance(cause, ConfigErrors):
        return map(str, cause.mistakes)
    return [str(error).removeprefix("sitio: ")]
