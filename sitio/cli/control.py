"""C{sitio reload} and C{sitio drain}."""

from __future__ import annotations

import click

from sitio.cli.client import AdminClient, Refused, asksSitio


@click.command("reload")
@asksSitio
def reloadCommand(client: AdminClient) -> None:
    """
    Make a running sitio read its configuration file and its policies again.

    If there is a mistake in them, sitio goes on as it was. Each mistake is printed in a line, and
    the exit status is 1.
    """
    _do(client, "/reload")


@click.command("drain")
@asksSitio
def drainCommand(client: AdminClient) -> None:
    """
    Make a running sitio send its clients elsewhere.

    It is no longer ready, and closes each connection after its response. It goes on running.
    """
    _do(client, "/drain")


def _do(client: AdminClient, path: str) -> None:
    """Post to a page, and print what it says."""
    answer = client.request("POST", path)
    if answer.status == 200:
        click.echo(answer.text)
        return
    if answer.status == 404:
        raise Refused(
            f"sitio: {client.address} has no page {path}: it is an older sitio, or another program"
        )
    # 422 with the mistakes, or 403: this is allowed from the same host only.
    raise Refused(answer.text)
