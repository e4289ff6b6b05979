"""
The header fields that a proxy adds or changes, except framing.

  - X-Forwarded-For, -Proto and -Host: address, scheme and Host of the client's request, and
    the claims of proxies before sitio; L{Forwarding}.
  - CDN-Loop: the mark by which sitio knows a request that comes back
    (L{sitio.http.marks}).
  - Via: the proxies that a message has passed (RFC 9110, section 7.6.3); L{addVia}.
  - Max-Forwards: the hops left for OPTIONS and TRACE (section 7.6.2);
    L{answerOfLastHop}.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from sitio.errors import LoopDetected
from sitio.http.claims import APPEND, CLAIM_FIELDS, FOR, PRESERVE
from sitio.http.head import MARKED
from sitio.http.headers import Headers
from sitio.http.lines import keyOf
from sitio.http.marks import hasMark
from sitio.http.message import Request, Response
from sitio.net.families import unmappedIP

if TYPE_CHECKING:
    from sitio.proxy.context import ProxyContext

#: Methods with which Max-Forwards counts hops (RFC 9110, section 7.6.2).
COUNTS_HOPS = frozenset(("OPTIONS", "TRACE"))

#: A larger Max-Forwards is reduced to this: Python refuses to parse thousands of digits.
MAX_FORWARDS = 999_999_999

#: Fields that a TRACE must not echo (RFC 9110, section 9.3.8).
_SECRET = ("authorization", "cookie", "proxy-authorization")


_FOR, _PROTO, _HOST = b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host"
_CLAIMS = frozenset(map(keyOf, CLAIM_FIELDS))

#: Who may claim something in the mode C{append}: this host, private networks (RFC 1918, RFC
#: 4193), the shared ones of RFC 6598, in which some clusters have their Pods, and links.
TRUSTED_NETWORKS = tuple(
    map(
        ip_network,
        [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ],
    )
)

_Fields = list[tuple[bytes, bytes]]


def isTrusted(address: str) -> bool:
    """
    Whether the claims of a peer pass in the mode C{append}: its address is in one of the
    L{TRUSTED_NETWORKS}, or it has none, as it uses a UNIX socket.

    On a C{haproxy:} port the address is that of the PROXY header: a balancer that sends one
    passes what its client sends, claims included.
    """
    try:
        host = unmappedIP(ip_address(address))
    except ValueError:
        return True
    return any(host in each for each in TRUSTED_NETWORKS)


class ClaimRule(NamedTuple):
    """
    What becomes of the claims of one peer.

    @ivar dropped: the keys (L{sitio.http.lines}) of fields that don't pass.
    @ivar appends: whether the peer's address is put behind a X-Forwarded-For that passes.
    """

    dropped: frozenset[bytes]
    appends: bool

    @classmethod
    def of(cls, mode: str, address: str) -> ClaimRule:
        """The rule of a mode (L{sitio.http.claims}) for the peer with this address."""
        if mode == PRESERVE:
            return cls(frozenset(), False)
        if mode == APPEND:
            return cls(frozenset() if isTrusted(address) else _CLAIMS - {keyOf(FOR)}, True)
        return cls(_CLAIMS, True)

    def apply(self, headers: Headers, own: _Fields) -> None:
        """
        Leave the claims that pass, and append the fields of sitio that are not among them.

        @param own: sitio's fields: X-Forwarded-For first, the others in any order.  One
            without a value is not appended.
        """
        dropped, appends = self
        for key in dropped.intersection(headers.lineKeys):
            headers.replace(key, b"")
        added = b""
        for name, value in own:
            key = keyOf(name.lower())
            claims = headers.valuesOf(key)
            # An empty claim says nothing.
            kept = [each for each in claims if each]
            if not kept:
                added += b"%b: %b\r\n" % (name, value) if value else b""
            elif name == _FOR:
                kept = [b", ".join([*kept, value] if appends else kept)]
            if kept != claims:
                headers.replace(key, b"".join([b"%b: %b\r\n" % (name, each) for each in kept]))
        headers.append(added)


class Forwarding:
    """
    The fields that sitio adds to the requests of one client connection.

    What the client itself claims passes or not by the mode in C{context.forwarded}:

      - C{append}: claims of trusted peers (L{isTrusted}) pass, of others only their
        X-Forwarded-For.  The peer's address is put behind that.
      - C{preserve}: all claims pass.
      - C{replace}: no claim passes.

    Then sitio adds those of its own three fields that have not passed.

    @ivar clientAddress: the client's address without its port.
    @ivar secure: whether the client uses TLS.
    """

    __slots__ = (
        "_marked",
        "_own",
        "_rule",
        "clientAddress",
        "context",
        "secure",
    )

    def __init__(self, context: ProxyContext, clientAddress: str, secure: bool) -> None:
        self.context = context
        self.clientAddress = clientAddress
        self.secure = secure
        self._own = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (
            clientAddress.encode("ascii", "replace"),
            b"https" if secure else b"http",
        )
        self._marked = self._own + context.markLine
        # Made for the first request with claims.
        self._rule: ClaimRule | None = None

    def linesFor(self, request: Request, host: bytes | None, amend: bool | str) -> bytes:
        """
        The lines to add to the head of a request.

        @param host: the request's Host; L{None} for an HTTP/1.0 request without a Host,
            which gets the configured one.  An empty Host is left alone: a second Host
            would be ambiguous.
        @param amend: whether to put the fields into C{request.headers} instead, and judge
            the claims there.  Needed if there are claims, or if request policies must see
            the fields and may change them.  L{MARKED}: a proxy has marked the request.

        @raise LoopDetected: the mark is sitio's own.
        """
        context = self.context
        lines = self._own if amend else self._marked
        if host:
            lines = b"%bX-Forwarded-Host: %b\r\n" % (lines, host)
        elif host is None:
            lines = b"%bHost: %b\r\n" % (lines, context.host)
        if amend:
            if amend is MARKED and hasMark(request, context.mark):
                raise LoopDetected
            headers = request.headers
            if _CLAIMS.isdisjoint(headers.lineKeys):
                headers.append(lines)
            else:
                self._amend(headers, host)
            lines = context.markLine
        if context.via is not None:
            lines += b"Via: %b %b\r\n" % (request.version.encode(), context.via)
        return lines

    def _amend(self, headers: Headers, host: bytes | None) -> None:
        rule = self._rule
        if rule is None:
            rule = self._rule = ClaimRule.of(self.context.forwarded, self.clientAddress)
        address = self.clientAddress.encode("ascii", "replace")
        scheme = b"https" if self.secure else b"http"
        rule.apply(headers, [(_FOR, address), (_PROTO, scheme), (_HOST, host or b"")])
        if host is None:
            headers.append(b"Host: %b\r\n" % self.context.host)


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
    lines += [f"{n}: {v}" for n, v in request.headers.allItems() if n.lower() not in _SECRET]
    text = "\r\n".join([*lines, "", ""])
    return Response(body=text.encode("latin-1"), headers={"Content-Type": "message/http"})
