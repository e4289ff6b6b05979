"""
The address of a fleet dashboard: L{parseAddress} reads the URL of C{--fleet}.

Contract: pure, and light: each worker process reads its options.
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
    The address of a fleet dashboard.

    @ivar url: without user and password, and without a slash at its end.  Its path may be
        secret, as in the addresses of webhooks: it is not part of C{repr}.
    @ivar authorization: the value of the Authorization field, or L{None}.  It is not
        part of C{repr}.
    @ivar shown: scheme, host and port, for logs and pages.
    """

    url: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)
    shown: str = field(init=False)

    @shown.default
    def _withoutPath(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def __str__(self) -> str:
        return self.shown


def parseAddress(text: str) -> Address:
    """
    Read a URL.  A user and a password in it become the Authorization field (RFC 7617).

    @raise ValueError: this is not a usable HTTP URL.  The message does not repeat it, as
        it may contain a password.
    """
    wrong = ValueError("not the URL of a fleet dashboard; use for example http://dashboard:8080")
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
