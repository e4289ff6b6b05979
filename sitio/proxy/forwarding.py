"""
The header fields that a proxy adds or changes, except framing.

  - X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239), or all of them: address, scheme
    and Host of the client's request, and the claims of proxies before sitio; L{Forwarding}.
  - CDN-Loop: the mark by which sitio knows a request that comes back
    (L{sitio.http.marks}).
  - Via: the proxies that a message has passed (RFC 9110, section 7.6.3); L{addVia}.
  - Max-Forwards: the hops left for OPTIONS and TRACE (section 7.6.2);
    L{answerOfLastHop}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sitio.errors import LoopDetected
from sitio.http.claims import APPEND, CLAIM_FIELDS, FOR, FORWARDED, PRESERVE, X_FORWARDED
from sitio.http.forwarded import elementFor, withHost
from sitio.http.head import MARKED
from sitio.http.headers import Headers
from sitio.http.lines import keyOf
from sitio.http.marks import hasMark
from sitio.http.message import Request, Response

if TYPE_CHECKING:
    from sitio.proxy.context import ProxyContext
    from sitio.proxy.exchange import Exchange
    from sitio.proxy.trust import ForwardedSettings

#: Methods with which Max-Forwards counts hops (RFC 9110, section 7.6.2).
COUNTS_HOPS = frozenset(("OPTIONS", "TRACE"))

#: A larger Max-Forwards is reduced to this: Python refuses to parse thousands of digits.
MAX_FORWARDS = 999_999_999

#: Fields that a TRACE must not echo (RFC 9110, section 9.3.8).
_SECRET = ("authorization", "cookie", "proxy-authorization")


_FOR, _PROTO, _HOST = b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host"
_FORWARDED = b"Forwarded"
#: Those to which each proxy appends.
_LISTS = (_FOR, _FORWARDED)
_CLAIMS = frozenset(map(keyOf, CLAIM_FIELDS))

_Fields = list[tuple[bytes, bytes]]


class ClaimRule(NamedTuple):
    """
    What becomes of the claims of one peer.

    @ivar dropped: the keys (L{sitio.http.lines}) of fields that don't pass.
    @ivar appends: whether the peer is put behind a X-Forwarded-For, or Forwarded, that passes.
    """

    dropped: frozenset[bytes]
    appends: bool

    @classmethod
    def of(cls, settings: ForwardedSettings, address: str) -> ClaimRule:
        """The rule for the peer with this address."""
        if settings.mode == PRESERVE:
            return cls(frozenset(), False)
        if settings.mode != APPEND:
            return cls(_CLAIMS, True)
        if settings.believes(address):
            return cls(frozenset(), True)
        # With sitio's own address behind it, the last value is right, whoever wrote the others.
        passes = settings.trusted is None and settings.style != FORWARDED
        return cls(_CLAIMS - {keyOf(FOR)} if passes else _CLAIMS, True)

    def apply(self, headers: Headers, own: _Fields) -> None:
        """
        Leave the claims that pass, and append the fields of sitio that are not among them.

        @param own: sitio's fields, in order.  One without a value is not appended.
        """
        dropped, appends = self
        for key in dropped.intersection(headers.lineKeys()):
            headers.replace(key, b"")
        added = b""
        for name, value in own:
            key = keyOf(name.lower())
            claims = headers.valuesOf(key)
            # An empty claim says nothing.
            kept = [each for each in claims if each]
            if not kept:
                added += b"%b: %b\r\n" % (name, value) if value else b""
            elif name in _LISTS:
                kept = [b", ".join([*kept, value] if appends else kept)]
            if kept != claims:
                headers.replace(key, b"".join([b"%b: %b\r\n" % (name, each) for each in kept]))
        headers.append(added)


class Forwarding:
    """
    The fields that sitio adds to the requests of one client connection.

    What the client itself claims passes or not by the mode in C{context.forwarded}:

      - C{append}: claims of trusted peers pass, of others at most their X-Forwarded-For
        (L{ForwardedSettings<sitio.proxy.trust.ForwardedSettings>}).  The peer is put behind that,
        or behind their Forwarded.
      - C{preserve}: all claims pass.
      - C{replace}: no claim passes.

    Then sitio adds those of its own fields that have not passed.

    @ivar peerAddress: the address of the connection's other end, without its port.
    @ivar secure: whether the client uses TLS.
    @ivar settings: those of the connection.
    """

    __slots__ = (
        "_amended",
        "_element",
        "_hosted",
        "_marked",
        "_own",
        "_rule",
        "context",
        "peerAddress",
        "secure",
        "settings",
    )

    def __init__(self, context: ProxyContext, peerAddress: str, secure: bool) -> None:
        self.context = context
        self.peerAddress = peerAddress
        self.secure = secure
        self.settings = settings = context.forwarded
        # Made for the first request with claims.
        self._rule: ClaimRule | None = None
        self._element = told = b""
        own = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (
            peerAddress.encode("ascii", "replace"),
            b"https" if secure else b"http",
        )
        # The parts between which the Host stands.
        parts: tuple[bytes, ...] = (b"X-Forwarded-Host: ", b"\r\n")
        if settings.style != X_FORWARDED:
            self._element = element = elementFor(peerAddress, "https" if secure else "http")
            told = b"Forwarded: %b\r\n" % element
            begin, end = b'Forwarded: %b;host="' % element, b'"\r\n'
            if settings.style == FORWARDED:
                own, parts = b"", (begin, end)
            else:
                parts = (parts[0], parts[1] + begin, end)
        marked = own + context.markLine
        self._own, self._marked = own + told, marked + told
        self._amended = (own + parts[0], *parts[1:])
        self._hosted = (marked + parts[0], *parts[1:])

    def _xForwarded(self, host: bytes) -> _Fields:
        address = self.peerAddress.encode("ascii", "replace")
        return [(_FOR, address), (_PROTO, b"https" if self.secure else b"http"), (_HOST, host)]

    def linesFor(
        self,
        request: Request,
        host: bytes | None,
        amend: bool | str,
        via: bytes | None = None,
    ) -> bytes:
        """
        The lines to add to the head of a request.

        @param host: the request's Host; L{None} for an HTTP/1.0 request without a Host,
            which gets the configured one.  An empty Host is left alone: a second Host
            would be ambiguous.
        @param amend: whether to put the fields into C{request.headers} instead, and judge
            the claims there.  Needed if there are claims, or if request policies must see
            the fields and may change them.  L{MARKED}: a proxy has marked the request.
        @param via: the pseudonym for a Via field; L{None} adds none.

        @raise LoopDetected: the mark is sitio's own.
        """
        context = self.context
        if host:
            lines = host.join(self._amended if amend else self._hosted)
        else:
            lines = self._own if amend else self._marked
            if host is None:
                lines = b"%bHost: %b\r\n" % (lines, context.host)
        if amend:
            if amend is MARKED and hasMark(request, context.mark):
                raise LoopDetected
            headers = request.fields
            if _CLAIMS.isdisjoint(headers.lineKeys()):
                headers.append(lines)
            else:
                self._amend(headers, host)
            lines = context.markLine
        if via is not None:
            lines += b"Via: %b %b\r\n" % (request.version.encode(), via)
        return lines

    def _amend(self, headers: Headers, host: bytes | None) -> None:
        rule = self._rule
        if rule is None:
            rule = self._rule = ClaimRule.of(self.settings, self.peerAddress)
        style = self.settings.style
        own = [] if style == FORWARDED else self._xForwarded(host or b"")
        if style != X_FORWARDED:
            own.append((_FORWARDED, withHost(self._element, host or b"")))
        rule.apply(headers, own)
        if host is None:
            headers.append(b"Host: %b\r\n" % self.context.host)


def rewriteRequest(exchange: Exchange) -> None:
    """
    Give the upstream the path and the Host of the route in place of the client's.

    Policies, metrics and logs go on seeing the client's path.
    """
    route, request = exchange.route, exchange.request
    if route.rewrite is not None:
        request.line = request.line.sentAs(route.rewrite.apply(request.line.target))
    if route.host is not None:
        request.headers["Host"] = route.host


def addVia(response: Response, pseudonym: bytes) -> None:
    """Name this proxy in a response (RFC 9110, section 7.6.3)."""
    response.headers.add("Via", f"{response.version} {pseudonym.decode()}")


def answerOfLastHop(request: Request) -> Response | None:
    """
    Apply Max-Forwards (RFC 9110, section 7.6.2).

    @return: sitio's own answer if the field is zero.  Otherwise L{None}, and the field
        is reduced by one.  A TRACE gets its request as it was received: what policies have
        added to it may be a secret of the operator.
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
    lines = [f"TRACE {request.receivedLine.target} HTTP/{request.version}"]
    received = Headers.fromLines(request.received)
    lines += [f"{n}: {v}" for n, v in received.allItems() if n.lower() not in _SECRET]
    text = "\r\n".join([*lines, "", ""])
    return Response(body=text.encode("latin-1"), headers={"Content-Type": "message/http"})
