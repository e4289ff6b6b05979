"""C{sitio version}."""

from __future__ import annotations

import click


def versionLine() -> str:
    """What C{sitio version} prints."""
    from sitio import __version__

    return f"sitio {__version__}"


@click.command("version")
def command() -> None:
    """Print the version."""
    click.echo(versionLine())
