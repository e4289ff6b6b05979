"""Ask another service whether a token is good: `file:examples/checktoken.py:url=URL`."""

import time
from hashlib import sha256
from typing import Annotated, Any

import treq
from attrs import define, field

from sitio import Exchange, Response
from sitio.policy.kinds import Duration
from sitio.policy.options import About

NO_TOKEN = Response(401, text="Please log in.\n", headers={"WWW-Authenticate": "Bearer"})
NO_ANSWER = Response(503, text="Please try again later.\n", headers={"Retry-After": "5"})

#: How many good tokens are cached.
MAX_CACHED = 1000


@define
class TokenCheck:
    """Let in who has a token that another service knows."""

    url: Annotated[str, About("the service", shown=True)] = "http://localhost:8088/check"
    cache: Annotated[Duration, About("for how long a good token is remembered")] = 60.0
    client: Any = treq
    seconds: Any = time.monotonic
    _until: dict[bytes, float] = field(factory=dict, init=False)

    async def requestReceived(self, exchange: Exchange) -> Response | None:
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
        self._until[token] = self.seconds() + self.cache
        if len(self._until) > MAX_CACHED:
            del self._until[next(iter(self._until))]
        return None


#: The fields with types are the options.
makePolicy = TokenCheck
