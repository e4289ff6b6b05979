"""C{sitio policies}: what is installed, and the options of a policy."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem

from sitio.cli.table import Cell, Column, Table
from sitio.cli.terminal import Terminal

#: What is said of policies in files, which are not installed.
_FILE = ("file:PATH", "the policies that a file of Python makes with @onRequest, @onResponse")


def _complete(ctx: click.Context, argument: click.Parameter, begun: str) -> list[CompletionItem]:
    from sitio.cli.completion import policyItems, policyNames

    return policyItems(begun) if begun.startswith("file:") else policyNames(begun, ("file:",))


@click.command("policies")
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=_complete)
def command(names: tuple[str, ...]) -> None:
    """
    List the policies that are installed, or the options of some.

    A NAME is that of a policy, or file:PATH for a file of Python.
    """
    terminal = Terminal.of()
    for place, name in enumerate(names):
        if place:
            click.echo()
        try:
            for each in optionLines(name, terminal):
                click.echo(each, color=terminal.coloured)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
    if not names:
        for each in policyLines(terminal):
            click.echo(each, color=terminal.coloured)


def policyLines(terminal: Terminal) -> Iterator[str]:
    """The installed policies."""
    from sitio.policy.makers import clashes, makers

    table = Table([Column("policy"), Column("what it does", isCut=True)], wraps=True)
    table.add(Cell(_FILE[0], {"bold": True}), _FILE[1])
    for name, maker in sorted(makers().items()):
        _, _, about = maker.usage.partition("  ")
        table.add(Cell(name, {"bold": True}), about.strip())
    yield from table.lines(terminal, indent=0)
    for sentence in clashes().values():
        yield ""
        yield from textwrap.wrap(sentence, terminal.width)
    yield ""
    yield "The options of one: sitio policies NAME. A policy of your own: sitio new-policy NAME."


def optionLines(name: str, terminal: Terminal) -> Iterator[str]:
    """
    The usage and the options of a policy.

    @raise ValueError: there is none, or its file can't be loaded.
    """
    from sitio.policy.sources import declared

    usage, declaration = declared(name)
    form, _, about = usage.partition("  ")
    # Descriptions have no spaces where they may be broken, but for those of examples.
    yield terminal.paint(form, bold=True)
    if about:
        yield from textwrap.wrap(about.strip(), terminal.width, initial_indent="  ")
    if declaration is None or not declaration.options:
        yield "  It takes no options."
        return
    table = Table(
        [
            Column("option"),
            Column("value", isCut=True),
            Column("default", isCut=True),
            Column("meaning", isCut=True),
        ],
        wraps=True,
    )
    for each in declaration.options:
        table.add(
            Cell(each.key if each.isNamed else each.metavar, {"bold": True}),
            each.expected,
            each.shownDefault,
            each.about.help,
        )
    yield ""
    yield from table.lines(terminal)
