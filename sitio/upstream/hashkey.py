"""
The part of a request by which consistent hashing chooses an endpoint: L{hashKey}.

Contract: pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sitio.http.cookies import cookiesOf
from sitio.http.grammar import isToken
from sitio.http.message import Request


class Asking(Protocol):
    """An exchange, as far as endpoints are chosen by it."""

    @property
    def request(self) -> Request: ...

    @property
    def clientAddress(self) -> str: ...


#: Returns the text that is hashed; L{None} if this request has none.
HashKey = Callable[[Asking], str | None]

#: What an operator may write, for messages.
FORMS = "field:X-User, cookie:session, path or client"


def hashKey(text: str) -> HashKey:
    """
    The function that takes the key out of a request.

      - C{field:NAME}: the value of a field.
      - C{cookie:NAME}: the value of a cookie, the first of that name.
      - C{path}: the path without its query, as it is sent.
      - C{client}: the address of the client, without its port.

    @raise ValueError: the text is none of these.
    """
    if text == "path":
        return lambda exchange: exchange.request.path
    if text == "client":
        return lambda exchange: exchange.clientAddress
    kind, _, name = text.partition(":")
    if not isToken(name) or kind not in ("field", "cookie"):
        raise ValueError(f"{text!r} is nothing to hash requests on: write {FORMS}")
    if kind == "field":
        return lambda exchange: exchange.request.headers.get(name)

    def cookie(exchange: Asking) -> str | None:
        lines = exchange.request.headers.getAll("Cookie")
        return next((value for key, value in cookiesOf(lines) if key == name), None)

    return cookie
