"""C{sitio new-policy}."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from sitio.cli.skeleton import files


@click.command("new-policy")
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="where the files are written; default a new folder with the name of the policy",
)
def command(name: str, folder: Path | None) -> None:
    """
    Write a policy of your own: a file, its test, and what installs it.

    Files that exist are never changed.
    """
    try:
        texts = files(name)
        _checkFree(name)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    folder = Path(name) if folder is None else folder
    try:
        write(folder, texts)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename} can't be written: {error.strerror}; choose another folder with --dir"
        ) from error
    module, test, _ = texts
    for each in texts:
        click.echo(f"{folder / each}")
    click.echo(
        f"\nTest it:     cd {folder} && python -m twisted.trial {test.removesuffix('.py')}"
        f"\nUse it:      sitio run --upstream localhost:8087 --policy file:{folder / module}"
        f"\nInstall it:  pip install ./{folder}  (then --policy {name})"
    )


def _checkFree(name: str) -> None:
    """
    @raise ValueError: a policy of this name is installed.
    """
    from sitio.policy.makers import makers

    if name == "file" or name in makers():
        raise ValueError(f"there is a policy {name} already: choose another name")


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """
    Write files into a folder, which is made if there is none.

    If one of them exists, or can't be written, none is left behind.

    @raise OSError: that is so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for name, text in texts.items():
            # "x": an existing file, or a link, is an error.
            with open(folder / name, "x", encoding="utf-8") as file:
                written.append(folder / name)
                file.write(text)
    except OSError:
        for each in written:
            each.unlink()
        raise
