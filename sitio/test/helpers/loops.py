"""
Event loops of asyncio.
"""

from __future__ import annotations

import asyncio
from typing import Any


def close(loop: Any) -> None:
    """Close the loop of a reactor that a test has made."""
    # Transports that were closed before the loop ran need one turn.
    loop.call_soon(loop.stop)
    loop.run_forever()
    asyncio.set_event_loop(None)
    loop.close()
