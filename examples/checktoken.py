"""Ask another service whether a token is good: `TOKEN_CHECK=URL`, `file:examples/checktoken.py`."""

import os
import time
from hashlib import sha256
from typing import Any

import treq
from attrs import define, field
from zope.interface import implementer

from sitio import IExchange, IRequestPolicy, Response

NO_TOKEN = Response(401, text="Please log in.\n", headers={"WWW-Authenticate": "Bearer"})
NO_ANSWER = Response(503, text="Please try again later.\n", headers={"Retry-After": "5"})

#: For how long a good token is cached, and how many tokens are.
CACHE_SECONDS, MAX_CACHED = 60.0, 1000


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
            return NO_TOKEN
        token = sha256(sent.encode()).digest()
        if self._until.get(token, 0.0) > self.seconds():
            return None
        try:
            answer = await self.client.get(
                self.url, headers={"Authorization": sent}, timeout=5, allow_redirects=False
            )
            # Read the whole body, so that the connection can be used again.
            await self.client.collect(answer, lambda data: None)
        except Exception:
            return NO_ANSWER
        if answer.code != 200:
            return NO_ANSWER if answer.code >= 500 else NO_TOKEN
        self._until.pop(token, None)
        self._until[token] = self.seconds() + CACHE_SECONDS
        if len(self._until) > MAX_CACHED:
            del self._until[next(iter(self._until))]
        return None


checkToken = TokenCheck(os.environ.get("TOKEN_CHECK", "http://localhost:8088/check"))
