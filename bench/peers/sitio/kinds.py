"""One policy of each kind, for what they cost: C{kinds.py:NAME}.  None changes anything."""

import asyncio
from typing import Annotated, Any

from zope.interface import implementer

from sitio import Exchange, Response, SentHead, onRequest, onResponse, onSend
from sitio.interfaces import IRequestPolicy
from sitio.policy.options import About


@onRequest
def _request(exchange: Exchange) -> None: ...


@onResponse()
def _response(exchange: Exchange, response: Response) -> None: ...


@onResponse(buffered=True)
def _buffered(exchange: Exchange, response: Response) -> None: ...


@onResponse(buffered=True, failOpen=False)
def _closed(exchange: Exchange, response: Response) -> None: ...


@onResponse(buffered=True)
def _decoded(exchange: Exchange, response: Response) -> None:
    if response.status == 200:
        response.json()


@onResponse()
def _filtered(exchange: Exchange, response: Response) -> None:
    response.addFilter(bytes, keepsLength=True)


@onSend
def _send(exchange: Exchange, response: SentHead) -> None: ...


@onRequest
async def _coroutine(exchange: Exchange) -> None: ...


@onRequest
async def _waiting(exchange: Exchange) -> None:
    await asyncio.sleep(0)


@implementer(IRequestPolicy)
class _Class:
    def requestReceived(self, exchange: Any) -> None: ...


def makePolicy(name: Annotated[str, About("the name of a policy here", shown=True)]) -> Any:
    """One policy of this file."""
    return _Class() if name == "class" else globals()[f"_{name}"]
