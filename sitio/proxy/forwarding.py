"""
The header fields that a proxy adds or changes, except framing.

  - X-Forwarded-For, -Proto and -Host: address, scheme and Host of the client's request;
    L{Forwarding}.
  - Via: the proxies that a message has passed (RFC 9110, section 7.6.3); L{addVia}.
  - Max-Forwards: the hops left for OPTIONS and TRACE (section 7.6.2);
    L{answerOfLastHop}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sitio.http.message import Request, Response

if TYPE_CHECKING:
    from sitio.proxy.context import ProxyContext

#: Methods with which Max-Forwards counts hops (RFC 9110, section 7.6.2).
COUNTS_HOPS = frozenset(("OPTIONS", "TRACE"))

#: A larger Max-Forwards is reduced to this: Python refuses to parse thousands of digits.
MAX_FORWARDS = 999_999_999

#: Fields that a TRACE must not echo (RFC 9110, section 9.3.8).
_SECRET = ("authorization", "cookie", "proxy-authorization")


class Forwarding:
    """
    The fields that sitio adds to the requests of one client connection.

    @ivar clientAddress: the client's address without its port.
    @ivar secure: whether the client uses TLS.
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
        # The same lines with X-Forwarded-Host, cached for the last Host.
        self._withHost = b""
        self._withHostFor: bytes | None = None

    def linesFor(self, request: Request, host: bytes | None, amend: bool) -> bytes:
        """
        The lines to add to the head of a request.

        @param host: the request's Host; L{None} for an HTTP/1.0 request without a Host,
            which gets the configured one.  An empty Host is left alone: a second Host
            would be ambiguous.
        @param amend: whether to put the X-Forwarded fields into C{request.headers}
            instead, after the client's own values.  Needed if the client sent such
            fields, or if request policies must see them and may change them.
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
    Apply Max-Forwards (RFC 9110, section 7.6.2).

    @return: sitio's own answer if the field is zero.  Otherwise L{None}, and the field
        is reduced by one.
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
