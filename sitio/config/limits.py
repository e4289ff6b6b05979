"""
The limits and timeouts of L{sitio.settings}, as options and keys name them.
"""

from __future__ import annotations

import re

#: Limits that may be 0; with 0 for any other, no request would pass.
MAY_BE_ZERO = frozenset(
    (
        "bufferLimit",
        "grace",
        "halfClose",
        "maxBody",
        "minBodyRate",
        "poolQueue",
        "poolUploads",
        "replayLimit",
        "requestBufferLimit",
        "upstreamIdleTimeout",
    )
)


def optionName(name: str) -> str:
    """C{max-head} for C{maxHead}."""
    return re.sub(r"[A-Z]", lambda match: "-" + match[0].lower(), name)
