"""
The group of commands: L{main}.

Each command is a module, which is imported when it is called: so C{sitio status} loads no Twisted,
and C{sitio run} starts as fast as C{twistd sitio}.
"""

from __future__ import annotations

from importlib import import_module

import click
from click.shell_completion import CompletionItem

#: The commands: their modules, attributes and summaries, in the order of the help.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("run", "command", "Start a proxy in front of a service."),
    "check": ("check", "command", "Find the mistakes in options, file and policies."),
    "reload": ("control", "reloadCommand", "Make a running sitio read its file again."),
    "drain": ("control", "drainCommand", "Make a running sitio send its clients elsewhere."),
    "status": ("status", "command", "Show what a running sitio does."),
    "policies": ("policies", "command", "List the policies, or the options of one."),
    "new-policy": ("newpolicy", "command", "Write a policy of your own, with its test."),
    "version": ("version", "command", "Print the version."),
}

#: The options that print help.
HELP_OPTIONS = ("-h", "--help")


class Commands(click.Group):
    """Knows its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one; L{None} if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        found: click.Command = getattr(import_module(f"sitio.cli.{module}"), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """
        Find the command that is called.

        @raise click.UsageError: there is none; the sentence has the nearest one.
        """
        name = args[0]
        if not ctx.resilient_parsing and name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, 1)
            hint = f"; did you mean {near[0]}?" if near else f": there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands that begin so."""
        found = [
            CompletionItem(name, help=summary)
            for name, (_, _, summary) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


def _printVersion(ctx: click.Context, option: click.Parameter, isGiven: bool) -> None:
    if isGiven and not ctx.resilient_parsing:
        from sitio.cli.version import versionLine

        click.echo(versionLine())
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": list(HELP_OPTIONS)})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_printVersion,
    help="Print the version, and exit.",
)
def commands() -> None:
    """
    The sidecar you program in Python: a small HTTP proxy that stands beside a service.

    Try `sitio run --demo`, and then http://localhost:8080/.
    """


def main() -> None:
    """The entry point of the command; ends the process."""
    commands.main(prog_name="sitio")
