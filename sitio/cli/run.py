"""C{sitio run}."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sitio.cli.passing import PassingCommand


@click.command("run", cls=PassingCommand)
@click.pass_context
def command(ctx: click.Context) -> None:
    """
    Start a proxy in front of a service, in the foreground.

    Ctrl-C, or the signal TERM, ends it when the requests in progress have their responses. The
    options are those of `twistd sitio`, which can also run it in the background.
    """
    run(ctx.args)


def run(arguments: Sequence[str]) -> None:
    """
    Run a sidecar until it is stopped.

    @raise CannotStart: it can't start; the process ends with one sentence and status 1.
    """
    from sitio.cli.plugin import Runner, parsed

    # Unlike twistd, which ends by the signal that has stopped it: it has stopped in good order.
    Runner(parsed("sitio run", arguments)).run()
