"""
A command that passes its options on to those of C{twistd sitio}: L{PassingCommand}.

So both have the same options, with the same sentences about wrong values.  click knows them for
the help and for completion only, from the tables of L{sitio.config.options}.
"""

from __future__ import annotations

import inspect
from typing import Any

import click
from attrs import fields
from click.shell_completion import CompletionItem

from sitio.cli.groups import grouped
from sitio.cli.main import HELP_OPTIONS

#: What stands for the value of an option in the help, if not VALUE.
METAVARS = {
    "config": "FILE",
    "policy": "POLICY",
    "route": "TEMPLATE",
    "port": "ADDRESS",
    "upstream": "ADDRESS",
    "upstream-host": "HOST",
    "proxy-protocol": "VERSION",
    "admin": "ADDRESS",
    "probes": "ADDRESS",
    "access-log": "FORM[:FILE]",
    "log-level": "LEVEL",
    "log-format": "FORM",
    "health-path": "PATH",
    "admin-hosts": "NAMES",
    "fleet": "URL",
    "trusted": "NETWORKS",
    "forwarded": "MODE",
    "forwarded-style": "STYLE",
    "workers": "NUMBER",
}

#: Columns of an option in the help, and of its value.
OPTION_COLUMNS = 26

#: Options that this command has in another way.
_LEFT_OUT = ("version", "help", "help-policies")


class PassingCommand(click.Command):
    """A command whose C{ctx.args} are options of C{twistd sitio}, not yet parsed."""

    _found: list[click.Parameter] | None = None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options, as click shows them."""
        if self._found is None:
            self._found = [*_sidecarOptions(), *super().get_params(ctx)]
        return self._found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave the arguments as they are, unless help is asked for."""
        if ctx.resilient_parsing:
            super().parse_args(ctx, list(args))
        elif any(each in HELP_OPTIONS for each in args):
            click.echo(self.get_help(ctx), color=ctx.color)
            ctx.exit()
        ctx.args = list(args)
        return ctx.args

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in their groups."""
        from sitio.config.limits import optionName
        from sitio.settings import Settings

        known: dict[str, click.Parameter] = {
            _longName(each): each for each in self.get_params(ctx) if isinstance(each, click.Option)
        }
        limits = [optionName(each.name) for each in fields(Settings)]
        for title, names in grouped(known, limits).items():
            with formatter.section(title):
                rows = [known[name].get_help_record(ctx) for name in names]
                formatter.write_dl([each for each in rows if each], col_max=OPTION_COLUMNS)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """
        Options that begin so; or the rest of a policy's description, which bash splits at its
        colons.
        """
        from sitio.cli.completion import descriptionAt, policyItems

        split = descriptionAt(ctx.args, incomplete)
        if split is None:
            return super().shell_complete(ctx, incomplete)
        before, rest = split
        return [
            CompletionItem(each.value.removeprefix(before), type=each.type, help=each.help)
            for each in policyItems(before + rest)
        ]


def _longName(option: click.Parameter) -> str:
    return max(option.opts, key=len).removeprefix("--")


def _sidecarOptions() -> list[click.Option]:
    """The options of C{twistd sitio} as those of click."""
    from sitio.config.options import Options

    found = [
        _valued(name, short, help, default, multiple=False)
        for name, short, default, help, *_ in Options.optParameters
    ]
    flags: list[Any] = Options.optFlags
    found += [_flag(name, short, help) for name, short, help in flags]
    for attribute, method in vars(Options).items():
        name = attribute.removeprefix("opt_").replace("_", "-")
        if not attribute.startswith("opt_") or name in _LEFT_OUT:
            continue
        help = inspect.getdoc(method) or ""
        if len(inspect.signature(method).parameters) > 1:
            found.append(_valued(name, None, help, None, multiple=True))
        else:
            found.append(_flag(name, None, help))
    found.append(_flag("help", "h", "print this, and exit"))
    return found


def _valued(
    name: str, short: str | None, help: str, default: Any, *, multiple: bool
) -> click.Option:
    return click.Option(
        _spellings(name, short),
        metavar=METAVARS.get(name, "VALUE"),
        help=_inOneLine(help),
        default=None if multiple else default,
        show_default=default is not None,
        multiple=multiple,
        shell_complete=_completion(name),
    )


def _flag(name: str, short: str | None, help: str) -> click.Option:
    return click.Option(_spellings(name, short), is_flag=True, help=_inOneLine(help))


def _spellings(name: str, short: str | None) -> list[str]:
    return [*([f"-{short}"] if short else []), f"--{name}"]


def _inOneLine(help: str) -> str:
    return " ".join(help.split())


def _completion(name: str) -> Any:
    def complete(ctx: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
        from sitio.cli.completion import valueItems

        return valueItems(name, begun)

    return complete
