"""
The blocks of Python in documents: L{blocks}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_block = re.compile(r"^```python\n(?:# (\S+\.py)\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Name and text of each block of Python; the name is empty if there is none."""
    for found in _block.finditer(text):
        yield found[1] or "", found[0].removeprefix("```python\n").removesuffix("```")
