"""
The files of a ConfigMap, as a kubelet writes them: L{switch}.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

#: A link to the folder whose files count; and the name under which the next one is made.
DATA, NEXT = "..data", "..data_tmp"


def switch(folder: Path, files: Mapping[str, str]) -> None:
    """
    Give a volume these files, in place of those that it has, if it has any.

    The files are in a folder with a name of its own, to which C{..data} is a link, and each name
    of the volume is a link through C{..data}.  So one renaming replaces all files at once, and no
    file is ever half written.  Then the former folder is removed.
    """
    data = folder / DATA
    former = data.resolve() if data.is_symlink() else None
    fraction = time.time_ns() % 1_000_000_000
    made = folder / time.strftime(f"..%Y_%m_%d_%H_%M_%S.{fraction:09}")
    made.mkdir()
    for name, text in files.items():
        (made / name).write_text(text, "utf-8")
        (made / name).chmod(0o644)
    # Readable for the user of any container.
    made.chmod(0o755)
    (folder / NEXT).symlink_to(made.name)
    (folder / NEXT).replace(data)
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{DATA}/{name}")
    for each in folder.iterdir():
        if not each.name.startswith("..") and each.name not in files:
            each.unlink()
    if former is not None:
        shutil.rmtree(former)
