"""One policy of each kind, for what they cost: C{kinds.py:NAME}.  None changes anything."""

import asyncio
from typing import Annotated, Any

from zope.interface import implementer

from sitio import Exchange, Response, SentHead, onRequest, onResponse, onSend
from sitio.interfaces import IRequestPolicy
from sitio.policy.options import About


@onRequest
def request(exchange: Exchange) -> None: ...


@onResponse()
def response(exchange: Exchange, response: Response) -> None: ...


@onResponse(buffered=True)
def buffered(exchange: Exchange, response: Response) -> None: ...


@onResponse(buffered=True, failOpen=False)
def closed(exchange: Exchange, response: Response) -> None: ...


@onResponse(buffered=True)
def decoded(exchange: Exchange, response: Response) -> None:
    if response.status == 200:
        response.json()


@onResponse()
def filtered(exchange: Exchange, response: Response) -> None:
    response.addFilter(bytes, keepsLength=True)


@onSend
def send(exchange: Exchange, response: SentHead) -> None: ...


@onRequest
async def coroutine(exchange: Exchange) -> None: ...


@onRequest
async def waiting(exchange: Exchange) -> None:
    await asyncio.sleep(0)


@implementer(IRequestPolicy)
class Class:
    def requestReceived(self, exchange: Any) -> None: ...


def makePolicy(name: Annotated[str, About("the name of a policy here", shown=True)]) -> Any:
    """One policy of this file."""
    return Class() if name == "class" else globals()[name]
