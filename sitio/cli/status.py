"""
C{sitio status}.

It asks the admin port twice, a second apart, as rates are differences.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import click

from sitio.cli.client import AdminClient, asksSitio
from sitio.cli.screen import Status, screen
from sitio.cli.terminal import Terminal

#: Seconds between the two looks.
INTERVAL_SECONDS = 1.0


@click.command("status")
@asksSitio
@click.option("--json", "asJson", is_flag=True, help="print plain data, for programs")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, max=60),
    default=INTERVAL_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="time over which requests per second are measured; 0 for the mean since the start",
)
def command(client: AdminClient, asJson: bool, interval: float) -> None:
    """
    Show what a running sitio does: traffic, upstreams, policies, workers.

    The exit status is 0 if sitio answers, ready or not, and 2 if nothing answers.
    """
    if asJson:
        click.echo(json.dumps(plainStatus(statusOf(client, 0.0)), indent=2))
        return
    terminal = Terminal.of()
    for each in screen(statusOf(client, interval), terminal):
        click.echo(each, color=terminal.coloured)


def statusOf(
    client: AdminClient, interval: float, sleep: Callable[[float], None] = time.sleep
) -> Status:
    """
    What a sitio tells of itself.

    @raise Unreachable: nothing answers.
    """
    before = client.get("/stats.json").json() if interval else None
    if interval:
        sleep(interval)
    now = client.get("/stats.json").json()
    ready = client.get("/ready")
    config = client.get("/config").json()
    return Status(str(client.address), ready.status == 200, ready.text, config, now, before)


def plainStatus(status: Status) -> dict[str, Any]:
    """The same as plain data: the content of the pages."""
    return {
        "admin": status.admin,
        "ready": status.isReady,
        "state": status.state,
        "config": status.config,
        "stats": status.now,
    }
