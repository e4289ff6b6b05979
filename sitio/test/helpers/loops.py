"""
Event loops of asyncio.
"""

from __future__ import annotations

import asyncio
from typing import Any


def close(loop: Any) -> None:
    """Close a loop on which a reactor was."""
    # What was let go before the loop ever ran needs one turn to go.
    loop.call_soon(loop.stop)
    loop.run_forever()
    asyncio.set_event_loop(None)
    loop.close()
