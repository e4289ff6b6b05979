"""
Where a dashboard is: L{addressOf} reads what the operator says.

Contract: pure, and light: each process reads its options.
"""

from __future__ import annotations

import re
from base64 import b64encode
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from attrs import field, frozen

from sitio.http.grammar import isHostname, splitHost


@frozen
class Address:
    """
    Where a dashboard is.

    @ivar url: without a slash at its end, and without what follows.
    @ivar authorization: the value of that field, if there is to be one; not shown.
    """

    url: str
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.url


def addressOf(text: str) -> Address:
    """
    The address that an URL says; raises C{ValueError}, in words that don't repeat
    it, as it may hold a password.
    """
    wrong = ValueError("no address of a dashboard; http://dashboard:8080 could be one")
    if not re.fullmatch(r"[!-~]{1,2048}", text):
        raise wrong
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong from None
    host = parts.netloc.rpartition("@")[2]
    name = (splitHost(host) or ("", ""))[0]
    # A connection to any other name would fail each time.
    if parts.scheme not in ("http", "https") or not (isHostname(name) or name[:1] == "["):
        raise wrong
    if parts.query or parts.fragment or port == 0:
        raise wrong
    url = SplitResult(parts.scheme, host, parts.path.rstrip("/"), "", "").geturl()
    if parts.username is None:
        return Address(url)
    pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
    return Address(url, f"Basic {b64encode(pair).decode()}")
