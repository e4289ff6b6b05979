"""Let in whom an accounts service knows: `TOKEN_CHECK=URL` and `file:examples/checktoken.py`."""

import os
import time
from hashlib import sha256
from typing import Any

import treq
from attrs import define, field
from zope.interface import implementer

from sitio import IExchange, IRequestPolicy, Response

WHO = Response(401, text="Who are you?\n", headers={"WWW-Authenticate": "Bearer"})
NOT_NOW = Response(503, text="Nobody can be let in just now.\n", headers={"Retry-After": "5"})

#: Seconds for which a good token is not asked for again, and how many are remembered.
REMEMBERED, MOST = 60.0, 1000


@implementer(IRequestPolicy)
@define
class TokenCheck:
    url: str
    client: Any = treq
    seconds: Any = time.monotonic
    _until: dict[bytes, float] = field(factory=dict, init=False)

    async def requestReceived(self, exchange: IExchange) -> Response | None:
        sent = exchange.request.headers.get("Authorization")
        if sent is None:
            return WHO
        token = sha256(sent.encode()).digest()
        if self._until.get(token, 0.0) > self.seconds():
            return None
        try:
            answer = await self.client.get(
                self.url, headers={"Authorization": sent}, timeout=5, allow_redirects=False
            )
            # To its end, so that the connection can be used again.
            await self.client.collect(answer, lambda data: None)
        except Exception:
            return NOT_NOW
        if answer.code != 200:
            return NOT_NOW if answer.code >= 500 else WHO
        self._until.pop(token, None)
        self._until[token] = self.seconds() + REMEMBERED
        if len(self._until) > MOST:
            del self._until[next(iter(self._until))]
        return None


checkToken = TokenCheck(os.environ.get("TOKEN_CHECK", "http://localhost:8088/check"))
