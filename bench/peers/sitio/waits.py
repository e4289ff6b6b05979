"""Waits for a turn of the loop."""

import asyncio

from sitio import Exchange, onRequest


@onRequest
async def wait(exchange: Exchange) -> None:
    await asyncio.sleep(0)
