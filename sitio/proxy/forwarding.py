"""
What a proxy adds to a message or takes from it on the way, beside framing.

  - X-Forwarded-For, -Proto and -Host say who asked, and how: L{Forwarding}.
  - Via names the proxies that a message has passed (RFC 9110, section 7.6.3).
  - Max-Forwards counts down the hops of OPTIONS and TRACE (section 7.6.2):
    L{answerOfLastHop}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sitio.http.message import Request, Response

if TYPE_CHECKING:
    from sitio.proxy.context import ProxyContext

#: Methods with which Max-Forwards counts hops (RFC 9110, section 7.6.2).
COUNTS_HOPS = frozenset(("OPTIONS", "TRACE"))

#: A larger Max-Forwards is reduced to this; Python refuses to read thousands of digits.
MAX_FORWARDS = 999_999_999

#: Fields that a TRACE must not echo (RFC 9110, section 9.3.8).
_SECRET = ("authorization", "cookie", "proxy-authorization")


class Forwarding:
    """
    The fields that sitio adds to the requests of one client connection.

    @ivar clientAddress: the client's address without its port.
    @ivar secure: whether the client came by TLS.
    """

    __slots__ = ("_ours", "_withHost", "_withHostFor", "clientAddress", "context", "secure")

    def __init__(self, context: ProxyContext, clientAddress: str, secure: bool) -> None:
        self.context = context
        self.clientAddress = clientAddress
        self.secure = secure
        self._ours = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (
            clientAddress.encode("ascii", "replace"),
            b"https" if secure else b"http",
        )
        # The same with the Host that was asked for last.
        self._withHost = b""
        self._withHostFor: bytes | None = None

    def linesFor(self, request: Request, host: bytes | None, amend: bool) -> bytes:
        """
        The lines to add to the head of a request.

        @param host: the request's Host; L{None} where HTTP/1.0 came without, and the
            configured one is added.  An empty Host counts as one: a second beside it
            would be ambiguous.
        @param amend: put the X-Forwarded fields into C{request.headers} instead, behind
            what the client claims there.  Done where the client sent such fields, and
            where request policies are to see them and have the last word.
        """
        context = self.context
        lines = b""
        if amend:
            self._amend(request, host)
        elif host is None:
            lines = self._ours + b"Host: %b\r\n" % context.host
        elif not host:
            lines = self._ours
        else:
            if host is not self._withHostFor:
                self._withHostFor = host
                self._withHost = self._ours + b"X-Forwarded-Host: %b\r\n" % host
            lines = self._withHost
        if context.via is not None:
            lines += b"Via: %b %b\r\n" % (request.version.encode(), context.via)
        return lines

    def _amend(self, request: Request, host: bytes | None) -> None:
        headers = request.headers
        if host is None:
            host = b""
            headers["Host"] = self.context.host.decode("ascii")
        for name, value in (
            ("X-Forwarded-For", self.clientAddress),
            ("X-Forwarded-Proto", "https" if self.secure else "http"),
            ("X-Forwarded-Host", host.decode("ascii")),
        ):
            claimed = headers.get(name)
            if value:
                headers[name] = f"{claimed}, {value}" if claimed else value


def addVia(response: Response, pseudonym: bytes) -> None:
    """Name this proxy in a response (RFC 9110, section 7.6.3)."""
    response.headers.add("Via", f"{response.version} {pseudonym.decode()}")


def answerOfLastHop(request: Request) -> Response | None:
    """
    Max-Forwards (RFC 9110, section 7.6.2): sitio's own answer where the request may
    go no further; otherwise L{None}, and the field is one less.
    """
    value = request.headers.get("Max-Forwards")
    if value is None or not value.isdecimal():
        return None
    digits = value.lstrip("0")
    if digits:
        left = int(digits) - 1 if len(digits) < 10 else MAX_FORWARDS
        request.headers["Max-Forwards"] = str(left)
        return None
    if request.method == "OPTIONS":
        return Response(204, headers={"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"})
    lines = [f"TRACE {request.target} HTTP/{request.version}"]
    lines += [f"{n}: {v}" for n, v in request.headers if n.lower() not in _SECRET]
    text = "\r\n".join([*lines, "", ""])
    return Response(body=text.encode("latin-1"), headers={"Content-Type": "message/http"})
